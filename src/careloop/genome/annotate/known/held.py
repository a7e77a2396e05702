"""Known variants held in memory: a VCF without an index, or a table with columns for contig, position and alleles."""

from __future__ import annotations

import csv
import io
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path

from careloop import InputError
from careloop.genome.annotate.known.alleles import MAX_SHIFT, NEAR, KnownAllele, Speller, changed_span, record_values
from careloop.genome.files.packed import UNREADABLE, open_packed
from careloop.genome.files.variant_file import Rejects, VariantFile
from careloop.genome.variant import Record, Variant

MOST_HELD = 2_000_000  # alleles, some 1 GB; a larger file needs an index
_COLUMNS = {
    "contig": ("chrom", "#chrom", "chr", "#chr", "chromosome", "contig"),
    "position": ("pos", "position"),
    "ref": ("ref", "reference", "ref_allele", "reference_allele"),
    "alt": ("alt", "alternate", "alternative", "alt_allele", "alternate_allele"),
}
_BASES = frozenset("ACGTN")


class HeldVariants:
    """Alleles of a small file, held whole."""

    def __init__(self, alleles: Iterable[KnownAllele], path: Path) -> None:
        self._by_contig: dict[str, list[KnownAllele]] = {}
        for count, allele in enumerate(alleles):
            if count >= MOST_HELD:
                raise InputError(
                    f"{path}: a known file of more than {MOST_HELD:,} alleles needs an index; run: "
                    f"bcftools index -t {path}"
                )
            self._by_contig.setdefault(allele.variant.contig, []).append(allele)
        self._starts: dict[str, list[int]] = {}
        for contig, found in self._by_contig.items():
            found.sort(key=lambda allele: allele.variant.start)
            self._starts[contig] = [allele.variant.start for allele in found]

    def find(self, variant: Variant) -> tuple[KnownAllele, ...]:
        """The file's records of an allele that is spelled leftmost."""
        found = self._from_to(variant.contig, variant.start, variant.start + 1)
        return tuple(allele for allele in found if allele.variant == variant)

    def within(self, contig: str, start: int, end: int) -> tuple[KnownAllele, ...]:
        """The alleles that replace bases of [start, end); one that begins over 1,000 bases before is not found."""
        near = self._from_to(contig, start - MAX_SHIFT, end + 1)
        spans = [(allele, *changed_span(allele.variant)) for allele in near]
        return tuple(allele for allele, first, last in spans if first < end and last > start)

    def looked_near(self, contig: str, start: int) -> bool:
        """Whether any record lies within 100 bases."""
        return bool(self._from_to(contig, start - NEAR, start + NEAR))

    def _from_to(self, contig: str, start: int, end: int) -> list[KnownAllele]:
        starts = self._starts.get(contig, [])
        return self._by_contig.get(contig, [])[bisect_left(starts, start) : bisect_right(starts, end - 1)]


def variants_of_file(file: VariantFile, keys: tuple[str, ...], speller: Speller) -> Iterator[KnownAllele]:
    """The alleles of a whole VCF or BCF file."""
    for record in file.records():
        for index, alt in enumerate(record.alts):
            spelled = speller.spelled(Variant(record.contig, record.start, record.ref, alt))
            if spelled is not None:
                values = record_values(record, index, keys, file.header)
                yield KnownAllele(spelled, record.identifier, record.filters, values)


class VariantTable:
    """A CSV or TSV file, plain or packed, with a header line: contig, position (from 1), ref, alt and values."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rejects = Rejects()
        with self._open() as file:
            header = file.readline()
        self._delimiter = "\t" if "\t" in header else ","
        self.columns = next(csv.reader([header.strip("\r\n")], delimiter=self._delimiter), [])
        self._at = {role: self._index(role, names) for role, names in _COLUMNS.items()}

    def _open(self) -> io.TextIOWrapper:
        try:
            return io.TextIOWrapper(open_packed(self.path), encoding="utf-8-sig", errors="replace", newline="")
        except FileNotFoundError:
            raise InputError(f"{self.path}: no such file; check the path") from None

    def _index(self, role: str, names: tuple[str, ...]) -> int:
        lower = [column.strip().lower() for column in self.columns]
        for name in names:
            if name in lower:
                return lower.index(name)
        told = ", ".join(self.columns[:8]) or "none"
        raise InputError(
            f"{self.path}: a table of variants needs a column {role} ({' or '.join(names)}); it has {told}"
        )

    def value_columns(self) -> tuple[str, ...]:
        """The columns that are not the allele's own."""
        return tuple(name for index, name in enumerate(self.columns) if index not in self._at.values())

    def records(self) -> Iterator[Record]:
        """Rows as records with one alternative allele, their values in `info`; bad rows go to `rejects`."""
        self.rejects = Rejects()
        try:
            with self._open() as file:
                rows = csv.reader(file, delimiter=self._delimiter)
                next(rows, None)
                for row in filter(None, rows):
                    record = self._record(row)
                    if record is None:
                        self.rejects.add(f"line {rows.line_num}", "not a contig, a position from 1 and two alleles")
                    else:
                        yield record
        except UNREADABLE:
            raise InputError(f"{self.path}: file ends early or is not readable; copy it again") from None
        except csv.Error as error:
            raise InputError(f"{self.path}: line {rows.line_num} is not one of a table ({error})") from None

    def _record(self, row: list[str]) -> Record | None:
        if len(row) != len(self.columns):
            return None
        contig, position, ref, alt = (row[self._at[role]].strip() for role in _COLUMNS)
        ref, alt = ref.upper(), alt.upper()
        good = contig and ref and alt and _BASES.issuperset(ref + alt)
        if not good or not position.isascii() or not position.isdigit() or not 0 < int(position) < 2**31:
            return None
        start = int(position) - 1
        return Record(contig, start, start + len(ref), ref, (alt,), info=dict(zip(self.columns, row, strict=True)))

    def alleles(self, keys: tuple[str, ...], speller: Speller) -> Iterator[KnownAllele]:
        """The rows' alleles; one whose REF is not the reference's is rejected."""
        for record in self.records():
            spelled = speller.spelled(record.variants[0])
            if spelled is None:
                self.rejects.add(f"at {record.contig}:{record.start + 1}", "REF or contig is not the reference's")
            else:
                yield KnownAllele(spelled, "", (), {key: record.info[key] for key in keys if record.info[key]})
