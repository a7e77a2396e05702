"""Cleaning and its way back: undo gives the very record, and cleaning twice or knowing more later changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.clean import clean_record, find, read_mapping, undo
from careloop.clean.apply import ALL, Constants, Detector, clean_events, constants
from careloop.clean.findings import NOTE, findings, restore
from careloop.clean.sketch import merge, sketch
from careloop.record import Record, conform

START = datetime(2020, 1, 1, tzinfo=UTC)
GLUCOSE, WEIGHT, CREATININE = "LOINC//2345-7", "LOINC//29463-7", "LOINC//2160-0"
LabEvents = Callable[..., pl.DataFrame]


def multiset(frame: pl.DataFrame) -> list[str]:
    return sorted(map(repr, frame.rows()))


@pytest.fixture
def dirty(labs: dict[str, Any], lab_events: LabEvents) -> pl.DataFrame:
    """Simulated laboratory values with most of what cleaning knows planted in them."""
    rng = np.random.default_rng(3)
    parts = []
    for name, wrong in (("glucose", lambda v: v / 18.016), ("weight", lambda v: v * 2.2046), ("potassium", None)):
        lab = labs["glucose" if name == "glucose" else "weight" if name == "weight" else "sodium"]
        events = lab_events(lab.code, lab.unit, lab.values(rng, 120, 5), seed=len(parts)).drop("row")
        if wrong is not None:
            bad = pl.Series(rng.random(events.height) < 0.1)
            events = events.with_columns(
                numeric_value=pl.when(bad).then(wrong(pl.col("numeric_value"))).otherwise("numeric_value")
            )
        parts.append(events)
    events = pl.concat(parts)
    n = events.height
    value, unit = pl.col("numeric_value"), pl.col("unit")
    early = pl.Series(rng.random(n) < 0.02)
    events = events.with_columns(
        numeric_value=pl.when(pl.Series(rng.random(n) < 0.02)).then(999.0).otherwise(value).cast(pl.Float32),
        unit=pl.when(pl.Series(rng.random(n) < 0.1)).then(unit.replace({"mg/dL": "mg/dl", "kg": "KG"})).otherwise(unit),
        known_time=pl.when(early).then(pl.col("time") - timedelta(days=3)).otherwise("known_time"),
    )
    again = events.sample(20, seed=1).with_columns(source=pl.format("HL7V2//{}", pl.col("source")))
    people = [
        {"subject_id": subject, "code": code, "time": time, "known_time": time}
        for subject in range(0, 120, 3)
        for code, time in (
            ("MEDS_BIRTH", START + timedelta(days=subject - 40 * 365)),
            (f"GENDER//{'FM'[subject % 2]}", None),
            ("MEDS_DEATH", START + timedelta(days=100 + subject)),
        )
    ]
    return conform(pl.concat([events, again, conform(pl.DataFrame(people, infer_schema_length=None))]))


def fixed_of(events: pl.DataFrame) -> Constants:
    return constants(merge([sketch(events)]))


def test_undo_gives_the_very_record_and_cleaning_twice_changes_nothing(dirty: pl.DataFrame, tmp_path: Path) -> None:
    record = Record.create(tmp_path / "record", shards=3).append(dirty, key="a")
    summary = clean_record(record)
    assert {"sentinel", "unit", "unit_mixup", "known_early", "after_death", "duplicate"} <= set(summary.counts)
    cleaned = Record.open(record.path)
    assert cleaned.version == summary.record_version > record.version
    facts = cleaned.events().filter(~pl.col("code").str.starts_with(NOTE)).collect()
    assert multiset(facts) != multiset(dirty)
    notes = cleaned.events().filter(pl.col("code").str.starts_with(NOTE)).collect()
    assert notes.height == sum(sum(actions.values()) for actions in summary.counts.values())
    again = clean_record(cleaned)
    assert again == summary, "nothing is written the second time"
    before = undo(cleaned)
    assert multiset(before.events().collect()) == multiset(dirty)
    assert undo(before).version == before.version
    # What a version was stays readable.
    assert multiset(Record.open(record.path, version=record.version).events().collect()) == multiset(dirty)
    assert clean_record(before).counts == summary.counts


def test_looking_changes_nothing_and_says_what_cleaning_does(dirty: pl.DataFrame, tmp_path: Path) -> None:
    record = Record.create(tmp_path / "record", shards=2).append(dirty, key="a")
    looked = find(record, examples=2)
    assert Record.open(record.path).version == record.version == looked.record_version
    assert looked.examples["rule"].value_counts()["count"].max() <= 2
    assert looked.counts == clean_record(record).counts
    assert find(Record.open(record.path)).counts == looked.counts, "of a cleaned record: what cleaning did"


def test_the_number_of_shards_changes_nothing(dirty: pl.DataFrame, tmp_path: Path) -> None:
    found = []
    for shards in (1, 4):
        record = Record.create(tmp_path / str(shards), shards=shards).append(dirty, key="a")
        clean_record(record)
        found.append(multiset(Record.open(record.path).events().collect()))
    assert found[0] == found[1]


def test_cleaning_by_other_rules_takes_the_rest_back(dirty: pl.DataFrame, tmp_path: Path) -> None:
    record = Record.create(tmp_path / "record", shards=2).append(dirty, key="a")
    clean_record(record)
    assert set(clean_record(record, rules=["sentinel"]).counts) == {"sentinel"}
    only = Record.open(record.path).events().filter(pl.col("code").str.starts_with(NOTE)).collect()
    assert only["code"].unique().to_list() == [f"{NOTE}sentinel"]
    assert multiset(undo(record, ["sentinel"]).events().collect()) == multiset(dirty)
    with pytest.raises(InputError, match="unknown sentinels; allowed are before_order, sentinel"):
        clean_record(record, rules=["sentinels"])


def test_a_newer_delivery_of_a_cleaned_row_replaces_row_and_note(tmp_path: Path) -> None:
    old = pl.DataFrame(
        {"subject_id": 1, "time": START, "code": GLUCOSE, "numeric_value": [5.0, 6.0], "unit": "mmol/L",
         "source": ["LAB//1", "LAB//2"]}
    )  # fmt: skip
    record = Record.create(tmp_path / "record", shards=1).append(old, key="a")
    clean_record(record, rules=["unit"])
    corrected = old.head(1).with_columns(numeric_value=pl.lit(7.0))
    record = Record.open(record.path).supersede(corrected, key="b")
    notes = record.events().filter(pl.col("code").str.starts_with(NOTE)).collect()
    assert notes["source"].to_list() == ["LAB//2"]
    clean_record(record, rules=["unit"])
    values = Record.open(record.path).events().filter(pl.col("code") == GLUCOSE).collect().sort("source")
    assert values["numeric_value"].to_list() == pytest.approx([7 * 18.0156, 6 * 18.0156], rel=1e-5)
    assert values["unit"].to_list() == ["mg/dL", "mg/dL"]
    assert multiset(undo(record).events().collect()) == multiset(conform(pl.concat([corrected, old.slice(1)])))


def test_an_empty_record_stays_empty(tmp_path: Path) -> None:
    record = Record.create(tmp_path / "record")
    assert clean_record(record).counts == {}
    assert find(record).counts == {}
    assert undo(record).version == record.version


# Any facts, also such that no record should have.
numbers = st.one_of(
    st.none(),
    st.sampled_from([0.0, -1.0, 5.0, 90.0, 999.0, 1e30]),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
)
times = st.sampled_from(
    [None, START, START + timedelta(hours=5), START + timedelta(days=9), START - timedelta(days=30000)]
)
any_fact = st.fixed_dictionaries(
    {
        "subject_id": st.integers(1, 3),
        "time": times,
        "known_time": times,
        "code": st.sampled_from(
            [GLUCOSE, WEIGHT, CREATININE, "MEDS_BIRTH", "MEDS_DEATH", "GENDER//F", "ICD10CM//C61", "RXNORM//1"]
        ),
        "numeric_value": numbers,
        "unit": st.sampled_from([None, "mg/dL", "mmol/L", "kg", "KG", "lb", "what", ""]),
        "text_value": st.sampled_from([None, "", "ordered", ">", "a note " * 40]),
        "source": st.sampled_from([None, "LAB//1", "LAB//2", "HL7V2//3"]),
    }
)  # fmt: skip


@given(rows=st.lists(any_fact, min_size=1, max_size=25))
@settings(max_examples=60, deadline=None)
def test_whatever_the_facts_undo_gives_them_back(
    rows: list[dict[str, Any]],
) -> None:
    frame = pl.DataFrame(
        rows,
        schema_overrides={
            "numeric_value": pl.Float32,
            "time": pl.Datetime("us", "UTC"),
            "known_time": pl.Datetime("us", "UTC"),
        },
        infer_schema_length=None,
    )
    before = conform(frame.with_columns(known_time=pl.when(pl.col("time").is_not_null()).then("known_time")))
    fixed = fixed_of(before)
    cleaned, found = clean_events(before, fixed)
    assert multiset(restore(cleaned)) == multiset(before)
    twice, found_again = clean_events(cleaned, fixed)
    assert multiset(twice) == multiset(cleaned)
    assert multiset(found_again) == multiset(found)
    removed = found.filter(action="removed")["row"].n_unique()
    own = pl.col("code").str.starts_with(NOTE)
    assert cleaned.filter(~own).height == before.height - removed
    assert cleaned.filter(own).height == found.height
    # No note is known before the event that it is about was, and all that has a time has a time when it was known.
    noted = cleaned.filter(own & pl.col("time").is_not_null()).select(
        "known_time",
        delivered=pl.col("text_value").str.json_path_match("$.row.known_time").str.to_datetime(time_zone="UTC"),
    )
    assert noted.filter(pl.col("known_time") < pl.col("delivered")).is_empty()
    assert noted["known_time"].null_count() == 0


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(days=st.integers(20, 140), seed=st.integers(0, 99))
def test_what_becomes_known_later_changes_no_value_known_before(days: int, seed: int, dirty: pl.DataFrame) -> None:
    """With the constants fixed, the record as of t is the same whatever is known after t."""
    t = START + timedelta(days=days)
    fixed = fixed_of(dirty)
    known = pl.col("known_time").fill_null(START) <= t
    later = dirty.filter(~known)
    altered = later.sample(fraction=0.5, seed=seed).with_columns(pl.col("numeric_value") * 3)

    def as_of(events: pl.DataFrame) -> pl.DataFrame:
        cleaned, _ = clean_events(events, fixed)
        # A result that claims to be known before it was measured is known from its time on, so it may leave the past.
        return cleaned.filter(pl.col("known_time").fill_null(START) <= t)

    expected = multiset(as_of(dirty))
    assert multiset(as_of(dirty.filter(known))) == expected
    assert multiset(as_of(pl.concat([dirty.filter(known), altered]))) == expected


def test_constants_can_be_learned_from_training_patients_only(dirty: pl.DataFrame, tmp_path: Path) -> None:
    """Whatever happens to held-out patients' values then changes no training patient's."""
    training = pl.col("subject_id") < 60
    shifted = pl.when(training).then("numeric_value").otherwise(pl.col("numeric_value") * 40 + 7)
    kept = []
    for name, events in (("a", dirty), ("b", dirty.with_columns(numeric_value=shifted))):
        record = Record.create(tmp_path / name, shards=2).append(events, key="a")
        assert clean_record(record, learn_from=training).counts
        kept.append(multiset(Record.open(record.path).events().filter(training).collect()))
    assert kept[0] == kept[1]
    # Units that only held-out patients have are converted all the same.
    only = (
        dirty.filter(~training & (pl.col("code") == GLUCOSE))
        .head(1)
        .with_columns(unit=pl.lit("mmol/L"), numeric_value=pl.lit(5.0, dtype=pl.Float32), source=pl.lit("LAB//only"))
    )
    record = Record.create(tmp_path / "c", shards=2).append(pl.concat([dirty, only]), key="a")
    clean_record(record, learn_from=training)
    assert Record.open(record.path).events().filter(code=GLUCOSE, source="LAB//only").collect()["unit"].to_list() == [
        "mg/dL"
    ]


def test_codes_are_mapped_by_vocabulary_files_again_and_back(tmp_path: Path) -> None:
    columns = ["concept_id", "concept_name", "vocabulary_id", "standard_concept", "concept_code", "invalid_reason"]
    concepts = [(1, "Cirrhosis of liver", "SNOMED", "S", "19943007", ""), (2, "Cirrhosis", "ICD10CM", "", "K74.60", "")]
    relations = ["concept_id_1", "concept_id_2", "relationship_id", "invalid_reason"]
    for name, head, rows in (
        ("CONCEPT", columns, concepts),
        ("CONCEPT_RELATIONSHIP", relations, [(2, 1, "Maps to", "")]),
    ):
        lines = ["\t".join(map(str, row)) for row in [head, *rows]]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    rows = pl.DataFrame(
        {"subject_id": [1, 2, 2], "time": START, "code": ["ICD10CM//K74.60", "ICD10CM//K74.60", "LOCAL//a"]}
    )
    record = Record.create(tmp_path / "record", shards=2).append(rows, key="a")
    for _ in range(2):  # the second time the record holds the mapped codes already
        mapping = read_mapping(Record.open(record.path), tmp_path)
        assert mapping.mapped.rows() == [("ICD10CM//K74.60", 2, "SNOMED//19943007")]
        assert mapping.unmapped.rows() == [("LOCAL//a", 1, "not in the vocabulary files")]
        assert set(mapping.described["code"]) == {"ICD10CM//K74.60", "SNOMED//19943007"}
        assert clean_record(record, also=[mapping.step]).counts == {"code_mapped": {"changed": 2}}
        facts = Record.open(record.path).events().filter(~pl.col("code").str.starts_with(NOTE)).collect()
        assert sorted(facts["code"]) == ["LOCAL//a", "SNOMED//19943007", "SNOMED//19943007"]
    assert sorted(undo(record).events().collect()["code"]) == sorted(rows["code"])
    with pytest.raises(InputError, match="vocabularies to map to"):
        read_mapping(record, tmp_path, to=[])


def test_another_step_comes_before_the_others_and_is_undone_too(tmp_path: Path) -> None:
    rows = pl.DataFrame(
        {"subject_id": 1, "time": START, "code": "LAB//glucose", "numeric_value": 5.0, "unit": "mmol/L"}
    )
    record = Record.create(tmp_path / "record", shards=1).append(rows, key="a")

    def renamed(events: pl.DataFrame, _: Constants) -> pl.DataFrame:
        local = events.filter(pl.col("code") == "LAB//glucose").select("row", after_code=pl.lit(GLUCOSE))
        return findings(local, "renamed", "changed")

    counts = clean_record(record, also=[Detector(("renamed",), renamed)]).counts
    assert counts == {"renamed": {"changed": 1}, "unit": {"changed": 1}}
    assert undo(record).events().collect().equals(record.events().collect())


def test_every_rule_has_one_detector() -> None:
    assert len(ALL) == len(set(ALL))
