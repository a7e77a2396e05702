"""Effects in simulations with known truth: coverage, double robustness, repeated rows, precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from careloop.plan.effect import nuisance
from careloop.plan.effect.doubly_robust import (
    cross_fit_propensity,
    cross_fit_scores,
    estimate_effect,
    mean_estimate,
    score,
)
from careloop.plan.effect.goals import EventGoalData, GoalData, MeasureGoalData
from careloop.plan.effect.nuisance import fit_design, subject_folds

OPTIONS = ("control", "drug")


def _goals(data) -> list[tuple[GoalData, np.ndarray]]:
    return [
        (EventGoalData("outcome", data.follow_up_days, data.event, 365.0), data.true_risk),
        (MeasureGoalData("score", data.measured, "higher"), data.true_mean),
    ]


def _effects(data, *, assignment: str) -> list:
    covariates = fit_design(data.covariates, tuple("abcd")).transform(data.covariates)
    fold = subject_folds(data.subjects, 5, 0)
    propensity = cross_fit_propensity(covariates, data.arm, 2, fold=fold, assignment=assignment)
    found = []
    for goal, truth in _goals(data):
        scores = cross_fit_scores(covariates, data.arm, goal, subjects=data.subjects, propensity=propensity, fold=fold)
        found.append((estimate_effect(scores, goal, OPTIONS, reference="control"), truth))
    return found


def _covers(estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


def test_confounding_is_removed_and_the_plain_difference_keeps_it(simulate: Callable[..., object]) -> None:
    for effect, truth in _effects(simulate(4000, 3, confounding=1.0), assignment="observed"):
        contrast = effect.contrasts[0]
        assert _covers(contrast.adjusted, truth[1] - truth[0])
        assert not _covers(contrast.plain, truth[1] - truth[0])
        assert all(_covers(option.adjusted, t) for option, t in zip(effect.options, truth, strict=True))


def test_right_outcome_model_makes_up_for_a_wrong_propensity(simulate: Callable[..., object]) -> None:
    """Taken as randomised although it is not: lines are the right model of the measure, and nearly so of the risk."""
    for effect, truth in _effects(simulate(4000, 5, confounding=1.0), assignment="randomised"):
        assert _covers(effect.contrasts[0].adjusted, truth[1] - truth[0])


def test_right_propensity_makes_up_for_a_wrong_outcome_model(simulate: Callable[..., object]) -> None:
    data = simulate(20_000, 7, confounding=1.0)
    goal, truth = _goals(data)[0]
    wrong = np.tile([0.9, 0.05], (20_000, 1))
    scores = score(
        goal,
        data.arm,
        data.subjects,
        expected=wrong,
        propensity=data.propensity,
        probability_known=np.ones(wrong.shape),
    )
    contrast = estimate_effect(scores, goal, OPTIONS, reference="control").contrasts[0]
    assert _covers(contrast.adjusted, truth[1] - truth[0])
    both_wrong = score(
        goal,
        data.arm,
        data.subjects,
        expected=wrong,
        propensity=np.full(wrong.shape, 0.5),
        probability_known=np.ones(wrong.shape),
    )
    assert not _covers(
        estimate_effect(both_wrong, goal, OPTIONS, reference="control").contrasts[0].adjusted, truth[1] - truth[0]
    )


def test_intervals_cover_the_truth_about_95_times_in_100(
    simulate: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 cross-fitted studies of 400 patients, two goals: of 120 intervals 114 should hold the truth (SD 2.4)."""
    monkeypatch.setattr(nuisance, "PENALTIES", (0.1,))  # one candidate each, for speed
    monkeypatch.setattr(nuisance, "FEWEST_FOR_TREES", 10**9)
    covered = [
        _covers(effect.contrasts[0].adjusted, truth[1] - truth[0])
        for seed in range(60)
        for effect, truth in _effects(simulate(400, 100 + seed, confounding=0.5), assignment="observed")
    ]
    assert 107 <= sum(covered) < 120


def test_repeated_rows_of_a_subject_count_once() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=200)
    once = mean_estimate(values, np.arange(200))
    thrice = mean_estimate(np.repeat(values, 3), np.repeat(np.arange(200), 3))
    assert (thrice.value, thrice.low, thrice.high) == pytest.approx((once.value, once.low, once.high))


def test_adjusting_for_prognosis_narrows_the_interval_of_a_trial(simulate: Callable[..., object]) -> None:
    effect, _ = _effects(simulate(2000, 11), assignment="randomised")[1]
    contrast = effect.contrasts[0]
    assert contrast.adjusted.high - contrast.adjusted.low < 0.9 * (contrast.plain.high - contrast.plain.low)


def test_all_pairs_are_given_and_agree_with_the_differences_to_the_reference(simulate: Callable[..., object]) -> None:
    data = simulate(900, 13)
    goal = MeasureGoalData("score", np.nan_to_num(data.measured), "higher")
    arm = np.arange(900) % 3
    scores = score(
        goal,
        arm,
        data.subjects,
        expected=np.zeros((900, 3)),
        propensity=np.full((900, 3), 1 / 3),
        probability_known=np.ones((900, 3)),
    )
    effect = estimate_effect(scores, goal, ("a", "b", "c"), reference="b")
    to_reference = {contrast.option: contrast.adjusted.value for contrast in effect.contrasts}
    assert set(to_reference) == {"a", "c"}
    (pair,) = effect.pairs
    assert (pair.option, pair.versus) == ("a", "c")
    assert pair.adjusted.value == pytest.approx(to_reference["a"] - to_reference["c"])
    # with no model and even shares the adjusted mean is the arm's own mean
    assert effect.options[0].adjusted.value == pytest.approx(effect.options[0].plain.value)
