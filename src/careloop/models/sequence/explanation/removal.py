"""What a network's risk does when events are really taken out: occlusion, and whether an explanation beats chance.

An explanation by gradients is checked by what it claims. Sources: Zeiler and Fergus, ECCV 2014, section 4.2
(occlusion); Petsiuk, Das and Saenko, RISE, BMVC 2018, section 4.3 (deletion). Both ask the network, not the world: that
an explanation beats chance says that it names what the network uses, whether or not the network is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from careloop import InputError
from careloop.models.inputs import Floats
from careloop.models.sequence.arrays import AnySequences, Sequences
from careloop.models.sequence.explanation.attribution import Attribution, Score, SequenceEstimator, log_odds

EVENTS_AT_ONCE = 1_000_000  # of altered sequences in memory
LEAST_RANKED = 3  # two groups are ranked alike or opposite by chance alone
RANDOM_ORDERS = 5  # of each row, averaged, so that chance's curve is steadier than the explanation's
RESAMPLES = 1000
INTERVAL = (2.5, 97.5)


@dataclass(frozen=True, eq=False)
class Occlusion:
    """The log-odds with all events less those without one group of events, of each group (g,).

    `row` (g,) is the group's row, `group` (g,) its number, `member` (T,) each event's place here.
    """

    row: NDArray[np.int64]
    group: NDArray[np.int64]
    difference: Floats
    member: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Falls:
    """The mean fall of the log-odds (k,) over rows, with its 95 % interval."""

    mean: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, eq=False)
class DeletionCurve:
    """How the log-odds fall when ever more events are taken out, those first that the explanation says raise them most.

    `explained` and `random` are the falls at `fractions` (k,) of each row's events, in the explanation's order and in
    random order. `area` is the mean distance of the two curves, from no events removed to the last fraction, with the
    95 % interval of the paired differences over `rows` rows (bootstrap by row).
    """

    fractions: Floats
    explained: Falls
    random: Falls
    area: float
    low: float
    high: float
    rows: int

    @property
    def beats_random(self) -> bool:
        """Whether the whole interval of the area is above 0."""
        return self.low > 0


def occlusion(
    estimator: SequenceEstimator,
    sequences: AnySequences,
    *,
    score: Score,
    groups: NDArray[np.integer[Any]] | None = None,
) -> Occlusion:
    """The change of the log-odds when events are removed from the sequence, each alone or those of a group together.

    `groups` (T,) numbers the events; within a row, those of one number are a group: `sequences.code` for all events of
    a code. A row of l events takes up to l predictions of l - 1 events.
    """
    rows = sequences.take(np.arange(len(sequences)))
    events = int(rows.offsets[-1])
    numbers = np.arange(events) if groups is None else np.asarray(groups)
    if numbers.shape != (events,):
        raise InputError(f"groups must have one number for each of {events} events; got shape {numbers.shape}")
    pairs = np.stack([np.repeat(np.arange(len(rows)), rows.lengths), numbers.astype(np.int64)])
    (row, group), member = np.unique(pairs, axis=1, return_inverse=True)
    member = member.reshape(-1)
    without = [log_odds(estimator, part, score=score) for part in _without_each(rows, row, member)]
    difference = log_odds(estimator, rows, score=score)[row] - np.concatenate([np.empty(0), *without])
    return Occlusion(row, group, difference, member)


def _without_each(sequences: Sequences, row: NDArray[np.int64], member: NDArray[np.int64]) -> Iterator[Sequences]:
    """The row of each group without the group, some groups at once."""
    part = np.cumsum(sequences.lengths[row]) // EVENTS_AT_ONCE
    for some in (np.flatnonzero(part == number) for number in np.unique(part)):
        lengths = sequences.lengths[row[some]]
        begins = np.cumsum(lengths) - lengths
        place = np.repeat(sequences.offsets[:-1][row[some]] - begins, lengths) + np.arange(lengths.sum())
        yield kept_events(sequences.take(row[some]), member[place] != np.repeat(some, lengths))


def kept_events(sequences: Sequences, keep: NDArray[np.bool_]) -> Sequences:
    """The same rows with those events only where `keep` (T,) is true."""
    so_far = np.concatenate([[0], np.cumsum(keep)]).astype(np.int64)
    arrays = {name: array[keep] for name, array in sequences.event_arrays.items()}
    return replace(sequences, offsets=so_far[sequences.offsets], **arrays)


def rank_agreement(attribution: Attribution, occluded: Occlusion) -> Floats:
    """Spearman's correlation (n,) of a row's contributions, summed by group, with what removing the groups changes.

    NaN for a row of fewer than `LEAST_RANKED` groups, or whose groups are all alike by one of the two.
    """
    from scipy.stats import rankdata

    summed = np.bincount(occluded.member, weights=attribution.events, minlength=len(occluded.row))
    found = np.full(len(attribution.score), np.nan)
    for row in range(len(found)):
        mine = occluded.row == row
        ranks = [rankdata(values[mine]) for values in (summed, occluded.difference)]
        if mine.sum() >= LEAST_RANKED and all(np.ptp(some) > 0 for some in ranks):
            found[row] = np.corrcoef(*ranks)[0, 1]
    return found


def deletion_curve(
    estimator: SequenceEstimator,
    sequences: AnySequences,
    attribution: Attribution,
    *,
    score: Score,
    fractions: ArrayLike = (0.1, 0.2, 0.3, 0.4, 0.5),
    seed: int = 0,
) -> DeletionCurve:
    """The deletion curve of an explanation beside random order; rows without events are left out.

    `fractions` rise, above 0 and at most 1; of each row that share of events is removed, rounded up. Rows are resampled
    as if independent: take one row of each subject. InputError: no row has events, or fractions that do not rise.
    """
    shares = np.asarray(fractions, dtype=np.float64)
    if shares.ndim != 1 or not len(shares) or not (np.diff([0.0, *shares]) > 0).all() or shares[-1] > 1:
        raise InputError("fractions must rise, above 0 and at most 1; give for example (0.1, 0.2, 0.5)")
    rows = sequences.take(np.arange(len(sequences)))
    has_events = rows.lengths > 0
    if not has_events.any():
        raise InputError("a deletion curve needs rows with events; none of these has any")
    random = np.random.default_rng(seed)

    def falls(values: Floats) -> Floats:
        rank = _rank_in_row(values, rows, random)
        return _falls(estimator, rows, rank, score=score, shares=shares)[has_events]

    explained = falls(attribution.events)
    by_chance = np.mean([falls(np.zeros(len(rows.code))) for _ in range(RANDOM_ORDERS)], axis=0)
    return _curve(shares, explained, by_chance, random)


def _rank_in_row(values: Floats, sequences: Sequences, random: np.random.Generator) -> NDArray[np.int64]:
    """The place (T,) of each event within its row, the largest value first, equal values in random order."""
    row = np.repeat(np.arange(len(sequences)), sequences.lengths)
    order = np.lexsort((random.random(len(values)), -values, row))
    rank = np.empty(len(values), dtype=np.int64)
    rank[order] = np.arange(len(values)) - sequences.offsets[:-1][row]
    return rank


def _falls(
    estimator: SequenceEstimator, sequences: Sequences, rank: NDArray[np.int64], *, score: Score, shares: Floats
) -> Floats:
    """How far the log-odds fall (n, k) when each share of the events is removed, lowest rank first."""
    full = log_odds(estimator, sequences, score=score)
    # Rounded first, since 0.7 * 10 is a little above 7 in floating point.
    counts = np.ceil(np.round(sequences.lengths[:, None] * shares, 9)).astype(np.int64)
    falls = []
    for number in counts.T:
        keep = rank >= np.repeat(number, sequences.lengths)
        falls.append(full - log_odds(estimator, kept_events(sequences, keep), score=score))
    return np.stack(falls, axis=1)


def _curve(shares: Floats, explained: Floats, by_chance: Floats, random: np.random.Generator) -> DeletionCurve:
    """Means, and intervals by resampling rows, of falls (n, k)."""
    rows = len(explained)
    ahead = np.hstack([np.zeros((rows, 1)), explained - by_chance])
    area = np.trapezoid(ahead, np.concatenate([[0.0], shares]), axis=1) / shares[-1]
    weights = random.multinomial(rows, np.full(rows, 1 / rows), size=RESAMPLES) / rows
    low, high = np.percentile(weights @ area, INTERVAL)

    def summary(falls: Floats) -> Falls:
        return Falls(falls.mean(axis=0), *np.percentile(weights @ falls, INTERVAL, axis=0))

    return DeletionCurve(
        fractions=shares,
        explained=summary(explained),
        random=summary(by_chance),
        area=float(area.mean()),
        low=float(low),
        high=float(high),
        rows=rows,
    )
