"""Scores made comparable across ancestries: mean and variance as functions of principal components.

Mean alone: Khera et al., Circulation 2019;139:1593. Mean and variance, fitted together by maximum likelihood with a
log-linear variance: Khan et al., Nat Med 2022;28:1412, as pgscatalog-calc has them (Z_norm1 and Z_norm2).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.record.whole_file import write_whole

Adjusted = Literal["mean", "mean_and_variance"]
PEOPLE_PER_COEFFICIENT = 10  # fewer reference people than this say too little about a mean and a variance
BEYOND = 0.05  # of a component's range in the reference: what lies farther out was never seen
_QUANTILES = 1001  # of the reference's calibrated scores that are kept for percentiles
_TOLERANCE = 1e-10
_MAX_STEPS = 200


@dataclass(frozen=True)
class AncestryCalibration:
    """What a score is expected to be, given principal components.

    `mean` (k + 1,) and `log_variance` (k + 1,) are an intercept and coefficients of components that are centred by
    `centre` and divided by `spread` (k,). `lowest` and `highest` (k,) are the reference's range. `quantiles` of the
    reference's calibrated scores, evenly spaced, serve for percentiles; `people` were fitted on.
    """

    score: str
    components: tuple[str, ...]
    adjusted: Adjusted
    people: int
    centre: tuple[float, ...]
    spread: tuple[float, ...]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    mean: tuple[float, ...]
    log_variance: tuple[float, ...]
    quantiles: tuple[float, ...]


@dataclass(frozen=True)
class Calibrated:
    """Of each person (people,): the score in standard deviations from what is expected, the percentile (0 to 100).

    `beyond`: components lie outside of the reference's range, so that the expectation is extrapolated.
    """

    z: NDArray[np.float64]
    percentile: NDArray[np.float64]
    beyond: NDArray[np.bool_]


def fit_calibration(
    scores: NDArray[np.float64],
    components: NDArray[np.float64],
    *,
    score: str,
    names: Sequence[str],
    adjusted: Adjusted = "mean_and_variance",
) -> AncestryCalibration:
    """Fit on a reference's `scores` (people,) and `components` (people, k), named by `names`.

    Raises:
        InputError: too few people, a number that is not finite, scores that are all the same, or a component that is.
    """
    _require(scores, components, adjusted)
    centre, spread = components.mean(axis=0), components.std(axis=0)
    if not (spread > 0).all():
        raise InputError("each principal component needs a spread among reference people; one is the same for all")
    design = _design(components, centre, spread)
    mean: NDArray[np.float64] = np.linalg.lstsq(design, scores, rcond=None)[0].astype(np.float64)
    residual = scores - design @ mean
    log_variance = np.zeros(design.shape[1])
    log_variance[0] = np.log((residual**2).mean())
    if adjusted == "mean_and_variance":
        mean, log_variance = _likeliest(scores, design, mean, log_variance)
    z = (scores - design @ mean) / np.exp(design @ log_variance / 2)
    return AncestryCalibration(
        score=score,
        components=tuple(names),
        adjusted=adjusted,
        people=len(scores),
        centre=_floats(centre),
        spread=_floats(spread),
        lowest=_floats(components.min(axis=0)),
        highest=_floats(components.max(axis=0)),
        mean=_floats(mean),
        log_variance=_floats(log_variance),
        quantiles=_floats(np.quantile(z, np.linspace(0, 1, _QUANTILES))),
    )


def apply_calibration(
    calibration: AncestryCalibration, scores: NDArray[np.float64], components: NDArray[np.float64]
) -> Calibrated:
    """Calibrate `scores` (people,) by `components` (people, k); NaN where any is not known.

    Raises:
        InputError: another number of components than the calibration has.
    """
    if components.shape != (len(scores), len(calibration.components)):
        raise InputError(
            f"this calibration needs {len(calibration.components)} components of each person; got {components.shape}"
        )
    design = _design(components, np.array(calibration.centre), np.array(calibration.spread))
    spread = np.exp(design @ np.array(calibration.log_variance) / 2)
    z = (scores - design @ np.array(calibration.mean)) / spread
    lowest, highest = np.array(calibration.lowest), np.array(calibration.highest)
    margin = BEYOND * (highest - lowest)
    beyond = ((components < lowest - margin) | (components > highest + margin)).any(axis=1)
    return Calibrated(z, percentiles(z, np.array(calibration.quantiles)), beyond)


def percentiles(values: NDArray[np.float64], quantiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where `values` lie among evenly spaced `quantiles` of a reference, 0 to 100; NaN stays NaN."""
    shares = np.linspace(0, 100, len(quantiles))
    found: NDArray[np.float64] = np.interp(values, quantiles, shares)
    return found


