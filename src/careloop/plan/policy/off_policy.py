"""Value of any way of choosing options, from decisions that were logged: IPS, SNIPS and doubly robust, or a refusal.

With weights w = policy(option given | patient) / propensity: inverse propensity scores, the mean of w Y (IPS); the same
over the mean of w (SNIPS: Swaminathan & Joachims 2015, NeurIPS); doubly robust, the mean of the policy's share of each
option times its score of `effect.doubly_robust` (Dudik, Langford & Li 2011, ICML), which decides. Scores are
cross-fitted, or of rows that no model was fitted on. Intervals have subjects as units, and two policies are compared on
the same rows. Under an effective sample size of 50 a policy has no value here, only the reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from careloop import InputError
from careloop.evaluate import Estimate
from careloop.plan.effect.diagnostics.balance import effective_sample
from careloop.plan.effect.doubly_robust import (
    PROPENSITY_CLIP,
    Scores,
    mean_estimate,
    normal_interval,
    standard_error,
)
from careloop.plan.effect.goals import Array, Kind

SMALLEST_EFFECTIVE_SAMPLE = 50.0
AS_GIVEN = -1  # in choices: this row keeps the option that it was given
CARE_AS_GIVEN = "care as given"


@dataclass(frozen=True)
class PolicyValue:
    """Mean goal under a policy, by three estimators, of which `doubly_robust` decides.

    `effective_sample` is how many equally weighted patients, who were in fact treated by the policy, it rests on. Where
    that is too small no estimator has a value, only the reason.
    """

    policy: str
    doubly_robust: Estimate
    snips: Estimate
    ips: Estimate
    effective_sample: float


@dataclass(frozen=True)
class PolicyComparison:
    """One policy minus another on the same rows, doubly robust; positive is a higher goal, not a better one."""

    policy: str
    against: str
    difference: Estimate


def policy_value(scores: Scores, policy: Array, *, name: str, kind: Kind = "measure") -> PolicyValue:
    """Value of choices (n,) of options by position, `AS_GIVEN` for the one given, or of probabilities (n, K).

    Raises InputError where a choice is no option, or probabilities do not sum to 1.
    """
    weight = policy_weights(scores, policy)
    effective = effective_patients(weight, scores.subjects)
    reason = refusal(scores, policy)
    if reason is not None:
        refused = Estimate(None, reason=reason)
        return PolicyValue(name, refused, refused, refused, effective)
    weighted = weight * np.where(weight > 0, scores.completed, 0.0)
    ratio = weighted.sum() / weight.sum()
    error = standard_error((weighted - ratio * weight) / weight.sum(), scores.subjects)
    return PolicyValue(
        policy=name,
        doubly_robust=mean_estimate(policy_scores(scores, policy), scores.subjects, kind=kind),
        snips=normal_interval(float(ratio), error, kind=kind),
        ips=mean_estimate(weighted, scores.subjects, kind=kind),
        effective_sample=effective,
    )


def compare_policies(scores: Scores, policies: dict[str, Array], *, policy: str, against: str) -> PolicyComparison:
    """Difference of two of the named policies, paired; refused where either has too small an effective sample."""
    for name in (policy, against):
        reason = refusal(scores, policies[name])
        if reason is not None:
            return PolicyComparison(policy, against, Estimate(None, reason=f"{name}: {reason}"))
    difference = policy_scores(scores, policies[policy]) - policy_scores(scores, policies[against])
    return PolicyComparison(policy, against, mean_estimate(difference, scores.subjects))


def evaluate_policy(
    scores: Scores, policy: Array, *, name: str, options: tuple[str, ...], kind: Kind = "measure"
) -> tuple[tuple[PolicyValue, ...], tuple[PolicyComparison, ...]]:
    """Values of a policy, of care as given and of each option for everybody, and the policy against each of those."""
    policies = {name: policy, CARE_AS_GIVEN: np.full(len(scores.arm), AS_GIVEN)}
    policies |= {option: np.full(len(scores.arm), a) for a, option in enumerate(options)}
    values = tuple(policy_value(scores, each, name=called, kind=kind) for called, each in policies.items())
    others = [called for called in policies if called != name]
    return values, tuple(compare_policies(scores, policies, policy=name, against=other) for other in others)


def policy_scores(scores: Scores, policy: Array) -> Array:
    """Score (n,) of each row under a policy; the completed value where it keeps the option given."""
    if policy.ndim == 2:
        return np.asarray((_checked(scores, policy) * scores.value).sum(axis=1))
    chosen = scores.value[np.arange(len(policy)), _checked(scores, policy)]
    return np.where(policy == AS_GIVEN, scores.completed, chosen)


def policy_weights(scores: Scores, policy: Array) -> Array:
    """How often a row counts as treated by the policy (n,): 0 where it was given what the policy does not give."""
    rows, given = np.arange(len(scores.arm)), np.maximum(scores.arm, 0)
    propensity = np.maximum(scores.propensity[rows, given], PROPENSITY_CLIP)
    if policy.ndim == 2:
        weight = _checked(scores, policy)[rows, given] / propensity
    else:
        chosen = _checked(scores, policy)
        weight = np.where(policy == AS_GIVEN, 1.0, (chosen == given) / propensity)
    return np.where(scores.arm >= 0, weight, 0.0)


def effective_patients(weight: Array, subjects: Array) -> float:
    """Kish's effective sample size of weights (n,), all rows of a subject as one."""
    _, position = np.unique(subjects, return_inverse=True)
    return effective_sample(np.bincount(position, weights=weight))


def refusal(scores: Scores, policy: Array) -> str | None:
    """Why nothing can be said of a policy by which too few were treated, or None; care as given is simply seen."""
    effective = effective_patients(policy_weights(scores, policy), scores.subjects)
    if effective >= SMALLEST_EFFECTIVE_SAMPLE or (policy.ndim == 1 and (policy == AS_GIVEN).all()):
        return None
    return f"an effective {effective:.0f} patients were treated so, fewer than {SMALLEST_EFFECTIVE_SAMPLE:.0f}"


def _checked(scores: Scores, policy: Array) -> Array:
    """The policy if it is one: probabilities, or positions of options with AS_GIVEN as 0."""
    rows, options = scores.value.shape
    if policy.ndim == 2:
        if policy.shape != (rows, options) or (policy < 0).any() or not np.allclose(policy.sum(axis=1), 1.0):
            raise InputError(
                f"a policy must be probabilities of {options} options that sum to 1 in each of {rows} rows, got shape "
                f"{policy.shape} with sums {policy.sum(axis=1).min():.3g} to {policy.sum(axis=1).max():.3g}"
            )
        return policy
    if policy.shape != (rows,) or policy.min() < AS_GIVEN or policy.max() >= options:
        raise InputError(
            f"a policy must choose an option from 0 to {options - 1} (or {AS_GIVEN}, as given) in each of {rows} rows, "
            f"got shape {policy.shape} with {policy.min()} to {policy.max()}"
        )
    return np.maximum(policy, 0)
