"""Expected values of options by patient: against simulated truth, least squares and logistic regression."""

from __future__ import annotations

import numpy as np
import pytest

from careloop.evaluate.calibration import expit
from careloop.plan.effect.doubly_robust import Z_95
from careloop.plan.policy.projection import project


def _trial(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of three options (n, 3) with noise of SD 2, the patient's summaries (n, 3), and the true values."""
    random = np.random.default_rng(seed)
    summaries = random.normal(size=(n, 3))
    truth = np.array([0.0, 0.5, 1.0]) + summaries[:, [1]]
    return truth + random.normal(scale=2, size=(n, 3)), summaries, truth


def _risks(seed: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inverse-probability scores of an event under two options, which lie far outside of 0 to 1, and the true risks."""
    random = np.random.default_rng(seed)
    summaries = random.normal(size=(n, 2))
    truth = expit(np.array([-3.0, -2.0]) + 1.5 * summaries[:, [0]])
    arm = random.integers(0, 2, n)
    event = random.uniform(size=n) < truth[np.arange(n), arm]
    return (arm[:, None] == np.arange(2)) * event[:, None] * 2.0, summaries, truth


@pytest.mark.parametrize("slopes", ["own", "shared"])
def test_intervals_of_expected_values_cover_about_95_times_in_100(slopes: str) -> None:
    covered = []
    for seed in range(40):
        values, summaries, truth = _trial(seed, 300)
        lines = project(summaries, values, np.arange(len(values)), usable=np.ones(3, bool), slopes=slopes)
        patient = summaries[:5]
        low, high = lines.interval(patient)
        covered += list(((low <= truth[:5]) & (truth[:5] <= high)).ravel())
    assert 0.92 < np.mean(covered) < 0.98


def test_error_of_a_difference_is_that_of_the_regression_of_differences() -> None:
    values, summaries, _ = _trial(3, 200)
    both = project(summaries, values, np.arange(len(values)), usable=np.ones(3, bool), slopes="own")
    difference = values - values[:, [2]]
    alone = project(summaries, difference, np.arange(len(values)), usable=np.ones(3, bool), slopes="own")
    low, high = alone.interval(summaries)
    np.testing.assert_allclose(both.difference_error(summaries, 2)[:, :2], ((high - low) / 2 / Z_95)[:, :2])


def test_robust_errors_are_the_sandwich_of_least_squares() -> None:
    """HC0 with the factor n / (n - 1), for the first option."""
    values, summaries, _ = _trial(4, 150)
    summaries = summaries[:, 1:]  # here the prognosis is one of the covariates
    lines = np.column_stack([np.ones(150), summaries])
    bread = np.linalg.inv(lines.T @ lines)
    residual = values[:, 0] - lines @ (bread @ lines.T @ values[:, 0])
    sandwich = bread @ (lines * residual[:, None] ** 2).T @ lines @ bread * 150 / 149
    found = project(summaries, values, np.arange(len(values)), usable=np.ones(3, bool), slopes="own")
    np.testing.assert_allclose(found.covariance[0, :, 0, :], sandwich, rtol=1e-9)


@pytest.mark.parametrize("slopes", ["own", "shared"])
def test_expected_risks_cover_the_true_ones_and_stay_between_0_and_1(slopes: str) -> None:
    covered, expected = [], []
    for seed in range(40):
        values, summaries, truth = _risks(seed, 1500)
        lines = project(summaries, values, np.arange(1500), usable=np.ones(2, bool), slopes=slopes, link="logit")
        low, high = lines.interval(summaries[:8])
        covered += list(((low <= truth[:8]) & (truth[:8] <= high)).ravel())
        expected.append(lines.expected(summaries))
    assert 0.91 < np.mean(covered) < 0.985
    assert 0 < np.min(expected) < np.max(expected) < 1


def test_the_log_odds_line_of_zeros_and_ones_is_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    _, summaries, truth = _risks(0, 800)
    labels = (np.random.default_rng(1).uniform(size=truth.shape) < truth).astype(float)
    lines = project(summaries, labels, np.arange(800), usable=np.ones(2, bool), slopes="own", link="logit")
    for option in range(2):
        peer = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(summaries, labels[:, option])
        np.testing.assert_allclose(lines.coefficients[option], [*peer.intercept_, *peer.coef_[0]], rtol=1e-4)


def test_error_of_a_difference_of_risks_is_that_of_many_trials() -> None:
    _, patient, _ = _risks(0, 5)
    found, errors = [], []
    for seed in range(200):
        values, summaries, _ = _risks(seed, 1000)
        lines = project(summaries, values, np.arange(1000), usable=np.ones(2, bool), slopes="shared", link="logit")
        found.append(np.subtract(*lines.expected(patient).T))
        errors.append(lines.difference_error(patient, 1)[:, 0])
    np.testing.assert_allclose(np.mean(errors, axis=0), np.std(found, axis=0), rtol=0.2)


def test_scores_without_a_log_odds_line_get_a_straight_one() -> None:
    values, summaries, _ = _trial(0, 100)
    lines = project(summaries, values - 5, np.arange(100), usable=np.ones(3, bool), slopes="own", link="logit")
    assert lines.link == "identity"
    assert np.isfinite(lines.expected(summaries)).all()


def test_an_option_that_is_not_usable_does_not_move_the_shared_slope() -> None:
    values, summaries, _ = _trial(5, 300)
    usable = np.array([True, True, False])
    wild = values.copy()
    wild[:, 2] += 10 * summaries[:, 0]
    first, second = (project(summaries, v, np.arange(300), usable=usable, slopes="shared") for v in (values, wild))
    np.testing.assert_allclose(first.coefficients[:2], second.coefficients[:2])
