"""What a search of alike proteins is asked, and what it finds, whichever program searches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from careloop import InputError

Program = Literal["diamond", "embedded"]


@dataclass(frozen=True)
class SearchOptions:
    """How alike proteins are searched.

    `largest_evalue`: alignments expected by chance more often than this in the whole library are left out. `most_hits`:
    at most so many library proteins a query, the best by bit score. `program`: None takes DIAMOND where installed.
    """

    largest_evalue: float = 10.0
    most_hits: int = 100
    program: Program | None = None
    threads: int = 2

    def __post_init__(self) -> None:
        if self.program not in (None, *get_args(Program)):
            raise InputError(f"a search is by {' or '.join(get_args(Program))}; got {self.program!r}")
        if self.largest_evalue <= 0 or self.most_hits < 1 or self.threads < 1:
            raise InputError("a search has an E-value above 0, at least one hit and one thread; got less")


@dataclass(frozen=True, eq=False)
class Hits:
    """Alignments (m,), one a pair of query and library protein, by query and falling bit score.

    `query` and `target` places; `identity` 0 to 1 of the aligned columns, gaps among them; `query_span` and
    `target_span` (m, 2) start and end of the alignment in each, from 0, end excluded; `bit_score` and `evalue` (Karlin
    and Altschul, PNAS 1990;87:2264) with BLOSUM62, gaps 11 and 1. `program` says what searched.
    """

    query: NDArray[np.int64]
    target: NDArray[np.int64]
    identity: NDArray[np.float64]
    query_span: NDArray[np.int64]
    target_span: NDArray[np.int64]
    bit_score: NDArray[np.float64]
    evalue: NDArray[np.float64]
    program: str

    def __len__(self) -> int:
        return len(self.query)

    def of_query(self, place: int) -> Hits:
        """Those of one query, the best first."""
        return self.chosen(self.query == place)

    def chosen(self, which: NDArray | slice) -> Hits:
        """Some of them, by a mask or by places."""
        return Hits(
            query=self.query[which],
            target=self.target[which],
            identity=self.identity[which],
            query_span=self.query_span[which],
            target_span=self.target_span[which],
            bit_score=self.bit_score[which],
            evalue=self.evalue[which],
            program=self.program,
        )

    def best_identity(self, queries: int) -> NDArray[np.float64]:
        """(queries,) the highest identity among each query's hits, 0 where there is none."""
        best = np.zeros(queries)
        np.maximum.at(best, self.query, self.identity)
        return best
