"""Heterogeneity: found where it is, not claimed where it is not, and AUTOC against its closed form and econml's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from careloop.plan.effect.doubly_robust import Scores, cross_fit_propensity, cross_fit_scores
from careloop.plan.effect.goals import MeasureGoalData
from careloop.plan.effect.individual.heterogeneity import Heterogeneity, autoc, heterogeneity, individual_effects
from careloop.plan.effect.nuisance import subject_folds

OPTIONS = ("control", "drug")


def trial(n: int, seed: int, slope: float, folds: int = 4) -> tuple[np.ndarray, Scores, MeasureGoalData, np.ndarray]:
    """A randomised drug whose effect is 1 + slope * x0: covariates, scores, goal and folds."""
    random = np.random.default_rng(seed)
    x, arm = random.normal(size=(n, 5)), random.integers(0, 2, n)
    goal = MeasureGoalData("score", x[:, 1] + arm * (1 + slope * x[:, 0]) + random.normal(size=n), "higher")
    subjects = np.arange(n)
    fold = subject_folds(subjects, folds, 0)
    propensity = cross_fit_propensity(x, arm, 2, fold=fold, assignment="randomised")
    return x, cross_fit_scores(x, arm, goal, subjects=subjects, propensity=propensity, fold=fold), goal, fold


def judged(n: int, seed: int, slope: float) -> tuple[Heterogeneity, np.ndarray, np.ndarray]:
    """The judgement, estimated and true effects of the rows judged."""
    x, scores, goal, fold = trial(n, seed, slope)
    effects = individual_effects(x, scores, goal, fold=fold, assignment="randomised")
    found = heterogeneity(effects, scores, options=OPTIONS, pair=(1, 0), fold=fold)
    return found, effects[fold > 0, 1], 1 + slope * x[fold > 0, 0]


def scored(found: np.ndarray, subjects: np.ndarray | None = None) -> Scores:
    """Scores of a difference, with nothing behind them."""
    n = len(found)
    value = np.column_stack([np.zeros(n), found])
    who = np.arange(n) if subjects is None else subjects
    return Scores(value, value, np.full((n, 2), 0.5), found, np.zeros(n, int), who)


def judge(
    estimated: np.ndarray, found: np.ndarray, *, fold: np.ndarray, subjects: np.ndarray | None = None
) -> Heterogeneity:
    effects = np.column_stack([np.zeros(len(found)), estimated])
    return heterogeneity(effects, scored(found, subjects), options=OPTIONS, pair=(1, 0), fold=fold)


def test_effects_that_differ_are_found() -> None:
    found, estimated, true = judged(2_000, 1, 1.0)
    assert found.shown
    assert found.rate.low > 0.5  # treating the highest x0 first: E = mean of a normal's upper tails, about 0.9
    assert found.rate.low < 0.9 < found.rate.high
    assert found.slope.low > 0.7
    assert np.corrcoef(estimated, true)[0, 1] > 0.9
    means = [group.found.value for group in found.groups]
    assert means == sorted(means)
    assert found.extremes.low > 2.0  # truth: 2 * 1.4
    assert sum(group.patients for group in found.groups) == 1_500  # the first fold is learned from only


def test_a_spread_of_estimates_is_no_evidence() -> None:
    shown = 0
    for seed in range(5):
        found, _, _ = judged(500, 10 + seed, 0.0)
        shown += found.shown
        assert "not shown" in found.words or found.shown or found.rate.value is None
    assert shown <= 1


def test_nothing_is_learned_from_a_later_fold() -> None:
    """Folds in turn, or errors of the folds go together and `shown` is too frequent."""
    x, scores, goal, fold = trial(400, 3, 1.0)
    before = individual_effects(x, scores, goal, fold=fold, assignment="randomised")
    assert np.array_equal(np.isnan(before[:, 1]), fold == 0)
    later = fold >= 2
    changed = MeasureGoalData("score", np.where(later, -5.0 * goal.value, goal.value), "higher")
    after = individual_effects(x, scores, changed, fold=fold, assignment="randomised")
    assert np.array_equal(before[fold <= 2], after[fold <= 2], equal_nan=True)
    assert not np.allclose(before[fold == 3], after[fold == 3])


def test_shown_by_chance_in_a_fortieth() -> None:
    """Estimates learned on earlier folds of pure noise: `shown` in 2.5 % (of 400, at most 20: 3 deviations)."""
    n, folds, shown = 200, 4, 0
    fold = subject_folds(np.arange(n), folds, 0)
    for seed in range(400):
        random = np.random.default_rng(seed)
        x, noise, estimated = random.normal(size=(n, 3)), random.normal(size=n), np.full(n, np.nan)
        for k in range(1, folds):
            slopes = np.linalg.lstsq(x[fold < k], noise[fold < k], rcond=None)[0]
            estimated[fold == k] = x[fold == k] @ slopes
        shown += judge(estimated, noise, fold=fold).shown
    assert shown <= 20


def test_equal_estimates_are_no_order() -> None:
    random = np.random.default_rng(0)
    found = judge(np.ones(200), np.sort(random.normal(size=200)), fold=np.repeat([1, 2], 100))
    assert not found.shown
    assert (found.rate.value, found.slope.value, found.extremes.value) == (None, None, None)
    assert [(group.group, group.patients) for group in found.groups] == [(3, 200)]
    assert found.words == "the effect of drug against control is estimated to be the same for everybody"


def test_folds_levels_do_not_count() -> None:
    """Estimates and scores that differ between folds only say nothing of who benefits."""
    random = np.random.default_rng(1)
    fold = np.repeat([1, 2], 500)
    estimated, noise = random.normal(size=1_000), random.normal(size=1_000)
    near, far = judge(estimated, noise, fold=fold), judge(estimated + 100.0 * fold, noise + 10.0 * fold, fold=fold)
    assert far.rate.value == pytest.approx(near.rate.value, abs=1e-9)
    assert far.slope.value == pytest.approx(near.slope.value, abs=1e-9)
    assert far.spread == pytest.approx(near.spread)


def test_subjects_are_the_units() -> None:
    """Each patient four times: no more is known than from once."""
    random = np.random.default_rng(2)
    estimated = random.normal(size=400)
    found, fold = estimated + 3 * random.normal(size=400), np.repeat([1, 2], 200)
    once = judge(estimated, found, fold=fold)
    rows, who = np.repeat(np.arange(400), 4), np.arange(1_600) // 4
    again = judge(estimated[rows], found[rows], fold=fold[rows], subjects=who)
    for name in ("slope", "rate"):
        one, four = getattr(once, name), getattr(again, name)
        assert four.value == pytest.approx(one.value, rel=0.05)
        assert four.high - four.low == pytest.approx(one.high - one.low, rel=0.05)


def test_autoc_of_perfect_order_is_its_closed_form() -> None:
    """Effects uniform on 0 to 1, treated from the largest: TOC(q) = (1 - q) / 2, AUTOC = 1 / 4."""
    effect = np.random.default_rng(0).random(200_000)
    assert autoc(effect, effect) == pytest.approx(0.25, abs=0.002)
    assert autoc(-effect, effect) == pytest.approx(-0.25, abs=0.002)


def test_autoc_is_its_definition() -> None:
    """Step by step as in grf's documentation of the RATE: mean of the running mean minus the mean of all."""
    random = np.random.default_rng(0)
    priority, found = random.normal(size=(2, 50))
    ordered = found[np.argsort(-priority)]
    running = ordered.cumsum() / np.arange(1, 51) - found.mean()
    assert autoc(priority, found) == pytest.approx(running.mean(), abs=1e-12)


def test_ties_count_with_their_mean() -> None:
    random = np.random.default_rng(0)
    priority, found = random.integers(0, 4, 60), random.normal(size=60)
    shuffled = [autoc(priority + 1e-9 * random.random(60), found) for _ in range(4_000)]
    assert autoc(priority, found) == pytest.approx(np.mean(shuffled), abs=4 * np.std(shuffled) / np.sqrt(4_000))


@given(st.integers(0, 1000), st.floats(-5, 5))
def test_autoc_ignores_a_shift_of_all_effects(seed: int, shift: float) -> None:
    priority, found = np.random.default_rng(seed).normal(size=(2, 100))
    assert autoc(priority, found + shift) == pytest.approx(autoc(priority, found), abs=1e-9)
