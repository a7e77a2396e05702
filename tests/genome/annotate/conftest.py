"""A simulated sequence with genes on both strands, and random alleles near their exons."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from careloop.genome.annotate.coding import SplicedSequences
from careloop.genome.annotate.transcripts import Genes, read_genes
from careloop.genome.files.reference import Reference, open_reference
from careloop.genome.simulate.gene_models import gff3_lines, simulate_genes
from careloop.genome.variant import Variant
from careloop.genome.variants.alleles import left_align

CONTIG, BASES = "1", 240_000


@dataclass(frozen=True)
class GeneWorld:
    """The files of a simulated genome and what is read from them; `variants` are left-aligned, sorted."""

    sequence: str
    fasta: Path
    gff: Path
    reference: Reference
    genes: Genes
    sequences: SplicedSequences
    variants: list[Variant]

    def fetch(self, start: int, end: int) -> str:
        """Bases of the one contig."""
        return self.sequence[max(0, start) : end]

    def write_vcf(self, path: Path) -> Path:
        """The variants as a VCF."""
        lines = [f"##fileformat=VCFv4.2\n##contig=<ID={CONTIG},length={len(self.sequence)}>"]
        lines.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO")
        lines += [f"{v.contig}\t{v.start + 1}\t.\t{v.ref}\t{v.alt}\t.\t.\t." for v in self.variants]
        path.write_text("\n".join(lines) + "\n")
        return path


@pytest.fixture(scope="session")
def gene_world(tmp_path_factory: pytest.TempPathFactory) -> GeneWorld:
    """53 of such genes in 400,000 bases; here 240,000."""
    pytest.importorskip("pysam")
    folder = tmp_path_factory.mktemp("genes")
    rng = np.random.default_rng(9)
    sequence, simulated = simulate_genes("".join(rng.choice(list("ACGT"), size=BASES)), rng)
    fasta, gff = folder / "sequence.fa", folder / "genes.gff3"
    fasta.write_text(f">{CONTIG}\n{sequence}\n")
    gff.write_text("\n".join(gff3_lines(CONTIG, simulated)) + "\n")
    reference = open_reference(fasta)
    spots = [
        int(at)
        for gene in simulated
        for start, end in gene.exons
        for at in (*rng.integers(start, end, size=10), *rng.integers(start - 12, start + 6, size=4),
                   *rng.integers(end - 6, end + 12, size=4))
    ]  # fmt: skip
    spots += [at + int(by) for g in simulated if g.cds for at in (g.cds[0][0], g.cds[-1][1]) for by in range(-5, 6)]
    spots += [int(at) for at in rng.integers(20, BASES - 20, size=100)]
    variants = {_allele(sequence, at, rng) for at in spots}
    return GeneWorld(
        sequence,
        fasta,
        gff,
        reference,
        read_genes(gff),
        SplicedSequences(reference),
        sorted((v for v in variants if v.ref != v.alt), key=lambda v: (v.start, v.ref, v.alt)),
    )


def _allele(sequence: str, at: int, rng: np.random.Generator) -> Variant:
    """An SNV, deletion, insertion, tandem copy, or several bases for others, at a place."""
    base, size = sequence[at], int(rng.integers(1, 9))
    made = "".join(rng.choice(list("ACGT"), size=size))
    ref, alt = [
        (base, made[0]),
        (base, made[0]),
        (sequence[at : at + size + 1], base),
        (base, base + made),
        (base, base + sequence[at + 1 : at + 1 + size]),
        (sequence[at : at + 3], made[:3]),
        (sequence[at : at + size], made),
    ][int(rng.integers(7))]
    if ref == alt:
        return Variant(CONTIG, at, ref, alt)
    start, (ref, alt) = left_align(lambda a, b: sequence[max(0, a) : b], at, (ref, alt))
    return Variant(CONTIG, start, ref, alt)
