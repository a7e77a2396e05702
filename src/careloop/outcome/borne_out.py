"""Are predictions borne out, not borne out, or can it not be told yet, and how many patients that still takes.

A figure is borne out when its whole interval lies within a margin that would not matter to care, not borne out when its
interval excludes the ideal and reaches beyond the margin, and cannot be told otherwise. The patients needed are those
with whom the interval, about the ideal and about today's value, would be narrow enough to tell.

Sources: Riley, Debray, Collins et al., Stat Med 2021;40:4230 (precision of observed : expected and of the calibration
slope, section 3); Archer et al., Stat Med 2021;40:133. The three-way reading is an equivalence test (Schuirmann 1987).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from careloop import InputError
from careloop.evaluate import Estimate, Outcomes
from careloop.evaluate.calibration import expit, logit
from careloop.evaluate.censoring import HorizonWeights, identified
from careloop.outcome.accuracy import PredictionVerdict

Answer = Literal["borne out", "not borne out", "cannot tell yet"]
NORMAL_95 = 1.959963984540054
# Observed : expected within a fifth: for ten expected outcomes, eight to twelve and a half.
RATIO_MARGIN = 1.25
# Riley's interval of the slope is 0.4 wide.
SLOPE_MARGIN = 0.2
LEVEL_EDGES = (1 / RATIO_MARGIN, RATIO_MARGIN)
SPREAD_EDGES = (1 - SLOPE_MARGIN, 1 + SLOPE_MARGIN)


@dataclass(frozen=True)
class Needed:
    """Patients for one figure: `in_all` followed to the horizon, and `margin` in words."""

    figure: str
    margin: str
    in_all: int


@dataclass(frozen=True)
class BorneOut:
    """The answer for one model, for each figure, and what is still needed.

    `level` is about observed : expected, `spread` about the calibration slope; `answer` is not borne out if either is
    not, borne out if both are. `still_needed` patients (`events_needed` with the outcome among them), 0 once told.
    """

    model: str
    model_version: str
    answer: Answer
    level: Answer
    spread: Answer
    needed: tuple[Needed, ...]
    still_needed: int
    events_needed: int
    words: str


def judge_borne_out(verdict: PredictionVerdict, probability: np.ndarray, outcomes: Outcomes) -> BorneOut:
    """The answer on one model from its verdict, its probabilities (n,) and outcomes."""
    level, spread = answer(verdict.observed_expected, *LEVEL_EDGES), answer(verdict.slope, *SPREAD_EDGES)
    both = (level, spread)
    told: Answer = "not borne out" if "not borne out" in both else "borne out"
    if told == "borne out" and "cannot tell yet" in both:
        told = "cannot tell yet"
    needed = patients_needed(probability)
    still = 0
    if told == "cannot tell yet":
        worth = _rows_for_one(outcomes)
        in_all = [n.in_all * worth for n in needed]
        if level == "cannot tell yet":
            in_all.append(_to_be_told(verdict.observed_expected, LEVEL_EDGES, len(outcomes)))
        if spread == "cannot tell yet":
            in_all.append(_to_be_told(verdict.slope, SPREAD_EDGES, len(outcomes)))
        still = max(math.ceil(max(in_all)) - len(outcomes), 1)
    events = math.ceil(still * float(probability.mean()))
    names = (verdict.model, verdict.model_version)
    found = BorneOut(*names, told, level, spread, needed, still, events, "")
    return replace(found, words=_words(found, verdict, outcomes.horizon_days))


def answer(estimate: Estimate, low: float, high: float) -> Answer:
    """Of a figure whose ideal is 1 and that may lie between `low` and `high`."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return "cannot tell yet"
    if low <= estimate.low and estimate.high <= high:
        return "borne out"
    return "not borne out" if estimate.low > 1 or estimate.high < 1 else "cannot tell yet"


