"""LD score regression on statistics that are drawn from its own model."""

from __future__ import annotations

import numpy as np
import pytest

from careloop import InputError
from careloop.genome.risk.weights.heritability import ld_score_regression


@pytest.mark.parametrize(("h2", "intercept"), [(0.4, 1.0), (0.2, 1.1), (0.0, 1.0)])
def test_the_simulated_heritability_is_in_reach(h2: float, intercept: float) -> None:
    draws = np.random.default_rng(3)
    scores, people = draws.gamma(2, 10, 50_000) + 1, np.full(50_000, 20_000.0)
    chi_squared = (people * h2 * scores / 50_000 + intercept) * draws.chisquare(1, 50_000)
    found = ld_score_regression(chi_squared, scores, people)
    assert abs(found.h2 - h2) < 3 * found.h2_error
    assert found.intercept_error is not None
    assert abs(found.intercept - intercept) < 3 * found.intercept_error
    assert 0 < found.h2_error < 0.05
    given = ld_score_regression(chi_squared, scores, people, intercept=intercept)
    assert given.intercept_error is None
    assert given.h2_error < found.h2_error


def test_scores_that_are_all_alike_leave_the_intercept_at_one() -> None:
    found = ld_score_regression(np.full(100, 3.0), np.ones(100), np.full(100, 1_000.0))
    assert (found.intercept, found.intercept_error) == (1.0, None)
    assert found.h2 == pytest.approx(0.2)


def test_few_variants_are_refused() -> None:
    with pytest.raises(InputError, match="10 variants at least"):
        ld_score_regression(np.ones(5), np.ones(5), np.ones(5))
