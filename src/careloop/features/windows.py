"""Aggregations of the facts in a window that ends at the prediction time, all groups at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

MICROSECONDS_A_DAY = 86_400_000_000


@dataclass(frozen=True)
class Groups:
    """Facts of many groups, one after the other, oldest first within a group; no group is empty.

    `age_us` (n,) int64: microseconds from the fact to the prediction time, never negative. `values` (n,) float32.
    `sizes` (g,): facts in each group, adding up to n.
    """

    age_us: np.ndarray
    values: np.ndarray
    sizes: np.ndarray

    @cached_property
    def starts(self) -> np.ndarray:
        """Where each group begins."""
        return np.cumsum(self.sizes) - self.sizes

    @cached_property
    def ends(self) -> np.ndarray:
        """The newest fact of each group."""
        return np.cumsum(self.sizes) - 1

    def within(self, days: float | None) -> tuple[np.ndarray, Groups]:
        """The facts less than `days` old (null: all of them), and which groups (their numbers) have any."""
        if days is None:
            return np.arange(len(self.sizes)), self
        recent = self.age_us < days * MICROSECONDS_A_DAY
        sizes = np.add.reduceat(recent, self.starts, dtype=np.int64) if len(recent) else self.sizes
        kept = np.flatnonzero(sizes)
        return kept, Groups(self.age_us[recent], self.values[recent], sizes[kept])


def mean(groups: Groups) -> np.ndarray:
    """The mean value of each group, summed in double precision."""
    return np.add.reduceat(groups.values, groups.starts, dtype=np.float64) / groups.sizes


def slope(groups: Groups) -> np.ndarray:
    """The least-squares slope of each group, in value units per day; NaN unless there are two different times.

    Times and values are taken relative to the group's newest fact and then centred, so that neither old facts close
    to each other nor large values lose digits.
    """
    days = (groups.age_us[groups.ends].repeat(groups.sizes) - groups.age_us) / MICROSECONDS_A_DAY
    values = groups.values - groups.values[groups.ends].repeat(groups.sizes).astype(np.float64)
    days -= (np.add.reduceat(days, groups.starts) / groups.sizes).repeat(groups.sizes)
    values -= (np.add.reduceat(values, groups.starts) / groups.sizes).repeat(groups.sizes)
    spread = groups.age_us[groups.starts] > groups.age_us[groups.ends]
    squares = np.where(spread, np.add.reduceat(days * days, groups.starts), np.nan)
    return np.add.reduceat(days * values, groups.starts) / squares


AGGREGATIONS: dict[str, Callable[[Groups], np.ndarray]] = {
    "first": lambda groups: groups.values[groups.starts],
    "last": lambda groups: groups.values[groups.ends],
    "min": lambda groups: np.minimum.reduceat(groups.values, groups.starts),
    "max": lambda groups: np.maximum.reduceat(groups.values, groups.starts),
    "mean": mean,
    "slope": slope,
    "count": lambda groups: groups.sizes,
    "present": lambda groups: np.ones(len(groups.sizes)),
    "time_since": lambda groups: groups.age_us[groups.ends] / MICROSECONDS_A_DAY,
}
