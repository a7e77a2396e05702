"""MEDS out: valid by the `meds` package's own schemas, and the same events when it comes in again."""

from __future__ import annotations

import json
from pathlib import Path

import meds
import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from careloop import InputError
from careloop.ingest import ingest_paths
from careloop.record import Record, conform, export_meds

HELD_OUT = [5, 9]


def facts(record: Record) -> pl.DataFrame:
    return record.events().collect().sort(pl.all())


def test_export_is_valid_meds(record: Record, events: pl.DataFrame, tmp_path: Path) -> None:
    split = conform(pl.DataFrame({"subject_id": HELD_OUT, "time": None, "code": "CARELOOP//SPLIT//held_out"}))
    record = record.append(events, key="first").append(split, key="split")
    record.describe_codes(pl.DataFrame({"code": ["SEX", "UNUSED"], "description": ["sex at birth", "never seen"]}))
    out = tmp_path / "meds"
    export_meds(record, out)
    seen: set[int] = set()
    for file in sorted((out / "data").rglob("*.parquet")):
        table = pq.read_table(file)
        meds.DataSchema.validate(table)
        subjects = pl.from_arrow(table)["subject_id"]
        assert subjects.rle().len() == subjects.n_unique(), "a subject's rows lie together"
        assert seen.isdisjoint(subjects), "a subject is in one file only"
        seen.update(subjects)
    assert seen == set(events["subject_id"])
    codes = pq.read_table(out / meds.code_metadata_filepath)
    meds.CodeMetadataSchema.validate(codes)
    assert codes["code"].to_pylist() == ["LOINC//2160-0", "SEX"], "every code of the data, and no other"
    splits = pq.read_table(out / meds.subject_splits_filepath)
    meds.SubjectSplitSchema.validate(splits)
    assert splits.to_pylist() == [{"subject_id": number, "split": "held_out"} for number in HELD_OUT]
    meds.DatasetMetadataSchema.validate(json.loads((out / meds.dataset_metadata_filepath).read_text()))


def test_round_trip_keeps_every_column(record: Record, events: pl.DataFrame, tmp_path: Path) -> None:
    record = record.append(events, key="first")
    record.describe_codes(pl.DataFrame({"code": ["SEX"], "parent_codes": [["X"]], "plausible_low": [0.5]}))
    export_meds(record, tmp_path / "meds")
    summary = ingest_paths("meds", [tmp_path / "meds"], tmp_path / "back")
    assert (summary.counts.rows_kept, summary.counts.rows_rejected) == (events.height, 0)
    back = Record.open(tmp_path / "back")
    assert_frame_equal(facts(back), facts(record))
    assert back.code_metadata().filter(code="SEX").equals(record.code_metadata())


def test_export_is_the_same_every_time(record: Record, events: pl.DataFrame, tmp_path: Path) -> None:
    record = record.append(events[::2], key="first").append(events[1::2], key="second")
    export_meds(record, tmp_path / "one")
    export_meds(record, tmp_path / "two")
    files = [file.relative_to(tmp_path / "one") for file in (tmp_path / "one").rglob("*") if file.is_file()]
    assert len(files) > 3
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)
    with pytest.raises(InputError, match="is not empty"):
        export_meds(record, tmp_path / "one")
