"""Rules as data: the shipped ones are complete and sourced; a hospital's folder adds, replaces, removes and errs."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from careloop import InputError
from careloop.plan.safety import read_rules
from careloop.plan.safety.rules import SHIPPED_FOLDER

HEADER = [
    "id",
    "severity",
    "drugs",
    "conditions",
    "measure",
    "below",
    "text",
    "remedy",
    "document",
    "licence",
    "checked",
]
GOOD = {
    "id": "own-rule", "severity": "block", "drugs": "warfarin", "conditions": "cirrhosis", "text": "No.",
    "remedy": "None.", "document": "House rules", "licence": "own", "checked": "by us",
}  # fmt: skip


def folder(path: Path, *rows: dict[str, str], name: str = "house.csv", header: list[str] | None = None) -> Path:
    path.mkdir(exist_ok=True)
    (path / "VERSION").write_text("house 1\n")
    with (path / name).open("w", newline="") as text:
        writer = csv.DictWriter(text, header or HEADER)
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_shipped_rules_are_many_and_sourced() -> None:
    book = read_rules()
    assert len(book.rules) >= 150
    assert sum(book.covers(drug) for drug in book.formulary.drugs) >= 120
    assert {rule.kind for rule in book.rules} == {
        "age", "allergy", "condition", "dose", "duplicate", "interaction", "laboratory", "pregnancy",
    }  # fmt: skip
    for rule in book.rules:
        assert rule.citation
        assert rule.date >= "2026"
        assert "public domain" in rule.licence
        assert "found in the label" in rule.checked or "known text" in rule.checked


def test_shipped_names_are_unambiguous() -> None:
    """No synonym belongs to two ingredients, or to an ingredient and a class."""
    formulary = read_rules().formulary
    items = [*formulary.drugs.values(), *formulary.classes.values()]
    words = [word.lower() for item in items for word in (item.name, *item.synonyms)]
    assert sorted(word for word in set(words) if words.count(word) > 1) == []
    codes = [code for item in items for code in item.codes]
    assert len(codes) == len(set(codes))


def test_every_class_has_a_member_or_is_a_substance() -> None:
    formulary = read_rules().formulary
    members = {name for drug in formulary.drugs.values() for name in drug.classes}
    assert {
        name for name, each in formulary.classes.items() if name not in members and each.kind != "substance"
    } == set()


def test_a_folder_adds_replaces_and_removes(tmp_path: Path) -> None:
    other = {
        **GOOD,
        "id": "metformin-egfr-30",
        "conditions": "",
        "drugs": "metformin",
        "measure": "egfr",
        "below": "25",
    }
    own = folder(tmp_path / "own", GOOD, other, {"id": "metformin-egfr-45", "severity": "off"})
    book, shipped = read_rules((None, own)), read_rules()
    by_id = {rule.id: rule for rule in book.rules}
    assert by_id["own-rule"].kind == "house"
    assert by_id["metformin-egfr-30"].below == 25
    assert "metformin-egfr-45" not in by_id
    assert len(book.rules) == len(shipped.rules)
    assert book.version == f"{shipped.version} + house 1"


def test_a_folder_may_replace_everything(tmp_path: Path) -> None:
    own = folder(tmp_path / "own", GOOD)
    (own / "drugs.csv").write_text("ingredient,rxnorm,atc,synonyms,classes\nwarfarin,11289,,coumadin,\n")
    (own / "diagnoses.csv").write_text("condition,codes\ncirrhosis,ICD10//K74\n")
    book = read_rules((own,))
    assert [rule.id for rule in book.rules] == ["own-rule"]
    assert book.formulary.recognise("RXNORM//11289") == ("warfarin",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"severity": "fatal"}, r"house.csv, line 2: severity: .*'fatal'"),
        ({"drugs": "warfarine"}, r"line 2: drugs: 'warfarine' is not known; did you mean warfarin\?"),
        ({"conditions": "cirrosis"}, r"line 2: conditions: 'cirrosis' is not known; did you mean cirrhosis\?"),
        ({"text": ""}, r"line 2: .*text is missing"),
        ({"measure": "egfr"}, r"line 2: .*a measure needs below or at_or_above"),
        ({"measure": "gfr", "below": "30"}, r"line 2: measure: .*'gfr'"),
        ({"measure": "egfr", "below": "thirty"}, r"line 2: below: .*'thirty'"),
        ({"conditions": ""}, r"line 2: .*no condition"),
        ({"id": "Own Rule"}, r"line 2: id: .*'Own Rule'"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(tmp_path: Path, change: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_rules((None, folder(tmp_path / "own", {**GOOD, **change})))


def test_other_mistakes_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 3: id own-rule is given twice, also at .*line 2"):
        read_rules((None, folder(tmp_path / "own", GOOD, GOOD)))
    header = [*HEADER, "belov"]
    with pytest.raises(InputError, match=r"line 2: no such column belov; did you mean below\?"):
        read_rules((None, folder(tmp_path / "own", {**GOOD, "belov": "1"}, header=header)))
    with pytest.raises(InputError, match=r"no such folder of rules"):
        read_rules((tmp_path / "nowhere",))
    (folder(tmp_path / "own", GOOD) / "VERSION").unlink()
    with pytest.raises(InputError, match=r"VERSION: missing"):
        read_rules((None, tmp_path / "own"))
    (folder(tmp_path / "own", GOOD) / "house.csv").write_text("id,severity\na,b,c\n")
    with pytest.raises(InputError, match=r"line 2: must have the 2 columns"):
        read_rules((None, tmp_path / "own"))


def test_files_of_pharmacogenomics_are_left_alone(tmp_path: Path) -> None:
    own = folder(tmp_path / "own", GOOD)
    (own / "pgx_rules.csv").write_text("anything\nat all\n")
    assert any(rule.id == "own-rule" for rule in read_rules((None, own)).rules)
    assert SHIPPED_FOLDER.is_dir()
