"""Deliveries leave the newest version of every source row, as a plain reading of the rules does, whatever is killed."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from careloop.record import EVENTS, Record, conform
from careloop.record.arrival import Arrived, deliver, is_delivered
from careloop.record.merges import MERGES, survivors_of
from careloop.record.staging import STAGED, WITHDRAWN, Staging

SUBJECTS = range(6)
DAY = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Version:
    """A version of a source row: whose it is, when it was changed there, its values; None: withdrawn."""

    source: str
    subject: int
    day: int | None
    values: tuple[float, ...] | None


@dataclass(frozen=True)
class Given:
    """One delivery: versions in their order, in one or two sources, and pairs of (retired, surviving)."""

    versions: tuple[Version, ...]
    merges: tuple[tuple[int, int], ...] = ()
    cut: int = 0


def at(day: int | None) -> datetime | None:
    return None if day is None else DAY + timedelta(days=day)


def rows_of(versions: list[tuple[int, Version]]) -> pl.DataFrame:
    rows = [
        {"subject_id": v.subject, "time": None, "code": "A", "numeric_value": value, "source": v.source,
         "source_time": at(v.day), "sequence": sequence}
        for sequence, v in versions
        for value in v.values or ()
    ]  # fmt: skip
    columns = ("subject_id", "time", "code", "numeric_value", "source")
    frame = pl.DataFrame(rows, schema={name: STAGED[name] for name in (*columns, "source_time", "sequence")})
    return conform(frame.select(columns)).with_columns(frame["source_time"], frame["sequence"])


def stage(record: Record, given: Given, name: str) -> Staging:
    staging = Staging.of(record, name)
    numbered = list(enumerate(given.versions))
    for number, part in enumerate((numbered[: given.cut], numbered[given.cut :])):
        gone = [{"source": v.source, "source_time": at(v.day), "sequence": i} for i, v in part if v.values is None]
        with staging.source(number, shards=record.shards) as source:
            source.add(
                rows_of(part),
                withdrawn=pl.DataFrame(gone, schema=WITHDRAWN),
                merges=pl.DataFrame(list(given.merges), schema=MERGES, orient="row"),
            )
    return staging


def give(record: Record, given: Given, name: str) -> Arrived:
    staging = stage(record, given, name)
    arrived = deliver(record, staging, name)
    staging.remove()
    return arrived


@dataclass
class Reference:
    """The rules in plain Python: one source row after the other."""

    current: dict[str, Version] = field(default_factory=dict)
    remembered: dict[str, int] = field(default_factory=dict)
    groups: list[set[int]] = field(default_factory=lambda: [{subject} for subject in SUBJECTS])

    def give(self, given: Given) -> None:
        for pair in given.merges:
            together = [group for group in self.groups if group & set(pair)]
            self.groups = [group for group in self.groups if group not in together] + [set().union(*together)]
        for v in given.versions:
            if v.values is None and v.day is not None:
                self.remembered[v.source] = max(v.day, self.remembered.get(v.source, v.day))
        for source in {v.source for v in given.versions}:
            gone = [Version(source, 0, self.remembered[source], None)] if source in self.remembered else []
            known = [self.current[source]] if source in self.current else []
            newest: Version | None = None
            for v in (*gone, *known, *(v for v in given.versions if v.source == source)):
                older = newest is not None and newest.day is not None and v.day is not None and v.day < newest.day
                newest = newest if older else v
            self.current.pop(source, None)
            if newest is not None and newest.values is not None:
                self.current[source] = newest

    def events(self) -> list[tuple[int, str, float]]:
        group = {subject: min(members) for members in self.groups for subject in members}
        return sorted((group[v.subject], v.source, value) for v in self.current.values() for value in v.values or ())

    def seen(self, record: Record) -> list[tuple[int, str, float]]:
        """The record's events, of each group of merged subjects under one name."""
        events = record.events().collect()
        retired = survivors_of(record)
        assert not set(events["subject_id"]) & set(retired), "no event stays with a retired subject"
        group = {subject: min(members) for members in self.groups for subject in members}
        return sorted(
            (group[subject], source, value)
            for subject, source, value in events.select("subject_id", "source", "numeric_value").iter_rows()
        )


