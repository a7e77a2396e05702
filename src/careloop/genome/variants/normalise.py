"""Variants in one spelling: REF checked, multi-allelics split, alleles trimmed and left-aligned, in sorted order.

Tan, Abecasis and Kang, Unified representation of genetic variants, Bioinformatics 2015;31:2202. Splitting follows
`bcftools norm -m-`, the decomposition into primitives `vt decompose_blocksub -p` (MNPs; with `-a` for the rest).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Literal, get_args

from careloop import InputError
from careloop.genome.files.builds import require_reference_bases, require_same_build
from careloop.genome.files.reference import Reference, open_reference
from careloop.genome.files.variant_file import open_variants
from careloop.genome.files.variant_writing import write_variants
from careloop.genome.variant import Record, SampleCall
from careloop.genome.variants.alleles import MAX_SHIFT, left_align, primitives, trim
from careloop.genome.variants.sequence import ContigWindow
from careloop.genome.variants.split import Numbers, OtherAllele, split_alleles

Progress = Callable[[str, int, int], None]
Level = Literal["whole", "split", "snvs", "primitives"]

MOST_REJECTS = 1_000  # rejected records that are named; all are counted
MOST_CELLS = 250_000  # of the alignment of a complex allele: larger ones stay whole
_REPORT_EVERY = 10_000  # records between two reports of progress
_BASES = frozenset("ACGTN")
_PHASE_SET = '##FORMAT=<ID=PS,Number=1,Type=Integer,Description="Phase set">'


@dataclass(frozen=True)
class Rejected:
    """A record left out: its contig, its 0-based start and why."""

    contig: str
    start: int
    reason: str


@dataclass
class NormaliseSummary:
    """What normalisation did: records read, written, rejected, left as they are, and changed, each counted."""

    counts: Counter[str] = field(default_factory=Counter)
    rejects: list[Rejected] = field(default_factory=list)

    def reject(self, record: Record, reason: str) -> None:
        """Count a record that is left out, and name it while there are few."""
        self.counts["rejected"] += 1
        self.counts[f"rejected: {reason}"] += 1
        if len(self.rejects) < MOST_REJECTS:
            self.rejects.append(Rejected(record.contig, record.start, reason))


@dataclass(frozen=True)
class NormaliseOptions:
    """How far records are taken apart.

    `level`: `whole` keeps multi-allelic records, `split` makes one record for each alternative allele, `snvs` also
    takes MNPs apart, `primitives` also complex alleles. `other` is what a split genotype says of the other allele.
    """

    level: Level = "split"
    other: OtherAllele = "reference"

    def __post_init__(self) -> None:
        for name, kinds in (("level", get_args(Level)), ("other", get_args(OtherAllele))):
            if getattr(self, name) not in kinds:
                raise InputError(f"{name} of normalisation is one of {', '.join(kinds)}, not {getattr(self, name)!r}")


def normalise(
    records: Iterable[Record],
    reference: Reference,
    *,
    options: NormaliseOptions = NormaliseOptions(),
    numbers: Numbers | None = None,
    summary: NormaliseSummary | None = None,
) -> Iterator[Record]:
    """Records of one file in one spelling, lazily and sorted.

    Records come sorted within each contig, contigs one after another. `summary` is counted up on the way. Symbolic
    alleles, breakends, `*` alone and blocks of covered reference pass unchanged.

    Raises:
        InputError: for records that are not sorted.
    """
    summary = NormaliseSummary() if summary is None else summary
    numbers = Numbers() if numbers is None else numbers
    for contig, rows in _by_contig(_counted(records, summary)):
        if reference.name_of(contig) is None:
            for record in rows:
                summary.reject(record, "contig is not in the reference")
            continue
        window = ContigWindow(reference, contig, _length(reference, contig))
        yield from _sorted_contig(rows, window, options, numbers, summary)


def normalise_file(
    path: Path,
    reference: Path,
    out: Path,
    *,
    options: NormaliseOptions = NormaliseOptions(),
    progress: Progress | None = None,
) -> NormaliseSummary:
    """Write the variants of a file in one spelling to `out` (VCF or BCF by its name); whole or not at all.

    Names of contigs stay those of the file (`chr20` against a reference of `20` is understood).

    Raises:
        InputError: for files that cannot be read, are not sorted, or are of another build than the reference.
    """
    source = open_variants(path)
    summary = NormaliseSummary()
    with open_reference(reference) as opened:
        require_same_build({str(path): source.header.build, str(reference): opened.build})
        require_reference_bases(source.records(), opened, where=str(path))
        numbers = Numbers.of(source.header)
        rows = _reported(source.records(), opened, progress)
        done = normalise(rows, opened, options=options, numbers=numbers, summary=summary)
        header = source.header
        if options.level in ("snvs", "primitives") and "PS" not in header.formats:
            header = header.with_lines(_PHASE_SET)
        write_variants(out, header, done)
    if source.rejects.total:
        summary.counts["unreadable lines"] = source.rejects.total
    return summary


def _reported(records: Iterable[Record], reference: Reference, progress: Progress | None) -> Iterator[Record]:
    for count, record in enumerate(records):
        if progress and count % _REPORT_EVERY == 0:
            progress(f"normalising {record.contig}", record.start, _length(reference, record.contig))
        yield record


def _length(reference: Reference, contig: str) -> int:
    """A contig's length in bases, 0 where the reference does not have it."""
    return reference.contigs.get(reference.name_of(contig) or "", 0)


