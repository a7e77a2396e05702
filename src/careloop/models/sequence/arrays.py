"""Event sequences as flat arrays: one ragged row a patient and prediction time, oldest event first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from careloop import InputError

# Numbers below are no codes of a vocabulary.
PADDING, UNKNOWN, MASK, NOW = 0, 1, 2, 3
FIRST_CODE = 4
EVENT_ARRAYS = ("code", "quantile", "value", "time")
SCALED_BY = 1000  # rows whose notes show the scale of all


@dataclass(frozen=True)
class TokenSpace:
    """What the numbers in `Sequences` mean to a network: how many there are, and which codes are related.

    `tokens`: code numbers lie in 0..tokens - 1 and begin with `PADDING`, `UNKNOWN`, `MASK`, `NOW`. `quantiles`: a
    quantile number lies in 0..quantiles, 0 for no number. `ancestors` (tokens, depth) int32: the tokens of each code's
    ancestors in its ontology, nearest first, `PADDING` where there are no more; an ancestor may be a token that no
    event has. `statics`: columns of `Sequences.static`. `note_width`: numbers of a note's vector, 0 without notes.
    """

    tokens: int
    quantiles: int
    ancestors: NDArray[np.int32]
    statics: int = 0
    note_width: int = 0

    def __post_init__(self) -> None:
        if self.ancestors.ndim != 2 or len(self.ancestors) != self.tokens:
            raise InputError(
                f"ancestors must have one row for each of {self.tokens} tokens; got shape {self.ancestors.shape}"
            )
        if self.ancestors.size and not 0 <= self.ancestors.min() <= self.ancestors.max() < self.tokens:
            raise InputError(f"ancestors must be tokens, 0 to {self.tokens - 1}; got numbers outside")


@dataclass(frozen=True, eq=False)
class Sequences:
    """Ragged rows (n) of events (T in all): row i has the events `offsets[i]` up to `offsets[i + 1]`, by rising time.

    `offsets` (n + 1,) int64; `code` (T,) int32 tokens; `quantile` (T,) uint8, 0 for no number, else 1..quantiles of the
    code's training values; `value` (T,) float32 standardised within the code, NaN for no number; `time` (T,) float64
    days since birth (since the subject's first event where no birth is known); `at` (n,) float64 the prediction time on
    the same scale; `static` (n, s) float32 without NaN. Where events may have notes, `note` (T,) int32 is the row of
    each one's vector in `notes` (u, e) float16, -1 for none. Arrays may be read-only memory maps.
    """

    offsets: NDArray[np.int64]
    code: NDArray[np.int32]
    quantile: NDArray[np.uint8]
    value: NDArray[np.float32]
    time: NDArray[np.float64]
    at: NDArray[np.float64]
    static: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    note: NDArray[np.int32] | None = None
    notes: NDArray[np.float16] | None = None

    def __post_init__(self) -> None:
        rows, events = len(self.offsets) - 1, int(self.offsets[-1])
        if self.static.shape == (0, 0):
            object.__setattr__(self, "static", np.zeros((rows, 0), dtype=np.float32))
        if (self.note is None) != (self.notes is None):
            raise InputError("sequences: note and notes come together; got one of them")
        wrong = [name for name, array in self.event_arrays.items() if len(array) != events]
        wrong += [name for name in ("at", "static") if len(getattr(self, name)) != rows]
        if wrong:
            raise InputError(
                f"sequences: {wrong[0]} must match {rows} rows and {events} events; got {len(getattr(self, wrong[0]))}"
            )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Events of each row (n,)."""
        return np.diff(self.offsets)

    @property
    def event_arrays(self) -> dict[str, NDArray[Any]]:
        """By name, the arrays (T,) with an entry for each event: `EVENT_ARRAYS`, and `note` where there are notes."""
        arrays = {name: getattr(self, name) for name in EVENT_ARRAYS}
        return arrays if self.note is None else arrays | {"note": self.note}

    @property
    def note_width(self) -> int:
        """Numbers of a note's vector, 0 without notes."""
        return 0 if self.notes is None else self.notes.shape[1]

    def take(self, rows: NDArray[Any], *, most: int | None = None) -> Sequences:
        """Chosen rows (positions or mask) in that order, copied; of each only its `most` latest events.

        Only the notes of these events come with them.
        """
        rows = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        ends = self.offsets[1:][rows]
        lengths = ends - self.offsets[:-1][rows]
        kept = lengths if most is None else np.minimum(lengths, most)
        offsets = np.concatenate([[0], np.cumsum(kept)])
        place = np.repeat(ends - kept - offsets[:-1], kept) + np.arange(offsets[-1])
        events = {name: array[place] for name, array in self.event_arrays.items()}
        notes = self.notes
        if notes is not None:
            events["note"], used = renumbered(events["note"])
            notes = notes[used]
        return Sequences(offsets, **events, at=self.at[rows], static=self.static[rows], notes=notes)


@dataclass(frozen=True, eq=False)
class SequenceParts:
    """Sequences that lie in several parts (such as memory-mapped shards), used as one: row i of `order`."""

    parts: tuple[Sequences, ...]
    part: NDArray[np.intp]
    row: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.part)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Events of each row (n,)."""
        found = np.empty(len(self), dtype=np.int64)
        for number, one in enumerate(self.parts):
            here = self.part == number
            found[here] = one.lengths[self.row[here]]
        return found

    @property
    def note_width(self) -> int:
        """Numbers of a note's vector, 0 without notes."""
        return self.parts[0].note_width

    def take(self, rows: NDArray[Any], *, most: int | None = None) -> Sequences:
        """As `Sequences.take`."""
        rows = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        numbers = np.unique(self.part[rows])
        found = [self.parts[n].take(self.row[rows[self.part[rows] == n]], most=most) for n in numbers]
        if not found:
            return self.parts[0].take(np.empty(0, dtype=np.intp))
        place = np.concatenate([np.flatnonzero(self.part[rows] == n) for n in numbers])
        return stacked(found).take(np.argsort(place))


