"""A few held-out patients in full: prediction, explanation, options, and what happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from careloop import InputError
from careloop.features import FeatureMatrix
from careloop.predict import explain
from careloop.train import Package

if TYPE_CHECKING:
    from careloop.plan import Plan

KEYS = ["subject_id", "prediction_time"]
# Without a choice: patients at these quantiles of predicted risk.
QUANTILES = {"lower risk": 0.1, "middle risk": 0.5, "higher risk": 0.9}


def example_patients(
    package: Package,
    matrix: FeatureMatrix,
    predictions: pl.DataFrame,
    *,
    cohort_rows: pl.DataFrame,
    plan: Plan | None,
    chosen: Sequence[int],
) -> list[dict[str, Any]]:
    """What patients.json holds, for the subjects `chosen` or else one each of lower, middle and higher predicted risk.

    `matrix`, `predictions` (one model's) and `cohort_rows` have the same held-out rows in the same order. Raises
    InputError for a chosen subject who is not held out.
    """
    rows = _chosen_rows(predictions, chosen) if chosen else _spread_rows(predictions)
    return [
        {
            "name": name,
            **_prediction(predictions.row(row, named=True)),
            **_explanation(package, matrix, row),
            "options": [] if plan is None else _options(plan, cohort_rows[row]),
            **_later(cohort_rows.row(row, named=True), package.horizon_days),
        }
        for name, row in rows.items()
    ]


def _chosen_rows(predictions: pl.DataFrame, chosen: Sequence[int]) -> dict[str, int]:
    place = {subject: row for row, subject in reversed(list(enumerate(predictions["subject_id"])))}
    for subject in chosen:
        if subject not in place:
            raise InputError(
                f"examples: subject {subject} is not held out in this study; choose one from predictions.parquet"
            )
    return {f"Patient {subject}": place[subject] for subject in chosen}


def _spread_rows(predictions: pl.DataFrame) -> dict[str, int]:
    usable = predictions.with_row_index("row").filter(~pl.col("abstained"))
    ranked = (usable if usable.height else predictions.with_row_index("row")).sort("predicted_boolean_probability")
    rows = {name: int(ranked["row"][round(q * (ranked.height - 1))]) for name, q in QUANTILES.items()}
    return {f"Patient {predictions['subject_id'][row]}, {name}": row for name, row in rows.items()}


def _prediction(row: dict[str, Any]) -> dict[str, Any]:
    kept = ("subject_id", "prediction_time", "model", "model_version", "low", "high", "abstained", "abstained_reason")
    return {"probability": row["predicted_boolean_probability"], **{name: row[name] for name in kept}}


def _explanation(package: Package, matrix: FeatureMatrix, row: int) -> dict[str, Any]:
    explanation = explain(package, matrix, row)
    return {
        "summary": explanation.summary,
        "factors": [{"label": f.name, "text": f.text, "contribution": f.share} for f in explanation.leading],
        "origin": explanation.origin,
        "unit": f"share in the risk, from {explanation.reference_risk:.0%} for an average training patient",
    }


def _options(plan: Plan, row: pl.DataFrame) -> list[dict[str, Any]]:
    ranked = plan.of(row).table.drop(KEYS).sort("rank", "option", nulls_last=True)
    return [{**option, "kind": plan.goals[0].kind} for option in ranked.iter_rows(named=True)]


def _later(row: dict[str, Any], horizon_days: float) -> dict[str, Any]:
    day = f"{row['follow_up_days']:.0f}"
    happened = {
        1: f"the outcome on day {day}",
        2: f"a competing event on day {day}",
        0: f"followed to day {day} without",
    }
    words = happened[row["event"]]
    if row["event"] == 1 and row["follow_up_days"] > horizon_days:
        words += f", after the horizon of {horizon_days:g} days"
    return {"given": row["treatment"], "later": words}
