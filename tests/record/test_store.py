"""A record keeps what was appended, once, and every version stays as it was."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from careloop import InputError
from careloop.record import EVENTS, Record
from careloop.record.delta import fingerprint


def all_rows(record: Record) -> pl.DataFrame:
    return record.events().collect().sort(pl.all())


def test_appended_events_come_back(record: Record, events: pl.DataFrame) -> None:
    after = record.append(events, key="first")
    assert_frame_equal(all_rows(after), events.sort(pl.all()))
    assert all_rows(record).height == 0, "the older version stays empty"
    assert after.version == record.version + 1
    assert Record.open(record.path) == after


def test_each_shard_holds_its_subjects_in_order(record: Record, events: pl.DataFrame) -> None:
    record = record.append(events, key="first")
    for shard in range(record.shards):
        rows = record.events(shard).collect()
        assert (rows["subject_id"] % 4 == shard).all(), "negative ids too"
        assert_frame_equal(rows, rows.sort("subject_id", "time", maintain_order=True))
    assert sum(record.events(shard).collect().height for shard in range(record.shards)) == events.height
    with pytest.raises(InputError, match="shard must be 0 to 3"):
        record.events(4)


def test_same_key_twice_changes_nothing_in_whatever_order_the_rows_come(record: Record, events: pl.DataFrame) -> None:
    once = record.append(events, key="first")
    assert once.append(events.sample(fraction=1, shuffle=True, seed=1).lazy(), key="first") == once


def test_same_key_with_other_rows_is_refused(record: Record, events: pl.DataFrame) -> None:
    record = record.append(events, key="first")
    for other in (events[1:], events.with_columns(numeric_value=pl.col("numeric_value") + 1), pl.concat([events] * 2)):
        with pytest.raises(InputError, match="'first' was committed before with other rows; give changed rows a new"):
            record.append(other, key="first")
    assert Record.open(record.path) == record


def test_codes_select_events(record: Record, events: pl.DataFrame) -> None:
    record = record.append(events, key="first")
    assert set(record.events(codes=["LOINC//*"]).collect()["code"]) == {"LOINC//2160-0"}
    assert record.events(codes=["SEX"]).collect().height == 6


def test_supersede_replaces_rows_of_the_same_source_only(record: Record, events: pl.DataFrame) -> None:
    first = record.append(events, key="first")
    # The correction also moves the fact to another subject, hence to another shard.
    new = events.filter(source="labs.csv:7").with_columns(subject_id=pl.lit(77), numeric_value=pl.lit(1.0))
    added = events[:1].with_columns(source=pl.lit("labs.csv:99"))
    second = first.supersede(pl.concat([new.cast(EVENTS), added]), key="second")
    expected = pl.concat([events.filter(pl.col("source") != "labs.csv:7"), new.cast(EVENTS), added]).sort(pl.all())
    assert_frame_equal(all_rows(second), expected)
    for file in (record.path / "events").glob("shard=*/*.parquet"):
        kept = pl.read_parquet(file, glob=False)
        assert_frame_equal(kept, kept.sort("subject_id", "time", maintain_order=True))
    assert_frame_equal(all_rows(first), events.sort(pl.all()))
    assert second.version == first.version + 1, "one commit"
    assert second.supersede(pl.concat([new.cast(EVENTS), added]), key="second") == second
    with pytest.raises(InputError, match="every row needs a source"):
        second.supersede(events.with_columns(source=None), key="third")


def test_compaction_keeps_rows_order_and_older_versions(record: Record, events: pl.DataFrame) -> None:
    for number in range(3):
        record = record.append(events[number::3], key=f"part {number}")
    compacted = record.compact()
    assert_frame_equal(all_rows(compacted), events.sort(pl.all()))
    for shard in range(4):
        rows = compacted.events(shard).collect()
        assert_frame_equal(rows, rows.sort("subject_id", "time", maintain_order=True))
    table = DeltaTable(compacted.path / "events")
    assert len(table.file_uris()) == (events["subject_id"] % 4).n_unique()
    assert compacted.compact() == compacted, "nothing left to do makes no version"
    assert_frame_equal(all_rows(Record.open(record.path, version=1)), events[0::3].sort(pl.all()))
    assert compacted.append(events[0::3], key="part 0") == compacted, "keys outlive compaction"


def test_version_pinned_before_a_compaction_reads_the_compacted_files(record: Record, events: pl.DataFrame) -> None:
    pinned = record.append(events[::2], key="a").append(events[1::2], key="b")
    compacted = pinned.compact()
    compacted.append(events[:1], key="c")
    again = Record.open(record.path, version=pinned.version)
    assert (compacted.facts_version, again.facts_version) == (pinned.version, pinned.version)
    plan = again.events(0).explain()
    assert plan.count(".parquet") == compacted.events(0).explain().count(".parquet") == 1
    assert_frame_equal(all_rows(again), events.sort(pl.all()))


def test_facts_version_passes_over_what_careloop_wrote_and_compaction(record: Record, events: pl.DataFrame) -> None:
    assert record.facts_version == 0
    facts = record.append(events[:6], key="a").append(events[6:], key="b")
    verdict = events[:1].with_columns(code=pl.lit("CARELOOP//VERDICT"))
    later = facts.append(verdict, key="c", origin="careloop").compact()
    assert (facts.facts_version, later.version, later.facts_version) == (2, 4, 2)
    assert Record.open(record.path, version=1).facts_version == 1
    corrected = later.supersede(events[:1], key="d")
    assert corrected.facts_version == 5
    # Another Delta tool that only rearranges the table does not change the facts either.
    DeltaTable(record.path / "events").optimize.compact()
    assert Record.open(record.path).version == 6
    assert Record.open(record.path).facts_version == 5


def test_facts_version_and_keys_are_found_beyond_a_checkpoint(record: Record, events: pl.DataFrame) -> None:
    facts = record.append(events, key="facts")
    later = facts.append(events[:1], key="prediction", origin="careloop")
    DeltaTable(record.path / "events").create_checkpoint()
    later = later.append(events[1:2], key="another prediction", origin="careloop")
    assert (later.version, later.facts_version) == (3, facts.version)
    assert later.append(events, key="facts") == later


def test_timeline_is_one_subjects_events_as_known(record: Record, events: pl.DataFrame) -> None:
    record = record.append(events[9:], key="a").append(events[:9], key="b")
    whole = record.timeline(5)
    assert whole["time"].to_list() == [None, datetime(2020, 1, 1, 8, tzinfo=UTC), datetime(2020, 1, 7, 8, tzinfo=UTC)]
    # The value of 1 January came in on the 8th.
    assert record.timeline(5, as_of=datetime(2020, 1, 7, 9, tzinfo=UTC))["numeric_value"].to_list() == [None, 86.5]
    assert record.timeline(-3).height == 3
    assert record.timeline(1234).height == 0
    with pytest.raises(InputError, match="as_of needs a time zone"):
        record.timeline(5, as_of=datetime(2020, 1, 7))


def test_records_made_of_the_same_batches_give_the_same_rows_in_the_same_order(
    record: Record, events: pl.DataFrame, tmp_path: Path
) -> None:
    other = Record.create(tmp_path / "other", shards=4)
    corrected = events[3:5].with_columns(unit=pl.lit("mg/dL"))
    for number in range(4):
        record = record.append(events[number::4], key=str(number))
        other = other.append(events[number::4].reverse(), key=str(number))
    record, other = record.supersede(corrected, key="c"), other.supersede(corrected, key="c")
    assert_frame_equal(record.events().collect(), other.events().collect())
    record, other = record.compact().append(events, key="d"), other.compact().append(events, key="d")
    assert_frame_equal(record.events().collect(), other.events().collect())


def test_relative_paths_and_other_time_zones_work(
    events: pl.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    record = Record.create("here").append(events, key="a").supersede(events[:2], key="b").compact()
    assert_frame_equal(all_rows(record), events.sort(pl.all()))
    tokyo = timezone(timedelta(hours=9))
    assert record.timeline(2, as_of=datetime(2020, 1, 2, 17, tzinfo=tokyo)).height == 2
    assert record.timeline(2, as_of=datetime(2020, 1, 2, 16, 59, tzinfo=tokyo)).height == 1


def test_other_engines_read_the_same_rows(tmp_path: Path, events: pl.DataFrame) -> None:
    # scan_delta of polars 2.1 cannot open a path with a blank, so not the record of the other tests.
    record = Record.create(tmp_path / "record").append(events, key="first")
    through_delta = pl.scan_delta(str(record.path / "events")).drop("shard", "source_time").collect().sort(pl.all())
    assert_frame_equal(through_delta, events.sort(pl.all()))


def test_record_travels_to_worker_processes(record: Record, events: pl.DataFrame) -> None:
    record = record.append(events, key="first")
    record.events().collect()
    assert pickle.loads(pickle.dumps(record)) == record
    assert pickle.loads(pickle.dumps(record)).timeline(5).equals(record.timeline(5))


def test_codes_table_gathers_what_is_told_about_a_code(record: Record) -> None:
    record.describe_codes(pl.DataFrame({"code": ["B", "A"], "unit": ["mg/dL", None]}))
    record.describe_codes(
        pl.DataFrame({"code": ["A", "B"], "description": ["first", None], "plausible_low": [None, 1]})
    )
    assert record.code_metadata().rows() == [
        ("A", "first", None, None, None, None),
        ("B", None, None, "mg/dL", 1.0, None),
    ]
    with pytest.raises(InputError, match="unknown column colour"):
        record.describe_codes(pl.DataFrame({"code": ["A"], "colour": ["red"]}))
    with pytest.raises(InputError, match="every code must be given, and once"):
        record.describe_codes(pl.DataFrame({"code": ["A", "A"]}))


def test_folders_that_are_no_record_are_refused(tmp_path: Path, record: Record) -> None:
    with pytest.raises(InputError, match="is no record"):
        Record.open(tmp_path / "absent")
    with pytest.raises(InputError, match="is a record already"):
        Record.create(record.path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").touch()
    with pytest.raises(InputError, match="is not empty"):
        Record.create(tmp_path / "full")
    with pytest.raises(InputError, match="no version 7; the record has versions 0 to 0"):
        Record.open(record.path, version=7)
    with pytest.raises(InputError, match="shards must be at least 1"):
        Record.create(tmp_path / "none", shards=0)


def test_newer_format_and_broken_settings_are_refused(record: Record) -> None:
    settings = record.path / "record.json"
    settings.write_text(json.dumps({"format_version": 3, "shards": 4}))
    with pytest.raises(InputError, match="upgrade careloop"):
        Record.open(record.path)
    settings.write_text(json.dumps({"format_version": 1, "shards": 4}))
    with pytest.raises(InputError, match=r"of an earlier careloop .* into a new record"):
        Record.open(record.path)
    settings.write_text("{")
    with pytest.raises(InputError, match=r"record.json: unreadable; restore"):
        Record.open(record.path)


def test_creation_that_died_half_way_is_taken_up(record: Record, events: pl.DataFrame) -> None:
    (record.path / "record.json").unlink()
    again = Record.create(record.path, shards=2).append(events, key="first")
    assert again.shards == 2
    assert_frame_equal(all_rows(again), events.sort(pl.all()))


def test_cut_off_and_missing_files_are_named(record: Record, events: pl.DataFrame) -> None:
    record = record.append(events, key="first")
    file = sorted((record.path / "events").glob("shard=*/*.parquet"))[0]
    content = file.read_bytes()
    file.write_bytes(content[:-50])
    with pytest.raises(
        InputError, match=f"{file.name} has {len(content) - 50} bytes instead of {len(content)}; restore"
    ):
        record.events()
    file.write_bytes(b"x" * len(content))
    with pytest.raises(InputError, match="cannot be read"):
        record.timeline(8)
    file.unlink()
    with pytest.raises(InputError, match="is missing; restore this file"):
        Record.open(record.path).events()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.none() | st.text("ab\0é", max_size=3)), max_size=5))
def test_fingerprint_tells_rows_apart(rows: list[tuple]) -> None:
    def number(rows: list[tuple]) -> int:
        return fingerprint(pl.DataFrame(rows, schema={"a": pl.Int64, "b": pl.String}, orient="row"))

    assert number(rows) == number(list(rows))
    assert 0 <= number(rows) < 2**63
    assert number([*rows, (0, None)]) != number(rows)
    assert number([*rows, (0, None)]) != number([*rows, (0, "")])
    assert number([*rows, (0, "a"), (0, "b")]) != number([*rows, (0, "ab"), (0, "")])


def test_fingerprint_is_of_these_bytes_in_every_release() -> None:
    """A retry after an upgrade must find its commit, so the layout is part of the format."""
    layout = (
        *(b"a", struct.pack("<Q", 2), b"\0\1", struct.pack("<2q", 1, 0)),
        *(b"b", struct.pack("<Q", 2), b"\0\1", struct.pack("<2I", 2, 0), "é".encode()),
        *(b"c", struct.pack("<Q", 2), b"\0\0", struct.pack("<2f", 0.5, -1)),
        *(b"d", struct.pack("<Q", 2), b"\0\1", struct.pack("<2q", 1_000_000, 0)),
    )
    schema = {"a": pl.Int64, "b": pl.String, "c": pl.Float32, "d": pl.Datetime("us", "UTC")}
    rows = [(1, "é", 0.5, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)), (None, None, -1.0, None)]
    digest = hashlib.blake2b(b"".join(layout), digest_size=8).digest()
    assert fingerprint(pl.DataFrame(rows, schema=schema, orient="row")) == struct.unpack("<Q", digest)[0] // 2


def test_rewrite_changes_events_in_one_commit_and_keeps_the_versions_of_their_sources(
    record: Record, events: pl.DataFrame
) -> None:
    before = record.append(events, key="first")

    def doubled(shard: int, rows: pl.DataFrame) -> pl.DataFrame | None:
        return None if shard == 0 else rows.with_columns(pl.col("numeric_value") * 2)

    after = before.rewrite(doubled, key="double")
    assert after.rewrite(doubled, key="double") == after, "the same key changes nothing the second time"
    is_first = pl.col("subject_id") % 4 == 0
    expected = events.with_columns(
        pl.when(is_first).then("numeric_value").otherwise(pl.col("numeric_value") * 2).alias("numeric_value")
    )
    assert_frame_equal(all_rows(after), expected.sort(pl.all()))
    assert_frame_equal(all_rows(before), events.sort(pl.all()))
    with pytest.raises(InputError, match="may only get events of its own subjects"):
        after.rewrite(lambda _, rows: rows.with_columns(pl.col("subject_id") + 1), key="moved")
