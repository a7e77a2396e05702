"""All files of known variants that a user gives, opened, checked for their assembly, and looked up together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from careloop import InputError
from careloop.genome.annotate.known.alleles import AlleleSource, KnownAllele, Speller
from careloop.genome.annotate.known.held import HeldVariants, VariantTable, variants_of_file
from careloop.genome.annotate.known.indexed import IndexedVariants
from careloop.genome.annotate.known.intervals import BED_KEYS, KnownIntervals
from careloop.genome.annotate.known.request import FILTERS, IDENTIFIER, QUALITY, USUAL_KEYS, KnownFile, Role
from careloop.genome.files.builds import require_reference_bases, require_same_build
from careloop.genome.files.contigs import renamer
from careloop.genome.files.reference import Reference
from careloop.genome.files.variant_file import Rejects, VariantFile, open_variants
from careloop.genome.variant import Variant

_BED_ENDINGS = (".bed", ".bed.gz", ".bed.bgz")
_TABLE_ENDINGS = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")


@dataclass(frozen=True)
class _Opened:
    """A file of alleles: `keys` are given out, `source` has them and those that its role's evidence needs."""

    request: KnownFile
    keys: tuple[str, ...]
    source: AlleleSource
    file: VariantFile | VariantTable


class KnownFiles:
    """The known files, by name. Look-ups should come in the order of positions: large files are then read once."""

    def __init__(self, alleles: Sequence[_Opened], intervals: Mapping[str, tuple[KnownIntervals, tuple[str, ...]]],
                 speller: Speller) -> None:  # fmt: skip
        self._alleles = {opened.request.name: opened for opened in alleles}
        self._intervals = dict(intervals)
        self._speller = speller

    @property
    def keys(self) -> dict[str, tuple[str, ...]]:
        """Which values each file gives, by its name."""
        keys = {name: opened.keys for name, opened in self._alleles.items()}
        return keys | {name: keys for name, (_, keys) in self._intervals.items()}

    @property
    def rejects(self) -> dict[str, Rejects]:
        """The lines of each file that could not be read; of an indexed file those that were looked at."""
        rejects = {name: opened.file.rejects for name, opened in self._alleles.items()}
        return rejects | {name: intervals.rejects for name, (intervals, _) in self._intervals.items()}

    def matches(self, variant: Variant) -> dict[str, dict[str, str]]:
        """What each file that has this allele says of it: {file: {key: value}}; a BED file has it by overlap.

        Several records of one allele (as from two callers) are joined with `&`.
        """
        spelled = self._speller.spelled(variant)
        found: dict[str, dict[str, str]] = {}
        if spelled is None:
            return found
        for name, opened in self._alleles.items():
            known = opened.source.find(spelled)
            if known:
                found[name] = _joined([allele.values for allele in known], opened.keys)
        for name, (intervals, keys) in self._intervals.items():
            values = intervals.values(spelled, keys)
            if values is not None:
                found[name] = values
        return found

    def names(self, role: Role) -> tuple[str, ...]:
        """The files of alleles that are used for a role."""
        return tuple(name for name, opened in self._alleles.items() if opened.request.role == role)

    def find(self, name: str, variant: Variant) -> tuple[KnownAllele, ...]:
        """One file's records of an allele, with the values that its role's evidence needs."""
        spelled = self._speller.spelled(variant)
        return () if spelled is None else self._alleles[name].source.find(spelled)

    def within(self, name: str, contig: str, start: int, end: int) -> tuple[KnownAllele, ...]:
        """One file's alleles that replace bases of [start, end) (0-based, half-open) of a contig."""
        here = self._speller.reference.name_of(contig)
        return () if here is None else self._alleles[name].source.within(here, start, end)

    def looked_near(self, name: str, variant: Variant) -> bool:
        """Whether a file has any record within 100 bases of a variant."""
        contig = self._speller.reference.name_of(variant.contig)
        return contig is not None and self._alleles[name].source.looked_near(contig, variant.start)

    def overlaps(self, name: str, variant: Variant) -> bool:
        """Whether an interval of a BED file, given by its name, holds a base that the variant changes."""
        spelled = self._speller.spelled(variant)
        return spelled is not None and bool(self._intervals[name][0].overlapping(spelled))


def open_known(requests: Sequence[KnownFile], reference: Reference) -> KnownFiles:
    """Open the files that a user gives and check each against the reference.

    VCF and BCF files with an index (.tbi or .csi) are read where they are asked; without one, and tables, are held in
    memory (up to 2 million alleles).

    Raises:
        InputError: a file that cannot be read or is on another assembly, a key that it does not have, a name given
            twice.
    """
    names = [request.name for request in requests]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"known files need names of their own; {twice[0]!r} is given twice")
    speller = Speller(reference)
    alleles, intervals = [], {}
    for request in requests:
        name = request.path.name.lower()
        if name.endswith(_BED_ENDINGS):
            keys = _chosen(request, BED_KEYS, BED_KEYS)
            intervals[request.name] = KnownIntervals(request.path, reference), keys
        elif name.endswith(_TABLE_ENDINGS):
            alleles.append(_open_table(request, speller))
        else:
            alleles.append(_open_variants(request, speller))
    return KnownFiles(alleles, intervals, speller)


def _open_variants(request: KnownFile, speller: Speller) -> _Opened:
    reference = speller.reference
    file = open_variants(request.path)
    require_same_build({str(request.path): file.header.build, str(reference.path): reference.build})
    renamer(file.header.contigs, reference.contigs)
    require_reference_bases(file.records(), reference, where=str(request.path))
    usual = USUAL_KEYS[request.role]
    keys = _chosen(request, (IDENTIFIER, FILTERS, QUALITY, *file.header.infos), usual)
    needed = tuple(dict.fromkeys([*keys, *usual]))
    # ClinVar's neighbours are looked up before and behind a variant as well, which one sweep does not serve.
    source: AlleleSource
    if file.index is not None:
        source = IndexedVariants(file, needed, speller)
        if request.role == "clinvar":
            source = _TwoSweeps(source, IndexedVariants(open_variants(request.path), needed, speller))
    else:
        source = HeldVariants(variants_of_file(file, needed, speller), request.path)
    return _Opened(request, keys, source, file)


class _TwoSweeps:
    """One indexed file swept twice, so that looking around a variant does not turn back the search for alleles."""

    def __init__(self, alleles: IndexedVariants, places: IndexedVariants) -> None:
        self.find = alleles.find
        self.within = places.within
        self.looked_near = alleles.looked_near


def _open_table(request: KnownFile, speller: Speller) -> _Opened:
    table = VariantTable(request.path)
    require_reference_bases(table.records(), speller.reference, where=str(request.path))
    keys = _chosen(request, table.value_columns(), table.value_columns())
    return _Opened(request, keys, HeldVariants(table.alleles(keys, speller), request.path), table)


def _chosen(request: KnownFile, available: tuple[str, ...], usual: tuple[str, ...]) -> tuple[str, ...]:
    """The keys that a user asks for, or the usual ones that the file has."""
    missing = [key for key in request.keys if key not in available]
    if missing:
        told = ", ".join(available[:12])
        raise InputError(f"{request.path}: {missing[0]!r} is not among the file's values; it has {told} ...")
    return request.keys or tuple(key for key in usual if key in available)


def _joined(rows: Sequence[Mapping[str, str]], keys: tuple[str, ...]) -> dict[str, str]:
    joined = {key: "&".join(dict.fromkeys(row[key] for row in rows if key in row)) for key in keys}
    return {key: value for key, value in joined.items() if value}
