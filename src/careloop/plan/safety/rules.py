"""Rules as data: CSV folders with drugs, conditions and rules, each with its citation, that a hospital may replace.

A folder holds `VERSION` (one line), `drugs.csv`, `classes.csv`, `diagnoses.csv` and any number of other CSV files, one
for each family of rules, named as findings name it (`allergy.csv`, `interaction.csv`). Several entries of a cell stand
apart by semicolons. Files named `pgx_*` are not read here.

How severe a rule is follows its source: what a label's Contraindications (or a boxed warning) forbid is `block`; what
it advises against, or calls for a lower dose or closer watch of, is `caution`; `ask` is a rule that needs a fact no
record codes; `info` is shown only. A later folder replaces rules of the same id, and removes one by the severity `off`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from careloop import InputError
from careloop.plan.safety.patient.medicines import Drug, DrugClass, Formulary

SHIPPED_FOLDER = Path(__file__).parent / "tables"
VOCABULARY = ("drugs", "classes", "diagnoses")  # files of a folder that are no rules
OTHERS = "pgx_"  # files of a folder that pharmacogenomics reads
ANY, SAME = "*", "="
Measure = Literal[
    "egfr", "creatinine_clearance", "child_pugh", "potassium", "sodium", "calcium", "creatinine", "alt", "platelets",
    "neutrophils", "hemoglobin", "inr", "qtc", "weight",
]  # fmt: skip


class Rule(BaseModel):
    """When every condition that is given holds, the finding is made; what is not known makes it one of `unknown`.

    Conditions: `allergens` the patient is allergic to one of these; `conditions` (named in diagnoses.csv) one is
    diagnosed, `counts` ever or active, `within_days` lately, and none of `unless`; `measure` is `below` or
    `at_or_above` a limit; `pregnant`; `sex`; `below_years`, `at_or_above_years` of age; `with` another drug that is
    taken or is part of the option; `duplicate` the same ingredient, or another of the same class, is taken;
    `max_daily` the option's daily dose in `dose_unit` is higher.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    kind: str = Field(min_length=1)
    severity: Literal["block", "ask", "caution", "info", "off"]
    unknown: Literal["ask", "caution", "info"] = "ask"
    drugs: tuple[str, ...] = ()
    allergens: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    counts: Literal["active", "ever"] = "active"
    within_days: float | None = Field(None, gt=0)
    unless: tuple[str, ...] = ()
    measure: Measure | None = None
    below: float | None = None
    at_or_above: float | None = None
    pregnant: Literal["yes"] | None = None
    sex: Literal["F", "M"] | None = None
    below_years: float | None = None
    at_or_above_years: float | None = None
    with_: tuple[str, ...] = Field((), alias="with")
    duplicate: Literal["same ingredient", "same class"] | None = None
    max_daily: float | None = Field(None, gt=0)
    dose_unit: str = "mg"
    text: str = ""
    remedy: str = ""
    document: str = ""
    section: str = ""
    licence: str = ""
    date: str = ""
    checked: str = ""

    @field_validator("drugs", "allergens", "conditions", "unless", "with_", mode="before")
    @classmethod
    def _split(cls, cell: Any) -> Any:
        return tuple(part.strip() for part in cell.split(";") if part.strip()) if isinstance(cell, str) else cell

    @model_validator(mode="after")
    def _complete(self) -> Rule:
        if self.severity == "off":
            return self
        missing = [n for n in ("drugs", "text", "remedy", "document", "licence", "checked") if not getattr(self, n)]
        if missing:
            raise ValueError(f"{missing[0]} is missing; every rule names its drugs, text, remedy and source")
        limits = (self.below, self.at_or_above)
        if (self.measure is None) != (limits == (None, None)):
            raise ValueError("a measure needs below or at_or_above, and these need a measure")
        if not self.needs:
            raise ValueError("the rule has no condition, so it would always apply; give one")
        return self

    @cached_property
    def needs(self) -> tuple[str, ...]:
        """The conditions that are given, by their column."""
        return tuple(
            name
            for name, value in (
                ("allergens", self.allergens), ("conditions", self.conditions), ("measure", self.measure),
                ("pregnant", self.pregnant), ("sex", self.sex), ("below_years", self.below_years),
                ("at_or_above_years", self.at_or_above_years), ("with", self.with_), ("duplicate", self.duplicate),
                ("max_daily", self.max_daily),
            )
            if value not in (None, ())
        )  # fmt: skip

    @property
    def citation(self) -> str:
        """Document and section."""
        return f"{self.document}, {self.section}" if self.section else self.document


@dataclass(frozen=True)
class RuleBook:
    """Rules with the vocabulary they speak: substances, and conditions as codes (ICD-10 without dots, SNOMED CT)."""

    version: str
    formulary: Formulary
    conditions: Mapping[str, tuple[str, ...]]
    rules: tuple[Rule, ...]

    def about(self, substance: str) -> tuple[Rule, ...]:
        """The rules that speak of the substance, as the drug itself or as the one it does not go with."""
        if substance not in self._about:
            groups = self.formulary.groups_of(substance) | {ANY}
            # The limit of a dose is that of `drugs` alone; other rules judge both sides.
            self._about[substance] = tuple(
                rule
                for rule in self.rules
                if groups & set(rule.drugs) or (rule.max_daily is None and groups & set(rule.with_))
            )
        return self._about[substance]

    def covers(self, substance: str) -> bool:
        """Whether any rule speaks of the substance or its classes by name."""
        return any(ANY not in rule.drugs for rule in self.about(substance))

    @cached_property
    def _about(self) -> dict[str, tuple[Rule, ...]]:
        return {}


