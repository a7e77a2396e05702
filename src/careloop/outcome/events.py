"""Predictions read back from the record and judged by what has happened since, and verdicts as events of the record."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import polars as pl

from careloop import InputError
from careloop.cohort import CohortSection, label_outcomes
from careloop.outcome.verdict import Verdict, verify
from careloop.plan.patients import KEYS
from careloop.record import CARELOOP, EVENTS, Record, conform

VERDICT = f"{CARELOOP}VERDICT//"
DETAILS = pl.Struct({"version": pl.String, "horizon_days": pl.Float64, "abstained": pl.Boolean, "shown": pl.Boolean})
MICROSECONDS_PER_DAY = 86_400_000_000


def verify_record(record: Record, section: CohortSection, *, model_versions: Sequence[str] | None = None) -> Verdict:
    """Judge the predictions that the record holds by the outcomes it holds by now, as later events arrive.

    Rows and errors as `labelled_predictions`.
    """
    rows = labelled_predictions(record, section, model_versions=model_versions)
    return verify_labelled(rows, horizon_days=section.outcome.horizon_days)


def verify_labelled(rows: pl.DataFrame, *, horizon_days: float) -> Verdict:
    """Judge `labelled_predictions` by the outcomes that stand beside them."""
    labels = rows.select(*KEYS, "boolean_value", "follow_up_days", "event").unique(KEYS, maintain_order=True)
    return verify(rows, labels, horizon_days=horizon_days, who="later")


def labelled_predictions(
    record: Record, section: CohortSection, *, model_versions: Sequence[str] | None = None
) -> pl.DataFrame:
    """The record's predictions (`recorded_predictions`) with boolean_value, follow_up_days and event as known by now.

    Only predictions for the section's horizon count, and only those of `model_versions` if given: a record may hold
    predictions of other outcomes. Raises InputError where the record has none.
    """
    horizon_days = section.outcome.horizon_days
    predictions = recorded_predictions(record, horizon_days=horizon_days)
    if model_versions is not None:
        predictions = predictions.filter(pl.col("model_version").is_in(list(model_versions)))
    if predictions.is_empty():
        raise InputError(
            f"{record.path}: a verdict needs predictions for {horizon_days:g} days in the record, got none; "
            "predict and write them back first"
        )
    labels = label_outcomes(record, predictions.select(KEYS).unique().sort(KEYS), section)
    return predictions.join(
        labels.select(*KEYS, "boolean_value", "follow_up_days", "event"), on=KEYS, maintain_order="left"
    )


def recorded_predictions(record: Record, *, horizon_days: float) -> pl.DataFrame:
    """Predictions in the record for this horizon, one row per (subject_id, prediction_time, model, model_version).

    Columns subject_id, prediction_time, model, model_version, predicted_boolean_probability Float64, abstained, shown
    (False for those of a silent trial).
    """
    from careloop.predict.apply import PREDICTION  # here, because it loads scikit-learn

    details = pl.col("text_value").str.json_decode(DETAILS)
    return (
        record.events(codes=[f"{PREDICTION}*"])
        .with_columns(details=details)
        .filter(pl.col("details").struct.field("horizon_days") == horizon_days)
        .select(
            "subject_id",
            prediction_time=pl.col("time"),
            model=pl.col("code").str.strip_prefix(PREDICTION),
            model_version=pl.col("details").struct.field("version"),
            predicted_boolean_probability=pl.col("numeric_value").cast(pl.Float64),
            abstained=pl.col("details").struct.field("abstained"),
            shown=pl.col("details").struct.field("shown").fill_null(True),
        )
        .unique([*KEYS, "model", "model_version"], keep="last", maintain_order=True)
        .sort("model", "model_version", *KEYS)
        .collect()
    )


def verdict_events(verdict: Verdict, *, name: str, known_time: datetime | None = None) -> pl.DataFrame:
    """One event per prediction whose outcome is known, with the columns of `EVENTS`.

    `name` is the study's. Code `CARELOOP//VERDICT//NAME//MODEL`; `time` is when the outcome became known (the event, or
    the horizon), `known_time` when the verdict was reached (default: the same); `numeric_value` 1 if the outcome
    happened by the horizon, else 0; `text_value` JSON with model_version, predicted, abstained, given and recommended;
    `source` names the prediction judged. Append them with origin `careloop`.
    """
    after = pl.duration(microseconds=(pl.col("known_days") * MICROSECONDS_PER_DAY).round().cast(pl.Int64))
    time = (pl.col("prediction_time") + after).cast(EVENTS["time"])
    moment = pl.col("prediction_time").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    events = verdict.patients.filter(pl.col("boolean_value").is_not_null()).select(
        "subject_id",
        time=time,
        known_time=time if known_time is None else pl.lit(known_time, EVENTS["known_time"]),
        code=pl.lit(f"{VERDICT}{name}//") + pl.col("model"),
        numeric_value=pl.col("boolean_value").cast(pl.Float32),
        text_value=pl.struct("model_version", "predicted", "abstained", "given", "recommended").struct.json_encode(),
        source=pl.format(
            "careloop:verdict:{}:{}:{}:{}:{}",
            pl.lit(name),
            pl.col("model"),
            pl.col("model_version").fill_null(""),
            pl.col("subject_id"),
            moment,
        ),
    )
    return conform(events.sort("subject_id", "time", "code", "source"))
