"""Risk reduction and number needed to treat against published examples, closed forms, and what must always hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from careloop import InputError
from careloop.evaluate import Estimate
from careloop.plan.document.benefit import Needed, benefit, number_needed

risks = st.lists(st.floats(0.001, 0.999), min_size=3, max_size=3).map(sorted).map(lambda r: Estimate(r[1], r[0], r[2]))


def proportion(events: int, people: int) -> Estimate:
    """A proportion with Wilson's score interval, by scipy."""
    interval = binomtest(events, people).proportion_ci(method="wilson")
    return Estimate(events / people, interval.low, interval.high)


def test_altmans_example_runs_from_benefit_through_infinity_to_harm() -> None:
    """Altman 1998: a reduction of 10 % (-5 % to 25 %) is an NNT of 10, from NNTB 4 through infinity to NNTH 20."""
    needed = number_needed(Estimate(0.10, -0.05, 0.25))
    assert (needed.value.people, needed.value.effect) == (10, "benefit")
    assert needed.best is not None
    assert needed.worst is not None
    assert (needed.best.people, needed.best.effect) == (4, "benefit")
    assert (needed.worst.people, needed.worst.effect) == (20, "harm")
    assert needed.holds_no_effect


def test_gladstones_trial_as_barrowman_gives_it() -> None:
    """Barrowman, CMAJ 2002;166:1676: a reduction of 16.6 % (0.9 % to 32.2 %) is an NNT of 6 (3.1 to 111.1)."""
    needed = number_needed(Estimate(0.166, 0.009, 0.322))
    assert needed.value.count == pytest.approx(6.0, abs=0.05)
    assert (needed.best.count, needed.worst.count) == pytest.approx((3.1, 111.1), abs=0.05)  # type: ignore[union-attr]
    assert not needed.holds_no_effect