AnySequences = Sequences | SequenceParts


def stacked(parts: Sequence[Sequences]) -> Sequences:
    """Several sequences as one, rows one after the other; parts that share one table of notes go on sharing it."""
    starts = np.cumsum([0, *(int(part.offsets[-1]) for part in parts)])
    offsets = [part.offsets[1:] + start for part, start in zip(parts, starts[:-1], strict=True)]
    arrays = {
        f.name: np.concatenate([getattr(part, f.name) for part in parts])
        for f in fields(Sequences)
        if f.name not in ("offsets", "note", "notes")
    }
    return Sequences(np.concatenate([[0], *offsets]).astype(np.int64), **arrays, **_stacked_notes(parts))


def _stacked_notes(parts: Sequence[Sequences]) -> dict[str, NDArray[Any]]:
    """`note` and `notes` of several sequences as one; nothing where they have none."""
    widths = {part.note_width if part.notes is not None else None for part in parts}
    if len(widths) > 1:
        raise InputError("sequences with and without notes, or with notes of other widths, cannot be stacked")
    tables = {id(part.notes): part.notes for part in parts if part.notes is not None}
    if not tables:
        return {}
    starts = dict(zip(tables, np.cumsum([0, *(len(table) for table in tables.values())]), strict=False))
    moved = [part.note + (part.note >= 0) * np.int32(starts[id(part.notes)]) for part in parts]  # type: ignore[operator]
    notes = list(tables.values())
    return {"note": np.concatenate(moved), "notes": notes[0] if len(notes) == 1 else np.concatenate(notes)}


def some_notes(sequences: AnySequences) -> NDArray[np.float16]:
    """Vectors (k, e) of the notes of at most `SCALED_BY` rows, evenly among all; (0, 0) without notes."""
    rows = np.unique(np.linspace(0, max(len(sequences) - 1, 0), min(len(sequences), SCALED_BY)).astype(np.intp))
    notes = sequences.take(rows).notes if sequences.note_width else None
    return np.zeros((0, 0), dtype=np.float16) if notes is None else notes


def renumbered(note: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Notes of events (T,) counted anew in the same order without gaps, -1 as it is; and their old numbers (u,)."""
    has_note = note >= 0
    used, place = np.unique(note[has_note], return_inverse=True)
    found = np.full_like(note, -1)
    found[has_note] = place
    return found, used
