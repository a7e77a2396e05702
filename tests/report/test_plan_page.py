"""The plan page in both languages: all that must stand on it, nothing that may not, and one sheet where it fits."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.evaluate import Estimate
from careloop.plan.document.benefit import benefit
from careloop.plan.document.patient_plan import PatientPlan, PlanGoal, Reason, ReasonKind, Status
from careloop.report.plan_page import plan_page, write_plan_page, write_plan_pdf
from careloop.report.plan_sentences import Sentences
from careloop.report.plan_words import LANGUAGES, Language, plan_words


def _module(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


plans = _module(Path(__file__).parents[1] / "sample_plans.py")
CASES: dict[str, Callable[[], PatientPlan]] = {
    "usual": plans.usual, "abstaining": plans.abstaining, "crowded": plans.crowded, "hostile": plans.hostile,
}  # fmt: skip
every_language = pytest.mark.parametrize("language", LANGUAGES)
every_plan = pytest.mark.parametrize("make", CASES.values(), ids=CASES)
VOID = {"meta", "br", "hr", "img", "input", "link", "col", "path"}
LOADING = {"src", "href", "srcset", "data", "poster", "action", "background"}


class Page(HTMLParser):
    """Texts, tags and attributes; refuses tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def page(plan: PatientPlan, language: Language = "en") -> Page:
    return Page(plan_page(plan, language=language))


def test_languages_have_the_same_texts_with_the_same_words_to_fill_in() -> None:
    def leaves(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], set[str]]]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from leaves(inner, (*place, key))
        else:
            assert isinstance(value, str), place
            yield place, set(re.findall(r"{(\w+)}", value))

    english, chinese = (dict(leaves(dict(plan_words(language)))) for language in LANGUAGES)
    assert english == chinese


@every_language
def test_every_reason_and_status_has_words(language: Language) -> None:
    say = Sentences(language)
    for kind in get_args(ReasonKind):
        assert say.reason(Reason(kind, ("A", "B"), "found"))
    assert set(say.words["reasons"]) == set(get_args(ReasonKind))
    assert set(say.words["status_words"]) == set(get_args(Status))


@every_language
@every_plan
def test_a_page_loads_nothing_runs_nothing_and_says_what_it_is(
    make: Callable[[], PatientPlan], language: Language
) -> None:
    found = page(make(), language)
    assert not {"script", "link", "iframe", "img", "object"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name in LOADING or name.startswith("on")]
    assert ("lang", "en" if language == "en" else "zh-CN") in found.attributes
    said = "Not for clinical use" if language == "en" else "仅供研究，不得用于临床"
    assert said in found.text


@every_language
def test_who_when_and_from_what(language: Language) -> None:
    text = page(plans.usual(), language).text
    for part in ("42", "2024-03-01 08:30 UTC", "actg175", "lightgbm", "3f9a1c20b7de", "17", "careloop"):
        assert part in text
    assert "24.1" in text
    assert ("18.7 % to 30.9 %" if language == "en" else "18.7%～30.9%") in text


def test_options_stand_with_expected_risk_interval_status_and_why() -> None:
    text = page(plans.usual()).text
    assert "Proposed for discussion: zidovudine+didanosine" in text
    assert "15.2 % (9.7 to 21.2) −9.2 (−12.2 to −6.2) proposed Best option on average" in text
    assert "24.1 % (18.6 to 30.1) reference possible Did worse than zidovudine+didanosine" in text
    assert "possible, with caution Safety caution: didanosine; cannot be told from" in text


def test_benefit_and_icons_are_of_the_proposed_option() -> None:
    text = page(plans.usual()).text
    assert "With zidovudine: 24 of 100." in text
    assert "With zidovudine+didanosine: 15 of 100." in text
    assert "8.9 percentage points" in text
    assert "Number needed to treat: 12" in text


def test_an_abstaining_plan_says_so_first_and_asks() -> None:
    found = page(plans.abstaining())
    text = found.text
    assert text.index("No option is recommended") < text.index("Risk as things are") < text.index("Options")
    assert "The model gives no risk for this patient: CD4 cell count" in text
    assert "24.1 %" not in text.split("Options")[0]
    assert "To be asked before a decision Measure creatinine. (zidovudine+zalcitabine)" in text
    assert "Proposed" not in text
    assert "19.0" not in text  # what the model says of another value is not shown where it does not know the patient


def test_an_abstaining_plan_in_chinese() -> None:
    text = page(plans.abstaining(), "zh").text
    assert text.index("不推荐任何方案") < text.index("当前风险")
    assert "决策前须核实" in text
    assert "禁用" in text
    assert "待核实" in text


@every_language
def test_every_finding_and_its_source_stands_the_gravest_first(language: Language) -> None:
    plan = plans.crowded()
    found = page(plan, language)
    classes = [value for name, value in found.attributes if name == "class"]
    order = [value for value in classes if value in ("block", "ask", "caution", "info")]
    assert order == ["block", "ask", "ask", *["caution"] * 4, *["info"] * 3]
    assert found.text.count("US FDA label of didanosine") == 10


@every_language
def test_unasked_safety_rules_are_not_a_clean_bill(language: Language) -> None:
    clean = replace(plans.usual(), findings=())
    assert plan_words(language)["no_findings"] in page(clean, language).text
    unasked = page(replace(clean, is_checked=False), language).text
    assert plan_words(language)["no_findings"] not in unasked
    assert plan_words(language)["not_checked"] in unasked


