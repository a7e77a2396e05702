"""One region of one sample called: variants, possible variants, and blocks of covered reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from careloop import __version__
from careloop.genome.call.candidates import Candidate, engine_probabilities, find_candidates
from careloop.genome.call.coverage import Block, Coverage, CoverageRule, Findings, coverage_of
from careloop.genome.call.ploidy import Sex, borders, copies
from careloop.genome.files.reads import open_reads
from careloop.genome.files.reference import Reference, open_reference
from careloop.genome.files.regions import Region
from careloop.genome.files.variant_header import VariantHeader, new_header
from careloop.genome.variant import Record, SampleCall

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Probabilities = NDArray[np.float64]
    Fetch = Callable[[str, int, int], str]

ScorerName = Literal["network", "engine"]
BLOCK = ("<*>",)  # the alternative alleles of a block of covered reference
LOW_QUALITY = "LowQual"
NO_CHROMOSOME = "no such chromosome in this sex"
HEADER_LINES = (
    f"##source=careloop {__version__}",
    f'##FILTER=<ID={LOW_QUALITY},Description="A variant is possible, but less likely than the threshold">',
    '##ALT=<ID=*,Description="Any other allele: in blocks of covered reference">',
    '##INFO=<ID=END,Number=1,Type=Integer,Description="Last base of a block of covered reference">',
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
    '##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="Phred-scaled probability that the genotype is wrong">',
    '##FORMAT=<ID=DP,Number=1,Type=Integer,Description="Reads">',
    '##FORMAT=<ID=AD,Number=R,Type=Integer,Description="Reads of each allele">',
    '##FORMAT=<ID=PL,Number=G,Type=Integer,Description="Phred-scaled probabilities of the genotypes">',
    '##FORMAT=<ID=MIN_DP,Number=1,Type=Integer,Description="Least depth in a block">',
)


@dataclass(frozen=True)
class RegionTask:
    """What is to be called: files, region, sample, with what, and the sex for X and Y."""

    reads: str
    reference: str
    region: Region
    sample: str
    scorer: ScorerName = "network"
    sex: Sex | None = None


@dataclass(frozen=True)
class CalledRegion:
    """Records of a region in order, and its bases: `covered`, or why they are not."""

    records: tuple[Record, ...]
    bases: dict[str, int]


def header_of(reference: Reference, sample: str) -> VariantHeader:
    """The header of files with the records of `call_region`."""
    lines = (*HEADER_LINES, f"##reference={reference.path.name}")
    return new_header(reference.contigs, [sample], lines=lines)


def call_region(task: RegionTask) -> CalledRegion:
    """Call one region. Raises InputError for files that cannot be read."""
    region = task.region
    with open_reference(task.reference) as reference, open_reads(task.reads, reference) as reads:
        if not copies(region.contig, region.start, sex=task.sex, build=reference.build):
            return CalledRegion((), {NO_CHROMOSOME: region.end - region.start})
        bases = reference.fetch(region.contig, region.start, region.end)
        coverage = coverage_of(reads, bases, contig=region.contig, start=region.start, rule=CoverageRule())
        found: list[Candidate] = []
        if coverage.depth.any():
            found = find_candidates(task.reads, task.reference, (region.contig, region.start, region.end))
        probabilities = scored(task.scorer, found, reads, reference.fetch)
        ploidy = partial(copies, sex=task.sex, build=reference.build)
        cuts = borders(region.contig, reference.build)
    called = list(_variant_records(found, probabilities, task, ploidy))
    findings = Findings([(record.start, record.end) for record in called], _doubt(found, probabilities), cuts)
    blocks = [_block_record(block, coverage, bases, task, ploidy) for block in coverage.blocks(findings)]
    covered = {"covered": int(coverage.covered.sum()), **coverage.reasons()}
    return CalledRegion(tuple(sorted((*called, *blocks), key=lambda record: record.start)), covered)


def scored(scorer: ScorerName, found: Sequence[Candidate], reads: Any, fetch: Fetch) -> Probabilities:
    """Probabilities (n, 3) of 0, 1 and 2 copies of candidates that are sorted by start; reads are an open file."""
    if scorer == "engine":
        return np.asarray(engine_probabilities(list(found)))
    from careloop.genome.call.scorer import score

    return np.asarray(score(list(found), reads, fetch))


def _variant_records(
    found: Sequence[Candidate], probabilities: Probabilities, task: RegionTask, ploidy: Callable[[str, int], int]
) -> Iterator[Record]:
    """Records of what is called or possible; where there is one chromosome, of its one allele."""
    from careloop.genome.call.genotypes import joined

    for call in joined(list(found), _by_ploidy(found, probabilities, ploidy)):
        chromosomes = ploidy(call.contig, call.start)
        fields = {"GQ": call.genotype_quality, "DP": call.depth, "AD": call.allele_depths}
        if chromosomes == 2:
            fields["PL"] = call.pl
        yield Record(
            call.contig,
            call.start,
            call.start + len(call.ref),
            call.ref,
            call.alts,
            quality=round(call.quality, 2),
            filters=("PASS",) if call.passed else (LOW_QUALITY,),
            samples={task.sample: SampleCall(call.alleles[:chromosomes], fields=fields)},
        )


def _by_ploidy(
    found: Sequence[Candidate], probabilities: Probabilities, ploidy: Callable[[str, int], int]
) -> Probabilities:
    """Where there is one chromosome there is no heterozygote: the others share its probability."""
    single = np.array([ploidy(one.contig, one.start) == 1 for one in found], dtype=bool)
    if not single.any():
        return probabilities
    changed = probabilities.copy()
    changed[single, 1] = 0.0
    changed[single] /= changed[single].sum(axis=1, keepdims=True)
    return changed


def _doubt(found: Sequence[Candidate], probabilities: Probabilities) -> dict[int, float]:
    """By place, the quality of "reference" that candidates leave: the Phred-scaled probability of a variant."""
    left: dict[int, float] = {}
    for candidate, row in zip(found, probabilities, strict=True):
        quality = -10 * float(np.log10(max(1 - row[0], 1e-12)))
        for place in range(candidate.start, candidate.end):
            left[place] = min(quality, left.get(place, quality))
    return left


def _block_record(
    block: Block, coverage: Coverage, bases: str, task: RegionTask, ploidy: Callable[[str, int], int]
) -> Record:
    contig = task.region.contig
    chromosomes = ploidy(contig, block.start)
    fields = {"GQ": block.quality, "MIN_DP": block.least_depth}
    return Record(
        contig,
        block.start,
        block.end,
        bases[block.start - coverage.start].upper(),
        BLOCK,
        filters=("PASS",),
        info={"END": block.end},
        samples={task.sample: SampleCall((0,) * chromosomes, fields=fields)},
    )
