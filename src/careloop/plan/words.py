"""Effects, the state of their assumptions, and the decision, in sentences."""

from __future__ import annotations

from typing import Literal

from careloop.evaluate import Estimate
from careloop.plan.effect.diagnostics.balance import NOTABLE_DIFFERENCE, Balance
from careloop.plan.effect.doubly_robust import GoalEffect, OptionEffect
from careloop.plan.effect.goals import Kind
from careloop.plan.policy.choose import Policy


def number(value: float | None, kind: Kind) -> str:
    """A risk in per cent with one decimal, days with one decimal, a measure with three significant digits."""
    if value is None:
        return "unknown"
    if kind == "rmst":
        return f"{value:.1f} days"
    return f"{100 * value:.1f} %" if kind == "event" else f"{value:.3g}"


def with_interval(estimate: Estimate, kind: Kind) -> str:
    """`24.1 % (20.0 % to 28.3 %)`, the limits of the 95 % interval in brackets."""
    if estimate.low is None or estimate.high is None:
        return number(estimate.value, kind)
    return f"{number(estimate.value, kind)} ({number(estimate.low, kind)} to {number(estimate.high, kind)})"


def decision_in_words(policy: Policy, effect: GoalEffect) -> str:
    """One sentence: what is advised and why, or why nothing is."""
    if policy.best is None or policy.lead is None or policy.gain is None:
        return "no option is recommended: fewer than two options have enough comparable patients"
    gain = f"cross-fitted gain {with_interval(policy.gain, effect.kind)}"
    if policy.decision == "individual":
        rest = f"; for the others {_tie(policy, effect)}" if policy.tied else ""
        return (
            f"individual choice departs from {policy.best} for {policy.departing:.0%} of patients, because that is "
            f"better than {policy.best} for everybody: {gain}, its lower limit above zero{rest}"
        )
    if policy.decision == "abstain":
        worse = f"; {' and '.join(policy.worse)} did worse than {policy.best}" if policy.worse else ""
        return f"no option is recommended: {_tie(policy, effect)}{worse}"
    if policy.departing == 0:
        why = "for nobody is another option's expected gain over it clear of zero"
    else:
        why = f"individual choice is not shown to be better ({gain}, its lower limit not above zero)"
    return f"{policy.best} is best on average and recommended for everybody: {why}"


def _tie(policy: Policy, effect: GoalEffect) -> str:
    lead = f"the difference from {policy.next} is {with_interval(policy.lead, effect.kind)}" if policy.lead else ""
    return f"{policy.best} cannot be told from {' or '.join(policy.tied)} ({lead})"


def plan_in_words(
    effects: tuple[GoalEffect, ...], balance: Balance, policy: Policy, *, assignment: Literal["randomised", "observed"]
) -> tuple[str, ...]:
    """Sentences for a report: each goal's effects, the checks, and the decision."""
    checks = [_assignment_in_words(assignment, balance)]
    checks += [
        f"{option.option} is not used for plans: {option.reason}." for option in balance.options if not option.usable
    ]
    return (*(_effect_in_words(effect) for effect in effects), *checks, f"{capital(policy.reason)}.")


def _effect_in_words(effect: GoalEffect) -> str:
    ordered = sorted(effect.options, key=lambda option: _goodness(option, effect), reverse=True)
    means = "; ".join(f"{option.option} {with_interval(option.adjusted, effect.kind)}" for option in ordered)
    if effect.kind == "event":
        horizon = f"{effect.horizon_days:g} days"
        return f"Risk of the outcome within {horizon} if everybody were given it (lower is better): {means}."
    if effect.kind == "rmst":
        days = f"the first {effect.horizon_days:g} days"
        return f"Mean time free of any event in {days} if everybody were given it (higher is better): {means}."
    return f"Mean {effect.goal} if everybody were given it ({effect.better} is better): {means}."


def _goodness(option: OptionEffect, effect: GoalEffect) -> float:
    value = option.adjusted.value or 0.0
    return -value if effect.better == "lower" else value


def _assignment_in_words(assignment: str, balance: Balance) -> str:
    count = len(balance.covariates)
    before = f"{balance.notable_before} of {count} covariates differ between arms by more than {NOTABLE_DIFFERENCE} SD"
    if assignment == "randomised":
        return f"The arms are taken as randomised; {before}, and effects are adjusted for all."
    return (
        f"Treatment was not randomised: effects hold only if these covariates hold all reasons why patients were "
        f"given different options; {before} before weighting, {balance.notable_after} after."
    )


def capital(sentence: str) -> str:
    """The sentence with a capital first letter."""
    return sentence[:1].upper() + sentence[1:]
