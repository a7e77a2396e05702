"""A known VCF or BCF file with an index, swept forward beside the variants that are looked up in it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from careloop.genome.annotate.known.alleles import MAX_SHIFT, NEAR, KnownAllele, Speller, changed_span, record_values
from careloop.genome.files.contigs import renamer
from careloop.genome.files.regions import END_OF_CONTIG, Region
from careloop.genome.files.variant_file import VariantFile
from careloop.genome.variant import Record, Variant

_KEPT_BEHIND = 2_000  # bases behind the latest look-up that stay held, as variants of a file overlap
_JUMP = 100_000  # bases without a look-up over which the index is used rather than reading on


@dataclass(frozen=True, slots=True)
class _Held:
    variant: Variant
    record: Record
    allele: int


class IndexedVariants:
    """Alleles of an indexed file; look-ups in the order of positions read it once, others open it again.

    Only the records around the latest look-up are held.
    """

    def __init__(self, file: VariantFile, keys: tuple[str, ...], speller: Speller) -> None:
        self._file, self._keys, self._speller = file, keys, speller
        self._name_here = renamer(speller.reference.contigs, file.header.contigs or {})
        self._contig, self._from, self._to = "", 0, 0
        self._records: Iterator[Record] = iter(())
        self._next: Record | None = None
        self._held: deque[tuple[int, int, list[_Held]]] = deque()  # start and end of each record, its alleles
        self._by_allele: dict[Variant, list[_Held]] = {}

    def find(self, variant: Variant) -> tuple[KnownAllele, ...]:
        """The file's records of an allele that is spelled leftmost."""
        self._sweep(variant.contig, variant.start, variant.end)
        return tuple(self._known(held) for held in self._by_allele.get(variant, ()))

    def within(self, contig: str, start: int, end: int) -> tuple[KnownAllele, ...]:
        """The alleles that replace bases of [start, end)."""
        self._sweep(contig, start, end)
        found = [held for _, _, alleles in self._held for held in alleles if _overlaps(held.variant, start, end)]
        return tuple(map(self._known, found))

    def looked_near(self, contig: str, start: int) -> bool:
        """Whether any record lies within 100 bases."""
        self._sweep(contig, start, start + 1)
        return any(begin < start + NEAR and end > start - NEAR for begin, end, _ in self._held)

    def _known(self, held: _Held) -> KnownAllele:
        values = record_values(held.record, held.allele, self._keys, self._file.header)
        return KnownAllele(held.variant, held.record.identifier, held.record.filters, values)

    def _sweep(self, contig: str, start: int, end: int) -> None:
        """Hold all records whose leftmost spelling may touch [start, end), and their neighbours."""
        low, high = start - NEAR, end + MAX_SHIFT
        if contig != self._contig or low < self._from or low > self._to + _JUMP:
            self._open(contig, max(low, 0))
        while self._next is not None and self._next.start < high:
            self._hold(self._next)
            self._next = next(self._records, None)
        self._to = max(self._to, high)
        self._forget(low - _KEPT_BEHIND)

    def _open(self, contig: str, start: int) -> None:
        name = self._name_here(contig) or contig
        end = self._file.header.contigs.get(name) or END_OF_CONTIG
        self._contig, self._from, self._to = contig, start, start
        self._held.clear()
        self._by_allele.clear()
        self._records = self._file.records(Region(name, start, end)) if start < end else iter(())
        self._next = next(self._records, None)

    def _hold(self, record: Record) -> None:
        alleles = []
        for index, alt in enumerate(record.alts):
            spelled = self._speller.spelled(Variant(self._contig, record.start, record.ref, alt))
            if spelled is not None:
                alleles.append(_Held(spelled, record, index))
                self._by_allele.setdefault(spelled, []).append(alleles[-1])
        self._held.append((record.start, record.start + len(record.ref), alleles))

    def _forget(self, before: int) -> None:
        while self._held and self._held[0][1] <= before:
            for held in self._held.popleft()[2]:
                self._by_allele[held.variant].remove(held)
                if not self._by_allele[held.variant]:
                    del self._by_allele[held.variant]
        self._from = max(self._from, before)


def _overlaps(variant: Variant, start: int, end: int) -> bool:
    first, last = changed_span(variant)
    return first < end and last > start
