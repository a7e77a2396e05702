"""Where the sample may differ from the reference, and what the engine (bcftools mpileup) says of it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PIECE_BASES = 500_000  # mpileup writes a line a base: a piece's file stays below 100 MB
# Kept are places where 0/0 is not the likeliest for alleles seen twice, or is this much (Phred) less likely for others.
PERMISSIVE = "FMT/PL[0:0]>=10 || (FMT/AD[0:1-]>=2 && FMT/PL[0:0]>=1)"
MPILEUP = ("-Ou", "-a", "FORMAT/AD,FORMAT/ADF,FORMAT/ADR", "--min-ireads", "1", "--gap-frac", "0.02")
HIGHEST_PL = 255.0
SNV_PRIOR, INDEL_PRIOR = 1e-3, 1.75e-4  # variants a base in a human genome (1000 Genomes 2015, Nature 526:68)
HETEROZYGOUS_SHARE = 2 / 3  # of the variants that differ from the reference, under neutral evolution


@dataclass(frozen=True, slots=True)
class Candidate:
    """One alternative allele at one place, before it is known whether it is there.

    `start` is 0-based, `ref` and `alt` are upper-case bases, without bases that both share at their ends (but the one
    before an indel). `pl` holds the engine's Phred-scaled likelihoods of the genotypes 0/0, 0/1 and 1/1 of this allele
    alone (smallest 0). `ref_reads` and `alt_reads` are the engine's allele depths (forward, reverse), `depth` its
    reads, `mapping_quality` their mean and `mapping_quality_zero` the share of them that may as well lie elsewhere.
    """

    contig: str
    start: int
    ref: str
    alt: str
    pl: tuple[float, float, float]
    depth: int
    ref_reads: tuple[int, int]
    alt_reads: tuple[int, int]
    mapping_quality: float
    mapping_quality_zero: float

    @property
    def quality(self) -> float:
        """How much less likely (Phred) 0/0 makes the reads than the likeliest genotype."""
        return self.pl[0]

    @property
    def end(self) -> int:
        """The first base after the reference allele, 0-based."""
        return self.start + len(self.ref)

    @property
    def length_change(self) -> int:
        """Bases added (positive) or deleted (negative); 0 for an SNV."""
        return len(self.alt) - len(self.ref)


@dataclass(frozen=True, slots=True)
class Search:
    """The expression (of bcftools) that a candidate's place must fulfil, and how many reads a place are looked at."""

    kept: str = PERMISSIVE
    most_reads: int = 250


def find_candidates(
    reads: Path | str, reference: Path | str, region: tuple[str, int, int], *, search: Search = Search()
) -> list[Candidate]:
    """The candidates with `start` in `region` (contig, start, end; 0-based, half-open), by start and alternative.

    `reads` is an indexed BAM or CRAM of one sample, `reference` its indexed FASTA; their errors are htslib's.
    """
    contig, start, end = region
    found: dict[tuple[int, str, str], Candidate] = {}
    for piece in range(start, end, PIECE_BASES):
        stop = min(piece + PIECE_BASES, end)
        for candidate in _of_piece(str(reads), str(reference), f"{contig}:{piece + 1}-{stop}", search):
            key = (candidate.start, candidate.ref, candidate.alt)
            if start <= candidate.start < end and (key not in found or found[key].quality < candidate.quality):
                found[key] = candidate
    return [found[key] for key in sorted(found)]


def log_priors(candidates: Sequence[Candidate]) -> Any:
    """Natural logarithms of the genotypes' prior probabilities, shape (n, 3): 0/0, 0/1, 1/1."""
    share = np.array([INDEL_PRIOR if candidate.length_change else SNV_PRIOR for candidate in candidates]).reshape(-1, 1)
    # An SNV's prior is one allele's of three; an indel's is left whole, as its alleles are few.
    share = np.where(share == SNV_PRIOR, share / 3, share)
    return np.log(np.hstack([1 - share, share * HETEROZYGOUS_SHARE, share * (1 - HETEROZYGOUS_SHARE)]))


def engine_probabilities(candidates: Sequence[Candidate]) -> Any:
    """The genotypes' probabilities (n, 3) from the engine's likelihoods and the prior alone."""
    if not candidates:
        return np.zeros((0, 3))
    likelihoods = np.array([candidate.pl for candidate in candidates]) * -np.log(10) / 10
    return _softmax(likelihoods + log_priors(candidates))


def _softmax(logits: Any) -> Any:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def _of_piece(reads: str, reference: str, region: str, search: Search) -> Iterator[Candidate]:
    import pysam
    from pysam import bcftools

    with tempfile.TemporaryDirectory(prefix="careloop-call-") as folder:
        every, kept = f"{folder}/every.bcf", f"{folder}/kept.bcf"
        depth = ("-d", str(search.most_reads), "-L", str(search.most_reads))
        bcftools.mpileup(*MPILEUP, *depth, "-f", reference, "-r", region, "-o", every, reads, catch_stdout=False)
        bcftools.view("-i", search.kept, "-Ou", "-o", kept, every, catch_stdout=False)
        with _quiet(pysam), pysam.VariantFile(kept) as records:
            for record in records:
                yield from _alleles(record)


@contextlib.contextmanager
def _quiet(pysam: Any) -> Iterator[None]:
    """A full pass needs no index: htslib's message that there is none would only puzzle."""
    before = pysam.set_verbosity(0)
    try:
        yield
    finally:
        pysam.set_verbosity(before)


def _alleles(record: Any) -> Iterator[Candidate]:
    call, info = record.samples[0], record.info
    pls, forward, reverse = call["PL"], call["ADF"], call["ADR"]
    for number, alt in enumerate(record.alts or (), start=1):
        if alt == "<*>" or not forward[number] + reverse[number]:
            continue
        trio = [float(pls[0]), float(pls[number * (number + 1) // 2]), float(pls[number * (number + 3) // 2])]
        least = min(trio)
        start, ref, bases = _trimmed(record.start, record.ref.upper(), alt.upper())
        if set(ref + bases) - set("ACGT"):
            continue
        yield Candidate(
            record.contig,
            start,
            ref,
            bases,
            pl=(trio[0] - least, trio[1] - least, trio[2] - least),
            depth=int(info["DP"]),
            ref_reads=(int(forward[0]), int(reverse[0])),
            alt_reads=(int(forward[number]), int(reverse[number])),
            mapping_quality=_mean_mapping_quality(info["I16"]),
            mapping_quality_zero=float(info["MQ0F"]),
        )


def _mean_mapping_quality(sums: tuple[float, ...]) -> float:
    """Over all reads, from mpileup's I16: counts in 0-3, sums of the mapping qualities of both alleles in 8 and 10."""
    return float((sums[8] + sums[10]) / max(sum(sums[:4]), 1.0))


def _trimmed(start: int, ref: str, alt: str) -> tuple[int, str, str]:
    """The alleles without the bases they share at their ends, one left before an indel."""
    while len(ref) > 1 and len(alt) > 1 and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    while len(ref) > 1 and len(alt) > 1 and ref[0] == alt[0]:
        ref, alt, start = ref[1:], alt[1:], start + 1
    return start, ref, alt
