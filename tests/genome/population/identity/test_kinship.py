"""Kinship beside plink2's --make-king-table, and planted relatives found as what they are."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.genome.genotypes.in_memory import InMemoryGenotypes
from careloop.genome.genotypes.open_genotypes import open_genotypes
from careloop.genome.genotypes.source import MISSING
from careloop.genome.genotypes.write_bed import write_bed
from careloop.genome.population.identity import kinship as kinship_module
from careloop.genome.population.identity.kinship import PAIRS, relatedness, unrelated
from careloop.genome.population.identity.pair_counts import PairCounts
from careloop.genome.simulate.cohort import GenotypeModel, simulate_cohort

MODEL = GenotypeModel(frequencies=(0.05, 0.5), populations=2, fst=0.1, missing=0.04, contigs=("1", "2", "X"))


def family(seed: int, variants: int = 4000) -> InMemoryGenotypes:
    """Twelve unrelated people, two children of the first two, a child of the first child, and a twin of the third."""
    cohort = simulate_cohort(12, variants, seed=seed, model=GenotypeModel(frequencies=(0.05, 0.5)))
    draws = np.random.default_rng(seed)
    people = list(cohort.genotypes.T)

    def child(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return (draws.random(one.size) < one / 2).astype(np.int8) + (draws.random(one.size) < other / 2)

    people += [child(people[0], people[1]), child(people[0], people[1])]
    people += [child(people[12], people[5]), people[2].copy()]
    names = [*(f"U{number}" for number in range(12)), "brother", "sister", "grandchild", "twin"]
    samples = pl.DataFrame({"sample_id": names}).with_columns(
        *(pl.lit(None, pl.String()).alias(name) for name in ("family_id", "father_id", "mother_id", "sex"))
    )
    genotypes = np.stack(people, axis=1).astype(np.int8)
    genotypes[draws.random(genotypes.shape) < 0.01] = MISSING
    return InMemoryGenotypes(samples, cohort.variants, genotypes)


@pytest.mark.skipif(shutil.which("plink2") is None, reason="needs plink2")
@pytest.mark.parametrize("at_once", [2_500, 31])
def test_kinship_is_plink2s(at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinship_module, "_PEOPLE_AT_ONCE", at_once)
    cohort = simulate_cohort(70, 1200, seed=4, model=MODEL)
    bed = write_bed(tmp_path / "c", cohort.samples, cohort.variants, [cohort.genotypes])
    command = ["plink2", "--bfile", tmp_path / "c", "--make-king-table", "--out", tmp_path / "c"]
    subprocess.run(command, check=True, capture_output=True)
    peer = pl.read_csv(tmp_path / "c.kin0", separator="\t", schema_overrides={"IID1": pl.String, "IID2": pl.String})
    expected = {
        frozenset(row[:2]): row[2:] for row in peer.select("IID1", "IID2", "NSNP", "HETHET", "IBS0", "KINSHIP").rows()
    }
    found = relatedness(open_genotypes(bed), min_kinship=-10)
    assert found.variants == 800
    assert dict(found.pairs.schema) == dict(PAIRS)
    assert found.pairs.height == len(expected) == 70 * 69 // 2
    for row in found.pairs.rows():
        assert row[2:6] == pytest.approx(expected[frozenset(row[:2])], abs=1e-6)


def test_planted_relatives_are_found_and_nobody_else() -> None:
    found = relatedness(family(seed=1)).pairs
    kinds = {frozenset(row[:2]): row[2] for row in found.select("sample_id_1", "sample_id_2", "relation").rows()}
    parents = {frozenset((parent, name)) for parent in ("U0", "U1") for name in ("brother", "sister")}
    parents |= {frozenset(("brother", "grandchild")), frozenset(("U5", "grandchild"))}
    second = {frozenset((name, "grandchild")) for name in ("U0", "U1", "sister")}
    assert kinds.pop(frozenset(("U2", "twin"))) == "same person or twins"
    assert kinds.pop(frozenset(("brother", "sister"))) == "siblings"
    assert kinds == dict.fromkeys(parents, "parent and child") | dict.fromkeys(second, "second degree")


def test_kinship_is_not_moved_by_mixed_populations() -> None:
    model = GenotypeModel(frequencies=(0.1, 0.5), populations=2, fst=0.2)
    cohort = simulate_cohort(40, 4000, seed=5, model=model)
    assert relatedness(InMemoryGenotypes(cohort.samples, cohort.variants, cohort.genotypes)).pairs.is_empty()


def test_unrelated_people_are_left_and_few_go() -> None:
    pairs = [("a", "b"), ("a", "c"), ("a", "d"), ("e", "f")]
    left = unrelated("abcdefg", pairs)
    assert len(left) == 5
    assert {"b", "c", "d", "g"} < set(left)
    assert not any({one, other} <= set(left) for one, other in pairs)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(seed=st.integers(0, 1000), gaps=st.sampled_from([0.0, 0.01, 0.3]))
def test_counts_are_those_of_a_loop(seed: int, gaps: float) -> None:
    draws = np.random.default_rng(seed)
    one, other = (draws.integers(0, 3, (120, people)).astype(np.int8) for people in (4, 3))
    for values in (one, other):
        values[draws.random(values.shape) < gaps] = MISSING
    counts = PairCounts(4, 3)
    counts.add(one[:50], other[:50])
    counts.add(one[50:], other[50:])
    for i in range(4):
        for j in range(3):
            both = (one[:, i] != MISSING) & (other[:, j] != MISSING)
            a, b = one[both, i], other[both, j]
            assert counts.called[i, j] == both.sum()
            assert counts.opposite[i, j] == (np.abs(a - b) == 2).sum()
            assert counts.equal[i, j] == (a == b).sum()
            assert counts.both_het[i, j] == ((a == 1) & (b == 1)).sum()
            het = min((a == 1).sum(), (b == 1).sum())
            assert counts.kinship[i, j] == pytest.approx(0.5 - ((a - b) ** 2).sum() / (4 * het))
