"""r of genotypes, against NumPy over the people who have both, and against PLINK 1.9's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.genome.genotypes.linkage.correlations import correlations
from careloop.genome.genotypes.source import MISSING
from careloop.genome.genotypes.write_bed import write_bed
from careloop.genome.simulate.cohort import GenotypeModel, simulate_cohort


def by_numpy(first: np.ndarray, second: np.ndarray) -> float:
    both = (first != MISSING) & (second != MISSING)
    one, other = first[both].astype(float), second[both].astype(float)
    if both.sum() < 2 or not np.ptp(one) or not np.ptp(other):
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.3]))
def test_as_numpy_over_people_with_both(seed: int, missing: float) -> None:
    draws = np.random.default_rng(seed)
    values = draws.integers(0, 3, (5, 12)).astype(np.int8)
    values[draws.random(values.shape) < missing] = MISSING
    expected = np.array([[by_numpy(one, other) for other in values] for one in values])
    np.fill_diagonal(expected, 1)
    assert np.allclose(correlations(values), expected, atol=1e-12)
    assert np.allclose(correlations(values[:2], values[2:]), expected[:2, 2:], atol=1e-12)


def test_dosages_with_nan_are_as_genotypes_with_missing() -> None:
    draws = np.random.default_rng(1)
    values = draws.integers(0, 3, (4, 30)).astype(np.int8)
    values[draws.random(values.shape) < 0.2] = MISSING
    dosages = np.where(values == MISSING, np.nan, values).astype(np.float32)
    assert np.allclose(correlations(dosages), correlations(values))


def test_a_variant_that_does_not_vary_has_no_correlation() -> None:
    values = np.array([[1, 1, 1, 1], [0, 1, 2, 0]], np.int8)
    assert correlations(values).tolist() == [[1, 0], [0, 1]]


def test_other_people_are_refused() -> None:
    with pytest.raises(InputError, match="same people"):
        correlations(np.zeros((2, 3), np.int8), np.zeros((2, 4), np.int8))


@pytest.mark.skipif(shutil.which("plink1.9") is None, reason="plink1.9 is not installed")
def test_as_plink_1_9(tmp_path: Path) -> None:
    made = simulate_cohort(150, 40, seed=3, model=GenotypeModel(correlation=0.9, missing=0.05))
    bed = write_bed(tmp_path / "cohort", made.samples, made.variants, [made.genotypes])
    options = ["--r2", "--ld-window-r2", "0", "--ld-window", "99", "--ld-window-kb", "9999"]
    command = ["plink1.9", "--bfile", str(bed.with_suffix("")), *options, "--out", str(tmp_path / "r2")]
    subprocess.run(command, check=True, capture_output=True)
    places = {name: number for number, name in enumerate(made.variants["variant_id"].to_list())}
    ours = correlations(made.genotypes) ** 2
    lines = [line.split() for line in (tmp_path / "r2.ld").read_text().splitlines()[1:]]
    assert len(lines) > 500
    for _, _, one, _, _, other, r2 in lines:
        assert ours[places[one], places[other]] == pytest.approx(float(r2), abs=1e-5)
