"""Plans, and the decisions taken beside them, as events of the record."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from careloop.plan.make import Plan
from careloop.record import CARELOOP, EVENTS, conform

PLAN = f"{CARELOOP}PLAN//"
DECISION = f"{CARELOOP}DECISION//"


def plan_events(plan: Plan, *, name: str, known_time: datetime | None = None) -> pl.DataFrame:
    """One event per row of the plan's table, with the columns of `EVENTS`.

    `name` is the study's. Code `CARELOOP//PLAN//NAME//OPTION`; `time` the prediction time and `known_time` when the
    plan was made (default: the prediction time); `numeric_value` the expected value of the first goal, a risk as a
    fraction; `text_value` JSON with rank, low, high, recommended, abstained, reason, and,
    where safety was checked, status and safety.
    """
    safety = [name for name in ("status", "safety") if name in plan.table.columns]
    detail = pl.struct("rank", "low", "high", "recommended", "abstained", "reason", *safety).struct.json_encode()
    return _events(
        plan.table,
        code=pl.lit(f"{PLAN}{name}//") + pl.col("option"),
        numeric_value=pl.col("expected").cast(pl.Float32),
        text_value=detail,
        source=f"careloop:plan:{name}",
        known_time=known_time,
    )


def decision_events(cohort_rows: pl.DataFrame, *, name: str, known_time: datetime | None = None) -> pl.DataFrame:
    """The option really given, one event per cohort row in an arm, in the layout of `decisions.decision_frame`.

    Nobody was asked: the action is "observed", and there is neither actor nor reason.
    """
    observed = pl.struct(action=pl.lit("observed"), chosen=pl.col("treatment"))
    return _events(
        cohort_rows.filter(pl.col("treatment").is_not_null()),
        code=pl.lit(f"{DECISION}{name}"),
        numeric_value=pl.lit(None, pl.Float32),
        text_value=observed.struct.json_encode(),
        source=f"careloop:observed:{name}",
        known_time=known_time,
    )


def _events(
    rows: pl.DataFrame,
    *,
    code: pl.Expr,
    numeric_value: pl.Expr,
    text_value: pl.Expr,
    source: str,
    known_time: datetime | None,
) -> pl.DataFrame:
    moment = pl.col("prediction_time").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    known = pl.col("prediction_time") if known_time is None else pl.lit(known_time, EVENTS["known_time"])
    events = rows.select(
        "subject_id",
        time=pl.col("prediction_time"),
        known_time=known,
        code=code,
        numeric_value=numeric_value,
        text_value=text_value,
        source=pl.format("{}:{}:{}", pl.lit(source), pl.col("subject_id"), moment),
    )
    return conform(events.sort("subject_id", "time", "code"))
