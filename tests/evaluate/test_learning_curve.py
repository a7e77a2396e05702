"""Learning curves: a known law is found, intervals cover the truth, and what cannot be told is not told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from careloop import InputError
from careloop.evaluate.learning_curve import PowerLaw, fit_learning_curve, training_spread

LARGEST = 1280
# As many independent errors of each size as disjoint parts of the patients allow, at most eight.
SIZES = np.concatenate([[LARGEST // parts] * min(parts, 8) for parts in (16, 11, 8, 6, 4, 3, 2, 1)])
SIMULATIONS = 120
# Of 120 intervals that cover with probability 0.95, fewer than 105 or so cover in one of a thousand simulations.
LEAST_COVERAGE = 0.87


def simulated(law: PowerLaw, *, spread: float, falls: float, shared: float, seed: int) -> tuple[Any, Any]:
    """Errors with noise of training (variance ~ n^-falls) and of evaluation rows, and the errors on other such rows."""
    random = np.random.default_rng(seed)
    errors = law(SIZES) + random.normal(0, 1, len(SIZES)) * spread * (SIZES / LARGEST) ** (-falls / 2)
    errors += random.normal(0, shared)
    return errors, errors + random.normal(0, shared, (200, 1))


def test_a_law_without_noise_is_found() -> None:
    law = PowerLaw(0.2, 1.5, 0.6)
    curve = fit_learning_curve(SIZES, law(SIZES), at=[2 * LARGEST])
    assert (curve.law.floor, curve.law.scale, curve.law.exponent) == pytest.approx((0.2, 1.5, 0.6), rel=1e-6)
    (ahead,) = curve.predictions
    assert (ahead.error.value, ahead.error.low, ahead.error.high) == pytest.approx(
        (float(law(2 * LARGEST)),) * 3, abs=1e-6
    )
    assert ahead.gain.value == pytest.approx(law(LARGEST) - law(2 * LARGEST), abs=1e-6)
    assert curve.shape == "falling"
    assert curve.seen[0] == (80, pytest.approx(law(80)), 8)
    assert len(curve.seen) == 8


@pytest.mark.parametrize("seed", range(5))
def test_the_fit_is_the_least_squares_fit(seed: int) -> None:
    """Against scipy's bounded least squares, with the same weights."""
    errors, _ = simulated(PowerLaw(0.25, 3, 0.8), spread=0.01, falls=1, shared=0, seed=seed)
    weight = 1 / training_spread(SIZES, errors)

    def residuals(at: Any) -> Any:
        return weight * (at[0] + at[1] * (SIZES / LARGEST) ** -at[2] - errors)

    peer = least_squares(residuals, [0.2, 0.1, 0.5], bounds=([0, 0, 0.05], [np.inf, np.inf, 1]))
    law = fit_learning_curve(SIZES, errors, at=[LARGEST], resamples=2).law
    ours = residuals([law.floor, law.scale * LARGEST**-law.exponent, law.exponent])
    assert (ours**2).sum() <= 2 * peer.cost * 1.001  # the exponent is on a grid
    assert law(2 * LARGEST) == pytest.approx(peer.x[0] + peer.x[1] * 2 ** -peer.x[2], abs=0.002)


@pytest.mark.parametrize(
    ("law", "spread", "falls", "shared"),
    [
        (PowerLaw(0.2, 1.5, 0.6), 0.003, 1.5, 0.02),
        (PowerLaw(0.2, 0.6, 0.3), 0.006, 1.0, 0.02),
        (PowerLaw(0.25, 0.0, 0.5), 0.008, 1.0, 0.02),
    ],
)
def test_intervals_cover_the_truth(law: PowerLaw, spread: float, falls: float, shared: float) -> None:
    covered = np.zeros((2, 2))
    for seed in range(SIMULATIONS):
        errors, resampled = simulated(law, spread=spread, falls=falls, shared=shared, seed=seed)
        curve = fit_learning_curve(
            SIZES, errors, at=[2 * LARGEST, 4 * LARGEST], resampled=resampled, resamples=200, seed=seed
        )
        for i, ahead in enumerate(curve.predictions):
            truths = law(ahead.n), law(LARGEST) - law(ahead.n)
            for j, (found, truth) in enumerate(zip((ahead.error, ahead.gain), truths, strict=True)):
                covered[i, j] += found.low - 1e-9 <= truth <= found.high + 1e-9
    assert (covered / SIMULATIONS >= LEAST_COVERAGE).all(), covered / SIMULATIONS