def test_newcombes_example_of_two_proportions() -> None:
    """Newcombe 1998, table II, example (a): 56/70 against 48/80 by method 10 is 0.0524 to 0.3339."""
    found = benefit(proportion(56, 70), proportion(48, 80))
    assert found.reduction.value == pytest.approx(0.2)
    assert (found.reduction.low, found.reduction.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert found.basis == "independent"


def test_the_intervals_of_difference_and_ratio_cover() -> None:
    """Simulated trials of known risks: 95 % intervals cover about 95 % of the time."""
    random, truth, n, trials = np.random.default_rng(1), (0.3, 0.2), 150, 600
    covered = np.zeros(2)
    for before, after in zip(random.binomial(n, truth[0], trials), random.binomial(n, truth[1], trials), strict=True):
        found = benefit(proportion(int(before), n), proportion(int(after), n))
        for place, (estimate, true) in enumerate(((found.reduction, 0.1), (found.relative, 2 / 3))):
            assert estimate.low is not None
            assert estimate.high is not None
            covered[place] += estimate.low <= true <= estimate.high
    assert np.all(covered / trials > 0.93)
    assert np.all(covered / trials < 0.975)


@given(risks, risks)
def test_number_needed_is_the_inverse_of_the_reduction(without: Estimate, with_option: Estimate) -> None:
    found = benefit(without, with_option)
    reduction = found.reduction
    for needed, value in (
        (found.needed.value, reduction.value),
        (found.needed.best, reduction.high),
        (found.needed.worst, reduction.low),
    ):
        assert needed is not None
        assert value is not None
        if needed.count is not None:
            assert needed.count * abs(value) == pytest.approx(1)
            assert needed.count >= 1 or abs(value) > 1  # a limit may leave -1 to 1, a value cannot
            assert needed.effect == ("benefit" if value > 0 else "harm")
    assert reduction.low is not None
    assert reduction.high is not None
    assert reduction.low <= (reduction.value or 0.0) <= reduction.high
    assert found.needed.holds_no_effect == (reduction.low <= 0 <= reduction.high)


@given(risks, risks)
def test_exchanging_the_options_turns_benefit_into_harm(without: Estimate, with_option: Estimate) -> None:
    forth, back = benefit(without, with_option), benefit(with_option, without)
    assert forth.reduction.value == pytest.approx(-(back.reduction.value or 0.0))
    assert forth.reduction.low == pytest.approx(-(back.reduction.high or 0.0))
    if forth.needed.value.count is not None:
        assert forth.needed.value.count == pytest.approx(back.needed.value.count)
        assert forth.needed.value.effect != back.needed.value.effect
    assert (forth.relative.value or 0.0) * (back.relative.value or 0.0) == pytest.approx(1)
    assert (forth.relative.low or 0.0) * (back.relative.high or 0.0) == pytest.approx(1)


@given(risks, risks, st.floats(0, 0.3), st.floats(0, 0.3))
def test_with_a_given_reduction_the_ratio_leaves_out_1_where_it_leaves_out_0(
    without: Estimate, with_option: Estimate, below: float, above: float
) -> None:
    value = (without.value or 0.0) - (with_option.value or 0.0)
    found = benefit(without, with_option, reduction=Estimate(value, value - below, value + above))
    assert found.basis == "given"
    low, high = found.relative.low, found.relative.high
    assert low is not None
    assert high is not None
    if value - below > 1e-9:
        assert high < 1
    if value + above < -1e-9:
        assert low > 1


def test_limits_of_zero_are_infinitely_many_on_the_right_side() -> None:
    above = number_needed(Estimate(0.1, 0.0, 0.2))
    assert above.worst == Needed(None, "benefit")
    below = number_needed(Estimate(-0.1, -0.2, 0.0))
    assert below.best == Needed(None, "harm")
    assert above.holds_no_effect
    assert below.holds_no_effect


def test_no_difference_needs_infinitely_many() -> None:
    found = benefit(Estimate(0.2, 0.1, 0.3), Estimate(0.2, 0.1, 0.3))
    assert found.needed.value.people is None
    assert found.relative.value == 1


def test_a_number_needed_is_rounded_up_but_not_for_digits_that_floats_add() -> None:
    assert Needed(1 / 0.1, "benefit").people == 10
    assert Needed(1 / (0.3 - 0.2), "benefit").people == 10
    assert Needed(10.2, "benefit").people == 11


@pytest.mark.parametrize("risk", [0.0, 1.0])
def test_certain_risks_have_a_difference_and_perhaps_no_ratio(risk: float) -> None:
    found = benefit(Estimate(risk, risk, risk), Estimate(0.5, 0.4, 0.6))
    assert found.reduction.value == pytest.approx(risk - 0.5)
    assert (found.relative.value is None) == (risk == 0)
    gone = benefit(Estimate(0.5, 0.4, 0.6), Estimate(0.0, 0.0, 0.1))
    assert (gone.relative.value, gone.relative.high) == (0.0, None)


def test_risks_without_intervals_give_none() -> None:
    found = benefit(Estimate(0.3), Estimate(0.2))
    assert found.reduction.low is None
    assert found.needed.best is None
    assert math.isclose(found.needed.value.count or 0, 10)


@pytest.mark.parametrize(
    ("without", "with_option", "message"),
    [
        (Estimate(24.1, 18, 31), Estimate(0.2, 0.1, 0.3), "fractions, not per cent"),
        (Estimate(0.2, 0.25, 0.3), Estimate(0.2, 0.1, 0.3), "within its limits"),
        (Estimate(None, reason="nobody was followed"), Estimate(0.2), "nobody was followed"),
    ],
)
def test_what_is_no_risk_is_refused(without: Estimate, with_option: Estimate, message: str) -> None:
    with pytest.raises(InputError, match=message):
        benefit(without, with_option)


def test_a_reduction_of_other_people_is_refused() -> None:
    with pytest.raises(InputError, match="same people"):
        benefit(Estimate(0.3), Estimate(0.2), reduction=Estimate(0.2, 0.1, 0.3))
