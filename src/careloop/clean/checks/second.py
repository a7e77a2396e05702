"""The second look at each shard: what cleaning would find, which needs the whole record's units and distributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from careloop.clean.apply import DETECTORS, Constants, constants
from careloop.clean.checks.rows import with_kinds, with_persons
from careloop.clean.checks.tally import Asked, Tally, count_asked, few_examples
from careloop.clean.faults.duplicates import COPY_FORWARD, DUPLICATE, NEAR_DUPLICATE, TEXT_CHARACTERS
from careloop.clean.faults.mixups import RULE as UNIT_MIXUP
from careloop.clean.faults.plausible import IMPLAUSIBLE, IMPOSSIBLE, SEX
from careloop.clean.faults.sentinels import LEAST
from careloop.clean.faults.sentinels import RULE as SENTINEL
from careloop.clean.faults.separation import LEAST as LEAST_MIXED
from careloop.clean.faults.times import (
    AFTER_DEATH,
    BEFORE_BIRTH,
    BEFORE_ORDER,
    ENDS,
    KNOWN_EARLY,
    OFF_CALENDAR,
    ORDER,
    OTHERS,
    is_order,
)
from careloop.clean.faults.units import RULE as UNIT
from careloop.clean.faults.units import ucum
from careloop.clean.findings import apply_findings, together
from careloop.clean.sketch import DRUGS, Sketch, is_measured
from careloop.record import DEATH

# Units that convert are no fault of the value; equal values of one day from one system may be two measurements.
COUNTED = {UNIT: "flagged", DUPLICATE: "removed"}


@dataclass(frozen=True)
class Expectations:
    """What the whole record says.

    `other_units`: code, unit and whether it is another than the code's most frequent; `yes_or_no`: codes whose numbers
    are all 0 or 1; `busiest`: each kind's busiest minute of the day; `fixed`: what the detectors of cleaning take.
    """

    other_units: pl.DataFrame
    yes_or_no: pl.Series
    busiest: pl.DataFrame
    fixed: Constants


@dataclass(frozen=True)
class Findings:
    """Counts, patients and examples as in `Tally`."""

    counts: pl.DataFrame
    patients: pl.DataFrame
    examples: pl.DataFrame

    @classmethod
    def merged(cls, parts: Sequence[Findings]) -> Findings:
        """Add up the findings of shards."""
        counts = pl.concat([part.counts for part in parts])
        patients = pl.concat([part.patients for part in parts])
        keys = ["check", "code", "kind"]
        return cls(
            counts.group_by(keys).agg(pl.all().sum()).sort(keys),
            patients.group_by("check").agg(pl.col("patients").sum()).sort("check"),
            few_examples(pl.concat([part.examples for part in parts])),
        )


def expectations(whole: Tally, shape: Sketch, metadata: pl.DataFrame) -> Expectations:
    """Draw from the whole record what its events are then compared with."""
    return Expectations(_other_units(whole), _yes_or_no(whole), _busiest(whole), constants(shape, metadata))


def look_again(events: pl.DataFrame, expected: Expectations) -> Findings:
    """Return what one shard's events (columns of `EVENTS` and `row`) violate of what the whole record expects."""
    rows = _with_usual(with_persons(with_kinds(events)), expected)
    asked = _compared(expected) | _judged(_detected(events, expected.fixed), expected.fixed)
    return Findings(*count_asked(rows, asked))


def _detected(events: pl.DataFrame, fixed: Constants) -> pl.DataFrame:
    """What cleaning would find, step by step: each value is judged as the steps before leave it."""
    found = []
    for step, detector in enumerate(DETECTORS):
        new = detector.find(events, fixed)
        found.append(new)
        events, _ = apply_findings(events, new, step=step)
    return together(found)


def _with_usual(rows: pl.DataFrame, expected: Expectations) -> pl.DataFrame:
    """Add whether a unit is not the code's usual one, the kind's busiest minute, and whether values are many."""
    counts = expected.fixed.whole.units
    many = counts.filter(pl.col("count") >= LEAST).select("code", "unit", many=pl.lit(True))
    orders = is_order().sum().over("subject_id", pl.col("code").str.strip_prefix(ORDER))
    return (
        rows.with_columns(orders=orders)
        .join(expected.other_units, on=["code", "unit"], how="left", maintain_order="left")
        .join(expected.busiest.select("kind", busiest="minute"), on="kind", how="left", maintain_order="left")
        .join(many, on=["code", "unit"], how="left", nulls_equal=True, maintain_order="left")
    )


