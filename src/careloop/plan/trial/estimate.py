"""What each strategy would have led to: risks and contrasts by clone-censor-weight, with naive analyses beside.

Weighted events over weighted time at risk are the hazards of an interval; risks (with competing events,
Aalen-Johansen) and the restricted mean event-free time follow from them, and the marginal hazard ratio is that of a
weighted pooled regression on strategy and interval (Hernan, Brumback & Robins 2000, Epidemiology 11:561). Intervals are
percentiles of a bootstrap by subject in which the weights' models move too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from careloop.evaluate import Band, Estimate
from careloop.evaluate.estimate import FEWEST_FOR_INTERVAL, MOST_UNDEFINED, PERCENTILES, draw_counts
from careloop.plan.effect.goals import Array
from careloop.plan.trial.clones import COMPETING, OUTCOME, as_treated, clone, flow_of
from careloop.plan.trial.definition import TrialSection
from careloop.plan.trial.emulate import Grid, TrialData
from careloop.plan.trial.hazards import Covariates, HazardModels, fit_hazards
from careloop.plan.trial.result import (
    ANALYSES,
    AS_TREATED,
    EMULATED,
    Analysis,
    Following,
    StrategyEstimate,
    TrialContrast,
    TrialResult,
    trial_in_words,
)
from careloop.plan.trial.weights import (
    CloneWeights,
    Course,
    balance_over_time,
    followers,
    plain_weights,
    raw_weights,
    stabilised,
    weight_cap,
)

NEWTON_STEPS = 30


def estimate_trial(data: TrialData, section: TrialSection) -> TrialResult:
    """Estimate every strategy's risk and event-free time, and contrasts with the reference.

    A strategy that nobody follows, or whose followers' effective sample size is under the section's minimum, has no
    estimate, and a reason.
    """
    covariates = Covariates.of(data)
    courses = tuple(Course.of(clones, data.grid) for clones in clone(data, section))
    grouped = tuple(Course.of(clones, data.grid) for clones in as_treated(data, section))
    models = fit_hazards(data, section, covariates, kind="over_time")
    first_only = fit_hazards(data, section, covariates, kind="baseline")
    following = _following(courses, models, section)
    ways = {
        EMULATED: Way(courses, _weighed(courses, models, section)),
        "baseline weights": Way(courses, _weighed(courses, first_only, section)),
        "unweighted clones": Way(courses, lambda _: [plain_weights(course) for course in courses]),
        AS_TREATED: Way(grouped, lambda _: [plain_weights(course) for course in grouped]),
    }
    sums = _resampled(ways, data, section)
    analyses = {
        name: _analysis(name, sums[name], section, data.grid, gaps=_gaps(way.courses, following))
        for name, way in ways.items()
    }
    hazards = models.hazards(np.ones(len(data)))
    result = TrialResult(
        section=section,
        horizon_days=data.grid.horizon_days,
        rows=len(data),
        subjects=len(np.unique(data.subjects)),
        prevalent=data.prevalent,
        reference=section.reference_name,
        flow=tuple(flow_of(course.clones, data) for course in courses),
        following=following,
        models=tuple(model.summary for model in models.models),
        balance=balance_over_time(courses, tuple(raw_weights(course, hazards)[1] for course in courses), covariates),
        emulated=analyses.pop(EMULATED),
        naive=tuple(analyses.values()),
        words=(),
    )
    return replace(result, words=trial_in_words(result))


@dataclass(frozen=True, eq=False)
class Way:
    """One way to analyse: whom to follow how long, and their weights in a resample given as counts (n,)."""

    courses: Sequence[Course]
    weights: Callable[[Array], list[CloneWeights]]


def _resampled(ways: Mapping[str, Way], data: TrialData, section: TrialSection) -> dict[str, Array]:
    """Weighted events and time at risk (b, A, 3, K) by each way; the first is the sample, the others are resamples."""
    sums: dict[str, list[Array]] = {name: [] for name in ways}
    for block in draw_counts(data.subjects, resamples=section.resamples, seed=section.seed):
        for counts in block:
            for name, way in ways.items():
                sums[name].append(_events_and_time(way.courses, way.weights(counts), counts))
    return {name: np.stack(found) for name, found in sums.items()}


def _weighed(
    courses: Sequence[Course], models: HazardModels, section: TrialSection
) -> Callable[[Array], list[CloneWeights]]:
    """Weights of every strategy in a resample; they are cut where the whole sample's are."""
    ones = np.ones(models.shape[0])
    whole = models.hazards(ones)
    caps = [weight_cap(course, raw_weights(course, whole)[0], section.weight_quantile)[0] for course in courses]

    def weights(counts: Array) -> list[CloneWeights]:
        hazards = models.hazards(counts)
        return [
            stabilised(course, raw_weights(course, hazards)[0], counts, cap=cap)
            for course, cap in zip(courses, caps, strict=True)
        ]

    return weights


