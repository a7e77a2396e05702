"""A working alarm: miscalibrated as it is, right for the risk had nobody acted; simulated, so the truth is known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.evaluate import Outcomes
from careloop.outcome.acted_upon.untreated import acted_days, judge_untreated

HORIZON = 180.0


def _alarm(
    n: int, seed: int, *, later: float = 0.0, acts: float = 0.2
) -> tuple[np.ndarray, Outcomes, np.ndarray, np.ndarray]:
    """Right untreated risks (n,), outcomes, days to action, covariates (n, 2).

    At the prediction one acts the more readily the higher the risk and the second covariate, `later` is a daily rate of
    acting after that; action lowers the hazard to a third. A tenth is lost to follow-up.
    """
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 2))
    rate = 0.0015 * np.exp(0.9 * x[:, 0] + 0.5 * x[:, 1])
    risk = 1 - np.exp(-rate * HORIZON)
    eagerness = acts + 0.8 * np.log(risk / (1 - risk)) + 0.6 * x[:, 1]
    acted = np.where(random.random(n) < 1 / (1 + np.exp(-eagerness)), 0.0, np.inf)
    if later:
        acted = np.minimum(acted, random.exponential(1 / (later * np.exp(0.7 * x[:, 0]))))
    untreated = random.exponential(1 / rate)
    delayed = np.minimum(acted, 1e9) + (untreated - np.minimum(acted, 1e9)) * 3
    time = np.where(untreated < acted, untreated, delayed)
    lost = random.uniform(100, 900, n)
    outcomes = Outcomes(np.arange(n), np.minimum(time, lost), (time <= lost).astype(np.int8), HORIZON)
    return risk, outcomes, acted, x


@pytest.fixture(scope="module", params=[0.0, 0.0008], ids=["acting at once", "and later"])
def verdict(request):
    risk, outcomes, acted, x = _alarm(2000, 0, later=request.param)
    with pytest.MonkeyPatch.context() as quick:
        quick.setattr("careloop.outcome.acted_upon.untreated.RESAMPLES", 120)
        return judge_untreated(risk, outcomes, acted_days=acted, covariates=x)


def test_a_working_alarm_looks_wrong_and_is_right_without_action(verdict) -> None:
    assert verdict.raw["observed_expected"].high < 0.85
    assert verdict.raw["slope"].high < 0.95
    for figure in ("observed_expected", "slope"):
        found = verdict.untreated[figure]
        assert found.low < 1 < found.high
        assert found.high - found.low < 0.6
    assert verdict.untreated["intercept"].low < 0 < verdict.untreated["intercept"].high
    assert "had nobody acted, observed : expected is" in verdict.words


def test_leaving_out_those_acted_upon_leaves_other_patients() -> None:
    """Their figures speak of low risks alone, and hardly of those that the alarm is for."""
    risk, outcomes, acted, _ = _alarm(2000, 1)
    alone = np.isinf(acted)
    other = Outcomes(*(a[alone] for a in (outcomes.subject_id, outcomes.follow_up_days, outcomes.event)), HORIZON)
    left_out = judge_untreated(risk[alone], other, acted_days=acted[alone], covariates=np.zeros((int(alone.sum()), 0)))
    assert left_out.acted == 0
    assert risk[alone].mean() < 0.9 * risk.mean()
    assert np.quantile(risk[alone], 0.95) < 0.9 * np.quantile(risk, 0.95)


def test_without_any_action_both_figures_are_the_same() -> None:
    risk, outcomes, _, x = _alarm(600, 2, acts=-50.0)
    found = judge_untreated(risk, outcomes, acted_days=np.full(600, np.inf), covariates=x)
    assert found.acted == 0
    for name, raw in found.raw.items():
        assert found.untreated[name].value == pytest.approx(raw.value)


def test_an_action_after_the_event_or_the_horizon_does_not_count() -> None:
    risk, outcomes, _, x = _alarm(600, 3, acts=-50.0)
    late = np.minimum(outcomes.follow_up_days, HORIZON) + 1
    assert judge_untreated(risk, outcomes, acted_days=late, covariates=x).acted == 0


def test_where_everybody_at_risk_is_acted_upon_nothing_is_claimed() -> None:
    risk, outcomes, _, x = _alarm(800, 4)
    acted = np.where(risk > np.median(risk), 0.0, np.inf)
    found = judge_untreated(risk, outcomes, acted_days=acted, covariates=x)
    assert found.untreated == {}
    assert "had hardly a chance to remain without action" in found.reason
    assert "a silent trial can tell" in found.words


def test_missing_covariates_and_other_shapes_are_refused() -> None:
    risk, outcomes, acted, x = _alarm(50, 5)
    with pytest.raises(InputError, match="one row a prediction"):
        judge_untreated(risk, outcomes, acted_days=acted, covariates=x[:10])
    with pytest.raises(InputError, match="not be missing"):
        judge_untreated(risk, outcomes, acted_days=acted, covariates=np.where(x > 1, np.nan, x))


def test_days_to_action_count_from_each_prediction() -> None:
    start = datetime(2023, 1, 1, tzinfo=UTC)
    keys = pl.DataFrame({"subject_id": [1, 1, 2], "prediction_time": [start, start + timedelta(days=10), start]})
    actions = pl.DataFrame({"subject_id": [1, 1], "time": [start, start + timedelta(days=12)]})
    assert acted_days(keys, actions).tolist() == [0.0, 2.0, np.inf]
