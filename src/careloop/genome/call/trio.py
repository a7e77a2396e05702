"""A child and both parents called together: inheritance counts as evidence, and new mutations are named.

The posterior is over the genotypes of all three: a population's prior for the parents, Mendel's rules with a rate of
new mutations for the child, and each person's reads (the model of DeNovoGear: Ramu et al. 2013, Nat Methods 10:985).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop import InputError
from careloop.genome.call.candidates import INDEL_PRIOR, SNV_PRIOR, Candidate, find_candidates, log_priors
from careloop.genome.call.genotypes import CALL_THRESHOLD, POSSIBLE, phred
from careloop.genome.call.germline import pieces, sample_name
from careloop.genome.call.read_pile import by_fragment, read_pile
from careloop.genome.call.region import HEADER_LINES, LOW_QUALITY, ScorerName, scored
from careloop.genome.files.builds import UNKNOWN
from careloop.genome.files.contigs import canonical_contig
from careloop.genome.files.reads import open_reads
from careloop.genome.files.reference import Reference, open_reference
from careloop.genome.files.regions import Region
from careloop.genome.files.variant_header import new_header
from careloop.genome.files.variant_writing import write_variants
from careloop.genome.variant import Record, SampleCall, Variant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Progress = Callable[[str, int, int], None]
MUTATION_RATE = 1.2e-8  # SNVs a base and generation (Kong et al. 2012, Nature 488:471)
READ_ERROR = 0.01  # that a read shows the other allele, where the engine saw no candidate
DE_NOVO = 0.5  # posterior from which a mutation is flagged
MOST_COUNTED = 100_000  # reads
WELL_MAPPED = 20  # mapping quality from which a read counts: others may lie elsewhere and rule out nothing
_AUTOSOMES = {str(number) for number in range(1, 23)}
_NOT_AUTOSOMES = {canonical_contig(name) for name in ("X", "Y", "MT")}
LINES = (
    *HEADER_LINES,
    '##INFO=<ID=DN,Number=1,Type=Float,Description="Posterior of a mutation that neither parent has">',
    '##INFO=<ID=DENOVO,Number=0,Type=Flag,Description="A new mutation is more likely than not">',
    '##INFO=<ID=MENDEL,Number=0,Type=Flag,Description="Called alone, the three would contradict inheritance">',
)


@dataclass(frozen=True)
class Seen:
    """One person's reads of one allele: likelihoods (3,) of 0, 1 and 2 copies, and reads of reference and allele."""

    likelihoods: Floats
    depths: tuple[int, int]


@dataclass(frozen=True)
class TrioSummary:
    """Samples (child, mother, father), PASS records, new mutations among them, and contigs that were left out.

    `mendelian_errors_alone` are PASS records in which the three called alone contradict inheritance, without those of
    new mutations.
    """

    samples: tuple[str, str, str]
    variants: int
    de_novo: int
    mendelian_errors_alone: int
    left_out: tuple[str, ...]


def call_trio(
    family: tuple[Path, Path, Path],
    reference: Path,
    out: Path,
    *,
    regions: Sequence[Region] = (),
    scorer: ScorerName = "network",
    progress: Progress | None = None,
) -> TrioSummary:
    """Write the variants of a child, its mother and its father (BAM or CRAM, in this order) to `out`, whole or not.

    Records have one alternative allele each; there are no blocks of reference (call each person alone for those). Only
    autosomes are called: X and Y are inherited by other rules.

    Raises:
        InputError: files that cannot be read, two of one sample, or no autosome among the regions.
    """
    counts: Counter[str] = Counter()
    with open_reference(reference) as opened:
        names = tuple(sample_name(path, opened) for path in family)
        if len(set(names)) < len(names):
            raise InputError(f"a trio must be three samples, got {', '.join(names)}; give three people's reads")
        asked = list(pieces(regions, opened))
        done = [region for region in asked if _is_autosome(region.contig, opened)]
        left = tuple(dict.fromkeys(region.contig for region in asked if region not in done))
        if not done:
            raise InputError(f"of a trio autosomes are called, got only {', '.join(left)}; name other regions")
        records = _records(done, family, names, opened, scorer, counts, progress)
        write_variants(out, new_header(opened.contigs, names, lines=LINES), records)
    return TrioSummary(names, counts["variants"], counts["de novo"], counts["mendel"], left)  # type: ignore[arg-type]


def _is_autosome(contig: str, reference: Reference) -> bool:
    """Of a reference that is not a known human assembly all contigs but those named X, Y and MT are taken."""
    name = canonical_contig(contig)
    return name in _AUTOSOMES or (reference.build == UNKNOWN and name not in _NOT_AUTOSOMES)


def allele_rate(allele: Candidate, rate: float) -> float:
    """The rate of mutations to this one allele, where `rate` is that of SNVs at a base.

    An SNV's is a third, as its prior is; new indels are taken to be as rare beside SNVs as they are among variants.
    """
    return rate * (INDEL_PRIOR / SNV_PRIOR if allele.length_change else 1 / 3)


def transmission(rate: float) -> Floats:
    """P(copies of the child | mother, father), shape (mother 3, father 3, child 3), with mutations either way."""
    table = np.zeros((3, 3, 3))
    for mother in range(3):
        for father in range(3):
            first, second = (copies / 2 * (1 - rate) + (1 - copies / 2) * rate for copies in (mother, father))
            table[mother, father] = (1 - first) * (1 - second), first + second - 2 * first * second, first * second
    return table


