"""Roll-out of a causal network: each history continued event by event, many times, up to a horizon."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from careloop import InputError
from careloop.models.network_loop import cpu_threads
from careloop.models.sequence.arrays import AnySequences, Sequences
from careloop.models.sequence.futures.past import Past
from careloop.models.sequence.futures.simulated import Futures
from careloop.models.sequence.training.pretraining import PretrainingNetwork, bin_bounds, gap_bin, share_of_bin

# Memory for the keys, values and logits of the paths that are continued together.
MOST_BYTES = 512 * 2**20
FLOAT_BYTES = 4
ROOM = 4  # a context that is full is cut so that one part in so many is free for new events
DRAWS = 4  # random numbers an event: bin, place in the bin, code, quantile
NEW_EVENT = {
    "path": np.int64, "code": np.int32, "quantile": np.uint8, "value": np.float32, "time": np.float64,
}  # fmt: skip

Progress = Callable[[int, int], None]  # paths finished, of how many


@dataclass(frozen=True)
class RollOut:
    """How far and how often histories are continued.

    A path (one future of one row) ends at the horizon, with an event of `stop_codes`, or after `most_new_events`. The
    network sees at most `most_events` of a path's events, which should be as many as it was trained with: where there
    are more, it sees those at birth, where static facts stand, and the latest.
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
        if min(self.futures, self.most_new_events) < 1 or self.most_events < ROOM:
            raise InputError(
                f"futures and most_new_events must be at least 1 and most_events at least {ROOM}; got "
                f"{self.futures}, {self.most_new_events} and {self.most_events}"
            )

    @property
    def most_kept(self) -> int:
        """How many events a context begins with, at most."""
        return self.most_events - self.most_events // ROOM


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
        InputError: the network is not a causal one, or `values` has another shape.
    """
    if not model.network.shape.is_causal:
        raise InputError(f"a roll-out needs a causal_transformer; got a pre-trained {model.network.shape.trunk}")
    table = value_table(model, values)
    known = np.flatnonzero(sequences.lengths > 0)
    rows, future = np.repeat(known, settings.futures), np.tile(np.arange(settings.futures), len(known))
    cut, found, done = np.zeros(len(rows), dtype=bool), [], 0
    with torch.inference_mode(), cpu_threads(settings.threads):
        for number, paths in enumerate(_chunks(model, sequences.lengths[rows], settings)):
            chunk = _Paths(model, sequences, rows[paths], settings, np.random.default_rng([settings.seed, number]))
            for alive in chunk.run(table):
                if progress is not None:
                    progress(done + len(paths) - alive, len(rows))
            done, cut[paths] = done + len(paths), chunk.is_cut
            events = chunk.events
            found.append({**events, "path": paths[events["path"]], "days": chunk.days_of(events)})
    return _futures(found, rows, future, cut, (len(sequences), settings))


def value_table(model: PretrainingNetwork, values: NDArray[np.float32] | None) -> torch.Tensor:
    """Standardised numbers (tokens, 1 + quantiles) by code and quantile, 0 where there is no number."""
    tokens, quantiles = len(model.code_bias), model.network.embedding.quantile.num_embeddings - 2
    middles = [NormalDist().inv_cdf((q + 0.5) / quantiles) for q in range(quantiles)]
    table = np.tile(np.array([0.0, *middles], dtype=np.float32), (tokens, 1))
    if values is not None:
        if values.shape != (tokens, quantiles):
            raise InputError(f"values must be (tokens, quantiles) {(tokens, quantiles)}; got {values.shape}")
        table[:, 1:] = np.where(np.isnan(values), table[:, 1:], values)
    return torch.from_numpy(table).to(model.code_bias.device)


def draw_wait(logits: torch.Tensor, elapsed: torch.Tensor, uniform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Bins (k,) and days (k,) float64 of waits, from hazards' logits (k, bins) and uniform numbers (2, k).

    `elapsed` (k,) days have passed without an event, at that moment neither; NaN where the event before has just
    happened, so that another may come at once. Days are infinite where no event comes in any bin.
    """
    low, high = bin_bounds(logits.device)
    hazards, (which, where) = logits.double().sigmoid(), uniform.double()
    passed = torch.zeros_like(hazards)  # the share of each bin that is over
    waited = ~elapsed.isnan()
    days = elapsed[waited].double()
    now = gap_bin(days).unsqueeze(1)
    earlier = torch.arange(len(low), device=low.device) < now
    passed[waited] = earlier.double().scatter(1, now, share_of_bin(days, now[:, 0]).unsqueeze(1))
    hazards = hazards * (1 - passed) / (1 - hazards * passed).clamp(min=1e-12)
    until = 1 - (1 - hazards).cumprod(dim=1)
    bins = torch.searchsorted(until, which.unsqueeze(1).contiguous(), right=True).squeeze(1)
    comes, bins = bins < len(low), bins.clamp(max=len(low) - 1)
    begin = passed.gather(1, bins.unsqueeze(1)).squeeze(1)
    place = begin + (1 - begin) * where
    found = torch.where(bins == 1, high[1] * place, low[bins] * (high[bins] / low[bins]) ** place)
    return bins, torch.where(comes, torch.where(bins == 0, 0.0, found), torch.inf)


