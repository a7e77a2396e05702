"""Roll-out of a causal network: each history continued event by event, many times, up to a horizon."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from careloop import InputError
from careloop.models.network_loop import cpu_threads
from careloop.models.sequence.arrays import EVENT_ARRAYS, AnySequences, Sequences
from careloop.models.sequence.batches import Batch, padded
from careloop.models.sequence.futures import Futures
from careloop.models.sequence.network import Transformer
from careloop.models.sequence.pretraining import GAP_BOUNDS, PretrainingNetwork, gap_bin

# The last bin has no upper bound in training; a time within it is drawn up to here, a long life.
LONGEST_WAIT_DAYS = 36525.0
# Memory for the attention's keys and values, and for the logits, of the paths that are continued together.
MOST_BYTES = 512 * 2**20
FLOAT_BYTES = 4
ROOM = 4  # a full context is cut so that one part in so many is free for new events
DRAWS = 4  # random numbers an event: bin, place in the bin, code, quantile
ARRAYS = (*EVENT_ARRAYS, "path")

Progress = Callable[[int, int], None]  # paths finished, of how many


@dataclass(frozen=True)
class RollOut:
    """How far and how often histories are continued.

    A path (one future of one row) ends at its horizon, with an event of `stop_codes`, or after `most_new_events`. The
    network sees at most `most_events` of the latest events, which should be those it was trained with.
    """

    horizon_days: float
    futures: int = 32
    seed: int = 0
    stop_codes: tuple[int, ...] = ()
    most_new_events: int = 512
    most_events: int = 512
    threads: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.horizon_days < math.inf:
            raise InputError(f"horizon_days must be a number of days above 0; got {self.horizon_days}")
        if self.futures < 1 or self.most_new_events < 1 or self.most_events < 2 * ROOM:
            raise InputError(
                f"futures and most_new_events must be at least 1, most_events at least {2 * ROOM}; got "
                f"{self.futures}, {self.most_new_events} and {self.most_events}"
            )


def roll_out(
    model: PretrainingNetwork,
    sequences: AnySequences,
    *,
    settings: RollOut,
    values: NDArray[np.float32] | None = None,
    progress: Progress | None = None,
) -> Futures:
    """Futures of each row from its prediction time on, drawn from a network that was pre-trained on next events.

    Each event is drawn as the network tells it: the time since the event before, the code given the time, the number's
    quantile given both. The first wait is drawn given that it is longer than the time from the row's last event to its
    prediction time. Within a bin of `GAP_BOUNDS` a time is uniform on the log scale. A number enters the sequence as
    `values` (tokens, quantiles) has it, the standardised mean of the code's quantile, else (or where that is NaN) as
    the middle of the quantile of a normal distribution. The same seed gives the same futures on the same device.

    Raises:
        InputError: the network is not a causal one; `values` has another shape; a stop code is no token.
    """
    table = value_table(model, values)
    _check(model, settings)
    lengths = sequences.lengths
    rows = np.repeat(np.flatnonzero(lengths > 0), settings.futures)
    future = np.tile(np.arange(settings.futures), len(rows) // settings.futures)
    order = np.argsort(lengths[rows], kind="stable")
    found, done = [], 0
    cut = np.zeros(len(rows), dtype=bool)
    with torch.inference_mode(), cpu_threads(settings.threads):
        for number, paths in enumerate(_chunks(model, lengths[rows], order, settings)):
            chunk = _Paths(model, sequences, rows[paths], settings, np.random.default_rng([settings.seed, number]))
            for alive in chunk.run(table):
                if progress is not None:
                    progress(done + len(paths) - alive, len(rows))
            done += len(paths)
            cut[paths] = chunk.cut
            found.append({**chunk.events(), "path": paths[chunk.events()["path"]]})
    return _futures(found, rows, future, cut, lengths > 0, sequences.take(rows[:0]), settings)
