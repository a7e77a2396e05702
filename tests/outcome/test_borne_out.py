"""Three answers, and numbers of patients as published."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from scipy.stats import norm

from careloop import InputError
from careloop.evaluate import Estimate, Outcomes
from careloop.outcome.accuracy import judge_group
from careloop.outcome.borne_out import BorneOut, answer, judge_borne_out, patients_needed


def test_needed_patients_are_those_of_pmvalsampsize() -> None:
    """Its version 0.2.1 says: prevalence 0.018, log-odds N(-5, 2.5): O/E interval 1 wide 905, slope 0.4 wide 1,136."""
    error = 0.2456  # of ln(O/E), where the interval exp(+-1.96 error) is 1 wide
    (ratio,) = patients_needed(np.full(10, 0.018), ratio_margin=np.exp(1.959964 * error))
    assert ratio.in_all == 905
    log_odds = norm.ppf((np.arange(20_000) + 0.5) / 20_000, -5, 2.5)
    _, slope = patients_needed(1 / (1 + np.exp(-log_odds)), slope_margin=0.2)
    assert slope.in_all == pytest.approx(1136, rel=0.01)


def test_margins_without_room_are_refused() -> None:
    with pytest.raises(InputError, match="must leave room"):
        patients_needed(np.full(10, 0.2), ratio_margin=1.0)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.9, 1.1, "borne out"),
        (1.01, 1.04, "borne out"),
        (1.05, 1.4, "not borne out"),
        (0.5, 0.9, "not borne out"),
        (0.7, 1.3, "cannot tell yet"),
        (None, None, "cannot tell yet"),
    ],
)
def test_an_answer_is_read_from_the_whole_interval(low: float | None, high: float | None, expected: str) -> None:
    assert answer(Estimate(1.0, low, high), 0.8, 1.25) == expected


def _judged(n: int, seed: int, move: float = 0.0, lost: float = 0.0) -> tuple[BorneOut, Outcomes]:
    random = np.random.default_rng(seed)
    log_odds = -1.0 + 1.2 * random.normal(size=n)
    label = random.random(n) < 1 / (1 + np.exp(-log_odds))
    censored = random.random(n) < lost
    risk = 1 / (1 + np.exp(-(log_odds - move)))
    days = np.where(censored, 5.0, np.where(label, 10.0, 30.0))
    outcomes = Outcomes(np.arange(n), days, np.where(censored, 0, label).astype(np.int8), 30.0)
    rows = pl.DataFrame(
        {
            "subject_id": outcomes.subject_id,
            "prediction_time": [datetime(2023, 1, 1, tzinfo=UTC)] * n,
            "model": "model",
            "model_version": "1",
            "predicted_boolean_probability": risk,
            "abstained": False,
            "follow_up_days": days,
            "event": outcomes.event,
        }
    )
    return judge_borne_out(judge_group(rows, horizon_days=30.0, who="later"), risk, outcomes), outcomes


def test_with_as_many_patients_as_asked_for_a_right_model_is_borne_out() -> None:
    early, outcomes = _judged(120, 0)
    assert early.answer == "cannot tell yet"
    assert early.still_needed > 0
    assert f"about {early.still_needed} more patients followed for 30 days" in early.words
    later, _ = _judged(2 * (len(outcomes) + early.still_needed), 1)
    assert (later.answer, later.still_needed) == ("borne out", 0)


def test_wrong_risks_are_not_borne_out_and_say_how() -> None:
    found, _ = _judged(1500, 2, move=0.6)
    assert (found.answer, found.level) == ("not borne out", "not borne out")
    assert "there were more outcomes than predicted" in found.words
    assert found.still_needed == 0


def test_lost_patients_raise_the_number_needed() -> None:
    whole, _ = _judged(150, 3)
    lossy, outcomes = _judged(150, 3, lost=0.5)
    assert not outcomes.known.all()
    assert lossy.still_needed > whole.still_needed
