"""Would the same analysis find an effect where there is none: negative-control outcomes and a placebo arm.

Negative-control outcomes: Lipsitch, Tchetgen Tchetgen & Cohen 2010 (Epidemiology 21:383), outcomes that the options
cannot change but that share their confounders; an effect on one speaks of confounding that is left. Several of them
give the distribution of systematic error by which intervals are widened (empirical calibration: Schuemie et al. 2014,
Stat Med 33:209; 2018, PNAS 115:2571). The placebo arm is a part of the reference arm, drawn with the propensity of the
other option, so that it differs in the covariates as the real arms do; it was treated like the rest, so an effect that
is found comes from the method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from careloop.evaluate import Estimate
from careloop.plan.effect.doubly_robust import (
    Z_95,
    Scores,
    cross_fit_propensity,
    cross_fit_scores,
    mean_estimate,
    normal_interval,
)
from careloop.plan.effect.goals import Array, GoalData
from careloop.plan.effect.nuisance import subject_folds

FEWEST_FOR_CALIBRATION = 5  # negative controls from which a distribution of errors is fitted
PLACEBO_DRAWS = 5
FEWEST_IN_PLACEBO = 50  # patients of the reference arm


@dataclass(frozen=True)
class ControlEffect:
    """The difference found on an outcome that the options cannot change; `null` where its interval holds 0."""

    control: str
    option: str
    versus: str
    difference: Estimate
    standardised: Estimate
    null: bool


@dataclass(frozen=True)
class Placebo:
    """Differences between the reference arm and a placebo arm drawn from it `draws` times.

    `difference` is their mean with the interval of one draw; `null` where it holds 0. `difference` has a reason instead
    where too few patients were in the reference arm.
    """

    option: str
    reference: str
    draws: int
    difference: Estimate
    null: bool


@dataclass(frozen=True)
class SystematicError:
    """Normal distribution, over negative controls, of what is left of standardised differences beside chance."""

    mean: float
    deviation: float
    controls: int

    def calibrate(self, value: float, error: float) -> Estimate:
        """An effect on the same scale, corrected, with an interval that covers systematic error as well."""
        return normal_interval(value - self.mean, float(np.hypot(error, self.deviation)))


def control_effects(
    controls: Sequence[tuple[GoalData, Scores]], options: tuple[str, ...], *, reference: str
) -> tuple[ControlEffect, ...]:
    """Each option minus the reference on each negative control, whose scores are made like those of a goal."""
    r = options.index(reference)
    others = [a for a in range(len(options)) if a != r]
    return tuple(_control_effect(goal, scores, options, a, r) for goal, scores in controls for a in others)


def _control_effect(goal: GoalData, scores: Scores, options: tuple[str, ...], a: int, r: int) -> ControlEffect:
    difference = mean_estimate(scores.value[:, a] - scores.value[:, r], scores.subjects)
    spread = float(goal.value[goal.known].std()) or 1.0
    assert difference.value is not None
    low, high = difference.low or 0.0, difference.high or 0.0
    standardised = Estimate(difference.value / spread, low / spread, high / spread)
    return ControlEffect(goal.name, options[a], options[r], difference, standardised, low <= 0 <= high)


def systematic_error(effects: Sequence[ControlEffect]) -> SystematicError | None:
    """Maximum likelihood over the controls' standardised differences; None with fewer than five."""
    from scipy.optimize import minimize

    if len(effects) < FEWEST_FOR_CALIBRATION:
        return None
    value = np.array([effect.standardised.value for effect in effects], dtype=float)
    width = np.array([(e.standardised.high or 0.0) - (e.standardised.low or 0.0) for e in effects])
    error = np.maximum(width / (2 * Z_95), 1e-9)

    def loss(parameters: Array) -> float:
        variance = error**2 + np.exp(2 * parameters[1])
        return float(0.5 * (np.log(variance) + (value - parameters[0]) ** 2 / variance).sum())

    start = np.array([value.mean(), np.log(max(value.std(), 1e-3))])
    found = minimize(loss, start, method="L-BFGS-B", bounds=[(None, None), (np.log(1e-6), None)])
    return SystematicError(float(found.x[0]), float(np.exp(found.x[1])), len(effects))


def placebo_arm(
    covariates: Array, scores: Scores, goal: GoalData, *, options: tuple[str, ...], pair: tuple[int, int], folds: int
) -> Placebo:
    """A placebo arm in place of the pair's first option, in rows of its second, the reference.

    `covariates` (n, p), `scores` and `goal` are the analysis' own; propensities and outcome models are fitted anew.
    """
    a, r = pair
    rows = np.flatnonzero(scores.arm == r)
    subjects = scores.subjects[rows]
    count = len(np.unique(subjects))
    if count < FEWEST_IN_PLACEBO:
        reason = f"only {count} patients were given {options[r]}, fewer than {FEWEST_IN_PLACEBO}"
        return Placebo(options[a], options[r], 0, Estimate(None, reason=reason), True)
    own = goal.take(rows)
    both = scores.propensity[rows][:, [a, r]]
    chance = np.clip(both[:, 0] / both.sum(axis=1), 0.1, 0.9)  # both arms get enough patients in every draw
    found = [
        _one_draw(covariates[rows], own, subjects, chance, seed=seed, folds=folds) for seed in range(PLACEBO_DRAWS)
    ]
    value = float(np.mean([estimate.value for estimate in found if estimate.value is not None]))
    error = float(np.mean([((e.high or 0.0) - (e.low or 0.0)) / (2 * Z_95) for e in found]))
    difference = normal_interval(value, error)
    return Placebo(options[a], options[r], PLACEBO_DRAWS, difference, abs(value) <= Z_95 * error)


def _one_draw(covariates: Array, goal: GoalData, subjects: Array, chance: Array, *, seed: int, folds: int) -> Estimate:
    arm = (np.random.default_rng(seed).random(len(chance)) < chance).astype(int)
    fold = subject_folds(subjects, folds, seed)
    propensity = cross_fit_propensity(covariates, arm, 2, fold=fold, assignment="observed")
    scores = cross_fit_scores(covariates, arm, goal, subjects=subjects, propensity=propensity, fold=fold)
    return mean_estimate(scores.value[:, 1] - scores.value[:, 0], subjects)
