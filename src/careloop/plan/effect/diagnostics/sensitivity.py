"""How strong an unmeasured confounder would have to be to explain a difference between options away.

Bounds and robustness value: Chernozhukov, Cinelli, Newey, Sharma & Syrgkanis 2022 ("Long story short: omitted variable
bias in causal machine learning", NBER working paper 30302), of which Cinelli & Hazlett 2020 (J R Stat Soc B 82:39) is
the linear case. With the confounder left out, |bias| is at most S * sqrt(C_Y * C_D / (1 - C_D)) with S^2 =
E[(Y - m)^2] * E[alpha^2], where alpha are the weights of the difference, C_Y is the share of the outcome's residual
variance that the confounder explains and C_D the share of the weights' variance that only the confounder brings.
Measured covariates serve as yardsticks. The E-value beside it is in `balance`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from careloop.evaluate import Estimate
from careloop.plan.effect.doubly_robust import PROPENSITY_CLIP, Z_95, Scores, standard_error
from careloop.plan.effect.goals import Array

LARGEST_SHARE = 0.999  # a confounder that explains everything bounds nothing
MOST_YARDSTICKS = 5
ROWS_PER_COVARIATE = 3  # fewer say nothing about what one covariate explains beside all others
HALVINGS = 60


@dataclass(frozen=True)
class Yardstick:
    """A confounder as strong as a measured covariate: the shares it explains, and the effect at worst."""

    covariate: str
    outcome_share: float
    treatment_share: float
    worst: Estimate


@dataclass(frozen=True)
class Robustness:
    """What explains the difference option minus versus away.

    `value` is the share that a confounder must explain of both the outcome's residual variance and the weights'
    variance to bring the difference to 0, `limit` the share that brings its 95 % interval there (0 where the interval
    holds 0 already). `yardsticks` are the measured covariates that reach farthest, the farthest first; none where
    there are fewer than three rows a covariate.
    """

    option: str
    versus: str
    value: float
    limit: float
    yardsticks: tuple[Yardstick, ...]
    words: str


@dataclass(frozen=True)
class BiasBound:
    """A difference and the scale S of its bias, each with its influence (n,)."""

    difference: float
    scale: float
    difference_influence: Array
    scale_influence: Array
    subjects: Array

    @classmethod
    def of(cls, scores: Scores, a: int, b: int) -> BiasBound:
        """The bound of option a minus option b; rows whose value is not known under their option do not count."""
        difference = scores.value[:, a] - scores.value[:, b]
        weights = 1.0 / np.maximum(scores.propensity[:, [a, b]], PROPENSITY_CLIP)
        alpha = np.where(scores.arm == a, weights[:, 0], 0.0) - np.where(scores.arm == b, weights[:, 1], 0.0)
        residual = scores.completed - scores.expected[np.arange(len(scores.arm)), scores.arm]
        variance, leverage = np.nan_to_num(residual) ** 2, 2 * weights.sum(axis=1) - alpha**2
        sigma2, nu2 = float(variance.mean()), max(float(leverage.mean()), 0.0)
        scale = np.sqrt(sigma2 * nu2)
        centred = (sigma2 * (leverage - nu2) + nu2 * (variance - sigma2)) / (2 * scale) if scale > 0 else 0.0 * variance
        n, mean = len(difference), float(difference.mean())
        return cls(mean, float(scale), (difference - mean) / n, centred / n, scores.subjects)

    def at(self, strength: float) -> Estimate:
        """The difference moved towards no effect by a bias of `strength` times S, with its 95 % interval."""
        low, high = self._limits(strength)
        return Estimate((low + high) / 2, low, high)

    def keeps_its_sign(self, strength: float) -> bool:
        """Whether the interval still leaves out 0, on the side of the difference itself."""
        low, high = self._limits(strength)
        return low > 0 if self.difference >= 0 else high < 0

    def _limits(self, strength: float) -> tuple[float, float]:
        away = 1.0 if self.difference >= 0 else -1.0
        value = self.difference - away * strength * self.scale
        error = standard_error(self.difference_influence - away * strength * self.scale_influence, self.subjects)
        return value - Z_95 * error, value + Z_95 * error


def strength_of(outcome_share: float, treatment_share: float) -> float:
    """Bias in units of S of a confounder that explains these shares."""
    treatment = min(treatment_share, LARGEST_SHARE)
    return float(np.sqrt(min(outcome_share, LARGEST_SHARE) * treatment / (1 - treatment)))


def robustness(
    scores: Scores, options: tuple[str, ...], pair: tuple[int, int], *, covariates: Array, names: tuple[str, ...]
) -> Robustness:
    """Robustness of the first of the pair minus the second, with covariates (n, p) as yardsticks."""
    a, b = pair
    bound = BiasBound.of(scores, a, b)
    value = _largest_share(lambda share: strength_of(share, share) * bound.scale < abs(bound.difference))
    limit = _largest_share(lambda share: bound.keeps_its_sign(strength_of(share, share)))
    yardsticks = _yardsticks(scores, bound, pair, covariates=covariates, names=names)
    words = _in_words(options[a], options[b], limit, yardsticks)
    return Robustness(options[a], options[b], value, limit, yardsticks, words)


def _largest_share(holds: Callable[[float], bool]) -> float:
    """The share up to which `holds`, by bisection; 0 if it never does."""
    low, high = 0.0, LARGEST_SHARE
    if not holds(low):
        return 0.0
    if holds(high):
        return high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _yardsticks(
    scores: Scores, bound: BiasBound, pair: tuple[int, int], *, covariates: Array, names: tuple[str, ...]
) -> tuple[Yardstick, ...]:
    """Each covariate's partial R-squared with outcome and treatment in linear models, as strength of a like one."""
    rows = np.isin(scores.arm, pair) & np.isfinite(scores.completed)
    if rows.sum() < ROWS_PER_COVARIATE * (covariates.shape[1] + 2) or not covariates.shape[1]:
        return ()
    given = (scores.arm[rows] == pair[0]).astype(float)
    treatment = _partial_shares(covariates[rows], given)
    outcome = _partial_shares(np.column_stack([covariates[rows], given]), scores.completed[rows])[:-1]
    strengths = np.array([strength_of(y, d) for y, d in zip(outcome, treatment, strict=True)])
    order = np.argsort(-strengths, kind="stable")[:MOST_YARDSTICKS]
    return tuple(
        Yardstick(names[j], float(outcome[j]), float(treatment[j]), bound.at(float(strengths[j]))) for j in order
    )


