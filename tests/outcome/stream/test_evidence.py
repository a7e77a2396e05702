"""Evidence is a fair game while predictions are right: by enumeration, by recursion, and by simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.outcome.stream.calibration import LEVELS, log_factors, watch_level, watch_spread
from careloop.outcome.stream.evidence import WAKING, log_evidence


def _by_recursion(log_factors: np.ndarray) -> np.ndarray:
    """The stake moved about row by row: a share wakes, is dealt out to the bets, and each bet is played."""
    path = []
    asleep, awake = np.full(len(WAKING), 1 / len(WAKING)), np.zeros((len(WAKING), log_factors.shape[1]))
    for row in np.exp(log_factors):
        awake += (asleep * WAKING / len(row))[:, None]
        asleep = asleep * (1 - np.array(WAKING))
        awake *= row
        path.append(awake.sum() + asleep.sum())
    return np.log(path)


def test_evidence_is_the_stake_moved_row_by_row() -> None:
    factors = np.random.default_rng(0).normal(0, 0.5, size=(300, 4))
    assert log_evidence(factors) == pytest.approx(_by_recursion(factors))


def test_expected_evidence_is_one_over_all_courses_of_events() -> None:
    """Exact: every sequence of outcomes, weighted by its probability under right predictions."""
    probability = np.array([0.1, 0.4, 0.7, 0.2, 0.05, 0.5, 0.3])
    bets = np.log(probability / (1 - probability))[:, None] + np.array(LEVELS)
    mean = 0.0
    for course in itertools.product((False, True), repeat=len(probability)):
        label = np.array(course)
        chance = np.where(label, probability, 1 - probability).prod()
        factors = log_factors(probability, bets, label=label, weight=np.ones(len(label)))
        mean += chance * np.exp(log_evidence(factors)[-1])
    assert mean == pytest.approx(1.0)


@given(risk=st.floats(0.01, 0.99), move=st.floats(-3, 3), to_event=st.floats(0.3, 1), to_end=st.floats(0.1, 1))
def test_a_row_that_may_be_lost_is_a_fair_bet(risk: float, move: float, to_event: float, to_end: float) -> None:
    """An event is seen with probability G(t), an event-free row with G(horizon) <= G(t); weights are their ratio."""
    to_end = min(to_end, to_event)
    bet = np.array([[np.log(risk / (1 - risk)) + move]])

    def factor(label: bool, weight: float) -> float:
        found = log_factors(np.array([risk]), bet, label=np.array([label]), weight=np.array([weight]))
        return float(np.exp(found[0, 0]))

    seen = risk * to_event * factor(True, to_end / to_event) + (1 - risk) * to_end * factor(False, 1.0)
    lost = risk * (1 - to_event) + (1 - risk) * (1 - to_end)
    assert seen + lost * factor(False, 0.0) == pytest.approx(1.0)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), cut=st.integers(1, 199))
def test_later_rows_change_no_earlier_evidence(seed: int, cut: int) -> None:
    factors = np.random.default_rng(seed).normal(0, 0.3, size=(200, 3))
    assert log_evidence(factors[:cut]) == pytest.approx(log_evidence(factors)[:cut])


def test_false_alarms_stay_below_the_budget_though_one_looks_after_every_patient(entered) -> None:
    """At a budget of 20 %: a chi-squared test that is looked at as often has far more."""
    alarms, naive = 0, 0
    for seed in range(40):
        each = entered(500, seed)
        alarms += watch_level(each, alpha=0.1).alarm or watch_spread(each, alpha=0.1).alarm
        excess = np.cumsum(each.label - each.probability)
        spread = np.sqrt(np.cumsum(each.probability * (1 - each.probability)))
        naive += bool((np.abs(excess[30:] / spread[30:]) > 1.2816).any())
    assert alarms <= 0.2 * 40
    assert naive > 0.4 * 40


def test_an_alarm_names_kind_direction_and_when_it_began(entered) -> None:
    def more(log_odds: np.ndarray) -> np.ndarray:
        return log_odds + 1.0 * (np.arange(len(log_odds)) >= 900)

    each = entered(1500, 1, drift=more)
    found = watch_level(each, alpha=0.025)
    assert found.alarm
    assert found.alarm_row is not None
    assert 900 < found.alarm_row < 1200
    assert found.log10[found.alarm_row - 1] >= found.line > max(found.log10[: found.alarm_row - 1])
    assert found.direction == "more outcomes than predicted"
    began = np.datetime64(found.since)
    assert abs(began - each.prediction_time[900]) < np.timedelta64(15, "D")
    assert np.datetime64(found.alarm_time) == each.known_time[found.alarm_row - 1].astype("datetime64[s]")


@pytest.mark.parametrize(("slope", "word"), [(0.2, "differ less"), (2.2, "differ more")])
def test_a_changed_spread_is_told_from_a_changed_level(slope: float, word: str, entered) -> None:
    def stretched(log_odds: np.ndarray) -> np.ndarray:
        return np.where(np.arange(len(log_odds)) >= 500, -1.0 + slope * (log_odds + 1.0), log_odds)

    each = entered(2000, 2, drift=stretched)
    spread, level = watch_spread(each, alpha=0.025), watch_level(each, alpha=0.025)
    assert spread.alarm_row is not None
    assert word in (spread.direction or "")
    assert level.alarm_row is None or level.alarm_row > spread.alarm_row


def test_without_rows_there_is_no_evidence(entered, stream) -> None:
    from careloop.outcome.stream.arrivals import arrivals

    rows = stream(20, 0)
    nothing = arrivals(rows, horizon_days=30.0, as_of=rows["prediction_time"].min())
    assert (len(nothing), nothing.waiting) == (0, 20)
    assert watch_level(nothing, alpha=0.05).alarm is False
