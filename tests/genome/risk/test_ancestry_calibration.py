"""Calibration by ancestry: against pgscatalog-calc, the likelihood itself, and simulated populations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from careloop import InputError
from careloop.genome.risk.ancestry_calibration import (
    Adjusted,
    apply_calibration,
    calibrate_table,
    fit_calibration,
    read_calibrations,
    write_calibrations,
)
from careloop.genome.risk.scores.placed import place

Floats = NDArray[np.float64]
# Z_norm1 and Z_norm2 of pgscatalog-calc 0.3.1 (pgs_adjust, two components) for the first people of `three_groups`.
PGSCATALOG_CALC: dict[Adjusted, list[float]] = {
    "mean": [0.216459, 0.481333, -1.303638, 0.350960, 0.487906, 0.527255],
    "mean_and_variance": [0.257531, 0.637603, -2.244600, 0.427875, 0.564156, 0.632657],
}


def three_groups() -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Simulated scores (300,) whose mean and spread differ between three groups, and two components."""
    draws = np.random.default_rng(12)
    groups = np.repeat(np.arange(3), 100)
    centres = np.array([[0.0, 0.0], [3.0, 1.0], [-2.0, 4.0]])
    components = centres[groups] + draws.normal(size=(300, 2))
    spread = np.array([1.0, 0.5, 2.0])
    scores = np.array([0.0, 2.0, -1.0])[groups] + spread[groups] * draws.normal(size=300)
    return scores, components, groups


@pytest.mark.parametrize("adjusted", ["mean", "mean_and_variance"])
def test_values_are_those_of_the_pgs_catalogs_calculator(adjusted: Adjusted) -> None:
    scores, components, _ = three_groups()
    fitted = fit_calibration(scores, components, score="S", names=("1", "2"), adjusted=adjusted)
    found = apply_calibration(fitted, scores, components)
    np.testing.assert_allclose(found.z[:6], PGSCATALOG_CALC[adjusted], atol=2e-6)


def test_the_fit_is_the_likelihoods_maximum() -> None:
    scores, components, _ = three_groups()
    fitted = fit_calibration(scores, components, score="S", names=("1", "2"))
    design = np.column_stack([np.ones(300), (components - fitted.centre) / np.array(fitted.spread)])

    def loss(theta: Floats) -> float:
        log_variance = design @ theta[3:]
        return float((log_variance / 2 + (scores - design @ theta[:3]) ** 2 / np.exp(log_variance) / 2).sum())

    start = np.array([scores.mean(), 0, 0, np.log(scores.var()), 0, 0])
    best = minimize(loss, start, method="BFGS", options={"gtol": 1e-6})
    np.testing.assert_allclose([*fitted.mean, *fitted.log_variance], best.x, atol=1e-4)


def test_simulated_populations_become_alike_in_mean_and_spread() -> None:
    """Simulated populations whose scores differ by drift alone, fitted on a third of them and judged on the others."""
    draws = np.random.default_rng(7)
    groups, reference = np.repeat(np.arange(4), 1500), np.tile([True, False, False], 2000)
    corners = np.array([[0, 0, 0], [4, 0, 0], [0, 4, 0], [0, 0, 4.0]])
    components = corners[groups] + draws.normal(scale=0.1, size=(6000, 3))
    scores = np.array([0, 1.5, -1, 0.5])[groups] + np.array([1, 0.6, 1.5, 0.8])[groups] * draws.normal(size=6000)
    fitted = fit_calibration(scores[reference], components[reference], score="S", names=("1", "2", "3"))
    found = apply_calibration(fitted, scores[~reference], components[~reference])
    raw = (scores - scores[reference].mean()) / scores[reference].std()
    for group in range(4):
        of = groups[~reference] == group
        assert abs(found.z[of].mean()) < 0.1
        assert abs(found.z[of].std() - 1) < 0.1
        assert 0.03 < (found.percentile[of] > 95).mean() < 0.08
    assert (raw[groups == 1] > 1).mean() > 0.25
    mean_alone = fit_calibration(scores, components, score="S", names=("1", "2", "3"), adjusted="mean")
    spreads = [apply_calibration(mean_alone, scores, components).z[groups == group].std() for group in range(4)]
    assert max(spreads) > 2 * min(spreads)


def test_people_outside_of_the_reference_are_said_to_be_and_unknown_ones_have_no_value() -> None:
    scores, components, _ = three_groups()
    fitted = fit_calibration(scores, components, score="S", names=("1", "2"))
    asked = np.array([[0.0, 0.0], [30.0, 0.0], [np.nan, 0.0]])
    found = apply_calibration(fitted, np.zeros(3), asked)
    assert found.beyond.tolist() == [False, True, False]
    assert np.isfinite(found.z).tolist() == [True, True, False]
    assert np.isnan(found.percentile[2])
    with pytest.raises(InputError, match="needs 2 components"):
        apply_calibration(fitted, np.zeros(3), asked[:, :1])


def test_tables_are_joined_by_id_and_calibrations_are_read_back(tmp_path: Path) -> None:
    scores, components, _ = three_groups()
    ids = [f"P{number}" for number in range(300)]
    fitted = fit_calibration(scores, components, score="S", names=("1", "2"))
    write_calibrations([fitted], tmp_path / "c.json")
    assert read_calibrations(tmp_path / "c.json") == (fitted,)
    table = pl.DataFrame({"sample_id": [*ids, "other"], "S": [*scores, 1.0]})
    known = pl.DataFrame({"sample_id": ids[::-1], "1": components[::-1, 0], "2": components[::-1, 1]})
    done, beyond = calibrate_table(table, known, [fitted])
    assert done.columns == ["sample_id", "S", "S_z", "S_percentile"]
    np.testing.assert_allclose(done["S_z"][:300].to_numpy(), apply_calibration(fitted, scores, components).z)
    assert done.row(300)[2:] == (None, None)
    assert not beyond.any()
    (tmp_path / "bad.json").write_text("[1]")
    with pytest.raises(InputError, match="not a file of calibrations"):
        read_calibrations(tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s, c: (s[:20], c[:20]), "needs 30 reference people"),
        (lambda s, c: (np.ones(300), c), "scores that differ"),
        (lambda s, c: (np.append(s[1:], np.nan), c), "need a score and all components"),
        (lambda s, c: (s, np.column_stack([c[:, 0], np.ones(300)])), "each principal component needs a spread"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, said: str) -> None:  # type: ignore[no-untyped-def]
    scores, components = change(*three_groups()[:2])
    with pytest.raises(InputError, match=said):
        fit_calibration(scores, components, score="S", names=("1", "2"))


def test_a_persons_place_is_among_the_others() -> None:
    table = pl.DataFrame({"sample_id": list("abcde"), "S": [1.0, 2.0, 2.0, 3.0, None]})
    found = place(table, "S", "b")
    assert (found.value, len(found.others)) == (2, 3)
    assert found.percentile == pytest.approx(50)
    assert place(table, "S", "e").percentile is None
    with pytest.raises(InputError, match="not among the people"):
        place(table, "S", "f")
