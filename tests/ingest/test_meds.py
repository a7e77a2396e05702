"""MEDS as sources: its events as they are, whole subjects, newer exports, and rejects instead of crashes."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from careloop import InputError
from careloop.ingest import ingest_paths, meds
from careloop.ingest.delivery import Batch
from careloop.ingest.meds import meds_sources
from careloop.record import EVENTS, Record, conform

TIMES = [datetime(2020, 1, 1), datetime(2020, 2, 1), None, datetime(2020, 3, 1), datetime(2020, 3, 1)]


@pytest.fixture
def rows() -> pl.DataFrame:
    """Three subjects with the columns that MEDS names, and two that careloop adds."""
    return pl.DataFrame(
        {
            "subject_id": [1, 1, 2, 2, 3],
            "time": TIMES,
            "code": ["MEDS_BIRTH", "LOINC//1", "SEX", "LOINC//1", "LOINC//1"],
            "numeric_value": pl.Series([None, 1.5, None, 2.5, float("nan")], dtype=pl.Float32),
            "text_value": [None, None, "F", None, "?"],
            "unit": [None, "mg", None, "mg", None],
            "source": [None, None, None, None, "lab//7"],
        }
    )


def write(folder: Path, **files: pl.DataFrame) -> Path:
    (folder / "metadata").mkdir(parents=True, exist_ok=True)
    (folder / "data").mkdir(exist_ok=True)
    (folder / "metadata" / "dataset.json").write_text(json.dumps({"dataset_name": "clinic"}))
    for name, frame in files.items():
        place = "metadata" if name in {"codes", "subject_splits"} else "data"
        frame.write_parquet(folder / place / f"{name}.parquet")
    return folder


def read(folder: Path) -> dict[str, list[Batch]]:
    """The batches of each source, which account for every row."""
    found = {source.name: list(source.read()) for source in meds_sources(folder)}
    for batch in (batch for batches in found.values() for batch in batches):
        rows_skipped = sum(count for reason, count in batch.skipped.items() if not reason.startswith("column "))
        assert batch.rows_read == batch.rows_kept + len(batch.rejected) + rows_skipped
        assert batch.events.height == batch.rows_kept
        assert batch.events.schema == EVENTS
    return found


def events_of(found: dict[str, list[Batch]]) -> pl.DataFrame:
    return pl.concat([EVENTS.to_frame(), *(batch.events for batches in found.values() for batch in batches)])


def test_events_codes_and_splits(rows: pl.DataFrame, tmp_path: Path) -> None:
    splits = pl.DataFrame({"subject_id": [1, 2], "split": ["train", "held_out"]})
    codes = pl.DataFrame({"code": ["SEX", "SEX"], "description": ["sex", "again"], "parent_codes": [["X"], None]})
    path = write(tmp_path / "m", a=rows[:2], b=rows[2:], codes=codes, subject_splits=splits)
    found = read(path)
    assert list(found) == [
        "data/a.parquet",
        "data/b.parquet",
        "metadata/subject_splits.parquet",
        "metadata/codes.parquet",
    ]
    events = events_of(found).with_columns(known_time=pl.coalesce("known_time", "time"))
    named = rows.with_columns(source=pl.coalesce("source", pl.format("MEDS//clinic//{}", "subject_id")))
    static = splits.select(
        "subject_id",
        time=pl.lit(None, dtype=EVENTS["time"]),
        code=pl.format("CARELOOP//SPLIT//{}", "split"),
        source=pl.format("MEDS//clinic//split//{}", "subject_id"),
    )
    expected = pl.concat([conform(named), conform(static)])
    assert_frame_equal(events.sort(pl.all()), expected.sort(pl.all()))
    described = found["metadata/codes.parquet"][0].codes
    assert described.rows() == [("SEX", "sex", ["X"])]
    assert described.columns == ["code", "description", "parent_codes"]


def test_a_newer_export_supersedes_the_older_however_it_is_divided(rows: pl.DataFrame, tmp_path: Path) -> None:
    old = write(tmp_path / "old", a=rows[:2], b=rows[2:])
    newer = rows.filter(pl.col("subject_id") != 3).with_columns(numeric_value=pl.col("numeric_value") * 2)
    new = write(tmp_path / "new", a=newer)
    for path in (old, new):
        ingest_paths("meds", [path], tmp_path / "record")
    stored = Record.open(tmp_path / "record").events().collect()
    assert sorted(stored["numeric_value"].drop_nulls()) == [3.0, 5.0]
    assert stored.height == rows.height


@pytest.mark.parametrize("is_sorted", [True, False])
def test_a_subject_is_in_one_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_sorted: bool) -> None:
    monkeypatch.setattr(meds, "BATCH_ROWS", 10)
    subjects = pl.Series([*[4] * 3, *[1] * 25, *[2] * 8, *[7] * 15, *range(20, 40)])
    frame = (
        pl.DataFrame({"subject_id": subjects, "code": "A"})
        .with_columns(time=pl.lit(TIMES[0]))
        .with_row_index("numeric_value")
    )
    path = write(tmp_path, a=frame if is_sorted else frame.sample(fraction=1, shuffle=True, seed=1))
    batches = read(path)["data/a.parquet"]
    held = Counter(subject for batch in batches for subject in batch.events["subject_id"].unique())
    assert set(held.values()) == {1}
    assert sorted(events_of({"a": batches})["numeric_value"]) == list(range(frame.height))
    assert len(batches) > 5
    assert max(batch.rows_read for batch in batches) <= 35


def test_columns_without_a_place_are_counted(rows: pl.DataFrame, tmp_path: Path) -> None:
    wide = rows.with_columns(priority=pl.Series(["high", None, "low", None, None]))
    path = write(tmp_path, a=wide, codes=pl.DataFrame({"code": ["SEX"], "itemid": [7]}))
    found = read(path)
    assert found["data/a.parquet"][0].skipped == {"column priority: no place in the record": 2}
    assert found["metadata/codes.parquet"][0].skipped == {"column itemid: no place in the record": 1}
    assert sum(batch.rows_kept for batch in found["data/a.parquet"]) == 5


def test_rows_that_do_not_fit_are_rejects(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "subject_id": ["1", "1", None, "x", "2", "2", "2"],
            "time": ["2020-01-01", "2020-01-01T10:00:00Z", "2020", "2020-01-01", "never", None, "2020-01-01"],
            "known_time": [None, None, None, None, None, "2020-01-01", None],
            "code": ["A", None, "A", "A", "A", "A", "A"],
            "numeric_value": ["1", "2", "3", "4", "5", "6", "high"],
        }
    )
    (batches,) = read(write(tmp_path, a=frame)).values()
    rejected = [(reject.place, reject.reason) for batch in batches for reject in batch.rejected]
    assert rejected == [
        ("data/a.parquet row 2", "code is missing"), ("data/a.parquet row 3", "time is no time"),
        ("data/a.parquet row 4", "subject_id is no number"), ("data/a.parquet row 5", "time is no time"),
        ("data/a.parquet row 6", "known_time without time"), ("data/a.parquet row 7", "numeric_value is no number"),
    ]  # fmt: skip
    assert json.loads(batches[0].rejected[0].raw)["numeric_value"] == "2"


def test_times_beyond_the_calendar_are_rejects(tmp_path: Path) -> None:
    wild = pl.Series("time", [0, 2**62, -(2**62)], dtype=pl.Int64).cast(pl.Datetime("us"))
    frame = pl.DataFrame({"subject_id": [1, 2, 3], "code": "A", "time": wild})
    for unit in ("ms", "us", "ns"):
        path = write(tmp_path / unit, a=frame.with_columns(pl.col("time").to_physical().cast(pl.Datetime(unit))))
        events = events_of(read(path))
        assert events["subject_id"].to_list() == ([1] if unit != "ns" else [1, 2, 3])


def test_files_that_cannot_be_read(rows: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no MEDS dataset"):
        meds_sources(tmp_path)
    path = write(tmp_path, a=rows, b=rows.drop("code"), codes=pl.DataFrame({"kode": [1]}), subject_splits=rows)
    whole = (path / "data" / "a.parquet").read_bytes()
    (path / "data" / "c.parquet").write_bytes(whole[:-20])
    reasons = {name: [r.reason for batch in batches for r in batch.rejected] for name, batches in read(path).items()}
    assert reasons == {
        "data/a.parquet": [],
        "data/b.parquet": ["the file has no column code"],
        "data/c.parquet": ["no readable MEDS parquet file from here on"],
        "metadata/subject_splits.parquet": ["the file has no columns subject_id and split"],
        "metadata/codes.parquet": ["the file has no column code"],
    }
    (path / "metadata" / "dataset.json").write_text("[]")
    with pytest.raises(InputError, match="no readable JSON object"):
        meds_sources(path)


VALUES: list[Any] = [
    None, 1, -1, 2**62, 1.5, float("inf"), "", "x", "2020-01-01", True, b"\xff",
    [1], {"a": 1}, date(2020, 1, 1), datetime(2020, 1, 1), datetime(2020, 1, 1, tzinfo=UTC), timedelta(1),
]  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(
    columns=st.dictionaries(
        st.sampled_from([*EVENTS, "more"]), st.tuples(st.sampled_from(VALUES), st.booleans()), min_size=2
    )
)
def test_any_table_gives_events_or_rejects(
    tmp_path_factory: pytest.TempPathFactory, columns: dict[str, tuple[Any, bool]]
) -> None:
    base: dict[str, Any] = {"subject_id": [1, 1], "time": [datetime(2020, 1, 1)] * 2, "code": ["A", "A"]}
    table = base | {name: [value, None if with_null else value] for name, (value, with_null) in columns.items()}
    read(
        write(
            tmp_path_factory.mktemp("fuzz"),
            a=pl.DataFrame(table),
            codes=pl.DataFrame(table),
            subject_splits=pl.DataFrame(table),
        )
    )


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_one_reject(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = write(tmp_path_factory.mktemp("fuzz"))
    for place in ("data/a", "metadata/codes", "metadata/subject_splits"):
        (folder / f"{place}.parquet").write_bytes(content)
    assert all(len(batch.rejected) == 1 for batches in read(folder).values() for batch in batches)
