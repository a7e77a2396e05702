"""Effects in simulations with known truth: coverage, double robustness, repeated rows, precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from careloop import InputError
from careloop.plan.effect import hazards, learners
from careloop.plan.effect.doubly_robust import (
    cross_fit,
    cross_fit_propensity,
    effect_by_day,
    estimate_effect,
    mean_estimate,
    score,
    score_by,
)
from careloop.plan.effect.goals import EventGoalData, GoalData, MeasureGoalData, RmstGoalData
from careloop.plan.effect.nuisance import fit_design, fit_outcome_model, subject_folds
from careloop.plan.effect.survival import fit_survival

OPTIONS = ("control", "drug")


def _goals(data) -> list[tuple[GoalData, np.ndarray]]:
    return [
        (EventGoalData("outcome", data.follow_up_days, data.event, 365.0), data.true_risk),
        (RmstGoalData("days", data.follow_up_days, data.event, 365.0), data.true_days),
        (MeasureGoalData("score", data.measured, "higher"), data.true_mean),
    ]


def _effects(data, *, assignment: str) -> list:
    covariates = fit_design(data.covariates, tuple("abcd")).transform(data.covariates)
    fold = subject_folds(data.subjects, 5, 0)
    propensity = cross_fit_propensity(covariates, data.arm, 2, fold=fold, assignment=assignment)
    risk, days, measure = _goals(data)
    found = []
    for first, goals in ((risk[0], (risk, days)), (measure[0], (measure,))):
        fitted = cross_fit(covariates, data.arm, first, subjects=data.subjects, propensity=propensity, fold=fold)
        found += [
            (estimate_effect(fitted.score(goal), goal, OPTIONS, reference="control"), truth) for goal, truth in goals
        ]
    return found


def _covers(estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


def test_confounding_is_removed_and_the_plain_difference_keeps_it(simulate: Callable[..., object]) -> None:
    for effect, truth in _effects(simulate(2500, 3, confounding=1.0), assignment="observed"):
        contrast = effect.contrasts[0]
        assert _covers(contrast.adjusted, truth[1] - truth[0])
        assert not _covers(contrast.plain, truth[1] - truth[0])
        assert all(_covers(option.adjusted, t) for option, t in zip(effect.options, truth, strict=True))


def test_right_outcome_model_makes_up_for_a_wrong_propensity(simulate: Callable[..., object]) -> None:
    """Taken as randomised although it is not: lines are the right model of the measure, and nearly so of the risk."""
    for effect, truth in _effects(simulate(2500, 5, confounding=1.0), assignment="randomised"):
        assert _covers(effect.contrasts[0].adjusted, truth[1] - truth[0])


def test_right_propensity_makes_up_for_a_wrong_outcome_model(simulate: Callable[..., object]) -> None:
    data = simulate(20_000, 7, confounding=1.0)
    for (goal, truth), wrong_means in zip(_goals(data)[:2], ([0.9, 0.05], [20.0, 350.0]), strict=True):
        wrong = np.tile(wrong_means, (20_000, 1))
        completed = np.empty(20_000)
        for a in (0, 1):  # confounding and censoring are separate: within an arm, follow-up is completed as it is
            rows = np.flatnonzero(data.arm == a)
            completed[rows] = fit_survival(data.covariates[rows], goal.take(rows)).complete(
                data.covariates[rows], goal.take(rows)
            )
        even = np.full(wrong.shape, 0.5)
        one_wrong, both_wrong = (
            score(data.arm, data.subjects, expected=wrong, propensity=propensity, completed=completed)
            for propensity in (data.propensity, even)
        )
        effect = estimate_effect(one_wrong, goal, OPTIONS, reference="control").contrasts[0]
        assert _covers(effect.adjusted, truth[1] - truth[0])
        effect = estimate_effect(both_wrong, goal, OPTIONS, reference="control").contrasts[0]
        assert not _covers(effect.adjusted, truth[1] - truth[0])


def test_intervals_cover_the_truth_about_95_times_in_100(
    simulate: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """25 cross-fitted studies of 400 patients, three goals: of 75 intervals 71 should hold the truth (SD 2)."""
    for module in (learners, hazards):  # fewer candidates, for speed
        monkeypatch.setattr(module, "PENALTIES", (0.1,))
        monkeypatch.setattr(module, "FEWEST_FOR_TREES", 10**9)
    covered = [
        _covers(effect.contrasts[0].adjusted, truth[1] - truth[0])
        for seed in range(25)
        for effect, truth in _effects(simulate(400, 100 + seed, confounding=0.5), assignment="observed")
    ]
    assert sum(covered) >= 65


def test_repeated_rows_of_a_subject_count_once() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=200)
    once = mean_estimate(values, np.arange(200))
    thrice = mean_estimate(np.repeat(values, 3), np.repeat(np.arange(200), 3))
    assert (thrice.value, thrice.low, thrice.high) == pytest.approx((once.value, once.low, once.high))


def test_adjusting_for_prognosis_narrows_the_interval_of_a_trial(simulate: Callable[..., object]) -> None:
    effect, _ = _effects(simulate(2000, 11), assignment="randomised")[2]
    contrast = effect.contrasts[0]
    assert contrast.adjusted.high - contrast.adjusted.low < 0.9 * (contrast.plain.high - contrast.plain.low)


def test_all_pairs_are_given_and_agree_with_the_differences_to_the_reference(simulate: Callable[..., object]) -> None:
    data = simulate(900, 13)
    goal = MeasureGoalData("score", np.nan_to_num(data.measured), "higher")
    arm = np.arange(900) % 3
    scores = score(
        arm,
        data.subjects,
        expected=np.zeros((900, 3)),
        propensity=np.full((900, 3), 1 / 3),
        completed=goal.value,
    )
    effect = estimate_effect(scores, goal, ("a", "b", "c"), reference="b")
    to_reference = {contrast.option: contrast.adjusted.value for contrast in effect.contrasts}
    assert set(to_reference) == {"a", "c"}
    (pair,) = effect.pairs
    assert (pair.option, pair.versus) == ("a", "c")
    assert pair.adjusted.value == pytest.approx(to_reference["a"] - to_reference["c"])
    # with no model and even shares the adjusted mean is the arm's own mean
    assert effect.options[0].adjusted.value == pytest.approx(effect.options[0].plain.value)


def test_in_a_trial_the_adjusted_risk_and_days_agree_with_the_plain_ones(simulate: Callable[..., object]) -> None:
    """Neither departs from the other by as much as half its interval, and adjusting does not widen it."""
    for effect, _ in _effects(simulate(2000, 17), assignment="randomised")[:2]:
        contrast = effect.contrasts[0]
        half = (contrast.plain.high - contrast.plain.low) / 2
        assert abs(contrast.adjusted.value - contrast.plain.value) < half / 2
        assert (contrast.adjusted.high - contrast.adjusted.low) / 2 < 1.02 * half


def _fitted(data, goal: GoalData):
    covariates = fit_design(data.covariates, tuple("abcd")).transform(data.covariates)
    fold = subject_folds(data.subjects, 4, 0)
    propensity = cross_fit_propensity(covariates, data.arm, 2, fold=fold, assignment="observed")
    return cross_fit(covariates, data.arm, goal, subjects=data.subjects, propensity=propensity, fold=fold)


def test_one_fit_tells_of_the_risk_by_any_day_and_of_the_days_free(simulate: Callable[..., object]) -> None:
    """The last day's is the horizon's own effect; the days free are the area above the risk if nothing competes."""
    data = simulate(1500, 19, confounding=0.5)
    goal = EventGoalData("outcome", data.follow_up_days, (data.event > 0).astype(int), 365.0)
    fitted = _fitted(data, goal)
    days = np.linspace(0, 365, 74)[1:]
    course = effect_by_day(fitted, goal, days, options=OPTIONS, reference="control")
    assert [effect.horizon_days for effect in course] == list(days)
    assert course[-1] == estimate_effect(fitted.score(goal), goal, OPTIONS, reference="control")
    rmst = RmstGoalData("days", goal.follow_up_days, goal.event, 365.0)
    free = estimate_effect(fitted.score(rmst), rmst, OPTIONS, reference="control")
    for a in (0, 1):
        risk = np.array([0.0, *(effect.options[a].adjusted.value for effect in course)])
        assert (np.diff(risk) > -0.01).all()
        area = 365.0 - ((risk[1:] + risk[:-1]) / 2).sum() * 5.0
        assert free.options[a].adjusted.value == pytest.approx(area, abs=1.0)


def test_a_day_after_the_horizon_is_refused(simulate: Callable[..., object]) -> None:
    data = simulate(300, 23)
    goal = EventGoalData("outcome", data.follow_up_days, data.event, 365.0)
    with pytest.raises(InputError, match=r"after 0 and by the horizon of 365 days; got 366"):
        effect_by_day(_fitted(data, goal), goal, [100, 366], options=OPTIONS, reference="control")


def test_rows_in_no_arm_are_scored_by_the_models_alone(simulate: Callable[..., object]) -> None:
    data = simulate(400, 29)
    goal = EventGoalData("outcome", data.follow_up_days, data.event, 365.0)
    model = fit_outcome_model(data.covariates, data.arm, goal, 2)
    arm = np.where(np.arange(400) < 50, -1, data.arm)
    scores = score_by(model, data.covariates, arm, goal=goal, subjects=data.subjects, propensity=data.propensity)
    assert np.isnan(scores.completed[:50]).all()
    assert np.isfinite(scores.completed[50:]).all()
    np.testing.assert_array_equal(scores.value[:50], model.expected(data.covariates)[:50])
    assert np.isfinite(scores.value).all()
