"""One figure in a group of patients and in the others: how large a gap matters, and the sentence about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from careloop.evaluate.estimate import Estimate

# A smaller gap is no reason to act, however sure: 1 patient in 20 decided otherwise; an AUROC that changes from, say,
# 0.75 to 0.70; risks that are off by a fifth (0.2 in log-odds: 22 % in odds) more than in the others.
MARGINS = {
    "auroc": 0.05,
    "recall": 0.05,
    "false_positive_rate": 0.05,
    "precision": 0.05,
    "called_positive": 0.05,
    "intercept": 0.2,
    "observed_expected": 0.2,
}
FOLLOW_PREVALENCE = ("precision", "called_positive")


@dataclass(frozen=True)
class Side:
    """One side of a comparison: its name in a sentence, rows, outcomes within the horizon, and how common they are."""

    name: str
    n: int
    events: int
    prevalence: float | None


@dataclass(frozen=True)
class Gap:
    """One figure in a group and in the others; `difference` is group - others, paired by resample.

    `p` is two-sided, from the bootstrap's standard error; `adjusted_p` is Holm's over the comparisons of the figure.
    Both are None without an interval. `flagged`: the interval excludes zero, `adjusted_p` is at most 0.05, and the
    difference is larger than `margin`. `words` says it in a sentence.
    """

    variable: str
    group: str
    figure: str
    first: Side
    others: Side
    value: float | None
    others_value: float | None
    difference: Estimate
    margin: float
    p: float | None
    adjusted_p: float | None
    flagged: bool
    words: str


def sentence(gap: Gap) -> str:
    """`Among patients with SEX female the model finds 61 % of the outcomes, among the others 74 %; difference ...`."""
    if gap.value is None or gap.others_value is None:
        return f"{gap.first.name}, {gap.figure.replace('_', ' ')}: {gap.difference.reason}."
    form, told = WORDS[gap.figure]
    low, middle, high = (_signed(v, form) for v in (gap.difference.low, gap.difference.value, gap.difference.high))
    middle += " points" if form is _percent else ""
    interval = f"({low} to {high})" if gap.difference.low is not None else f"(no interval: {gap.difference.reason})"
    return (
        f"Among {gap.first.name} {told.format(form(gap.value))}, among {gap.others.name} {form(gap.others_value)}; "
        f"difference {middle} {interval}{_how_common(gap)}."
    )


def _how_common(gap: Gap) -> str:
    """How common the outcome is on both sides, for figures that should follow it."""
    if gap.figure not in FOLLOW_PREVALENCE or gap.first.prevalence is None or gap.others.prevalence is None:
        return ""
    return f"; the outcome itself: {_percent(gap.first.prevalence)} and {_percent(gap.others.prevalence)}"


def _percent(share: float) -> str:
    return f"{share:.0%}".replace("%", " %")


def _plain(value: float) -> str:
    return f"{value:.2f}"


def _signed(value: float | None, form: Callable[[float], str]) -> str:
    """A difference with its sign, shares in percentage points."""
    if value is None:
        return "not estimable"
    return f"{round(100 * value):+d}" if form is _percent else f"{round(value, 2) + 0.0:+.2f}"


WORDS: dict[str, tuple[Callable[[float], str], str]] = {
    "auroc": (_plain, "the model ranks patients with an AUROC of {}"),
    "recall": (_percent, "the model finds {} of the outcomes"),
    "false_positive_rate": (_percent, "the model falsely calls positive {} of those without the outcome"),
    "precision": (_percent, "of those called positive {} have the outcome"),
    "called_positive": (_percent, "the model calls positive {}"),
    "intercept": (_plain, "the calibration intercept (above 0: risks are too low) is {}"),
    "observed_expected": (_plain, "outcomes that happen for each one that the model expects are {}"),
}
