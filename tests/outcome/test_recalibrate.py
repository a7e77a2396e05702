"""Closed testing keeps a right model, finds the least change that mends a wrong one, and recovers what was done."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from scipy.stats import chi2

from careloop.evaluate import Outcomes
from careloop.outcome.recalibrate import closed_test, suggest_recalibration
from careloop.train.calibration import Recalibration

HORIZON = 30.0


def _logit(p: np.ndarray) -> np.ndarray:
    return np.log(p / (1 - p))


def _expit(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _risks(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """True risks and outcomes."""
    random = np.random.default_rng(seed)
    risk = _expit(-1.5 + 1.1 * random.normal(size=n))
    return risk, random.random(n) < risk


def _outcomes(label: np.ndarray) -> Outcomes:
    return Outcomes(np.arange(len(label)), np.where(label, 10.0, 60.0), label.astype(np.int8), HORIZON)


def test_a_right_model_is_kept_in_about_95_of_100_samples() -> None:
    changed = 0
    for seed in range(200):
        risk, label = _risks(500, seed)
        changed += closed_test(risk, _outcomes(label)).advice != "keep"
    # 10 expected; binomial(200, 0.05) is above 19 once in 300.
    assert changed <= 19


@pytest.mark.parametrize(("intercept", "slope", "advice"), [(0.7, 1.0, "intercept"), (0.4, 0.5, "intercept and slope")])
def test_the_least_sufficient_change_is_found_and_recovered(intercept: float, slope: float, advice: str) -> None:
    risk, label = _risks(6000, 1)
    predicted = _expit((_logit(risk) - intercept) / slope)
    found = closed_test(predicted, _outcomes(label))
    assert found.advice == advice
    assert found.recalibration.intercept == pytest.approx(intercept, abs=0.12)
    assert found.recalibration.slope == pytest.approx(slope, abs=0.06)


def test_a_line_that_does_not_suffice_calls_for_training_anew() -> None:
    """Risks of a model that bends where the truth does not."""
    risk, label = _risks(6000, 2)
    bent = _expit(np.sign(_logit(risk) + 1.5) * (np.abs(_logit(risk) + 1.5)) ** 2 / 2 - 1.5)
    found = closed_test(bent, _outcomes(label))
    assert found.advice == "train anew"
    assert found.against_line < 0.05


def test_a_lost_feature_is_found_where_the_features_are_given() -> None:
    random = np.random.default_rng(3)
    x = random.normal(size=(4000, 2))
    label = random.random(4000) < _expit(-1.5 + x[:, 0] + 0.7 * x[:, 1])
    alone = _expit((-1.5 + x[:, 0]) / np.sqrt(1 + 0.7**2 / 2.9))
    assert closed_test(alone, _outcomes(label), terms=x).advice == "train anew"
    assert closed_test(alone, _outcomes(label)).advice != "train anew"


def test_score_tests_agree_with_likelihood_ratios() -> None:
    """Vergouwe et al. 2017 use likelihood ratio tests; without censoring both are the same in large samples."""
    from sklearn.linear_model import LogisticRegression

    risk, label = _risks(5000, 4)
    predicted = _expit(_logit(risk) * 1.08 - 0.03)
    terms = np.random.default_rng(5).normal(size=(5000, 2))
    design = np.column_stack([_logit(predicted), terms])
    largest = LogisticRegression(C=np.inf, tol=1e-8).fit(design, label).predict_proba(design)[:, 1]

    def log_likelihood(p: np.ndarray) -> float:
        return float(np.log(np.where(label, p, 1 - p)).sum())

    ratio = 2 * (log_likelihood(largest) - log_likelihood(predicted))
    found = closed_test(predicted, _outcomes(label), terms=terms)
    assert found.degrees == (4, 3, 2)
    assert chi2.isf(found.against_old, 4) == pytest.approx(ratio, rel=0.15, abs=0.3)


def test_few_outcomes_give_no_advice() -> None:
    risk, label = _risks(30, 6)
    found = closed_test(risk, _outcomes(label))
    assert (found.advice, found.recalibration) == ("cannot tell yet", Recalibration())


def _rows(predicted: np.ndarray, label: np.ndarray) -> pl.DataFrame:
    start = datetime(2023, 1, 1, tzinfo=UTC)
    made = [start + timedelta(hours=6 * row) for row in range(len(label))]
    return pl.DataFrame(
        {
            "subject_id": np.arange(len(label)),
            "prediction_time": pl.Series(made, dtype=pl.Datetime("us", "UTC")),
            "model": "model",
            "model_version": "1",
            "predicted_boolean_probability": predicted,
            "abstained": False,
            "follow_up_days": np.where(label, 10.0, 60.0),
            "event": label.astype(np.int8),
        }
    )


def test_the_recalibrated_model_is_judged_on_patients_predicted_after_it_was_fitted() -> None:
    risk, label = _risks(3000, 7)
    rows = _rows(_expit(_logit(risk) - 0.8), label)
    as_of = rows["prediction_time"][-1] + timedelta(days=30)
    found = suggest_recalibration(rows, horizon_days=HORIZON, as_of=as_of)
    beside = found.beside
    assert beside is not None
    cut = datetime.fromisoformat(beside.fitted_until).replace(tzinfo=UTC)
    made = rows["prediction_time"]
    assert abs(beside.fitted_rows - (made + timedelta(days=30) <= cut + timedelta(days=1)).sum()) <= 4
    assert abs(beside.rows - (made > cut).sum()) <= 4
    assert beside.fitted_rows + beside.rows < 3000 - 100  # outcomes still open at the cut belong to neither
    assert beside.old["observed_expected"].low > 1
    assert beside.new["observed_expected"].low < 1 < beside.new["observed_expected"].high
    assert beside.brier_difference.high < 0
    assert "it was better on" in found.words


def test_only_predictions_since_an_alarm_count_if_asked() -> None:
    risk, label = _risks(3000, 8)
    predicted = np.where(np.arange(3000) < 1500, risk, _expit(_logit(risk) - 1.0))
    rows = _rows(predicted, label)
    as_of = rows["prediction_time"][-1] + timedelta(days=30)
    whole, recent = (
        suggest_recalibration(rows, horizon_days=HORIZON, as_of=as_of, since=since)
        for since in (None, rows["prediction_time"][1500])
    )
    assert whole.test.recalibration.intercept < 0.8
    assert recent.test.recalibration.intercept == pytest.approx(1.0, abs=0.2)


def test_a_right_model_is_not_shown_beside_itself() -> None:
    risk, label = _risks(1500, 9)
    rows = _rows(risk, label)
    found = suggest_recalibration(rows, horizon_days=HORIZON, as_of=rows["prediction_time"][-1] + timedelta(days=30))
    assert found.words == "model (1): the outcomes known so far call for no recalibration."


def test_before_any_horizon_nothing_is_advised() -> None:
    risk, label = _risks(300, 10)
    rows = _rows(risk, label)
    found = suggest_recalibration(rows, horizon_days=HORIZON, as_of=rows["prediction_time"][0])
    assert found.test.advice == "cannot tell yet"
    assert found.beside is None