def calibrate_table(
    scores: pl.DataFrame, components: pl.DataFrame, calibrations: Sequence[AncestryCalibration]
) -> tuple[pl.DataFrame, NDArray[np.bool_]]:
    """Add `NAME_z` and `NAME_percentile` behind each calibrated score's column, null where components are not known.

    Both tables have `sample_id`. Also returns of each person whether components lie beyond the reference's.

    Raises:
        InputError: a score or component that a calibration needs is not in the tables.
    """
    beyond = np.zeros(scores.height, np.bool_)
    for one in calibrations:
        if one.score not in scores.columns or any(name not in components.columns for name in one.components):
            raise InputError(
                f"the calibration of {one.score} needs that score and the components {', '.join(one.components)}"
            )
        found = apply_calibration(one, *aligned(scores, components, one.score, one.components))
        beyond |= found.beyond
        added = [
            pl.Series(f"{one.score}_z", found.z).fill_nan(None),
            pl.Series(f"{one.score}_percentile", found.percentile).fill_nan(None),
        ]
        at = scores.columns.index(one.score) + 1
        for place, column in enumerate(added):
            scores = scores.insert_column(at + place, column)
    return scores, beyond


def aligned(
    scores: pl.DataFrame, components: pl.DataFrame, score: str, names: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A score and components of the people in `scores`, NaN where not known: (people,) and (people, k)."""
    one_each = components.select("sample_id", *names).unique("sample_id", keep="first")
    joined = scores.select("sample_id", score).join(one_each, on="sample_id", how="left", maintain_order="left")
    numbers = joined.select(pl.col(score, *names).cast(pl.Float64, strict=False).fill_null(float("nan"))).to_numpy()
    return numbers[:, 0], numbers[:, 1:]


def write_calibrations(calibrations: Sequence[AncestryCalibration], path: Path) -> None:
    """Write calibrations as JSON, whole or not at all."""
    write_whole(path, json.dumps([asdict(one) for one in calibrations], indent=1))


def read_calibrations(path: Path) -> tuple[AncestryCalibration, ...]:
    """Read what `write_calibrations` wrote.

    Raises:
        InputError: no such file, or not one of calibrations.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return tuple(_calibration(one) for one in found)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; careloop genome score --pcs writes one") from None
    except (ValueError, TypeError, AttributeError):
        raise InputError(f"{path}: not a file of calibrations; careloop genome score --pcs writes one") from None


def _calibration(found: dict[str, Any]) -> AncestryCalibration:
    values: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in found.items()}
    return AncestryCalibration(**values)


def _require(scores: NDArray[np.float64], components: NDArray[np.float64], adjusted: str) -> None:
    if adjusted not in get_args(Adjusted):
        raise InputError(f"a calibration adjusts {' or '.join(get_args(Adjusted))}, not {adjusted!r}")
    least = PEOPLE_PER_COEFFICIENT * (components.shape[1] + 1)
    if len(scores) < least:
        raise InputError(
            f"a calibration by {components.shape[1]} components needs {least} reference people; there are {len(scores)}"
        )
    if not (np.isfinite(scores).all() and np.isfinite(components).all()):
        raise InputError("reference people need a score and all components; leave those without out")
    if scores.std() <= 1e-12 * max(1.0, float(np.abs(scores).max())):
        raise InputError("a calibration needs scores that differ; all reference people have the same")


def _design(
    components: NDArray[np.float64], centre: NDArray[np.float64], spread: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.column_stack([np.ones(len(components)), (components - centre) / spread])


def _likeliest(
    scores: NDArray[np.float64],
    design: NDArray[np.float64],
    mean: NDArray[np.float64],
    log_variance: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Maximum likelihood of a normal score by Fisher scoring, in which mean and variance part; halves worse steps."""
    worst = _loss(scores, design, mean, log_variance)
    solve_variance = np.linalg.pinv(design)
    for _ in range(_MAX_STEPS):
        weight = np.exp(-design @ log_variance)
        residual = scores - design @ mean
        weighted = design * weight[:, None]
        step_mean = np.linalg.solve(weighted.T @ design, weighted.T @ residual)
        step_variance = solve_variance @ (weight * residual**2 - 1)
        for halving in range(40):
            new = mean + step_mean / 2**halving, log_variance + step_variance / 2**halving
            loss = _loss(scores, design, *new)
            if loss <= worst:
                break
        else:
            break
        gained, worst, (mean, log_variance) = worst - loss, loss, new
        if gained <= _TOLERANCE * (1 + abs(worst)) and np.abs(step_variance).max() < np.sqrt(_TOLERANCE):
            break
    return mean, log_variance


def _loss(
    scores: NDArray[np.float64],
    design: NDArray[np.float64],
    mean: NDArray[np.float64],
    log_variance: NDArray[np.float64],
) -> float:
    """The negative log likelihood without its constant."""
    expected = design @ log_variance
    return float((expected + (scores - design @ mean) ** 2 * np.exp(-expected)).sum() / 2)


def _floats(values: NDArray[np.floating[Any]]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
