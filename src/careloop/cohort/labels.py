"""What happened after the prediction time: outcome, competing event, censoring, and values measured at a stated day."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from careloop import InputError
from careloop.cohort.definition import CohortSection, Measure, Outcome, Treatment
from careloop.record import Record, history
from careloop.record.schema import BIRTH, CARELOOP, DEATH, code_matches

KEY = ["subject_id", "prediction_time"]
MICROSECONDS_PER_DAY = 86_400_000_000
DAYS_AFTER = (pl.col("time") - pl.col("prediction_time")).dt.total_microseconds() / MICROSECONDS_PER_DAY
EVENT_COLUMNS = ["subject_id", "time", "known_time", "code", "numeric_value", "text_value"]


@dataclass(frozen=True)
class Facts:
    """One shard's part of the record that a study asks for, uncut.

    `events`: the events whose code the study names (columns `EVENT_COLUMNS`). `spans`, one row a subject: subject_id,
    `first_known` (earliest known_time of a dated event, birth aside) and `follow_up_end` (last time), both without
    careloop's own events. `codes`: every code that occurs in the shard.
    """

    events: pl.DataFrame
    spans: pl.DataFrame
    codes: frozenset[str]


class NamesCodes(Protocol):
    """A section of the study file that names codes."""

    def named_codes(self) -> Iterator[tuple[str, str]]:
        """Each field with a code or pattern that stands there."""


def read_facts(events: pl.LazyFrame, section: NamesCodes) -> Facts:
    """Read one shard in three streaming passes, each over the columns it needs (faster, measured, than one for all)."""
    codes = events.select(pl.col("code").unique()).collect(engine="streaming")["code"]
    named = {BIRTH, DEATH, *(code for _, code in section.named_codes())}
    facts = events.filter(code_matches(sorted(named))).select(EVENT_COLUMNS)
    own = codes.filter(codes.str.starts_with(CARELOOP)).to_list()
    last, first = pl.col("time"), pl.col("known_time").filter(~pl.col("code").is_in([BIRTH, *own]))
    if own:  # a filter costs half as much again, and most records have none
        last = last.filter(~pl.col("code").is_in(own))
    spans = events.group_by("subject_id").agg(first_known=first.min(), follow_up_end=last.max())
    return Facts(facts.collect(engine="streaming"), spans.collect(engine="streaming"), frozenset(codes))


def label_outcomes(record: Record, keys: pl.DataFrame, section: CohortSection) -> pl.DataFrame:
    """Label each (subject_id, prediction_time) of `keys` from the record's uncut future.

    Args:
        record: the record; a later version than the cohort's gives later outcomes and longer follow-up.
        keys: columns subject_id and prediction_time, each pair once; other columns are ignored.
        section: its `outcome` and `measures` are used.

    Returns:
        One row a key, sorted by subject_id and prediction_time:
        `event` Int8: 1 outcome, 2 competing event, 0 censored, whichever comes first after the prediction time (at
        the same time the outcome counts before the competing event, and both before censoring);
        `follow_up_days` Float64: days to it, not cut at the horizon, 0 if nothing is known after the prediction time;
        `boolean_value`: True outcome within the horizon; False none until the horizon, or a competing event first;
        null censored before the horizon;
        `measure_NAME` Float64 for each measure, null if not measured within its window.

    Raises:
        InputError: a pair occurs twice, or a subject is not in the record.

    """
    keys = keys.select(KEY).sort(KEY)
    if keys.is_duplicated().any():
        raise InputError("a (subject_id, prediction_time) pair occurs twice among the rows to label; drop the repeats")
    labelled = [_label_shard(record.events(shard), keys, section) for shard in range(record.shards)]
    labels = pl.concat(labelled).sort(KEY)
    if labels.height < keys.height:
        missing = keys.join(labels, on=KEY, how="anti")["subject_id"].n_unique()
        raise InputError(f"{missing} of the subjects to label have no event in the record; label them from their own")
    return labels


def _label_shard(events: pl.LazyFrame, keys: pl.DataFrame, section: CohortSection) -> pl.DataFrame:
    facts = read_facts(events, section)
    return label_rows(facts, keys.join(facts.spans, on="subject_id", how="semi"), section)


def label_rows(facts: Facts, keys: pl.DataFrame, section: CohortSection) -> pl.DataFrame:
    """Label columns for each row of `keys`, in its order."""
    labels = _add_outcome(facts, keys, section.outcome)
    for measure in section.measures:
        labels = labels.with_columns(_measure(facts, keys, measure))
    return labels


def _add_outcome(facts: Facts, keys: pl.DataFrame, outcome: Outcome) -> pl.DataFrame:
    """Three races, run at once: the first outcome, the first competing event, the end of follow-up."""
    start, horizon_days = pl.col("prediction_time"), outcome.horizon_days
    censoring = outcome.censoring if _names_death(outcome) else (*outcome.censoring, DEATH)
    frame = keys.join(facts.spans, on="subject_id", how="left", maintain_order="left").with_columns(
        first_after(facts, keys, outcome.codes).alias("outcome_time"),
        first_after(facts, keys, outcome.competing).alias("competing_time"),
        first_after(facts, keys, censoring).alias("stop_time"),
    )
    happened, competed, stop = pl.col("outcome_time"), pl.col("competing_time"), pl.col("stop_time")
    event = (
        pl.when(happened.is_not_null() & (competed.is_null() | (happened <= competed)) & _by(happened, stop))
        .then(1)
        .when(competed.is_not_null() & _by(competed, stop))
        .then(2)
        .otherwise(0)
    )
    end = (
        pl.when(pl.col("event") == 1)
        .then(happened)
        .when(pl.col("event") == 2)
        .then(competed)
        .otherwise(pl.min_horizontal(stop, pl.max_horizontal(start, "follow_up_end")))
    )
    days = (end - start).dt.total_microseconds() / MICROSECONDS_PER_DAY
    within = pl.col("follow_up_days") <= horizon_days
    known_free = (pl.col("event") == 2) | (pl.col("follow_up_days") >= horizon_days)
    value = pl.when(pl.col("event") == 1).then(within).when(known_free).then(False)
    return (
        frame.with_columns(event=event.cast(pl.Int8))
        .with_columns(follow_up_days=days)
        .select(*KEY, value.alias("boolean_value"), "follow_up_days", "event")
    )


def _by(time: pl.Expr, stop: pl.Expr) -> pl.Expr:
    return stop.is_null() | (time <= stop)


def _names_death(outcome: Outcome) -> bool:
    named = pl.DataFrame({"code": [DEATH]}).select(code_matches((*outcome.codes, *outcome.competing)))
    return bool(named.item())


def first_after(facts: Facts, keys: pl.DataFrame, codes: tuple[str, ...]) -> pl.Series:
    """Time of each key's first event with one of the codes after the prediction time, null if none; in keys' order."""
    dated = (
        facts.events.lazy()
        .filter(code_matches(codes), pl.col("time").is_not_null())
        .select("subject_id", "time")
        .collect()
    )
    found = (
        keys.with_row_index("row")
        .sort("prediction_time")
        .join_asof(
            dated.sort("time").with_columns(event_time="time"),
            left_on="prediction_time",
            right_on="time",
            by="subject_id",
            strategy="forward",
            allow_exact_matches=False,
            check_sortedness=False,  # both sides are sorted on the line above; with `by` polars cannot check it
        )
    )
    return found.sort("row")["event_time"]


def _measure(facts: Facts, keys: pl.DataFrame, measure: Measure) -> pl.Series:
    """The numeric value nearest to at_days; of two as near the earlier, then the later known, then the smaller."""
    off = (DAYS_AFTER - measure.at_days).abs()
    nearest = (
        facts.events.lazy()
        .filter(code_matches((measure.code,)), pl.col("numeric_value").is_not_null())
        .join(keys.lazy(), on="subject_id")
        .filter(pl.col("time") > pl.col("prediction_time"), off <= measure.within_days)
        .sort(off, "time", pl.col("known_time"), "numeric_value", descending=[False, False, True, False])
        .unique(KEY, keep="first", maintain_order=True)
        .select(*KEY, pl.col("numeric_value").cast(pl.Float64).alias("value"))
    )
    frame = keys.lazy().join(nearest, on=KEY, how="left", maintain_order="left")
    value = pl.col("value")
    if measure.change_from_baseline_code:
        baseline = _baseline(facts, keys, measure.change_from_baseline_code)
        frame = frame.join(baseline, on=KEY, how="left", maintain_order="left")
        value = value - pl.col("baseline")
    return frame.select(value.alias(f"measure_{measure.name}")).collect().to_series()


def _baseline(facts: Facts, keys: pl.DataFrame, code: str) -> pl.LazyFrame:
    """Last numeric value known at the prediction time; a fact without a time gives way to any dated one."""
    past = history(facts.events.lazy().filter(code_matches((code,)), pl.col("numeric_value").is_not_null()), keys)
    return (
        past.sort("time", "known_time", "numeric_value", descending=[True, True, False], nulls_last=True)
        .unique(KEY, keep="first", maintain_order=True)
        .select(*KEY, pl.col("numeric_value").cast(pl.Float64).alias("baseline"))
    )


def treatment_arms(facts: Facts, keys: pl.DataFrame, treatment: Treatment) -> pl.DataFrame:
    """Arms whose code lies in the window, as (subject_id, prediction_time, treatment) rows; several if in several."""
    arm = pl.coalesce(
        pl.when(code_matches(codes)).then(pl.lit(name)).otherwise(None) for name, codes in treatment.arms.items()
    )
    given = facts.events.lazy().filter(code_matches(treatment.codes)).join(keys.lazy(), on="subject_id")
    in_window = given.filter(DAYS_AFTER.is_between(*treatment.window_days))
    return in_window.select(*KEY, treatment=arm).unique().sort(*KEY, "treatment").collect()


def meds_labels(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows whose label is known, as MEDS's label schema has them: three columns, times without a zone (UTC)."""
    known = rows.filter(pl.col("boolean_value").is_not_null())
    return known.select(
        "subject_id", pl.col("prediction_time").dt.cast_time_unit("us").dt.replace_time_zone(None), "boolean_value"
    )
