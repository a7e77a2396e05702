"""Candidates: every planted variant is among them, and the engine's values are bcftools' own."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from careloop.genome.call import candidates as module
from careloop.genome.call.candidates import Candidate, engine_probabilities, find_candidates, log_priors
from careloop.genome.simulate.sample import SimulatedSample

WHOLE = ("c", 0, 40_000)


def candidate(start: int = 10, ref: str = "A", alt: str = "C", **changed: object) -> Candidate:
    values: dict[str, object] = {
        "pl": (30.0, 0.0, 40.0), "depth": 9, "ref_reads": (2, 2), "alt_reads": (2, 3),
        "mapping_quality": 60.0, "mapping_quality_zero": 0.0,
    }  # fmt: skip
    return Candidate("c", start, ref, alt, **{**values, **changed})  # type: ignore[arg-type]


def test_planted_variants_are_candidates(simulated: SimulatedSample, random_reference: Path) -> None:
    found = find_candidates(simulated.bam, random_reference, WHOLE)
    keys = {(one.start, one.ref, one.alt) for one in found}
    assert [one.start for one in found] == sorted(one.start for one in found)
    snvs = {(r.start, r.ref, alt) for r in simulated.records for alt in r.alts if len(r.ref) == len(alt) == 1}
    indels = {(v.start, v.ref, v.alt) for r in simulated.records for v in r.variants} - snvs
    assert snvs <= keys
    # An allele of a place with two is written by mpileup with the other's reference bases, but found all the same.
    assert len(indels - keys) <= 2


def test_likelihoods_and_depths_are_bcftools_own(simulated: SimulatedSample, random_reference: Path) -> None:
    from pysam import bcftools

    found = {one.start: one for one in find_candidates(simulated.bam, random_reference, WHOLE) if not one.length_change}
    text = bcftools.mpileup("-I", "-a", "FORMAT/ADF,FORMAT/ADR", "-f", str(random_reference), str(simulated.bam))
    checked = 0
    for line in text.splitlines():
        fields = line.split("\t")
        if line.startswith("#") or fields[4].count(",") != 1 or int(fields[1]) - 1 not in found:
            continue
        one = found[int(fields[1]) - 1]
        sample = dict(zip(fields[8].split(":"), fields[9].split(":"), strict=True))
        likelihoods = [int(value) for value in sample["PL"].split(",")[:3]]
        assert one.pl == tuple(value - min(likelihoods) for value in likelihoods)
        assert one.alt_reads == (int(sample["ADF"].split(",")[1]), int(sample["ADR"].split(",")[1]))
        checked += 1
    assert checked > 20


def test_pieces_of_a_region_give_what_the_whole_gives(
    simulated: SimulatedSample, random_reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = find_candidates(simulated.bam, random_reference, ("c", 1_000, 21_000))
    monkeypatch.setattr(module, "PIECE_BASES", 3_000)
    pieces = find_candidates(simulated.bam, random_reference, ("c", 1_000, 21_000))
    assert all(1_000 <= one.start < 21_000 for one in whole)
    assert [(one.start, one.ref, one.alt) for one in pieces] == [(one.start, one.ref, one.alt) for one in whole]


def test_the_engines_probabilities_are_bayes_rule() -> None:
    one, indel = candidate(), candidate(ref="AT", alt="A", pl=(0.0, 12.0, 60.0))
    found = engine_probabilities([one, indel])
    for row, pl, share in ((0, one.pl, 1e-3 / 3), (1, indel.pl, 1.75e-4)):
        weights = [
            (1 - share) * 10 ** (-pl[0] / 10),
            share * 2 / 3 * 10 ** (-pl[1] / 10),
            share / 3 * 10 ** (-pl[2] / 10),
        ]
        assert found[row] == pytest.approx(np.array(weights) / sum(weights))
    assert np.exp(log_priors([one])).sum() == pytest.approx(1)
    assert engine_probabilities([]).shape == (0, 3)


@pytest.mark.parametrize(
    ("written", "trimmed"),
    [((5, "CAAAA", "CAAA"), (5, "CA", "C")), ((5, "CAT", "CAG"), (7, "T", "G")), ((5, "GA", "GAA"), (5, "G", "GA"))],
)
def test_alleles_lose_the_bases_they_share(written: tuple[int, str, str], trimmed: tuple[int, str, str]) -> None:
    assert module._trimmed(*written) == trimmed


def test_length_change_and_end() -> None:
    assert candidate(ref="AT", alt="A").length_change == -1
    assert candidate(start=10, ref="AT", alt="A").end == 12
    assert math.isclose(candidate().pl[1], 0)
