"""A learning curve: how an error falls with the number of training patients, and what it would be with more.

The error at n patients is modelled as a + b n^-c, an inverse power law, fitted by weighted least squares with
a >= 0, b >= 0 and 0 < c <= 1. Intervals come from a bootstrap of the residuals and, where they are given, from the
same errors on resampled evaluation rows, which carry the uncertainty that all sizes share.

Source: Figueroa, Zeng-Treitler, Kandula and Ngo, BMC Med Inform Decis Mak 2012;12:8 (the law and its weighted fit).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from careloop import InputError
from careloop.evaluate.estimate import PERCENTILES, Band, Estimate

# Exponents tried: below 0.05 the law is a logarithm whose floor no data can show, above 1 no learner is expected.
EXPONENTS = np.linspace(0.05, 1.0, 39)
FEWEST_SIZES = 4
# A gain whose interval is wider than this share of the error itself says nothing that a decision could rest on.
WIDEST = 0.5
# The variance between training samples falls at most as n^-2 (an error's own excess falls as n^-1), and never rises.
STEEPEST_SPREAD = 2.0
BAND_POINTS = 60
Float = NDArray[np.float64]


@dataclass(frozen=True)
class PowerLaw:
    """error(n) = floor + scale * n ** -exponent."""

    floor: float
    scale: float
    exponent: float

    def __call__(self, n: ArrayLike) -> Float:
        """The error at n patients, of any shape."""
        return np.asarray(self.floor + self.scale * np.asarray(n, dtype=np.float64) ** -self.exponent)


@dataclass(frozen=True)
class Ahead:
    """The error at `n` patients, and how far it lies below that at the largest size seen, with 95 % intervals.

    The gain's interval is the narrower one, since what the evaluation rows add to all errors alike cancels.
    """

    n: int
    error: Estimate
    gain: Estimate


@dataclass(frozen=True)
class LearningCurve:
    """A fitted curve over the sizes seen and asked for.

    `shape`: "falling", or "flat" where the fall between the smallest and the largest size seen cannot be told from 0,
    or "noisy" where the gain at a larger size is too uncertain to be of use; `words` say so. `predictions` have no
    values where the curve is noisy. `seen` are (patients, mean error, number of errors in it).
    """

    law: PowerLaw
    shape: Literal["falling", "flat", "noisy"]
    words: str
    seen: tuple[tuple[int, float, int], ...]
    band: Band
    predictions: tuple[Ahead, ...]


def fit_learning_curve(
    sizes: ArrayLike,
    errors: ArrayLike,
    *,
    at: Sequence[int],
    resampled: ArrayLike | None = None,
    resamples: int = 500,
    seed: int = 0,
) -> LearningCurve:
    """Fit the errors (m,) of models trained on `sizes` (m,) patients, and predict the error `at` other sizes.

    Errors of one size come from different training samples, best disjoint ones. `resampled` (r, m) are the same errors
    on r resamples of the evaluation rows, one resample a row; without it intervals take the evaluation rows as given.
    The error is one where lower is better (log loss, Brier score, 1 - AUROC) and never below 0.

    Raises:
        InputError: fewer than four sizes, errors that are negative or missing, or lengths that differ.
    """
    n, error = _checked(sizes, errors)
    spread = training_spread(n, error)
    law = PowerLaw(*(float(v[0]) for v in _fit(n, error[None], spread)))
    drawn = _draws(n, error, law, spread, resampled=resampled, resamples=resamples, seed=seed)
    floor, scale, exponent = (part[:, None] for part in _fit(n, drawn, spread))

    def replicates(size: ArrayLike) -> Float:
        return np.asarray(floor + scale * np.asarray(size, dtype=np.float64) ** -exponent)

    grid = np.geomspace(n.min(), max([*at, n.max()]), BAND_POINTS)
    low, high = np.percentile(replicates(grid), PERCENTILES, axis=0)
    band = Band(*(tuple(v.tolist()) for v in (grid, law(grid), low, high)))
    ahead = [_ahead(size, n.max(), law, replicates) for size in at]
    fall = np.subtract(*replicates([n.min(), n.max()]).T)
    shape, words = _judged(n, ahead, float(np.percentile(fall, PERCENTILES[0])))
    if shape == "noisy":
        ahead = [Ahead(one.n, Estimate(None, reason=words), Estimate(None, reason=words)) for one in ahead]
    seen = tuple((int(size), float(error[n == size].mean()), int((n == size).sum())) for size in np.unique(n))
    return LearningCurve(law, shape, words, seen, band, tuple(ahead))


def training_spread(sizes: ArrayLike, errors: ArrayLike) -> Float:
    """The standard deviation (m,) that training samples of each size give the error, from errors of equal size.

    Its square is taken as proportional to n^-k with k in [0, 2], fitted to the variances within sizes. Without several
    errors of any size it is n^-1/2 times 1, which orders the weights but has no scale.
    """
    from scipy.special import digamma

    n, error = np.asarray(sizes, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    found = []
    for size in np.unique(n):
        here = error[n == size]
        if len(here) > 1 and here.var() > 0:
            found.append((np.log(size), here.var(ddof=1), len(here) - 1))
    if not found:
        return n**-0.5
    log_n, variance, freedom = (np.array(column) for column in zip(*found, strict=True))
    # The logarithm of a variance with few degrees of freedom lies below that of the true one on average.
    log_variance = np.log(variance) - digamma(freedom / 2) + np.log(freedom / 2)
    centred = log_n - np.average(log_n, weights=freedom)
    steepness = freedom @ centred**2
    slope = (freedom * centred) @ log_variance / steepness if steepness > 0 else -1.0
    slope = float(np.clip(slope, -STEEPEST_SPREAD, 0.0))
    level = freedom @ (variance * np.exp(-slope * log_n)) / freedom.sum()
    return np.sqrt(level * n**slope)


def _draws(
    n: Float, error: Float, law: PowerLaw, spread: Float, *, resampled: ArrayLike | None, resamples: int, seed: int
) -> Float:
    """Errors (resamples, m) as they might have come out: the law, a residual drawn, and another draw of patients."""
    generator = np.random.default_rng(seed)
    residual = (error - law(n)) / spread
    residual = (residual - residual.mean()) * np.sqrt(len(n) / (len(n) - 3))  # three parameters were fitted
    drawn = law(n) + spread * generator.choice(residual, (resamples, len(n)))
    if resampled is not None:
        others = np.asarray(resampled, dtype=np.float64)
        if others.ndim != 2 or others.shape[1] != len(n) or not np.isfinite(others).all():
            raise InputError(f"resampled must be (draws, {len(n)}) without missing values: got shape {others.shape}")
        drawn += (others - error)[np.arange(resamples) % len(others)]
    return np.asarray(drawn)


def _fit(n: Float, errors: Float, spread: Float) -> tuple[Float, Float, Float]:
    """Floor, scale and exponent (b,) of the weighted least squares fit to each row of errors (b, m)."""
    weight = 1 / spread**2
    weight = weight / weight.sum()
    mean, square = errors @ weight, errors**2 @ weight
    least = np.full(len(errors), np.inf)
    best = np.zeros((3, len(errors)))
    for exponent in EXPONENTS:
        x = (n / n.max()) ** -exponent  # scaled, so that sums of powers stay of one order
        x_mean, x_square, product = x @ weight, x**2 @ weight, errors @ (weight * x)
        scale = np.maximum((product - x_mean * mean) / (x_square - x_mean**2), 0.0)
        floor = mean - scale * x_mean
        below = floor < 0
        scale, floor = np.where(below, product / x_square, scale), np.where(below, 0.0, floor)
        loss = square - 2 * (floor * mean + scale * product) + floor**2 + 2 * floor * scale * x_mean
        loss += scale**2 * x_square
        better = loss < least
        least = np.where(better, loss, least)
        best = np.where(better, [floor, scale * n.max() ** exponent, np.full(len(errors), exponent)], best)
    return best[0], best[1], best[2]


def _ahead(size: int, largest: float, law: PowerLaw, replicates: Callable[[ArrayLike], Float]) -> Ahead:
    """The error at a size and the gain over the largest size seen; `replicates` are the curve's at sizes (r, k)."""
    here, now = replicates([size, largest]).T
    return Ahead(size, _estimate(float(law(size)), here), _estimate(float(law(largest) - law(size)), now - here))


