"""Balance, overlap, effective sample size and E-values against closed forms and published numbers."""

from __future__ import annotations

import numpy as np
import pytest

from careloop.plan.effect.diagnostics.balance import (
    check_balance,
    e_value_of_difference,
    e_value_of_ratio,
    effective_sample,
)


def _check(x: np.ndarray, arm: np.ndarray, propensity: np.ndarray, minimum: float = 50):
    return check_balance(
        x, ("x",), arm=arm, propensity=propensity, options=("control", "drug"), minimum_effective_sample=minimum
    )


def test_true_propensities_balance_what_differed() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(20_000, 1))
    drug = 1 / (1 + np.exp(-x[:, 0]))
    arm = (random.random(20_000) < drug).astype(int)
    balance = _check(x, arm, np.column_stack([1 - drug, drug]))
    pooled = np.sqrt((x[arm == 0].var(ddof=1) + x[arm == 1].var(ddof=1)) / 2)
    assert balance.covariates[0].before == pytest.approx((x[arm == 1].mean() - x[arm == 0].mean()) / pooled)
    assert balance.covariates[0].before > 0.7
    assert balance.covariates[0].after < 0.05
    assert (balance.notable_before, balance.notable_after) == (1, 0)


def test_an_option_is_not_used_where_too_many_have_no_like_patients() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(2000, 1))
    drug = np.where(x[:, 0] > 0.5, 0.01, 0.5)  # three in ten almost never get the drug
    arm = (random.random(2000) < drug).astype(int)
    balance = _check(x, arm, np.column_stack([1 - drug, drug]))
    control, treated = balance.options
    assert control.usable
    assert not treated.usable
    assert treated.without_overlap == pytest.approx((x[:, 0] > 0.5).mean())
    assert "resemble too few who were given drug" in treated.reason
    assert "at most 10% of patients have a propensity for it under 0.1" in balance.rule


def test_effective_sample_size_has_a_floor() -> None:
    assert effective_sample(np.ones(30)) == 30
    assert effective_sample(np.array([3.0, 1, 1, 1])) == pytest.approx(36 / 12)
    arm = np.repeat([0, 1], [60, 40])
    balance = _check(np.arange(100.0)[:, None], arm, np.full((100, 2), 0.5))
    assert [option.usable for option in balance.options] == [True, False]
    assert "count as only 40 after weighting (floor 50)" in balance.options[1].reason


def test_e_values_of_the_paper() -> None:
    """VanderWeele & Ding 2017: RR 3.9 (1.8 to 8.7) has E-values 7.26 and 3.0."""
    value, limit = e_value_of_ratio(3.9, np.log(3.9 / 1.8) / 1.959963984540054)
    assert value == pytest.approx(7.26, abs=0.01)
    assert limit == pytest.approx(3.0, abs=0.01)
    assert e_value_of_ratio(1 / 3.9, np.log(3.9 / 1.8) / 1.959963984540054) == pytest.approx((value, limit))


def test_e_value_of_an_interval_with_no_effect_in_it_is_one() -> None:
    assert e_value_of_ratio(1.2, 0.2)[1] == 1.0
    assert e_value_of_difference(0.1, 0.2)[1] == 1.0


def test_e_value_of_a_difference_goes_through_the_risk_ratio() -> None:
    value, limit = e_value_of_difference(0.5, 0.1)
    ratio, low = np.exp(0.91 * 0.5), np.exp(0.91 * 0.5 - 1.78 * 0.1)
    assert value == pytest.approx(ratio + np.sqrt(ratio * (ratio - 1)))
    assert limit == pytest.approx(low + np.sqrt(low * (low - 1)))
