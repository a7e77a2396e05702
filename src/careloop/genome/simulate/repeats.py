"""Homopolymers and short tandem repeats of a sequence, where variants and sequencing errors are hard to tell apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

# Bases that a repeat of this unit length must cover to count: what an aligner may place in several ways.
SHORTEST_REPEAT = {1: 5, 2: 8, 3: 11, 4: 13, 5: 16, 6: 19}


@dataclass(frozen=True, slots=True)
class Repeat:
    """`[start, end)` of a sequence repeats a unit of `unit` bases."""

    start: int
    end: int
    unit: int


def bases_of(sequence: str) -> Any:
    """The sequence as an array of ASCII codes (uint8)."""
    return np.frombuffer(sequence.encode("ascii"), dtype=np.uint8)


def find_repeats(sequence: str) -> list[Repeat]:
    """Every homopolymer and tandem repeat of units up to 6 bases, by start; of overlapping ones the shorter unit."""
    bases = bases_of(sequence)
    taken = np.zeros(len(bases), dtype=bool)
    found: list[Repeat] = []
    for unit, shortest in SHORTEST_REPEAT.items():
        same = (bases[unit:] == bases[:-unit]) & (bases[unit:] != ord("N"))
        edges = np.flatnonzero(np.diff(np.concatenate(([0], same.astype(np.int8), [0]))))
        for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            end = stop + unit
            if end - start >= shortest and not taken[start:end].any():
                taken[start:end] = True
                found.append(Repeat(start, end, unit))
    return sorted(found, key=lambda repeat: repeat.start)
