"""Simulated futures as flat arrays, and what they say: how often something occurs within a time, and when first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from careloop import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Futures:
    """Simulated events (e) of `rows` rows in `futures` futures each, by row, future and time.

    `row`, `future` (e,) int64 whose event it is; `token` (e,) int32; `days` (e,) float64 since the row's prediction
    time, at most `horizon_days`; `quantile` (e,) uint8 of the event's number, 0 for none. `known` (rows,) bool: false
    for a row without any event, from which nothing can be simulated. `cut` (rows, futures) bool: a future that was left
    before the horizon because it had as many new events as were allowed.
    """

    row: NDArray[np.int64]
    future: NDArray[np.int64]
    token: NDArray[np.int32]
    days: Floats
    quantile: NDArray[np.uint8]
    known: NDArray[np.bool_]
    cut: NDArray[np.bool_]
    horizon_days: float

    @property
    def rows(self) -> int:
        """How many rows were continued."""
        return self.cut.shape[0]

    @property
    def futures(self) -> int:
        """How many futures each row has."""
        return self.cut.shape[1]

    def first_days(self, tokens: Collection[int]) -> Floats:
        """Days to the first event of any of the tokens (rows, futures); infinite where there is none."""
        asked = np.isin(self.token, np.asarray(list(tokens), dtype=np.int32))
        first = np.full(self.rows * self.futures, np.inf)
        np.minimum.at(first, self.row[asked] * self.futures + self.future[asked], self.days[asked])
        return first.reshape(self.rows, self.futures)

    def probability(self, tokens: Collection[int], *, horizon_days: float | None = None) -> tuple[Floats, Floats]:
        """The share of a row's futures with any of the tokens within the horizon (rows,), and its standard error.

        The error is that of the simulation alone, sqrt(p (1 - p) / futures). Both are NaN for a row without events. A
        future that a stop code ended has nothing afterwards, so that a token is counted only where it came before.

        Raises:
            InputError: the horizon is beyond the one that was simulated.
        """
        share = (self.first_days(tokens) <= self._within(horizon_days)).mean(axis=1)
        share[~self.known] = np.nan
        return share, np.sqrt(share * (1 - share) / self.futures)

    def first_event_days(self, tokens: Collection[int], shares: Sequence[float] = (0.25, 0.5, 0.75)) -> Floats:
        """Days by which these shares of a row's futures have had any of the tokens (rows, shares).

        Infinite where fewer futures have it within the horizon, NaN for a row without events.
        """
        ordered = np.sort(self.first_days(tokens), axis=1)
        place = np.clip(np.ceil(np.asarray(shares) * self.futures).astype(np.int64) - 1, 0, self.futures - 1)
        found: Floats = ordered[:, place]
        found[~self.known] = np.nan
        return found

    def events_of(self, row: int, future: int) -> list[tuple[float, int, int]]:
        """(days, token, quantile) of one future's events, by time."""
        mine = (self.row == row) & (self.future == future)
        return list(zip(self.days[mine].tolist(), self.token[mine].tolist(), self.quantile[mine].tolist(), strict=True))

    def _within(self, horizon_days: float | None) -> float:
        if horizon_days is None:
            return self.horizon_days
        if not 0 < horizon_days <= self.horizon_days:
            raise InputError(
                f"horizon_days must be above 0 and at most {self.horizon_days:g}, as simulated; got {horizon_days:g}"
            )
        return horizon_days
