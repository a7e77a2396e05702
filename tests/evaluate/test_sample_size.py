"""Riley's minimum sample size: published examples, the criteria's own definitions, and a simulation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm, t
from sklearn.linear_model import LogisticRegression

from careloop import InputError
from careloop.evaluate.sample_size import (
    binary_sample_size,
    continuous_sample_size,
    expected_shrinkage,
    max_r2_binary,
    max_r2_time_to_event,
    parameters_for,
    r2_from_c_statistic,
    time_to_event_sample_size,
)

# Expected values of the tests of pmsampsize 1.1.3 for R (test_bin.R, test_surv.R, test_cont.R), which contain the
# examples of its help file, taken from the papers of Riley et al.: (arguments, patients by criterion, final).
BINARY = [
    ((24, 0.174, 0.288), (623, 662, 221), 662),
    ((24, 0.174, 0.55), (255, 532, 221), 532),
    ((36, 0.174, 0.288), (934, 992, 221), 992),
    ((24, 0.25, 0.288), (623, 590, 289), 623),
]
TIME_TO_EVENT = [
    ((30, 0.065, 2.07), 2, 0.051, (5143, 1039), 5143),
    ((25, 0.065, 2.07), 2, 0.051, (4286, 866), 4286),
    ((25, 0.065, 2.07), 2, 0.065, (3335, 859), 3335),
    ((50, 0.065, 2.07), 2, 0.051, (8572, 1731), 8572),
    ((25, 0.1, 2.07), 2, 0.051, (4286, 731), 4286),
    ((25, 0.065, 2.07), 4, 0.051, (4286, 866), 4286),
    ((25, 0.065, 4), 2, 0.051, (4286, 679), 4286),
    ((40, 0.08, 5), 3, 0.06, (5798, 969), 5798),
    ((10, 0.09, 3), 3, 0.03, (2950, 272), 2950),
    ((80, 0.03, 5), 1, 0.3, (1974, 2272), 2272),
]
CONTINUOUS = [
    ((25, 0.2), 1.9, 0.6, 0.9, (918, 401, 259), 918),
    ((25, 0.3), 1.9, 0.6, 0.9, (574, 351, 259), 574),
    ((50, 0.2), 1.9, 0.6, 0.9, (1924, 801, 284), 1924),
    ((25, 0.2), 10, 0.6, 0.9, (918, 401, 259), 918),
    ((25, 0.2), 1.9, 2, 0.9, (918, 401, 259), 918),
    ((100, 0.5), 1.9, 2, 0.9, (1264, 1001, 334), 1264),
    ((30, 0.89), 3.3, 1.1, 0.84, (32, 67, 264), 264),
]


def numbers(size: Any) -> tuple[int, ...]:
    return tuple(criterion.n for criterion in size.criteria)


@pytest.mark.parametrize(("arguments", "criteria", "final"), BINARY)
def test_binary_examples_of_pmsampsize(arguments: Any, criteria: tuple[int, ...], final: int) -> None:
    size = binary_sample_size(*arguments)
    assert numbers(size) == criteria
    assert size.n == final
    assert size.deciding.n == final


@pytest.mark.parametrize(("arguments", "timepoint", "r2", "criteria", "final"), TIME_TO_EVENT)
def test_time_to_event_examples_of_pmsampsize(
    arguments: Any, timepoint: float, r2: float, criteria: tuple[int, ...], final: int
) -> None:
    size = time_to_event_sample_size(*arguments, timepoint=timepoint, r2=r2)
    assert size.n == final
    assert numbers(size)[0] == criteria[0]
    # pmsampsize rounds the events of 10,000 patients up for the largest possible R2.
    assert abs(numbers(size)[1] - criteria[1]) <= (0 if criteria[1] == final else 1)


@pytest.mark.parametrize(("arguments", "mean", "sd", "shrinkage", "criteria", "final"), CONTINUOUS)
def test_continuous_examples_of_pmsampsize(
    arguments: Any, mean: float, sd: float, shrinkage: float, criteria: tuple[int, ...], final: int
) -> None:
    size = continuous_sample_size(*arguments, mean=mean, standard_deviation=sd, shrinkage=shrinkage)
    assert numbers(size)[:3] == criteria
    assert size.n == final


def test_figures_beside_the_numbers_are_those_that_pmsampsize_prints() -> None:
    binary = binary_sample_size(24, 0.174, 0.288)
    assert round(binary.events_per_parameter, 2) == 4.8
    assert math.ceil(binary.events or 0) == 116
    assert round(binary.max_r2, 3) == 0.603
    assert round(binary.nagelkerke_r2, 3) == 0.477
    assert round(binary.shrinkage, 3) == 0.905
    survival = time_to_event_sample_size(30, 0.065, 2.07, timepoint=2, r2=0.051)
    assert math.ceil(survival.events or 0) == 692
    assert round(survival.events_per_parameter, 2) == 23.07
    linear = continuous_sample_size(30, 0.89, mean=3.3, standard_deviation=1.1, shrinkage=0.84)
    assert [round(criterion.shrinkage, 3) for criterion in linear.criteria[:3]] == [0.845, 0.851, 0.954]


def test_worked_examples_of_the_bmj_paper() -> None:
    """Riley et al., BMJ 2020;368:m441, examples 1 and 3."""
    assert round(max_r2_binary(0.05), 2) == 0.33
    assert binary_sample_size(30, 0.05, 0.05).n == 5249
    assert binary_sample_size(20, 0.05, 0.05).n == 3500
    assert continuous_sample_size(20, 0.9, mean=26.7, standard_deviation=8.7).n == 254


def test_c_statistic_example_of_pmsampsize() -> None:
    """The help file's example, with the result that version 0.1.0 for Python tests: 660 patients."""
    r2 = r2_from_c_statistic(0.89, 0.174)
    assert r2 == pytest.approx(0.2908, abs=5e-4)  # pmsampsize's simulation with its default seed
    assert numbers(binary_sample_size(24, 0.174, r2)) == (615, 660, 221)


