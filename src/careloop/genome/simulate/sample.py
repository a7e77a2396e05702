"""A simulated sample whole: variants planted in a region of a reference, reads of them, aligned, and the truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from careloop.genome.files.align import align_reads
from careloop.genome.files.reference import open_reference
from careloop.genome.files.regions import Region
from careloop.genome.files.variant_header import new_header
from careloop.genome.files.variant_writing import write_variants
from careloop.genome.simulate.art import ArtModel, art_reads
from careloop.genome.simulate.reads import ReadModel, ReadPair, simulate_reads, write_fastq
from careloop.genome.simulate.variants import SAMPLE, Planting, haplotypes_of, plant_variants
from careloop.genome.variant import Record

OTHER_PERSON = 500_000  # added to the seed for the person whose reads contaminate the sample
GENOTYPE = '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">'


@dataclass(frozen=True, slots=True)
class SamplePlan:
    """What a sample is made of. `contamination` is the share of its reads that are another person's."""

    region: Region
    reads: ReadModel | ArtModel
    variants: Planting
    seed: int
    contamination: float = 0.0


@dataclass(frozen=True, slots=True)
class SimulatedSample:
    """Aligned reads (BAM with index), the truth (VCF with index), and the planted records themselves."""

    bam: Path
    truth: Path
    records: tuple[Record, ...]


def simulate_sample(reference: Path, plan: SamplePlan, folder: Path) -> SimulatedSample:
    """Writes `reads.bam` and `truth.vcf.gz` to `folder`. The reads are aligned to the whole of `reference` (FASTA)."""
    region = plan.region
    with open_reference(reference) as opened:
        sequence, contigs = opened.fetch(region.contig, region.start, region.end), opened.contigs
    records = plant_variants(sequence, region.contig, start=region.start, plan=plan.variants, seed=plan.seed)
    fastq = folder / "reads_1.fq", folder / "reads_2.fq"
    write_fastq(_reads(sequence, records, plan), *fastq)
    bam, truth = folder / "reads.bam", folder / "truth.vcf.gz"
    align_reads(fastq, reference, out=bam, sample=SAMPLE)
    for path in fastq:
        path.unlink()
    write_variants(truth, new_header(contigs, [SAMPLE], lines=[GENOTYPE]), records)
    return SimulatedSample(bam, truth, tuple(records))


def _reads(sequence: str, records: list[Record], plan: SamplePlan) -> Iterator[ReadPair]:
    start, depth = plan.region.start, plan.reads.depth
    own = haplotypes_of(sequence, records, start=start)
    yield from _read(own, depth * (1 - plan.contamination), plan, seed=plan.seed, prefix="own")
    if plan.contamination:
        seed = plan.seed + OTHER_PERSON
        others = plant_variants(sequence, plan.region.contig, start=start, plan=plan.variants, seed=seed)
        other = haplotypes_of(sequence, others, start=start)
        yield from _read(other, depth * plan.contamination, plan, seed=seed, prefix="other")


def _read(haplotypes: tuple[str, str], depth: float, plan: SamplePlan, *, seed: int, prefix: str) -> Iterator[ReadPair]:
    if isinstance(plan.reads, ArtModel):
        return art_reads(haplotypes, replace(plan.reads, depth=depth), seed=seed, prefix=prefix)
    return simulate_reads(haplotypes, replace(plan.reads, depth=depth), seed=seed, prefix=prefix)