def _estimate(value: float, replicates: Float) -> Estimate:
    low, high = np.percentile(replicates, PERCENTILES)
    return Estimate(value, float(low), float(high))


def _judged(n: Float, ahead: Sequence[Ahead], surest_fall: float) -> tuple[Literal["falling", "flat", "noisy"], str]:
    """Whether the curve can be used, in words."""
    seen = f"between {n.min():,.0f} and {n.max():,.0f} patients"
    for error, low, high in ((one.error.value, one.gain.low, one.gain.high) for one in ahead):
        if error is not None and low is not None and high is not None and high - low > WIDEST * error:
            gain = f"the error might fall by anything from {low:.3g} to {high:.3g}"
            return "noisy", f"errors {seen} scatter too much to look ahead: {gain}"
    if surest_fall <= 0:
        return "flat", f"no fall of the error {seen} can be told from chance: more patients are not seen to help"
    return "falling", f"the error falls {seen}"


def _checked(sizes: ArrayLike, errors: ArrayLike) -> tuple[Float, Float]:
    n, error = np.asarray(sizes, dtype=np.float64), np.asarray(errors, dtype=np.float64)
    if n.ndim != 1 or n.shape != error.shape:
        raise InputError(f"sizes and errors must be equally long: got {n.shape} and {error.shape}")
    if not (np.isfinite(error).all() and (error >= 0).all() and (n > 0).all()):
        raise InputError("a learning curve needs errors that are present and not negative, at sizes above 0")
    if len(np.unique(n)) < FEWEST_SIZES:
        raise InputError(
            f"a learning curve needs at least {FEWEST_SIZES} different sizes, got {len(np.unique(n))}: add smaller ones"
        )
    return n, error
