"""Fitted packages against independent fits, a simulation with known risks, and what must not influence them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression

from careloop import InputError
from careloop.evaluate import horizon_weights
from careloop.models import HazardNetwork, survival_target
from careloop.train import ModelSection, TrainingData, train_model
from careloop.train.fit import known_labels


def replace_rows(data: TrainingData, split: str, **columns: object) -> TrainingData:
    """The data with columns of one split's rows set to constants."""
    changed = [
        pl.when(pl.col("split") == split)
        .then(pl.lit(value))
        .otherwise(pl.col(name))
        .cast(data.rows.schema[name])
        .alias(name)
        for name, value in columns.items()
    ]
    return replace(data, rows=data.rows.with_columns(changed))


def test_logistic_regression_equals_scikit_learn_on_weighted_known_rows(data: TrainingData) -> None:
    package = train_model(ModelSection(kind="logistic_regression"), data)
    rows = data.part("train")
    weight = horizon_weights(rows.outcomes.follow_up_days, rows.outcomes.event, data.horizon_days)
    known = weight > 0
    assert 0 < known.sum() < len(known)
    inputs = package.preprocessing.apply(rows.values)
    direct = LogisticRegression(max_iter=1000).fit(
        inputs[known], rows.outcomes.label[known], sample_weight=weight[known]
    )
    np.testing.assert_allclose(package.estimators[0].coef_, direct.coef_, rtol=1e-6)
    np.testing.assert_allclose(
        package.risk(data.matrix)[:5], direct.predict_proba(package.preprocessing.apply(data.matrix.values))[:5, 1]
    )


def test_cox_equals_scikit_survival(data: TrainingData) -> None:
    sksurv = pytest.importorskip("sksurv.linear_model")
    from sksurv.util import Surv

    package = train_model(ModelSection(kind="cox", parameters={"l2": 0.0}), data)
    rows = data.part("train")
    inputs = package.preprocessing.apply(rows.values)
    target = Surv.from_arrays(rows.outcomes.event == 1, rows.outcomes.follow_up_days)
    direct = sksurv.CoxPHSurvivalAnalysis(ties="efron").fit(inputs, target)
    np.testing.assert_allclose(package.estimators[0].coef_, direct.coef_, atol=1e-6)


@pytest.mark.parametrize("kind", ["logistic_regression", "lightgbm", "cox", "boosted_hazard"])
def test_risks_are_right_on_average_under_censoring(kind: str, simulate: Callable[..., TrainingData]) -> None:
    data = simulate(4000, seed=5, censoring_rate=0.6)
    free = simulate(4000, seed=5, censoring_rate=0.0)  # the same people, nobody censored
    truth = free.part("held_out").outcomes.label.mean()
    risk = train_model(ModelSection(kind=kind), data).risk(data.matrix.filter(data.rows["split"] == "held_out"))
    assert risk.mean() == pytest.approx(truth, abs=0.05)
    naive = data.part("held_out").outcomes
    assert abs(naive.label.mean() - truth) > 0.05  # counting censored rows as free of the outcome would be off


@pytest.mark.parametrize("kind", ["cox", "boosted_hazard"])
def test_competing_events_lower_the_survival_models_risk(kind: str, competing: TrainingData) -> None:
    package = train_model(ModelSection(kind=kind), competing)
    assert len(package.estimators) == 2
    held = competing.part("held_out").outcomes
    weight = horizon_weights(held.follow_up_days, held.event, held.horizon_days)
    risk = package.risk(competing.matrix.filter(competing.rows["split"] == "held_out"))
    assert risk.mean() == pytest.approx(np.average(held.label, weights=weight), abs=0.06)


def test_a_hazard_network_stops_early_on_the_tuning_rows_cause_by_cause(competing: TrainingData) -> None:
    parameters = {"members": 2, "max_epochs": 12, "patience": 2, "device": "cpu"}
    package = train_model(ModelSection(kind="hazard_network", parameters=parameters), competing)
    training, tuning = competing.part("train"), competing.part("tuning")
    inputs, held = (package.preprocessing.apply(part.values) for part in (training, tuning))
    assert len(package.estimators) == 2
    for cause, estimator in enumerate(package.estimators, start=1):
        y, y_held = (
            survival_target(part.outcomes.event == cause, part.outcomes.follow_up_days) for part in (training, tuning)
        )
        direct = HazardNetwork(**parameters).fit(inputs, y, validation=(held, y_held))
        np.testing.assert_array_equal(estimator.predict(held), direct.predict(held))


def test_survival_starts_at_one_falls_and_meets_the_risk_at_the_horizon(competing: TrainingData) -> None:
    package = train_model(ModelSection(kind="cox"), competing)
    curves = package.survival(competing.matrix, np.array([0.0, 100.0, 365.0, 700.0]))
    assert curves is not None
    np.testing.assert_array_equal(curves[:, 0], 1.0)
    assert (np.diff(curves, axis=1) <= 0).all()
    np.testing.assert_allclose(1 - curves[:, 2], package.risk(competing.matrix))
    assert (
        train_model(ModelSection(kind="logistic_regression"), competing).survival(competing.matrix, np.ones(1)) is None
    )


@pytest.mark.parametrize("kind", ["logistic_regression", "lightgbm", "cox"])
def test_held_out_outcomes_change_nothing(kind: str, data: TrainingData) -> None:
    changed = replace_rows(data, "held_out", event=1, follow_up_days=1.0)
    assert train_model(ModelSection(kind=kind), changed).version == train_model(ModelSection(kind=kind), data).version


def test_training_outcomes_change_the_version(data: TrainingData) -> None:
    rows = data.rows.with_columns(follow_up_days=pl.col("follow_up_days") * 1.5)
    section = ModelSection(kind="logistic_regression")
    assert train_model(section, replace(data, rows=rows)).version != train_model(section, data).version


@pytest.mark.parametrize(("event", "what"), [(0, "had the outcome"), (1, "free of it")])
@pytest.mark.parametrize(("split", "part"), [("train", "training"), ("tuning", "tuning")])
def test_one_class_only_is_refused(event: int, what: str, split: str, part: str, data: TrainingData) -> None:
    changed = replace_rows(data, split, event=event, follow_up_days=364.0 if event else 400.0)
    with pytest.raises(InputError, match=f"{part} rows .*{what}"):
        train_model(ModelSection(kind="logistic_regression"), changed)


def test_estimators_that_cannot_give_a_risk_are_refused(data: TrainingData) -> None:
    with pytest.raises(InputError, match="choose a classifier or a survival model"):
        train_model(ModelSection(kind="sklearn.linear_model.Ridge"), data)
    with pytest.raises(InputError, match="takes no sample weights"):
        train_model(ModelSection(kind="sklearn.neighbors.KNeighborsClassifier"), data)


def test_tuning_scores_are_the_known_tuning_rows_in_rising_order(data: TrainingData) -> None:
    package = train_model(ModelSection(kind="logistic_regression"), data)
    label, weight, _ = known_labels(data.part("tuning"))
    assert len(package.tuning) == len(label)
    assert (np.diff(package.tuning.risk) >= 0).all()
    assert package.tuning.label.sum() == label.sum()
    assert package.tuning.weight.sum() == pytest.approx(weight.sum())
