"""The verdict on a study's predictions and plan, from patients whose outcomes neither of them has seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from careloop import InputError
from careloop.evaluate import to_json
from careloop.features import FeatureMatrix
from careloop.outcome.accuracy import PredictionVerdict, judge_predictions
from careloop.outcome.treatment.value import PlanVerdict, judge_plan
from careloop.plan.make import Plan
from careloop.plan.patients import KEYS


@dataclass(frozen=True)
class Verdict:
    """What became of predictions and plan; `patients` has one row per (subject_id, prediction_time, model).

    Columns of `patients`: subject_id, prediction_time, model, model_version, predicted Float64, abstained Boolean,
    boolean_value (what happened; null if censored before the horizon), known_days Float64 (days until it was known),
    given and recommended String (null without treatment arms, or without a recommendation).
    """

    horizon_days: float
    predictions: tuple[PredictionVerdict, ...]
    plan: tuple[PlanVerdict, ...]
    words: tuple[str, ...]
    patients: pl.DataFrame

    def to_json(self) -> dict[str, Any]:
        """Content of outcome.json, with E = {"value", "low", "high", "reason"}; `patients` is not in it.

        {"horizon_days": days,
        "predictions": [{"model", "model_version", "patients", "rows", "abstained", "events", "censored", "predicted":
        mean risk|null, "observed": E, "observed_expected": E, "intercept": E, "slope": E, "auroc": E, "brier": E,
        "words": sentence}],
        "plan": one per goal, the first decided [{"goal", "kind": "event"|"measure", "better": "lower"|"higher",
        "patients", "rows", "recommended": rows with a recommendation, "plan": V, "given": V, "options": [V],
        "comparisons": [{"against": choice, "difference": E (plan minus against), "distinguishable", "words"}],
        "words": sentences}], "words": [sentences]} with V = {"choice", "mean": E, "effective_sample"}.
        """
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "patients"}
        content: dict[str, Any] = to_json(fields)
        return content


def verify(
    predictions: pl.DataFrame,
    cohort_rows: pl.DataFrame,
    *,
    horizon_days: float,
    plan: Plan | None = None,
    matrix: FeatureMatrix | None = None,
    who: str = "held-out",
) -> Verdict:
    """Hold predictions, and the plan if there is one, against what happened to the held-out rows.

    `predictions` may hold several models and more rows than are judged; `cohort_rows` without `split` are all held out.
    A plan needs `matrix`, the features of all cohort rows in their order. `who` says in words whose outcomes these are.
    Raises InputError where no held-out row has a prediction.
    """
    held_out = cohort_rows.filter(pl.col("split") == "held_out") if "split" in cohort_rows.columns else cohort_rows
    labels = ["boolean_value", "follow_up_days", "event"]
    rows = predictions.drop(labels, strict=False).join(
        held_out.select(*KEYS, *labels, *(["treatment"] if "treatment" in held_out.columns else [])), on=KEYS
    )
    if rows.is_empty():
        raise InputError(
            f"a verdict needs predictions of held-out patients, got none among {predictions.height} predictions and "
            f"{held_out.height} held-out rows; predict for the held-out rows first"
        )
    if plan is not None and matrix is None:
        raise InputError("a verdict on a plan needs the features of the cohort's rows, got none; pass matrix")
    rows = rows.sort("model", "model_version", *KEYS)
    accuracy = judge_predictions(rows, horizon_days=horizon_days, who=who)
    value = () if plan is None or matrix is None else judge_plan(cohort_rows, matrix, plan, who=who)
    return Verdict(
        horizon_days=float(horizon_days),
        predictions=accuracy,
        plan=value,
        words=(*(verdict.words for verdict in accuracy), *(verdict.words for verdict in value)),
        patients=_patients(rows, plan, horizon_days=horizon_days),
    )


def _patients(rows: pl.DataFrame, plan: Plan | None, *, horizon_days: float) -> pl.DataFrame:
    recommended = pl.DataFrame(schema={**rows.select(KEYS).schema, "recommended": pl.String})
    if plan is not None:
        recommended = plan.table.filter("recommended").select(*KEYS, pl.col("option").alias("recommended"))
    given = pl.col("treatment") if "treatment" in rows.columns else pl.lit(None, pl.String)
    return rows.join(recommended, on=KEYS, how="left", maintain_order="left").select(
        *KEYS,
        "model",
        "model_version",
        predicted=pl.col("predicted_boolean_probability").cast(pl.Float64),
        abstained=pl.col("abstained").fill_null(False),
        boolean_value=pl.col("boolean_value"),
        known_days=pl.min_horizontal("follow_up_days", pl.lit(float(horizon_days))),
        given=given,
        recommended=pl.col("recommended"),
    )
