"""Whether the arms are comparable: covariate balance, overlap, effective sample size, and the E-value.

Sources: standardised differences, Austin 2009 (Stat Med 28:3083; above 0.1 is worth a look); overlap rule after Crump
et al. 2009 (Biometrika 96:187); effective sample size, Kish 1965; E-value, VanderWeele & Ding 2017 (Ann Intern Med
167:268).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from careloop.plan.effect.goals import Array

NOTABLE_DIFFERENCE = 0.1
# Crump's 0.1 for two options is a fifth of the even share 1 / 2; the same fifth is taken of 1 / K.
OVERLAP_SHARE = 0.2
OVERLAP_BINS = 20  # of equal width, of the propensity from 0 to 1
MOST_WITHOUT_OVERLAP = 0.1  # share of patients without comparable treated ones that an option may have


@dataclass(frozen=True)
class CovariateBalance:
    """Largest absolute standardised mean difference between any two arms, before and after weighting."""

    covariate: str
    before: float
    after: float


@dataclass(frozen=True)
class OptionOverlap:
    """How well one option's patients stand for everybody; `usable` is False, with the reason, where they do not.

    `given` and `others` count those who were and were not given the option in 20 equal bins of its propensity.
    """

    option: str
    patients: int
    propensity_low: float
    propensity_median: float
    propensity_high: float
    without_overlap: float
    effective_sample: float
    usable: bool
    reason: str
    given: tuple[int, ...]
    others: tuple[int, ...]


@dataclass(frozen=True)
class Balance:
    """Balance of all covariates, overlap of all options, and the rule by which an option is not used."""

    covariates: tuple[CovariateBalance, ...]
    options: tuple[OptionOverlap, ...]
    notable_before: int
    notable_after: int
    overlap_floor: float
    rule: str

    @property
    def usable(self) -> Array:
        """(K,) bool."""
        return np.array([option.usable for option in self.options])


def overlap_floor(options: int) -> float:
    """Propensity under which a patient has too few comparable patients given the option."""
    return OVERLAP_SHARE / options


def check_balance(
    covariates: Array,
    names: tuple[str, ...],
    *,
    arm: Array,
    propensity: Array,
    options: tuple[str, ...],
    minimum_effective_sample: float,
) -> Balance:
    """Compare the arms on covariates (n, p) before and after weighting by 1 / propensity (n, K)."""
    given = arm[:, None] == np.arange(len(options))
    weight = given / np.maximum(propensity, 1e-3)
    before = _differences(covariates, given.astype(float), given)
    after = _differences(covariates, weight, given)
    floor = overlap_floor(len(options))
    overlaps = tuple(
        _overlap(option, propensity[:, a], weight[:, a], floor, minimum_effective_sample)
        for a, option in enumerate(options)
    )
    rule = (
        f"an option is used for plans if at most {MOST_WITHOUT_OVERLAP:.0%} of patients have a propensity for it under "
        f"{floor:.3g} and its effective sample size is at least {minimum_effective_sample:g}"
    )
    return Balance(
        covariates=tuple(
            CovariateBalance(name, float(b), float(a)) for name, b, a in zip(names, before, after, strict=True)
        ),
        options=overlaps,
        notable_before=int((before > NOTABLE_DIFFERENCE).sum()),
        notable_after=int((after > NOTABLE_DIFFERENCE).sum()),
        overlap_floor=floor,
        rule=rule,
    )


def _differences(covariates: Array, weight: Array, given: Array) -> Array:
    """Largest absolute difference of weighted arm means over pairs of arms, in unweighted pooled deviations, (p,)."""
    means = (weight.T @ covariates) / weight.sum(axis=0)[:, None]
    variances = np.stack([covariates[given[:, a]].var(axis=0, ddof=1) for a in range(given.shape[1])])
    largest = np.zeros(covariates.shape[1])
    for a, b in combinations(range(given.shape[1]), 2):
        deviation = np.sqrt((variances[a] + variances[b]) / 2)
        difference = np.abs(means[a] - means[b])
        largest = np.maximum(
            largest, np.divide(difference, deviation, where=deviation > 0, out=np.zeros_like(deviation))
        )
    return largest


def effective_sample(weight: Array) -> float:
    """Kish's (sum w)^2 / sum w^2: how many equally weighted rows carry as much."""
    total = float((weight**2).sum())
    return float(weight.sum()) ** 2 / total if total > 0 else 0.0


def _overlap(option: str, propensity: Array, weight: Array, floor: float, minimum: float) -> OptionOverlap:
    given = weight > 0
    without, sample = float((propensity < floor).mean()), effective_sample(weight)
    reasons = []
    if without > MOST_WITHOUT_OVERLAP:
        reasons.append(f"{without:.0%} of patients resemble too few who were given {option}")
    if sample < minimum:
        reasons.append(f"the patients given {option} count as only {sample:.0f} after weighting (floor {minimum:g})")
    low, median, high = (float(q) for q in np.quantile(propensity, (0.0, 0.5, 1.0)))
    return OptionOverlap(
        option=option,
        patients=int(given.sum()),
        propensity_low=low,
        propensity_median=median,
        propensity_high=high,
        without_overlap=without,
        effective_sample=sample,
        usable=not reasons,
        reason="; ".join(reasons),
        given=_counts(propensity[given]),
        others=_counts(propensity[~given]),
    )


def _counts(propensity: Array) -> tuple[int, ...]:
    return tuple(int(count) for count in np.histogram(propensity, bins=OVERLAP_BINS, range=(0.0, 1.0))[0])


def e_value_of_ratio(ratio: float, log_error: float) -> tuple[float, float]:
    """E-values of a risk ratio and of its interval's limit nearer to 1, given the standard error of its logarithm."""
    return _with_limit(ratio, np.exp(1.959963984540054 * log_error))


def e_value_of_difference(standardised: float, error: float) -> tuple[float, float]:
    """E-values of a standardised mean difference, by the approximate risk ratio exp(0.91 d) and 1.78 errors."""
    return _with_limit(float(np.exp(0.91 * standardised)), np.exp(1.78 * error))


def _with_limit(ratio: float, factor: float) -> tuple[float, float]:
    away = max(ratio, 1 / ratio)
    return _e_value(away), _e_value(max(away / factor, 1.0))


def _e_value(ratio: float) -> float:
    return float(ratio + np.sqrt(ratio * (ratio - 1.0)))
