"""MEDS in and out: valid by the `meds` package's own schemas, nothing lost unsaid, nothing doubled."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import meds
import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from careloop import InputError
from careloop.record import Record, conform, export_meds, import_meds, unplaced_values

HELD_OUT = [5, 9]


def write_meds(folder: Path, data: dict[str, pl.DataFrame]) -> Path:
    """A dataset as MEDS 0.4 asks: naive times, data files in subfolders, metadata."""
    (folder / "metadata").mkdir(parents=True)
    (folder / "metadata" / "dataset.json").write_text(json.dumps({"dataset_name": "clinic"}))
    for name, rows in data.items():
        (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        rows.write_parquet(folder / "data" / name)
    return folder


@pytest.fixture
def rows() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "subject_id": [1, 1, 2, 2],
            "time": ["2020-01-01", "2020-02-01", None, "2020-03-01"],
            "code": ["MEDS_BIRTH", "LOINC//1", "SEX", "LOINC//1"],
            "numeric_value": [None, 1.5, None, 2.5],
            "text_value": [None, None, "F", None],
        },
        schema_overrides={"numeric_value": pl.Float32},
    ).with_columns(pl.col("time").str.to_datetime("%Y-%m-%d", time_unit="us"))


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
    with warnings.catch_warnings(action="error"):
        back = import_meds(tmp_path / "meds", Record.create(tmp_path / "back", shards=3))
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


def test_import_twice_changes_nothing(record: Record, rows: pl.DataFrame, tmp_path: Path) -> None:
    path = write_meds(tmp_path / "m", {"train/0.parquet": rows[:2], "held_out/0.parquet": rows[2:]})
    splits = pl.DataFrame({"subject_id": [1, 2], "split": ["train", "held_out"]})
    splits.write_parquet(path / "metadata" / "subject_splits.parquet")
    told: list[tuple] = []
    once = import_meds(path, record, progress=lambda *state: told.append(state))
    assert told == [("MEDS files", 0, 2), ("MEDS files", 1, 2)]
    stored = once.events().filter(~pl.col("code").str.starts_with("CARELOOP//")).collect()
    assert_frame_equal(
        stored.select(rows.columns).with_columns(pl.col("time").dt.replace_time_zone(None)).sort(pl.all()),
        rows.sort(pl.all()),
    )
    assert sorted(once.events(codes=["CARELOOP//SPLIT//train"]).collect()["subject_id"]) == [1]
    assert import_meds(path, once) == once


def test_newer_export_supersedes_the_older_however_it_is_divided(
    record: Record, rows: pl.DataFrame, tmp_path: Path
) -> None:
    old = write_meds(tmp_path / "old", {"0.parquet": rows[:2], "1.parquet": rows[2:]})
    newer = rows.with_columns(numeric_value=pl.col("numeric_value") * 2)
    new = write_meds(tmp_path / "new", {"all.parquet": newer})
    record = import_meds(new, import_meds(old, record))
    values = record.events().select("numeric_value").collect()["numeric_value"].drop_nulls()
    assert sorted(values) == [3.0, 5.0]


def test_columns_without_a_place_are_counted_and_told(record: Record, rows: pl.DataFrame, tmp_path: Path) -> None:
    wide = rows.with_columns(unit=pl.lit("mg"), priority=pl.Series(["high", None, "low", None]))
    path = write_meds(tmp_path / "m", {"0.parquet": wide[:2], "1.parquet": wide[2:]})
    codes = pl.DataFrame({"code": ["SEX", "SEX"], "description": ["sex", "again"], "itemid": [7, 7]})
    codes.write_parquet(path / "metadata" / "codes.parquet")
    with pytest.warns(UserWarning, match=r"left out: itemid \(2 values\), priority \(2 values\)"):
        record = import_meds(path, record)
    assert unplaced_values(path) == {"itemid": 2, "priority": 2}
    assert set(record.events().collect()["unit"]) == {"mg"}
    assert record.code_metadata().select("code", "description").rows() == [("SEX", "sex")]


def test_what_is_no_meds_dataset_is_refused(record: Record, rows: pl.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no MEDS dataset"):
        import_meds(tmp_path, record)
    path = write_meds(tmp_path / "m", {"0.parquet": rows, "1.parquet": rows.drop("code")})
    with pytest.raises(InputError, match=r"1.parquet: missing column code"):
        import_meds(path, record)
    cut = path / "data" / "1.parquet"
    cut.write_bytes((path / "data" / "0.parquet").read_bytes()[:-20])
    with pytest.raises(InputError, match=r"1.parquet: not a readable parquet file"):
        import_meds(path, record)
