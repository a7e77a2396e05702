"""What an option did to those who were given it: the effect on the treated, where it cannot be told for everybody.

With few comparable patients the mean over everybody asks what would have happened to people who never get the option.
The effect on the treated only asks for the other arm's outcome in people like them, so only their overlap counts.
Doubly robust score: Hahn 1998 (Econometrica 66:315); cross-fitted as in Chernozhukov et al. 2018 (Econometrics Journal
21:C1, section 5.1, equation 5.4).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from careloop.evaluate import Estimate
from careloop.plan.effect.diagnostics.balance import effective_sample
from careloop.plan.effect.doubly_robust import Scores, normal_interval, standard_error
from careloop.plan.effect.goals import Array

LARGEST_ODDS = 100.0  # no row of the other arm counts more than 100-fold
HIGHEST_PROPENSITY = 0.95  # treated patients above it have nobody to be compared with


@dataclass(frozen=True)
class EffectOnTreated:
    """Option minus versus among those given the option.

    `without_match` is the share of them that was left out because almost nobody like them was given the other, and
    `effective_sample` how many equally weighted patients of the other arm stand for those kept.
    """

    option: str
    versus: str
    patients: int
    without_match: float
    effective_sample: float
    difference: Estimate


def effect_on_treated(scores: Scores, options: tuple[str, ...], a: int, b: int) -> EffectOnTreated:
    """Option a minus option b among rows given a; only rows of these two arms are used."""
    rows = np.isin(scores.arm, (a, b))
    both = scores.propensity[rows][:, [a, b]]
    share = both[:, 0] / both.sum(axis=1)
    treated, completed, expected = scores.arm[rows] == a, scores.completed[rows], scores.expected[rows, b]
    comparable = share <= HIGHEST_PROPENSITY
    kept = treated & comparable
    odds = np.minimum(share / np.maximum(1 - share, 1e-6), LARGEST_ODDS) * (~treated & comparable)
    residual = completed - expected
    count = max(int(kept.sum()), 1)
    # Odds are normalised to the number of treated: they then balance the constant exactly (Hajek).
    weight = odds * count / max(odds.sum(), 1e-12)
    difference = float((residual[kept].sum() - (weight * residual).sum()) / count)
    influence: Array = (np.where(kept, residual - difference, 0.0) - weight * residual) / count
    influence = influence + weight / count * ((weight * residual).sum() / count)
    return EffectOnTreated(
        option=options[a],
        versus=options[b],
        patients=len(np.unique(scores.subjects[rows][kept])),
        without_match=float(1 - kept.sum() / max(treated.sum(), 1)),
        effective_sample=effective_sample(odds),
        difference=normal_interval(difference, standard_error(influence, scores.subjects[rows])),
    )
