"""Expected value of each option for each patient: doubly robust scores projected on a few summaries of the patient.

Scores are regressed on summaries (the score-based pseudo-outcome regression of the DR-learner: Kennedy 2023, Electron J
Stat 17:3008; as best linear projection with robust intervals: Semenova & Chernozhukov 2021, Econometrics Journal
24:264), on the scale of the goal for a measure and of its log-odds for a risk, so that a risk stays between 0 and 1.
Summaries are the prognosis (expected outcome averaged over options, as benefit commonly grows with risk: PATH, Kent et
al. 2020, Ann Intern Med 172:35) and the first principal components of the covariates. The coefficients solve
sum of instrument x (score - expected) = 0, which does not ask that scores lie between 0 and 1; their covariance is the
sandwich with subjects as units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from careloop.evaluate.calibration import expit, logit
from careloop.plan.effect.doubly_robust import Z_95
from careloop.plan.effect.goals import Array, Kind

Link = Literal["identity", "logit"]
# A mean of scores may lie outside of 0 to 1 by chance; its log-odds then start from here.
NEAREST_TO_CERTAIN = 1e-3
STEPS, LONGEST_STEP, TOLERANCE = 50, 2.0, 1e-9
COMPONENTS = 3
LINKS: dict[str, Link] = {"event": "logit", "rmst": "identity", "measure": "identity"}


@dataclass(frozen=True)
class Summaries:
    """Centred and scaled prognosis and principal components; learned without looking at outcomes by arm."""

    centre: Array  # (p,)
    axes: Array  # (p, c)
    prognosis_mean: float
    prognosis_scale: float

    def transform(self, covariates: Array, prognosis: Array) -> Array:
        """Summaries (n, 1 + c) of covariates (n, p) and prognosis (n,)."""
        scaled = (prognosis - self.prognosis_mean) / self.prognosis_scale
        return np.column_stack([scaled, (covariates - self.centre) @ self.axes])


def prognosis_of(expected: Array, kind: Kind) -> Array:
    """Each row's expected value (n, K) averaged over options, on the scale of its kind's link, (n,)."""
    mean = expected.mean(axis=1)
    return logit(mean) if LINKS[kind] == "logit" else mean


def fit_summaries(covariates: Array, prognosis: Array) -> Summaries:
    """Principal components of learning rows, scaled to unit variance, signs fixed."""
    centre = covariates.mean(axis=0)
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(covariates - centre, rowvar=False)))
    kept = [i for i in np.argsort(values)[::-1][:COMPONENTS] if values[i] > 1e-9]
    axes = vectors[:, kept]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(len(kept))]) / np.sqrt(values[kept])
    return Summaries(centre, axes, float(prognosis.mean()), float(prognosis.std()) or 1.0)


@dataclass(frozen=True)
class Projection:
    """A line in the summaries for each option, on the scale of `link`, with the covariance of all coefficients."""

    coefficients: Array  # (K, 1 + s)
    covariance: Array  # (K, 1 + s, K, 1 + s)
    link: Link = "identity"

    def expected(self, summaries: Array) -> Array:
        """Expected value (n, K)."""
        return _mean(_with_constant(summaries) @ self.coefficients.T, self.link)

    def interval(self, summaries: Array) -> tuple[Array, Array]:
        """Limits of the 95 % interval of the expected value, (n, K) each."""
        line = _with_constant(summaries) @ self.coefficients.T
        error = np.sqrt(self._line_variance(summaries))
        return _mean(line - Z_95 * error, self.link), _mean(line + Z_95 * error, self.link)

    def difference_error(self, summaries: Array, option: int) -> Array:
        """Standard error of expected value minus that of `option`, (n, K)."""
        lines = _with_constant(summaries)
        slope = _slope(self.expected(summaries), self.link)
        own = self._line_variance(summaries) * slope**2
        cross = np.einsum("ni,kij,nj->nk", lines, self.covariance[:, :, option, :], lines) * slope * slope[:, [option]]
        return np.sqrt(np.maximum(own + own[:, [option]] - 2 * cross, 0.0))

    def _line_variance(self, summaries: Array) -> Array:
        lines = _with_constant(summaries)
        return np.maximum(np.einsum("ni,kikj,nj->nk", lines, self.covariance, lines), 0.0)


def project(
    summaries: Array,
    values: Array,
    subjects: Array,
    *,
    usable: Array,
    slopes: Literal["own", "shared"],
    link: Link = "identity",
) -> Projection:
    """Lines of scores (n, K) on summaries (n, s), with a covariance that is robust and by subject.

    Slopes of their own let the difference between options vary with the patient; shared slopes (fitted to the `usable`
    options) let only the prognosis vary. Where no log-odds line fits scores outside of 0 to 1, the line is straight.
    """
    lines = _with_constant(summaries)
    expand, instrument = _parameters(values.shape[1], lines.shape[1], usable=usable, slopes=slopes)
    found = _solve(lines, values, expand, instrument, link)
    if found is None:
        return project(summaries, values, subjects, usable=usable, slopes=slopes)
    parameters, information = found
    coefficients = expand @ parameters
    residuals = values - _mean(lines @ coefficients.T, link)
    moments = np.einsum("nk,ni,kip->np", residuals, lines, instrument)
    influence = np.einsum("np,kip->nki", moments @ np.linalg.pinv(information).T, expand)
    return Projection(coefficients, _covariance(influence, subjects), link)


def _parameters(options: int, width: int, *, usable: Array, slopes: Literal["own", "shared"]) -> tuple[Array, Array]:
    """Maps (K, 1 + s, P) from parameters to each option's line, and from an option's moments to equations."""
    if slopes == "own":
        expand = np.eye(options * width).reshape(options, width, options * width)
        return expand, expand
    expand = np.zeros((options, width, options + width - 1))
    expand[np.arange(options), 0, np.arange(options)] = 1.0
    expand[:, 1:, options:] = np.eye(width - 1)
    instrument = expand.copy()
    instrument[~usable, 1:] = 0.0
    return expand, instrument


def _solve(lines: Array, values: Array, expand: Array, instrument: Array, link: Link) -> tuple[Array, Array] | None:
    """Parameters (P,) and the derivative (P, P) of the equations there, by Newton's method; None if there are none."""
    start = np.zeros((values.shape[1], lines.shape[1]))
    start[:, 0] = values.mean(axis=0)
    if link == "logit":
        start[:, 0] = logit(np.clip(start[:, 0], NEAREST_TO_CERTAIN, 1 - NEAREST_TO_CERTAIN))
    parameters = np.linalg.lstsq(expand.reshape(-1, expand.shape[2]), start.ravel(), rcond=None)[0]
    for _ in range(STEPS):
        mean = _mean(lines @ (expand @ parameters).T, link)
        equations = np.einsum("nk,ni,kip->p", values - mean, lines, instrument)
        weighted = np.einsum("nk,ni,nj->kij", _slope(mean, link), lines, lines)
        information = np.einsum("kip,kij,kjq->pq", instrument, weighted, expand)
        step = np.linalg.pinv(information) @ equations
        if link == "logit":
            step = np.clip(step, -LONGEST_STEP, LONGEST_STEP)
        parameters = parameters + step
        if np.abs(step).max() < TOLERANCE * (1 + np.abs(parameters).max()):
            return parameters, information
    return None


def _mean(line: Array, link: Link) -> Array:
    return line if link == "identity" else expit(line)


def _slope(mean: Array, link: Link) -> Array:
    """Derivative of the mean by the line."""
    return np.ones_like(mean) if link == "identity" else mean * (1 - mean)


def _with_constant(summaries: Array) -> Array:
    return np.column_stack([np.ones(len(summaries)), summaries])


def _covariance(influence: Array, subjects: Array) -> Array:
    unique, position = np.unique(subjects, return_inverse=True)
    each = np.zeros((len(unique), *influence.shape[1:]))
    np.add.at(each, position, influence)
    flat = each.reshape(len(unique), -1)
    shape = influence.shape[1:]
    return (flat.T @ flat * (len(unique) / max(len(unique) - 1, 1))).reshape(*shape, *shape)
