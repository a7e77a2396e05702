"""What is known about a patient at the prediction time that a safety rule may need, and what is not known.

Everything is read through `careloop.record.history`. What counts: a diagnosis until its `RESOLVED//` event; a drug that
was ordered, dispensed or reported within `medication_days`, or given within `ADMINISTERED_DAYS`, and not stopped since;
the last value of a laboratory test within `lab_days`. Absent diagnoses and drugs count as not had and not taken (a
record cannot say "no" to each); absent allergies, laboratory values, age, sex and pregnancy are not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import polars as pl

from careloop.clean.faults.units import analytes, conversion
from careloop.plan.safety.definition import SafetySection
from careloop.plan.safety.patient.medicines import Formulary
from careloop.plan.safety.patient.pregnancy import PREGNANCY_CODES, Pregnancy, pregnancy_of
from careloop.record.history import KEYS, history
from careloop.record.ontology import ancestors
from careloop.record.schema import BIRTH, CARELOOP

Key = tuple[int, datetime]
AllergyList = Literal["recorded", "none known", "not recorded"]
DAYS_A_YEAR = 365.25
ADMINISTERED_DAYS = 7.0  # a dose given in hospital says little about what is taken a week later
TAKEN = ("ordered", "dispensed", "reported", "administered")  # texts with which ingest marks a drug
DRUG_SYSTEMS = ("RXNORM", "ATC", "NDC")
SUSPECTED = ("unconfirmed", "provisional", "differential", "admitting")
NOT_SO = ("refuted", "entered-in-error", "inactive", "resolved")
NO_ALLERGY = re.compile(
    r"^\W*(nka|nkda|nkma|none( known)?|no (known )?(drug |medication )?allerg\w*|716186003|409137002)\W*$", re.I
)
NO_OTHER_ALLERGY = re.compile(r"no known (food|environment\w*|latex) allerg|^(429625007|428607008)$", re.I)
# LOINC codes of each measure and the unit it is brought to.
MEASURED: dict[str, tuple[str, tuple[str, ...]]] = {
    "creatinine": ("mg/dL", ("2160-0", "38483-4", "14682-9")),
    "egfr": (
        "mL/min/{1.73_m2}",
        ("98979-8", "62238-1", "88293-6", "88294-4", "48642-3", "48643-1", "33914-3", "50044-7", "77147-7", "69405-9"),
    ),
    "bilirubin": ("mg/dL", ("1975-2", "14631-6")),
    "albumin": ("g/dL", ("1751-7", "61151-7")),
    "inr": ("{INR}", ("6301-6", "34714-6")),
    "sodium": ("mmol/L", ("2951-2", "2947-0")),
    "potassium": ("mmol/L", ("2823-3", "6298-4")),
    "calcium": ("mg/dL", ("17861-6", "2000-8")),
    "alt": ("U/L", ("1742-6", "1743-4", "1744-2")),
    "ast": ("U/L", ("1920-8", "30239-8")),
    "platelets": ("10*3/uL", ("777-3", "26515-7")),
    "neutrophils": ("10*3/uL", ("751-8", "26499-4", "753-4")),
    "hemoglobin": ("g/dL", ("718-7", "20509-6")),
    "qtc": ("ms", ("8636-3",)),
    "weight": ("kg", ("29463-7", "3141-9")),
}  # fmt: skip
# Numbers that are what they are where their unit is missing or spelt in an own way: INR, and eGFR, which is always
# reported per 1.73 m2.
UNITLESS = ("inr", "egfr")
MEASURE_OF = {f"LOINC//{loinc}": name for name, (_, codes) in MEASURED.items() for loinc in codes}


@dataclass(frozen=True)
class Coded:
    """A code with its words, when it began or was last said, and the text that came with it."""

    code: str
    words: str
    time: datetime | None
    text: str | None = None


@dataclass(frozen=True)
class Recognised:
    """An allergen, or a drug that is taken, with what it is recognised as; `substances` is empty where as nothing."""

    fact: Coded
    substances: tuple[str, ...]


@dataclass(frozen=True)
class Diagnosis:
    """A diagnosis with all its codes (own and wider ones, ICD without dots)."""

    fact: Coded
    codes: tuple[str, ...]
    standing: Literal["active", "resolved", "suspected"]


@dataclass(frozen=True)
class Measurement:
    """The last value of a measure, in the unit of `MEASURED`."""

    value: float
    unit: str
    time: datetime


@dataclass(frozen=True)
class PatientFacts:
    """What is known at the prediction time; None and "unknown" mean that nobody can say."""

    subject_id: int
    prediction_time: datetime
    age_years: float | None = None
    sex: Literal["F", "M"] | None = None
    pregnancy: Pregnancy = field(default_factory=lambda: Pregnancy("unknown", "nothing is recorded"))
    allergy_list: AllergyList = "not recorded"
    allergies: tuple[Recognised, ...] = ()
    diagnoses: tuple[Diagnosis, ...] = ()
    medications: tuple[Recognised, ...] = ()
    measurements: Mapping[str, Measurement] = field(default_factory=dict)


def patient_facts(
    events: pl.LazyFrame,
    prediction_times: pl.DataFrame,
    formulary: Formulary,
    *,
    section: SafetySection,
    codes: pl.DataFrame | None = None,
    chosen: pl.DataFrame | None = None,
) -> dict[Key, PatientFacts]:
    """Facts of each (subject_id, prediction_time), read from `events` (uncut) as of that time.

    `codes` is the record's codes table (`Record.code_metadata`): descriptions recognise drugs, parents widen diagnoses,
    units complete values without one. `chosen` are events that are the decision which the plan is about, and no drug
    taken before it: subject_id, prediction_time, time, code.
    """
    known = _last_known(events, prediction_times, chosen)
    meaning = _Meaning.of(codes)
    rows: dict[Key, list[dict[str, Any]]] = {}
    for row in known.iter_rows(named=True):
        rows.setdefault((row["subject_id"], row["prediction_time"]), []).append(row)
    keys = prediction_times.select(KEYS).unique(maintain_order=True).iter_rows()
    return {key: _facts(key, rows.get(key, []), formulary, section=section, meaning=meaning) for key in keys}


def _last_known(events: pl.LazyFrame, prediction_times: pl.DataFrame, chosen: pl.DataFrame | None) -> pl.DataFrame:
    """The last event of each code (and text, where that says how it is meant), with when it was first met."""
    code = pl.col("code")
    wanted = ~code.str.starts_with("LOINC//") | code.is_in([*MEASURE_OF, *PREGNANCY_CODES])
    own = code.str.starts_with(CARELOOP)
    happened = pl.col("time").is_null() | (pl.col("time") <= pl.col("prediction_time"))
    valued = code.is_in(list(MEASURE_OF)).not_() | pl.col("numeric_value").is_not_null()
    said = pl.col("text_value").str.to_lowercase()
    manner = pl.when(said.is_in([*TAKEN, *SUSPECTED, *NOT_SO])).then(said).otherwise(pl.lit(""))
    order = ["time", "known_time", "numeric_value", "unit", "text_value"]
    seen = history(events, prediction_times)
    if chosen is not None:
        seen = seen.join(chosen.lazy(), on=[*KEYS, "time", "code"], how="anti", nulls_equal=True)
    return (
        seen.filter(wanted & ~own & happened & valued)
        .select(*KEYS, "code", *order, manner=manner)
        .sort(order)
        .group_by(*KEYS, "code", "manner", maintain_order=True)
        .agg(pl.col(*order).last())
        .sort(*KEYS, "code", "manner")
        .collect()
    )


@dataclass(frozen=True)
class _Meaning:
    """What the codes table says: description, parents and unit of a code."""

    words: Mapping[str, str]
    parents: Mapping[str, Sequence[str]]
    units: Mapping[str, str]

    @classmethod
    def of(cls, codes: pl.DataFrame | None) -> _Meaning:
        if codes is None:
            return cls({}, {}, {})
        names = [name for name in ("description", "parent_codes", "unit") if name in codes.columns]
        found = {name: dict(codes.drop_nulls(name).select("code", name).iter_rows()) for name in names}
        return cls(found.get("description", {}), found.get("parent_codes", {}), found.get("unit", {}))

    def fact(self, row: Mapping[str, Any], code: str) -> Coded:
        body = code.rpartition("//")[2]
        return Coded(code, self.words.get(code) or body, row["time"], row["text_value"])


def _facts(
    key: Key, rows: list[dict[str, Any]], formulary: Formulary, *, section: SafetySection, meaning: _Meaning
) -> PatientFacts:
    subject_id, prediction_time = key
    times = {(row["code"], row["manner"]): row["time"] for row in rows}
    born, sex = times.get((BIRTH, "")), _sex(rows)
    age = None if born is None else (prediction_time - born).total_seconds() / 86400 / DAYS_A_YEAR
    diagnoses = _diagnoses(rows, meaning)
    allergies, allergy_list = _allergies(rows, formulary, meaning)
    return PatientFacts(
        subject_id=subject_id,
        prediction_time=prediction_time,
        age_years=age,
        sex=sex,
        pregnancy=pregnancy_of(
            ((d.codes, d.fact.time, d.standing) for d in diagnoses),
            [(row["code"], row["text_value"], row["time"]) for row in rows if row["code"] in PREGNANCY_CODES],
            at=prediction_time,
            age_years=age,
            sex=sex,
        ),
        allergy_list=allergy_list,
        allergies=allergies,
        diagnoses=diagnoses,
        medications=_medications(rows, prediction_time, formulary, section=section, meaning=meaning),
        measurements=_measurements(rows, prediction_time - timedelta(days=section.lab_days), meaning),
    )


def _sex(rows: Iterable[Mapping[str, Any]]) -> Literal["F", "M"] | None:
    """The recorded sex; None where none, another, or two are recorded."""
    said = set()
    for row in rows:
        prefix, _, body = row["code"].partition("//")
        if prefix in ("GENDER", "SEX"):
            said.add((body or row["text_value"] or "").strip().lower())
    if said and said <= {"f", "female"}:
        return "F"
    return "M" if said and said <= {"m", "male"} else None


def _allergies(
    rows: Iterable[Mapping[str, Any]], formulary: Formulary, meaning: _Meaning
) -> tuple[tuple[Recognised, ...], AllergyList]:
    """Allergies, and whether anybody asked: a list that says "none known" is an answer, an empty one is not."""
    found: list[Recognised] = []
    list_is: AllergyList = "not recorded"
    over = {row["code"].removeprefix("RESOLVED//"): row["time"] for row in rows if row["code"].startswith("RESOLVED//")}
    for row in rows:
        code = _allergen(row["code"])
        if code is None:
            continue
        fact = meaning.fact(row, code)
        said = (code.rpartition("//")[2], fact.words, meaning.words.get(row["code"]) or "")
        if any(NO_OTHER_ALLERGY.search(words) for words in said):
            continue
        if any(NO_ALLERGY.search(words) for words in said):
            list_is = "none known" if list_is == "not recorded" else list_is
            continue
        list_is = "recorded"
        is_over = row["code"] in over and _after(over[row["code"]], row["time"])
        if row["manner"] not in NOT_SO and not is_over:
            description = meaning.words.get(row["code"]) or meaning.words.get(code)
            found.append(Recognised(fact, formulary.recognise(code, description)))
    return tuple(found), list_is


def _allergen(code: str) -> str | None:
    """What the code says somebody is allergic to: `ALLERGY//CODE` as ingest writes it, or an ICD-10 status (Z88)."""
    if code.startswith("ALLERGY//"):
        return code.removeprefix("ALLERGY//")
    return normal_code(code) if normal_code(code).startswith("ICD10//Z88") else None


def _diagnoses(rows: Sequence[Mapping[str, Any]], meaning: _Meaning) -> tuple[Diagnosis, ...]:
    over = {row["code"]: row["time"] for row in rows if row["code"].startswith("RESOLVED//")}
    certain = {row["code"] for row in rows if row["manner"] == ""}
    found = []
    for row in rows:
        code, manner = row["code"], row["manner"]
        if not _is_diagnosis(code) or manner in (*TAKEN, *NOT_SO) or (manner and code in certain):
            continue
        is_over = f"RESOLVED//{code}" in over and _after(over[f"RESOLVED//{code}"], row["time"])
        standing: Literal["active", "resolved", "suspected"] = (
            "resolved" if is_over else "suspected" if manner in SUSPECTED else "active"
        )
        # Chapters ("K00-K95") begin like codes, and no rule speaks of them.
        wider = (normal_code(each) for each in (code, *ancestors(code, meaning.parents)) if "-" not in each)
        found.append(Diagnosis(meaning.fact(row, code), tuple(dict.fromkeys(wider)), standing))
    return tuple(found)


def _is_diagnosis(code: str) -> bool:
    return code.startswith(("ICD10CM//", "ICD10//", "ICD9CM//", "SNOMED//", "DIAGNOSIS//ICD//"))


def normal_code(code: str) -> str:
    """A code of any edition of ICD-10 as `ICD10//` and of ICD-9 as `ICD9//`, without the dot; others as they are."""
    prefix, _, body = code.rpartition("//")
    if prefix in ("ICD10CM", "ICD10", "DIAGNOSIS//ICD//10"):
        return f"ICD10//{body.replace('.', '')}"
    return f"ICD9//{body.replace('.', '')}" if prefix in ("ICD9CM", "DIAGNOSIS//ICD//9") else code


def _medications(
    rows: Sequence[Mapping[str, Any]],
    prediction_time: datetime,
    formulary: Formulary,
    *,
    section: SafetySection,
    meaning: _Meaning,
) -> tuple[Recognised, ...]:
    stops: dict[str, datetime | None] = {}
    for row in rows:
        if row["code"].startswith("STOPPED//"):
            code = row["code"].removeprefix("STOPPED//")
            stops[code] = max(filter(None, (stops.get(code), row["time"])), default=None)
    taken: dict[str, Recognised] = {}
    for row in rows:
        code, manner, time = row["code"], row["manner"], row["time"]
        is_drug = manner in TAKEN or (code.split("//")[0] in DRUG_SYSTEMS and not manner)
        if not is_drug or time is None or code.startswith(("STOPPED//", "ALLERGY//")):
            continue
        days = ADMINISTERED_DAYS if manner == "administered" else section.medication_days
        is_over = code in stops and _after(stops[code], time)
        if not is_over and time >= prediction_time - timedelta(days=days):
            taken[code] = Recognised(meaning.fact(row, code), formulary.recognise(code, meaning.words.get(code)))
    return tuple(taken.values())


def _measurements(rows: Iterable[Mapping[str, Any]], since: datetime, meaning: _Meaning) -> dict[str, Measurement]:
    found: dict[str, Measurement] = {}
    for row in rows:
        name = MEASURE_OF.get(row["code"])
        if name is None or row["time"] is None or row["time"] < since:
            continue
        value = _converted(name, row, meaning)
        if value is not None and (name not in found or row["time"] > found[name].time):
            found[name] = Measurement(value, MEASURED[name][0], row["time"])
    return found


def _converted(name: str, row: Mapping[str, Any], meaning: _Meaning) -> float | None:
    """The value in the measure's unit; None where its unit is missing or of another dimension."""
    code, into = row["code"], MEASURED[name][0]
    unit = row["unit"] or meaning.units.get(code)
    converts = None if unit is None else conversion(unit, into, analytes().get(code))
    if converts is None:
        return float(row["numeric_value"]) if name in UNITLESS else None
    return float(converts.scale * row["numeric_value"] + converts.offset)


def _after(end: datetime | None, start: datetime | None) -> bool:
    """Whether an end counts: it is dated after what it ends. One at the same time is how some sources say "unknown"."""
    return end is not None and (start is None or end > start)
