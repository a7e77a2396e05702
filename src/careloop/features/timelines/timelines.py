"""Timelines: the sequence of each (subject, prediction time), in memory or mapped from disk."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.features.matrix import KEYS
from careloop.features.timelines.storage import opened, replaced_folder, write_index, write_part
from careloop.models.sequence.arrays import AnySequences, SequenceParts


@dataclass(frozen=True, eq=False)
class Timelines:
    """`sequences` (n rows) of the `keys` (n rows: subject_id, prediction_time), in the same order."""

    keys: pl.DataFrame
    sequences: AnySequences

    def __post_init__(self) -> None:
        if self.keys.height != len(self.sequences):
            raise InputError(
                f"timelines: keys and sequences must have the same rows, got {self.keys.height} and"
                f" {len(self.sequences)}"
            )

    def __len__(self) -> int:
        return self.keys.height

    def filter(self, mask: NDArray[np.bool_] | pl.Series) -> Timelines:
        """Only the rows where the mask (n,) is true; events are not copied."""
        chosen = np.asarray(mask, dtype=bool)
        if len(chosen) != len(self):
            raise InputError(f"timelines: a mask must have one entry for each of {len(self)} rows, got {len(chosen)}")
        return self.take(np.flatnonzero(chosen))

    def take(self, positions: NDArray[Any]) -> Timelines:
        """These rows (positions or mask) in this order, repeats allowed; events are not copied."""
        positions = np.asarray(positions)
        places = np.flatnonzero(positions) if positions.dtype == np.bool_ else positions.astype(np.intp)
        here = self._as_parts()
        return Timelines(self.keys[places], SequenceParts(here.parts, here.part[places], here.row[places]))

    def with_static(self, static: NDArray[Any]) -> Timelines:
        """The same events with these static columns (n, s) beside them, which replace those there were.

        Raises:
            InputError: other rows than the timelines have, a NaN, or two rows of one key that differ.
        """
        values = np.asarray(static, dtype=np.float32)
        if values.ndim != 2 or len(values) != len(self):
            raise InputError(f"static columns must be (rows, columns) with {len(self)} rows, got {values.shape}")
        if np.isnan(values).any():
            raise InputError("static columns must not be NaN; fill in what is missing, by training rows")
        here, parts = self._as_parts(), []
        for number, part in enumerate(here.parts):
            mine = here.part == number
            table = np.zeros((len(part), values.shape[1]), dtype=np.float32)
            table[here.row[mine]] = values[mine]
            if not np.array_equal(table[here.row[mine]], values[mine]):
                raise InputError("static columns: rows of the same subject_id and prediction_time must be the same")
            parts.append(dataclasses.replace(part, static=table))
        return Timelines(self.keys, SequenceParts(tuple(parts), here.part, here.row))

    def save(self, folder: str | Path) -> None:
        """Write into a folder, which `open` maps; timelines that stand there are replaced when all is written.

        Raises:
            InputError: the folder holds something else.
        """
        here, part, row = self._as_parts(), np.zeros(len(self), np.intp), np.zeros(len(self), np.intp)
        with replaced_folder(Path(folder)) as unfinished:
            used = np.unique(here.part) if len(self) else np.zeros(1, np.intp)
            for number, old in enumerate(used):
                mine = here.part == old
                rows, row[mine] = np.unique(here.row[mine], return_inverse=True)
                part[mine] = number
                write_part(here.parts[old].take(rows), unfinished, number)
            write_index(self.keys.select(KEYS), part, row, unfinished)

    @classmethod
    def open(cls, folder: str | Path) -> Timelines:
        """Open what `save` or `extract_timelines` wrote, mapped: events are read from disk when they are used.

        Raises:
            InputError: no timelines, a file is missing or cut off, written by a newer careloop, or no pyarrow.
        """
        placed, parts = opened(Path(folder))
        places = (placed[name].to_numpy().astype(np.intp) for name in ("part", "row"))
        return cls(placed.select(KEYS), SequenceParts(parts, *places))

    def _as_parts(self) -> SequenceParts:
        if isinstance(self.sequences, SequenceParts):
            return self.sequences
        rows = np.arange(len(self.sequences))
        return SequenceParts((self.sequences,), np.zeros_like(rows), rows)
