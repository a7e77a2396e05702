"""Two call sets compared by the chromosomes that they spell: what is found, missed and false, whatever the spelling.

After Krusche et al., Best practices for benchmarking germline small-variant calls in human genomes, Nat Biotechnol
2019;37:555 (GA4GH), whose true positives are genotype matches counted in both spellings, and with vcfeval's search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import merge
from operator import attrgetter
from pathlib import Path
from typing import get_args

from careloop import InputError
from careloop.genome.files.builds import require_reference_bases, require_same_build
from careloop.genome.files.reference import Reference, open_reference
from careloop.genome.files.regions import Regions, read_bed
from careloop.genome.files.variant_file import VariantFile, open_variants
from careloop.genome.variant import Record
from careloop.genome.variants.comparison import Comparison
from careloop.genome.variants.contig_order import NOWHERE, by_contig
from careloop.genome.variants.haplotypes.called import NO_CALL, NOT_IN_REFERENCE, Called, Filters, Reader, called
from careloop.genome.variants.haplotypes.clusters import clusters
from careloop.genome.variants.haplotypes.matching import match_cluster
from careloop.genome.variants.haplotypes.search import CALLS, TRUTH
from careloop.genome.variants.judging import SETS, Judge, Spans
from careloop.genome.variants.sequence import ContigWindow
from careloop.genome.variants.verdicts import write_verdicts

Progress = Callable[[str, int, int], None]

_REPORT_EVERY = 1_000  # clusters between two reports of progress


@dataclass(frozen=True)
class CompareOptions:
    """How two call sets are compared.

    `truth_sample`, `calls_sample`: needed where a file has several samples. `filters`: `passed` leaves out records
    that failed a filter. `score`: what the threshold curve goes by, QUAL or a FORMAT field such as GQ. `strata`:
    {name: BED} of regions that are counted by themselves as well. `out`: a folder for truth.vcf.gz and calls.vcf.gz,
    the files with each record's verdict in INFO.
    """

    truth_sample: str | None = None
    calls_sample: str | None = None
    filters: Filters = "passed"
    score: str = "QUAL"
    strata: Mapping[str, Path] = field(default_factory=dict)
    out: Path | None = None

    def __post_init__(self) -> None:
        if self.filters not in get_args(Filters):
            raise InputError(f"filters of a comparison is one of {', '.join(get_args(Filters))}, not {self.filters!r}")


def compare(
    truth: Path,
    calls: Path,
    reference: Path,
    *,
    regions: Path | Regions | None = None,
    options: CompareOptions = CompareOptions(),
    progress: Progress | None = None,
) -> Comparison:
    """Compare a call set with a truth set, haplotype-aware, contig by contig in one pass with bounded memory.

    `regions` (a BED or Regions) are where the truth can be trusted: what lies outside is no error and is counted
    apart. Variants are matched over their borders all the same: a match counts where any of its records lies inside.
    Not assessed, and counted by reason: no-calls (also half-calls), alleles that are symbolic or over 1,000 bases,
    contigs or REF that the reference does not have, filtered records. A false call where the truth itself says no-call
    is not assessed either; a variant that is missed where the calls say no-call counts as missed, and is counted apart.

    Raises:
        InputError: for files that cannot be read, are not sorted, lack the sample or a genotype, or are of another
            build than the reference.
    """
    with open_reference(reference) as opened:
        files = (open_variants(truth), open_variants(calls))
        _check_builds(files, opened)
        asked = (options.truth_sample, options.calls_sample)
        truth_reader, calls_reader = (
            Reader(side, _sample(files[side], asked[side]), options.score, options.filters) for side in (TRUTH, CALLS)
        )
        strata = {name: read_bed(path) for name, path in options.strata.items()}
        judge = Judge(regions if isinstance(regions, Regions | None) else read_bed(regions), strata)
        for contig, rows in by_contig(files, opened):
            if contig == NOWHERE:
                _skip_all(rows, judge)
            else:
                window = ContigWindow(opened, contig, opened.contigs[contig])
                _compare_contig(window, rows, (truth_reader, calls_reader), judge, progress)
    if options.out:
        write_verdicts(options.out, files, judge.verdicts)
    return judge.comparison(options.score, {name: file.rejects.total for name, file in zip(SETS, files, strict=True)})


def _check_builds(files: tuple[VariantFile, VariantFile], reference: Reference) -> None:
    require_same_build({str(reference.path): reference.build, **{str(one.path): one.header.build for one in files}})
    for one in files:
        require_reference_bases(one.records(), reference, where=str(one.path))


def _sample(file: VariantFile, asked: str | None) -> str:
    """The sample to compare: the one asked for, or the only one."""
    samples = list(file.header.samples)
    if not samples:
        raise InputError(f"{file.path}: a comparison needs genotypes, but the file has no sample")
    if asked is None and len(samples) > 1:
        raise InputError(f"{file.path}: name the sample to compare, one of {', '.join(samples[:10])}")
    if asked is not None and asked not in samples:
        raise InputError(f"{file.path}: no sample {asked!r}; it has {', '.join(samples[:10])}")
    return asked or samples[0]


def _skip_all(rows: tuple[Iterable[Record], Iterable[Record]], judge: Judge) -> None:
    for side in (TRUTH, CALLS):
        for _ in rows[side]:
            judge.skip(side, judge.verdicts[side].add(), NOT_IN_REFERENCE)


def _compare_contig(
    window: ContigWindow,
    rows: tuple[Iterable[Record], Iterable[Record]],
    readers: tuple[Reader, Reader],
    judge: Judge,
    progress: Progress | None,
) -> None:
    """Compare the records of one contig, cluster by cluster."""
    no_calls = (Spans(), Spans())
    variants = [_variants(rows[side], readers[side], window, judge, no_calls[side]) for side in (TRUTH, CALLS)]
    for count, cluster in enumerate(clusters(merge(*variants, key=attrgetter("start")))):
        if progress and count % _REPORT_EVERY == 0:
            progress(f"comparing {window.contig}", cluster[0].start, window.length)
        sides = ([one for one in cluster if one.side == TRUTH], [one for one in cluster if one.side == CALLS])
        judge.cluster(window.contig, sides, match_cluster(*sides, window.fetch), no_calls)
    if progress:
        progress(f"comparing {window.contig}", window.length, window.length)


def _variants(
    rows: Iterable[Record], reader: Reader, window: ContigWindow, judge: Judge, no_calls: Spans
) -> Iterator[Called]:
    """One set's variants; records that cannot be assessed are counted, no-calls with where they are."""
    for record in rows:
        index = judge.verdicts[reader.side].add()
        found = called(record, index, reader, window)
        if isinstance(found, Called):
            yield found
        elif found is not None:
            judge.skip(reader.side, index, found)
            if found == NO_CALL:
                no_calls.add(record.start, record.end)
