"""Timelines against a slow reference in plain Python, the as-of property, and the same rows wherever they are made."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.features.timelines import (
    TimelineRecipe,
    Timelines,
    TimelinesSection,
    Token,
    extract_timelines,
    fit_timelines,
)
from careloop.features.timelines import extract as extract_module
from careloop.models.sequence.arrays import EVENT_ARRAYS, FIRST_CODE, UNKNOWN
from careloop.record import Record

Row = dict[str, Any]
MakeRecord = Callable[..., Record]
MakeKeys = Callable[..., pl.DataFrame]
MOST = 5
RECIPE = TimelineRecipe(
    (
        Token("LAB", unit="mg/dL", edges=(-2.0, 0.0, 0.0, 3.0), mean=1.0, standard_deviation=2.0),
        Token("DX"),
        Token("RESULT"),
        Token("RESULT", "positive"),
        Token("SEX", "F"),
        Token("HEIGHT", unit="cm", edges=(160.0, 165.0, 170.0, 175.0), mean=170.0, standard_deviation=0.0),
        Token("ICD10CM//K74"),
    ),
    TimelinesSection(quantiles=5, most_events=MOST, exclude_codes=("TREATMENT*",)),
    rolled_up={"RARE": FIRST_CODE + 1},
)
LAB, DX, RESULT, POSITIVE, FEMALE, HEIGHT, K74 = range(FIRST_CODE, FIRST_CODE + 7)
TOKENS = {"DX": DX, "RARE": DX, "RESULT": RESULT, "ICD10CM//K74.60": K74, "ICD10CM//K74": K74}
LEFT_OUT = ("MEDS_BIRTH", "CARELOOP//X", "TREATMENT//1")

# Whole and half days, so that facts fall on prediction times and on each other.
day = st.integers(-30, 30).map(lambda half: half / 2)
timed = st.fixed_dictionaries(
    {
        "subject_id": st.integers(1, 3),
        "time": day,
        "known_time": st.none() | day,
        "code": st.sampled_from(
            ["LAB", "DX", "RESULT", "RARE", "OTHER", "ICD10CM//K74.60", "ICD10CM//K74", "MEDS_DEATH", *LEFT_OUT]
        ),
        "numeric_value": st.none() | st.floats(-16, 16, width=16),
        "unit": st.sampled_from(["mg/dL", "mg/dL", "mmol/L", None]),
        "text_value": st.sampled_from([None, "positive", "negative"]),
    }
)
static = st.fixed_dictionaries(
    {
        "subject_id": st.integers(1, 3),
        "code": st.sampled_from(["HEIGHT", "SEX", "DX", "OTHER"]),
        "numeric_value": st.none() | st.floats(150, 190, width=16),
        "unit": st.sampled_from(["cm", "cm", None]),
        "text_value": st.sampled_from([None, "F", "M"]),
    }
)
rows_of_events = st.lists(timed | static, max_size=40)
keys_of_rows = st.lists(st.tuples(st.integers(1, 4), day), min_size=1, max_size=6)
disk = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def known_time(row: Row) -> float:
    return row["time"] if row.get("known_time") is None else row["known_time"]


def slow_row(rows: list[Row], subject: int, now: float) -> tuple[list[tuple[float, ...]], float]:
    """(token, quantile, value, time) of each event of one row, and its prediction time, by the definition."""
    mine = [row for row in rows if row["subject_id"] == subject]
    known = [row for row in mine if "time" in row and known_time(row) <= now and row["time"] <= now]
    births = [row["time"] for row in known if row["code"] == "MEDS_BIRTH"]
    events = [(row["time"], known_time(row), *slow_event(row)) for row in known if row["code"] not in LEFT_OUT]
    events.sort(key=lambda event: (*event[:3], in_order(event[4]), event[3]))
    origin = (births and min(births)) or (events[0][0] if events and not births else min(births, default=now))
    last = [(token, quantile, value, time - origin) for time, _, token, quantile, value in events][-MOST:]
    first = {slow_event(row) for row in mine if "time" not in row}
    start = min([0.0, *(event[3] for event in last[:1])])
    statics = sorted(first, key=lambda event: (event[0], in_order(event[2]), event[1]))
    return [(*event, start) for event in statics] + last, now - origin


def in_order(value: float) -> float:
    return math.inf if math.isnan(value) else value


def slow_event(row: Row) -> tuple[int, int, float]:
    """Token, quantile, value."""
    code, number, text = row["code"], row["numeric_value"], row["text_value"]
    if code in ("LAB", "HEIGHT"):
        token = RECIPE.tokens[0 if code == "LAB" else 5]
        if number is None or row["unit"] != token.unit:
            return RECIPE.numbers[code, None], 0, math.nan
        deviations = (number - token.mean) / (token.standard_deviation or 1)
        quantile = 1 + sum(edge < number for edge in token.edges)
        return RECIPE.numbers[code, None], quantile, float(np.float32(min(max(deviations, -5), 5)))
    if number is None and (code, text) in (("RESULT", "positive"), ("SEX", "F")):
        return POSITIVE if code == "RESULT" else FEMALE, 0, math.nan
    return TOKENS.get(code, UNKNOWN), 0, math.nan


def arrays_of(timelines: Timelines) -> dict[str, np.ndarray]:
    some = timelines.sequences.take(np.arange(len(timelines)))
    return {name: getattr(some, name) for name in ("offsets", *EVENT_ARRAYS, "at", "static")}


def assert_same(one: Timelines, other: Timelines) -> None:
    assert one.keys.equals(other.keys)
    expected = arrays_of(one)
    for name, values in arrays_of(other).items():
        assert values.dtype == expected[name].dtype
        assert values.tobytes() == expected[name].tobytes(), name


@disk
@given(rows=rows_of_events, keys=keys_of_rows, batches=st.integers(1, 2), pairs=st.sampled_from([3, 10**6]))
def test_every_row_equals_the_slow_reference(
    make_record: MakeRecord,
    make_keys: MakeKeys,
    rows: list[Row],
    keys: list[tuple[int, float]],
    batches: int,
    pairs: int,
) -> None:
    record = make_record(*(rows[start::batches] for start in range(batches)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extract_module, "MOST_PAIRS", pairs)
        found = extract_timelines(record, make_keys(*keys), RECIPE)
    assert found.keys.equals(make_keys(*keys))
    for number, key in enumerate(keys):
        events, at = slow_row(rows, *key)
        one = found.sequences.take(np.array([number]))
        got = np.stack([one.code, one.quantile, one.value, one.time], axis=1).astype(np.float64)
        np.testing.assert_allclose(got, np.array(events).reshape(-1, 4), rtol=1e-6)
        assert one.at == pytest.approx([at])
        assert (np.diff(one.time) >= 0).all()


@disk
@given(rows=rows_of_events, later=rows_of_events, keys=keys_of_rows)
def test_facts_known_later_change_nothing(
    make_record: MakeRecord, make_keys: MakeKeys, rows: list[Row], later: list[Row], keys: list[tuple[int, float]]
) -> None:
    """Adding facts that become known after the last prediction time, changing and removing them: the same bytes."""
    last = max(day for _, day in keys)
    unknown = [{**row, "known_time": last + 0.5 + abs(row["known_time"] or 0)} for row in later if "time" in row]
    changed = [{**row, "numeric_value": 4.0, "code": "LAB", "time": row["time"] - 1} for row in unknown]
    known = [row for row in rows if "time" not in row or known_time(row) <= last]
    before = extract_timelines(make_record(known), make_keys(*keys), RECIPE)
    for more in (unknown, changed):
        assert_same(before, extract_timelines(make_record(known + more), make_keys(*keys), RECIPE))


@disk
@given(rows=rows_of_events, later=rows_of_events, keys=keys_of_rows)
def test_fitting_does_not_see_facts_known_later_or_of_other_rows(
    make_record: MakeRecord, make_keys: MakeKeys, rows: list[Row], later: list[Row], keys: list[tuple[int, float]]
) -> None:
    keys = [*keys, (9, 0.0)]
    rows = [*rows, {"subject_id": 9, "time": -1, "code": "DX"}]
    last = max(day for _, day in keys)
    known = [row for row in rows if "time" not in row or known_time(row) <= last]
    late = [{**row, "known_time": last + 0.5 + abs(row["known_time"] or 0)} for row in later if "time" in row]
    others = [{**row, "subject_id": row["subject_id"] + 100} for row in later]
    section = TimelinesSection(min_subjects=1)
    train = make_keys(*keys, splits=["train"] * len(keys))
    alone = fit_timelines(make_record(known), train, section)
    held_out = make_keys(*((subject + 100, last) for subject, _ in keys), splits=["held_out"] * len(keys))
    assert fit_timelines(make_record(known + late + others), pl.concat([train, held_out]), section) == alone


def ward(make_record: MakeRecord, shards: int = 3) -> Record:
    """Twenty subjects with labs, diagnoses, sex and birth, some facts known only later."""
    random = np.random.default_rng(0)
    rows: list[Row] = []
    for subject in range(20):
        rows.append({"subject_id": subject, "code": "SEX", "text_value": "F" if subject % 3 else "M"})
        rows.append({"subject_id": subject, "time": -365.0 * (30 + subject), "code": "MEDS_BIRTH"})
        for time in random.uniform(0, 9, subject):
            value = float(random.normal(10, 2))
            rows.append({"subject_id": subject, "time": float(time), "known_time": float(time) + subject % 4 / 2,
                         "code": "LAB", "numeric_value": value, "unit": "mg/dL"})  # fmt: skip
        rows += [{"subject_id": subject, "time": 2, "code": f"ICD10CM//K74.{subject % 6}"}] if subject % 2 else []
    return make_record(rows, shards=shards)


@pytest.mark.parametrize("on", ["local:1", "ray:1"])
def test_here_and_elsewhere_in_memory_and_mapped_are_the_same(
    make_record: MakeRecord, make_keys: MakeKeys, tmp_path: Path, on: str
) -> None:
    if on.startswith("ray"):
        pytest.importorskip("ray")
    record = ward(make_record)
    keys = make_keys(*((s, d) for d in (9, 4) for s in reversed(range(20))))
    recipe = fit_timelines(record, keys, TimelinesSection(min_subjects=2))
    here = extract_timelines(record, keys, recipe)
    assert fit_timelines(record, keys, TimelinesSection(min_subjects=2), on=on) == recipe
    assert_same(here, extract_timelines(record, keys, recipe, folder=tmp_path / "here"))
    assert_same(here, extract_timelines(record, keys, recipe, on=on, folder=tmp_path / "there"))
    assert_same(here, Timelines.open(tmp_path / "there"))


def test_shards_and_the_order_of_files_do_not_matter(make_record: MakeRecord, make_keys: MakeKeys) -> None:
    keys = make_keys(*((s, 9) for s in range(20)))
    one, other = ward(make_record, shards=1), ward(make_record, shards=7)
    section = TimelinesSection(min_subjects=2)
    recipe = fit_timelines(one, keys, section)
    assert fit_timelines(other, keys, section) == recipe
    assert_same(extract_timelines(one, keys, recipe), extract_timelines(other, keys, recipe))


def test_rows_follow_the_keys_and_empty_histories_give_empty_rows(make_record: MakeRecord, make_keys: MakeKeys) -> None:
    record = make_record([{"subject_id": s, "time": s, "code": "DX"} for s in (1, 2)])
    keys = make_keys((2, 5), (1, 5), (2, 5), (3, 5), (2, 1))
    found = extract_timelines(record, keys.with_columns(extra=pl.lit(1)), RECIPE)
    assert found.keys.equals(keys)
    assert found.sequences.lengths.tolist() == [1, 1, 1, 0, 0]
    assert found.sequences.take(np.arange(5)).at.tolist() == [3, 4, 3, 0, 0]


def test_no_keys_give_no_rows(make_record: MakeRecord, make_keys: MakeKeys, tmp_path: Path) -> None:
    record, none = make_record([{"subject_id": 1, "time": 0, "code": "DX"}]), make_keys()
    for folder in (None, tmp_path / "timelines"):
        found = extract_timelines(record, none, RECIPE, folder=folder)
        assert (len(found), found.sequences.take(np.arange(0)).offsets.tolist()) == (0, [0])


def test_an_appointment_known_in_advance_does_not_count_before_its_time(
    make_record: MakeRecord, make_keys: MakeKeys
) -> None:
    record = make_record([{"subject_id": 1, "time": 9, "known_time": 1, "code": "DX"}])
    assert extract_timelines(record, make_keys((1, 5), (1, 9)), RECIPE).sequences.lengths.tolist() == [0, 1]


def test_a_birth_that_is_not_known_yet_is_no_origin(make_record: MakeRecord, make_keys: MakeKeys) -> None:
    birth = {"subject_id": 1, "time": -100, "known_time": 6, "code": "MEDS_BIRTH"}
    record = make_record([birth, *({"subject_id": 1, "time": t, "code": "DX"} for t in (1, 3))])
    some = extract_timelines(record, make_keys((1, 5), (1, 6)), RECIPE).sequences.take(np.arange(2))
    assert some.time.tolist() == [0, 2, 101, 103]
    assert some.at.tolist() == [4, 106]


def test_progress_counts_shards(make_record: MakeRecord, make_keys: MakeKeys) -> None:
    seen: list[tuple[str, int, int]] = []
    keys = make_keys(*((s, 9) for s in range(20)))
    extract_timelines(ward(make_record, shards=4), keys, RECIPE, progress=lambda *step: seen.append(step))
    assert seen == [("timelines", n, 4) for n in (1, 2, 3, 4)]


def test_keys_that_are_no_keys_are_refused(make_record: MakeRecord) -> None:
    record = make_record([{"subject_id": 1, "time": 0, "code": "DX"}])
    with pytest.raises(InputError, match="keys: column prediction_time is missing"):
        extract_timelines(record, pl.DataFrame({"subject_id": [1]}), RECIPE)
