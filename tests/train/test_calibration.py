"""Calibration maps: known distortions are recovered, and each map equals an independent implementation of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from careloop.features import FeatureMatrix
from careloop.train import ModelSection, TrainingData, open_package, train_model
from careloop.train.calibration import (
    Isotonic,
    Method,
    Recalibration,
    calibrate,
    calibration_document,
    calibration_from,
    isotonic,
    logistic_fit,
    recalibrate,
    temperature,
)
from careloop.train.venn_abers import VennAbers

METHODS = get_args(Method)


def expit(score: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-score))


def simulated(n: int, *, seed: int = 3) -> dict[str, np.ndarray]:
    """Simulated rows with known risks: log-odds, labels drawn from them, equal weights, one row a subject."""
    random = np.random.default_rng(seed)
    score = random.normal(size=n) * 1.5
    label = (random.random(n) < expit(score)).astype(int)
    return {"score": score, "label": label, "weight": np.ones(n), "subject_id": np.arange(n)}


def known(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: rows[name] for name in ("label", "weight", "subject_id")}


def test_logistic_finds_a_known_distortion_and_leaves_good_risks_alone() -> None:
    rows = simulated(4000)
    truth = expit(rows["score"])
    assert recalibrate(truth, **known(rows))[0].slope == 1.0
    distorted = expit(2.0 * rows["score"] + 1.0)  # overfitted and too high
    found, note = recalibrate(distorted, **known(rows))
    assert found.slope == pytest.approx(0.5, abs=0.05)
    assert found.intercept == pytest.approx(-0.5, abs=0.1)
    assert "recalibrated by intercept" in note
    np.testing.assert_allclose(found.apply(distorted), truth, atol=0.05)
    reversed_risk, note = recalibrate(1 - truth, **known(rows))
    assert reversed_risk.slope == 1.0
    assert "a slope at or below 0" in note


def test_logistic_fit_equals_scikit_learn() -> None:
    random = np.random.default_rng(4)
    score, weight = random.normal(size=500), random.uniform(0.5, 2, 500)
    label = (random.random(500) < 1 / (1 + np.exp(-0.7 * score))).astype(int)
    found, covariance = logistic_fit(np.column_stack([np.ones(500), score]), label, weight, np.arange(500))
    direct = LogisticRegression(C=1e10, tol=1e-10).fit(score[:, None], label, sample_weight=weight)
    np.testing.assert_allclose(found, [direct.intercept_[0], direct.coef_[0, 0]], atol=1e-4)
    doubled = logistic_fit(
        np.column_stack([np.ones(1000), np.tile(score, 2)]),
        np.tile(label, 2),
        np.tile(weight, 2),
        np.tile(np.arange(500), 2),
    )
    np.testing.assert_allclose(doubled[1], covariance, rtol=1e-3)  # rows of one subject add no certainty


@pytest.mark.parametrize("degrees", [0.5, 1.0, 2.0])
def test_temperature_recovers_a_known_one(degrees: float) -> None:
    rows = simulated(8000)
    found, note = temperature(expit(degrees * rows["score"]), rows["label"], rows["weight"])
    assert found.intercept == 0
    assert 1 / found.slope == pytest.approx(degrees, rel=0.06)  # about two standard errors of 8,000 rows
    assert f"temperature {1 / found.slope:.2f}" in note


def test_temperature_equals_scikit_learn_without_intercept() -> None:
    rows = simulated(500)
    weight = np.random.default_rng(1).uniform(0.5, 3, 500)
    score = np.clip(rows["score"], -6, 6)
    found, _ = temperature(expit(score), rows["label"], weight)
    direct = LogisticRegression(C=1e10, tol=1e-10, fit_intercept=False).fit(
        score[:, None], rows["label"], sample_weight=weight
    )
    assert found.slope == pytest.approx(direct.coef_[0, 0], rel=1e-4)


def test_no_temperature_mends_reversed_risks_and_limits_hold_for_separated_ones() -> None:
    rows = simulated(300)
    found, note = temperature(1 - expit(rows["score"]), rows["label"], rows["weight"])
    assert found == Recalibration()
    assert "at or below 0" in note
    apart, _ = temperature(np.where(rows["label"] == 1, 0.6, 0.4), rows["label"], rows["weight"])
    assert apart.slope == 100.0


def pooled(raw: np.ndarray, label: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pool adjacent violators in its textbook form: distinct risks and their values."""
    distinct = np.unique(raw)
    blocks = [[float(weight[raw == r].sum()), float((weight * label)[raw == r].sum()), 1] for r in distinct]
    merged: list[list[float]] = []
    for block in blocks:
        merged.append(block)
        while len(merged) > 1 and merged[-2][1] / merged[-2][0] >= merged[-1][1] / merged[-1][0]:
            last = merged.pop()
            merged[-1] = [a + b for a, b in zip(merged[-1], last, strict=True)]
    return distinct, np.concatenate([np.full(int(size), events / total) for total, events, size in merged])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(2, 40))
