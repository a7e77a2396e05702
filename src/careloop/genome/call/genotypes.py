"""From each allele's probabilities to one called genotype a place, with the qualities that a VCF states."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from careloop.genome.call.candidates import Candidate, log_priors

CALL_THRESHOLD = 0.5  # passed where a variant is more probable than this; chosen on validation samples (see train.py)
POSSIBLE = 0.05  # places where a variant is less probable than this are left out
MOST_ALLELES = 4  # alternative alleles of one place that are weighed against each other
HIGHEST_QUALITY = 99.0  # Phred: no simulation or truth set shows that a caller is right more often


@dataclass(frozen=True, slots=True)
class Genotyped:
    """One place called: `alleles` are indices into (ref, *alts), sorted; `pl` in the order of VCF 4.5 section 1.6.2.

    `quality` is the Phred-scaled probability that no allele is there, `genotype_quality` that the genotype is another.
    `allele_depths` are the engine's reads of (ref, *alts), `depth` all of its reads. `passed` says whether a variant is
    more probable than `CALL_THRESHOLD`.
    """

    contig: str
    start: int
    ref: str
    alts: tuple[str, ...]
    alleles: tuple[int, int]
    quality: float
    genotype_quality: int
    pl: tuple[int, ...]
    allele_depths: tuple[int, ...]
    depth: int
    passed: bool


def joined(candidates: Sequence[Candidate], probabilities: Any) -> list[Genotyped]:
    """Calls and possible calls from candidates and their probabilities (n, 3) of 0, 1 and 2 copies, by start.

    Alleles of one place and kind (SNV or indel) are weighed together, so that two of them can be called as 1/2.
    """
    priors = log_priors(candidates)
    order = sorted(range(len(candidates)), key=lambda n: (candidates[n].start, bool(candidates[n].length_change), n))

    def place(number: int) -> tuple[int, bool]:
        return candidates[number].start, bool(candidates[number].length_change)

    calls = []
    for _, numbers in itertools.groupby(order, key=place):
        group = list(numbers)
        if 1 - min(probabilities[number][0] for number in group) >= POSSIBLE / len(group):
            call = _call([candidates[n] for n in group], probabilities[group], priors[group])
            if call.quality >= -10 * np.log10(1 - POSSIBLE):
                calls.append(call)
    return calls


def _call(candidates: list[Candidate], probabilities: Any, priors: Any) -> Genotyped:
    """The most probable genotype that has an alternative allele."""
    best = np.argsort(probabilities[:, 0], kind="stable")[:MOST_ALLELES]
    pairs, posterior, _ = _joint(probabilities[best], priors[best])
    chosen = pairs[1 + int(np.argmax(posterior[1:]))]
    within = sorted({allele for allele in chosen if allele})
    kept = best[[allele - 1 for allele in within]]
    alleles = tuple(sorted(within.index(allele) + 1 if allele else 0 for allele in chosen))
    reference = float(posterior[0])
    pairs, posterior, prior = _joint(probabilities[kept], priors[kept])
    likelihood = np.log10(np.maximum(posterior, 1e-30)) - np.log10(prior)
    pl = tuple(round(value) for value in np.minimum(10 * (likelihood.max() - likelihood), 9999).tolist())
    members = [candidates[number] for number in kept]
    ref = max((member.ref for member in members), key=len)
    return Genotyped(
        members[0].contig,
        members[0].start,
        ref,
        tuple(member.alt + ref[len(member.ref) :] for member in members),
        alleles=(alleles[0], alleles[1]),
        quality=phred(reference),
        genotype_quality=round(phred(1 - posterior[pairs.index((alleles[0], alleles[1]))])),
        pl=pl,
        allele_depths=(sum(members[0].ref_reads), *(sum(member.alt_reads) for member in members)),
        depth=members[0].depth,
        passed=1 - reference > CALL_THRESHOLD,
    )


def _joint(probabilities: Any, priors: Any) -> tuple[list[tuple[int, int]], Any, Any]:
    """Genotypes of k alternative alleles in VCF's order, their probabilities and their priors.

    Alleles' copies are taken as independent but for the condition that a person has two.
    """
    alleles = len(probabilities)
    pairs = [(low, high) for high in range(alleles + 1) for low in range(high + 1)]
    both = []
    for table in (probabilities, np.exp(priors)):
        weights = [
            np.prod([table[number - 1, pair.count(number)] for number in range(1, alleles + 1)]) for pair in pairs
        ]
        both.append(np.maximum(np.array(weights), 1e-300) / max(sum(weights), 1e-300))
    return pairs, both[0], both[1]


def phred(probability: float) -> float:
    """-10 log10 of a probability, at most `HIGHEST_QUALITY`."""
    return float(min(-10 * np.log10(max(probability, 1e-30)), HIGHEST_QUALITY))
