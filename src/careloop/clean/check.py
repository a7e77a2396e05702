"""Check a record's quality: conformance, completeness and plausibility, shard by shard, with examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import polars as pl
from deltalake import DeltaTable

from careloop import InputError
from careloop.clean.checks.definitions import BY_ID
from careloop.clean.checks.judge import Judging, derived_counts, judge, overview
from careloop.clean.checks.notes import notes
from careloop.clean.checks.results import QualityReport
from careloop.clean.checks.rows import facts_only
from careloop.clean.checks.second import Expectations, Findings, expectations, look_again
from careloop.clean.checks.shapes import distributions
from careloop.clean.checks.tally import Tally, merged, tally
from careloop.clean.checks.volume import feeds
from careloop.clean.sketch import Sketch, merge, sketch
from careloop.record import Record
from careloop.record.shards import HERE, each_shard

MINIMUM_ROWS = 20  # fewer values say little of a code: one slip would be 5 %
Progress = Callable[[str, int, int], None]


def check_record(
    record: Record,
    *,
    thresholds: Mapping[str, float] | None = None,
    minimum_rows: int = MINIMUM_ROWS,
    on: str = HERE,
    progress: Progress | None = None,
) -> QualityReport:
    """Return the data quality report of a record; the record is read twice, shard by shard.

    Args:
        record: the version to check; careloop's own events (predictions, plans, notes) are left out.
        thresholds: share of violations (0 to 1) above which a check fails, by check; others keep their own.
        minimum_rows: a check, code or kind of facts with fewer rows is "not applicable".
        on: where shards are read, as `each_shard` has it.
        progress: called with what is done, shards done and shards in all.

    Raises:
        InputError: an unknown check, a threshold outside 0 to 1, or a data file that cannot be read.
    """
    _check_thresholds(thresholds or {})
    written = _written(record)
    whole, shape, own = _first_pass(record, written, on, progress)
    described = record.code_metadata()
    expected = expectations(whole, shape, described)
    found = _second_pass(record, expected, on, progress)
    whole = replace(
        whole,
        counts=pl.concat([whole.counts, found.counts]),
        patients=pl.concat([whole.patients, found.patients]),
        examples=pl.concat([whole.examples, found.examples]),
    )
    descriptions = dict(described.drop_nulls("description").select("code", "description").iter_rows())
    judging = Judging(descriptions, notes(whole, expected), dict(thresholds or {}), minimum_rows)
    whole = replace(whole, counts=pl.concat([whole.counts, derived_counts(whole, judging)]))
    flows = feeds(whole.volume)
    checks, cells = judge(whole, flows, judging)
    return QualityReport(
        record_version=record.version,
        written=written,
        minimum_rows=minimum_rows,
        overview=overview(whole, flows, judging, own_events=own),
        checks=tuple(checks),
        cells=tuple(cells),
        distributions=distributions(checks, expected.fixed, descriptions),
    )


def _check_thresholds(thresholds: Mapping[str, float]) -> None:
    for name, share in thresholds.items():
        if name not in BY_ID:
            raise InputError(f"thresholds: no check {name}; the checks are {', '.join(BY_ID)}")
        if not 0 <= share <= 1:
            raise InputError(f"thresholds: {name} must be a share from 0 to 1, got {share}")


def _written(record: Record) -> datetime:
    """When this version was committed."""
    table = DeltaTable(record.path / "events", version=record.version)
    milliseconds = table.history(1)[0]["timestamp"]
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)


def _first_pass(record: Record, written: datetime, on: str, progress: Progress | None) -> tuple[Tally, Sketch, int]:
    work = partial(_first_look, written=written, known=_known_subjects(record))
    whole: Tally | None = None
    shape: Sketch | None = None
    own = 0
    for part, values, not_facts in each_shard(record, work, on=on, progress=_heard(progress, "reading shards")):
        whole = merged([part] if whole is None else [whole, part])
        shape = merge([values] if shape is None else [shape, values])
        own += not_facts
    if whole is None or shape is None:
        raise ValueError("a record has at least one shard")
    return whole, shape, own


def _first_look(record: Record, shard: int, *, written: datetime, known: pl.Series | None) -> tuple[Tally, Sketch, int]:
    events = _read(record, shard)
    facts = facts_only(events).with_row_index("row")
    return tally(facts, written=written, known_subjects=known), sketch(facts), events.height - facts.height


def _second_pass(record: Record, expected: Expectations, on: str, progress: Progress | None) -> Findings:
    work = partial(_second_look, expected=expected)
    return Findings.merged(list(each_shard(record, work, on=on, progress=_heard(progress, "judging values"))))


def _second_look(record: Record, shard: int, *, expected: Expectations) -> Findings:
    return look_again(facts_only(_read(record, shard)).with_row_index("row"), expected)


def _heard(progress: Progress | None, what: str) -> Callable[[int, int], None] | None:
    return None if progress is None else partial(progress, what)


def _read(record: Record, shard: int) -> pl.DataFrame:
    try:
        return record.events(shard).collect()
    except pl.exceptions.PolarsError as error:
        raise InputError(
            f"{record.path}/events: a data file cannot be read ({type(error).__name__}); restore it"
        ) from None


def _known_subjects(record: Record) -> pl.Series | None:
    """The subject ids in the record's table of patients; None where it has none (shared, or filled with ids only)."""
    folder = record.path / "private" / "subjects"
    if not (folder / "_delta_log").exists():
        return None
    files = DeltaTable(folder).file_uris()
    if not files:
        return None
    ids = pl.scan_parquet(files).select("subject_id").collect()["subject_id"]
    return ids if len(ids) else None
