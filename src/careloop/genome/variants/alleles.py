"""One spelling for an allele: trimmed, left-aligned against the reference, and how far it could be shifted."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

Fetch = Callable[[int, int], str]  # bases of one contig, 0-based half-open, upper case; ends are cut to the contig

MAX_SHIFT = 10_000  # bases that an indel is moved at most: longer than any tandem array a short indel is placed in
STEP = 64  # bases fetched at a time while moving


def trim(start: int, alleles: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    """Cut what all alleles share at their ends; alleles may become empty (no anchor base).

    The left end first: a record's first base is the anchor, behind which an insertion is meant to stand.
    """
    shortest = min(map(len, alleles))
    left = 0
    while left < shortest and len({allele[left] for allele in alleles}) == 1:
        left += 1
    shortest -= left
    right = 0
    while right < shortest and len({allele[-1 - right] for allele in alleles}) == 1:
        right += 1
    return start + left, tuple(allele[left : len(allele) - right] for allele in alleles)


def left_align(fetch: Fetch, start: int, alleles: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    """The normalised spelling of alleles, the reference first: leftmost, parsimonious, none empty.

    Tan, Abecasis and Kang, Bioinformatics 2015;31:2202, algorithm 1, for two or more alleles. At the contig's first
    base, where nothing precedes an indel, the following base is its anchor (VCF 4.5 section 1.6.1.4).
    """
    start, alleles = trim(start, alleles)
    if all(alleles):
        return start, alleles
    start, alleles = _shift_left(fetch, start, alleles)
    if start == 0:
        after = fetch(len(alleles[0]), len(alleles[0]) + 1)
        return start, tuple(allele + after for allele in alleles)
    before = fetch(start - 1, start)
    return start - 1, tuple(before + allele for allele in alleles)


def _shift_left(fetch: Fetch, start: int, alleles: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    """Move alleles, one of them empty, to the left while all end with the same base once one base is put before."""
    lowest = max(0, start - MAX_SHIFT)
    known_from, known = start, ""
    while start > lowest:
        if start == known_from:
            known_from = max(lowest, start - STEP)
            known = fetch(known_from, start)
        base = known[start - known_from - 1]
        last = {(allele or base)[-1] for allele in alleles}
        if len(last) > 1:
            break
        start -= 1
        alleles = tuple((base + allele)[:-1] for allele in alleles)
    return start, alleles


def reach(fetch: Fetch, start: int, ref: str, alt: str) -> tuple[int, int]:
    """The stretch over which a trimmed allele could be written elsewhere: (first base, base after the last).

    A pure insertion or deletion is shifted both ways as far as the repeat goes (at most `MAX_SHIFT`); anything else
    stays where it is. One base is added on both sides, since an indel is also written with its neighbour changed.
    """
    end = start + len(ref)
    if bool(ref) == bool(alt):
        return max(0, start - 1), end + 1
    left, _ = _shift_left(fetch, start, (ref, alt))
    return max(0, left - 1), end + room_right(fetch, end, ref or alt) + 1


def room_right(fetch: Fetch, end: int, unit: str) -> int:
    """How many bases after `end` continue the repeat of `unit`, the inserted or deleted bases."""
    count = 0
    while count < MAX_SHIFT:
        known = fetch(end + count, end + count + STEP)
        for base in known:
            if base != unit[count % len(unit)]:
                return count
            count += 1
        if len(known) < STEP:
            break
    return count


def primitives(ref: str, alt: str) -> list[tuple[int, str, str]]:
    """The single-base changes and pure indels that together turn `ref` into `alt`: (offset, ref, alt), trimmed.

    Equal lengths are compared base by base, as `vt decompose_blocksub` does; else the alignment with fewest changed
    bases (Levenshtein), of those the one whose gaps are fewest and leftmost.
    """
    if len(ref) == len(alt):
        return [(at, a, b) for at, (a, b) in enumerate(zip(ref, alt, strict=True)) if a != b]
    steps = _alignment(ref, alt)
    found: list[tuple[int, str, str]] = []
    for (i, j), (next_i, next_j) in pairwise(steps):
        piece_ref, piece_alt = ref[i:next_i], alt[j:next_j]
        if piece_ref == piece_alt:
            continue
        gap = not (piece_ref and piece_alt)
        if gap and found and _continues(found[-1], i, piece_ref, piece_alt):
            at, before_ref, before_alt = found[-1]
            found[-1] = (at, before_ref + piece_ref, before_alt + piece_alt)
        else:
            found.append((i, piece_ref, piece_alt))
    return found


def _continues(last: tuple[int, str, str], at: int, ref: str, alt: str) -> bool:
    """Whether a gap of one base lengthens the gap found last."""
    start, last_ref, last_alt = last
    if ref:
        return not last_alt and start + len(last_ref) == at
    return not last_ref and start == at


_OPEN, _CHANGE = 1, 1_000  # fewest changed bases first; among those the fewest gaps


def _alignment(ref: str, alt: str) -> list[tuple[int, int]]:
    """Corners (i, j) of the best path through the edit matrix, from (0, 0) to (len(ref), len(alt)).

    Gotoh 1982 with three states (0 diagonal, 1 deleted, 2 inserted); read backwards, ties prefer the diagonal, which
    puts gaps to the left.
    """
    infinity = float("inf")
    rows, columns = len(ref) + 1, len(alt) + 1
    cost = [[[infinity] * 3 for _ in range(columns)] for _ in range(rows)]
    cost[0][0][0] = 0
    for i in range(rows):
        for j in range(columns):
            here = cost[i][j]
            if i and j:
                here[0] = min(cost[i - 1][j - 1]) + (0 if ref[i - 1] == alt[j - 1] else _CHANGE)
            if i:
                here[1] = min(value + _CHANGE + _OPEN * (state != 1) for state, value in enumerate(cost[i - 1][j]))
            if j:
                here[2] = min(value + _CHANGE + _OPEN * (state != 2) for state, value in enumerate(cost[i][j - 1]))
    i, j = rows - 1, columns - 1
    state = cost[i][j].index(min(cost[i][j]))
    path = [(i, j)]
    while i or j:
        i, j = i - (state != 2), j - (state != 1)
        opening = [_OPEN * (state != 0 and before != state) for before in range(3)]
        reached = [value + extra for value, extra in zip(cost[i][j], opening, strict=True)]
        state = reached.index(min(reached))
        path.append((i, j))
    return path[::-1]
