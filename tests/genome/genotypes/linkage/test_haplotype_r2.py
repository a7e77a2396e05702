"""r2 of the most likely haplotypes, against the likelihood searched through and PLINK 1.9."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from careloop.genome.genotypes.linkage.haplotypes import haplotype_r2, joint_counts, r2_of_counts
from careloop.genome.genotypes.source import MISSING
from careloop.genome.genotypes.write_bed import write_bed
from careloop.genome.simulate.cohort import GenotypeModel, simulate_cohort


def searched(counts: np.ndarray) -> float:
    """The same by trying a hundred thousand frequencies of the haplotype alt-alt."""
    people = counts.sum()
    first = (counts[1].sum() + 2 * counts[2].sum()) / (2 * people)
    second = (counts[:, 1].sum() + 2 * counts[:, 2].sum()) / (2 * people)
    low, high = max(0.0, first + second - 1), min(first, second)
    x = np.linspace(low, high, 100_001)[1:-1]
    f = np.array([[1 - first - second + x, second - x], [first - x, x]])  # by alt at the first, at the second
    total = np.zeros_like(x)
    for one in range(3):
        for other in range(3):
            pairs = [
                f[a, b] * f[one - a, other - b]
                for a in range(2)
                for b in range(2)
                if 0 <= one - a <= 1 and 0 <= other - b <= 1
            ]
            total += counts[one, other] * np.log(np.sum(pairs, axis=0))
    best = x[total.argmax()]
    return float((best - first * second) ** 2 / (first * (1 - first) * second * (1 - second)))


def test_the_likelihood_has_no_higher_place() -> None:
    draws = np.random.default_rng(4)
    counts = draws.integers(1, 60, (40, 3, 3)).astype(float)
    assert np.allclose(r2_of_counts(counts), [searched(one) for one in counts], atol=1e-4)


def test_missing_genotypes_and_variants_that_do_not_vary() -> None:
    index = np.array([0, 1, 2, MISSING, 1], np.int8)
    others = np.array([[0, 1, 2, 2, MISSING], [1, 1, 1, 1, 1]], np.int8)
    assert joint_counts(index, others).sum(axis=(1, 2)).tolist() == [3, 4]
    assert haplotype_r2(index, others)[0] == pytest.approx(1)
    heterozygous = np.ones((1, 5), np.int8)
    assert np.isfinite(haplotype_r2(index, heterozygous)).all()


@pytest.mark.skipif(shutil.which("plink1.9") is None, reason="plink1.9 is not installed")
def test_as_plink_1_9(tmp_path: Path) -> None:
    made = simulate_cohort(200, 30, seed=5, model=GenotypeModel(correlation=0.95, missing=0.03))
    bed = write_bed(tmp_path / "cohort", made.samples, made.variants, [made.genotypes])
    options = ["--r2", "dprime", "--ld-window-r2", "0", "--ld-window", "99", "--ld-window-kb", "9999"]
    command = ["plink1.9", "--bfile", str(bed.with_suffix("")), *options, "--out", str(tmp_path / "r2")]
    subprocess.run(command, check=True, capture_output=True)
    places = {name: number for number, name in enumerate(made.variants["variant_id"].to_list())}
    lines = [line.split() for line in (tmp_path / "r2.ld").read_text().splitlines()[1:]]
    assert len(lines) > 100
    for _, _, one, _, _, other, r2, _ in lines:
        ours = haplotype_r2(made.genotypes[places[one]], made.genotypes[[places[other]]])
        assert ours[0] == pytest.approx(float(r2), abs=1e-5)
