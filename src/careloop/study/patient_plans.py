"""One held-out patient's plan, put together from the files of a run folder."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from careloop import InputError
from careloop.study.folder import RunFolder
from careloop.study.stages import cohort_rows, feature_matrix, primary_predictions, read_plan
from careloop.train import open_package

if TYPE_CHECKING:
    from careloop.plan.document.patient_plan import PatientPlan
    from careloop.study.study import Study


def read_patient_plan(study: Study, run: RunFolder, subject: int, *, at: datetime | None = None) -> PatientPlan:
    """The plan of a held-out subject at a prediction time (default: the last), made when the run predicted.

    Prediction by the study's primary model, the options of the plan with what safety found, and lifestyle. Raises
    InputError for a subject without a prediction in the run, and for a moment that is none of its prediction times.
    """
    from careloop.plan.document.assemble import findings_of, patient_plan, prediction_of
    from careloop.plan.document.lifestyle import lifestyle_options

    row = _prediction(primary_predictions(study, run), subject, at)
    package, matrix = open_package(run.path / "models" / study.primary), feature_matrix(run, "held_out")
    own = (matrix.keys["subject_id"] == subject) & (matrix.keys["prediction_time"] == row["prediction_time"])
    outcome, plan = study.cohort.outcome, read_plan(run)
    alone = cohort_rows(run, "held_out").filter(
        pl.col("subject_id") == subject, pl.col("prediction_time") == row["prediction_time"]
    )
    prediction = prediction_of(row, target=package.facts.outcome, horizon_days=outcome.horizon_days)
    safety = run.path / "safety.parquet"
    return patient_plan(
        prediction,
        None if plan is None else plan.of(alone),
        study=study.name,
        made_at=datetime.fromtimestamp((run.path / "predictions.parquet").stat().st_mtime, UTC),
        findings=findings_of(pl.read_parquet(safety), prediction) if safety.exists() else (),
        lifestyle=lifestyle_options(package, matrix.filter(own)),
    )


def _prediction(predictions: pl.DataFrame, subject: int, at: datetime | None) -> dict[str, Any]:
    own = predictions.filter(pl.col("subject_id") == subject).sort("prediction_time")
    if own.is_empty():
        raise InputError(
            f"the run has no prediction of subject {subject}; held-out subjects are in predictions.parquet"
        )
    if at is not None:
        moments = ", ".join(f"{moment:%Y-%m-%dT%H:%M:%S}" for moment in own["prediction_time"])
        own = own.filter(pl.col("prediction_time") == at)
        if own.is_empty():
            raise InputError(f"subject {subject} has no prediction at {at:%Y-%m-%dT%H:%M:%S}; it has some at {moments}")
    return own.row(-1, named=True)