def _following(courses: Sequence[Course], models: HazardModels, section: TrialSection) -> tuple[Following, ...]:
    ones = np.ones(models.shape[0])
    hazards = models.hazards(ones)
    found = []
    for course in courses:
        raw, _ = raw_weights(course, hazards)
        cap, largest = weight_cap(course, raw, section.weight_quantile)
        count, effective = followers(course, stabilised(course, raw, ones, cap=cap))
        reason = ""
        if not count:
            reason = "nobody follows it to the outcome or the horizon"
        elif effective < section.minimum_effective_sample:
            reason = (
                f"its followers count as only {effective:.0f} after weighting (floor "
                f"{section.minimum_effective_sample:g})"
            )
        name, strategy = course.clones.name, course.clones.strategy
        limit = cap if np.isfinite(cap) else None
        found.append(Following(name, strategy.words, count, effective, largest, limit, not reason, reason))
    return tuple(found)


def _events_and_time(courses: Sequence[Course], weights: Sequence[CloneWeights], counts: Array) -> Array:
    """Weighted outcomes, competing events and time at risk (A, 3, K) of each strategy in each interval."""
    rows = []
    for course, weight in zip(courses, weights, strict=True):
        ends, intervals = counts * weight.at_end * course.clones.member, len(course.grid)
        happened = [
            np.bincount(course.end_interval, weights=ends * (course.clones.status == status), minlength=intervals)
            for status in (OUTCOME, COMPETING)
        ]
        rows.append(np.stack([*happened, counts @ weight.exposure]))
    return np.stack(rows)


@dataclass(frozen=True, eq=False)
class Curves:
    """Replicates (b, A, .): risk at each interval's end (K), and restricted mean event-free days."""

    risk: Array
    event_free_days: Array


def curves_of(sums: Array, grid: Grid) -> Curves:
    """Risks and event-free time from events and time at risk (b, A, 3, K), the hazards being constant in an interval.

    NaN from the first interval on in which nobody is at risk.
    """
    outcome, competing, time = sums[:, :, 0], sums[:, :, 1], sums[:, :, 2]
    with np.errstate(invalid="ignore", divide="ignore"):
        total = (outcome + competing) / time * grid.lengths
        share = np.where(outcome > 0, outcome / (outcome + competing), 0.0)
        kept = np.exp(-total)
        free = np.cumprod(kept, axis=-1) / kept
        risk = np.cumsum(free * share * -np.expm1(-total), axis=-1)
        lived = np.where(total > 0, -np.expm1(-total) / np.where(total > 0, total, 1.0), total + 1.0)
    return Curves(risk, grid.interval_days * (free * lived * grid.lengths).sum(axis=-1))


def log_hazard_ratio(sums: Array, a: int, b: int) -> Array:
    """Log hazard ratio (b,) of strategy a to b, from events and time at risk (b, A, 3, K).

    The score equation of the pooled regression, profiled over the intervals' hazards; NaN where either has no events.
    """
    events, time = sums[:, [a, b], 0], sums[:, [a, b], 2]
    both = events.sum(axis=1)
    value = np.zeros(len(sums))
    with np.errstate(invalid="ignore", divide="ignore"):
        for _ in range(NEWTON_STEPS):
            first = time[:, 0] * np.exp(value)[:, None]
            share = np.nan_to_num(first / (first + time[:, 1]))
            score = (events[:, 0] - both * share).sum(axis=1)
            curvature = (both * share * (1 - share)).sum(axis=1)
            value = value + np.clip(np.nan_to_num(score / curvature), -1.0, 1.0)
    return np.where((events.sum(axis=2) > 0).all(axis=1), value, np.nan)


