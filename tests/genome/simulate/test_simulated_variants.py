"""Planted variants: what was asked for, true to the reference, left-aligned as bcftools does it."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.genome.simulate.repeats import find_repeats
from careloop.genome.simulate.variants import SAMPLE, Planting, haplotypes_of, left_aligned, plant_variants

START = 1000
PLAN = Planting(snvs=90, indels=60, two_alternatives=0.3)


def random_sequence(length: int, seed: int) -> str:
    draw = np.random.default_rng(seed)
    parts = []
    while sum(map(len, parts)) < length:
        parts.append("".join(draw.choice(list("ACGT"), size=60)))
        parts.append("".join(draw.choice(list("ACGT"), size=int(draw.integers(1, 4)))) * int(draw.integers(4, 12)))
    return "".join(parts)[:length]


@pytest.fixture(scope="module")
def sequence() -> str:
    return random_sequence(30_000, 1)


def test_what_was_asked_for_is_planted_where_the_reference_says(sequence: str) -> None:
    records = plant_variants(sequence, "c", start=START, plan=PLAN, seed=3)
    snvs = [record for record in records if record.variants[0].is_snv]
    assert len(snvs) == PLAN.snvs
    assert len(records) == PLAN.snvs + PLAN.indels
    for before, after in itertools.pairwise(records):
        assert before.end < after.start
    for record in records:
        assert sequence[record.start - START : record.end - START] == record.ref
        assert all(alt != record.ref for alt in record.alts)
    repetitive = {at for repeat in find_repeats(sequence) for at in range(repeat.start, repeat.end)}
    share = np.mean([record.start - START in repetitive for record in snvs])
    assert share == pytest.approx(PLAN.repeat_share, abs=0.01)
    assert any(len(record.alts) == 2 for record in records)


def test_the_same_seed_plants_the_same(sequence: str) -> None:
    def lines(seed: int) -> list[str]:
        return [str(record.variants) for record in plant_variants(sequence, "c", plan=PLAN, seed=seed)]

    assert lines(5) == lines(5)
    assert lines(5) != lines(6)


def test_haplotypes_carry_the_alleles_of_their_copy(sequence: str) -> None:
    records = plant_variants(sequence, "c", start=START, plan=PLAN, seed=4)
    for copy, haplotype in enumerate(haplotypes_of(sequence, records, start=START)):
        shift = 0
        for record in records:
            allele = record.samples[SAMPLE].alleles[copy]
            bases = (record.ref, *record.alts)[allele or 0]
            at = record.start - START + shift
            assert haplotype[at : at + len(bases)] == bases
            shift += len(bases) - len(record.ref)
        assert len(haplotype) == len(sequence) + shift


def test_indels_are_left_aligned_as_bcftools_norm_does(sequence: str, tmp_path: Path) -> None:
    pysam = pytest.importorskip("pysam")
    from pysam import bcftools

    fasta, vcf = tmp_path / "r.fa", tmp_path / "v.vcf"
    fasta.write_text(f">c\n{sequence}\n")
    pysam.faidx(str(fasta))
    records = plant_variants(sequence, "c", plan=PLAN, seed=7)
    lines = [f"{r.contig}\t{r.start + 1}\t.\t{r.ref}\t{a}\t.\t.\t." for r in records for a in r.alts]
    head = (
        f"##fileformat=VCFv4.3\n##contig=<ID=c,length={len(sequence)}>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    )
    vcf.write_text(head + "\n".join(lines) + "\n")
    normalised = bcftools.norm("-f", str(fasta), str(vcf))
    kept = ["\t".join(line.split("\t")[:5]) for line in normalised.splitlines() if not line.startswith("#")]
    single = [line for line, r in zip(lines, [r for r in records for _ in r.alts], strict=True) if len(r.alts) == 1]
    assert {"\t".join(line.split("\t")[:5]) for line in single} <= set(kept)


@settings(max_examples=60, derandomize=True)
@given(
    st.text("AC", min_size=8, max_size=30), st.integers(1, 5), st.text("AC", min_size=0, max_size=4), st.integers(0, 3)
)
def test_left_aligning_keeps_the_haplotype(sequence: str, at: int, added: str, removed: int) -> None:
    ref, alt = sequence[at : at + 1 + removed], sequence[at] + added
    if ref == alt:
        return
    haplotype = sequence[:at] + alt + sequence[at + len(ref) :]
    start, ref, alt = left_aligned(sequence, at, ref, alt)
    assert start >= 0
    assert sequence[:start] + alt + sequence[start + len(ref) :] == haplotype
    assert not (start > 0 and ref[-1] == alt[-1] and len(ref) > 1 and len(alt) > 1)


def test_more_variants_than_bases_are_refused() -> None:
    with pytest.raises(InputError, match="no room"):
        plant_variants(random_sequence(300, 2), "c", plan=Planting(snvs=300, indels=0), seed=0)


def test_repeats_are_what_they_are_called() -> None:
    sequence = "GATC" + "A" * 7 + "GC" + "CAG" * 5 + "TTGACCA" + "AT" * 6 + "GG"
    found = find_repeats(sequence)
    assert [repeat.unit for repeat in found] == [1, 3, 2]
    for repeat in found:
        inside = sequence[repeat.start : repeat.end]
        assert inside[repeat.unit :] == inside[: -repeat.unit]