days = st.one_of(st.none(), st.integers(0, 3))
versions = st.builds(
    Version,
    source=st.sampled_from("abcd"),
    subject=st.sampled_from(SUBJECTS),
    day=days,
    values=st.one_of(st.none(), st.lists(st.sampled_from([1.0, 2.0]), min_size=1, max_size=2).map(tuple)),
)
pairs = st.tuples(st.sampled_from(SUBJECTS), st.sampled_from(SUBJECTS)).filter(lambda pair: pair[0] != pair[1])
deliveries = st.lists(
    st.builds(
        Given,
        versions=st.lists(versions, max_size=6).map(tuple),
        merges=st.lists(pairs, max_size=1).map(tuple),
        cut=st.integers(0, 6),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(deliveries)
@example([Given((Version("b", 0, 1, None), Version("b", 0, None, None), Version("b", 0, 0, (1.0,)))), Given(())])
def test_any_deliveries_leave_what_a_plain_reading_of_the_rules_leaves(given_: list[Given]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        record, reference = Record.create(Path(folder) / "record", shards=3), Reference()
        for number, given in enumerate(given_):
            before = record.events().collect().height
            arrived = give(record, given, f"delivery{number}")
            record = arrived.record
            reference.give(given)
            assert reference.seen(record) == reference.events()
            assert record.events().collect().height - before == arrived.added - arrived.removed


def test_the_same_again_changes_nothing_and_a_new_version_replaces(tmp_path: Path) -> None:
    record = Record.create(tmp_path / "record", shards=3)
    first = Given((Version("a", 1, 1, (1.0,)), Version("b", 2, 1, (1.0, 2.0))))
    arrived = give(record, first, "monday")
    assert (arrived.added, arrived.removed, arrived.record.version) == (3, 0, 1)
    assert is_delivered(record, "monday")
    assert give(record, first, "monday").record.version == 1
    # A full export again, of which one row is newer.
    second = Given((Version("a", 1, 2, (5.0,)), Version("b", 2, 1, (1.0, 2.0))))
    arrived = give(arrived.record, second, "tuesday")
    assert (arrived.added, arrived.removed) == (1, 1)
    # All of it is known: no new version is written, so that studies are not run again.
    assert give(arrived.record, first, "wednesday") == Arrived(arrived.record)
    assert arrived.record.events().collect()["numeric_value"].sort().to_list() == [1.0, 2.0, 5.0]
    assert Record.open(record.path, version=1).events().collect()["numeric_value"].sort().to_list() == [1.0, 1.0, 2.0]


def test_a_row_that_moves_to_another_patient_leaves_the_first(tmp_path: Path) -> None:
    record = Record.create(tmp_path / "record", shards=3)
    record = give(record, Given((Version("a", 1, 1, (1.0,)), Version("b", 1, None, (3.0,)))), "1").record
    record = give(record, Given((Version("a", 2, 2, (1.0,)),)), "2").record
    assert record.events().collect().select("subject_id", "source").sort("source").rows() == [(2, "a"), (1, "b")]
    stale = give(record, Given((Version("a", 1, 1, (1.0,)),)), "3")
    assert (stale.added, stale.removed, stale.record.version) == (0, 0, record.version)


def test_a_withdrawal_that_comes_before_what_it_withdraws_still_holds(tmp_path: Path) -> None:
    record = Record.create(tmp_path / "record", shards=3)
    record = give(record, Given((Version("a", 1, 5, None),)), "withdrawn").record
    record = give(record, Given((Version("a", 1, 4, (1.0,)),)), "late").record
    assert not record.events().collect().height
    record = give(record, Given((Version("a", 1, 6, (2.0,)),)), "again").record
    assert record.events().collect()["numeric_value"].to_list() == [2.0]


def test_merged_patients_are_one_also_where_their_rows_come_later(tmp_path: Path) -> None:
    record = Record.create(tmp_path / "record", shards=3)
    record = give(record, Given((Version("a", 5, 1, (1.0,)), Version("b", 3, 1, (2.0,)))), "1").record
    record = give(record, Given((), merges=((5, 3),)), "2").record
    record = give(record, Given((Version("c", 5, 1, (3.0,)),)), "3").record
    assert record.events().collect()["subject_id"].unique().to_list() == [3]
    assert record.events().collect().height == 3


def test_rows_without_source_and_those_of_other_writers_stay(record: Record, events: pl.DataFrame) -> None:
    record = record.append(events, key="appended")
    plain = record.append(conform(pl.DataFrame({"subject_id": [1], "time": [None], "code": ["X"]})), key="no source")
    arrived = give(plain, Given((Version("a", 1, 1, (1.0,)), Version("labs.csv:0", 1, 1, None))), "delivery")
    assert (arrived.added, arrived.removed) == (1, 1)
    left = arrived.record.events().collect()
    assert left.filter(code="X").height == 1
    expected = events.filter(pl.col("source") != "labs.csv:0")
    assert_frame_equal(
        left.filter(pl.col("code") != "X", pl.col("source") != "a").sort(EVENTS.names()), expected.sort(EVENTS.names())
    )


def test_many_sources_are_compared_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("careloop.record.versions.SOURCES_AT_ONCE", 7)
    record = Record.create(tmp_path / "record", shards=3)
    many = [Version(f"row {number}", number % 6, 1, (float(number),)) for number in range(100)]
    record = give(record, Given(tuple(many), cut=50), "1").record
    moved = [Version(v.source, (v.subject + 1) % 6, 2, v.values) for v in many[::3]]
    arrived = give(record, Given(tuple(moved)), "2")
    assert (arrived.added, arrived.removed) == (34, 34)
    subjects = dict(arrived.record.events().collect().select("source", "subject_id").iter_rows())
    assert subjects == {v.source: v.subject for v in (*many, *moved)}
