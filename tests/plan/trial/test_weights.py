"""Weights: those who stay stand for all, whatever the strategy, at every time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from careloop.plan.trial.clones import clone
from careloop.plan.trial.definition import TrialSection
from careloop.plan.trial.hazards import LOSS, Covariates, Hazards, fit_hazards
from careloop.plan.trial.weights import (
    Course,
    balance_over_time,
    followers,
    plain_weights,
    raw_weights,
    stabilised,
    weight_cap,
)


def true_hazards(data: Any) -> Hazards:
    """The hazards that the simulation used, where somebody is followed."""
    starting, lost = np.zeros((len(data), len(data.grid))), np.zeros((len(data), len(data.grid)))
    starting[data.row, data.interval] = np.logaddexp(0, -1.4 + 0.9 * data.values[:, 0])
    lost[data.row, data.interval] = 1 / 30
    return Hazards({"DRUG": starting, LOSS: lost}, {})


@pytest.mark.parametrize("strategy", [0, 1])
def test_weighted_clones_stand_for_all_who_would_be_followed(
    simulate: Callable[..., Any], section: TrialSection, strategy: int
) -> None:
    """With the true hazards, weighted time at risk is that of everybody made to follow the strategy."""
    data = simulate(60_000, 1).data()
    course = Course.of(clone(data, section)[strategy], data.grid)
    weights, _ = raw_weights(course, true_hazards(data))
    made = simulate(60_000, 2, follow=("never", "start")[strategy]).data()
    followed = np.clip(made.follow_up_days[:, None] / 30.0 - np.arange(len(data.grid)), 0.0, 1.0)
    assert np.allclose(weights.exposure.sum(axis=0), followed.sum(axis=0), rtol=0.03)
    assert not np.allclose(course.fraction.sum(axis=0), followed.sum(axis=0), rtol=0.2)


def test_a_hazard_that_is_the_same_for_all_needs_no_weights(
    simulate: Callable[..., Any], section: TrialSection
) -> None:
    data = simulate(500, 1).data()
    course = Course.of(clone(data, section)[0], data.grid)
    same = np.full((500, len(data.grid)), 0.3)
    raw, _ = raw_weights(course, Hazards({"DRUG": same, LOSS: np.zeros_like(same)}, {}))
    weights = stabilised(course, raw, np.ones(500), cap=np.inf)
    for k, whole in enumerate(course.fraction.T == 1):
        assert np.allclose(weights.exposure[whole, k], weights.exposure[whole, k].mean())
    assert np.allclose(weights.exposure.sum(axis=0), course.fraction.sum(axis=0))


def test_large_weights_are_cut(simulate: Callable[..., Any], section: TrialSection) -> None:
    data = simulate(2000, 1).data()
    course = Course.of(clone(data, section)[0], data.grid)
    raw, _ = raw_weights(course, true_hazards(data))
    cap, largest = weight_cap(course, raw, 0.99)
    assert 1 < cap < largest
    weights = stabilised(course, raw, np.ones(2000), cap=cap)
    seen = weights.exposure[course.at_risk] / course.fraction[course.at_risk]
    assert seen.max() == pytest.approx(cap)


def test_effective_sample_size_is_below_the_count(simulate: Callable[..., Any], section: TrialSection) -> None:
    data = simulate(2000, 1).data()
    course = Course.of(clone(data, section)[0], data.grid)
    count, plain = followers(course, plain_weights(course))
    assert plain == pytest.approx(count)
    raw, _ = raw_weights(course, true_hazards(data))
    assert followers(course, stabilised(course, raw, np.ones(2000), cap=np.inf))[1] < 0.9 * count


def test_weighting_balances_what_departure_unbalanced(simulate: Callable[..., Any], section: TrialSection) -> None:
    data = simulate(10_000, 1, log_ratio=0.0).data()
    covariates = Covariates.of(data)
    courses = tuple(Course.of(clones, data.grid) for clones in clone(data, section))
    hazards = fit_hazards(data, section, covariates, kind="over_time").hazards(np.ones(len(data)))
    balance = balance_over_time(courses, tuple(raw_weights(course, hazards)[1] for course in courses), covariates)
    assert balance.days == (0.0, 30.0, 60.0, 90.0, 120.0, 150.0)
    assert balance.before[0] == balance.after[0] == 0.0
    assert balance.before[3] > 0.3
    assert balance.after[3] < 0.1
    assert balance.covariates[0].before == pytest.approx(max(balance.before))
