"""A known VCF or BCF file with an index, swept forward beside the variants that are looked up in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from careloop import InputError
from careloop.genome.annotate.known.alleles import MAX_SHIFT, NEAR, KnownAllele, Speller, changed_span, record_values
from careloop.genome.files.contigs import canonical_contig
from careloop.genome.files.htslib import load_pysam
from careloop.genome.files.variant_file import VariantFile
from careloop.genome.files.variant_lines import BadLineError, LineReader
from careloop.genome.variant import Record, Variant

_KEPT_BEHIND = 2_000  # bases behind the latest look-up that stay held, as variants of a file overlap
_JUMP = 50_000  # bases without a look-up over which the index is used rather than reading on

Line = tuple[int, int, Any]  # start and end of a line's REF, and the line: text, or pysam's record of a BCF


class IndexedVariants:
    """Alleles of an indexed file; look-ups in the order of positions read it once, others go back by the index.

    Only the lines around the latest look-up are held, and only those that can have the allele are parsed: a file of a
    population has some hundred lines for each variant that is looked up.
    """

    def __init__(self, file: VariantFile, keys: tuple[str, ...], speller: Speller) -> None:
        self._file, self._keys, self._speller = file, keys, speller
        self._reader = LineReader(file.header)
        self._open = _binary_lines if file.path.suffix == ".bcf" else _text_lines
        pysam = load_pysam()
        try:
            if self._open is _binary_lines:
                self._handle = pysam.VariantFile(str(file.path), index_filename=str(file.index))
                names = list(self._handle.header.contigs)
            else:
                self._handle = pysam.TabixFile(str(file.path), index=str(file.index), encoding="utf-8")
                names = self._handle.contigs
        except (OSError, ValueError):
            raise InputError(f"{file.path}: cannot be read by its index; make it anew: bcftools index -f") from None
        self._names = {canonical_contig(name): name for name in reversed(names)}
        self._contig, self._from, self._to = "", 0, 0
        self._lines: Iterator[Line] = iter(())
        self._next: Line | None = None
        self._held: deque[Line] = deque()

    def find(self, variant: Variant) -> tuple[KnownAllele, ...]:
        """The file's records of an allele that is spelled leftmost."""
        longest = variant.end if len(variant.ref) == len(variant.alt) else variant.end + MAX_SHIFT
        near = self._alleles(variant.contig, variant.start, longest)
        return tuple(allele for allele in near if allele.variant == variant)

    def within(self, contig: str, start: int, end: int) -> tuple[KnownAllele, ...]:
        """The alleles that replace bases of [start, end)."""
        found = []
        for allele in self._alleles(contig, start, end + MAX_SHIFT):
            first, last = changed_span(allele.variant)
            if first < end and last > start:
                found.append(allele)
        return tuple(found)

    def looked_near(self, contig: str, start: int) -> bool:
        """Whether any record lies within 100 bases."""
        self._sweep(contig, start, start + NEAR)
        return any(first < start + NEAR and last > start - NEAR for first, last, _ in self._held)

    def _alleles(self, contig: str, start: int, end: int) -> Iterator[KnownAllele]:
        """The alleles of the lines that touch [start, end), or the base before it, as written."""
        self._sweep(contig, start, end)
        for first, last, line in self._held:
            if first < end and last >= start:
                record = self._record(line)
                if record is None:
                    continue
                for index, alt in enumerate(record.alts):
                    spelled = self._speller.spelled(Variant(self._contig, first, record.ref, alt))
                    if spelled is not None:
                        values = record_values(record, index, self._keys, self._file.header)
                        yield KnownAllele(spelled, record.identifier, record.filters, values)

    def _record(self, line: Any) -> Record | None:
        try:
            return self._reader.record(str(line).rstrip("\r\n"))
        except BadLineError as bad:
            self._file.rejects.add(f"in {self._contig}", str(bad))
            return None

    def _sweep(self, contig: str, start: int, end: int) -> None:
        """Hold all lines that touch [start - 100, end)."""
        low = start - NEAR
        if contig != self._contig or low < self._from or low > self._to + _JUMP:
            self._contig, self._from, self._to = contig, low, low
            self._held.clear()
            name = self._names.get(canonical_contig(contig))
            self._lines = iter(()) if name is None else self._open(self._handle, name, max(low, 0))
            self._read_on()
        while self._next is not None and self._next[0] < end:
            if self._next[1] > low - _KEPT_BEHIND:
                self._held.append(self._next)
            self._read_on()
        self._to = max(self._to, end)
        self._from = max(self._from, low - _KEPT_BEHIND)
        while self._held and self._held[0][1] <= self._from:
            self._held.popleft()

    def _read_on(self) -> None:
        try:
            self._next = next(self._lines, None)
        except (OSError, ValueError):
            raise InputError(f"{self._file.path}: file ends early or is not readable; copy or make it again") from None


def _text_lines(handle: Any, name: str, start: int) -> Iterator[Line]:
    for text in handle.fetch(name, start):
        columns = text.split("\t", 4)
        first = int(columns[1]) - 1  # a number, as the index has it
        yield first, first + len(columns[3]) if len(columns) > 3 else first, text


def _binary_lines(handle: Any, name: str, start: int) -> Iterator[Line]:
    for record in handle.fetch(name, start):
        yield record.start, record.start + record.rlen, record
