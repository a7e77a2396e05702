"""Cleaning of a record: constants from one pass over its shards, fixes with notes in a second, and the way back.

What cleaning learns from the record are its constants: each code's usual unit, its sentinels, the distributions that
show a mix-up of units, and the months that the record is about. No label, cohort or outcome is looked at. By default
they are drawn from all events, so an event after a prediction time, or of a held-out patient, has its small part in
where a border between two units lies; `learn_from` says which events they are drawn from where not even that may be
(those known before the test period, those of training patients). With the constants fixed, a value changes by nothing
that was not known when the value was; what only later facts show (a birth that contradicts it) is a note that
becomes known when they do. Scaling and imputing are no cleaning: `train` fits them on training rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from careloop import InputError
from careloop.clean.faults.duplicates import COPY_FORWARD, DUPLICATE, NEAR_DUPLICATE, find_duplicates
from careloop.clean.faults.mixups import RULE as UNIT_MIXUP
from careloop.clean.faults.mixups import Mixture, find_mixtures, find_mixups
from careloop.clean.faults.plausible import IMPLAUSIBLE, IMPOSSIBLE, SEX, find_implausible, find_other_sex, limits
from careloop.clean.faults.sentinels import RULE as SENTINEL
from careloop.clean.faults.sentinels import find_sentinel_values, find_sentinels
from careloop.clean.faults.times import (
    AFTER_DEATH,
    BEFORE_BIRTH,
    BEFORE_ORDER,
    KNOWN_EARLY,
    OFF_CALENDAR,
    find_before_order,
    find_known_early,
    find_off_calendar,
    find_outside_life,
)
from careloop.clean.faults.units import RULE as UNIT
from careloop.clean.faults.units import canonical_units, find_units, unit_table
from careloop.clean.findings import apply_findings, is_note, restore
from careloop.clean.sketch import Sketch, merge, sketch
from careloop.record import CARELOOP, Record
from careloop.record.store import EVENT_ORDER

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Constants:
    """What is taken from the whole record before any event is judged; with these fixed, shards are independent."""

    whole: Sketch
    canonical: Mapping[str, str]
    units: pl.DataFrame
    sentinels: pl.DataFrame
    mixtures: tuple[Mixture, ...]
    limits: pl.DataFrame


@dataclass(frozen=True)
class Detector:
    """One step of cleaning: the rules it finds violations of, and how, from a shard's events and the constants."""

    rules: tuple[str, ...]
    find: Callable[[pl.DataFrame, Constants], pl.DataFrame]


# In this order: orders while all their answers are there, numbers that are none before units, units before limits,
# known_time before anything that reads the patient's earlier values, duplicates when equal facts look equal.
DETECTORS = (
    Detector((BEFORE_ORDER,), lambda events, c: find_before_order(events)),
    Detector((SENTINEL,), lambda events, c: find_sentinels(events, c.sentinels)),
    Detector((UNIT,), lambda events, c: find_units(events, c.units)),
    Detector((KNOWN_EARLY,), lambda events, c: find_known_early(events)),
    Detector((UNIT_MIXUP,), lambda events, c: find_mixups(events, c.mixtures, c.canonical)),
    Detector((IMPOSSIBLE, IMPLAUSIBLE), lambda events, c: find_implausible(events, c.limits)),
    Detector((SEX,), lambda events, c: find_other_sex(events)),
    Detector((BEFORE_BIRTH, AFTER_DEATH), lambda events, c: find_outside_life(events)),
    Detector((OFF_CALENDAR,), lambda events, c: find_off_calendar(events, c.whole.months)),
    Detector((DUPLICATE, NEAR_DUPLICATE, COPY_FORWARD), lambda events, c: find_duplicates(events, c.whole.pairs)),
)
ALL = tuple(rule for detector in DETECTORS for rule in detector.rules)


@dataclass(frozen=True)
class CleaningSummary:
    """What cleaning did: events by rule and action, and the version of the record that holds it."""

    counts: Mapping[str, Mapping[str, int]]
    record_version: int