@every_language
def test_lifestyle_stands_with_the_caveat_and_what_is_not_known(language: Language) -> None:
    text = page(plans.usual(), language).text
    assert ("not what changing it would do" if language == "en" else "并非改变该数值所能带来的效果") in text
    assert ("stop smoking smoking yes no 19.0" if language == "en" else "戒烟 吸烟 是 否 19.0") in text
    assert "162 mmHg 139 mmHg" in text
    assert ("worth asking: alcohol" if language == "en" else "建议询问：饮酒") in text


@every_language
def test_there_is_a_place_for_the_clinicians_decision(language: Language) -> None:
    text = page(plans.usual(), language).text
    for part in ("accept", "change", "reject", "reason", "signature", "date"):
        assert plan_words(language)[part] in text


def test_hostile_texts_stay_texts() -> None:
    text = plan_page(plans.hostile())
    assert "<script" not in text
    assert plans.HOSTILE.split("&")[0] in Page(text).text
    assert "&lt;script&gt;" in text


@settings(max_examples=40)
@given(st.text(max_size=60))
def test_any_text_can_be_a_name(name: str) -> None:
    plan = plans.usual()
    wild = replace(plan, study=name, prediction=replace(plan.prediction, target=name, patient_key=name))
    found = page(wild)
    assert "script" not in found.tags
    assert found.tags.count("table") == 4


def test_a_measure_has_no_risk_and_no_icons() -> None:
    plan = replace(plans.usual(), goal=PlanGoal("cd4", "measure", "higher"))
    found = page(plan)
    assert "Expected cd4" in found.text
    assert "figure" not in found.tags


@every_language
def test_a_plan_of_a_study_without_treatments(language: Language) -> None:
    bare = replace(
        plans.usual(),
        goal=None,
        reference=None,
        options=(),
        findings=(),
        recommended=None,
        reasons=(Reason("no_plan"),),
    )
    found = page(bare, language)
    assert "figure" not in found.tags
    assert found.tags.count("table") == 2


@pytest.mark.parametrize(
    ("before", "after", "english", "chinese"),
    [
        ((0.3, 0.28, 0.32), (0.2, 0.18, 0.22), "Number needed to treat: 10.", "需治疗人数（NNT）：10，"),
        ((0.2, 0.18, 0.22), (0.3, 0.28, 0.32), "Number needed to harm: 10.", "致1例伤害需治疗人数（NNH）：10，"),
        ((0.3, 0.2, 0.4), (0.2, 0.1, 0.3), "through no effect, to one more event in 25", "经无效应，至每25人多发生1例"),
        ((0.2, 0.1, 0.3), (0.2, 0.1, 0.3), "No difference", "两者无差异"),
    ],
)
def test_number_needed_in_words(
    before: tuple[float, ...], after: tuple[float, ...], english: str, chinese: str
) -> None:
    found = benefit(Estimate(*before), Estimate(*after))
    for language, expected in (("en", english), ("zh", chinese)):
        said = " ".join(Sentences(language).benefit(plans.usual(), "zidovudine+didanosine", found))  # type: ignore[arg-type]
        assert expected in said


def test_limits_of_a_number_needed_stand_from_few_to_many() -> None:
    better = benefit(Estimate(0.3, 0.28, 0.32), Estimate(0.2, 0.18, 0.22))
    worse = benefit(Estimate(0.2, 0.18, 0.22), Estimate(0.3, 0.28, 0.32))
    for found in (better, worse):
        said = " ".join(Sentences("en").benefit(plans.usual(), "drug", found))
        assert "(95\u00a0% interval 8 to 14)" in said


def test_horizons_are_said_in_years_where_they_are_years() -> None:
    english, chinese = Sentences("en"), Sentences("zh")
    said = [english.horizon(days) for days in (1, 90, 365, 365.25, 730, 1826, 400)]
    assert said == ["1 day", "90 days", "1 year", "1 year", "2 years", "5 years", "400 days"]
    assert [chinese.horizon(days) for days in (30, 3652)] == ["30天", "10年"]


def test_another_language_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one of en, zh, got 'fr'"):
        write_plan_page(plans.usual(), tmp_path / "plan.html", language="fr")  # type: ignore[arg-type]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium to print with")
@every_language
def test_a_usual_plan_fits_one_sheet_and_a_crowded_one_goes_on(tmp_path: Path, language: Language) -> None:
    for name, sheets in (("usual", 1), ("abstaining", 1), ("crowded", 2)):
        write_plan_page(CASES[name](), tmp_path / "plan.html", language=language)
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
        target = tmp_path / f"{name}.pdf"
        subprocess.run(
            [*command, f"--print-to-pdf={target}", str(tmp_path / "plan.html")],
            check=True,
            capture_output=True,
            timeout=120,
        )
        assert len(re.findall(rb"/Type\s*/Page\b", target.read_bytes())) == sheets


@every_language
def test_pdf_where_weasyprint_is_installed(tmp_path: Path, language: Language) -> None:
    pytest.importorskip("weasyprint", exc_type=ImportError)
    write_plan_pdf(plans.usual(), tmp_path / "plan.pdf", language=language)
    assert (tmp_path / "plan.pdf").read_bytes().startswith(b"%PDF")


def test_pdf_without_weasyprint_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "weasyprint", None)
    with pytest.raises(InputError, match=r"careloop\[pdf\]"):
        write_plan_pdf(plans.usual(), tmp_path / "plan.pdf")
