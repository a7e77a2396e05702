"""Estimates against closed forms, other estimators on simple data, and simulated truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from careloop.evaluate import aalen_johansen
from careloop.plan.trial.definition import TrialSection
from careloop.plan.trial.emulate import Grid
from careloop.plan.trial.estimate import curves_of, estimate_trial, log_hazard_ratio
from careloop.plan.trial.result import TrialResult


def test_constant_hazards_give_the_closed_form() -> None:
    grid, time = Grid.of(30.0, 100.0), np.array([50.0, 40.0, 30.0, 8.0])
    sums = np.stack([0.2 * time, 0.1 * time, time])[None, None]
    curves = curves_of(sums, grid)
    ends = np.array([1.0, 2.0, 3.0, 100 / 30])
    assert np.allclose(curves.risk[0, 0], 2 / 3 * (1 - np.exp(-0.3 * ends)))
    assert curves.event_free_days[0, 0] == pytest.approx(30.0 * (1 - np.exp(-0.3 * 100 / 30)) / 0.3)


def test_without_events_nobody_loses_a_day() -> None:
    curves = curves_of(np.array([[[[0.0, 0.0], [0.0, 0.0], [5.0, 5.0]]]]), Grid.of(30.0, 60.0))
    assert curves.risk[0, 0, -1] == 0.0
    assert curves.event_free_days[0, 0] == 60.0


def test_the_hazard_ratio_of_one_interval_is_that_of_its_rates() -> None:
    sums = np.array([[[[12.0], [0.0], [100.0]], [[30.0], [0.0], [150.0]]]])
    assert np.exp(log_hazard_ratio(sums, 0, 1))[0] == pytest.approx(0.12 / 0.2)
    assert np.isnan(log_hazard_ratio(sums * [[[0.0], [1.0], [1.0]]], 0, 1)[0])


@pytest.fixture(scope="module")
def at_zero() -> TrialSection:
    return TrialSection.model_validate(
        {"strategies": {"never": {"never": "DRUG"}, "start": {"start": "DRUG"}}, "resamples": 60}
    )


def test_a_trial_randomised_at_time_zero_agrees_with_aalen_johansen_and_cox(
    simulate: Callable[..., Any], at_zero: TrialSection
) -> None:
    from lifelines import CoxPHFitter

    given = np.random.default_rng(0).random(4000) < 0.5
    parts = simulate(4000, 1, follow="never"), simulate(4000, 2, follow="never")
    simulated = parts[0]
    earlier = np.where(given, np.where(parts[1].event, 0.7, 1.0) * parts[1].follow_up_days, simulated.follow_up_days)
    fields = {
        "follow_up_days": earlier,
        "event": np.where(given, parts[1].event, simulated.event),
        "start": np.where(given, 0.0, np.inf),
        "severity": np.where(given[:, None], parts[1].severity, simulated.severity),
    }
    fields["severity"] = np.where(np.arange(6) * 30.0 < earlier[:, None], fields["severity"][:, [0]], np.nan)
    result = estimate_trial(type(simulated)(**fields).data(), at_zero)
    for strategy, arm in zip(result.emulated.strategies, (~given, given), strict=True):
        times, incidence = aalen_johansen(fields["follow_up_days"][arm], fields["event"][arm])
        assert strategy.risk.value == pytest.approx(incidence[times <= 180.0][-1], abs=0.01)
        assert strategy.risk.low < strategy.risk.value < strategy.risk.high
    frame = _cox_frame(fields, given)
    cox = float(CoxPHFitter().fit(frame, "days", "event").hazard_ratios_["given"])
    assert result.emulated.contrasts[0].hazard_ratio.value == pytest.approx(cox, rel=0.05)
    plain = next(each for each in result.naive if each.analysis == "as treated")
    assert plain.contrasts[0].hazard_ratio.value == pytest.approx(cox, rel=0.02)


def _cox_frame(fields: dict[str, np.ndarray], given: np.ndarray) -> Any:
    import pandas as pd

    days = np.minimum(fields["follow_up_days"], 180.0)
    event = (fields["event"] == 1) & (fields["follow_up_days"] <= 180.0)
    return pd.DataFrame({"days": days, "event": event, "given": given.astype(float)})


@pytest.fixture(scope="module")
def emulated(simulate: Callable[..., Any], section: TrialSection) -> TrialResult:
    return estimate_trial(simulate(10_000, 11).data(), section)


def test_emulation_finds_the_truth_that_naive_analyses_miss(
    simulate: Callable[..., Any], emulated: TrialResult
) -> None:
    truth = simulate(200_000, 1, follow="start").risk() - simulate(200_000, 2, follow="never").risk()
    contrast = emulated.emulated.contrasts[0]
    assert (contrast.strategy, contrast.versus) == ("start", "never")
    assert contrast.risk_difference.value == pytest.approx(truth, abs=0.03)
    assert contrast.risk_difference.high - contrast.risk_difference.low < 0.08
    naive = {each.analysis: each.contrasts[0].risk_difference for each in emulated.naive}
    assert naive["unweighted clones"].low > truth
    assert naive["as treated"].high < truth


def test_the_result_is_plain_json_and_told_in_words(emulated: TrialResult) -> None:
    content = json.loads(json.dumps(emulated.to_json(), allow_nan=False))
    assert content["section"]["interval_days"] == 30
    assert set(content["emulated"]["strategies"][0]) == {"strategy", "risk", "event_free_days", "curve"}
    assert content["emulated"]["strategies"][0]["curve"]["x"] == [0, 30, 60, 90, 120, 150, 180]
    assert [each["process"] for each in content["models"]] == ["DRUG", "loss to follow-up"]
    assert "start against never: risk difference" in emulated.words[1]
    assert any("immortal time" in sentence for sentence in emulated.words)


def test_the_same_seed_gives_the_same_figures(simulate: Callable[..., Any], section: TrialSection) -> None:
    data = simulate(500, 1).data()
    assert estimate_trial(data, section).to_json() == estimate_trial(data, section).to_json()


def test_too_few_followers_have_no_estimate(simulate: Callable[..., Any], section: TrialSection) -> None:
    data = simulate(600, 1).data()
    sizes = {each.strategy: each.effective_sample for each in estimate_trial(data, section).following}
    assert sizes["start"] < sizes["never"]
    strict = section.model_copy(update={"minimum_effective_sample": sizes["start"] + 1})
    result = estimate_trial(data, strict)
    assert [each.strategy for each in result.following if not each.usable] == ["start"]
    assert result.emulated.strategies[0].risk.value is not None
    assert result.emulated.strategies[1].risk.value is None
    assert result.emulated.contrasts[0].risk_difference.reason.startswith("start: its followers")
    assert all(value is None for value in result.emulated.strategies[1].curve.value)
    assert any("start has no estimate" in sentence for sentence in result.words)


def test_a_strategy_that_nobody_follows_has_no_estimate(simulate: Callable[..., Any], section: TrialSection) -> None:
    simulated = simulate(400, 1)
    simulated.start[:] = np.minimum(5.0, simulated.follow_up_days)
    simulated.event[:] = 0
    result = estimate_trial(simulated.data(), section)
    assert result.following[0].reason == "nobody follows it to the outcome or the horizon"
    assert result.emulated.contrasts[0].hazard_ratio.value is None
