"""Summary statistics held against a reference panel: effects whose precision its genotypes contradict are left out.

Prive et al., Identifying and correcting for misspecifications in GWAS summary statistics and polygenic scores, Human
Genetics and Genomics Advances 2022;3:100136: the standard deviation of a genotype that n, effect and standard error
imply is compared with the panel's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.risk.weights.aligned import Aligned, Trait

LEAST_RATIO = 0.5  # implied to the panel's standard deviation
MOST_ABOVE = 0.1  # implied less the panel's
LEAST_SPREAD = 0.05  # a standard deviation below which a variant is too rare for either figure
MOST_APART = 0.1  # between the study's and the panel's frequency
LEAST_PEOPLE = 0.7  # of the 90th percentile of n
BALANCED = 2.0  # standard deviations of a genotype times the root of n times the standard error, for log odds


@dataclass(frozen=True)
class Quality:
    """Which variants of an `Aligned` pass; `implied` (variants,) are the standard deviations that were compared.

    `aligned` are those that pass, with the number of people that linkage-based methods need.
    """

    aligned: Aligned
    passed: NDArray[np.bool_]
    implied: NDArray[np.float64]


def check_quality(
    aligned: Aligned, frequency: NDArray[np.float64], spread: NDArray[np.float64], *, trait: Trait = "quantitative"
) -> Quality:
    """Leave out what does not fit the panel, counted by the first reason that applies.

    `frequency` of `alt` and `spread` (standard deviation of the copies) are the panel's at the same variants. Of a
    `quantitative` trait the unit is told by the median variant. Of a `binary` one effects are log odds, and the
    number of people becomes the effective one, 4 / (1 / cases + 1 / controls), as the standard errors imply it.

    Raises:
        InputError: nothing passes.
    """
    if trait == "binary":
        aligned = replace(aligned, people=aligned.people * _effective_share(aligned, spread))
        unit = BALANCED
    else:
        unit = float(np.median(spread * aligned.scale))
    implied = unit / aligned.scale
    known = np.isfinite(aligned.frequency)
    passed = np.ones(spread.size, bool)
    reasons: dict[str, int] = {}
    for reason, broken in (
        ("too rare in the reference", (spread < LEAST_SPREAD) | (implied < LEAST_SPREAD)),
        ("far fewer people than most variants", aligned.people < LEAST_PEOPLE * np.percentile(aligned.people, 90)),
        ("frequency is not the reference's", known & (np.abs(aligned.frequency - frequency) > MOST_APART)),
        ("standard error does not fit frequency", (implied < LEAST_RATIO * spread) | (implied > spread + MOST_ABOVE)),
    ):
        if leaving := int((passed & broken).sum()):
            reasons[reason] = leaving
        passed &= ~broken
    if not passed.any():
        raise InputError("no variant of the summary statistics fits the reference; check its population and n")
    return Quality(aligned.only(passed, reasons), passed, implied)


def _effective_share(aligned: Aligned, spread: NDArray[np.float64]) -> float:
    """Effective people to people, at most 1: a log odds' standard error is 2 / (spread sqrt(effective people))."""
    varies = spread > LEAST_SPREAD
    if not varies.any():
        return 1.0
    effective = (BALANCED / (spread[varies] * aligned.standard_error[varies])) ** 2
    return min(1.0, float(np.median(effective / aligned.people[varies])))
