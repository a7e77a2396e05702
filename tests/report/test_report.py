"""The report is one page that loads nothing, says what the run found, and stands missing figures and odd texts."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from careloop.report import write_report

VOID = {"meta", "br", "hr", "img", "input", "link", "col", "wbr"}
LOADING = {"src", "href", "xlink:href", "srcset", "data", "poster", "action", "background"}
HOSTILE = "</p><script>alert('$x$')</script>"
NOT_ESTIMABLE = {"value": None, "low": None, "high": None, "reason": "too few <events> in this part"}


class Page(HTMLParser):
    """Texts, attributes and tags of a page; refuses tags that do not nest."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        """All that is shown, with single spaces."""
        return " ".join(" ".join(self.texts).split())


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Page]:
    """The report of a copy of a run folder whose files were changed: `file name=function of its content`."""

    def report(run: Path, changes: dict[str, Callable[[Any], Any]]) -> Page:
        shutil.copytree(run, tmp_path / "run")
        for name, change in changes.items():
            file = tmp_path / "run" / name
            read, write = (yaml.safe_load, yaml.safe_dump) if file.suffix == ".yaml" else (json.loads, json.dumps)
            content = read(file.read_text(encoding="utf-8"))
            file.write_text(write(change(content) or content), encoding="utf-8")
        write_report(tmp_path / "run", tmp_path / "report.html")
        return Page(tmp_path / "report.html")

    return report


def content(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text(encoding="utf-8"))


def estimates(tree: Any) -> Iterator[dict[str, Any]]:
    """Every {"value", "low", "high", ...} of a single number in the tree."""
    if isinstance(tree, dict):
        if {"value", "low", "high"} <= tree.keys() and not isinstance(tree["value"], list):
            yield tree
        for part in tree.values():
            yield from estimates(part)
    elif isinstance(tree, list):
        for part in tree:
            yield from estimates(part)


# --- what is on the page


@pytest.mark.parametrize("which", ["actg175", "simulated"])
def test_page_is_whole_and_loads_nothing(request: pytest.FixtureRequest, which: str) -> None:
    file = request.getfixturevalue(which).run / "report.html"
    page = Page(file)
    assert page.tags.count("svg") > 5
    assert not {"script", "link", "iframe", "object", "embed", "img", "image"} & set(page.tags)
    loaded = [value or "" for name, value in page.attributes if name in LOADING]
    assert loaded
    assert all(value.startswith("#") for value in loaded)
    targets = {value for name, value in page.attributes if name == "id"}
    assert {value[1:] for value in loaded} <= targets
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    text = file.read_text(encoding="utf-8")
    assert "@import" not in text
    assert not re.findall(r"url\((?!#)[^)]*\)", text)


def test_label_sets_are_there_for_every_model_and_subgroup(actg175: Any) -> None:
    page, evaluation = Page(actg175.run / "report.html"), content(actg175.run, "evaluation.json")
    assert "How often does the set contain the truth?" in page.text
    assert "hold the truth for 90 % of patients" in page.text
    parts = [(name, model["conformal"]["figures"]) for name, model in evaluation["models"].items()]
    primary = evaluation["models"]["logistic_regression"]["conformal"]["subgroups"]
    parts += [(f"{part['variable']} {part['group']}", part["figures"]) for part in primary]
    for name, figures in parts:
        assert name in page.text
        held = figures["coverage"]
        limits = "" if held["low"] is None else f" {held['low']:.3f} to {held['high']:.3f}"
        assert f"{held['value']:.3f}{limits}" in page.text


def test_a_run_without_label_sets_has_no_such_section(edited: Callable[..., Page], simulated: Any) -> None:
    def without(found: Any) -> None:
        for model in found["models"].values():
            model["conformal"] = None

    page = edited(simulated.run, {"evaluation.json": without})
    assert "How often does the set contain the truth?" not in page.text


def test_every_model_and_its_figures_are_there(actg175: Any) -> None:
    page, evaluation = Page(actg175.run / "report.html"), content(actg175.run, "evaluation.json")
    for name, model in evaluation["models"].items():
        assert name in page.text
        for figure in ("auroc", "auprc", "brier"):
            estimate = model["figures"][figure]
            assert f"{estimate['value']:.3f} {estimate['low']:.3f} to {estimate['high']:.3f}" in page.text
    pairs = [(c["first"], c["second"]) for c in evaluation["comparisons"]]
    assert len(pairs) == 3
    assert all(f"{first} - {second}" in page.text for first, second in pairs)
    harrell = evaluation["models"]["cox"]["survival"]["harrell_c"]
    assert f"{harrell['value']:.3f} {harrell['low']:.3f} to {harrell['high']:.3f}" in page.text


def test_flow_verdict_plan_and_patients_are_there(actg175: Any) -> None:
    page = Page(actg175.run / "report.html")
    chain = [step for step in content(actg175.run, "flow.json") if step["kind"] == "chain"]
    assert (chain[0]["kept"], chain[-1]["kept"]) == (2139, 2113)
    for step in chain:
        assert f"{step['name']}: {step['kept']:,}" in page.text
        assert not step["dropped"] or f"{step['dropped']:,} {step['reason']}" in page.text
    for sentence in (*content(actg175.run, "outcome.json")["words"], *content(actg175.run, "effects.json")["words"]):
        assert " ".join(sentence.split()) in page.text
    for patient in content(actg175.run, "patients.json"):
        assert patient["name"] in page.text
        assert patient["later"] in page.text
        assert f"{patient['probability']:.0%}".replace("%", " %") in page.text


def test_every_prediction_says_not_for_clinical_use_with_model_and_version(actg175: Any) -> None:
    page = Page(actg175.run / "report.html")
    assert page.text.lower().count("not for clinical use") >= 5  # top, foot, and each patient
    for patient in content(actg175.run, "patients.json"):
        assert f"({patient['model']} {patient['model_version']}, not for clinical use)" in page.text


def test_checklist_is_complete_and_filled_from_the_run(actg175: Any) -> None:
    page = Page(actg175.run / "report.html")
    # TRIPOD+AI has 27 items (Collins et al. 2024), with letters 52 rows.
    filled, total = map(int, re.search(r"(\d+) of (\d+) items filled from this run", page.text).groups())
    assert total == 52
    assert 25 <= filled < total
    rows = content(actg175.run, "evaluation.json")["outcome"]["rows"]
    assert f"{rows['events']} events among {rows['n']} held-out rows" in page.text
    assert "2139 subjects in the record, 2113 in the study" in page.text
    assert "For the authors to write." in page.text


def test_a_study_without_treatment_has_no_plan_on_its_page(simulated: Any) -> None:
    page = Page(simulated.run / "report.html")
    assert not {"plan.parquet", "effects.json"} & {file.name for file in simulated.run.iterdir()}
    assert ("id", "plan") not in page.attributes
    assert "Treatments are not modelled." in page.text
    assert "plan.parquet" not in page.text


def test_same_files_give_the_same_page(actg175: Any, tmp_path: Path) -> None:
    write_report(actg175.run, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == (actg175.run / "report.html").read_bytes()


# --- missing figures and odd texts


def test_figures_without_an_interval_do_not_break_the_page(actg175: Any, edited: Callable[..., Page]) -> None:
    def no_interval(tree: Any) -> None:
        for estimate in estimates(tree):
            estimate.update(low=None, high=None)

    page = edited(actg175.run, {"evaluation.json": no_interval, "effects.json": no_interval})
    auroc = content(actg175.run, "evaluation.json")["models"]["cox"]["figures"]["auroc"]["value"]
    assert f"{auroc:.3f}" in page.text


def test_figures_that_cannot_be_given_say_why(actg175: Any, edited: Callable[..., Page]) -> None:
    def no_value(tree: Any) -> None:
        prevalence = tree["outcome"]["prevalence"].copy()  # known wherever there is an evaluation at all
        for estimate in estimates(tree):
            estimate.update(NOT_ESTIMABLE)
        tree["outcome"]["prevalence"] = prevalence

    def no_effect(tree: Any) -> None:
        for goal in tree["goals"]:
            for estimate in estimates(goal):
                estimate.update(NOT_ESTIMABLE)
            for contrast in goal["contrasts"]:
                contrast.update(e_value=None, e_value_limit=None)

    def no_option(patients: Any) -> None:
        for patient in patients:
            for option in patient["options"]:
                option.update(expected=None, low=None, high=None, rank=None)

    changes = {"evaluation.json": no_value, "effects.json": no_effect, "patients.json": no_option}
    page = edited(actg175.run, changes)
    assert page.text.count("not estimable") > 50
    assert ("title", NOT_ESTIMABLE["reason"]) in page.attributes


def test_curves_with_gaps_do_not_break_the_page(actg175: Any, edited: Callable[..., Page]) -> None:
    def gaps(tree: Any) -> None:
        if isinstance(tree, list):
            for part in tree:
                gaps(part)
        elif isinstance(tree, dict):
            if isinstance(tree.get("value"), list):
                for side in ("value", "low", "high"):
                    tree[side] = [None if place % 3 == 0 else number for place, number in enumerate(tree[side])]
            for part in tree.values():
                gaps(part)

    assert edited(actg175.run, {"evaluation.json": gaps}).tags.count("svg") > 5


def test_abstention_is_shown_with_its_reason(actg175: Any, edited: Callable[..., Page]) -> None:
    def abstain(patients: Any) -> None:
        patients[0].update(abstained=True, abstained_reason="age is 140 years; training patients had 18 to 70")

    page = edited(actg175.run, {"patients.json": abstain})
    assert "No prediction should be used: age is 140 years; training patients had 18 to 70" in page.text


def test_texts_of_the_study_and_the_record_are_shown_as_text(actg175: Any, edited: Callable[..., Page]) -> None:
    def study(tree: Any) -> None:
        tree["description"] = HOSTILE

    def flow(steps: Any) -> None:
        steps[0]["name"] = steps[1]["reason"] = HOSTILE

    def recipe(tree: Any) -> None:
        tree["columns"][0]["description"] = HOSTILE
        tree["columns"][1]["unit"] = HOSTILE
        tree["notes"] = [HOSTILE]

    def patients(found: Any) -> None:
        found[0].update(name=HOSTILE, abstained=True, abstained_reason=HOSTILE)
        found[0]["factors"][0]["label"] = HOSTILE

    def words(tree: Any) -> None:
        tree["words"].append(HOSTILE)

    changes = {"study.yaml": study, "flow.json": flow, "recipe.json": recipe, "patients.json": patients}
    page = edited(actg175.run, {**changes, "outcome.json": words, "effects.json": words})
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) >= 6


def test_dollar_signs_are_no_formulas(actg175: Any, edited: Callable[..., Page]) -> None:
    def dollars(patients: Any) -> None:
        patients[0]["factors"][0]["label"] = r"cost $\frac{$ of care"

    assert r"cost $\frac{$ of care" in edited(actg175.run, {"patients.json": dollars}).text


def test_gaps_between_groups_are_told_and_shown(simulated: Any, edited: Callable[..., Page]) -> None:
    found = content(simulated.run, "evaluation.json")["models"]["logistic_regression"]["fairness"]
    assert {(gap["variable"], gap["group"]) for gap in found["gaps"]} == {
        ("SEX", "female"),
        ("age_years", "50 and above"),
    }

    def flag(evaluation: Any) -> None:
        gaps = evaluation["models"]["logistic_regression"]["fairness"]["gaps"]
        gaps[1] |= {"flagged": True, "words": HOSTILE}
        gaps[1]["difference"] = {"value": -0.1, "low": -0.15, "high": -0.05, "reason": None}
        gaps[2]["difference"] = NOT_ESTIMABLE

    page = edited(simulated.run, {"evaluation.json": flag})
    assert "Are some patients served worse?" in page.text
    assert all(" ".join(sentence.split()) in page.text for sentence in (*found["words"], *found["too_few"]))
    assert found["rule"] in page.text
    assert page.attributes.count(("class", "flagged")) == 1
    assert "script" not in page.tags


def test_a_study_without_subgroups_or_insight_has_no_such_sections(simulated: Any, edited: Callable[..., Page]) -> None:
    def bare(evaluation: Any) -> None:
        evaluation["models"]["logistic_regression"]["fairness"] = None

    def older(patients: Any) -> Any:
        return [{k: v for k, v in patient.items() if k not in ("what_if", "similar")} for patient in patients]

    page = edited(simulated.run, {"evaluation.json": bare, "patients.json": older})
    assert "served worse" not in page.text
    assert "What if?" not in page.text


def test_each_patient_is_shown_with_what_if_and_similar_patients(simulated: Any) -> None:
    page = Page(simulated.run / "report.html")
    for patient in content(simulated.run, "patients.json"):
        for sentence in (*patient["what_if"]["sentences"], *patient["similar"]["sentences"]):
            assert sentence in page.text
        assert patient["what_if"]["origin"] in page.text
