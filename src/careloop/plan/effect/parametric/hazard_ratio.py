"""Hazard ratios by Cox regression: Efron's ties, row weights, and intervals that are robust and by subject.

The log partial likelihood is weighted as in Therneau & Grambsch 2000 (Modeling Survival Data, section 7.3): a tied
death's term carries the mean weight of its ties. The robust variance sums the squares of each row's influence (Lin &
Wei 1989, JASA 84:1074), which are exact derivatives by the row's weight, so that weights which are estimated add their
own part. A hazard ratio compares those still free of the event, who differ between arms even in a trial; where hazards
are not proportional it is an average over follow-up: show risks or times beside it (Hernan 2010, Epidemiology 21:13).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from careloop import InputError
from careloop.evaluate import Estimate
from careloop.evaluate.censoring import OUTCOME
from careloop.plan.effect.doubly_robust import Z_95, standard_error
from careloop.plan.effect.goals import Array, SurvivalGoalData
from careloop.plan.effect.parametric.regression import NO_FINITE_FIT, STEPS, require_finite, settled, shortened, solve
from careloop.plan.effect.parametric.weighting import arm_weights, event_codes


@dataclass(frozen=True)
class CoxFit:
    """Log hazard ratios (p,), their covariance from the information (p, p), and their derivative by weight (n, p)."""

    coefficients: Array
    model_covariance: Array
    by_weight: Array


@dataclass(frozen=True)
class HazardRatio:
    """Hazard under `option` divided by that under `versus`, up to the horizon.

    `ratio` has the robust interval with subjects as units; `model_based` the one that trusts proportional hazards, None
    for weighted rows.
    """

    option: str
    versus: str
    ratio: Estimate
    model_based: Estimate | None


def fit_cox(follow_up_days: Array, happened: Array, covariates: Array, weight: Array) -> CoxFit:
    """Maximise the weighted Efron partial likelihood of rows with weight (n,) above 0 on covariates (n, p).

    Raises InputError without events, or where the covariates separate them.
    """
    rows = np.flatnonzero(weight > 0)
    if not happened[rows].any():
        raise InputError("a hazard ratio needs events, got none by the horizon; choose a later horizon")
    centred = covariates[rows] - np.average(covariates[rows], axis=0, weights=weight[rows])
    ties = _Ties.of(follow_up_days[rows], happened[rows], centred, weight[rows])
    coefficients = np.zeros(covariates.shape[1])
    for _ in range(STEPS):
        gradient, information = ties.derivatives(coefficients)
        step = solve(information, gradient)
        line = centred @ coefficients
        require_finite(line - line.min())
        if settled(step, coefficients):
            by_weight = np.zeros(covariates.shape)
            by_weight[rows] = solve(information, ties.scores(coefficients).T).T
            return CoxFit(coefficients, solve(information, np.eye(len(step))), by_weight)
        coefficients = coefficients + shortened(step, centred @ step)
    raise InputError(NO_FINITE_FIT)


@dataclass(frozen=True)
class _Ties:
    """Rows by distinct times (k of them); every tied death has a term with its own share of the ties still at risk."""

    covariates: Array  # (n, p)
    weight: Array  # (n,)
    place: Array  # (n,) of the row's time
    died: Array  # (n,) bool
    term: Array  # (d,) place of each death's time
    share: Array  # (d,) of the tied deaths that have left the risk set: 0, 1 / m, ... (m - 1) / m
    term_weight: Array  # (d,) mean weight of the tied deaths

    @classmethod
    def of(cls, days: Array, died: Array, covariates: Array, weight: Array) -> _Ties:
        _, place = np.unique(days, return_inverse=True)
        term = np.sort(place[died])
        deaths = np.bincount(term)
        first = np.searchsorted(term, term)
        mean_weight = np.bincount(place[died], weights=weight[died], minlength=len(deaths)) / np.maximum(deaths, 1)
        share = (np.arange(len(term)) - first) / deaths[term]
        return cls(covariates, weight, place, died, term, share, mean_weight[term])

    def _at_risk(self, values: Array) -> Array:
        """Sum (d, ...) of the rows' values in each term's risk set."""
        shape = (int(self.place.max()) + 1, *values.shape[1:])
        all_rows, deaths = np.zeros(shape), np.zeros(shape)
        np.add.at(all_rows, self.place, values)
        np.add.at(deaths, self.place[self.died], values[self.died])
        share = self.share.reshape(-1, *[1] * (values.ndim - 1))
        return all_rows[::-1].cumsum(axis=0)[::-1][self.term] - share * deaths[self.term]

    def _means(self, coefficients: Array) -> tuple[Array, Array, Array]:
        """Relative hazards (n,), their total (d,) and the covariates' mean (d, p) in each term's risk set."""
        line = self.covariates @ coefficients
        relative = np.exp(line - line.max())
        risk = self.weight * relative
        total = self._at_risk(risk)
        return relative, total, self._at_risk(risk[:, None] * self.covariates) / total[:, None]

    def derivatives(self, coefficients: Array) -> tuple[Array, Array]:
        """Gradient (p,) and information (p, p) of the log partial likelihood."""
        relative, total, mean = self._means(coefficients)
        gradient = self.weight[self.died] @ self.covariates[self.died] - self.term_weight @ mean
        # Each row's outer product counts with the terms whose risk set it is in, as `scores` does.
        counted = self.weight * relative * self._spent(self.term_weight / total)
        information = (self.covariates * counted[:, None]).T @ self.covariates
        return gradient, information - (mean * self.term_weight[:, None]).T @ mean

    def _spent(self, values: Array) -> Array:
        """Sum (n, ...) over the terms in whose risk set each row is, a tied death counting with what is left of it."""
        shape = (int(self.place.max()) + 1, *values.shape[1:])
        by_time, by_share = np.zeros(shape), np.zeros(shape)
        np.add.at(by_time, self.term, values)
        np.add.at(by_share, self.term, values * self.share.reshape(-1, *[1] * (values.ndim - 1)))
        spent = by_time.cumsum(axis=0)[self.place]
        spent[self.died] -= by_share[self.place[self.died]]
        return spent

    def scores(self, coefficients: Array) -> Array:
        """Derivative (n, p) of the gradient by each row's weight."""
        relative, total, mean = self._means(coefficients)
        rate = self.term_weight / total
        spent = relative[:, None] * (self.covariates * self._spent(rate)[:, None] - self._spent(rate[:, None] * mean))
        ties = np.bincount(self.term, minlength=int(self.place.max()) + 1)
        average = np.zeros((len(ties), self.covariates.shape[1]))
        np.add.at(average, self.term, mean / ties[self.term][:, None])
        scores = -spent
        scores[self.died] += self.covariates[self.died] - average[self.place[self.died]]
        return scores


