"""The one as-of gate: what was known about each subject at each prediction time."""

from __future__ import annotations

import polars as pl

from careloop import InputError

KEYS = ("subject_id", "prediction_time")


def history(events: pl.LazyFrame, prediction_times: pl.DataFrame | pl.LazyFrame) -> pl.LazyFrame:
    """Return the events of each (subject_id, prediction_time) that were known by then, with column `prediction_time`.

    An event is known from its `known_time` on, the moment itself included (MEDS's label schema); a static fact (`time`
    and `known_time` null) is always known. A dated row without `known_time` is never shown: nobody can say when it
    became known. An event known in advance (an appointment) may have a `time` after the prediction time.

    Every feature, sequence, timeline, image and genome lookup goes through this function. Rows come in no promised
    order; an event appears once for each prediction time that may see it; equal prediction times count once.

    Args:
        events: rows with at least subject_id, time and known_time (`Record.events`), one shard or many.
        prediction_times: subject_id (Int64) and prediction_time (Datetime("us", "UTC")); other columns are ignored.

    Raises:
        InputError: a column of `prediction_times` is missing or of another type.
    """
    keys = prediction_times.lazy()
    _check(keys.collect_schema())
    known = pl.col("known_time") <= pl.col("prediction_time")
    static = pl.col("time").is_null() & pl.col("known_time").is_null()
    return events.join(keys.select(KEYS).unique(), on="subject_id", how="inner").filter(known | static)


def _check(schema: pl.Schema) -> None:
    wanted = {"subject_id": pl.Int64(), "prediction_time": pl.Datetime("us", "UTC")}
    for name, dtype in wanted.items():
        if schema.get(name) != dtype:
            got = schema.get(name, "no such column")
            raise InputError(f"prediction times: {name} must be {dtype}, got {got}; cast or add the column")
