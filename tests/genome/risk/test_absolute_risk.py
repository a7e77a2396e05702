"""Absolute risk: closed forms, iCARE's values, the population's average, and effects in a simulated cohort."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from careloop import InputError
from careloop.genome.risk.absolute_risk import ScoreEffect, absolute_risk
from careloop.genome.risk.effect_per_sd import hazard_ratio_per_sd, odds_ratio_per_sd
from careloop.genome.risk.incidence import Rates, read_rates

AGES = np.arange(20.0, 90.0)
Z = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])


def rates(mortality: float = 3e-4) -> Rates:
    return Rates(AGES, AGES + 1, 1e-4 * np.exp(0.07 * (AGES - 20)), mortality * np.exp(0.09 * (AGES - 20)))


def test_constant_rates_without_an_effect_have_a_closed_form() -> None:
    flat = Rates(np.array([0.0]), np.array([100.0]), np.array([0.01]), np.array([0.02]))
    found = absolute_risk(flat, ScoreEffect(0.0), Z, from_age=40.5, to_age=70.0)
    years = found.ages - 40.5
    expected = 0.01 / 0.03 * (1 - np.exp(-0.03 * years))
    np.testing.assert_allclose(found.risk, np.tile(expected, (5, 1)), rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(found.average, expected, rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(found.relative, 1)


def test_values_are_near_icares() -> None:
    """Pyicare 1.0.0 (estimate_baseline_hazards, estimate_absolute_risks) for these rates, HR 1.7, from 40 to 80.

    It adds yearly risks up from the start of each year, which is 1 to 2 % more than the integral here.
    """
    icare = np.array([0.019745, 0.033305, 0.055873, 0.092881, 0.152075])
    found = absolute_risk(rates(), ScoreEffect.of_ratio(1.7), Z, from_age=40, to_age=80)
    assert (found.risk[:, -1] < icare).all()
    np.testing.assert_allclose(found.risk[:, -1], icare, rtol=0.02)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(ratio=st.floats(0.4, 3), scale=st.floats(0.1, 30), age=st.integers(20, 60))
def test_the_average_over_scores_is_the_populations_incidence(ratio: float, scale: float, age: int) -> None:
    """Without other causes of death, whatever the effect: people fall ill as in the table, from any age."""
    table = rates(0.0)
    scaled = Rates(table.start, table.end, table.incidence * scale, table.mortality)
    found = absolute_risk(scaled, ScoreEffect.of_ratio(ratio), Z, from_age=age, to_age=85)
    expected = 1 - np.exp(-scaled.incidence[(age <= AGES) & (AGES < 85)].sum())
    assert found.average[-1] == pytest.approx(expected, rel=1e-6)
    rising = np.diff(found.risk[:, -1])
    assert (rising >= 0).all() if ratio >= 1 else (rising <= 0).all()


def test_from_the_first_age_the_average_is_that_of_a_normal_score() -> None:
    found = absolute_risk(rates(), ScoreEffect(0.5), np.linspace(-6, 6, 2001), from_age=20, to_age=90)
    weights = norm.pdf(np.linspace(-6, 6, 2001))
    assert found.average[-1] == pytest.approx(float(weights @ found.risk[:, -1] / weights.sum()), rel=1e-5)
    assert found.relative[1000] == pytest.approx(np.exp(-0.125), rel=1e-6)  # 1 / E[exp(0.5 z)]


def test_a_simulated_population_falls_ill_as_computed() -> None:
    """Simulated: times to a disease so rare that its baseline hazard is constant, and to other deaths."""
    draws = np.random.default_rng(5)
    table = Rates(np.array([40.0]), np.array([80.0]), np.array([0.001]), np.array([0.015]))
    z = draws.normal(size=60_000)
    computed = absolute_risk(table, ScoreEffect(0.6), z, from_age=40, to_age=70).risk[:, -1]
    ill = draws.exponential(size=z.size) / (0.001 * np.exp(0.6 * z - 0.18))
    dead = draws.exponential(size=z.size) / 0.015
    happened = (ill < dead) & (ill < 30)
    for group in (z > 1, z < -1):
        error = np.sqrt(computed[group].mean() / group.sum())
        assert abs(happened[group].mean() - computed[group].mean()) < 4 * error


def test_the_interval_is_that_of_the_effect() -> None:
    certain = absolute_risk(rates(), ScoreEffect.of_ratio(1.5), Z, from_age=40, to_age=80)
    assert (certain.low == certain.high).all()
    effect = ScoreEffect.of_ratio(1.5, (1.2, 1.875))
    found = absolute_risk(rates(), effect, Z, from_age=40, to_age=80)
    for ratio, side in ((1.2, found.low), (1.875, found.high)):
        edge = absolute_risk(rates(), ScoreEffect.of_ratio(ratio), Z, from_age=40, to_age=80)
        np.testing.assert_allclose(side[4], edge.risk[4], rtol=1e-9)
    assert ((found.low <= found.risk) & (found.risk <= found.high)).all()


def test_an_empirical_population_stands_in_for_the_normal_one() -> None:
    scores = norm.ppf((np.arange(4000) + 0.5) / 4000)
    normal = absolute_risk(rates(), ScoreEffect(0.4), Z, from_age=40, to_age=80)
    given_one = absolute_risk(rates(), ScoreEffect(0.4, population=scores), Z, from_age=40, to_age=80)
    np.testing.assert_allclose(given_one.risk, normal.risk, rtol=2e-3)


def test_rates_are_read_by_sex_and_unit(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    rows = "40,50,female,100,0.01\n40,50,male,200,0.02\n50,60,female,300,0.03\n50,60,male,400,0.04\n"
    path.write_text("# made up\nage_from,age_to,sex,incidence_per_100000,mortality\n" + rows)
    found = read_rates(path, sex="male")
    assert found.incidence.tolist() == [0.002, 0.004]
    assert found.mortality.tolist() == [0.02, 0.04]
    assert found.end.tolist() == [50, 60]
    path.write_text("age\tincidence\n41\t.2\n40\t.1\n")
    yearly = read_rates(path)
    assert (yearly.start.tolist(), yearly.end.tolist(), yearly.incidence.tolist()) == ([40, 41], [41, 42], [0.1, 0.2])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("age,incidence\n40,x\n", "incidence is a number in each row; row 1"),
        ("age,rate\n40,1\n", "rates need the columns"),
        ("age_from,age_to,incidence\n40,45,.1\n50,55,.1\n", "without gaps"),
        ("age,incidence\n40,-1\n", "not below 0"),
        ("age,sex,incidence\n40,female,1\n", "rates are by sex"),
        ("", "no row of rates"),
    ],
)
def test_tables_that_are_no_rates_are_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "rates.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_rates(path)


def test_ages_and_ratios_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="within the rates' ages"):
        absolute_risk(rates(), ScoreEffect(0.1), Z, from_age=10, to_age=50)
    with pytest.raises(InputError, match="within the rates' ages"):
        absolute_risk(rates(), ScoreEffect(0.1), Z, from_age=60, to_age=50)
    with pytest.raises(InputError, match="within its interval"):
        ScoreEffect.of_ratio(1.5, (1.6, 2))
    with pytest.raises(InputError, match="logarithm of a hazard ratio"):
        ScoreEffect(60.0)
    with pytest.raises(InputError, match="a score of each person"):
        absolute_risk(rates(), ScoreEffect(0.1), np.array([np.nan]), from_age=40, to_age=50)


def test_effects_of_a_simulated_cohort_are_found_again() -> None:
    """Simulated: a hazard ratio of 1.6 per SD beside a covariate, and an odds ratio of 2."""
    draws = np.random.default_rng(11)
    z, other = draws.normal(size=(2, 4000))
    years = draws.exponential(size=4000) / (0.05 * np.exp(np.log(1.6) * z + 0.5 * other))
    event = years < 10
    found = hazard_ratio_per_sd(z, np.minimum(years, 10), event, other[:, None])
    value, low, high = found.ratio
    assert low < 1.6 < high
    assert 1.4 < value < 1.8
    assert (found.people, found.events) == (4000, int(event.sum()))
    case = draws.random(4000) < 1 / (1 + np.exp(1.5 - np.log(2) * z))
    odds = odds_ratio_per_sd(z, case)
    assert odds.ratio[1] < 2 < odds.ratio[2]
    with pytest.raises(InputError, match="with and without the event"):
        odds_ratio_per_sd(z, z > 0)


def test_a_hazard_ratio_is_lifelines_where_that_is_installed() -> None:
    lifelines = pytest.importorskip("lifelines")
    import pandas as pd

    draws = np.random.default_rng(2)
    z = draws.normal(size=300)
    years = draws.exponential(size=300) / np.exp(0.4 * z)
    event = years < 1.5
    found = hazard_ratio_per_sd(z, np.minimum(years, 1.5), event)
    frame = pd.DataFrame({"z": z, "years": np.minimum(years, 1.5), "event": event})
    theirs = lifelines.CoxPHFitter().fit(frame, "years", "event")
    assert found.log_ratio == pytest.approx(theirs.params_["z"], abs=1e-5)
    assert found.standard_error == pytest.approx(theirs.standard_errors_["z"], abs=1e-5)
