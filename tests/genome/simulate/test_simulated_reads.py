"""Simulated reads: depth, errors that follow the qualities, duplicates, and samples made whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from careloop import InputError
from careloop.genome.simulate.reads import COMPLEMENT, ReadModel, low_quality, simulate_reads, write_fastq

BASES = "".join(np.random.default_rng(0).choice(list("ACGT"), size=20_000))
FAITHFUL = ReadModel(depth=20, quality_read_sd=0, indel_errors=0, homopolymer_errors=0)
SPOTLESS = replace(FAITHFUL, error_scale=0)


def reverse(bases: bytes) -> bytes:
    return COMPLEMENT[np.frombuffer(bases, dtype=np.uint8)][::-1].tobytes()


def test_reads_without_errors_are_pieces_of_the_haplotypes() -> None:
    both = BASES.encode()
    pairs = list(simulate_reads([BASES, BASES], SPOTLESS, seed=1))
    assert len(pairs) == pytest.approx(20 * len(BASES) / 300, abs=2)
    forward_first = 0
    for pair in pairs:
        one, two = pair.bases
        first_is_left = one in both
        left, right = (one, two) if first_is_left else (two, one)
        assert both.index(left) <= both.index(reverse(right))
        forward_first += first_is_left
    assert 0.4 < forward_first / len(pairs) < 0.6


@pytest.mark.parametrize("model", [FAITHFUL, replace(FAITHFUL, binned="four"), low_quality(FAITHFUL)])
def test_errors_follow_the_qualities(model: ReadModel) -> None:
    """The same seed draws the same fragments, so that the reads without errors are the truth."""
    wrong, chance = 0, 0.0
    truth = {}
    for pair in simulate_reads([BASES], replace(model, error_scale=0), seed=2):
        truth[pair.name] = pair.bases
    for pair in simulate_reads([BASES], model, seed=2):
        for read, right, quality in zip(pair.bases, truth[pair.name], pair.qualities, strict=True):
            wrong += sum(a != b for a, b in zip(read, right, strict=True))
            chance += float((10 ** (-(np.frombuffer(quality, dtype=np.uint8) - 33.0) / 10)).clip(0, 0.75).sum())
    assert wrong == pytest.approx(chance, abs=5 * chance**0.5)


def test_homopolymers_bring_indel_errors() -> None:
    plain = replace(SPOTLESS, indel_errors=0, homopolymer_errors=0)
    run = BASES[:5000] + "A" * 20 + BASES[5000:10_000]

    def changed(model: ReadModel) -> int:
        pieces = run.encode()
        reads = [read for pair in simulate_reads([run], model, seed=3) for read in pair.bases]
        return sum(read not in pieces and reverse(read) not in pieces for read in reads)

    assert changed(plain) == 0
    assert changed(replace(plain, homopolymer_errors=0.01)) > 5


def test_duplicates_are_the_same_fragment() -> None:
    def distinct(duplicates: float) -> float:
        pairs = list(simulate_reads([BASES], replace(SPOTLESS, duplicates=duplicates), seed=4))
        return len({tuple(sorted(pair.bases)) for pair in pairs}) / len(pairs)

    assert distinct(0.0) > 0.98
    assert distinct(0.3) < 0.85


def test_fastq_is_written_pair_by_pair(tmp_path: Path) -> None:
    one, two = tmp_path / "1.fq", tmp_path / "2.fq"
    count = write_fastq(simulate_reads([BASES], FAITHFUL, seed=5), one, two)
    first, second = one.read_text().splitlines(), two.read_text().splitlines()
    assert len(first) == len(second) == 4 * count
    assert first[0][:-1] == second[0][:-1]
    assert {len(line) for line in first[1::2] if line != "+"} == {150}


def test_haplotypes_shorter_than_a_fragment_are_refused() -> None:
    with pytest.raises(InputError, match="longer than the fragments"):
        list(simulate_reads(["ACGT" * 50], FAITHFUL, seed=0))