def _counted(records: Iterable[Record], summary: NormaliseSummary) -> Iterator[Record]:
    for record in records:
        summary.counts["read"] += 1
        yield record


def _by_contig(records: Iterable[Record]) -> Iterator[tuple[str, Iterator[Record]]]:
    """Each contig with its records, checked to be sorted."""
    seen: set[str] = set()
    for contig, rows in groupby(records, key=lambda record: record.contig):
        if contig in seen:
            raise InputError(f"records must be sorted, but those of {contig} are in two places; use `bcftools sort`")
        seen.add(contig)
        yield contig, rows


def _sorted_contig(
    rows: Iterable[Record],
    window: ContigWindow,
    options: NormaliseOptions,
    numbers: Numbers,
    summary: NormaliseSummary,
) -> Iterator[Record]:
    """One contig's records: each normalised, and held back until nothing can be shifted before it."""
    waiting: list[tuple[int, int, Record]] = []
    before, count = 0, 0
    for record in rows:
        if record.start < before:
            raise InputError(
                f"records must be sorted, but {record.contig}:{record.start + 1} comes after "
                f"{record.contig}:{before + 1}; use `bcftools sort`"
            )
        before = record.start
        while waiting and waiting[0][0] < record.start - MAX_SHIFT - 1:
            yield heapq.heappop(waiting)[2]
        for one in _normalised(record, window, options, numbers, summary):
            summary.counts["written"] += 1
            heapq.heappush(waiting, (one.start, count, one))
            count += 1
    while waiting:
        yield heapq.heappop(waiting)[2]


def _normalised(
    record: Record, window: ContigWindow, options: NormaliseOptions, numbers: Numbers, summary: NormaliseSummary
) -> Iterator[Record]:
    """One record in its normalised records."""
    ref = record.ref.upper()
    if not window.agrees(record.start, ref):
        summary.reject(record, "REF is not the reference's base")
        return
    record = replace(record, ref=ref, alts=tuple(alt.upper() if _is_bases(alt) else alt for alt in record.alts))
    if len(record.alts) > 1 and options.level != "whole":
        summary.counts["split"] += 1
        parts: Iterable[Record] = split_alleles(record, numbers, other=options.other)
    else:
        parts = (record,)
    for part in parts:
        if not part.alts or not all(_is_bases(alt) for alt in part.alts):
            summary.counts["left as they are"] += 1
            yield part
            continue
        pieces = _primitive_records(part, options.level)
        summary.counts["decomposed"] += len(pieces) > 1
        for piece in pieces:
            start, alleles = left_align(window.fetch, piece.start, (piece.ref, *piece.alts))
            changed = (start, alleles) != (piece.start, (piece.ref, *piece.alts))
            summary.counts["trimmed or shifted"] += changed
            yield _respelled(piece, start, alleles) if changed else piece


def _is_bases(allele: str) -> bool:
    return bool(allele) and _BASES.issuperset(allele.upper())


def _respelled(record: Record, start: int, alleles: tuple[str, ...]) -> Record:
    return replace(record, start=start, end=start + len(alleles[0]), ref=alleles[0], alts=alleles[1:])


def _primitive_records(record: Record, level: Level) -> list[Record]:
    """The record taken apart into single-base changes and pure indels, which stay on the same chromosomes."""
    if level not in ("snvs", "primitives") or len(record.alts) != 1:
        return [record]
    start, (ref, alt) = trim(record.start, (record.ref, record.alts[0]))
    if not ref or not alt or len(ref) == len(alt) == 1:
        return [record]
    if len(ref) != len(alt) and (level == "snvs" or len(ref) * len(alt) > MOST_CELLS):
        return [record]
    pieces = primitives(ref, alt)
    if len(pieces) < 2:
        return [record]
    samples = {name: _in_phase(call, record.start) for name, call in record.samples.items()}
    return [
        _respelled(replace(record, samples=samples), start + at, (piece_ref, piece_alt))
        for at, piece_ref, piece_alt in pieces
    ]


def _in_phase(call: SampleCall, start: int) -> SampleCall:
    """A call whose pieces are on the same chromosomes: phased, in a phase set of its own where it was in none."""
    if call.phased or len(set(call.alleles)) < 2:
        return call
    return replace(call, phased=True, fields={**call.fields, "PS": start + 1})