def test_evaluation_rows_widen_the_level_and_not_the_gain() -> None:
    errors, resampled = simulated(PowerLaw(0.2, 1.5, 0.6), spread=0.004, falls=1, shared=0.02, seed=3)
    alone, with_rows = (
        fit_learning_curve(SIZES, errors, at=[2 * LARGEST], resampled=r).predictions[0] for r in (None, resampled)
    )
    widths = [found.high - found.low for found in (alone.error, with_rows.error, alone.gain, with_rows.gain)]
    assert widths[1] > 2 * widths[0]
    assert widths[3] < 1.5 * widths[2]


def test_spread_is_found_with_how_it_falls() -> None:
    random = np.random.default_rng(0)
    sizes = np.repeat([50, 100, 200, 400, 800], 400)
    errors = 0.3 + random.normal(0, 0.02, len(sizes)) * (sizes / 50) ** -0.75
    spread = training_spread(sizes, errors)
    assert spread[0] == pytest.approx(0.02, rel=0.1)
    assert spread[-1] == pytest.approx(0.02 * 16**-0.75, rel=0.1)


def test_a_flat_curve_is_called_flat() -> None:
    shapes = []
    for seed in range(40):
        errors, _ = simulated(PowerLaw(0.25, 0, 0.5), spread=0.008, falls=1, shared=0, seed=seed)
        curve = fit_learning_curve(SIZES, errors, at=[2 * LARGEST], seed=seed)
        shapes.append(curve.shape)
    assert shapes.count("flat") >= 35
    errors, _ = simulated(PowerLaw(0.25, 0, 0.5), spread=0.008, falls=1, shared=0, seed=1)
    curve = fit_learning_curve(SIZES, errors, at=[2 * LARGEST])
    assert "no fall of the error between 80 and 1,280 patients can be told from chance" in curve.words


def test_a_noisy_curve_gives_no_prediction() -> None:
    random = np.random.default_rng(4)
    sizes = np.array([20, 30, 40, 50])
    errors = np.array([0.4, 0.2, 0.35, 0.1]) + random.normal(0, 0.01, 4)
    curve = fit_learning_curve(sizes, errors, at=[100])
    assert curve.shape == "noisy"
    assert curve.predictions[0].error.value is None
    assert "scatter too much to look ahead" in str(curve.predictions[0].error.reason)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), factor=st.floats(0.5, 2))
def test_curves_never_rise_and_follow_the_scale_of_the_errors(seed: int, factor: float) -> None:
    errors, _ = simulated(PowerLaw(0.2, 1.0, 0.5), spread=0.01, falls=1, shared=0, seed=seed)
    curve, scaled = (fit_learning_curve(SIZES, e, at=[LARGEST], resamples=50) for e in (errors, factor * errors))
    for part in (curve.band.value, curve.band.low, curve.band.high):
        assert (np.diff(np.array(part, dtype=float)) <= 1e-12).all()
    assert np.array(curve.band.low, dtype=float).min() >= 0
    assert scaled.band.value == pytest.approx([factor * (v or 0) for v in curve.band.value], rel=1e-6)


@pytest.mark.parametrize(
    ("sizes", "errors", "more", "message"),
    [
        ([10, 20, 30, 30], [0.1] * 4, {}, "at least 4 different sizes, got 3"),
        ([10, 20, 30, 40], [0.1] * 3, {}, "equally long"),
        ([10, 20, 30, 40], [0.1, 0.1, float("nan"), 0.1], {}, "present and not negative"),
        ([10, 20, 30, 40], [0.1, 0.1, -0.1, 0.1], {}, "present and not negative"),
        ([10, 20, 30, 40, 50], [0.1] * 5, {"resampled": np.zeros((3, 4))}, r"must be \(draws, 5\)"),
    ],
)
def test_bad_input_is_refused(sizes: Any, errors: Any, more: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_learning_curve(sizes, errors, at=[100], **more)
