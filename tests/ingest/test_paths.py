"""Files of each format enter the record once, and a file that cannot be read is named."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from careloop import InputError
from careloop.ingest import ingest_paths
from careloop.record import Record, export_meds

CSV = "subject_id,time,code,numeric_value\n1,1980-05-01,MEDS_BIRTH,\n1,2020-01-01T08:30:00Z,LAB,4.5\n2,,SEX//F,\n"


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    (tmp_path / "events.csv").write_text(CSV)
    return tmp_path / "events.csv"


def rows(record: Path) -> pl.DataFrame:
    events = Record.open(record).events().collect()
    return events.sort(events.columns)


def test_a_file_is_taken_in_once_under_any_name(csv: Path, tmp_path: Path) -> None:
    first = ingest_paths("events", [csv], tmp_path / "record")
    (tmp_path / "copy.csv").write_text(CSV)
    second = ingest_paths("events", [csv, tmp_path / "copy.csv"], tmp_path / "record")
    assert first.record_version == second.record_version == 1
    assert (first.events_added, second.events_added, second.delivered_before) == (3, 0, True)
    assert rows(tmp_path / "record").height == 3
    assert rows(tmp_path / "record")["numeric_value"].drop_nulls().to_list() == [4.5]


def test_each_file_is_a_commit_and_formats_agree(csv: Path, tmp_path: Path) -> None:
    table = pl.read_csv(csv)
    table.write_parquet(tmp_path / "events.parquet")
    (tmp_path / "events.json").write_text(json.dumps(table.to_dicts()))
    for kind in ("csv", "json", "parquet"):
        ingest_paths("events", [tmp_path / f"events.{kind}"], tmp_path / kind)
    assert rows(tmp_path / "csv").equals(rows(tmp_path / "json"))
    assert rows(tmp_path / "csv").equals(rows(tmp_path / "parquet"))
    (tmp_path / "more.csv").write_text("subject_id,time,code\n3,2021-01-01,DX\n")
    both = [csv, tmp_path / "more.csv"]
    version = ingest_paths("events", both, tmp_path / "csv").record_version
    assert Record.open(tmp_path / "csv").facts_version == 2  # and a compaction
    assert ingest_paths("events", both, tmp_path / "csv").record_version == version


def test_meds_out_and_in_again_gives_the_same_events(csv: Path, tmp_path: Path) -> None:
    ingest_paths("events", [csv], tmp_path / "record")
    export_meds(Record.open(tmp_path / "record"), tmp_path / "meds")
    back = ingest_paths("meds", [tmp_path / "meds"], tmp_path / "back")
    assert rows(tmp_path / "back").drop("source").equals(rows(tmp_path / "record").drop("source"))
    again = ingest_paths("meds", [tmp_path / "meds"], tmp_path / "back")
    assert (again.record_version, again.delivered_before) == (back.record_version, True)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "subject_id,time,kode\n1,2020-01-01,A\n",
            r"events\.csv: unknown column kode; rename or drop it \(allowed: sub",
        ),
        ("subject_id,time\n1,2020-01-01\n", r"events\.csv: missing column code; add it"),
        ("subject_id,time,code\n1,2020-01-01,A\n1,1020-01-01,A\n", r"row 2: time must lie between 1850 and 2150"),
        ("subject_id,time,code\n1,2020-02-30,A\n", r"row 1: time must be an ISO 8601 date or time"),
        ("subject_id,time,code\nx1,2020-01-01,A\n", r"row 1: subject_id must be a 64-bit integer"),
        ("", r"events\.csv: not a readable csv file \(empty, cut off or malformed\)"),
    ],
)
def test_a_bad_file_is_named_with_its_row(csv: Path, tmp_path: Path, text: str, told: str) -> None:
    csv.write_text(text)
    with pytest.raises(InputError, match=told) as caught:
        ingest_paths("events", [csv], tmp_path / "record")
    assert "\n" not in str(caught.value)
    assert Record.open(tmp_path / "record").version == 0


def test_files_before_a_bad_one_stay(csv: Path, tmp_path: Path) -> None:
    pl.read_csv(csv).write_parquet(tmp_path / "cut.parquet")
    whole = (tmp_path / "cut.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.parquet: not a readable parquet file .*export it again"):
        ingest_paths("events", [csv, tmp_path / "cut.parquet"], tmp_path / "record")
    assert rows(tmp_path / "record").height == 3
    (tmp_path / "cut.parquet").write_bytes(whole)
    ingest_paths("events", [csv, tmp_path / "cut.parquet"], tmp_path / "record")
    assert Record.open(tmp_path / "record").facts_version == 2


def test_unknown_format_and_missing_file_say_what_to_do(csv: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"format must be one of fhir, .*, events, got excel"):
        ingest_paths("excel", [csv], tmp_path / "record")
    assert not (tmp_path / "record").exists()
    with pytest.raises(InputError, match=r"none\.csv: no such file; check the path"):
        ingest_paths("events", [tmp_path / "none.csv"], tmp_path / "record")
