"""Local alignment of many pairs at once: Smith and Waterman with affine gaps, in numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# BLOSUM62 (Henikoff and Henikoff, PNAS 1992;89:10915) in half bits; J, U and O are read as L, C and K.
ORDER = "ARNDCQEGHILKMFPSTWYVBZX"
_BLOSUM62 = """
 4 -1 -2 -2  0 -1 -1  0 -2 -1 -1 -1 -1 -2 -1  1  0 -3 -2  0 -2 -1  0
-1  5  0 -2 -3  1  0 -2  0 -3 -2  2 -1 -3 -2 -1 -1 -3 -2 -3 -1  0 -1
-2  0  6  1 -3  0  0  0  1 -3 -3  0 -2 -3 -2  1  0 -4 -2 -3  3  0 -1
-2 -2  1  6 -3  0  2 -1 -1 -3 -4 -1 -3 -3 -1  0 -1 -4 -3 -3  4  1 -1
 0 -3 -3 -3  9 -3 -4 -3 -3 -1 -1 -3 -1 -2 -3 -1 -1 -2 -2 -1 -3 -3 -2
-1  1  0  0 -3  5  2 -2  0 -3 -2  1  0 -3 -1  0 -1 -2 -1 -2  0  3 -1
-1  0  0  2 -4  2  5 -2  0 -3 -3  1 -2 -3 -1  0 -1 -3 -2 -2  1  4 -1
 0 -2  0 -1 -3 -2 -2  6 -2 -4 -4 -2 -3 -3 -2  0 -2 -2 -3 -3 -1 -2 -1
-2  0  1 -1 -3  0  0 -2  8 -3 -3 -1 -2 -1 -2 -1 -2 -2  2 -3  0  0 -1
-1 -3 -3 -3 -1 -3 -3 -4 -3  4  2 -3  1  0 -3 -2 -1 -3 -1  3 -3 -3 -1
-1 -2 -3 -4 -1 -2 -3 -4 -3  2  4 -2  2  0 -3 -2 -1 -2 -1  1 -4 -3 -1
-1  2  0 -1 -3  1  1 -2 -1 -3 -2  5 -1 -3 -1  0 -1 -3 -2 -2  0  1 -1
-1 -1 -2 -3 -1  0 -2 -3 -2  1  2 -1  5  0 -2 -1 -1 -1 -1  1 -3 -1 -1
-2 -3 -3 -3 -2 -3 -3 -3 -1  0  0 -3  0  6 -4 -2 -2  1  3 -1 -3 -3 -1
-1 -2 -2 -1 -3 -1 -1 -2 -2 -3 -3 -1 -2 -4  7 -1 -1 -4 -3 -2 -2 -1 -2
 1 -1  1  0 -1  0  0  0 -1 -2 -2  0 -1 -2 -1  4  1 -3 -2 -2  0  0  0
 0 -1  0 -1 -1 -1 -1 -2 -2 -1 -1 -1 -1 -2 -1  1  5 -2 -2  0 -1 -1  0
-3 -3 -4 -4 -2 -2 -3 -2 -2 -3 -2 -3 -1  1 -4 -3 -2 11  2 -3 -4 -3 -2
-2 -2 -2 -3 -2 -1 -2 -3  2 -1 -1 -2 -1  3 -3 -2 -2  2  7 -1 -3 -2 -1
 0 -3 -3 -3 -1 -2 -2 -3 -3  3  1 -2  1 -1 -2 -2  0 -3 -1  4 -3 -2 -1
-2 -1  3  4 -3  0  1 -1  0 -3 -4  0 -3 -3 -2  0 -1 -4 -3 -3  4  1 -1
-1  0  0  1 -3  3  4 -2  0 -3 -3  1 -1 -3 -1  0 -1 -3 -2 -2  1  4 -1
 0 -1 -1 -1 -2 -1 -1 -1 -1 -1 -1 -1 -1 -1 -2  0  0 -2 -1 -1 -1 -1 -1
