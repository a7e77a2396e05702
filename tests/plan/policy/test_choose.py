"""The rule: individual choice only where it proves better, else the best single option, else no advice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from careloop.plan.effect.doubly_robust import Scores, estimate_effect
from careloop.plan.effect.goals import MeasureGoalData
from careloop.plan.effect.nuisance import subject_folds
from careloop.plan.policy.choose import cross_fitted_choice, decide, limit_of_all_pairs, told_apart
from careloop.plan.policy.projection import fit_summaries

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


def test_of_four_equal_options_one_is_said_to_be_worse_in_5_percent_of_trials_at_most() -> None:
    """By intervals of 95 % for each pair alone it would be 20 %."""
    random = np.random.default_rng(0)
    said = []
    for _ in range(150):
        arm, value = random.integers(0, 4, 200), random.normal(size=200)
        scores = np.where(arm[:, None] == np.arange(4), 4 * value[:, None], 0.0)
        order = [int(a) for a in np.argsort(-scores.mean(axis=0))]
        parts = (np.zeros((200, 4)), np.full((200, 4), 0.25), value, arm, np.arange(200))
        said.append(bool(told_apart(Scores(scores, *parts), order)))
    assert 0.01 < np.mean(said) < 0.09


def test_limit_of_all_pairs_is_tukeys() -> None:
    """For equal independent arms, the studentised range over the root of 2; for two options 1.96."""
    from scipy.stats import studentized_range

    for options in (2, 3, 5):
        expected = studentized_range.ppf(0.95, options, np.inf) / np.sqrt(2)
        assert limit_of_all_pairs(np.eye(options)) == pytest.approx(expected, abs=0.04)


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
    chosen = cross_fitted_choice(scores, summaries, effect=effect, fold=fold, best=1, allowed=allowed)
    assert 0 not in chosen
    allowed[:, 2] = False
    policy = decide(scores, summaries, effect=effect, allowed=allowed, fold=fold)
    assert (policy.decision, policy.best) == ("abstain", None)
