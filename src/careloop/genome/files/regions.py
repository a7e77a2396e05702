"""Regions of a genome: what a user types (`chr20:1-2,000`) and BED files, as sorted intervals that answer lookups."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from careloop import InputError
from careloop.genome.files.contigs import canonical_contig
from careloop.genome.files.packed import UNREADABLE, open_packed

END_OF_CONTIG = 2**31 - 1  # the largest position that BAM and BCF can hold
_SPAN = re.compile(r"([\d,]+)(?:(-)([\d,]*))?")
_NO_INTERVAL = ("#", "track", "browser")


@dataclass(frozen=True, slots=True, order=True)
class Region:
    """Bases `start` to `end` (0-based, half-open) of a contig; a whole contig ends at its length or END_OF_CONTIG."""

    contig: str
    start: int = 0
    end: int = END_OF_CONTIG

    def __str__(self) -> str:
        if self.end == END_OF_CONTIG:
            return f"{self.contig}:{self.start + 1}-" if self.start else self.contig
        return f"{self.contig}:{self.start + 1}-{self.end}"

    def overlaps(self, contig: str, start: int, end: int) -> bool:
        """Whether an interval shares a base with this region, or where it is empty lies inside (names as written)."""
        return contig == self.contig and start < self.end and max(end, start + 1) > self.start


def parse_region(text: str, contigs: Mapping[str, int | None] | None = None) -> Region:
    """Read `chr20`, `chr20:1,000`, `chr20:1-2,000` or `chr20:1000-` (1-based, both ends inside, as in samtools).

    One number is one base, as in bcftools. With `contigs` {name: length} the region takes the name the file uses
    (`chr20` or `20`) and ends inside the contig.

    Raises:
        InputError: not a region, an end before the start, or a contig or start that `contigs` does not have.
    """
    name, start, end = text.strip(), 0, END_OF_CONTIG
    head, colon, tail = name.rpartition(":")
    if colon and name not in (contigs or {}):  # names such as HLA-A*01:01 have colons of their own
        span = _SPAN.fullmatch(tail.strip())
        start = _position(span[1], text) - 1 if span else -1
        if span and span[3]:
            end = _position(span[3], text)
        elif span and not span[2]:
            end = start + 1
        name = head.strip()
    if not name or start < 0 or end <= start:
        raise InputError(f"a region is written CONTIG:FIRST-LAST, counted from 1, such as chr20:1-2,000; got {text!r}")
    return Region(name, start, end) if contigs is None else _within(Region(name, start, end), contigs, text)


def _position(digits: str, text: str) -> int:
    plain = digits.replace(",", "")
    if not plain or len(plain) > 10:
        raise InputError(f"a region is written CONTIG:FIRST-LAST, counted from 1, such as chr20:1-2,000; got {text!r}")
    return min(int(plain), END_OF_CONTIG)


def _within(region: Region, contigs: Mapping[str, int | None], text: str) -> Region:
    names = {canonical_contig(name): name for name in reversed(list(contigs))}
    name = region.contig if region.contig in contigs else names.get(canonical_contig(region.contig))
    if name is None:
        known = ", ".join(list(contigs)[:5]) or "none"
        raise InputError(f"region {text!r} names a contig that the file does not have; it has {known} ...")
    end = min(region.end, contigs[name] or END_OF_CONTIG)
    if region.start >= end:
        raise InputError(f"region {text!r} begins behind the contig's end at {end:,}")
    return Region(name, region.start, end)


class Regions:
    """A set of bases of a genome: intervals merged and sorted, `chr20` and `20` the same contig.

    Iterating gives the merged Regions in order of contigs as first met, under the names they were given.
    """

    def __init__(self, regions: Iterable[Region]) -> None:
        self.names: dict[str, str] = {}
        unsorted: dict[str, list[tuple[int, int]]] = {}
        for region in regions:
            contig = canonical_contig(region.contig)
            self.names.setdefault(contig, region.contig)
            unsorted.setdefault(contig, []).append((region.start, region.end))
        self._starts: dict[str, list[int]] = {}
        self._ends: dict[str, list[int]] = {}
        for contig, spans in unsorted.items():
            merged = _merged(spans)
            self._starts[contig] = [start for start, _ in merged]
            self._ends[contig] = [end for _, end in merged]

    def __iter__(self) -> Iterator[Region]:
        for contig, name in self.names.items():
            for start, end in zip(self._starts[contig], self._ends[contig], strict=True):
                yield Region(name, start, end)

    def __len__(self) -> int:
        return sum(map(len, self._starts.values()))

    @property
    def bases(self) -> int:
        """How many bases the regions hold together."""
        return sum(region.end - region.start for region in self)

    def covers(self, contig: str, start: int, end: int) -> bool:
        """Whether every base of [start, end) is inside; an empty interval is one place between two bases."""
        contig = canonical_contig(contig)
        index = bisect_right(self._starts.get(contig, ()), start) - 1
        return index >= 0 and start < self._ends[contig][index] and end <= self._ends[contig][index]

    def overlaps(self, contig: str, start: int, end: int) -> bool:
        """Whether some base of [start, end) is inside."""
        contig = canonical_contig(contig)
        index = bisect_right(self._ends.get(contig, ()), start)
        return index < len(self._ends.get(contig, ())) and self._starts[contig][index] < end

    def within(self, region: Region) -> list[Region]:
        """The parts of these regions that lie inside `region`, under its contig's name."""
        contig = canonical_contig(region.contig)
        starts, ends = self._starts.get(contig, []), self._ends.get(contig, [])
        chosen = range(bisect_right(ends, region.start), bisect_left(starts, region.end))
        return [Region(region.contig, max(starts[i], region.start), min(ends[i], region.end)) for i in chosen]


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def read_bed(path: str | Path) -> Regions:
    """Read a BED file (plain or gzip): contig, start, end (0-based, half-open), further columns ignored.

    A file of regions that lost one line would prove coverage that is not there or hide what is, so that the first bad
    line stops the reading. Source: GA4GH BED v1.0.

    Raises:
        InputError: no such file, not readable, a bad line (named), or no interval at all.
    """
    path = Path(path)
    try:
        with open_packed(path) as file:
            text = file.read().decode("utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except UNREADABLE:
        raise InputError(f"{path}: file ends early or is not readable; copy it again") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a BED file: it is not text") from None
    regions = [_interval(line, number, path) for number, line in _interval_lines(text)]
    if not regions:
        raise InputError(f"{path}: no interval in this BED file; each line is contig, start, end")
    return Regions(regions)


def _interval_lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not line.startswith(_NO_INTERVAL):
            yield number, line.rstrip("\r")


def _interval(line: str, number: int, path: Path) -> Region:
    columns = line.split("\t") if "\t" in line else line.split()
    if len(columns) >= 3 and _is_count(columns[1]) and _is_count(columns[2]):
        region = Region(columns[0], int(columns[1]), int(columns[2]))
        if region.contig and region.start <= region.end:
            return region
    raise InputError(f"{path}: a BED line is contig, start, end, counted from 0, start <= end; line {number} is not")


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) <= END_OF_CONTIG