def joint_posterior(likelihoods: Floats, log_prior: Floats, rate: float) -> Floats:
    """Posterior over copies (mother 3, father 3, child 3).

    `likelihoods` (3, 3) are of child, mother and father, `log_prior` (3,) is a person's of the population.
    """
    child, mother, father = likelihoods / likelihoods.max(axis=1, keepdims=True)
    prior = np.exp(log_prior)
    joint = (prior * mother)[:, None, None] * (prior * father)[None, :, None] * child * transmission(rate)
    return joint / joint.sum()


def _records(
    regions: Sequence[Region],
    family: tuple[Path, Path, Path],
    names: Sequence[str],
    reference: Reference,
    scorer: ScorerName,
    counts: Counter[str],
    progress: Progress | None,
) -> Iterator[Record]:
    for done, region in enumerate(regions, start=1):
        for allele, seen in _evidence(region, family, reference, scorer):
            likelihoods = np.array([one.likelihoods for one in seen])
            posterior = joint_posterior(likelihoods, log_priors([allele])[0], allele_rate(allele, MUTATION_RATE))
            if 1 - posterior[0, 0, 0] >= POSSIBLE:
                record = _record(allele, seen, posterior, names)
                new = "DENOVO" in record.info
                counts["variants"] += record.passed
                counts["de novo"] += record.passed and new
                counts["mendel"] += record.passed and not new and "MENDEL" in record.info
                yield record
        if progress is not None:
            progress("calling a trio", done, len(regions))


def _evidence(
    region: Region, family: tuple[Path, Path, Path], reference: Reference, scorer: ScorerName
) -> Iterator[tuple[Candidate, list[Seen]]]:
    """Every allele that is a candidate in anybody, by place, and what each of the three shows of it."""
    where = (region.contig, region.start, region.end)
    known: list[dict[tuple[int, str, str], tuple[Candidate, Floats]]] = []
    for path in family:
        with open_reads(path, reference) as reads:
            found = find_candidates(path, reference.path, where)
            chances = np.log(np.maximum(scored(scorer, found, reads, reference.fetch), 1e-30))
        rows = np.exp(chances - log_priors(found)) if found else []
        known.append({(one.start, one.ref, one.alt): (one, row) for one, row in zip(found, rows, strict=True)})
    alleles = {key: one for person in known for key, (one, _) in person.items()}
    with ExitStack() as opened:
        files = [opened.enter_context(open_reads(path, reference)) for path in family]
        for key in sorted(alleles):
            yield (
                alleles[key],
                [
                    Seen(own[key][1], (sum(own[key][0].ref_reads), sum(own[key][0].alt_reads)))
                    if key in own
                    else _counted(reads, reference, alleles[key])
                    for own, reads in zip(known, files, strict=True)
                ],
            )


def _counted(reads: Any, reference: Reference, allele: Candidate) -> Seen:
    """What the fragments that show either allele say, in a person without the candidate."""
    variant = Variant(allele.contig, allele.start, allele.ref, allele.alt)
    pile = read_pile(reads, reference.fetch, variant, flank=1, most=MOST_COUNTED)
    placed = [one for one in pile.reads if one.mapping_quality >= WELL_MAPPED]
    shown = Counter(one.shows for one in by_fragment(placed))
    without, with_it = shown["reference"], shown["alternative"]
    share = np.array([READ_ERROR, 0.5, 1 - READ_ERROR])
    logs = with_it * np.log(share) + without * np.log(1 - share)
    return Seen(np.asarray(np.exp(np.maximum(logs - logs.max(), -690))), (without, with_it))


def _record(allele: Candidate, seen: Sequence[Seen], posterior: Floats, names: Sequence[str]) -> Record:
    mother, father, child = (int(copies) for copies in np.unravel_index(posterior.argmax(), posterior.shape))
    marginals = (posterior.sum(axis=(0, 1)), posterior.sum(axis=(1, 2)), posterior.sum(axis=(0, 2)))
    samples = {
        name: _sample(copies, float(marginal[copies]), one)
        for name, copies, marginal, one in zip(names, (child, mother, father), marginals, seen, strict=True)
    }
    new = float(posterior[0, 0, 1:].sum())
    info: dict[str, Any] = {"DN": round(new, 6)}
    info |= {"DENOVO": True} if new >= DE_NOVO else {}
    info |= {"MENDEL": True} if _contradict_alone(allele, seen) else {}
    passed = 1 - posterior[0, 0, 0] > CALL_THRESHOLD
    return Record(
        allele.contig, allele.start, allele.end, allele.ref, (allele.alt,),
        quality=round(phred(float(posterior[0, 0, 0])), 2),
        filters=("PASS",) if passed else (LOW_QUALITY,), info=info, samples=samples,
    )  # fmt: skip


def _sample(copies: int, chance: float, seen: Seen) -> SampleCall:
    row = seen.likelihoods / seen.likelihoods.max()
    scaled = np.minimum(-10 * np.log10(np.maximum(row, 1e-99)), 990).round().astype(int)
    fields = {
        "GQ": int(phred(1 - chance)),
        "DP": sum(seen.depths),
        "AD": seen.depths,
        "PL": tuple(int(value) for value in scaled),
    }
    return SampleCall(((0, 0), (0, 1), (1, 1))[copies], fields=fields)


def _contradict_alone(allele: Candidate, seen: Sequence[Seen]) -> bool:
    """Whether the likeliest genotype of each, who all have reads, could not be inherited."""
    prior = np.exp(log_priors([allele])[0])
    child, mother, father = (int((one.likelihoods * prior).argmax()) for one in seen)
    return all(sum(one.depths) for one in seen) and bool(transmission(0.0)[mother, father, child] == 0)
