"""Which regression a trait is tested by, and when the likelihood is penalised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from careloop.genome.association.regression.design import Design
from careloop.genome.association.regression.estimates import NOT_CONVERGED, SEPARATION, Estimates
from careloop.genome.association.regression.firth import FirthRegression
from careloop.genome.association.regression.linear import LinearRegression
from careloop.genome.association.regression.logistic import LogisticRegression

Firth = Literal["fallback", "always", "never"]
Estimator = Callable[[NDArray[Any]], Estimates]  # of a block (variants, people); may be called from several threads


def estimator(design: Design, firth: Firth) -> Estimator:
    """Linear regression of a quantitative trait, logistic of a binary one, penalised as `firth` says."""
    if design.kind == "quantitative":
        return LinearRegression(design).estimate
    plain, penalised = LogisticRegression(design), FirthRegression(design)
    retried = {"never": (), "fallback": (NOT_CONVERGED, SEPARATION), "always": (0, NOT_CONVERGED, SEPARATION)}[firth]

    def estimate(block: NDArray[Any]) -> Estimates:
        found = plain.estimate(block)
        again = np.flatnonzero(np.isin(found.code, retried))
        if again.size:
            better = penalised.estimate(block[again])
            for each in fields(Estimates):
                getattr(found, each.name)[again] = getattr(better, each.name)
        return found

    return estimate
