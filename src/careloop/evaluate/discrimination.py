"""How well a probability separates, and what acting above a threshold gains: AUROC, AUPRC, recall, net benefit.

All of it follows from counting, with weights, the events and event-free rows at or above each value, so rows are sorted
once and a resample is one cumulative sum. With no censoring every figure equals scikit-learn's.

Sources: Blanche, Dartigues and Jacqmin-Gadda, Stat Med 2013;32:5381 (IPCW AUROC, competing events as controls);
Davis and Goadrich, ICML 2006 (AUPRC by steps); Vickers and Elkin, Med Decis Making 2006;26:565 (net benefit);
Vickers et al., BMC Med Inform Decis Mak 2008;8:53 (net benefit under censoring and competing events).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from careloop import InputError
from careloop.evaluate.censoring import HorizonWeights, Outcomes

# Points kept of a ROC or PR curve: enough for a page-wide plot.
CURVE_POINTS = 201
NET_BENEFIT_THRESHOLDS = np.round(np.arange(0.01, 1.0, 0.01), 2)


@dataclass(frozen=True)
class Threshold:
    """A probability from which rows are called positive, and how it was chosen, in words."""

    value: float
    rule: str

    def __post_init__(self) -> None:
        if not 0 < self.value < 1:
            raise InputError(f"a decision threshold must lie between 0 and 1, both excluded: got {self.value}")


@dataclass(frozen=True)
class Points:
    """Points of a curve in the plane, with the threshold that gives each."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    threshold: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Rows sorted by falling probability, ready to be counted under any weights. Build with `Ranking.of`.

    `order` (n,); `ends` (g,) last sorted row of each group of equal probabilities; `value` (g,) those probabilities;
    `label` (n,) float, sorted.
    """

    order: np.ndarray
    ends: np.ndarray
    value: np.ndarray
    label: np.ndarray

    @classmethod
    def of(cls, probability: np.ndarray, label: np.ndarray) -> Ranking:
        """Sort rows."""
        order = np.argsort(-probability, kind="stable")
        ranked = probability[order]
        ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
        return cls(order, ends, ranked[ends], label[order].astype(np.float64))

    def above(self, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weighted events and event-free rows at or above each of `value`, (b, g + 1); column 0 is none of them."""
        ranked = np.take(weight, self.order, axis=1)
        events = np.cumsum(ranked * self.label, axis=1)[:, self.ends]
        others = np.cumsum(ranked * (1 - self.label), axis=1)[:, self.ends]
        none = np.zeros((len(weight), 1))
        return np.hstack([none, events]), np.hstack([none, others])

    def column(self, threshold: np.ndarray | float) -> np.ndarray:
        """Columns of `above` that count the rows with probability >= threshold."""
        return np.searchsorted(-self.value, -np.asarray(threshold), side="right")


