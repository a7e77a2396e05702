"""Find the rows of an ACES task in the event table: predicates counted by moment, windows placed trigger by trigger."""

from __future__ import annotations

from functools import partial

import polars as pl

from careloop import InputError
from careloop.cohort.aces import (
    ANY_EVENT,
    RECORD_END,
    RECORD_START,
    TRIGGER,
    AcesTask,
    Bound,
    DerivedPredicate,
    PlainPredicate,
    Window,
)
from careloop.record import Record
from careloop.record.schema import CARELOOP
from careloop.record.shards import HERE, each_shard

_MOMENT = ["subject_id", "time"]
_LABEL = "label"
_ROWS = ["subject_id", "prediction_time", "boolean_value"]


def aces_cohort(record: Record, task: AcesTask, *, on: str = HERE) -> pl.DataFrame:
    """The cohort of an ACES task file: the rows that ACES (es-aces 0.7) gives on the same events.

    Windows are placed by `time`, as in ACES, not by `known_time`: a task that triggers or selects on what became known
    later than its prediction time does so here too. careloop's own events (`CARELOOP//...`) never count.

    Returns:
        One row per trigger whose windows all exist and satisfy their constraints: subject_id, prediction_time (the
        task's `index_timestamp`), boolean_value (the label predicate occurs in its window; null without a label),
        sorted. As in ACES, two triggers may share a prediction_time and then give two rows. The record is read shard
        by shard, `on` as `each_shard` has it; a shard needs the memory of its moments (subject, time) with one count a
        predicate.

    """
    shards = each_shard(record, partial(_rows, task=task), on=on)
    return pl.concat(shards).sort("subject_id", "prediction_time", maintain_order=True)


def _rows(record: Record, shard: int, *, task: AcesTask) -> pl.DataFrame:
    return aces_rows(record.events(shard), task)


def aces_rows(events: pl.LazyFrame, task: AcesTask) -> pl.DataFrame:
    """The rows of `aces_cohort` for one table of events that holds all events of its subjects.

    Raises:
        InputError: the task names a column that the events lack.

    """
    moments = _moments(events, task)
    rows = moments.filter(pl.col(task.trigger) > 0).select("subject_id", pl.col("time").alias(TRIGGER))
    for name, window in task.windows.items():
        rows = _place(rows, moments, name=name, window=window)
    label = pl.col(_LABEL) > 0 if task.label_window else pl.lit(None, dtype=pl.Boolean)
    rows = rows.with_columns(pl.col(task.prediction_time).alias("prediction_time"), label.alias("boolean_value"))
    return rows.sort("subject_id", "prediction_time", TRIGGER).select(_ROWS)


def _moments(events: pl.LazyFrame, task: AcesTask) -> pl.DataFrame:
    """One row per subject and time with each predicate's count then, sorted; of subjects with all static predicates."""
    plain = {name: p for name, p in task.predicates.items() if isinstance(p, PlainPredicate)}
    _check_columns(events, task, plain)
    events = events.with_columns(pl.col("code").cast(pl.String)).filter(~pl.col("code").str.starts_with(CARELOOP))
    facts = events.select(*_MOMENT, *(_satisfies(p).cast(pl.Int32).alias(name) for name, p in plain.items()))
    timed = facts.filter(pl.col("time").is_not_null())
    parts = [timed if _needs_every_moment(task) else timed.filter(pl.any_horizontal(pl.col(list(plain)) > 0))]
    for name, edge in ((RECORD_START, pl.col("time").min()), (RECORD_END, pl.col("time").max())):
        if name in task.uses:
            parts.append(timed.group_by("subject_id").agg(edge).with_columns(pl.lit(1, pl.Int32).alias(name)))
    moments = pl.concat(parts, how="diagonal").group_by(_MOMENT).agg(pl.all().sum())
    moments = moments.with_columns(pl.lit(1, pl.Int32).alias(ANY_EVENT))
    if task.static:
        subjects = facts.filter(pl.col("time").is_null()).group_by("subject_id").agg(pl.col(list(plain)).sum())
        subjects = _with_derived(subjects, task).filter(pl.all_horizontal(pl.col(task.static) > 0))
        moments = moments.join(subjects.select("subject_id"), on="subject_id", how="semi")
        moments = moments.with_columns(pl.lit(1, pl.Int32).alias(name) for name in task.static if name in plain)
    return _with_derived(moments, task).select(*_MOMENT, *sorted(task.uses)).sort(_MOMENT).collect()


def _check_columns(events: pl.LazyFrame, task: AcesTask, plain: dict[str, PlainPredicate]) -> None:
    present = events.collect_schema()
    for name, predicate in plain.items():
        for column, wanted in predicate.columns.items():
            is_text = isinstance(present.get(column), pl.String | pl.Categorical | pl.Enum)
            if column not in present or is_text != isinstance(wanted, str):
                raise InputError(
                    f"{task.path}: predicates.{name}.{column}: a key that ACES does not know is a condition on a "
                    f"column of the events, of its type; got {wanted!r}; remove it or use one of {', '.join(present)}"
                )


