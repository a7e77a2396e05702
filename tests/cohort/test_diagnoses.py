"""Many diagnoses as labels: against the single-outcome labels of a study, and a plain reading event by event."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.cohort import CohortSection, label_outcomes
from careloop.cohort.diagnoses import DiagnosesSection, DiagnosisLabels, diagnosis_labels
from careloop.record import Record

DAY_0 = datetime(2020, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CODES = ("K74.60", "K74.4", "K70.30", "I10", "A09")
ABOVE = {
    "K74.60": {"category": "K74", "block": "K70-K77", "chapter": "K00-K95"},
    "K74.4": {"category": "K74", "block": "K70-K77", "chapter": "K00-K95"},
    "K70.30": {"category": "K70", "block": "K70-K77", "chapter": "K00-K95"},
    "I10": {"category": "I10", "block": "I10-I1A", "chapter": "I00-I99"},
    "A09": {"category": "A09", "block": "A00-A09", "chapter": "A00-B99"},
}
OTHER = ("VISIT", "MOVED", "MEDS_DEATH", "CARELOOP//PREDICTION//m")
SUBJECTS = 12
Row = tuple[Any, ...]  # (subject_id, day or None, code, None, day known or None)


def keys_of(pairs: list[tuple[int, float]], split: str = "train") -> pl.DataFrame:
    times = [DAY_0 + day * DAY for _, day in pairs]
    schema = {"subject_id": pl.Int64, "prediction_time": pl.Datetime("us", "UTC")}
    keys = pl.DataFrame({"subject_id": [s for s, _ in pairs], "prediction_time": times}, schema=schema)
    return keys.with_columns(split=pl.lit(split))


def section(**changes: Any) -> DiagnosesSection:
    return DiagnosesSection.model_validate({"horizon_days": 30, "min_subjects": 1, **changes})


def label(labels: DiagnosisLabels, name: str) -> list[float | None]:
    values = labels.values[:, labels.names.index(f"ICD10CM//{name}")]
    return [None if np.isnan(value) else float(value) for value in values]


def read_plainly(
    rows: list[Row], key: tuple[int, float], members: set[str], changes: dict[str, Any]
) -> tuple[float | None, int, float, bool]:
    """Value, event, days and whether at risk, of one row and one label with the codes `members`."""
    subject, start = key
    own = [row for row in rows if row[0] == subject]
    dated = [(row[1], row[2]) for row in own if row[1] is not None]
    stops = {"MOVED"} | (set() if changes["competing"] else {"MEDS_DEATH"})
    ranks = [(members, 0), (set(changes["competing"]), 1), (stops, 2)]
    future = [(day, rank) for day, code in dated for codes, rank in ranks if day > start and code in codes]
    last = max([start, *(day for day, code in dated if not code.startswith("CARELOOP//"))])
    day, rank = min([*future, (last, 2)])
    earlier = any(
        row[1] is None or row[1] <= start or (row[4] is not None and row[4] <= start)
        for row in own
        if row[2] in members
    )
    at_risk = changes["which"] == "any" or not earlier
    event, days = (1, 2, 0)[rank], day - start
    value = float(days <= 30) if rank == 0 else 0.0 if rank == 1 or days >= 30 else None
    return (value if at_risk else None), event, days, at_risk


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Row], list[tuple[int, float]], dict[str, Any]]:
    days = st.integers(0, 60)
    codes = st.sampled_from([*(f"ICD10CM//{code}" for code in CODES), *OTHER])
    people = st.integers(1, SUBJECTS)
    rows: list[Row] = [(subject, 0, "VISIT", None, 0) for subject in range(1, SUBJECTS + 1)]
    for subject, day, code, late in draw(
        st.lists(st.tuples(people, st.none() | days, codes, st.integers(-2, 5)), max_size=100)
    ):
        rows.append((subject, day, code, None, None if day is None else max(0, day + late)))
    pairs = draw(st.lists(st.tuples(people, days), min_size=1, max_size=25, unique=True))
    changes = {
        "which": draw(st.sampled_from(["any", "new"])),
        "competing": draw(st.sampled_from([(), ("MEDS_DEATH",)])),
        "censoring": ("MOVED",),
    }
    return rows, [(subject, float(day)) for subject, day in pairs], changes


@settings(max_examples=20, deadline=None)
@given(histories())
def test_labels_equal_a_plain_reading_of_the_record(
    record_of: Callable[..., Record], drawn: tuple[list[Row], list[tuple[int, float]], dict[str, Any]]
) -> None:
    rows, pairs, changes = drawn
    record, keys = record_of(rows), keys_of(pairs)
    levels = ("code", "category", "block", "chapter")
    above = {
        name: {f"ICD10CM//{code}" for code in CODES if name in {code, *ABOVE[code].values()}}
        for name in sorted({name for code in CODES for name in (code, *ABOVE[code].values())})
    }
    expected = {name: [read_plainly(rows, pair, codes, changes) for pair in pairs] for name, codes in above.items()}
    wanted = {f"ICD10CM//{name}" for name, found in expected.items() if any(value == 1 for value, *_ in found)}
    asked = section(levels=levels, **changes)
    if not wanted:
        with pytest.raises(InputError, match="lower min_subjects"):
            diagnosis_labels(record, keys, asked)
        return
    labels = diagnosis_labels(record, keys, asked)
    assert set(labels.names) == wanted
    for place, name in enumerate(labels.names):
        found = zip(labels.event[:, place], labels.follow_up_days[:, place], labels.at_risk[:, place], strict=True)
        values = label(labels, name.removeprefix("ICD10CM//"))
        assert [(v, *rest) for v, rest in zip(values, found, strict=True)] == expected[name.removeprefix("ICD10CM//")]


def test_each_label_is_what_a_study_of_that_outcome_alone_would_have(record_of: Callable[..., Record]) -> None:
    random = np.random.default_rng(3)
    rows: list[Row] = [(subject, 0, "VISIT") for subject in range(1, 41)]
    for _ in range(300):
        code = random.choice([*(f"ICD10CM//{code}" for code in CODES), "VISIT", "MOVED", "MEDS_DEATH"], p=[0.12] * 5
                             + [0.36, 0.02, 0.02])  # fmt: skip
        rows.append((int(random.integers(1, 41)), float(random.uniform(0, 90)), str(code)))
    record = record_of(rows, shards=3)
    keys = keys_of([(subject, float(day)) for subject in range(1, 41) for day in (0, 25)])
    labels = diagnosis_labels(record, keys, section(levels="block", censoring="MOVED", competing="MEDS_DEATH"))
    assert len(labels.names) == 3
    for place, name in enumerate(labels.names):
        codes = [f"ICD10CM//{code}" for code in CODES if f"ICD10CM//{ABOVE[code]['block']}" == name]
        outcome = {"codes": codes, "horizon_days": 30, "censoring": "MOVED", "competing": "MEDS_DEATH"}
        alone = label_outcomes(record, keys, CohortSection.model_validate({"index": {"code": "V"}, "outcome": outcome}))
        assert keys.sort("subject_id", "prediction_time").equals(keys)
        assert labels.event[:, place].tolist() == alone["event"].to_list()
        assert labels.follow_up_days[:, place].tolist() == alone["follow_up_days"].to_list()
        assert label(labels, name.removeprefix("ICD10CM//")) == alone["boolean_value"].cast(pl.Float64).to_list()


def test_the_widest_come_first_with_their_titles_and_know_their_parents(record_of: Callable[..., Record]) -> None:
    record = record_of([(1, day, f"ICD10CM//{code}") for day, code in enumerate(CODES, start=1)])
    record.describe_codes(pl.DataFrame({"code": ["ICD10CM//K74"], "description": ["fibrosis and cirrhosis of liver"]}))
    labels = diagnosis_labels(record, keys_of([(1, 0)]), section(levels=["category", "chapter"]))
    short = [name.removeprefix("ICD10CM//") for name in labels.names]
    assert short == ["A00-B99", "I00-I99", "K00-K95", "A09", "I10", "K70", "K74"]
    assert labels.parents.tolist() == [-1, -1, -1, 0, 1, 2, 2]
    assert labels.descriptions[2] == "diseases of the digestive system"
    assert labels.descriptions[-2:] == ("", "fibrosis and cirrhosis of liver")
    every = diagnosis_labels(record, keys_of([(1, 0)]), section(levels=["category", "chapter", "block", "code"]))
    parent = {name: every.names[place] for name, place in zip(every.names, every.parents, strict=True) if place >= 0}
    chain = ["K74.60", "K74", "K70-K77", "K00-K95"]
    assert [parent[f"ICD10CM//{name}"] for name in chain[:-1]] == [f"ICD10CM//{name}" for name in chain[1:]]
    assert parent["ICD10CM//I10"] == "ICD10CM//I10-I1A"  # a category that is a code stands there once
    assert len(set(every.names)) == len(every.names)


def test_only_training_rows_decide_which_diagnoses_are_labels(record_of: Callable[..., Record]) -> None:
    rows = [(1, 5, "ICD10CM//I10"), (2, 5, "ICD10CM//I10"), (3, 5, "ICD10CM//K74.4"), (4, 5, "ICD10CM//K74.4")]
    rows += [(1, 50, "ICD10CM//A09"), (2, 50, "ICD10CM//A09")]  # beyond the horizon
    record = record_of(rows)
    keys = pl.concat([keys_of([(1, 0), (2, 0), (3, 0)]), keys_of([(4, 0), (1, 20)], "held_out")])
    labels = diagnosis_labels(record, keys, section(min_subjects=2))
    assert labels.names == ("ICD10CM//I00-I99",)
    assert label(labels, "I00-I99") == [1.0, 1.0, None, None, 0.0]
    again = diagnosis_labels(record, keys.drop("split")[::-1], section(), names=["ICD10CM//K00-K95", *labels.names])
    assert label(again, "I00-I99") == [0.0, None, None, 1.0, 1.0]
    assert label(again, "K00-K95") == [0.0, 1.0, 1.0, 0.0, 0.0]
    assert again.keys.equals(keys.drop("split")[::-1])


def test_codes_without_a_hierarchy_and_excluded_ones(record_of: Callable[..., Record]) -> None:
    record = record_of([(1, 5, "SNOMED//1"), (1, 6, "SNOMED//2"), (1, 7, "ICD10CM//I10")])
    found = diagnosis_labels(
        record, keys_of([(1, 0)]), section(codes="SNOMED//*", exclude_codes=["SNOMED//2"], levels="code")
    )
    assert found.names == ("SNOMED//1",)
    with pytest.raises(InputError, match="at level chapter within 30 days"):
        diagnosis_labels(record, keys_of([(1, 0)]), section(codes="SNOMED//*"))


def test_what_cannot_be_labelled_is_refused(record_of: Callable[..., Record]) -> None:
    record = record_of([(1, 5, "ICD10CM//I10")])
    with pytest.raises(InputError, match=r"split is missing; which diagnoses are labels is decided on training rows"):
        diagnosis_labels(record, keys_of([(1, 0)]).drop("split"), section())
    with pytest.raises(InputError, match="1 of the subjects to label have no event"):
        diagnosis_labels(record, keys_of([(1, 0), (7, 0)]), section())
    with pytest.raises(InputError, match="must not be null"):
        diagnosis_labels(record, keys_of([(1, 0)]).with_columns(prediction_time=None), section())
    with pytest.raises(InputError, match="there are no rows to label"):
        diagnosis_labels(record, keys_of([]), section())
