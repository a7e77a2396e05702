"""Simulated genes over a sequence: exons, reading frames and splice sites written into it, and their GFF3."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

_STOPS = ("TAA", "TAG", "TGA")
_COMPLEMENT = str.maketrans("ACGT", "TGCA")
_GAP = (5_500, 7_000)  # bases between two genes: the 5 kb beside one never reach the next but one
_SHORTEST_INTRON = 40
_CODING_SHARE = 0.85  # of genes; the rest are lncRNA


@dataclass(frozen=True)
class SimulatedGene:
    """One gene of one transcript; spans 0-based half-open on the genome, ascending; `cds` empty for a lncRNA."""

    name: str
    strand: int
    exons: tuple[tuple[int, int], ...]
    cds: tuple[tuple[int, int], ...]


def simulate_genes(
    sequence: str, rng: np.random.Generator, *, gap: tuple[int, int] = _GAP
) -> tuple[str, list[SimulatedGene]]:
    """Return the sequence with genes written into it (same length), and the genes, on both strands.

    A coding gene has ATG, codons without a stop and one stop, split at random places by introns GT...AG; untranslated
    regions may hold introns as well. `gap` is the range of bases between genes.
    """
    bases = list(sequence)
    genes: list[SimulatedGene] = []
    at = int(rng.integers(*gap))
    while True:
        strand = 1 if rng.random() < 0.5 else -1
        lengths, coded = _exon_lengths(rng)
        introns = [int(rng.integers(_SHORTEST_INTRON, 400)) for _ in lengths[1:]]
        end = at + sum(lengths) + sum(introns)
        if end + gap[0] > len(bases):
            return "".join(bases), genes
        gene = _placed(f"G{len(genes) + 1:05d}", strand, at, lengths, introns, coded)
        _write(bases, gene, rng)
        genes.append(gene)
        at = end + int(rng.integers(*gap))


def _exon_lengths(rng: np.random.Generator) -> tuple[list[int], tuple[int, int] | None]:
    """Lengths of exons along the transcript, and where the coding part begins and ends in them."""
    if rng.random() > _CODING_SHARE:
        return [int(n) for n in rng.integers(30, 300, size=rng.integers(1, 5))], None
    leader, trailer = (int(n) for n in rng.integers(10, 150, size=2))
    coded = 3 * int(rng.integers(20, 250))
    whole = leader + coded + trailer
    cuts = sorted({int(n) for n in rng.integers(12, whole - 12, size=rng.integers(0, 7))})
    kept: list[int] = []
    for cut in cuts:
        if not kept or cut - kept[-1] >= 12:
            kept.append(cut)
    edges = [0, *kept, whole]
    return [b - a for a, b in pairwise(edges)], (leader, leader + coded)


def _placed(
    name: str, strand: int, at: int, lengths: list[int], introns: list[int], coded: tuple[int, int] | None
) -> SimulatedGene:
    """Exons laid on the genome from `at` on; along the transcript they run backwards on strand -1."""
    order = lengths[::strand]
    exons = []
    for length, intron in zip(order, [*introns, 0], strict=True):
        exons.append((at, at + length))
        at += length + intron
    if coded is None:
        return SimulatedGene(name, strand, tuple(exons), ())
    whole = sum(lengths)
    first, last = coded if strand > 0 else (whole - coded[1], whole - coded[0])
    cds, before = [], 0
    for start, end in exons:
        a, b = max(first - before, 0), min(last - before, end - start)
        if a < b:
            cds.append((start + a, start + b))
        before += end - start
    return SimulatedGene(name, strand, tuple(exons), tuple(cds))


def _write(bases: list[str], gene: SimulatedGene, rng: np.random.Generator) -> None:
    """Write introns' ends and codons into the sequence."""
    for (_, start), (end, _) in pairwise(gene.exons):
        donor, acceptor = ("GT", "AG") if gene.strand > 0 else ("CT", "AC")
        bases[start : start + 2], bases[end - 2 : end] = donor, acceptor
    places = [at for start, end in gene.cds for at in range(start, end)][:: gene.strand]
    for at, base in zip(places, _codons(len(places) // 3, rng), strict=False):
        bases[at] = base if gene.strand > 0 else base.translate(_COMPLEMENT)


def _codons(count: int, rng: np.random.Generator) -> str:
    """ATG, `count` - 2 codons that are no stop, and a stop; empty for none."""
    if not count:
        return ""
    codons = ["ATG"]
    while len(codons) < count - 1:
        codon = "".join(rng.choice(list("ACGT"), size=3))
        if codon not in _STOPS:
            codons.append(codon)
    return "".join([*codons, _STOPS[int(rng.integers(3))]])


def gff3_lines(contig: str, genes: list[SimulatedGene]) -> Iterator[str]:
    """Yield the lines of a GFF3 file as Ensembl writes them, without line ends."""
    yield "##gff-version 3"
    for gene in genes:
        sign = "+" if gene.strand > 0 else "-"
        biotype = "protein_coding" if gene.cds else "lncRNA"
        start, end = gene.exons[0][0] + 1, gene.exons[-1][1]

        def line(kind: str, start: int, end: int, phase: str, attributes: str, sign: str = sign) -> str:
            return "\t".join([contig, "simulated", kind, str(start), str(end), ".", sign, phase, attributes])

        transcript = f"transcript:T{gene.name[1:]}"
        yield line("gene", start, end, ".", f"ID=gene:{gene.name};Name=GENE{gene.name[1:]};biotype={biotype}")
        kind = "mRNA" if gene.cds else "lnc_RNA"
        yield line(kind, start, end, ".", f"ID={transcript};Parent=gene:{gene.name};biotype={biotype}")
        for a, b in gene.exons:
            yield line("exon", a + 1, b, ".", f"Parent={transcript}")
        coded = 0
        for a, b, side in _untranslated(gene):
            yield line(f"{side}_prime_UTR", a + 1, b, ".", f"Parent={transcript}")
        for a, b in gene.cds[:: gene.strand]:
            yield line("CDS", a + 1, b, str(-coded % 3), f"ID=CDS:P{gene.name[1:]};Parent={transcript}")
            coded += b - a


def _untranslated(gene: SimulatedGene) -> Iterator[tuple[int, int, str]]:
    """Yield the parts of exons before (`five`) and behind (`three`) the coding part."""
    if not gene.cds:
        return
    first, last = gene.cds[0][0], gene.cds[-1][1]
    left, right = ("five", "three")[:: gene.strand]
    for start, end in gene.exons:
        if start < first:
            yield start, min(end, first), left
        if end > last:
            yield max(start, last), end, right