def patients_needed(
    probability: np.ndarray, *, ratio_margin: float = RATIO_MARGIN, slope_margin: float = SLOPE_MARGIN
) -> tuple[Needed, ...]:
    """Patients, followed to the horizon, for both figures if predicted risks (n,) are right, by Riley's formulas.

    Raises InputError for margins that leave no room.
    """
    if ratio_margin <= 1 or slope_margin <= 0:
        raise InputError(
            f"a margin must leave room about 1: got factor {ratio_margin:g} and half-width {slope_margin:g}; "
            "give a factor above 1 and a half-width above 0"
        )
    prevalence = float(probability.mean())
    error = math.log(ratio_margin) / NORMAL_95
    ratio = math.ceil((1 - prevalence) / (prevalence * error**2))
    needed = [Needed("observed_expected", f"within {1 / ratio_margin:.2g} and {ratio_margin:.3g}", ratio)]
    score = logit(probability)
    risk = expit(score)
    information = risk * (1 - risk)
    a, b, c = (float((information * score**power).mean()) for power in (0, 1, 2))
    if a * c - b**2 > 1e-12:  # equal risks have no slope
        slope = math.ceil(a / ((slope_margin / NORMAL_95) ** 2 * (a * c - b**2)))
        needed.append(Needed("slope", f"within {1 - slope_margin:g} and {1 + slope_margin:g}", slope))
    return tuple(needed)


def _to_be_told(estimate: Estimate, edges: tuple[float, float], n: int) -> float:
    """Rows with which an interval about today's value would keep the margin or exclude 1, whichever needs fewer."""
    if estimate.value is None or estimate.low is None or estimate.high is None or estimate.value <= 0:
        return 0.0
    low, value, high = (math.log(max(v, 1e-3)) for v in (estimate.low, estimate.value, estimate.high))
    inside = min(value - math.log(edges[0]), math.log(edges[1]) - value)
    return n * ((high - low) / 2 / max(abs(value), inside)) ** 2


def _rows_for_one(outcomes: Outcomes) -> float:
    """Rows that carry as much as one followed to the horizon: more than 1 where patients are lost (Kish 1965)."""
    ones = np.ones((1, len(outcomes)))
    weight = HorizonWeights.of(outcomes)(ones)
    if not identified(ones, weight)[0]:
        return 1.0
    return float(len(outcomes) * (weight**2).sum() / weight.sum() ** 2)


def _words(found: BorneOut, verdict: PredictionVerdict, horizon_days: float) -> str:
    name = f"{verdict.model} ({verdict.model_version})" if verdict.model_version else verdict.model
    on = f"on {verdict.patients} patients, {verdict.events} with the outcome"
    if found.answer == "borne out":
        return (
            f"{name}: the predicted risks are borne out {on}: as many outcomes as predicted to within a fifth, and as "
            "far apart between low and high risk as predicted."
        )
    if found.answer == "not borne out":
        wrong = [_level_words(verdict)] if found.level == "not borne out" else []
        wrong += [_spread_words(verdict)] if found.spread == "not borne out" else []
        return f"{name}: the predicted risks are not borne out {on}: {'; '.join(wrong)}."
    margins = " and ".join(f"{_figure(n.figure)} {n.margin}" for n in found.needed)
    return (
        f"{name}: it cannot be told yet {on} whether the predicted risks are right; about {found.still_needed} more "
        f"patients followed for {horizon_days:g} days, about {found.events_needed} of them with the outcome, are "
        f"needed for intervals that keep {margins}."
    )


def _figure(name: str) -> str:
    return "observed : expected" if name == "observed_expected" else "the calibration slope"


def _level_words(verdict: PredictionVerdict) -> str:
    ratio = verdict.observed_expected
    assert ratio.value is not None
    word = "more" if ratio.value > 1 else "fewer"
    return (
        f"there were {word} outcomes than predicted ({ratio.value:.2f} for each one predicted, "
        f"{ratio.low:.2f} to {ratio.high:.2f})"
    )


def _spread_words(verdict: PredictionVerdict) -> str:
    slope = verdict.slope
    assert slope.value is not None
    word = "less" if slope.value < 1 else "more"
    return (
        f"risks differed {word} between patients than predicted (calibration slope {slope.value:.2f}, "
        f"{slope.low:.2f} to {slope.high:.2f})"
    )
