"""Whether a model's inputs are measured as before, tested at every prediction without waiting for outcomes.

Each new value is ranked among the reference values and the stream's so far, ties drawn at random. As long as patients
are exchangeable, the ranks are independent and uniform, so that bets on other ranks earn nothing on average: a
conformal test martingale. A missing value ranks below all others, so that a laboratory that goes silent is seen as one
that changes its unit. A new unit, assay or population all show; which of them it is, is for people to say.

Source: Vovk, Stat Sci 2021;36:595 (testing randomness online); Vovk, Nouretdinov and Gammerman, COPA 2021 (bets).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from careloop import InputError
from careloop.outcome.stream.evidence import Evidence, weigh

# Bets on the normal scores of ranks: (mean, standard deviation) where all is well (0, 1).
BETS = ((-2.0, 0.7), (-1.0, 1.0), (-0.4, 1.0), (0.4, 1.0), (1.0, 1.0), (2.0, 0.7), (0.0, 0.5), (0.0, 1.6))
DIRECTIONS = ("lower",) * 3 + ("higher",) * 3 + ("less spread out", "more spread out")
# A normal score beyond this says no more, and its bet's factor would rest on the last bits of a rank.
FARTHEST = 6.0
FEWEST_REFERENCE = 20


def watch_inputs(
    reference: np.ndarray,
    stream: np.ndarray,
    *,
    names: Sequence[str],
    times: np.ndarray,
    alpha: float,
    seed: int = 0,
) -> tuple[Evidence, ...]:
    """Evidence for each feature that its values are unlike before; all features share `alpha` equally.

    `reference` (m, f) the training rows' features, NaN where missing; `stream` (n, f) the features of new predictions
    in the order of `times` (n,) datetime64; one row a patient in each, since a patient's rows resemble each other.
    Raises InputError where shapes differ or the reference has fewer than `FEWEST_REFERENCE` rows.
    """
    reference, stream = np.asarray(reference, dtype=float), np.asarray(stream, dtype=float)
    if reference.ndim != 2 or stream.ndim != 2 or not reference.shape[1] == stream.shape[1] == len(names):
        raise InputError(
            f"inputs to watch need one column a feature: got reference {reference.shape}, stream {stream.shape} and "
            f"{len(names)} names"
        )
    if len(reference) < FEWEST_REFERENCE:
        raise InputError(
            f"inputs are compared with at least {FEWEST_REFERENCE} reference rows, got {len(reference)}; "
            "pass the features of the training rows"
        )
    found = []
    for feature, name in enumerate(names):
        # A generator of its own, so that ties among earlier rows are drawn alike when later rows have come.
        random = np.random.default_rng([seed, feature])
        rank = sequential_ranks(reference[:, feature], stream[:, feature], random)
        directions = tuple(f"{name}: values {word} than before" for word in DIRECTIONS)
        share = alpha / len(names)
        found.append(
            replace(
                weigh(_log_factors(rank), directions, kind="input", alpha=share, times=times, made=times),
                feature=str(name),
            )
        )
    return tuple(found)


def sequential_ranks(reference: np.ndarray, stream: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Smoothed rank in (0, 1) of each stream value (n,) among `reference` (m,) and the stream up to it."""
    seen = np.sort(np.nan_to_num(reference, nan=-np.inf)).tolist()
    rank = np.empty(len(stream))
    tie = random.random(len(stream))
    for place, value in enumerate(np.nan_to_num(stream, nan=-np.inf).tolist()):
        below, up_to = bisect_left(seen, value), bisect_right(seen, value)
        rank[place] = (below + tie[place] * (up_to - below + 1)) / (len(seen) + 1)
        insort(seen, value)
    return rank


def _log_factors(rank: np.ndarray) -> np.ndarray:
    """Log ratio (n, k) of each bet's normal density to the standard one, at the normal scores of ranks (n,)."""
    from scipy.special import ndtri

    score = np.clip(ndtri(rank), -FARTHEST, FARTHEST)[:, None]
    mean, spread = np.array(BETS).T
    return (score**2 - ((score - mean) / spread) ** 2) / 2 - np.log(spread)
