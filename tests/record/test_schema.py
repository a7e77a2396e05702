"""`conform` accepts what the schema allows and names the row of what it does not; files are read the same way."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from careloop import InputError
from careloop.record import EVENTS, code_matches, conform, read_events


def row(**changes: object) -> pl.DataFrame:
    values: dict[str, object] = {"subject_id": 1, "time": datetime(2020, 1, 1), "code": "A"} | changes
    return pl.DataFrame({name: [value] for name, value in values.items()})


def test_missing_columns_are_null_and_known_time_is_time() -> None:
    rows = conform(row())
    assert rows.schema == EVENTS
    assert rows.row(0, named=True) == dict.fromkeys(EVENTS) | {
        "subject_id": 1,
        "time": datetime(2020, 1, 1, tzinfo=UTC),
        "known_time": datetime(2020, 1, 1, tzinfo=UTC),
        "code": "A",
    }


def test_static_fact_has_neither_time() -> None:
    rows = conform(row(time=None))
    assert rows.select("time", "known_time").row(0) == (None, None)


@pytest.mark.parametrize(
    "given_time",
    [
        datetime(2020, 2, 3, 10, 30, tzinfo=timezone(timedelta(hours=2))),
        datetime(2020, 2, 3, 8, 30),
        "2020-02-03T10:30:00+02:00",
        "2020-02-03T08:30:00Z",
        "2020-02-03T08:30:00.000000",
        "2020-02-03 08:30",
        " 2020-02-03 08:30:00 ",
    ],
)
def test_times_become_utc(given_time: object) -> None:
    assert conform(row(time=given_time))["time"].to_list() == [datetime(2020, 2, 3, 8, 30, tzinfo=UTC)]


def test_dates_become_midnight() -> None:
    midnight = [datetime(2020, 2, 3, tzinfo=UTC)]
    assert conform(row(time=date(2020, 2, 3)))["time"].to_list() == midnight
    assert conform(row(time="2020-02-03"))["time"].to_list() == midnight


def test_one_column_may_mix_ways_of_writing_a_time() -> None:
    mixed = pl.DataFrame({"subject_id": 1, "time": ["2020-01-01", "2020-01-01T00:00:00Z", None], "code": "A"})
    assert conform(mixed)["time"].to_list() == [datetime(2020, 1, 1, tzinfo=UTC)] * 2 + [None]


def test_nan_is_null_and_numbers_are_float32() -> None:
    rows = conform(pl.DataFrame({"subject_id": 1, "time": None, "code": "A", "numeric_value": [0.1, np.nan, None]}))
    assert rows["numeric_value"].to_list() == [float(np.float32(0.1)), None, None]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (row(colour="red"), "unknown column colour; rename or drop it"),
        (row().drop("time"), "missing column time"),
        (row(subject_id=None), "row 1: subject_id must not be null"),
        (row(subject_id="17b"), "row 1: subject_id must be a 64-bit integer"),
        (row(subject_id=1.5), "row 1: subject_id must be a 64-bit integer"),
        (row(subject_id=1e300), "row 1: subject_id must be a 64-bit integer"),
        (row(subject_id=True), "subject_id must be a 64-bit integer, got Boolean"),
        (row().with_columns(subject_id=pl.lit(2**63, dtype=pl.UInt64)), "subject_id must be a 64-bit integer"),
        (row(code=None), "row 1: code must not be empty"),
        (row(code=""), "row 1: code must not be empty"),
        (row(code=["A"]), "code must be text"),
        (row(time=None, known_time=datetime(2020, 1, 1)), "row 1: known_time needs a time"),
        (row(time="31.01.2020"), "row 1: time must be an ISO 8601 date"),
        (row(time="2020-02-30"), "row 1: time must be an ISO 8601 date"),
        (row(time=20200101), "time must be an ISO 8601 date or time .*, got Int64"),
        (row(time=datetime(1849, 12, 31)), "row 1: time must lie between 1850 and 2150"),
        (row(time="2199-01-01"), "row 1: time must lie between 1850 and 2150"),
        (row(known_time=datetime(2151, 1, 1)), "row 1: known_time must lie between 1850 and 2150"),
        (row(numeric_value=1e39), "row 1: numeric_value must fit a 32-bit float"),
        (row(numeric_value=float("-inf")), "row 1: numeric_value must fit a 32-bit float"),
        (row(numeric_value="<5"), "row 1: numeric_value must be a number"),
    ],
)
def test_refused_rows_are_named_in_one_line(frame: pl.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        conform(frame)
    assert "\n" not in str(caught.value)


def test_first_bad_row_and_their_number_are_told() -> None:
    frame = pl.DataFrame({"subject_id": [1, 2, None, None], "time": None, "code": "A"})
    with pytest.raises(InputError, match=r"labs.csv, row 3 \(and 1 more rows\): subject_id must not be null"):
        conform(frame, where="labs.csv")


def test_wild_millisecond_date_does_not_wrap_into_a_plausible_one() -> None:
    # 2**64 microseconds later the wrapped value would again be 2020.
    wild = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1000) + 2**64 // 1000
    frame = row().with_columns(time=pl.lit(wild).cast(pl.Datetime("ms")))
    with pytest.raises(InputError, match="time must lie between 1850 and 2150"):
        conform(frame)


instants = st.datetimes(datetime(1850, 1, 2), datetime(2149, 12, 30))
rows_of_events = st.lists(
    st.tuples(
        st.integers(-(2**63), 2**63 - 1),
        st.none() | instants,
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=5),
        st.none() | st.floats(width=32, allow_infinity=False),
    ),
    max_size=8,
)


@settings(deadline=None)
@given(rows_of_events)
def test_conform_is_idempotent_and_changes_no_value(rows: list[tuple]) -> None:
    schema = {"subject_id": pl.Int64, "time": pl.Datetime("us"), "code": pl.String, "numeric_value": pl.Float32}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    once = conform(frame)
    assert_frame_equal(conform(once), once)
    expected = frame.with_columns(pl.col("time").dt.replace_time_zone("UTC"), pl.col("numeric_value").fill_nan(None))
    assert_frame_equal(once.select(list(schema)), expected)


def test_code_matches_exact_codes_and_prefixes() -> None:
    frame = pl.DataFrame({"code": ["ICD10//K74", "ICD10//K74.6", "LOINC//1", "LOINC//12", None]})

    def matched(*codes: str) -> list[str]:
        return frame.filter(code_matches(codes))["code"].to_list()

    assert matched("LOINC//1") == ["LOINC//1"]
    assert matched("ICD10//K74*", "LOINC//12") == ["ICD10//K74", "ICD10//K74.6", "LOINC//12"]
    assert matched("*") == ["ICD10//K74", "ICD10//K74.6", "LOINC//1", "LOINC//12"]
    assert matched() == []


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "ndjson", "parquet"])
def test_events_are_read_alike_from_every_format(events: pl.DataFrame, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"patients.{suffix}"
    as_text = events.with_columns(pl.col("time", "known_time").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    write = {
        "csv": as_text.write_csv,
        "json": as_text.write_json,
        "jsonl": as_text.write_ndjson,
        "ndjson": as_text.write_ndjson,
        "parquet": events.write_parquet,
    }
    write[suffix](path)
    assert_frame_equal(read_events(path), events)


def test_unreadable_files_are_refused_in_one_line_without_their_content(tmp_path: Path, events: pl.DataFrame) -> None:
    whole = tmp_path / "whole.parquet"
    events.write_parquet(whole)
    contents = {
        "cut.parquet": whole.read_bytes()[:-100],
        "empty.parquet": b"",
        "ragged.csv": b"subject_id,time,code\n1,2020-01-01,A\n2,2020-01-01,B,Smith\n",
        "empty.csv": b"",
        "cut.json": b'[{"subject_id": 1, "time": "Smith"',
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: not a readable") as caught:
            read_events(tmp_path / name)
        assert "Smith" not in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"absent.csv: no such file"):
        read_events(tmp_path / "absent.csv")
    with pytest.raises(InputError, match=r"are read from .csv, .json"):
        read_events(tmp_path / "patients.xlsx")


def test_csv_error_names_file_and_row(tmp_path: Path) -> None:
    path = tmp_path / "labs.csv"
    path.write_text("subject_id,time,code,numeric_value\n1,2020-01-01,A,1\n2,2020-01-01,A,high\n")
    with pytest.raises(InputError, match=r"labs.csv, row 2: numeric_value must be a number"):
        read_events(path)