@dataclass(frozen=True)
class Gap:
    """Why a strategy's estimates lack their interval, or (`withheld`) are not given at all; no reason: they do not."""

    reason: str
    withheld: bool


def _gaps(courses: Sequence[Course], following: Sequence[Following]) -> list[Gap]:
    gaps = []
    for course, followed in zip(courses, following, strict=True):
        events = int((course.clones.member & (course.clones.status == OUTCOME)).sum())
        few = f"{events} outcomes: an interval needs {FEWEST_FOR_INTERVAL}" if events < FEWEST_FOR_INTERVAL else ""
        gaps.append(Gap(followed.reason or few, not followed.usable))
    return gaps


def _analysis(name: str, sums: Array, section: TrialSection, grid: Grid, *, gaps: Sequence[Gap]) -> Analysis:
    """Estimates from replicates of events and time at risk (b, A, 3, K), the first being the sample itself."""
    curves, names = curves_of(sums, grid), list(section.strategies)
    r = names.index(section.reference_name)
    strategies = tuple(
        StrategyEstimate(
            strategy=each,
            risk=_estimate(curves.risk[:, a, -1], {each: gaps[a]}),
            event_free_days=_estimate(curves.event_free_days[:, a], {each: gaps[a]}),
            curve=_curve(curves.risk[:, a], grid, {each: gaps[a]}),
        )
        for a, each in enumerate(names)
    )
    contrasts = tuple(
        _contrast(sums, curves, (a, r), {names[a]: gaps[a], names[r]: gaps[r]}) for a in range(len(names)) if a != r
    )
    return Analysis(name, ANALYSES[name], strategies, contrasts)


def _contrast(sums: Array, curves: Curves, pair: tuple[int, int], gaps: Mapping[str, Gap]) -> TrialContrast:
    """Strategy pair[0] against pair[1]; `gaps` has both their names, in this order."""
    risk, versus = (curves.risk[:, a, -1] for a in pair)
    days, days_versus = (curves.event_free_days[:, a] for a in pair)
    ratio = np.divide(risk, versus, out=np.full_like(risk, np.nan), where=versus > 0)
    strategy, reference = gaps
    return TrialContrast(
        strategy=strategy,
        versus=reference,
        risk_difference=_estimate(risk - versus, gaps),
        risk_ratio=_estimate(ratio, gaps),
        event_free_days_gained=_estimate(days - days_versus, gaps),
        hazard_ratio=_estimate(np.exp(log_hazard_ratio(sums, *pair)), gaps),
    )


def _curve(risk: Array, grid: Grid, gaps: Mapping[str, Gap]) -> Band:
    """Risk at time zero and at each interval's end, from replicates (b, K)."""
    days = [0.0, *(grid.starts + grid.lengths * grid.interval_days).tolist()]
    points = [_estimate(column, gaps) for column in np.hstack([np.zeros((len(risk), 1)), risk]).T]
    return Band(
        tuple(days), tuple(p.value for p in points), tuple(p.low for p in points), tuple(p.high for p in points)
    )


def _estimate(replicates: Array, gaps: Mapping[str, Gap]) -> Estimate:
    """Value (first replicate) and percentile interval (the others); without the interval, or both, for a reason."""
    value, resampled = float(replicates[0]), replicates[1:]
    reason = "; ".join(f"{name}: {gap.reason}" for name, gap in gaps.items() if gap.reason) or None
    if any(gap.withheld for gap in gaps.values()):
        return Estimate(None, reason=reason)
    if not np.isfinite(value):
        return Estimate(None, reason="nobody is at risk until the horizon, or nobody has the outcome")
    if reason:
        return Estimate(value, reason=reason)
    defined = resampled[np.isfinite(resampled)]
    if len(defined) < (1 - MOST_UNDEFINED) * len(resampled):
        return Estimate(value, reason=f"not defined in {1 - len(defined) / len(resampled):.0%} of the resamples")
    low, high = np.percentile(defined, PERCENTILES)
    return Estimate(value, float(low), float(high))
