"""What an option changes for people like this one: absolute risk reduction, number needed to treat, relative risk.

Sources: Altman, BMJ 1998;317:1309 (the number needed to treat and its interval, which passes infinity where the
interval of the risk reduction holds 0); Newcombe, Stat Med 1998;17:873, method 10, and Zou and Donner, Stat Med
2008;27:1693 (the interval of a difference, or on the log scale of a ratio, from the intervals of its parts).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from careloop import InputError
from careloop.evaluate import Estimate

# A difference that is given may disagree with the two risks by what rounding to four decimals does.
ROUNDING = 5e-4
# A smaller reduction is none: its number needed to treat would exceed the people there are.
NO_DIFFERENCE = 1e-12


@dataclass(frozen=True)
class Needed:
    """One person more benefits (or is harmed) for every `count` who are given the option; None: infinitely many."""

    count: float | None
    effect: Literal["benefit", "harm"]

    @property
    def people(self) -> int | None:
        """`count` rounded up to whole people, as numbers needed to treat are given."""
        return None if self.count is None else math.ceil(round(self.count, 6))


@dataclass(frozen=True)
class NumberNeeded:
    """The number needed to treat, and the 95 % limits most and least in favour of the option (None: no interval)."""

    value: Needed
    best: Needed | None
    worst: Needed | None

    @property
    def holds_no_effect(self) -> bool:
        """Whether the interval runs from benefit through infinity to harm."""
        if self.best is None or self.worst is None:
            return False
        return (self.best.effect, self.worst.effect) == ("benefit", "harm") or None in (
            self.best.count,
            self.worst.count,
        )


@dataclass(frozen=True)
class Benefit:
    """Risks without and with an option and what lies between them.

    `reduction` is the risk without less the risk with it (positive: the option is better), `relative` the risk with
    over the risk without. `basis` says where the interval of the difference comes from: `given`, or `independent`,
    made from the two risks' intervals as if their errors were independent.
    """

    without: Estimate
    with_option: Estimate
    reduction: Estimate
    relative: Estimate
    needed: NumberNeeded
    basis: Literal["given", "independent"]


def benefit(without: Estimate, with_option: Estimate, *, reduction: Estimate | None = None) -> Benefit:
    """Compare an event's risk (0 to 1) without and with an option.

    `reduction` is the difference with its own interval, where it is known; else its interval is made from those of the
    risks. InputError: a risk that is missing, not within 0 to 1 or not within its limits; a difference that is not
    the difference of the risks.
    """
    before, after = _checked(without, "without the option"), _checked(with_option, "with the option")
    difference = before - after
    if reduction is None:
        reduction = _difference_of(without, with_option)
    elif reduction.value is None or abs(reduction.value - difference) > ROUNDING:
        raise InputError(
            "benefit: the risk reduction must be the risk without the option less the risk with it; give all three "
            "for the same people, or leave the reduction out"
        )
    else:
        return _of(
            without, with_option, reduction, relative=_ratio_of_reduction(before, after, reduction), basis="given"
        )
    return _of(without, with_option, reduction, relative=_ratio_of(without, with_option), basis="independent")


def _of(
    without: Estimate,
    with_option: Estimate,
    reduction: Estimate,
    *,
    relative: Estimate,
    basis: Literal["given", "independent"],
) -> Benefit:
    return Benefit(without, with_option, reduction, relative, number_needed(reduction), basis)


def number_needed(reduction: Estimate) -> NumberNeeded:
    """The number needed to treat of a risk reduction with its interval; InputError where there is no reduction."""
    if reduction.value is None:
        raise InputError("number needed to treat: the risk reduction must be a number")
    if reduction.low is None or reduction.high is None:
        return NumberNeeded(_needed(reduction.value), None, None)
    # A limit of exactly 0 belongs to the side on which the rest of the interval lies.
    side: Literal["benefit", "harm"] = "harm" if reduction.low < 0 >= reduction.high else "benefit"
    return NumberNeeded(
        _needed(reduction.value), _needed(reduction.high, at_zero=side), _needed(reduction.low, at_zero=side)
    )


def _needed(reduction: float, *, at_zero: Literal["benefit", "harm"] = "benefit") -> Needed:
    if abs(reduction) < NO_DIFFERENCE:
        return Needed(None, at_zero)
    return Needed(1 / abs(reduction), "benefit" if reduction > 0 else "harm")


def _checked(risk: Estimate, which: str) -> float:
    """The risk's value; InputError if it is no risk with limits around it."""
    if risk.value is None:
        raise InputError(f"benefit: the risk {which} must be a number; {risk.reason or 'it is missing'}")
    limits = (risk.value if risk.low is None else risk.low, risk.value if risk.high is None else risk.high)
    if not 0 <= limits[0] <= risk.value <= limits[1] <= 1:
        raise InputError(
            f"benefit: the risk {which} must lie within its limits and these within 0 to 1, got {limits[0]:g} <= "
            f"{risk.value:g} <= {limits[1]:g}; give fractions, not per cent"
        )
    return risk.value


def _difference_of(without: Estimate, with_option: Estimate) -> Estimate:
    """The difference with the interval that square-and-add makes of the two risks' (Newcombe's method 10)."""
    parts = _parts(without, with_option)
    value = (without.value or 0.0) - (with_option.value or 0.0)
    if parts is None:
        return Estimate(value, reason="the risks have no intervals")
    (p1, l1, u1), (p2, l2, u2) = parts
    return Estimate(value, value - math.hypot(p1 - l1, u2 - p2), value + math.hypot(u1 - p1, p2 - l2))


def _ratio_of(without: Estimate, with_option: Estimate) -> Estimate:
    """The ratio with the interval that square-and-add makes on the log scale."""
    before, after = without.value or 0.0, with_option.value or 0.0
    if before == 0:
        return Estimate(None, reason="the risk without the option is 0")
    parts = _parts(without, with_option)
    if parts is None or after == 0:
        return Estimate(after / before, reason="a risk of 0, or one without an interval, gives a ratio none")
    (p1, l1, u1), (p2, l2, u2) = parts
    log = math.log(p2 / p1)
    low = log - math.hypot(math.log(u1 / p1), math.inf if l2 == 0 else math.log(p2 / l2))
    high = log + math.hypot(math.inf if l1 == 0 else math.log(p1 / l1), math.log(u2 / p2))
    return Estimate(p2 / p1, math.exp(low), None if math.isinf(high) else math.exp(high))


def _ratio_of_reduction(before: float, after: float, reduction: Estimate) -> Estimate:
    """The ratio whose interval leaves out 1 exactly where the reduction's leaves out 0; the risk without is fixed."""
    if before == 0:
        return Estimate(None, reason="the risk without the option is 0")
    if reduction.low is None or reduction.high is None:
        return Estimate(after / before)
    return Estimate(after / before, max(0.0, 1 - reduction.high / before), max(0.0, 1 - reduction.low / before))


def _parts(*risks: Estimate) -> list[tuple[float, float, float]] | None:
    """Value and limits of each risk; None where one has no interval."""
    whole = [
        (r.value, r.low, r.high) for r in risks if r.value is not None and r.low is not None and r.high is not None
    ]
    return whole if len(whole) == len(risks) else None