def test_isotonic_equals_pooling_and_scikit_learn_but_for_its_ends(seed: int, n: int, levels: int) -> None:
    random = np.random.default_rng(seed)
    raw = random.integers(0, levels, n) / levels  # with ties
    label, weight = (random.random(n) < raw).astype(int), random.uniform(0.5, 4, n)
    found = isotonic(raw, label, weight)
    at, values = pooled(raw, label, weight)
    new = np.concatenate([raw, random.random(20), [0.0, 1.0]])
    peer = IsotonicRegression(out_of_bounds="clip").fit(raw, label, sample_weight=weight).predict(new)
    rising = found.apply(np.sort(new))
    assert (np.diff(rising) >= 0).all()
    assert ((rising > 0) & (rising < 1)).all()
    inside = (values > 0) & (values < 1)
    np.testing.assert_allclose(found.apply(at)[inside], values[inside], atol=1e-9)
    unmoved = (peer >= values[inside].min(initial=2)) & (peer <= values[inside].max(initial=-1))
    np.testing.assert_allclose(found.apply(new)[unmoved], peer[unmoved], atol=1e-9)


def test_isotonic_ends_are_as_sure_as_their_rows() -> None:
    raw = np.repeat([0.1, 0.5, 0.9], [9, 10, 19])
    label = np.repeat([0, 0, 1, 1], [9, 5, 5, 19])
    found = isotonic(raw, label, np.ones(len(raw)))
    np.testing.assert_allclose(found.value, [0.5 / 10, 0.5, 1 - 0.5 / 20])
    np.testing.assert_allclose(found.apply(np.array([0.0, 0.1, 0.3, 0.9, 1.0])), [0.05, 0.05, 0.275, 0.975, 0.975])


def test_venn_abers_is_between_its_pair_and_is_the_pairs_formula() -> None:
    rows = simulated(400)
    raw = expit(2 * rows["score"])
    found = calibrate("venn_abers", raw, **known(rows)).map
    assert isinstance(found, VennAbers)
    new = np.linspace(0, 1, 201)
    low, high = found.pair(new)
    risk = found.apply(new)
    assert ((low <= risk) & (risk <= high) & (risk > 0) & (risk < 1)).all()
    np.testing.assert_allclose(risk, high / (1 - low + high))
    with_new = IsotonicRegression().fit(np.append(raw, 0.4), np.append(rows["label"], 1))
    assert found.pair(np.array([0.4]))[1] == pytest.approx(with_new.predict([0.4]))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(METHODS), st.integers(2, 150))
