"""What one standard deviation of a score does in a cohort: the hazard or odds ratio, with a 95 % interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from careloop import InputError

_NORMAL = 1.959963984540054


@dataclass(frozen=True)
class EffectPerSd:
    """The logarithm of a `kind` of ratio per standard deviation, its standard error, and the people it is of."""

    kind: Literal["hazard ratio", "odds ratio"]
    log_ratio: float
    standard_error: float
    people: int
    events: int

    @property
    def ratio(self) -> tuple[float, float, float]:
        """The ratio with its 95 % interval (Wald): value, low, high."""
        low, high = (self.log_ratio + side * _NORMAL * self.standard_error for side in (-1, 1))
        return float(np.exp(self.log_ratio)), float(np.exp(low)), float(np.exp(high))


def hazard_ratio_per_sd(
    z: NDArray[np.float64],
    years: NDArray[np.float64],
    event: NDArray[np.bool_],
    covariates: NDArray[np.float64] | None = None,
) -> EffectPerSd:
    """Cox regression of time to the event on `z` (people,) and `covariates` (people, k), in the unit that `z` has.

    Raises:
        InputError: no event, times below 0, or a number that is not finite.
    """
    from careloop.models.cox import CoxPH

    design = _beside(z, covariates)
    target = np.empty(len(z), dtype=[("event", np.bool_), ("time", np.float64)])
    target["event"], target["time"] = event, years
    model = CoxPH(l2=0.0).fit(design, target)
    return _effect("hazard ratio", float(model.coef_[0]), float(model.covariance_[0, 0]), event)


def odds_ratio_per_sd(
    z: NDArray[np.float64], event: NDArray[np.bool_], covariates: NDArray[np.float64] | None = None
) -> EffectPerSd:
    """Logistic regression of the event on `z` (people,) and `covariates` (people, k), in the unit that `z` has.

    Raises:
        InputError: one outcome alone, or no finite estimate since it is separated perfectly.
    """
    from careloop.evaluate.calibration import weighted_logistic

    design = np.column_stack([_beside(z, covariates), np.ones(len(z))])
    found = weighted_logistic(design, event.astype(np.float64), np.ones((1, len(z))))[0]
    if not np.isfinite(found).all():
        raise InputError("an odds ratio needs people with and without the event, who are not told apart perfectly")
    probability = 1 / (1 + np.exp(-design @ found))
    information = (design * (probability * (1 - probability))[:, None]).T @ design
    return _effect("odds ratio", float(found[0]), float(np.linalg.inv(information)[0, 0]), event)


def _beside(z: NDArray[np.float64], covariates: NDArray[np.float64] | None) -> NDArray[np.float64]:
    design = z[:, None] if covariates is None else np.column_stack([z, covariates])
    if not np.isfinite(design).all():
        raise InputError("people need a score and all covariates; leave those without out")
    return design


def _effect(
    kind: Literal["hazard ratio", "odds ratio"], log_ratio: float, variance: float, event: NDArray[np.bool_]
) -> EffectPerSd:
    return EffectPerSd(kind, log_ratio, float(np.sqrt(variance)), len(event), int(event.sum()))