def draw(logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """One number a row, drawn with the probabilities of logits (k, numbers) at uniform numbers (k,)."""
    until = logits.float().softmax(dim=1).cumsum(dim=1)
    at = (uniform * until[:, -1]).unsqueeze(1).contiguous()
    return torch.searchsorted(until, at, right=True).squeeze(1).clamp(max=logits.shape[1] - 1)


class _Paths:
    """Paths (p) that are continued together, and the events that have happened in them."""

    def __init__(
        self,
        model: PretrainingNetwork,
        sequences: AnySequences,
        rows: NDArray[np.int64],
        settings: RollOut,
        random: np.random.Generator,
    ) -> None:
        self.model, self.settings, self.random = model, settings, random
        used, self.place = np.unique(rows, return_inverse=True)
        self.histories = first_and_latest(sequences.take(used), settings.most_kept)
        self.at = self.histories.at[self.place]
        self.time = self.histories.time[self.histories.offsets[1:] - 1][self.place]
        self.elapsed = np.maximum(self.at - self.time, 0)
        self.count, self.is_cut = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=bool)
        self.happened: list[dict[str, NDArray[Any]]] = []

    def run(self, table: torch.Tensor) -> Iterator[int]:
        """Continue all paths to their ends; says after each event how many still go on."""
        alive, context, place = np.arange(len(self.place)), self.histories, self.place
        while len(alive):
            past = Past.of(self.model.network, context, place)
            while len(alive) and past.width < self.settings.most_events:
                alive = self._next_event(past, alive, table)
                yield len(alive)
            context, place = self._latest(alive), np.arange(len(alive))

    def _next_event(self, past: Past, alive: NDArray[np.int64], table: torch.Tensor) -> NDArray[np.int64]:
        """Draw the next event of each path that is alive; the paths that go on, which `past` then has alone."""
        device = past.state.device
        numbers = self.random.random((DRAWS, len(self.place)), dtype=np.float32)[:, alive]
        uniform = torch.from_numpy(numbers).to(device)
        bins, wait = draw_wait(
            self.model.gap(past.state), torch.from_numpy(self.elapsed[alive]).to(device), uniform[:2]
        )
        time = np.maximum(self.time[alive] + wait.cpu().numpy(), self.at[alive])
        comes = np.flatnonzero(time <= self.at[alive] + self.settings.horizon_days)
        alive, time, here = alive[comes], time[comes], torch.from_numpy(comes).to(device)
        given = past.state[here] + self.model.of_gap(bins[here])
        code = draw(self.model.code_logits(given), uniform[2, here])
        quantile = draw(self.model.quantile_logits(given, code), uniform[3, here])
        value = table[code, quantile]
        gap = time - self.time[alive]
        self._note(path=alive, code=code, quantile=quantile, value=value, time=time)
        goes_on = self._goes_on(alive, code)
        rest = torch.from_numpy(goes_on).to(device)
        past.keep(here[rest])
        past.append((code[rest], quantile[rest], value[rest]), gap[goes_on], time[goes_on])
        return alive[goes_on]

    def _note(self, **event: Any) -> None:
        """Keep an event of each of some paths."""
        arrays = {name: a.cpu().numpy() if isinstance(a, torch.Tensor) else a for name, a in event.items()}
        self.happened.append({name: arrays[name].astype(dtype) for name, dtype in NEW_EVENT.items()})
        path = arrays["path"]
        self.time[path], self.elapsed[path] = arrays["time"], np.nan
        self.count[path] += 1

    def _goes_on(self, path: NDArray[np.int64], code: torch.Tensor) -> NDArray[np.int64]:
        """The places of paths that neither a stop code ended nor the number of events."""
        stopped = np.isin(code.cpu().numpy(), self.settings.stop_codes)
        self.is_cut[path] = ~stopped & (self.count[path] >= self.settings.most_new_events)
        return np.flatnonzero(~stopped & ~self.is_cut[path])

    @property
    def events(self) -> dict[str, NDArray[Any]]:
        """All events so far (e,), in the order in which they were drawn."""
        return {
            name: np.concatenate([np.empty(0, dtype=dtype), *(one[name] for one in self.happened)])
            for name, dtype in NEW_EVENT.items()
        }

    def days_of(self, events: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
        """Days from the prediction time to each event."""
        days: NDArray[np.float64] = events["time"] - self.at[events["path"]]
        return days

    def _latest(self, alive: NDArray[np.int64]) -> Sequences:
        """The latest events of each path that is alive, known and drawn ones, as a row each."""
        before, new = self.histories.take(self.place[alive]), self.events
        mine = np.isin(new["path"], alive)
        path = np.concatenate([np.repeat(alive, before.lengths), new["path"][mine]])
        order = np.argsort(path, kind="stable")
        new |= {"note": np.full(len(mine), -1, dtype=np.int32)}  # what is drawn has no notes
        kept = before.event_arrays.items()
        arrays = {name: np.concatenate([array, new[name][mine]])[order] for name, array in kept}
        offsets = np.concatenate([[0], np.cumsum(np.bincount(path, minlength=len(self.place))[alive])])
        whole = replace(before, offsets=offsets, **arrays, at=self.time[alive])
        return first_and_latest(whole, self.settings.most_kept)


def first_and_latest(sequences: Sequences, most: int) -> Sequences:
    """The same rows with at most `most` events each: those at time 0 or before (at most half), and the latest."""
    lengths = sequences.lengths
    row = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(row)) - sequences.offsets[row]
    first = np.minimum(np.bincount(row[sequences.time <= 0], minlength=len(lengths)), most // 2)
    kept = (place < first[row]) | (lengths[row] - place <= (most - first)[row])
    arrays = {name: array[kept] for name, array in sequences.event_arrays.items()}
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row[kept], minlength=len(lengths)))])
    return replace(sequences, offsets=offsets, **arrays)