def _compared(expected: Expectations) -> Asked:
    col = pl.col
    valued = (col("kind") == "measurements") & col("numeric_value").is_not_null()
    # Answers of 0 or 1 need no unit.
    united = valued & ~col("code").is_in(expected.yes_or_no.implode())
    minute = col("time").dt.epoch("s") // 60 % 1440
    clocked = col("time").is_not_null() & (col("kind") != "persons") & (minute != 0)
    return {
        "unit_present": (united, united & col("unit").is_null()),
        "one_unit_per_code": (valued & col("is_other").is_not_null(), valued & col("is_other")),
        "one_clock_time": (clocked, clocked & (minute == col("busiest"))),
    }


def _judged(found: pl.DataFrame, fixed: Constants) -> Asked:
    """Return by check which rows the detectors looked at, and those they found."""
    col = pl.col
    timed, person = col("time").is_not_null(), col("kind") == "persons"
    vocabulary = col("code").str.splitn("//", 2).struct.field("field_0")
    alive = timed & ~person & ~vocabulary.is_in(OTHERS)
    limited = fixed.limits["code"].unique().implode()
    total = fixed.whole.units.group_by("code").agg(col("count").sum())
    mixable = total.filter(col("count") >= LEAST_MIXED)["code"].implode()
    measured = is_measured()
    asked = {
        "unit_fits_code": (measured & col("unit").is_not_null() & col("code").is_in(list(fixed.canonical)), UNIT),
        "sentinel_values": (measured & col("many"), SENTINEL),
        "unit_mixup": (measured & (col("numeric_value") > 0) & col("code").is_in(mixable), UNIT_MIXUP),
        "value_possible": (measured & col("code").is_in(limited), IMPOSSIBLE),
        "value_plausible": (measured & col("code").is_in(limited), IMPLAUSIBLE),
        "sex_specific_codes": (col("code_sex").is_not_null() & col("sex").is_not_null(), SEX),
        "before_birth": (alive & col("birth").is_not_null(), BEFORE_BIRTH),
        "after_death": (alive & col("death").is_not_null() & ~vocabulary.is_in(ENDS), AFTER_DEATH),
        "off_calendar": (timed & ~person, OFF_CALENDAR),
        "known_before_it_happened": (
            (measured & ~vocabulary.is_in(["VISIT_START", *DRUGS])) | (timed & (col("code") == DEATH)),
            KNOWN_EARLY,
        ),
        "result_before_order": (
            (col("orders") > 0) & (measured | col("text_value").is_in(["administered", "dispensed"])),
            BEFORE_ORDER,
        ),
        "duplicate_events": (pl.lit(True), DUPLICATE),
        "near_duplicates": (timed & ~person, NEAR_DUPLICATE),
        "copied_forward": (measured | (timed & (col("text_value").str.len_chars() >= TEXT_CHARACTERS)), COPY_FORWARD),
    }
    found = found.filter(col("action") == pl.coalesce(col("rule").replace_strict(COUNTED, default=None), "action"))
    rows = {rule: part["row"].unique() for (rule,), part in found.partition_by("rule", as_dict=True).items()}
    for rule in (IMPOSSIBLE, IMPLAUSIBLE):
        # A value that was taken for another unit's, but not converted, has been counted there.
        if rule in rows and UNIT_MIXUP in rows:
            rows[rule] = rows[rule].filter(~rows[rule].is_in(rows[UNIT_MIXUP].implode()))
    tables: Asked = {}
    for check, (checked, rule) in asked.items():
        bad = col("row").is_in(rows[rule].implode()) if rule in rows else pl.lit(False)
        # A detector may know more than the columns here (a sex said twice): what it found it has looked at.
        tables[check] = (checked.fill_null(False) | bad, bad)
    return tables


def _other_units(whole: Tally) -> pl.DataFrame:
    units = whole.units.filter(pl.col("unit").is_not_null(), pl.col("kind") == "measurements")
    spelt = {unit: ucum(unit) for unit in units["unit"].unique()}
    units = units.with_columns(meant=pl.col("unit").replace_strict(spelt, return_dtype=pl.String))
    by = units.group_by("code", "meant").agg(pl.col("events").sum()).sort("code", pl.col("events"), "meant")
    usual = by.group_by("code", maintain_order=True).last().select("code", usual="meant")
    return units.join(usual, on="code").select("code", "unit", is_other=pl.col("meant") != pl.col("usual"))


def _yes_or_no(whole: Tally) -> pl.Series:
    by = whole.values.group_by("code").agg(pl.col("numeric", "yes_or_no").sum())
    return by.filter((pl.col("numeric") > 0) & (pl.col("yes_or_no") == pl.col("numeric")))["code"]


def _busiest(whole: Tally) -> pl.DataFrame:
    minutes = whole.clock.filter(pl.col("minute") != 0).group_by("kind", "minute").agg(pl.col("events").sum())
    return minutes.sort("kind", "events", -pl.col("minute")).group_by("kind", maintain_order=True).last()
