"""The data of an emulated trial: who is eligible, when treatments started, follow-up, and confounders over time.

Treatment, outcome and follow-up are facts of the uncut record, as in `cohort.labels`: they are what happened.
Confounders are looked up anew as of the start of each interval through the one gate, so that none of them was known
later than the treatment decision it stands before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from careloop import InputError
from careloop.cohort.labels import KEY, MICROSECONDS_PER_DAY, Facts, read_facts
from careloop.features import FeatureMatrix, FeaturesSection, Recipe, extract, fit_features
from careloop.plan.effect.goals import Array
from careloop.plan.patients import LEARNING_SPLITS
from careloop.plan.trial.definition import GRID_TOLERANCE, Strategy, TrialSection
from careloop.record import Record
from careloop.record.schema import code_matches
from careloop.record.shards import HERE, each_shard

MOST_CELLS = 100_000_000  # of the confounder matrix: 0.8 GB


@dataclass(frozen=True, eq=False)
class Grid:
    """Intervals up to the horizon: `starts` (K,) in days, `lengths` (K,) in intervals (1, the last less)."""

    interval_days: float
    horizon_days: float
    starts: Array
    lengths: Array

    @classmethod
    def of(cls, interval_days: float, horizon_days: float) -> Grid:
        """Divide the horizon."""
        count = int(np.ceil(horizon_days / interval_days - GRID_TOLERANCE))
        starts = np.arange(count) * interval_days
        return cls(
            interval_days, horizon_days, starts, np.minimum(horizon_days - starts, interval_days) / interval_days
        )

    def __len__(self) -> int:
        return len(self.starts)

    def interval_of(self, days: Array) -> Array:
        """Interval (start, end] that holds each day; day 0 gives the first, days beyond the horizon give the last."""
        capped = np.clip(days, 0.0, self.horizon_days)
        return np.clip(np.ceil(capped / self.interval_days - GRID_TOLERANCE).astype(int) - 1, 0, len(self) - 1)


@dataclass(frozen=True, eq=False)
class TrialData:
    """Eligible rows (n of them) of an emulated trial, and their confounders at the starts of m person-intervals.

    `subjects` (n,); `follow_up_days` (n,) and `event` (n,) as in a cohort (0 censored, 1 outcome, 2 competing); `days`,
    by treatment (`treatment_key`), (n,): days from time zero to its first record, inf if none; `stops`, by strategy,
    (n,): days to the first stop after starting. `row`, `interval` (m,) say which row and interval the confounders
    `values` (m, p) belong to: interval 0 of every row, and later ones while the row is followed; NaN where missing.
    `eligible` counts the rows before, `prevalent` those left out because they had a treatment before.
    """

    subjects: Array
    follow_up_days: Array
    event: Array
    days: dict[str, Array]
    stops: dict[str, Array]
    grid: Grid
    row: Array
    interval: Array
    values: Array
    names: tuple[str, ...]
    eligible: int
    prevalent: int

    def __len__(self) -> int:
        return len(self.subjects)


def treatment_key(codes: tuple[str, ...]) -> str:
    """The name under which the days of a treatment are kept."""
    return " or ".join(codes)


def emulate_trial(
    record: Record,
    cohort_rows: pl.DataFrame,
    section: TrialSection,
    *,
    features: FeaturesSection | Recipe,
    horizon_days: float,
    on: str = HERE,
) -> TrialData:
    """Read what an emulation needs of the cohort's training and tuning rows (all rows, without a `split` column).

    `cohort_rows` are a cohort's: subject_id, prediction_time (time zero), follow_up_days, event. `features`: a section,
    whose columns are chosen on all person-intervals, or a recipe; columns of the strategies' own codes are left out.

    Raises:
        InputError: nobody is left; a strategy's code is not in the record; too many confounders.
    """
    rows = cohort_rows.filter(pl.col("split").is_in(LEARNING_SPLITS)) if "split" in cohort_rows.columns else cohort_rows
    rows = rows.select(*KEY, "follow_up_days", "event").sort(KEY)
    treated = _treatment_days(record, rows.select(KEY), section, on)
    prevalent = treated["before"].to_numpy() & (section.previous == "exclude")
    rows, treated = rows.filter(~prevalent), treated.filter(~prevalent)
    if rows.is_empty():
        raise InputError(
            f"trial: nobody is eligible: {int(prevalent.sum())} rows had a treatment of the strategies before "
            "time zero; change cohort.index or set previous: keep"
        )
    grid = Grid.of(section.interval_days, horizon_days)
    row, interval = _person_intervals(rows["follow_up_days"].to_numpy(), grid)
    matrix = _confounders(record, _as_of(rows, row, interval, grid), features, section, on)
    keys = [treatment_key(codes) for codes in section.treatments]
    staying = [name for name, strategy in section.strategies.items() if strategy.not_stopping]
    return TrialData(
        subjects=rows["subject_id"].to_numpy(),
        follow_up_days=rows["follow_up_days"].to_numpy().astype(float),
        event=rows["event"].to_numpy().astype(int),
        days={key: treated[f"day {key}"].to_numpy() for key in keys},
        stops={name: treated[f"stop {name}"].to_numpy() for name in staying},
        grid=grid,
        row=row,
        interval=interval,
        values=_dense(matrix.values),
        names=matrix.names,
        eligible=len(prevalent),
        prevalent=int(prevalent.sum()),
    )


def _treatment_days(record: Record, keys: pl.DataFrame, section: TrialSection, on: str) -> pl.DataFrame:
    """For each key, in order: `before`, `day TREATMENT` and `stop STRATEGY` (days from time zero, inf if none)."""
    parts = list(each_shard(record, partial(_shard_days, keys=keys, section=section), on=on))
    known = set().union(*(codes for _, codes in parts))
    for field, code in section.named_codes():
        if not any(other.startswith(code[:-1]) if code.endswith("*") else other == code for other in known):
            raise InputError(
                f"trial.{field}: no event in the record has code {code}; see its codes with `careloop check`"
            )
    found = pl.concat([frame for frame, _ in parts])
    return keys.join(found, on=KEY, how="left", maintain_order="left")


def _shard_days(
    record: Record, shard: int, *, keys: pl.DataFrame, section: TrialSection
) -> tuple[pl.DataFrame, frozenset[str]]:
    facts = read_facts(record.events(shard), section)
    here = keys.join(facts.spans, on="subject_id", how="semi", maintain_order="left")
    columns = {"before": _had_before(facts, here, section)}
    for codes in section.treatments:
        columns[f"day {treatment_key(codes)}"] = _first_day(facts, here, codes, from_day=np.zeros(here.height))
    for name, strategy in section.strategies.items():
        if strategy.not_stopping:
            columns[f"stop {name}"] = _stop_day(facts, here, strategy, columns)
    return here.with_columns(**{name: pl.Series(values) for name, values in columns.items()}), facts.codes


def _had_before(facts: Facts, keys: pl.DataFrame, section: TrialSection) -> Array:
    """Whether any of the treatments is dated before time zero (however late it became known), or undated."""
    codes = [code for treatment in section.treatments for code in treatment]
    earliest = (
        facts.events.filter(code_matches(codes))
        .group_by("subject_id")
        .agg(first=pl.col("time").min(), undated=pl.col("time").is_null().any())
    )
    joined = keys.join(earliest, on="subject_id", how="left", maintain_order="left")
    earlier = pl.col("undated") | (pl.col("first") < pl.col("prediction_time"))
    return joined.select(earlier.fill_null(False)).to_series().to_numpy()


def _first_day(facts: Facts, keys: pl.DataFrame, codes: tuple[str, ...], *, from_day: Array) -> Array:
    """Days (n,) from time zero to the first event with one of the codes at or after `from_day` (n,), inf if none."""
    dated = facts.events.filter(code_matches(codes), pl.col("time").is_not_null()).select("subject_id", "time")
    sought = (
        keys.select(KEY).with_columns(day=pl.Series(from_day)).with_row_index("row").filter(pl.col("day").is_finite())
    )
    passed = (pl.col("day") * MICROSECONDS_PER_DAY).round().cast(pl.Int64).cast(pl.Duration("us"))
    found = (
        sought.with_columns(since=pl.col("prediction_time") + passed)
        .sort("since")
        .join_asof(
            dated.sort("time").with_columns(found="time"),
            left_on="since",
            right_on="time",
            by="subject_id",
            strategy="forward",
            check_sortedness=False,  # both sides are sorted above; with `by` polars cannot check it
        )
    )
    found = found.filter(pl.col("found").is_not_null())
    days = np.full(keys.height, np.inf)
    after = (found["found"] - found["prediction_time"]).dt.total_microseconds().to_numpy() / MICROSECONDS_PER_DAY
    days[found["row"].to_numpy()] = after
    return days


def _stop_day(facts: Facts, keys: pl.DataFrame, strategy: Strategy, columns: dict[str, Array]) -> Array:
    """Days to the first stop after (not at) the strategy's start."""
    assert strategy.start is not None  # the section's validator asks for it
    assert strategy.not_stopping is not None
    started = columns[f"day {treatment_key(strategy.start)}"]
    return _first_day(facts, keys, strategy.not_stopping, from_day=started + 1 / MICROSECONDS_PER_DAY)


