"""Survival figures: Harrell's and Uno's C, Brier score over time and its integral, incidence by risk group.

With competing events the outcome's cumulative incidence is what is predicted: who had a competing event can no longer
have the outcome, so such rows stay comparable for ever (Wolbers et al., Epidemiology 2009;20:555; Biostatistics
2014;15:526). Without competing events the figures are the usual ones: Harrell et al., Stat Med 1996;15:361; Uno et al.,
Stat Med 2011;30:1105; Graf et al., Stat Med 1999;18:2529.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from careloop import InputError
from careloop.evaluate.censoring import COMPETING, OUTCOME, CensoringCurve, HorizonWeights, Outcomes, checked_follow_up
from careloop.evaluate.discrimination import Ranking, auroc
from careloop.evaluate.estimate import Band, Estimate, Statistic, Support, band, draw_counts, estimate, replicate

RISK_GROUPS = ("lowest third", "middle third", "highest third")
RISK_GROUP_DAYS = 61


@dataclass(frozen=True)
class Survival:
    """How well predicted cumulative incidence follows what happened, each figure with its interval.

    `harrell_c` over all follow-up, `uno_c` before the horizon; `auroc` and `brier` at the horizon; `integrated_brier`
    the mean Brier score between the first and the last of the curve's days that are within the horizon.
    """

    harrell_c: Estimate
    uno_c: Estimate
    auroc: Estimate
    brier: Estimate
    integrated_brier: Estimate
    brier_curve: Band


@dataclass(frozen=True)
class RiskGroup:
    """Rows of similar predicted risk: range of predictions, observed incidence (Aalen-Johansen), rows at risk.

    Incidence is None on days to which nobody of the group is followed.
    """

    name: str
    n: int
    lowest: float
    highest: float
    incidence: Band
    at_risk: tuple[int, ...]


def harrell_c(risk: np.ndarray, follow_up_days: np.ndarray, event: np.ndarray) -> float:
    """Share of comparable pairs in which the row with the earlier outcome has the higher `risk` (ties count half)."""
    follow_up, event = checked_follow_up(follow_up_days, event, horizon_days=np.finfo(float).max)
    pairs, ones = ComparablePairs.of(np.asarray(risk), follow_up, event), np.ones((1, len(event)))
    concordant, comparable = (pairs.longer(ones) + pairs.taken(ones)).sum(axis=(1, 2))
    return float(concordant / comparable) if comparable else float("nan")


def uno_c(risk: np.ndarray, outcomes: Outcomes) -> float:
    """Harrell's C before the horizon, each pair weighted by the inverse probability of being observed."""
    ones = np.ones((1, len(outcomes)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(ConcordanceStatistic.of(np.asarray(risk), outcomes)(ones, ones)["uno_c"][0])


def evaluate_survival(
    incidence: np.ndarray, days: np.ndarray, outcomes: Outcomes, *, resamples: int = 1000, seed: int = 0
) -> Survival:
    """All survival figures of one model.

    `incidence` (n, k) predicted probability of the outcome by each of `days` (k,), increasing (one minus the survival
    function where nothing competes). The predictions at the last day within the horizon rank the rows.
    Raises InputError where shapes differ or fewer than two days lie within the horizon.
    """
    return summarise(survival_replicates(incidence, days, outcomes, resamples=resamples, seed=seed), outcomes)


def summarise(replicates: dict[str, np.ndarray], outcomes: Outcomes) -> Survival:
    """Survival figures of one model from `survival_replicates`."""
    support = Support.of(outcomes)
    names = ("harrell_c", "uno_c", "auroc", "brier", "integrated_brier")
    curve = band(replicates["days"], replicates["brier_curve"], support)
    return Survival(**{name: estimate(replicates[name], support) for name in names}, brier_curve=curve)


def survival_replicates(
    incidence: np.ndarray, days: np.ndarray, outcomes: Outcomes, *, resamples: int, seed: int
) -> dict[str, np.ndarray]:
    """Figures of `Survival` on the rows and on each resample, and the `days` of the curve."""
    incidence, days = np.asarray(incidence, dtype=np.float64), np.asarray(days, dtype=np.float64)
    if incidence.shape != (len(outcomes), len(days)) or (np.diff(days) <= 0).any():
        raise InputError(
            f"incidence must have one row a prediction and one column a day, days increasing: got {incidence.shape} "
            f"for {len(outcomes)} rows and {len(days)} days"
        )
    kept = days <= outcomes.horizon_days
    if kept.sum() < 2:
        raise InputError(f"days needs at least two within the horizon of {outcomes.horizon_days:g}: got {kept.sum()}")
    incidence, days = incidence[:, kept], days[kept]
    statistics: dict[str, Statistic] = {
        "concordance": ConcordanceStatistic.of(incidence[:, -1], outcomes),
        "brier": BrierStatistic.of(incidence, days, outcomes),
    }
    replicates = replicate(outcomes, statistics, resamples=resamples, seed=seed)
    return {**replicates["concordance"], **replicates["brier"], "days": days}


@dataclass(frozen=True, eq=False)
class PrefixRanks:
    """For each query: the weight, among the first rows of an order, of those whose risk is lower (ties count half).

    The first rows of each query are cut into blocks of a power of two, in each of which the rows are sorted by risk
    once; a weighting then costs one cumulative sum a power: O(n log n) instead of the O(n^2) of comparing pairs.
    """

    levels: tuple[tuple[np.ndarray, ...], ...]
    queries: int

    @classmethod
    def of(cls, risk: np.ndarray, prefix: np.ndarray, query_risk: np.ndarray) -> PrefixRanks:
        """`risk` (n,) in the order of the prefixes; `prefix` (q,) how many first rows; `query_risk` (q,)."""
        values = np.unique(np.concatenate([risk, query_risk]))
        rank, query_rank = np.searchsorted(values, risk), np.searchsorted(values, query_risk)
        levels = []
        for level in range(len(risk).bit_length()):
            asked = np.flatnonzero(prefix >> level & 1)
            if not len(asked):
                continue
            block = np.arange(len(risk)) >> level
            key = block * len(values) + rank
            order = np.argsort(key, kind="stable")
            wanted = (prefix[asked] >> (level + 1)) * 2 * len(values)
            lower, upper = (np.searchsorted(key[order], wanted + query_rank[asked], side=s) for s in ("left", "right"))
            levels.append((asked, order, np.searchsorted(key[order], wanted), lower, upper))
        return cls(tuple(levels), len(prefix))

    def __call__(self, weight: np.ndarray) -> np.ndarray:
        """(b, q) for weights (b, n) in the order of the prefixes."""
        lower_risk = np.zeros((len(weight), self.queries))
        for asked, order, first, lower, upper in self.levels:
            summed = _from_zero(np.take(weight, order, axis=1))
            lower_risk[:, asked] += (summed[:, lower] + summed[:, upper]) / 2 - summed[:, first]
        return lower_risk


@dataclass(frozen=True, eq=False)
class ComparablePairs:
    """Rows that can be compared with each outcome: those followed for longer, and those a competing event took earlier.

    `events` (q,) rows with the outcome; `by_time` and `competing` the rows in the orders of their prefixes.
    """

    events: np.ndarray
    by_time: np.ndarray
    later_count: np.ndarray
    later: PrefixRanks
    competing: np.ndarray
    earlier_count: np.ndarray
    earlier: PrefixRanks

    @classmethod
    def of(cls, risk: np.ndarray, days: np.ndarray, event: np.ndarray) -> ComparablePairs:
        """Find each outcome's comparable rows."""
        events = np.flatnonzero(event == OUTCOME)
        # Latest first; at equal days censored and competing rows come before outcomes, which they outlast.
        by_time = np.lexsort((event == OUTCOME, -days))
        later_count = np.searchsorted(-days[by_time], -days[events], side="left")
        tied = np.flatnonzero(event != OUTCOME)
        order = np.sort(days[tied])
        later_count += np.searchsorted(order, days[events], "right") - np.searchsorted(order, days[events], "left")
        competing = np.flatnonzero(event == COMPETING)
        competing = competing[np.argsort(days[competing], kind="stable")]
        earlier_count = np.searchsorted(days[competing], days[events], side="left")
        return cls(
            events,
            by_time,
            later_count,
            PrefixRanks.of(risk[by_time], later_count, risk[events]),
            competing,
            earlier_count,
            PrefixRanks.of(risk[competing], earlier_count, risk[events]),
        )

    def longer(self, count: np.ndarray) -> np.ndarray:
        """(2, b, q): of the rows followed for longer, those of lower risk, and all."""
        weight = np.take(count, self.by_time, axis=1)
        return np.stack([self.later(weight), _from_zero(weight)[:, self.later_count]])

    def taken(self, weight: np.ndarray) -> np.ndarray:
        """(2, b, q): of the rows taken earlier by a competing event, those of lower risk, and all."""
        weight = weight[:, self.competing]
        return np.stack([self.earlier(weight), _from_zero(weight)[:, self.earlier_count]])


def _from_zero(weight: np.ndarray) -> np.ndarray:
    """(b, n + 1) cumulative sums, the first of none."""
    summed = np.zeros((len(weight), weight.shape[1] + 1))
    np.cumsum(weight, axis=1, out=summed[:, 1:])
    return summed


@dataclass(frozen=True, eq=False)
class ConcordanceStatistic:
    """Harrell's C, Uno's C before the horizon, and the AUROC at the horizon, for counts and weights (b, n)."""

    pairs: ComparablePairs
    ranking: Ranking
    curve: CensoringCurve
    column: np.ndarray
    before_horizon: np.ndarray

    @classmethod
    def of(cls, risk: np.ndarray, outcomes: Outcomes) -> ConcordanceStatistic:
        """Prepare pairs and the censoring curve."""
        days, event = outcomes.follow_up_days, outcomes.event
        curve = CensoringCurve.of(days, event)
        pairs, ranking = ComparablePairs.of(risk, days, event), Ranking.of(risk, outcomes.label)
        return cls(pairs, ranking, curve, curve.position(days), days[pairs.events] < outcomes.horizon_days)

    def __call__(self, count: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
        """(b,) each."""
        free = np.take(self.curve.uncensored(count), self.column, axis=1)
        inverse = 1 / np.where(free > 0, free, 1.0)
        copies, mine = count[:, self.pairs.events], inverse[:, self.pairs.events]
        longer = self.pairs.longer(count)
        harrell = (copies * (longer + self.pairs.taken(count))).sum(axis=2)
        # A pair is seen if both rows are: until this outcome, or the one of them until its earlier competing event.
        uno = (copies * mine * self.before_horizon * (mine * longer + self.pairs.taken(count * inverse))).sum(axis=2)
        return {
            "harrell_c": harrell[0] / harrell[1],
            "uno_c": uno[0] / uno[1],
            "auroc": auroc(*self.ranking.above(weight)),
        }


@dataclass(frozen=True, eq=False)
class BrierStatistic:
    """Brier score by day and integrated, for counts (b, n): squared errors once, weights per resample.

    `settled` (n, k) squared error of rows whose fate was settled by the day; `followed` (n, k) of rows still followed.
    """

    days: np.ndarray
    settled: np.ndarray
    followed: np.ndarray
    curve: CensoringCurve
    column: np.ndarray

    @classmethod
    def of(cls, incidence: np.ndarray, days: np.ndarray, outcomes: Outcomes) -> BrierStatistic:
        """Prepare squared errors. A row censored on a day itself is still followed on it."""
        last, event = outcomes.follow_up_days[:, None], outcomes.event[:, None]
        settled = (last <= days) & (event != 0)
        followed = (last >= days) & ~settled
        error = (incidence - (settled & (event == OUTCOME))) ** 2
        curve = CensoringCurve.of(outcomes.follow_up_days, outcomes.event)
        return cls(days, settled * error, followed * error, curve, curve.position(outcomes.follow_up_days))

    def __call__(self, count: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
        """Brier score at the last day and integrated (b,), and by day (b, k)."""
        free = self.curve.uncensored(count)
        own, at_day = free[:, self.column], free[:, self.curve.position(self.days)]
        total = (count / np.where(own > 0, own, 1.0)) @ self.settled + count @ self.followed / at_day
        score = total / count.sum(axis=1, keepdims=True)
        # Where nobody can still be followed the score is unknown, not zero.
        score = np.where(at_day > 0, score, np.nan)
        area = ((score[:, 1:] + score[:, :-1]) / 2 * np.diff(self.days)).sum(axis=1)
        span = self.days[-1] - self.days[0]
        return {"brier": score[:, -1], "integrated_brier": area / span, "brier_curve": score}


def risk_groups(
    probability: np.ndarray, outcomes: Outcomes, *, resamples: int = 1000, seed: int = 0
) -> tuple[RiskGroup, ...]:
    """Observed incidence up to the horizon among thirds of predicted risk, with censoring and competing events."""
    borders = np.unique(np.quantile(probability, np.linspace(0, 1, len(RISK_GROUPS) + 1)[1:-1]))
    place = np.searchsorted(borders, probability, side="left")
    found = np.unique(place)
    # Equal predictions stay together, so there may be fewer groups than thirds.
    names = (
        RISK_GROUPS if len(found) == len(RISK_GROUPS) else [f"group {i + 1} of {len(found)}" for i in range(len(found))]
    )
    return tuple(
        risk_group(name, probability[place == group], outcomes.take(place == group), resamples=resamples, seed=seed)
        for name, group in zip(names, found, strict=True)
    )


def risk_group(name: str, probability: np.ndarray, outcomes: Outcomes, *, resamples: int, seed: int) -> RiskGroup:
    """Incidence as the weighted share of outcomes by each day, which is the Aalen-Johansen estimate."""
    days = np.linspace(0, outcomes.horizon_days, RISK_GROUP_DAYS)
    followed = outcomes.follow_up_days[:, None]
    happened = ((outcomes.event[:, None] == OUTCOME) & (followed <= days)).astype(np.float64)
    weights = HorizonWeights.of(outcomes)
    draws = draw_counts(outcomes.subject_id, resamples=resamples, seed=seed)
    shares = np.concatenate([weights(count) @ happened / count.sum(axis=1, keepdims=True) for count in draws])
    at_risk = (followed >= days).sum(axis=0)
    shares[:, at_risk == 0] = np.nan
    incidence = band(days, shares, Support.of(outcomes))
    lowest, highest = float(probability.min()), float(probability.max())
    return RiskGroup(name, len(outcomes), lowest, highest, incidence, tuple(at_risk.tolist()))
