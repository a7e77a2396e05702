"""Who is at risk of starting, and whether the models find the hazards that made the data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from careloop.plan.trial.definition import TrialSection
from careloop.plan.trial.hazards import LOSS, Covariates, Process, at_risk, fit_hazards, processes
from careloop.plan.trial.pooled import fit_pooled


def test_fractions_at_risk_by_hand(simulate: Callable[..., Any]) -> None:
    data = simulate(3, 1).data()
    row, interval = np.repeat(np.arange(3), 2), np.tile([0, 1], 3)
    fields = {name: getattr(data, name) for name in data.__dataclass_fields__}
    fields |= {"follow_up_days": np.array([45.0, 200.0, 200.0]), "row": row, "interval": interval}
    data = type(data)(**fields)
    started = Process("DRUG", np.zeros(3), np.array([np.inf, 40.0, 0.0]))
    label, weight = at_risk(started, data)
    assert label.tolist() == [0, 0, 0, 1, 0, 0]
    assert weight.tolist() == [1, 0.5, 1, 1, 0, 0]
    stopped = Process("stopping", np.array([15.0, 30.0, 0.0]), np.array([np.inf, 45.0, np.inf]))
    label, weight = at_risk(stopped, data)
    assert label.tolist() == [0, 0, 0, 1, 0, 0]
    assert weight.tolist() == [0.5, 0.5, 0, 1, 1, 1]


def test_the_hazards_that_made_the_data_are_found(simulate: Callable[..., Any], section: TrialSection) -> None:
    simulated = simulate(20_000, 3)
    data = simulated.data()
    models = fit_hazards(data, section, Covariates.of(data), kind="over_time")
    rate = models.hazards(np.ones(len(data))).rate
    true = np.logaddexp(0, -1.4 + 0.9 * data.values[:, 0])
    found = rate["DRUG"][data.row, data.interval]
    waiting = simulated.start[data.row] > data.grid.starts[data.interval]
    assert np.abs(found - true)[waiting].mean() < 0.03 * true[waiting].mean()
    assert np.abs(rate[LOSS][data.row, data.interval].mean() - 1 / 30) < 0.003
    assert [process.name for process in processes(data, section)] == ["DRUG", LOSS]


def test_one_step_comes_close_to_fitting_again() -> None:
    random = np.random.default_rng(0)
    design = np.hstack([np.ones((3000, 1)), random.normal(size=(3000, 2))])
    label = (random.random(3000) < 1 / (1 + np.exp(-design @ np.array([-2.0, 0.7, -0.4])))).astype(float)
    row, penalty = np.arange(3000) // 3, np.full(3, 0.1)
    fit = fit_pooled(design, label, np.ones(3000), row=row, rows=1000, penalty=penalty)
    assert np.abs(fit.coefficients - [-2.0, 0.7, -0.4]).max() < 0.2
    assert np.allclose(fit.resampled(np.ones(1000)), fit.coefficients, atol=1e-6)
    counts = np.bincount(random.integers(0, 1000, 1000), minlength=1000).astype(float)
    again = fit_pooled(design, label, counts[row], row=row, rows=1000, penalty=penalty)
    moved = np.abs(again.coefficients - fit.coefficients).max()
    assert np.abs(fit.resampled(counts) - again.coefficients).max() < 0.25 * moved


def test_starts_at_time_zero_have_a_model_of_their_own(simulate: Callable[..., Any], section: TrialSection) -> None:
    simulated = simulate(4000, 5)
    at_once = np.random.default_rng(1).random(4000) < 1 / (1 + np.exp(-simulated.severity[:, 0]))
    simulated.start[at_once] = 0.0
    data = simulated.data()
    models = fit_hazards(data, section, Covariates.of(data), kind="over_time")
    chance = models.hazards(np.ones(4000)).at_zero["DRUG"]
    assert np.abs(chance - 1 / (1 + np.exp(-simulated.severity[:, 0]))).mean() < 0.03
    assert models.models[0].summary.at_zero == at_once.sum()