"""
PAD = len(ORDER)  # stands after the end of a shorter sequence and matches nothing
GAP_OPEN, GAP_EXTEND = 12, 1  # of the first residue in a gap, and of each further one: BLAST's 11 and 1
LAMBDA, K = 0.267, 0.041  # of BLOSUM62 with these gaps (Altschul et al., Nucleic Acids Res 1997;25:3389, NCBI's tables)
_FAR = -10_000  # below every score that an alignment of `LONGEST` residues can lose
LONGEST = 2_500  # residues aligned: scores stay within 16 bits, and the trace of a pair within 6 MB
_STOP, _DIAGONAL, _DOWN, _ALONG = 0, 1, 2, 3  # where a cell's best score comes from
_DOWN_ON, _ALONG_ON = 4, 8  # that gap was already open
_CELLS = 2**26  # of all pairs aligned at a time
_ROW_CELLS = 2**18  # of one row of all pairs aligned at a time
# How common residues are (Robinson and Robinson, PNAS 1991;88:8880), in the order of `ORDER`, and the window of the
# correction for what is common near a residue.
_COMMON = (
    *(0.0780, 0.0512, 0.0448, 0.0536, 0.0192, 0.0426, 0.0629, 0.0738, 0.0220, 0.0514),
    *(0.0901, 0.0574, 0.0224, 0.0386, 0.0520, 0.0712, 0.0584, 0.0133, 0.0322, 0.0644),
)
_WINDOW = 20  # residues to each side


def _substitution() -> NDArray[np.int16]:
    table = np.full((PAD + 1, PAD + 1), -100, dtype=np.int16)
    table[:PAD, :PAD] = np.array(_BLOSUM62.split(), dtype=np.int16).reshape(PAD, PAD)
    return table


SUBSTITUTION = _substitution()
_CODES = np.full(256, ORDER.index("X"), dtype=np.uint8)
_CODES[np.frombuffer(ORDER.encode(), dtype=np.uint8)] = np.arange(PAD)
_CODES[np.frombuffer(b"JUO", dtype=np.uint8)] = [ORDER.index(letter) for letter in "LCK"]


@dataclass(frozen=True, eq=False)
class Alignments:
    """The best local alignment of each pair (m,): `score` in half bits, 0 where nothing matches, and where it lies.

    `identical` and `columns` count aligned columns, gaps among the latter; spans (m, 2) start from 0, end excluded.
    """

    score: NDArray[np.int64]
    identical: NDArray[np.int64]
    columns: NDArray[np.int64]
    query_span: NDArray[np.int64]
    target_span: NDArray[np.int64]


def encoded(sequence: str) -> NDArray[np.uint8]:
    """Places of residues in `ORDER`, of the first `LONGEST`."""
    return _CODES[np.frombuffer(sequence[:LONGEST].encode("ascii"), dtype=np.uint8)]


def bit_scores(score: NDArray) -> NDArray[np.float64]:
    """Normalised scores in bits."""
    return (LAMBDA * np.asarray(score, dtype=np.float64) - np.log(K)) / np.log(2)


def evalues(score: NDArray, query_length: int, library_residues: int) -> NDArray[np.float64]:
    """How many alignments as good are expected by chance in a library of so many residues."""
    return query_length * library_residues * 2.0 ** -bit_scores(score)


def local_correction(query: NDArray[np.uint8]) -> NDArray[np.int16]:
    """(n,) what a match of each residue of a query counts more or less, by how common the like of it is around.

    A residue in a stretch of its like scores against anything of that composition; it is given less, by the mean
    score with the 20 residues to each side less that with residues as common as everywhere. Source: Hauser et al.,
    Bioinformatics 2016;32:1323 (MMseqs), which DIAMOND's --comp-based-stats 1 follows.
    """
    n = len(query)
    table = SUBSTITUTION[:PAD, :PAD].astype(np.float64)
    counts = np.zeros((n + 1, PAD))
    counts[np.arange(1, n + 1), query] = 1
    summed = np.cumsum(counts, axis=0)
    low, high = np.maximum(np.arange(n) - _WINDOW, 0), np.minimum(np.arange(n) + _WINDOW + 1, n)
    around = summed[high] - summed[low]
    around[np.arange(n), query] -= 1
    near = (around * table[query]).sum(axis=1) / np.maximum(around.sum(axis=1), 1)
    return np.round(table[query, : len(_COMMON)] @ np.array(_COMMON) - near).astype(np.int16)


def best_scores(
    query: NDArray[np.uint8], targets: Sequence[NDArray[np.uint8]], correction: NDArray[np.int16]
) -> NDArray[np.int64]:
    """(m,) the score of the best local alignment of one query with each target; `correction` (n,) of its residues."""

    def scored(padded: NDArray[np.uint8]) -> NDArray[np.int64]:
        top = np.zeros(padded.shape, dtype=np.int16)
        for row in _rows(query, padded, correction):
            np.maximum(top, row.best, out=top)
        return top.max(axis=1).astype(np.int64)[:, None]

    return _in_batches(query, targets, scored, columns=1)[:, 0]


def align(query: NDArray[np.uint8], targets: Sequence[NDArray[np.uint8]], correction: NDArray[np.int16]) -> Alignments:
    """The best local alignment of one query with each target; `correction` (n,) of its residues."""

    def aligned(padded: NDArray[np.uint8]) -> NDArray[np.int64]:
        trace, score, at = _traces(query, padded, correction)
        return np.column_stack([score, *_traced(query, padded, trace, at)])

    rows = _in_batches(query, targets, aligned, columns=7)
    return Alignments(rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3:5], rows[:, 5:7])


def _in_batches(
    query: NDArray[np.uint8],
    targets: Sequence[NDArray[np.uint8]],
    work: Callable[[NDArray[np.uint8]], NDArray[np.int64]],
    *,
    columns: int,
) -> NDArray[np.int64]:
    """`work` (pairs, columns) on targets of similar length at a time, in the order given."""
    order = sorted(range(len(targets)), key=lambda place: len(targets[place]))
    found = np.zeros((len(targets), columns), dtype=np.int64)
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order):
            row = (end + 1 - start) * len(targets[order[end]])
            if row > _ROW_CELLS or row * len(query) > _CELLS:
                break
            end += 1
        found[order[start:end]] = work(_padded([targets[place] for place in order[start:end]]))
        start = end
    return found


def _padded(targets: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """(pairs, longest) of targets in order of length."""
    padded = np.full((len(targets), max(1, len(targets[-1]))), PAD, dtype=np.uint8)
    for place, target in enumerate(targets):
        padded[place, : len(target)] = target
    return padded


@dataclass(frozen=True, eq=False)
class _Row:
    """Scores (pairs, target) of one residue of the query: the best and those of each way to it; overwritten later."""

    best: NDArray[np.int16]
    diagonal: NDArray[np.int16]
    opened: NDArray[np.int16]
    down: NDArray[np.int16]
    along: NDArray[np.int16]


def _rows(query: NDArray[np.uint8], padded: NDArray[np.uint8], correction: NDArray[np.int16]) -> Iterator[_Row]:
    """Gotoh's recursion (J Mol Biol 1982;162:705), a row of all pairs at a time.

    A gap along the target is found for a whole row at once: of the scores left of a cell, each less the gap up to it,
    the highest is a running maximum of scores that are written as if at the row's start.
    """
    width = padded.shape[1]
    profile = SUBSTITUTION[:, padded]  # (letters, pairs, width)
    ramp = (np.arange(width, dtype=np.int16) * GAP_EXTEND)[None]
    row = _Row(*(np.zeros(padded.shape, dtype=np.int16) for _ in range(5)))
    row.down[:], row.along[:] = _FAR, _FAR
    running = np.empty_like(row.best)
    for letter, more in zip(query.tolist(), correction, strict=True):
        np.add(row.best[:, :-1], profile[letter][:, 1:], out=row.diagonal[:, 1:])
        row.diagonal[:, 0] = profile[letter][:, 0]
        np.add(row.diagonal, more, out=row.diagonal)
        np.subtract(row.best, np.int16(GAP_OPEN), out=row.opened)
        np.subtract(row.down, np.int16(GAP_EXTEND), out=row.down)
        np.maximum(row.down, row.opened, out=row.down)
        np.maximum(row.diagonal, row.down, out=row.best)
        np.maximum(row.best, np.int16(0), out=row.best)
        np.add(row.best, ramp, out=running)
        np.maximum.accumulate(running, axis=1, out=running)
        np.subtract(running[:, :-1], ramp[:, 1:] + np.int16(GAP_OPEN - GAP_EXTEND), out=row.along[:, 1:])
        np.maximum(row.best, row.along, out=row.best)
        yield row


def _traces(
    query: NDArray[np.uint8], padded: NDArray[np.uint8], correction: NDArray[np.int16]
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Where each cell (query, pairs, target) comes from; each pair's best score, and its cell (pairs, 2)."""
    pairs, width = padded.shape
    trace = np.zeros((len(query), pairs, width), dtype=np.uint8)
    top, at = np.zeros(pairs, dtype=np.int64), np.zeros((pairs, 2), dtype=np.int64)
    for place, row in enumerate(_rows(query, padded, correction)):
        ways = [row.best == 0, row.best == row.diagonal, row.best == row.down]
        whence = np.select(ways, [_STOP, _DIAGONAL, _DOWN], _ALONG).astype(np.uint8)
        whence |= (row.down > row.opened).astype(np.uint8) * np.uint8(_DOWN_ON)
        going = row.along[:, 1:] == row.along[:, :-1] - np.int16(GAP_EXTEND)
        whence[:, 1:] |= going.astype(np.uint8) * np.uint8(_ALONG_ON)
        trace[place] = whence
        ends = row.best.argmax(axis=1)
        values = row.best[np.arange(pairs), ends]
        higher = values > top
        top[higher], at[higher, 0], at[higher, 1] = values[higher], place, ends[higher]
    return trace, top, at