def test_every_map_rises_stays_in_bounds_and_survives_json(seed: int, method: Method, n: int) -> None:
    random = np.random.default_rng(seed)
    raw, label = random.random(n), np.arange(n) % 2
    made = calibrate(
        method, raw, label=label, weight=random.uniform(0.5, 3, n), subject_id=random.integers(0, n // 2 + 1, n)
    )
    risk = made.map.apply(np.linspace(0, 1, 101))
    assert (np.diff(risk) >= -1e-12).all()
    assert ((risk >= 0) & (risk <= 1)).all()
    assert ((made.risk >= 0) & (made.risk <= 1)).all()
    again = calibration_from(json.loads(json.dumps(calibration_document(made.map))))
    np.testing.assert_array_equal(again.apply(raw), made.map.apply(raw))
    assert made.note.endswith(".")


@pytest.mark.parametrize("method", ["temperature", "isotonic", "venn_abers"])
def test_a_distorted_model_becomes_calibrated_on_new_rows(method: Method) -> None:
    """Log loss on new rows: far below the distorted model's and within 0.01 of the true risks'."""
    rows, new = simulated(3000), simulated(20_000, seed=9)
    made = calibrate(method, expit(3 * rows["score"]), **known(rows)).map

    def loss(risk: np.ndarray) -> float:
        return float(-np.mean(np.where(new["label"] == 1, np.log(risk), np.log1p(-risk))))

    distorted = expit(3 * new["score"])
    truth = loss(expit(new["score"]))
    assert loss(made.apply(distorted)) < truth + 0.01
    assert loss(distorted) > truth + 0.2


@pytest.mark.parametrize("method", ["isotonic", "venn_abers"])
def test_out_of_fold_risks_do_not_know_their_own_labels(method: Method) -> None:
    """Pure noise: the map makes its own rows' risks follow their labels, those out of fold do not."""
    own, out = [], []
    for seed in range(40):
        random = np.random.default_rng(seed)
        raw, label = random.random(60), random.integers(0, 2, 60)
        made = calibrate(method, raw, label=label, weight=np.ones(60), subject_id=np.arange(60))
        for gaps, risk in ((own, made.map.apply(raw)), (out, made.risk)):
            gaps.append(risk[label == 1].mean() - risk[label == 0].mean())
    assert np.mean(own) > 0.02
    assert np.mean(out) < 0.01


@pytest.mark.parametrize("method", METHODS)
def test_a_package_keeps_its_map_and_says_so(method: Method, competing: TrainingData, tmp_path: Path) -> None:
    package = train_model(ModelSection(kind="cox", calibration=method), competing)
    package.save(tmp_path / "m")
    opened = open_package(tmp_path / "m")
    np.testing.assert_array_equal(opened.risk(competing.matrix), package.risk(competing.matrix))
    np.testing.assert_array_equal(opened.tuning.risk, package.tuning.risk)
    assert (np.diff(package.tuning.risk) >= 0).all()
    card = (tmp_path / "m" / "README.md").read_text()
    words = {"isotonic": "out of fold", "venn_abers": "its pair p0 to p1", "temperature": "temperature", "none": "own"}
    assert words.get(method, "recalibrated") in card
    assert "Label sets hold the truth with probability 90%" in card


@pytest.mark.parametrize("method", METHODS)
def test_curves_fall_from_one_and_meet_the_risk_at_the_horizon(method: Method, competing: TrainingData) -> None:
    package = train_model(ModelSection(kind="cox", calibration=method), competing)
    days = np.array([0.0, 1.0, 50.0, 200.0, 365.0, 700.0])
    curves = package.survival(competing.matrix, days)
    assert curves is not None
    np.testing.assert_array_equal(curves[:, 0], 1.0)
    assert ((curves >= 0) & (curves <= 1)).all()
    assert (np.diff(curves, axis=1) <= 1e-12).all()
    np.testing.assert_allclose(1 - curves[:, 4], package.risk(competing.matrix))
    assert (curves[:, 1] > 0.9).all()  # nobody falls to the lowest step of the map on the first day


def test_curves_of_rows_that_the_model_is_sure_of_meet_the_risk_too(competing: TrainingData) -> None:
    forest = ModelSection(kind="sksurv.ensemble.RandomSurvivalForest", parameters={"n_estimators": 3})
    package = train_model(forest, competing)
    raw = package.uncalibrated_risk(competing.matrix)
    assert ((raw == 0) | (raw == 1)).any()
    steps = replace(package, recalibration=Isotonic(np.array([0.0, 1.0]), np.array([0.1, 0.8])))
    curves = steps.survival(competing.matrix, np.array([0.0, 100.0, 365.0, 800.0]))
    assert curves is not None
    np.testing.assert_allclose(1 - curves[:, 2], steps.risk(competing.matrix))
    assert (np.diff(curves, axis=1) <= 1e-12).all()


# Written by careloop 0.1.0 when there were neither other calibrations nor label sets.
FORMAT_1 = Path(__file__).parent / "packages" / "format_1"


def test_a_package_of_format_1_opens_predicts_and_is_saved_as_it_is(data: TrainingData, tmp_path: Path) -> None:
    package = open_package(FORMAT_1)
    assert (package.version, package.section.calibration, package.conformal) == ("f7908d497065", "logistic", None)
    values = np.array([[0.346, 0.822], [0.330, -1.303], [0.905, 0.446]], dtype=np.float32)
    matrix = FeatureMatrix(data.matrix.keys[:3], package.recipe.names, values)
    # What the version that wrote it printed for these rows.
    np.testing.assert_allclose(package.risk(matrix), [0.52561018, 0.49528329, 0.69540241], atol=1e-8)
    sets = package.label_sets(package.uncalibrated_risk(matrix), matrix)
    assert sets.level == 0.9
    assert sets.member.any(axis=1).all()
    package.save(tmp_path / "again")
    assert open_package(tmp_path / "again").version == package.version
    before, after = (json.loads((f / "package.json").read_text())["package"] for f in (FORMAT_1, tmp_path / "again"))
    assert before == after
