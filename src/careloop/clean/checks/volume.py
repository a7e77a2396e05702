"""Months in which a feed suddenly delivers less than it did: the months whose count falls below half of the usual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from math import sqrt
from statistics import median

import polars as pl

# Holidays, weekends and seasons move a hospital's month by a quarter; half is a fault of delivery.
DROP = 0.5
NOTHING = 0.1
SPREADS = 4.0
NORMAL = 1.4826  # standard deviations of a normal in its median absolute deviation
USUAL_MONTHS, RECENT_MONTHS = 12, 3
FEWEST_MONTHS = 6  # of ordinary volume before a month can be judged
WHOLE = 0.99
FEWEST_EVENTS = 50  # a usual month: below, chance alone halves it now and then (Poisson, 50: once in 10,000 months)


@dataclass(frozen=True)
class Drop:
    """A run of months from `first` to `last` with less than half of `usual` events a month; `level` is their mean."""

    first: date
    last: date
    months: int
    usual: float
    level: float


@dataclass(frozen=True)
class Feed:
    """Events a month of one source table or file and one vocabulary, `judged` months that could be, and the drops."""

    name: str
    vocabulary: str
    first: date
    counts: tuple[int, ...]
    judged: int
    drops: tuple[Drop, ...]

    @property
    def title(self) -> str:
        """What charts call it."""
        return f"{self.name}, {self.vocabulary}"


def feeds(volume: pl.DataFrame) -> tuple[Feed, ...]:
    """Return the feeds of a record, the largest first, up to the month before the record fades out.

    Args:
        volume: feed, vocabulary, month, events.
    """
    if volume.is_empty():
        return ()
    last = _last_month(volume)
    found = []
    for (name, vocabulary), rows in volume.group_by("feed", "vocabulary"):
        first = rows.select(pl.col("month").min()).item()
        months = pl.datetime_range(first, last, "1mo", closed="left", eager=True).alias("month")
        if not len(months):
            continue
        counts = months.to_frame().join(rows, on="month", how="left", maintain_order="left")["events"].fill_null(0)
        starts = [month.date() for month in months]
        judged, drops = _drops(counts.to_list(), starts)
        found.append(Feed(str(name), str(vocabulary), starts[0], tuple(counts), judged, drops))
    return tuple(sorted(found, key=lambda feed: (-sum(feed.counts), feed.title)))


def _level(usual: Sequence[int]) -> float:
    """The usual volume: the median of the last twelve months, or the mean of three: no slow fading is a drop."""
    if len(usual) < FEWEST_MONTHS:
        return 0.0
    return float(min(median(usual[-USUAL_MONTHS:]), sum(usual[-RECENT_MONTHS:]) / RECENT_MONTHS))


def _bound(usual: Sequence[int], level: float) -> float:
    """Fewer events are a drop: below half, and out of these months' scatter unless nearly nothing came."""
    middle = median(usual)
    spread = max(NORMAL * median(abs(count - middle) for count in usual), sqrt(level))
    return min(DROP * level, max(level - SPREADS * spread, NOTHING * level))


def _last_month(volume: pl.DataFrame) -> datetime:
    """The month in which the record has 99 % of its events: what comes after is a ragged end, not a fault of a feed."""
    months = volume.group_by("month").agg(pl.col("events").sum()).sort("month")
    reached = months.filter(pl.col("events").cum_sum() >= WHOLE * pl.col("events").sum())
    return datetime.fromtimestamp(reached["month"].dt.epoch("s")[0], tz=UTC)


def _drops(counts: Sequence[int], months: Sequence[date]) -> tuple[int, tuple[Drop, ...]]:
    """Return how many months could be judged, and the drops.

    Low months do not count towards the usual volume: a feed that ends is low for ever after.
    """
    usual: list[int] = []
    runs: list[list[tuple[int, float]]] = []
    judged, was_low = 0, False
    for place, count in enumerate(counts):
        level = _level(usual)
        is_judged = level >= FEWEST_EVENTS
        is_low = is_judged and count < _bound(usual[-USUAL_MONTHS:], level)
        judged += is_judged
        if is_low:
            runs = runs if was_low else [*runs, []]
            runs[-1].append((place, level))
        else:
            usual.append(count)
        was_low = is_low
    return judged, tuple(
        Drop(months[run[0][0]], months[run[-1][0]], len(run), run[0][1], sum(counts[p] for p, _ in run) / len(run))
        for run in runs
    )