def hazard_ratios(
    goal: SurvivalGoalData,
    arm: Array,
    *,
    subjects: Array,
    options: tuple[str, ...],
    reference: str,
    adjusted_for: Array | None = None,
) -> tuple[HazardRatio, ...]:
    """Hazard ratio of every other option against the reference, from one regression of all rows in an arm.

    `adjusted_for` (n, p) are covariates of the regression; a ratio is then that between patients of like covariates.
    Raises InputError without events, or where the covariates separate them.
    """
    weight = (arm >= 0).astype(float)
    covariates = np.empty((len(arm), 0)) if adjusted_for is None else adjusted_for
    fit = _fit(goal, np.column_stack([_indicators(arm, options, reference), covariates]), weight)
    robust = _robust(fit, fit.by_weight * weight[:, None], subjects)
    trusting = [_ratio(*own) for own in zip(fit.coefficients, np.sqrt(np.diag(fit.model_covariance)), strict=True)]
    return tuple(
        HazardRatio(option, reference, robust[i], trusting[i]) for i, option in enumerate(_others(options, reference))
    )


def marginal_hazard_ratios(
    goal: SurvivalGoalData,
    arm: Array,
    terms: Array,
    *,
    subjects: Array,
    options: tuple[str, ...],
    reference: str,
) -> tuple[HazardRatio, ...]:
    """Hazard ratios had everybody been given each option: rows weighted as in `weighting` by terms (n, p).

    Raises InputError without events, or where the terms separate an arm.
    """
    weights = arm_weights(terms, arm)
    together = sum((own.value for own in weights), np.zeros(len(arm)))
    fit = _fit(goal, _indicators(arm, options, reference), together)
    influence = sum((own.influence(fit.by_weight) for own in weights), np.zeros(fit.by_weight.shape))
    robust = _robust(fit, influence, subjects)
    return tuple(
        HazardRatio(option, reference, ratio, None)
        for option, ratio in zip(_others(options, reference), robust, strict=True)
    )


def _others(options: tuple[str, ...], reference: str) -> list[str]:
    return [option for option in options if option != reference]


def _indicators(arm: Array, options: tuple[str, ...], reference: str) -> Array:
    return np.column_stack([arm == options.index(option) for option in _others(options, reference)])


def _fit(goal: SurvivalGoalData, covariates: Array, weight: Array) -> CoxFit:
    days = np.minimum(goal.follow_up_days, goal.horizon_days)
    return fit_cox(days, event_codes(goal) == OUTCOME, covariates.astype(float), weight)


def _robust(fit: CoxFit, influence: Array, subjects: Array) -> list[Estimate]:
    errors = [standard_error(column, subjects) for column in influence.T]
    return [_ratio(log_ratio, error) for log_ratio, error in zip(fit.coefficients, errors, strict=True)]


def _ratio(log_ratio: float, error: float) -> Estimate:
    value, low, high = np.exp(log_ratio + Z_95 * error * np.array([0.0, -1.0, 1.0]))
    return Estimate(float(value), float(low), float(high))
