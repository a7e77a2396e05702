"""The risk-adjusted cumulative sum chart, for comparison: what surgeons and registries use.

It adds each row's log likelihood ratio of changed to unchanged odds and never falls below 0. Its limit holds the false
alarms only for the number of patients and the risks it was simulated for, while an e-process holds them however long
one looks. Once a change is there, a chart that was set for a short period is quick.

Source: Steiner, Cook, Farewell and Treasure, Biostatistics 2000;1:441; limits by simulated false signal probability as
in the R package cusum (Hubig).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from careloop.evaluate.calibration import expit, logit
from careloop.outcome.stream.arrivals import Arrivals

ODDS_RATIO = 2.0
RUNS = 2000
SEED = 0


@dataclass(frozen=True)
class Cusum:
    """Two charts, for odds multiplied and divided by `odds_ratio`, and their shared `limit`.

    `alpha` is the probability of a false alarm within these rows; `more` and `fewer` (n,) the charts over
    predictions with a known outcome; `alarm_row` counts these from 1, None without alarm.
    """

    model: str
    model_version: str
    odds_ratio: float
    alpha: float
    limit: float
    more: tuple[float, ...]
    fewer: tuple[float, ...]
    alarm_row: int | None


def risk_adjusted_cusum(
    entered: Arrivals, *, alpha: float, model: str, version: str, odds_ratio: float = ODDS_RATIO
) -> Cusum:
    """Both charts of one model over the predictions whose outcome is known."""
    seen = entered.weight > 0
    probability, label = entered.probability[seen], entered.label[seen]
    limit = cusum_limit(probability, alpha=alpha, odds_ratio=odds_ratio)
    more, fewer = cusum_charts(probability, label[None], odds_ratio=odds_ratio)
    over = np.flatnonzero(np.maximum(more[0], fewer[0]) >= limit)
    return Cusum(
        model,
        version,
        odds_ratio,
        alpha,
        limit,
        tuple(more[0].tolist()),
        tuple(fewer[0].tolist()),
        int(over[0]) + 1 if len(over) else None,
    )


def cusum_limit(probability: np.ndarray, *, alpha: float, odds_ratio: float = ODDS_RATIO) -> float:
    """The limit that either chart reaches with probability alpha within patients of these risks (n,), by simulation."""
    random = np.random.default_rng(SEED)
    label = random.random((RUNS, len(probability))) < probability
    charts = cusum_charts(probability, label, odds_ratio=odds_ratio)
    highest = np.maximum(*(chart.max(axis=1, initial=0.0) for chart in charts))
    return float(np.quantile(highest, 1 - alpha, method="higher"))


def cusum_charts(probability: np.ndarray, label: np.ndarray, *, odds_ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Charts (b, n) for more and for fewer outcomes than the risks (n,) say, for b series of labels (b, n)."""
    more, fewer = (_chart(probability, label, move) for move in (np.log(odds_ratio), -np.log(odds_ratio)))
    return more, fewer


def _chart(probability: np.ndarray, label: np.ndarray, move: float) -> np.ndarray:
    score = logit(probability)
    risk, changed = expit(score), expit(score + move)
    steps = np.where(label, np.log(changed / risk), np.log((1 - changed) / (1 - risk)))
    # max(0, last + step) is the sum since its own lowest point.
    total = np.cumsum(steps, axis=1)
    return total - np.minimum(np.minimum.accumulate(total, axis=1), 0.0)
