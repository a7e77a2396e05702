"""Whether predicted risks still hold, tested after every outcome: their level and their spread.

A bet on other risks q than the predicted p multiplies the stake by q / p at an outcome and (1 - q) / (1 - p) without
one, which is 1 on average where p is right, whatever happened before. Level bets move all log-odds by one amount;
spread bets stretch or shrink them about their centre, where the two do not interfere.

Sources: Arnold, Henzi and Ziegel, Ann Appl Stat 2023;17:1909 (sequentially valid tests of calibration); Waudby-Smith
and Ramdas, J R Stat Soc B 2024;86:1 (betting); Cox, Biometrika 1958;45:562 (level and spread of log-odds).
"""

from __future__ import annotations

import numpy as np

from careloop.evaluate.calibration import expit, logit
from careloop.outcome.stream.arrivals import Arrivals
from careloop.outcome.stream.evidence import Evidence, Kind, weigh

# Moves of the log-odds: 0.25 is a quarter more odds, 1 nearly three times the odds.
LEVELS = (-1.0, -0.5, -0.25, 0.25, 0.5, 1.0)
# Calibration slopes: at 0 risks tell nothing, below 0 they are the wrong way round, at 2 twice as far apart.
SLOPES = (-0.5, 0.0, 0.3, 0.6, 0.8, 1.25, 1.6, 2.2)


def watch_level(entered: Arrivals, *, alpha: float) -> Evidence:
    """Evidence that outcomes are more or less frequent than predicted (observed : expected is not 1)."""
    score = logit(entered.probability)
    bets = score[:, None] + np.array(LEVELS)
    directions = tuple("more outcomes than predicted" if m > 0 else "fewer outcomes than predicted" for m in LEVELS)
    return _weighed(entered, bets, directions, kind="level", alpha=alpha)


def watch_spread(entered: Arrivals, *, alpha: float) -> Evidence:
    """Evidence that high and low risks lie nearer together or further apart than predicted (slope is not 1)."""
    score = logit(entered.probability)
    information = entered.probability * (1 - entered.probability)
    total = np.cumsum(information)
    centre = np.divide(np.cumsum(information * score), total, out=score.copy(), where=total > 0)
    bets = centre[:, None] + (score - centre)[:, None] * np.array(SLOPES)
    directions = tuple(
        "risks differ less between patients than predicted"
        if slope < 1
        else "risks differ more between patients than predicted"
        for slope in SLOPES
    )
    return _weighed(entered, bets, directions, kind="spread", alpha=alpha)


def _weighed(entered: Arrivals, bets: np.ndarray, directions: tuple[str, ...], *, kind: Kind, alpha: float) -> Evidence:
    factors = log_factors(entered.probability, bets, label=entered.label, weight=entered.weight)
    times, made = entered.known_time, entered.prediction_time
    return weigh(factors, directions, kind=kind, alpha=alpha, times=times, made=made)


def log_factors(probability: np.ndarray, bets: np.ndarray, *, label: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Log of the factor (n, k) by which each row changes the stake on the log-odds `bets` (n, k).

    A row of `weight` w stakes the share w: 1 + w (ratio - 1), which stays 1 on average and above 0.
    """
    p, q = expit(logit(probability))[:, None], expit(bets.copy())
    ratio = np.where(label[:, None], q / p, (1 - q) / (1 - p))
    return np.log1p(weight[:, None] * (ratio - 1))
