"""Candidate weights compared in tuning people, who are neither the study's nor those that a score is judged in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.genotypes.blocks import blocks
from careloop.genome.genotypes.source import GenotypeSource

Progress = Callable[[str, int, int], None]
_LEAST_PEOPLE = 20


@dataclass(frozen=True)
class Tuning:
    """Whose scores candidates are chosen by.

    `samples`: rows of `source.samples`; `values` (samples,): their trait, or 0 and 1, less what covariates explain
    where there are any.
    """

    source: GenotypeSource
    samples: NDArray[np.int64]
    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.samples.shape != self.values.shape or not np.isfinite(self.values).all():
            raise InputError("each tuning person has a value of the trait; leave those without one out")
        if self.samples.size < _LEAST_PEOPLE or not np.ptp(self.values) > 0:
            raise InputError(f"tuning needs {_LEAST_PEOPLE} people at least, whose trait varies")


def scores_of(
    source: GenotypeSource,
    rows: NDArray[np.int64],
    weights: NDArray[np.float64],
    *,
    samples: NDArray[np.int64] | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """Scores by several candidates at once: (samples, candidates), missing genotypes as these people's mean.

    `weights` (variants, candidates) of one copy of `alt` belong to `rows` of `source.variants`, ascending.
    """
    used = np.flatnonzero((weights != 0).any(axis=1))
    people = source.samples.height if samples is None else samples.size
    total, at = np.zeros((people, weights.shape[1])), 0
    for block in blocks(source, variants=rows[used], samples=samples, kind="dosages"):
        values = block.values
        missing = np.isnan(values)
        if missing.any():
            values = np.where(missing, 0, values)
            called = np.maximum((~missing).sum(axis=1), 1)
            values += missing * (values.sum(axis=1) / called)[:, None].astype(np.float32)
        total += values.T @ weights[used[at : at + block.rows.size]]
        at += block.rows.size
        if progress:
            progress("tuning", at, used.size)
    return total


def r2_of_scores(scores: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared correlation of each of the scores (people, candidates) with the trait, 0 where that is negative."""
    about = scores - scores.mean(axis=0)
    spread = np.sqrt((about**2).sum(axis=0)) * np.sqrt(((values - values.mean()) ** 2).sum())
    r = np.where(spread > 0, (values - values.mean()) @ about / np.where(spread > 0, spread, 1), 0.0)
    return np.where(r > 0, r, 0.0) ** 2


def tried(points: Sequence[dict[str, float]], weights: NDArray[np.float64], r2: NDArray[np.float64]) -> pl.DataFrame:
    """What was tried: one row a candidate with its settings, how many variants it has, and its R2 in tuning people."""
    used = (weights != 0).sum(axis=0)
    return pl.DataFrame(
        [{**point, "variants": int(n), "r2": float(x)} for point, n, x in zip(points, used, r2, strict=True)]
    )