def _traced(
    query: NDArray[np.uint8], padded: NDArray[np.uint8], trace: NDArray[np.uint8], at: NDArray[np.int64]
) -> tuple[NDArray[np.int64], ...]:
    """Identical and all columns, and spans, of all pairs: back from each best cell to where its alignment begins."""
    pairs = np.arange(len(padded))
    i, j = at[:, 0].copy(), at[:, 1].copy()
    identical, columns = np.zeros(len(pairs), dtype=np.int64), np.zeros(len(pairs), dtype=np.int64)
    state = np.full(len(pairs), _STOP, dtype=np.int64)  # the gap that is being followed
    going = (trace[i, pairs, j] & 3) != _STOP
    while going.any():
        p = pairs[going]
        cell = trace[i[p], p, j[p]]
        step = np.where(state[p] == _STOP, cell & 3, state[p])
        ended = step == _STOP
        diagonal, downwards, sidewards = step == _DIAGONAL, step == _DOWN, step == _ALONG
        columns[p] += ~ended
        identical[p] += diagonal & (query[i[p]] == padded[p, j[p]])
        on = (downwards & ((cell & _DOWN_ON) > 0)) | (sidewards & ((cell & _ALONG_ON) > 0))
        state[p] = np.where(on, step, _STOP)
        i[p] -= diagonal | downwards
        j[p] -= diagonal | sidewards
        going[p] = ~ended & (i[p] >= 0) & (j[p] >= 0)
    return identical, columns, i + 1, at[:, 0] + 1, j + 1, at[:, 1] + 1