def _partial_shares(design: Array, target: Array) -> Array:
    """R2 / (1 - R2) of each column (p,) beside all others: what a like column, not in the model, would explain."""
    lines = np.column_stack([np.ones(len(design)), design])
    inverse = np.linalg.pinv(lines.T @ lines)
    coefficients = inverse @ (lines.T @ target)
    residual = float(((target - lines @ coefficients) ** 2).sum())
    diagonal = np.maximum(np.diag(inverse), 1e-12)
    explained = coefficients**2 / diagonal
    return np.asarray(np.minimum(explained / max(residual, 1e-12), LARGEST_SHARE)[1:])


def _in_words(option: str, versus: str, limit: float, yardsticks: tuple[Yardstick, ...]) -> str:
    if limit == 0.0:
        return f"{option} and {versus} are not told apart, so there is nothing for an unmeasured confounder to explain"
    text = (
        f"an unmeasured confounder that explains less than {max(limit, 0.001):.1%} of what the covariates leave open, "
        f"of both the outcome and the choice between {option} and {versus}, cannot bring the interval of their "
        "difference to 0"
    )
    if not yardsticks:
        return text
    first = yardsticks[0]
    reaches = (first.worst.low or 0.0) * (first.worst.high or 0.0) <= 0
    return f"{text}; one as strong as {first.covariate}, the strongest measured, {'could' if reaches else 'could not'}"