def read_rules(folders: Sequence[Path | None] = (None,)) -> RuleBook:
    """Read the rules of folders in order, None being careloop's own; later ones add to and replace earlier ones.

    Raises:
        InputError: a missing folder or file, or a row that breaks a rule, with file and line.
    """
    paths = tuple(SHIPPED_FOLDER if folder is None else Path(folder) for folder in folders)
    # Only careloop's own do not change while it runs.
    return _shipped() if paths == (SHIPPED_FOLDER,) else _read(paths)


@lru_cache(maxsize=1)
def _shipped() -> RuleBook:
    return _read((SHIPPED_FOLDER,))


def _read(folders: tuple[Path, ...]) -> RuleBook:
    drugs: dict[str, Drug] = {}
    classes: dict[str, DrugClass] = {}
    conditions: dict[str, tuple[str, ...]] = {}
    placed: dict[str, tuple[str, Rule]] = {}
    for folder in folders:
        for where, row in _rows(folder / "classes.csv"):
            name = _cell(row, "class", where)
            classes[name] = DrugClass(name, row.get("kind", ""), _many(row, "codes"), _many(row, "synonyms"))
        for where, row in _rows(folder / "drugs.csv"):
            drug = _drug(row, where)
            _known(drug.classes, classes, f"{where}: classes", "classes.csv")
            drugs[drug.name] = drug
        for where, row in _rows(folder / "diagnoses.csv"):
            conditions[_cell(row, "condition", where)] = _many(row, "codes")
        placed |= _rules(folder)
    formulary = Formulary(drugs, classes)
    kept = [(where, rule) for where, rule in placed.values() if rule.severity != "off"]
    substances = {**drugs, **classes}
    for where, rule in kept:
        for column in ("drugs", "allergens", "with_"):
            _known(getattr(rule, column), substances, f"{where}: {column.rstrip('_')}", "drugs.csv")
        for column in ("conditions", "unless"):
            _known(getattr(rule, column), conditions, f"{where}: {column}", "diagnoses.csv")
    return RuleBook(" + ".join(map(_version, folders)), formulary, conditions, tuple(rule for _, rule in kept))


def _version(folder: Path) -> str:
    file = folder / "VERSION"
    if not file.is_file():
        raise InputError(f"{file}: missing; a folder of rules has a file VERSION with one line, such as 2026.1")
    return file.read_text(encoding="utf-8").strip()


def _rules(folder: Path) -> dict[str, tuple[str, Rule]]:
    found: dict[str, tuple[str, Rule]] = {}
    for file in sorted(folder.glob("*.csv")):
        if file.stem in VOCABULARY or file.stem.startswith(OTHERS):
            continue
        for where, row in _rows(file):
            rule = _rule(row, file.stem, where)
            if rule.id in found:
                raise InputError(f"{where}: id {rule.id} is given twice, also at {found[rule.id][0]}; rename one")
            found[rule.id] = (where, rule)
    return found


def _rule(row: Mapping[str, str], kind: str, where: str) -> Rule:
    try:
        return Rule.model_validate({**{name: cell for name, cell in row.items() if cell}, "kind": kind})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        column = str(first["loc"][0]) if first["loc"] else "row"
        if first["type"] == "extra_forbidden":
            near = get_close_matches(column, [*Rule.model_fields, "with"], n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise InputError(f"{where}: no such column {column}{meant}") from None
        got = f", got {first['input']!r}" if isinstance(first["input"], str) else ""
        raise InputError(f"{where}: {column}: {first['msg'].removeprefix('Value error, ')}{got}") from None


def _drug(row: Mapping[str, str], where: str) -> Drug:
    codes = [f"RXNORM//{code}" for code in _many(row, "rxnorm")] + [f"ATC//{code}" for code in _many(row, "atc")]
    return Drug(_cell(row, "ingredient", where), frozenset(_many(row, "classes")), tuple(codes), _many(row, "synonyms"))


def _rows(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows with file and line; a folder that only extends another may lack any of the files."""
    if not file.parent.is_dir():
        raise InputError(f"{file.parent}: no such folder of rules; check the path in plan.safety.rules")
    if not file.is_file():
        return
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, strict=True)
            for row in reader:
                where = f"{file}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise InputError(f"{where}: must have the {len(reader.fieldnames or ())} columns of its first line")
                yield where, {name.strip(): cell.strip() for name, cell in row.items()}
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: not a CSV file in UTF-8 ({error}); save it as one") from None


def _cell(row: Mapping[str, str], name: str, where: str) -> str:
    if not row.get(name):
        raise InputError(f"{where}: {name} is missing; give it")
    return row[name]


def _many(row: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in row.get(name, "").split(";") if part.strip())


def _known(names: Sequence[str] | frozenset[str], known: Mapping[str, Any], where: str, file: str) -> None:
    for name in names:
        if name not in known and name not in (ANY, SAME):
            near = get_close_matches(name, list(known), n=1)
            meant = f"; did you mean {near[0]}?" if near else f"; add it to {file}"
            raise InputError(f"{where}: {name!r} is not known{meant}")