def _satisfies(predicate: PlainPredicate) -> pl.Expr:
    """Whether a fact satisfies a plain predicate; null (which counts as no) where it has no value to compare."""
    code, value = pl.col("code"), pl.col("numeric_value")
    wanted = predicate.code
    tests = [code.str.contains(wanted.regex) if wanted.regex else code.is_in(wanted.listed)]
    if predicate.value_min is not None:
        least = predicate.value_min
        tests.append(value >= least if predicate.value_min_inclusive else value > least)
    if predicate.value_max is not None:
        greatest = predicate.value_max
        tests.append(value <= greatest if predicate.value_max_inclusive else value < greatest)
    tests += [pl.col(column) == same for column, same in predicate.columns.items()]
    return pl.all_horizontal(tests)


def _needs_every_moment(task: AcesTask) -> bool:
    """Whether moments at which no plain predicate occurs matter: they are events, or something static holds then."""
    derived = [predicate for predicate in task.predicates.values() if isinstance(predicate, DerivedPredicate)]
    return ANY_EVENT in task.uses or any(set(task.static) & set(predicate.inputs) for predicate in derived)


def _with_derived(counts: pl.LazyFrame, task: AcesTask) -> pl.LazyFrame:
    for name, predicate in task.predicates.items():
        if isinstance(predicate, DerivedPredicate):
            occurs = pl.col(predicate.inputs) > 0
            holds = pl.all_horizontal(occurs) if predicate.combine == "and" else pl.any_horizontal(occurs)
            counts = counts.with_columns(holds.cast(pl.Int32).alias(name))
    return counts


def _place(rows: pl.DataFrame, moments: pl.DataFrame, *, name: str, window: Window) -> pl.DataFrame:
    """Add the times of the window's two ends and its label's count; keep the rows that satisfy its constraints."""
    for side in window.sides:
        rows = _find(rows, moments, name=name, window=window, side=side)
    counted = sorted({*window.has, *([window.label] if window.label else [])})
    if not counted:
        return rows
    counts = _count(rows, moments.select(*_MOMENT, *counted), name=name, window=window)
    if window.label:
        rows = rows.with_columns(counts[window.label].alias(_LABEL))
    satisfied = [_within(what, *limits) for what, limits in window.has.items()]
    return rows.filter(counts.select(pl.all_horizontal(satisfied)).to_series()) if satisfied else rows


def _find(rows: pl.DataFrame, moments: pl.DataFrame, *, name: str, window: Window, side: str) -> pl.DataFrame:
    """Add the time of one end of the window; rows without such a moment are dropped.

    An end found by an arrow may be the very moment it is sought from only where that side of the window is inclusive;
    a root, sought from outside the window, never may.
    """
    bound: Bound = window.start if side == "start" else window.end
    inside = bound.reference in ("start", "end")
    origin = f"{name}.{bound.reference}" if inside else bound.reference
    found = f"{name}.{side}"
    if bound.predicate is None:
        return rows.with_columns((pl.col(origin) + bound.delta).alias(found))
    candidates = moments.filter(pl.col(bound.predicate) > 0).select("subject_id", pl.col("time").alias(found))
    return rows.join_asof(
        candidates,
        left_on=origin,
        right_on=found,
        by="subject_id",
        strategy=bound.direction,
        allow_exact_matches=inside and (window.start_inclusive if side == "start" else window.end_inclusive),
        coalesce=False,
        check_sortedness=False,  # rows are in order of their trigger, and no bound changes that order
    ).drop_nulls(found)


def _count(rows: pl.DataFrame, counts: pl.DataFrame, *, name: str, window: Window) -> pl.DataFrame:
    """How often each predicate of `counts` occurs in the window of each row, as the difference of two running sums."""
    counted = counts.columns[len(_MOMENT) :]
    running = counts.with_columns(pl.col(counted).cum_sum().over("subject_id"))
    sums = {
        side: rows.select("subject_id", f"{name}.{side}")
        .join_asof(
            running,
            left_on=f"{name}.{side}",
            right_on="time",
            by="subject_id",
            allow_exact_matches=exact,
            check_sortedness=False,
        )
        .select(pl.col(counted).fill_null(0))
        for side, exact in (("start", not window.start_inclusive), ("end", window.end_inclusive))
    }
    return sums["end"].select(pl.col(what) - sums["start"][what] for what in counted)


def _within(name: str, least: int | None, greatest: int | None) -> pl.Expr:
    within = pl.lit(True)
    if least is not None:
        within &= pl.col(name) >= least
    return within if greatest is None else within & (pl.col(name) <= greatest)
