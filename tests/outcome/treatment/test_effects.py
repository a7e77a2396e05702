"""Effects judged again in later patients: right answers on simulated truth, patients still needed by the formula."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from careloop.evaluate import Estimate
from careloop.outcome.treatment.effects import compare, judge_effects, still_needed
from careloop.plan import make_plan


def estimate(value: float, error: float) -> Estimate:
    return Estimate(value, value - 1.959963984540054 * error, value + 1.959963984540054 * error)


@pytest.mark.parametrize(
    ("planned", "later", "answer"),
    [
        (estimate(-0.10, 0.02), estimate(-0.09, 0.03), "borne out"),
        (estimate(-0.10, 0.02), estimate(-0.05, 0.04), "cannot tell yet"),
        (estimate(-0.10, 0.02), estimate(0.05, 0.04), "not borne out"),
        (estimate(-0.10, 0.01), estimate(-0.05, 0.01), "not borne out"),  # real, but not what was said
        (estimate(0.01, 0.02), estimate(0.02, 0.005), "cannot tell yet"),  # the plan claimed nothing
    ],
)
def test_answers(planned: Estimate, later: Estimate, answer: str) -> None:
    assert compare(planned, later) == answer


def test_patients_still_needed_is_the_textbook_sample_size() -> None:
    """Two arms of n / 2, standard deviation 1, difference 0.25: 2 * 2 * (1.96 + 0.8416)^2 / 0.25^2 = 502 in all."""
    patients = 100
    error = (2 / (patients / 2)) ** 0.5
    assert still_needed(estimate(0.25, 0.05), estimate(0.1, error), patients) == 503 - patients
    assert still_needed(estimate(0.01, 0.05), estimate(0.1, error), patients) is None


@given(st.floats(-1, 1), st.floats(0.01, 1), st.floats(0.01, 1))
def test_the_same_estimate_is_never_called_not_borne_out(value: float, first: float, second: float) -> None:
    assert compare(estimate(value, first), estimate(value, second)) != "not borne out"


def test_a_plan_is_borne_out_by_patients_of_the_same_kind_and_not_by_others(study_rows, section) -> None:
    rows, matrix, _ = study_rows(3_000, 1, effect=-1.0)
    plan = make_plan(rows, matrix, section, horizon_days=365)
    for effect, answer in ((-1.0, "borne out"), (1.0, "not borne out")):
        later, later_matrix, _ = study_rows(2_000, 2, effect=effect)
        (found,) = judge_effects(later, later_matrix, plan)
        assert found.verdict == answer
        assert (found.option, found.versus, found.patients) == ("drug", "control", 2_000)
        assert answer in found.words


def test_too_few_later_patients_say_nothing(study_rows, section) -> None:
    rows, matrix, _ = study_rows(900, 3)
    plan = make_plan(rows, matrix, section, horizon_days=365)
    few = rows.height * [False]
    few[:30] = [True] * 30
    assert judge_effects(rows.filter(pl.Series(few)), matrix.filter(pl.Series(few)), plan) == ()
