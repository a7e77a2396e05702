"""Batches of event sequences as tensors: rows of like length together, so that little is padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from careloop.models.sequence.arrays import NOW, AnySequences, Sequences

if TYPE_CHECKING:
    import torch

# Rows are put in order of length within so many batches at once: 1 to 4 % padding, and chance still mixes the batches.
BATCHES_SORTED_TOGETHER = 128


class Batch(NamedTuple):
    """Events of b rows side by side (b, l), padded on the right; the last position of every row is `NOW`.

    `code`, `quantile` int64, `value` float32 with 0 for no number; `gap` days since the event before, `before` days up
    to the prediction time, `age` days since birth, all float32; `is_event` bool, false where padded; `last` (b,) int64
    the position of `NOW`; `static` (b, s) float32. Where events may have notes, `notes` (k, e) float16 are vectors and
    `note` (b, l) int64 the place of each event's among them, counted from 1, 0 for none.
    """

    code: torch.Tensor
    quantile: torch.Tensor
    value: torch.Tensor
    gap: torch.Tensor
    before: torch.Tensor
    age: torch.Tensor
    is_event: torch.Tensor
    last: torch.Tensor
    static: torch.Tensor
    note: torch.Tensor | None = None
    notes: torch.Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        return self.changed(lambda tensor: tensor.to(device, non_blocking=True))

    def changed(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        """The batch with each of its tensors changed."""
        return self._replace(**{name: change(tensor) for name, tensor in self._asdict().items() if tensor is not None})


def padded(sequences: Sequences) -> Batch:
    """All rows of `sequences` as one batch on the CPU."""
    import torch

    rows, lengths = len(sequences), sequences.lengths
    width = int(lengths.max(initial=0)) + 1
    row = np.repeat(np.arange(rows), lengths)
    place = row * width + np.arange(len(row)) - np.repeat(sequences.offsets[:-1], lengths)
    last = np.arange(rows) * width + lengths

    def spread(values: NDArray[Any], at_last: Any, dtype: Any) -> NDArray[Any]:
        flat = np.zeros(rows * width, dtype=dtype)
        flat[place], flat[last] = values, at_last
        return flat.reshape(rows, width)

    code = spread(sequences.code, NOW, np.int64)
    age = spread(sequences.time, sequences.at, np.float64)
    gap = np.diff(age, axis=1, prepend=age[:, :1])
    is_event = np.arange(width) <= lengths[:, None]
    arrays = {
        "code": code,
        "quantile": spread(sequences.quantile, 0, np.int64),
        "value": spread(np.nan_to_num(sequences.value), 0, np.float32),
        "gap": np.where(is_event, gap, 0).astype(np.float32),
        "before": np.where(is_event, sequences.at[:, None] - age, 0).astype(np.float32),
        "age": age.astype(np.float32),
        "is_event": is_event,
        "last": lengths,
        "static": np.ascontiguousarray(sequences.static, dtype=np.float32),
    }
    if sequences.note is not None and sequences.notes is not None:
        arrays |= {"note": spread(sequences.note + 1, 0, np.int64), "notes": sequences.notes}
    return Batch(**{name: torch.from_numpy(array) for name, array in arrays.items()})


def batch_rows(
    lengths: NDArray[np.int64], tokens: int, *, random: np.random.Generator | None = None
) -> list[NDArray[np.intp]]:
    """Which rows go together, at most `tokens` padded positions a batch (a longer row alone); in random order if asked.

    Without `random` rows are ordered by length throughout, which is the order for prediction.
    """
    order = np.arange(len(lengths)) if random is None else random.permutation(len(lengths))
    sizes = lengths + 1
    pool = len(order) if random is None else _rows_of(sizes, tokens * BATCHES_SORTED_TOGETHER)
    batches: list[NDArray[np.intp]] = []
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        batches += _filled(rows[np.argsort(sizes[rows], kind="stable")], sizes, tokens)
    if random is not None:
        random.shuffle(batches)
    return batches


def _rows_of(sizes: NDArray[np.int64], tokens: int) -> int:
    return max(1, int(tokens / max(1.0, float(sizes.mean()) if len(sizes) else 1.0)))


def _filled(rows: NDArray[np.intp], sizes: NDArray[np.int64], tokens: int) -> list[NDArray[np.intp]]:
    """Rows, shortest first, cut where one more would make the padded batch larger than `tokens`."""
    batches, start = [], 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or (end + 1 - start) * sizes[rows[end]] > tokens:
            batches.append(rows[start:end])
            start = end
    return batches


def padding_share(lengths: NDArray[np.int64], batches: list[NDArray[np.intp]]) -> float:
    """The share of padded positions among all positions of the batches."""
    sizes = lengths + 1
    room = sum(len(rows) * int(sizes[rows].max()) for rows in batches)
    return 1.0 - sum(int(sizes[rows].sum()) for rows in batches) / room if room else 0.0


def batch_of(sequences: AnySequences, rows: NDArray[np.intp]) -> Batch:
    """The chosen rows as a batch."""
    return padded(sequences.take(rows))