@pytest.mark.parametrize(("c_statistic", "prevalence"), [(0.81, 0.77), (0.7, 0.05)])
def test_r2_from_a_c_statistic_is_the_one_of_simulated_patients(c_statistic: float, prevalence: float) -> None:
    random, n = np.random.default_rng(2021), 200_000
    events = round(n * prevalence)
    distance = math.sqrt(2) * norm.ppf(c_statistic)
    score = np.concatenate([random.normal(distance, 1, events), random.normal(0, 1, n - events)])
    label = np.arange(n) < events
    fitted = LogisticRegression(C=np.inf).fit(score[:, None], label).predict_proba(score[:, None])[:, 1]
    gain = np.log(np.where(label, fitted / prevalence, (1 - fitted) / (1 - prevalence))).mean()
    assert r2_from_c_statistic(c_statistic, prevalence) == pytest.approx(1 - math.exp(-2 * gain), abs=0.004)


def test_overall_risk_of_a_time_to_event_is_as_precise_as_asked() -> None:
    parameters, rate, follow_up, timepoint = 2, 0.2, 1.0, 3.0
    size = time_to_event_sample_size(parameters, rate, follow_up, timepoint=timepoint, r2=0.2)

    def farthest(n: int) -> float:
        around = rate + np.array([-1, 1]) * 1.96 * math.sqrt(rate / (n * follow_up))
        return float(np.abs(np.exp(-rate * timepoint) - np.exp(-around * timepoint)).max())

    assert farthest(size.criteria[2].n) <= 0.05 < farthest(size.criteria[2].n - 1)


def test_mean_of_a_continuous_outcome_is_as_precise_as_asked() -> None:
    size = continuous_sample_size(10, 0.15, mean=-1.0, standard_deviation=5.0)
    n = np.arange(13, 20_000)
    half_width = t.isf(0.025, n - 11) * np.sqrt(25 * 0.85 / n)
    assert size.n == size.criteria[3].n == n[np.flatnonzero(half_width <= 0.1)[0]]


def test_mean_error_of_risks_is_the_one_asked_by_van_smeden() -> None:
    def error(n: int, prevalence: float, parameters: int) -> float:
        return math.exp(-0.508 - 0.544 * math.log(n) + 0.259 * math.log(prevalence) + 0.504 * math.log(parameters))

    n = binary_sample_size(24, 0.174, 0.288, mean_error=0.05).criteria[3].n
    assert error(n, 0.174, 24) <= 0.05 < error(n - 1, 0.174, 24)
    assert numbers(binary_sample_size(24, 0.826, 0.288, mean_error=0.05))[3] == n


@given(parameters=st.integers(1, 200), r2=st.floats(0.01, 0.5), prevalence=st.floats(0.05, 0.95))
def test_more_parameters_ask_for_more_patients(parameters: int, r2: float, prevalence: float) -> None:
    r2 *= max_r2_binary(prevalence)

    def size_of(p: int) -> Any:
        return binary_sample_size(p, prevalence, r2)

    n = size_of(parameters).n
    assert size_of(parameters + 1).n >= n
    allowed = parameters_for(n, size_of)
    assert size_of(allowed).n <= n < size_of(allowed + 1).n
    assert allowed >= parameters


@given(n=st.integers(20, 10**6), parameters=st.integers(1, 100), r2=st.floats(0.01, 0.8))
def test_expected_shrinkage_solves_its_equation(n: int, parameters: int, r2: float) -> None:
    shrinkage = expected_shrinkage(n, parameters, r2)
    assert r2 < shrinkage < 1
    assert parameters / ((shrinkage - 1) * math.log(1 - r2 / shrinkage)) == pytest.approx(n, rel=1e-5)


def test_no_parameter_is_allowed_where_even_one_is_too_many() -> None:
    assert parameters_for(10, lambda p: binary_sample_size(p, 0.3, 0.1)) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: binary_sample_size(0, 0.2, 0.1), "parameters must be at least 1, got 0"),
        (lambda: binary_sample_size(5, 1.2, 0.1), "prevalence must be above 0 and below 1, got 1.2"),
        (lambda: binary_sample_size(5, 0.05, 0.4), "r2 must be above 0 and below 0.3277, got 0.4"),
        (lambda: binary_sample_size(5, 0.2, 0.1, shrinkage=1.0), "shrinkage must be above 0 and below 1, got 1"),
        (lambda: binary_sample_size(31, 0.2, 0.1, mean_error=0.05), "holds for at most 30 parameters, got 31"),
        (lambda: time_to_event_sample_size(5, 0.0, 2, timepoint=1, r2=0.1), "rate must be above 0, got 0"),
        (lambda: max_r2_time_to_event(65, 2.07), "the share of patients with the event"),
        (lambda: continuous_sample_size(5, 0.2, mean=0, standard_deviation=1), "mean must not be 0"),
        (lambda: continuous_sample_size(5, 0.2, mean=1e-9, standard_deviation=1), "more than 10,000,000,000 patients"),
        (lambda: r2_from_c_statistic(0.5, 0.2), "c_statistic must be above 0.5 and below 1, got 0.5"),
    ],
)
def test_values_out_of_range_are_refused(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