@dataclass(frozen=True)
class Found:
    """What cleaning would do: events by rule and action, and a few of each rule.

    `examples` has rule, action, source, code, numeric_value and unit as recorded, and `after_numeric_value`,
    `after_unit` as they would be (patients' data: for those who may see the record).
    """

    counts: Mapping[str, Mapping[str, int]]
    examples: pl.DataFrame
    record_version: int


def constants(whole: Sketch, metadata: pl.DataFrame | None = None, *, learned: Sketch | None = None) -> Constants:
    """Draw the constants from the sketch of a whole record and its codes table.

    `learned`: the sketch of the events that they are to be drawn from, where these are not all. The list of units that
    are there to be converted, and the record's months, are the whole record's anyhow.
    """
    learned = whole if learned is None else replace(learned, months=whole.months)
    canonical = canonical_units(learned.units, metadata)
    table = unit_table(whole.units, canonical)
    sentinels = find_sentinel_values(learned.levels)
    mixtures = find_mixtures(learned, canonical, table, sentinels)
    return Constants(learned, canonical, table, sentinels, tuple(mixtures), limits(canonical, metadata))


def clean_events(
    events: pl.DataFrame, fixed: Constants, *, rules: Sequence[str] = ALL, also: Sequence[Detector] = ()
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Clean the events of one shard; return them with notes, and all findings (with the row as each step saw it).

    What an earlier cleaning did is undone first, so the result depends on the facts, the constants and the rules only.
    """
    facts, own = _parts(events)
    notes: list[pl.DataFrame] = []
    found: list[pl.DataFrame] = []
    for step, detector in enumerate((*also, *DETECTORS)):
        wanted = detector.rules if detector in also else [rule for rule in detector.rules if rule in rules]
        if not wanted:
            continue
        new = detector.find(facts, fixed).filter(pl.col("rule").is_in(wanted)).sort("row", "rule")
        found.append(new.join(facts.select("row", "source", "code", "numeric_value", "unit"), on="row", how="left"))
        facts, written = apply_findings(facts, new, step=step)
        notes.append(written)
    return pl.concat([facts.drop("row"), own, *notes]), pl.concat(found, how="vertical")


def clean_record(
    record: Record,
    *,
    rules: Sequence[str] = ALL,
    also: Sequence[Detector] = (),
    learn_from: pl.Expr | None = None,
    progress: Progress | None = None,
) -> CleaningSummary:
    """Clean a record by `rules` in one commit: changed values, removed rows, and a note for each.

    The newest version is cleaned, shard by shard, twice read. The record then carries the fixes of these rules only:
    those of an earlier cleaning are taken back first, so that cleaning twice changes nothing, and cleaning again after
    a delivery judges everything by what is known now.

    Args:
        record: where it is; always its newest version is cleaned.
        rules: of `ALL`.
        also: steps taken before the others, such as a mapping of codes (`read_mapping`).
        learn_from: over the columns of events, which of them the constants are drawn from, such as
            `pl.col("known_time") < start_of_test` (default: all; see the top of this file).
        progress: called with what is done, shards done and shards in all.

    Raises:
        InputError: an unknown rule.
    """
    _check(rules)
    record = Record.open(record.path)
    fixed = _constants(record, also, learn_from, progress)
    counts: dict[int, pl.DataFrame] = {}

    def change(shard: int, events: pl.DataFrame) -> pl.DataFrame | None:
        cleaned, found = clean_events(events, fixed, rules=rules, also=also)
        counts[shard] = found.group_by("rule", "action").agg(count=pl.len())
        if progress is not None:
            progress("cleaning", shard + 1, record.shards)
        return None if _same(cleaned, events) else cleaned

    if any(change(shard, events) is not None for shard, events in _shards(record)):
        names = [*rules, *(rule for detector in also for rule in detector.rules), str(learn_from)]
        record = record.rewrite(change, key=f"clean:{record.version}:{_digest(names)}")
    return CleaningSummary(_added(counts.values()), record.version)


def find(
    record: Record,
    *,
    rules: Sequence[str] = ALL,
    also: Sequence[Detector] = (),
    learn_from: pl.Expr | None = None,
    examples: int = 5,
) -> Found:
    """Return what `clean_record` would do, or did, without changing the record; at most `examples` of each rule."""
    _check(rules)
    fixed = _constants(record, also, learn_from, None)
    counts, shown = [], []
    for _, events in _shards(record):
        _, found = clean_events(events, fixed, rules=rules, also=also)
        counts.append(found.group_by("rule", "action").agg(count=pl.len()))
        columns = ("rule", "action", "source", "code", "numeric_value", "unit", "after_numeric_value", "after_unit")
        shown.append(found.select(columns).group_by("rule", maintain_order=True).head(examples))
    few = pl.concat(shown).group_by("rule", maintain_order=True).head(examples).sort("rule", maintain_order=True)
    return Found(_added(counts), few, record.version)


def undo(record: Record, rules: Sequence[str] | None = None) -> Record:
    """Take the fixes of `rules` (default: all) back in one commit, with what later steps did to the same rows."""
    record = Record.open(record.path)
    if record.events().filter(is_note(rules=rules)).limit(1).collect().is_empty():
        return record

    def change(_: int, events: pl.DataFrame) -> pl.DataFrame | None:
        before = restore(events, rules)
        return None if _same(before, events) else before

    return record.rewrite(change, key=f"undo:{record.version}:{_digest(rules or ['*'])}")


def codes_as_delivered(record: Record) -> pl.DataFrame:
    """Return code and count of the record's events as they were before any cleaning, careloop's own left out."""
    counts = [_parts(events)[0].group_by("code").agg(count=pl.len()) for _, events in _shards(record)]
    return pl.concat(counts).group_by("code").agg(pl.col("count").sum()).sort("code")


def _constants(
    record: Record, also: Sequence[Detector], learn_from: pl.Expr | None, progress: Progress | None
) -> Constants:
    metadata = record.code_metadata()
    empty = sketch(record.events().limit(0).collect())
    nothing = constants(empty, metadata)
    whole, learned = empty, empty
    for shard, events in _shards(record):
        facts, _ = _parts(events)
        for step, detector in enumerate(also):
            facts, _ = apply_findings(facts, detector.find(facts, nothing), step=step)
        whole = merge([whole, sketch(facts)])
        if learn_from is not None:
            # Births and sexes stay: they say of whom a value is, and nothing is learned from them.
            chosen = learn_from.fill_null(False) | pl.col("numeric_value").is_null()
            learned = merge([learned, sketch(facts.filter(chosen))])
        if progress is not None:
            progress("reading distributions", shard + 1, record.shards)
    return constants(whole, metadata, learned=None if learn_from is None else learned)


def _shards(record: Record) -> Iterator[tuple[int, pl.DataFrame]]:
    for shard in range(record.shards):
        yield shard, record.events(shard).collect()


def _parts(events: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The facts as delivered, in the record's order and numbered by `row`, and what careloop itself wrote."""
    before = restore(events).sort([name for name in (*EVENT_ORDER, "source_time") if name in events.columns])
    own = pl.col("code").str.starts_with(CARELOOP)
    return before.filter(~own).with_row_index("row"), before.filter(own)


def _same(a: pl.DataFrame, b: pl.DataFrame) -> bool:
    if a.height != b.height:
        return False
    order = [name for name in (*EVENT_ORDER, "source_time") if name in b.columns]
    return a.select(b.columns).sort(order).equals(b.sort(order))


def _added(counts: Iterable[pl.DataFrame]) -> dict[str, dict[str, int]]:
    parts = list(counts)
    if not parts:
        return {}
    total = pl.concat(parts).group_by("rule", "action").agg(pl.col("count").sum()).sort("rule", "action")
    result: dict[str, dict[str, int]] = {}
    for rule, action, count in total.iter_rows():
        result.setdefault(rule, {})[action] = count
    return result


def _check(rules: Sequence[str]) -> None:
    unknown = sorted(set(rules) - set(ALL))
    if unknown:
        raise InputError(f"cleaning rules: unknown {', '.join(unknown)}; allowed are {', '.join(ALL)}")


def _digest(names: Sequence[str]) -> str:
    return hashlib.blake2b(json.dumps(sorted(names)).encode(), digest_size=8).hexdigest()
