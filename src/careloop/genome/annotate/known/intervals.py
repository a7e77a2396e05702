"""Intervals of a BED file with their names and scores, looked up by position."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate
from pathlib import Path

from careloop import InputError
from careloop.genome.annotate.known.alleles import changed_span
from careloop.genome.files.packed import UNREADABLE, open_packed
from careloop.genome.files.reference import Reference
from careloop.genome.files.variant_file import Rejects
from careloop.genome.variant import Variant

BED_KEYS = ("name", "score")
_MOST_NAMED = 10  # overlapping intervals whose values are given
Row = tuple[int, int, tuple[str, ...]]  # start, end, name and score as far as given
_NO_INTERVAL = ("#", "track", "browser")


class KnownIntervals:
    """Intervals of a BED file (GA4GH BED v1.0): held whole, on the contig names of a reference.

    Raises:
        InputError: no such file, not readable, no interval, or an interval behind its contig's end in the reference.
    """

    def __init__(self, path: Path, reference: Reference) -> None:
        self.path = path
        self.rejects = Rejects()
        rows: dict[str, list[Row]] = {}
        try:
            with open_packed(path) as file:
                for number, line in enumerate(file, start=1):
                    self._read(line.decode("utf-8", "replace").rstrip("\r\n"), number, rows, reference)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; check the path") from None
        except UNREADABLE:
            raise InputError(f"{path}: file ends early or is not readable; copy it again") from None
        if not rows:
            raise InputError(f"{path}: no interval on a contig of the reference; each line is contig, start, end")
        self._rows = {contig: sorted(found) for contig, found in rows.items()}
        self._starts = {contig: [row[0] for row in found] for contig, found in self._rows.items()}
        self._reach = {contig: list(accumulate((row[1] for row in found), max)) for contig, found in self._rows.items()}

    def _read(self, line: str, number: int, rows: dict[str, list[Row]], reference: Reference) -> None:
        if not line.strip() or line.startswith(_NO_INTERVAL):
            return
        columns = line.split("\t") if "\t" in line else line.split()
        if len(columns) < 3 or not (columns[1].isdigit() and columns[2].isdigit()):
            self.rejects.add(f"line {number}", "not a contig, a start and an end")
            return
        start, end, contig = int(columns[1]), int(columns[2]), reference.name_of(columns[0])
        if contig is None or start > end:
            reason = "contig is not in the reference" if contig is None else "start is behind the end"
            self.rejects.add(f"line {number}", reason)
        elif end > reference.contigs[contig]:
            raise InputError(
                f"{self.path}: intervals must be on the reference's assembly; line {number} ends behind {contig}'s "
                f"{reference.contigs[contig]:,} bases; give the file for that assembly"
            )
        else:
            rows.setdefault(contig, []).append((start, end, tuple(columns[3:5])))

    def overlapping(self, variant: Variant) -> list[tuple[str, ...]]:
        """Name and score (as far as given) of the intervals that hold a base which the variant changes."""
        first, last = changed_span(variant)
        starts, reach = self._starts.get(variant.contig, []), self._reach.get(variant.contig, [])
        rows = self._rows.get(variant.contig, [])[bisect_right(reach, first) : bisect_left(starts, last)]
        return [values for start, end, values in rows if end > first and start < last]

    def values(self, variant: Variant, keys: tuple[str, ...]) -> dict[str, str] | None:
        """The values of overlapping intervals, joined with `&`; None where no interval overlaps."""
        found = self.overlapping(variant)[:_MOST_NAMED]
        if not found:
            return None
        values = {}
        for index, key in enumerate(BED_KEYS):
            texts = [row[index] for row in found if index < len(row)]
            if key in keys and texts:
                values[key] = "&".join(texts)
        return values
