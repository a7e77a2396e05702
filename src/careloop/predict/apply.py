"""Apply a package to feature rows: risk, interval, abstention; and predictions as events of the record."""

from __future__ import annotations

import json
from typing import Any, Literal

import numpy as np
import polars as pl

from careloop import InputError
from careloop.evaluate.conformal import LabelSets
from careloop.features import FeatureMatrix
from careloop.predict.intervals import risk_interval
from careloop.predict.population import outside_reasons
from careloop.train import Package

PREDICTION = "CARELOOP//PREDICTION//"
TIME = pl.Datetime("us", "UTC")
PREDICTION_COLUMNS: dict[str, Any] = {
    "subject_id": pl.Int64,
    "prediction_time": TIME,
    "boolean_value": pl.Boolean,
    "predicted_boolean_value": pl.Boolean,
    "predicted_boolean_probability": pl.Float64,
    "model": pl.String,
    "model_version": pl.String,
    "low": pl.Float64,
    "high": pl.Float64,
    "abstained": pl.Boolean,
    "abstained_reason": pl.String,
    "record_version": pl.Int64,
    "conformal_set": pl.List(pl.Boolean),
}
PREDICTIONS = pl.Schema(PREDICTION_COLUMNS)


def predict(package: Package, matrix: FeatureMatrix, *, record_version: int) -> pl.DataFrame:
    """Predictions (schema `PREDICTIONS`), one row for each row of the matrix, in its order.

    `low` and `high` are the Venn-Abers interval. `boolean_value`, the truth, is null. Where `abstained`, the patient is
    unlike the training population (`abstained_reason` says how): the probability stays for checking, and there is no
    `predicted_boolean_value`. `conformal_set` holds the values of the truth that are not ruled out, in the order false,
    true: both where the model cannot tell, none where neither fits; null where abstained.
    """
    raw = package.uncalibrated_risk(matrix)
    risk = package.recalibration.apply(raw)
    low, high = risk_interval(package, raw, risk)
    reasons = pl.Series("abstained_reason", outside_reasons(package, package.aligned(matrix)), dtype=pl.String)
    abstained = reasons.is_not_null()
    frame = matrix.keys.select(pl.col("subject_id").cast(pl.Int64), pl.col("prediction_time").cast(TIME)).with_columns(
        boolean_value=pl.lit(None, pl.Boolean),
        predicted_boolean_value=pl.Series(risk >= package.threshold),
        predicted_boolean_probability=pl.Series(risk),
        model=pl.lit(package.name),
        model_version=pl.lit(package.version),
        low=pl.Series(low),
        high=pl.Series(high),
        abstained=abstained,
        abstained_reason=reasons,
        record_version=pl.lit(record_version, pl.Int64),
        conformal_set=label_lists(package.label_sets(raw, matrix)),
    )
    decided = [pl.when(~pl.col("abstained")).then(pl.col(c)) for c in ("predicted_boolean_value", "conformal_set")]
    return frame.with_columns(decided).select(PREDICTIONS.names())


def label_lists(sets: LabelSets) -> pl.Series:
    """The labels in each row's set, false before true, as lists."""
    lists = [[bool(label) for label in np.flatnonzero(row)] for row in sets.member]
    return pl.Series(lists, dtype=pl.List(pl.Boolean))


def prediction_events(
    predictions: pl.DataFrame, *, horizon_days: float, mode: Literal["shown", "silent"] = "shown"
) -> pl.DataFrame:
    """Predictions as events to append to the record with origin `careloop`.

    Code `CARELOOP//PREDICTION//<model>`, known at the prediction time, `numeric_value` the probability, `text_value`
    JSON with version, low, high, horizon_days, abstained, reason and label set; `source` names model, version, subject
    and time. In `silent` mode, where nobody is shown them (a silent trial), the JSON has `shown: false`.
    """
    absent = [name for name in PREDICTIONS.names() if name not in predictions.columns]
    if absent:
        raise InputError(f"predictions lack column {absent[0]!r}: pass what predict returned")
    rows = predictions.sort("subject_id", "prediction_time", "model")
    details = [
        json.dumps(
            {
                "version": row["model_version"],
                "low": row["low"],
                "high": row["high"],
                "horizon_days": horizon_days,
                "abstained": row["abstained"],
                "reason": row["abstained_reason"],
                "set": row["conformal_set"],
                **({"shown": False} if mode == "silent" else {}),
            },
            separators=(",", ":"),
            ensure_ascii=False,
        )
        for row in rows.iter_rows(named=True)
    ]
    moment = pl.col("prediction_time").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    return rows.select(
        "subject_id",
        time="prediction_time",
        known_time="prediction_time",
        code=PREDICTION + pl.col("model"),
        numeric_value=pl.col("predicted_boolean_probability").cast(pl.Float32),
        unit=pl.lit(None, pl.String),
        text_value=pl.Series(details, dtype=pl.String),
        asset=pl.lit(None, pl.String),
        source=pl.format(
            "careloop:prediction:{}:{}:{}:{}", pl.col("model"), pl.col("model_version"), pl.col("subject_id"), moment
        ),
    )
