"""The rule: individual choice only where it proves better, else the best single option, else no advice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from careloop.plan.choose import cross_fitted_choice, decide, fit_summaries, project
from careloop.plan.effect.doubly_robust import Scores, estimate_effect
from careloop.plan.effect.goals import MeasureGoalData
from careloop.plan.effect.nuisance import subject_folds

OPTIONS = ("a", "b", "c")


def _trial(seed: int, n: int, *, means: tuple[float, float, float], interaction: float = 0.0):
    """Scores of a trial with noise of SD 2; under b the value changes with x0 by `interaction`."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 3))
    truth = np.tile(means, (n, 1)) + x[:, [1]]
    truth[:, 1] += interaction * x[:, 0]
    value = truth + random.normal(scale=2, size=(n, 3))
    arm = random.integers(0, 3, n)
    scores = Scores(value, truth, np.full((n, 3), 1 / 3), value[np.arange(n), arm], arm, np.arange(n))
    goal = MeasureGoalData("score", scores.completed, "higher")
    effect = estimate_effect(scores, goal, OPTIONS, reference="a")
    prognosis = x[:, 1]
    summaries = fit_summaries(x, prognosis).transform(x, prognosis)
    return scores, summaries, effect, truth, x


def _decide(seed: int, n: int, **trial: object):
    scores, summaries, effect, _, _ = _trial(seed, n, **trial)
    fold = subject_folds(scores.subjects, 5, 0)
    return decide(scores, summaries, effect=effect, allowed=np.ones((n, 3), bool), fold=fold)


def test_everybody_gets_the_best_option_where_nothing_interacts() -> None:
    policy = _decide(0, 1500, means=(0.0, 1.0, 0.4))
    assert (policy.decision, policy.best, policy.next, policy.tied) == ("best_single", "b", "c", ())
    assert policy.gain.low <= 0


def test_individual_choice_is_used_where_options_suit_different_patients() -> None:
    policy = _decide(0, 1500, means=(0.6, 0.7, 0.0), interaction=1.5)
    assert policy.decision == "individual"
    assert policy.gain.low > 0
    assert 0.2 < policy.departing < 0.6


def test_nobody_is_advised_where_the_best_cannot_be_told_from_the_next() -> None:
    policy = _decide(1, 400, means=(1.0, 1.0, -2.0))
    assert policy.decision == "abstain"
    assert {policy.best, *policy.tied} == {"a", "b"}
    assert policy.worse == ("c",)


def test_without_interaction_individual_choice_is_hardly_ever_used() -> None:
    """60 trials without interaction: a lower limit above zero by chance in 2.5 % at most."""
    used = sum(_decide(seed, 300, means=(0.0, 0.3, 0.2)).decision == "individual" for seed in range(60))
    assert used <= 4


def test_a_lower_risk_counts_as_better() -> None:
    scores, summaries, effect, _, _ = _trial(0, 1500, means=(0.0, 1.0, 0.4))
    policy = decide(
        scores,
        summaries,
        effect=replace(effect, better="lower"),
        allowed=np.ones((1500, 3), bool),
        fold=subject_folds(scores.subjects, 5, 0),
    )
    assert (policy.decision, policy.best, policy.next) == ("best_single", "a", "c")


def test_options_without_overlap_are_never_chosen() -> None:
    scores, summaries, effect, _, _ = _trial(0, 1500, means=(0.6, 0.7, 0.0), interaction=1.5)
    fold = subject_folds(scores.subjects, 5, 0)
    allowed = np.ones((1500, 3), bool)
    allowed[:, 0] = False
    chosen = cross_fitted_choice(scores, summaries, fold=fold, best=1, better="higher", allowed=allowed)
    assert 0 not in chosen
    allowed[:, 2] = False
    policy = decide(scores, summaries, effect=effect, allowed=allowed, fold=fold)
    assert (policy.decision, policy.best) == ("abstain", None)


@pytest.mark.parametrize("slopes", ["own", "shared"])
def test_intervals_of_expected_values_cover_about_95_times_in_100(slopes: str) -> None:
    covered = []
    for seed in range(40):
        scores, summaries, _, truth, _ = _trial(seed, 300, means=(0.0, 0.5, 1.0))
        lines = project(summaries, scores.value, scores.subjects, usable=np.ones(3, bool), slopes=slopes)
        patient = summaries[:5]
        off = np.abs(lines.expected(patient) - truth[:5])
        covered += list((off <= 1.96 * lines.error(patient)).ravel())
    assert 0.92 < np.mean(covered) < 0.98


def test_error_of_a_difference_is_that_of_the_regression_of_differences() -> None:
    scores, summaries, _, _, _ = _trial(3, 200, means=(0.0, 0.5, 1.0))
    both = project(summaries, scores.value, scores.subjects, usable=np.ones(3, bool), slopes="own")
    difference = scores.value - scores.value[:, [2]]
    alone = project(summaries, difference, scores.subjects, usable=np.ones(3, bool), slopes="own")
    np.testing.assert_allclose(both.difference_error(summaries, 2)[:, :2], alone.error(summaries)[:, :2])


def test_robust_errors_are_the_sandwich_of_least_squares() -> None:
    """HC0 with the factor n / (n - 1), for the first option."""
    scores, summaries, _, _, _ = _trial(4, 150, means=(0.0, 0.5, 1.0))
    summaries = summaries[:, 1:]  # here the prognosis is one of the covariates
    lines = np.column_stack([np.ones(150), summaries])
    bread = np.linalg.inv(lines.T @ lines)
    residual = scores.value[:, 0] - lines @ (bread @ lines.T @ scores.value[:, 0])
    sandwich = bread @ (lines * residual[:, None] ** 2).T @ lines @ bread * 150 / 149
    found = project(summaries, scores.value, scores.subjects, usable=np.ones(3, bool), slopes="own")
    np.testing.assert_allclose(found.covariance[0, :, 0, :], sandwich, rtol=1e-9)
