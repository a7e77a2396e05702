"""The patients shown in full agree with the run's tables."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from careloop import InputError
from careloop.study import RunFolder, packages, read_plan
from careloop.study.patients import example_patients, past_patients, with_insight
from careloop.study.stages import cohort_rows, feature_matrix, primary_predictions


def shown(loop: Any, *, predictions: pl.DataFrame | None = None, chosen: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    run = RunFolder.reopen(loop.run)
    return example_patients(
        packages(loop.study, run)[0],
        feature_matrix(run, "held_out"),
        primary_predictions(loop.study, run) if predictions is None else predictions,
        cohort_rows=cohort_rows(run, "held_out"),
        plan=read_plan(run),
        chosen=chosen,
    )


def test_lower_middle_and_higher_risk_are_shown(actg175: Any) -> None:
    patients = json.loads((actg175.run / "patients.json").read_text())
    assert [patient["name"].rpartition(", ")[2] for patient in patients] == ["lower risk", "middle risk", "higher risk"]
    ranked = pl.read_parquet(actg175.run / "predictions.parquet").filter(
        pl.col("model") == "logistic_regression", ~pl.col("abstained")
    )["predicted_boolean_probability"]
    for patient, quantile in zip(patients, (0.1, 0.5, 0.9), strict=True):
        assert patient["probability"] == pytest.approx(ranked.quantile(quantile, "linear"), abs=0.01)


def test_each_patient_agrees_with_the_tables(actg175: Any) -> None:
    tables = {name: pl.read_parquet(actg175.run / f"{name}.parquet") for name in ("cohort", "predictions", "plan")}
    for patient in json.loads((actg175.run / "patients.json").read_text()):
        mine = {name: table.filter(pl.col("subject_id") == patient["subject_id"]) for name, table in tables.items()}
        predicted = mine["predictions"].row(by_predicate=pl.col("model") == patient["model"], named=True)
        assert patient["probability"] == predicted["predicted_boolean_probability"]
        assert (patient["low"], patient["high"]) == (predicted["low"], predicted["high"])
        assert patient["model_version"] == predicted["model_version"]
        cohort = mine["cohort"].row(0, named=True)
        assert cohort["split"] == "held_out"
        assert patient["given"] == cohort["treatment"]
        assert f"day {cohort['follow_up_days']:.0f}" in patient["later"]
        expected = dict(mine["plan"].select("option", "expected").iter_rows())
        assert {option["option"]: option["expected"] for option in patient["options"]} == expected
        assert [option["rank"] for option in patient["options"]] == sorted(
            option["rank"] for option in patient["options"]
        )
        assert f"{patient['model']}, version {patient['model_version']}. Not for clinical use." in patient["origin"]


def test_chosen_subjects_are_shown_and_others_refused(actg175: Any) -> None:
    cohort = pl.read_parquet(actg175.run / "cohort.parquet")
    held_out, trained = (cohort.filter(pl.col("split") == s)["subject_id"].to_list() for s in ("held_out", "train"))
    patients = shown(actg175, chosen=(held_out[5], held_out[2]))
    assert [patient["name"] for patient in patients] == [f"Patient {held_out[5]}", f"Patient {held_out[2]}"]
    with pytest.raises(InputError, match=f"subject {trained[0]} is not held out in this study; choose one from"):
        shown(actg175, chosen=(trained[0],))


def test_patients_without_a_usable_prediction_are_shown_only_where_there_is_no_other(simulated: Any) -> None:
    predictions = pl.read_parquet(simulated.run / "predictions.parquet")
    usable = predictions["subject_id"][7]
    but_one = predictions.with_columns(abstained=pl.col("subject_id") != usable)
    assert {patient["subject_id"] for patient in shown(simulated, predictions=but_one)} == {usable}
    none = predictions.with_columns(abstained=pl.lit(True), abstained_reason=pl.lit("unlike all"))
    patients = shown(simulated, predictions=none)
    assert len(patients) == 3
    assert all(patient["abstained_reason"] == "unlike all" for patient in patients)


@pytest.mark.parametrize(
    ("event", "days", "words"),
    [
        (1, 100.0, "the outcome on day 100"),
        (1, 400.0, "the outcome on day 400, after the horizon of 365 days"),
        (2, 30.0, "a competing event on day 30"),
        (0, 20.4, "followed to day 20 without"),
    ],
)
def test_what_happened_is_told_in_words(simulated: Any, event: int, days: float, words: str) -> None:
    run = RunFolder.reopen(simulated.run)
    rows = cohort_rows(run, "held_out").with_columns(
        event=pl.lit(event, pl.Int8), follow_up_days=pl.lit(days, pl.Float64)
    )
    patients = example_patients(
        packages(simulated.study, run)[0],
        feature_matrix(run, "held_out"),
        primary_predictions(simulated.study, run),
        cohort_rows=rows,
        plan=None,
        chosen=(),
    )
    assert [patient["later"] for patient in patients] == [words] * 3
    assert [patient["options"] for patient in patients] == [[]] * 3


def test_insight_agrees_with_the_models_own_answers(simulated: Any) -> None:
    run = RunFolder.reopen(simulated.run)
    package, matrix = packages(simulated.study, run)[0], feature_matrix(run, "held_out")
    patients = with_insight(shown(simulated), package, matrix, past=past_patients(package, run))
    tuning = set(cohort_rows(run, "tuning")["subject_id"])
    for patient in patients:
        assert set(patient["similar"]["subjects"]) <= tuning
        assert len(patient["similar"]["subjects"]) == 10
        assert patient["similar"]["sentences"][0].startswith("10 similar past patients, by ")
        assert f"{patient['probability']:.1%}" in patient["what_if"]["sentences"][0]
        assert patient["what_if"]["origin"].startswith("This describes the model, not the effect of treating.")
    json.dumps([{k: v for k, v in patient.items() if k != "prediction_time"} for patient in patients], allow_nan=False)
