"""Clumping and thresholding: marginal effects of index variants below a P value that tuning people choose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.genotypes.source import GenotypeSource
from careloop.genome.risk.weights.aligned import Aligned
from careloop.genome.risk.weights.clump import ClumpOptions, Measure, clump
from careloop.genome.risk.weights.tuning import Tuning, r2_of_scores, scores_of, tried

Progress = Callable[[str, int, int], None]
P_VALUES = (5e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
R2_VALUES = (0.1, 0.2, 0.5)


@dataclass(frozen=True)
class ThresholdOptions:
    """Which thresholds are tried: each r2 and distance of clumps with each P value."""

    p_values: tuple[float, ...] = P_VALUES
    r2: tuple[float, ...] = R2_VALUES
    kb: float = 250.0
    measure: Measure = "genotype"

    def __post_init__(self) -> None:
        if not self.p_values or not self.r2:
            raise InputError("clumping and thresholding needs a P value and an r2 at least")


@dataclass(frozen=True)
class Thresholded:
    """`weights` (variants,) of one copy of `alt`, 0 for those left out; `p` and `r2` that were chosen.

    `tried`: one row a candidate, with r2, p, how many variants it has and its R2 in the tuning people.
    """

    weights: NDArray[np.float64]
    p: float
    r2: float
    tried: pl.DataFrame


def clump_and_threshold(
    aligned: Aligned,
    reference: GenotypeSource,
    tuning: Tuning,
    *,
    rows: NDArray[np.int64] | None = None,
    options: ThresholdOptions = ThresholdOptions(),
    progress: Progress | None = None,
) -> Thresholded:
    """Choose r2 and P value by the squared correlation with the trait in tuning people; nobody else's is looked at.

    `aligned.rows` are of `reference`, whose linkage counts; `rows` are the same variants in `tuning.source`, with the
    same `alt` (by default the same rows).

    Raises:
        InputError: no candidate has a variant, or files cannot be read.
    """
    candidates, points = [], []
    for r2 in options.r2:
        found = clump(
            aligned.p_value,
            reference,
            rows=aligned.rows,
            options=ClumpOptions(max(options.p_values), max(options.p_values), r2, options.kb, options.measure),
            progress=progress,
        )
        index = np.zeros(aligned.rows.size, bool)
        index[found.index] = True
        for p in options.p_values:
            candidates.append(np.where(index & (aligned.p_value <= p), aligned.beta, 0.0))
            points.append({"clump_r2": r2, "p": p})
    weights = np.stack(candidates, axis=1)
    if not weights.any():
        raise InputError(
            "no variant is below any of the P values; clumping and thresholding has nothing to choose from"
        )
    places = aligned.rows if rows is None else rows
    scores = scores_of(tuning.source, places, weights, samples=tuning.samples, progress=progress)
    r2_values = r2_of_scores(scores, tuning.values)
    best = int(r2_values.argmax())
    chosen = points[best]
    return Thresholded(weights[:, best], chosen["p"], chosen["clump_r2"], tried(points, weights, r2_values))