def auroc(events: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(b,) area under the ROC curve from `Ranking.above`, ties counting half."""
    middle = (events[:, 1:] + events[:, :-1]) / 2
    return (np.diff(others, axis=1) * middle).sum(axis=1) / (events[:, -1] * others[:, -1])


def auprc(events: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(b,) area under the precision-recall curve by steps (average precision) from `Ranking.above`."""
    called = events[:, 1:] + others[:, 1:]
    precision = np.divide(events[:, 1:], called, out=np.zeros_like(called), where=called != 0)
    return (np.diff(events, axis=1) * precision).sum(axis=1) / events[:, -1]


def decisions(
    true_positive: np.ndarray, false_positive: np.ndarray, events: np.ndarray, others: np.ndarray
) -> dict[str, np.ndarray]:
    """Figures of calling rows positive, from weighted counts of any one shape."""
    total, called = events + others, true_positive + false_positive
    return {
        "accuracy": (true_positive + others - false_positive) / total,
        "recall": true_positive / events,
        "specificity": 1 - false_positive / others,
        "precision": true_positive / called,
        "negative_predictive_value": (others - false_positive) / (total - called),
        "f1": 2 * true_positive / (called + events),
        "called_positive": called / total,
    }


def net_benefit(
    true_positive: np.ndarray, false_positive: np.ndarray, total: np.ndarray, threshold: np.ndarray | float
) -> np.ndarray:
    """True positives less false positives at the threshold's odds, per row."""
    odds = np.asarray(threshold) / (1 - np.asarray(threshold))
    return (true_positive - false_positive * odds) / total


@dataclass(frozen=True, eq=False)
class DiscriminationStatistic:
    """The statistic of this file for one model: call it with counts and weights (b, n)."""

    ranking: Ranking
    threshold: float

    @classmethod
    def of(cls, probability: np.ndarray, outcomes: Outcomes, *, threshold: float) -> DiscriminationStatistic:
        """Sort the model's rows once."""
        return cls(Ranking.of(probability, outcomes.label), threshold)

    def __call__(self, count: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
        """AUROC, AUPRC, prevalence, figures at the threshold (b,), net benefit over `NET_BENEFIT_THRESHOLDS` (b, k)."""
        events, others = self.ranking.above(weight)
        all_events, all_others = events[:, -1], others[:, -1]
        total, grid = all_events + all_others, NET_BENEFIT_THRESHOLDS
        at, over = self.ranking.column(self.threshold), self.ranking.column(grid)
        return {
            "auroc": auroc(events, others),
            "auprc": auprc(events, others),
            "prevalence": all_events / total,
            **decisions(events[:, at], others[:, at], all_events, all_others),
            "net_benefit": net_benefit(events[:, at], others[:, at], total, self.threshold),
            "net_benefit_curve": net_benefit(events[:, over], others[:, over], total[:, None], grid),
            "treat_all_curve": net_benefit(all_events[:, None], all_others[:, None], total[:, None], grid),
        }


def roc_and_pr(ranking: Ranking, weight: np.ndarray) -> tuple[Points, Points]:
    """ROC points (false positive rate, recall) and PR points (recall, precision), thinned to `CURVE_POINTS`.

    `weight` (n,). Thresholds are the probabilities at which the points arise; the ROC curve starts at (0, 0) with
    threshold 1.
    """
    events, others = (side[0] for side in ranking.above(weight[None]))
    if not (events[-1] > 0 and others[-1] > 0):
        return Points((), (), ()), Points((), (), ())
    kept = np.unique(np.linspace(0, len(events) - 1, CURVE_POINTS).round().astype(int))
    threshold = np.append(1.0, ranking.value)[kept]
    events, others = events[kept], others[kept]
    roc = _points(others / others[-1], events / events[-1], threshold)
    called = (events + others) > 0
    precision = events[called] / (events + others)[called]
    return roc, _points(events[called] / events[-1], precision, threshold[called])


def _points(x: np.ndarray, y: np.ndarray, threshold: np.ndarray) -> Points:
    return Points(tuple(x.tolist()), tuple(y.tolist()), tuple(threshold.tolist()))


def youden_threshold(probability: np.ndarray, outcomes: Outcomes, *, chosen_on: str = "tuning rows") -> Threshold:
    """The probability with the greatest recall + specificity - 1 on these rows, which must not be the evaluated ones.

    It does not depend on how common the outcome is. Raises InputError unless both classes are known among the rows.
    Source: Youden, Cancer 1950;3:32.
    """
    ranking = Ranking.of(checked_probability(probability, outcomes), outcomes.label)
    weight = HorizonWeights.of(outcomes)(np.ones((1, len(outcomes))))
    events, others = (side[0, 1:] for side in ranking.above(weight))
    if not (events[-1] > 0 and others[-1] > 0):
        raise InputError(
            f"a threshold by Youden's index needs both classes among the {chosen_on}: got {int(outcomes.label.sum())} "
            f"events in {int(outcomes.known.sum())} rows with a known label; state a threshold as a number"
        )
    best = int(np.argmax(events / events[-1] - others / others[-1]))
    # Half-way to the next lower value, so that rounding of stored probabilities does not change a decision.
    value = float(ranking.value[best : best + 2].mean())
    value = min(max(value, np.finfo(float).eps), 1 - np.finfo(float).eps)
    return Threshold(value, f"greatest Youden index (recall + specificity - 1) on the {chosen_on}")


def checked_probability(probability: np.ndarray, outcomes: Outcomes) -> np.ndarray:
    """Probabilities as float64, or an InputError."""
    values = np.asarray(probability, dtype=np.float64)
    if values.shape != outcomes.follow_up_days.shape:
        raise InputError(f"probability must have one value a row: got shape {values.shape} for {len(outcomes)} rows")
    bad = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if len(bad):
        raise InputError(f"probability must lie between 0 and 1: {len(bad)} rows do not, first row {bad[0]}")
    return values
