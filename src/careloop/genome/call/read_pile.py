"""What the reads show around one variant, as plain data: bases that differ, gaps, insertions, strand and quality."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from careloop.genome.variant import Variant

Fetch = Callable[[str, int, int], str]  # (contig, start, end) -> upper-case bases
Shows = Literal["alternative", "reference", "another allele", "neither"]
FLANK = 40  # bases shown on either side
MOST_READS = 40
_LEFT_OUT = 0x4 | 0x100 | 0x200 | 0x400 | 0x800  # unmapped, secondary, quality fail, duplicate, supplementary
_MATCH, _INSERTION, _DELETION, _SKIP, _SOFT_CLIP = (0, 7, 8), 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class PiledRead:
    """One read inside the window; places are 0-based on the reference.

    `mismatches` are (place, base, base quality), `deletions` intervals, `insertions` (place that they stand before,
    bases). `shows` is which allele the read has; `neither` where it does not span it. `site_quality` is the base
    quality at the variant's first base, `from_end` that base's distance from the nearer end of the read; 0 for none.
    `name` is that of the fragment, which both mates share.
    """

    start: int
    end: int
    reverse: bool
    mapping_quality: int
    shows: Shows
    mismatches: tuple[tuple[int, str, int], ...] = ()
    deletions: tuple[tuple[int, int], ...] = ()
    insertions: tuple[tuple[int, str], ...] = ()
    site_quality: int = 0
    from_end: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class ReadPile:
    """The window [start, end) with its reference bases, reads over the variant (those with it first), depth by base.

    `counts` counts all reads by what they show; `left_out` are those over the variant that are not among `reads`.
    """

    variant: Variant
    start: int
    end: int
    reference: str
    reads: tuple[PiledRead, ...]
    depth: tuple[int, ...]
    counts: dict[Shows, int]
    left_out: int = 0


def read_pile(reads: Any, fetch: Fetch, variant: Variant, *, flank: int = FLANK, most: int = MOST_READS) -> ReadPile:
    """Look up the reads (an open, indexed `pysam.AlignmentFile`) around a variant.

    Of more than `most` reads, as many of each allele are kept as there are of it in all, evenly chosen. Duplicates,
    secondary and supplementary alignments are left out, as callers do.
    """
    start = max(0, variant.start - flank)
    reference = fetch(variant.contig, start, variant.end + flank)
    end = start + len(reference)
    found: list[PiledRead] = []
    for read in reads.fetch(variant.contig, start, end):
        if not read.flag & _LEFT_OUT and read.query_sequence and read.cigartuples:
            found.append(_piled(read, variant, start, reference))
    depth = [0] * len(reference)
    for one in found:
        for place in range(max(one.start, start), min(one.end, end)):
            depth[place - start] += 1
    groups: dict[Shows, list[PiledRead]] = {"alternative": [], "another allele": [], "reference": [], "neither": []}
    for one in found:
        groups[one.shows].append(one)
    counts = {shows: len(group) for shows, group in groups.items() if group}
    over = len(found) - len(groups.pop("neither"))
    kept = [one for group in groups.values() for one in _thinned(group, most * len(group) / max(over, most))]
    return ReadPile(variant, start, end, reference, tuple(kept), tuple(depth), counts, over - len(kept))


def by_fragment(reads: Sequence[PiledRead]) -> list[PiledRead]:
    """One read a fragment: overlapping mates saw the same molecule, and count once.

    Of mates that show the same allele the one with the better base is kept, of those that contradict each other none.
    """
    best: dict[str, PiledRead | None] = {}
    for number, read in enumerate(reads):
        name = read.name or str(number)
        mate = best.setdefault(name, read)
        if mate is not None and mate is not read:
            better = max(mate, read, key=lambda one: one.site_quality)
            best[name] = better if mate.shows == read.shows else None
    return [read for read in best.values() if read is not None]


def _thinned(group: list[PiledRead], keep: float) -> list[PiledRead]:
    """About `keep` of a group's reads, evenly chosen; at least one."""
    count = min(len(group), max(1, round(keep)))
    return [group[place * len(group) // count] for place in range(count)] if group else []


def _piled(read: Any, variant: Variant, window: int, reference: str) -> PiledRead:
    mismatches: list[tuple[int, str, int]] = []
    deletions: list[tuple[int, int]] = []
    insertions: list[tuple[int, str]] = []
    qualities, site_at = read.query_qualities, -1
    for operation, length, place, at in _walk(read):
        if operation in _MATCH:
            if place <= variant.start < place + length:
                site_at = at + variant.start - place
            for offset in range(max(0, window - place), min(length, window + len(reference) - place)):
                base = read.query_sequence[at + offset].upper()
                if base != reference[place + offset - window]:
                    quality = int(qualities[at + offset]) if qualities is not None else 0
                    mismatches.append((place + offset, base, quality))
        elif operation == _DELETION:
            deletions.append((place, place + length))
        elif operation == _INSERTION:
            insertions.append((place, read.query_sequence[at : at + length].upper()))
    return PiledRead(
        start=read.reference_start,
        end=read.reference_end,
        reverse=read.is_reverse,
        mapping_quality=read.mapping_quality,
        shows=_shown(read, variant, mismatches, deletions, insertions),
        mismatches=tuple(mismatches),
        deletions=tuple(deletions),
        insertions=tuple(insertions),
        site_quality=int(qualities[site_at]) if qualities is not None and site_at >= 0 else 0,
        from_end=min(site_at, len(read.query_sequence) - 1 - site_at) if site_at >= 0 else 0,
        name=read.query_name or "",
    )


def _walk(read: Any) -> Iterator[tuple[int, int, int, int]]:
    """Operations of the CIGAR with length, place on the reference, and place in the read."""
    place, at = read.reference_start, 0
    for operation, length in read.cigartuples:
        yield operation, length, place, at
        place += length if operation in (*_MATCH, _DELETION, _SKIP) else 0
        at += length if operation in (*_MATCH, _INSERTION, _SOFT_CLIP) else 0


def _shown(
    read: Any,
    variant: Variant,
    mismatches: list[tuple[int, str, int]],
    deletions: list[tuple[int, int]],
    insertions: list[tuple[int, str]],
) -> Shows:
    """Which allele a read's alignment spells over the variant's reference bases."""
    needed = variant.end if variant.is_snv else variant.end + 1  # an indel shows only in reads that go on behind it
    if read.reference_start > variant.start or read.reference_end < needed:
        return "neither"
    bases = dict(enumerate(variant.ref, start=variant.start))
    for place, base, _ in mismatches:
        if place in bases:
            bases[place] = base
    for first, last in deletions:
        for place in range(first, last):
            if place in bases:
                bases[place] = ""
    for place, inserted in insertions:
        if variant.start < place <= variant.end and place - 1 in bases:
            bases[place - 1] += inserted
    spelled = "".join(bases.values())
    if spelled == variant.alt:
        return "alternative"
    return "reference" if spelled == variant.ref else "another allele"