def _person_intervals(follow_up_days: Array, grid: Grid) -> tuple[Array, Array]:
    """Row and interval of each person-interval that begins within follow-up; every row has its first."""
    alive = grid.starts < follow_up_days[:, None]
    alive[:, 0] = True
    row, interval = np.nonzero(alive)
    return row, interval


def _as_of(rows: pl.DataFrame, row: Array, interval: Array, grid: Grid) -> pl.DataFrame:
    """Keys of the person-intervals: the prediction time is the interval's start."""
    passed = pl.Series(np.round(grid.starts[interval] * MICROSECONDS_PER_DAY).astype(np.int64)).cast(pl.Duration("us"))
    return rows.select(KEY)[row].with_columns(prediction_time=pl.col("prediction_time") + passed)


def _confounders(
    record: Record, keys: pl.DataFrame, features: FeaturesSection | Recipe, section: TrialSection, on: str
) -> FeatureMatrix:
    if isinstance(features, Recipe):
        codes = pl.DataFrame({"code": [column.code for column in features.columns]})
        own = codes.select(code_matches(section.codes)).to_series()
        kept = [column.name for column, is_own in zip(features.columns, own, strict=True) if not is_own]
        matrix = extract(record, keys, features.keep(kept), on=on)
    else:
        _, matrix = fit_features(record, keys, features, exclude_codes=section.codes, on=on)
    if keys.height * len(matrix.names) > MOST_CELLS:
        raise InputError(
            f"trial adjusts for every confounder in every interval, at most {MOST_CELLS:,} cells; got "
            f"{keys.height:,} x {len(matrix.names):,}; name fewer codes in trial.features, or longer interval_days"
        )
    return matrix


def _dense(values: Any) -> Array:
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=float)
