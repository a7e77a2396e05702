"""Shrinkage of marginal effects by the linkage of a panel: infinitesimal, on a grid, or by chains that learn (auto).

LDpred2: Prive, Arbel, Vilhjalmsson, Bioinformatics 2020;36:5424; chains are chosen as in Prive et al., Human Genetics
and Genomics Advances 2022;3:100136.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.genotypes.linkage.linkage import Linkage
from careloop.genome.risk.weights.aligned import Aligned
from careloop.genome.risk.weights.heritability import Heritability, ld_score_regression
from careloop.genome.risk.weights.shrinkage.gibbs import MIN_H2, Chains, Schedule, sample
from careloop.genome.risk.weights.shrinkage.stacks import stacked

Progress = Callable[[str, int, int], None]
FIRST_SHARES = (1e-4, 0.2)  # of causal variants, where the first and the last chain start
LEAST_RANGE = 0.95  # of the widest chains' range of R times effects: a chain below has not found the effects
MOST_H2 = 1.0  # at which chains start at most


@dataclass(frozen=True)
class AutoOptions:
    """`chains` from different shares of causal variants; `kept`: what off-diagonal correlations are multiplied by.

    `kept` below 1 tempers a panel that is small or of a somewhat different population; 1 takes it as it is.
    """

    chains: int = 10
    kept: float = 0.95
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        if self.chains < 1 or not 0 <= self.kept <= 1 or min(self.schedule.burn_in, self.schedule.sweeps) < 1:
            raise InputError(
                "shrinkage needs a chain, a burn-in and a sweep at least, and correlations kept by 0 to 1; "
                f"got {self.chains}, {self.schedule.burn_in}, {self.schedule.sweeps} and {self.kept}"
            )


@dataclass(frozen=True)
class Shrunk:
    """Shrunk effects: `effects` (variants,) on the standardised scale, `weights` (variants,) of one copy of `alt`.

    `causal` (variants,): probability of an effect. `h2` and `share` of causal variants with 95 % intervals over the
    sweeps of the chains that were kept; `regression` is what LD score regression finds, its intercept estimated. `r2`:
    the share of the trait's variance that the score is expected to explain in people like the panel's. `chains`: one
    row a chain with where it started, what it found, and why it was left out.
    """

    effects: NDArray[np.float64]
    weights: NDArray[np.float64]
    causal: NDArray[np.float64]
    h2: tuple[float, float, float]
    share: tuple[float, float, float]
    r2: float
    chains: pl.DataFrame
    regression: Heritability


def shrink_auto(
    aligned: Aligned, linkage: Linkage, *, options: AutoOptions = AutoOptions(), progress: Progress | None = None
) -> Shrunk:
    """Sample effects with heritability and share of causal variants unknown; mean over the chains that agree.

    `aligned` and `linkage` are of the same variants in the same order.

    Raises:
        InputError: they are not, or every chain diverged.
    """
    _require_same(aligned, linkage)
    regression = ld_score_regression(aligned.chi_squared, linkage.scores, aligned.people)
    first_h2 = ld_score_regression(aligned.chi_squared, linkage.scores, aligned.people, intercept=1.0).h2
    shares = np.geomspace(*FIRST_SHARES, options.chains) if options.chains > 1 else np.array(FIRST_SHARES[1:])
    start = (shares, np.full(shares.size, min(max(first_h2, MIN_H2), MOST_H2)))
    stacks = stacked(linkage.blocks, kept=options.kept)
    drawn = sample(
        *(stacks, aligned.marginal, aligned.people),
        start=start,
        model="auto",
        schedule=options.schedule,
        progress=progress,
    )
    if drawn.diverged.all():
        raise InputError(
            "every chain of the shrinkage diverged: the statistics do not fit the reference's linkage; check that both "
            "are of one population and that n is right, or lower the correlations that are kept"
        )
    predicted = np.stack([_times(linkage, effects) for effects in drawn.effects.T], axis=1)
    ranges = np.where(drawn.diverged, np.nan, np.ptp(predicted, axis=0))
    kept = ranges >= LEAST_RANGE * np.nanquantile(ranges, 0.95)
    effects = drawn.effects[:, kept].mean(axis=1)
    later = slice(options.schedule.burn_in, None)
    return Shrunk(
        effects=effects,
        weights=effects * aligned.scale,
        causal=drawn.causal[:, kept].mean(axis=1),
        h2=_interval(drawn.h2[later, kept]),
        share=_interval(drawn.share[later, kept]),
        r2=float(effects @ _times(linkage, effects)),
        chains=_table(drawn, shares, kept, options.schedule.burn_in),
        regression=regression,
    )


def shrink_infinitesimal(aligned: Aligned, linkage: Linkage, *, h2: float) -> NDArray[np.float64]:
    """Effects (variants,) on the standardised scale where every variant has a normal effect of variance h2 / M.

    Raises:
        InputError: statistics and linkage are of other variants, or `h2` is not above 0.
    """
    _require_same(aligned, linkage)
    if not h2 > 0:
        raise InputError(f"shrinkage needs a heritability above 0; got {h2:.4f}: these statistics show none")
    ridge = aligned.marginal.size / (h2 * aligned.people)
    parts = [
        np.linalg.solve(block + np.diag(ridge[one]), aligned.marginal[one])
        for block, one in zip(linkage.blocks, linkage.slices, strict=True)
    ]
    return np.concatenate(parts)


def shrink_grid(
    aligned: Aligned,
    linkage: Linkage,
    *,
    points: list[tuple[float, float]],
    options: AutoOptions = AutoOptions(),
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """Effects (variants, points) on the standardised scale for given (share of causal variants, heritability).

    NaN throughout where a point diverged. Which point is best is for tuning people to say (`weights.tuning`).

    Raises:
        InputError: statistics and linkage are of other variants, or a point is none.
    """
    _require_same(aligned, linkage)
    if not points or any(not 0 < share <= 1 or not h2 > 0 for share, h2 in points):
        raise InputError("a grid is of shares of causal variants above 0 up to 1, and of heritabilities above 0")
    shares, h2s = np.array(points, float).T
    stacks = stacked(linkage.blocks, kept=options.kept)
    drawn = sample(
        *(stacks, aligned.marginal, aligned.people),
        start=(shares, h2s),
        model="grid",
        schedule=options.schedule,
        progress=progress,
    )
    return np.where(drawn.diverged, np.nan, drawn.effects)


def _require_same(aligned: Aligned, linkage: Linkage) -> None:
    if aligned.beta.size != linkage.variants.height:
        raise InputError(
            f"statistics and linkage are of the same variants; got {aligned.beta.size} and {linkage.variants.height}"
        )


def _times(linkage: Linkage, effects: NDArray[np.float64]) -> NDArray[np.float64]:
    """R times effects: (variants,)."""
    return np.concatenate([block @ effects[one] for block, one in zip(linkage.blocks, linkage.slices, strict=True)])


def _interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean and 95 % interval."""
    low, high = np.quantile(values, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def _table(drawn: Chains, shares: NDArray[np.float64], kept: NDArray[np.bool_], burn_in: int) -> pl.DataFrame:
    reasons = np.where(drawn.diverged, "diverged", np.where(kept, "", "effects are shrunk more than in other chains"))
    return pl.DataFrame(
        {
            "first_share": shares,
            "share": drawn.share[burn_in:].mean(axis=0),
            "h2": drawn.h2[burn_in:].mean(axis=0),
            "left_out": [reason or None for reason in reasons.tolist()],
        },
        schema_overrides={"left_out": pl.String()},
    )
