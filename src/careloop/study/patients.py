"""A few held-out patients in full: prediction, explanation, what if, similar ones, options, and what happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from careloop import InputError
from careloop.evaluate import Outcomes
from careloop.features import FeatureMatrix
from careloop.predict import explain
from careloop.predict.altered import FeatureRow
from careloop.predict.counterfactual import NOT_AN_EFFECT, smallest_change, what_if_typical
from careloop.predict.similar import PastPatients
from careloop.study.stages import cohort_rows as rows_of
from careloop.study.stages import feature_matrix
from careloop.train import Package

if TYPE_CHECKING:
    from careloop.plan import Plan
    from careloop.study.folder import RunFolder

KEYS = ["subject_id", "prediction_time"]
MOST_SIMILAR = 10
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
        "events": [asdict(event) for event in getattr(explanation, "events", ())],
        "origin": explanation.origin,
        "unit": f"share in the risk, from {explanation.reference_risk:.0%} for {explanation.reference}",
    }


def past_patients(package: Package, run: RunFolder) -> PastPatients:
    """The run's tuning rows, which the package was not fitted to, to be searched for patients it sees as similar."""
    rows = rows_of(run, "tuning")
    subject_id, follow_up_days, event = (rows[name].to_numpy() for name in ("subject_id", "follow_up_days", "event"))
    outcomes = Outcomes(subject_id, follow_up_days, event, package.horizon_days)
    return PastPatients.of(package, feature_matrix(run, "tuning"), outcomes)


def with_insight(
    patients: Sequence[dict[str, Any]], package: Package, matrix: FeatureMatrix, *, past: PastPatients
) -> list[dict[str, Any]]:
    """Each of `example_patients` with `what_if` and `similar`: sentences, and what they mean.

    `matrix` has the patients' rows, `past` is from `past_patients`.
    """
    place = {key: row for row, key in enumerate(matrix.keys.select(KEYS).iter_rows())}
    return [
        {**patient, **_insight(package, matrix, place[patient["subject_id"], patient["prediction_time"]], past)}
        for patient in patients
    ]


def _insight(package: Package, matrix: FeatureMatrix, row: int, past: PastPatients) -> dict[str, Any]:
    """The lab that matters most set to its typical value, the smallest change, and similar past patients."""
    patient = FeatureRow.of(package, matrix, row)
    typical, smallest = what_if_typical(patient), smallest_change(patient)
    alone = matrix.filter(np.arange(matrix.keys.height) == row)
    k = min(MOST_SIMILAR, past.past.keys["subject_id"].n_unique())
    found = past.similar(alone, k=k)
    sentences = [*(answer.text for answer in typical[:1]), *([smallest.text] if typical else [])]
    return {
        "what_if": {"sentences": sentences, "origin": NOT_AN_EFFECT if sentences else ""},
        "similar": {"sentences": found.text.split("\n"), "subjects": [n.subject_id for n in found.neighbours]},
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