def _chunks(model: PretrainingNetwork, lengths: NDArray[np.int64], settings: RollOut) -> Iterator[NDArray[np.int64]]:
    """Paths of like length together, as many as fit into memory."""
    shape = model.network.shape
    order = np.argsort(lengths, kind="stable")
    positions = np.minimum(lengths[order] + settings.most_new_events, settings.most_events)
    needed = FLOAT_BYTES * (2 * shape.layers * shape.width * positions + 4 * len(model.code_bias))
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or (end + 1 - start) * needed[end] > MOST_BYTES:
            yield order[start:end]
            start = end


def _futures(
    found: list[dict[str, NDArray[Any]]],
    rows: NDArray[np.int64],
    future: NDArray[np.int64],
    cut: NDArray[np.bool_],
    asked: tuple[int, RollOut],
) -> Futures:
    """The chunks' events together, by row, future and time; `asked` are the rows of all and the settings."""
    height, settings = asked
    dtypes = {**NEW_EVENT, "days": np.float64}
    events = {
        name: np.concatenate([np.empty(0, dtype=dtype), *(one[name] for one in found)])
        for name, dtype in dtypes.items()
    }
    order = np.lexsort((events["path"],))  # stable, so that each path's events stay in their order
    path = events["path"][order]
    is_cut = np.zeros((height, settings.futures), dtype=bool)
    is_cut[rows, future] = cut
    known = np.zeros(height, dtype=bool)
    known[rows] = True
    return Futures(
        row=rows[path],
        future=future[path],
        token=events["code"][order],
        days=events["days"][order],
        quantile=events["quantile"][order],
        known=known,
        cut=is_cut,
        horizon_days=settings.horizon_days,
    )
