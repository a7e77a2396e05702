"""Clumps, against PLINK 1.9's and by hand."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.genome.genotypes.in_memory import InMemoryGenotypes
from careloop.genome.genotypes.write_bed import write_bed
from careloop.genome.risk.weights.clump import ClumpOptions, clump
from careloop.genome.simulate.cohort import GenotypeModel, SimulatedCohort, simulate_cohort


@pytest.fixture(scope="module")
def linked() -> SimulatedCohort:
    model = GenotypeModel(correlation=0.95, missing=0.02, contigs=("1", "2", "5"))
    return simulate_cohort(150, 600, seed=21, model=model)


@pytest.mark.skipif(shutil.which("plink1.9") is None, reason="plink1.9 is not installed")
@pytest.mark.parametrize(("p1", "p2", "r2", "kb"), [(0.001, 0.05, 0.5, 250), (0.1, 0.3, 0.1, 20), (1, 1, 0.2, 50)])
def test_as_plink_1_9(linked: SimulatedCohort, tmp_path: Path, p1: float, p2: float, r2: float, kb: float) -> None:
    p_values = np.random.default_rng(6).uniform(size=600) ** 3
    bed = write_bed(tmp_path / "cohort", linked.samples, linked.variants, [linked.genotypes])
    ids = linked.variants["variant_id"].to_list()
    pl.DataFrame({"SNP": ids, "P": p_values}).write_csv(tmp_path / "p.assoc", separator="\t")
    options = [f"--clump-p1={p1}", f"--clump-p2={p2}", f"--clump-r2={r2}", f"--clump-kb={kb}"]
    options = [part for option in options for part in option.split("=")]
    command = ["plink1.9", "--bfile", str(bed.with_suffix("")), "--clump", str(tmp_path / "p.assoc"), *options]
    subprocess.run([*command, "--out", str(tmp_path / "theirs")], check=True, capture_output=True)
    lines = [line.split() for line in (tmp_path / "theirs.clumped").read_text().splitlines() if line.strip()][1:]
    theirs = {
        words[2]: set() if words[-1] == "NONE" else {one.split("(")[0] for one in words[-1].split(",")}
        for words in lines
    }
    source = InMemoryGenotypes(linked.samples, linked.variants, linked.genotypes)
    found = clump(p_values, source, rows=np.arange(600), options=ClumpOptions(p1, p2, r2, kb))
    ours = {
        ids[index]: {ids[one] for one in members} for index, members in zip(found.index, found.members, strict=True)
    }
    assert ours == theirs
    assert found.size > 5


def test_every_variant_is_in_one_clump_and_its_index_is_the_best(linked: SimulatedCohort) -> None:
    p_values = np.random.default_rng(7).uniform(size=600)
    source = InMemoryGenotypes(linked.samples, linked.variants, linked.genotypes)
    options = ClumpOptions(1, 1, 0.2, 100, "genotype")
    found = clump(p_values, source, rows=np.arange(600), options=options)
    everyone = np.concatenate([found.index, *found.members])
    assert np.array_equal(np.sort(everyone), np.arange(600))
    assert all(
        (p_values[members] >= p_values[index]).all() for index, members in zip(found.index, found.members, strict=True)
    )
    assert (np.diff(p_values[found.index]) >= 0).all()
    table = found.table(linked.variants, p_values)
    assert table["n_members"].sum() == 600 - found.size


def test_wrong_requests_are_refused(linked: SimulatedCohort) -> None:
    with pytest.raises(InputError, match="P values and r2 from 0 to 1"):
        ClumpOptions(r2=2)
    with pytest.raises(InputError, match="haplotype, genotype"):
        ClumpOptions(measure="phase")  # type: ignore[arg-type]
    source = InMemoryGenotypes(linked.samples, linked.variants, linked.genotypes)
    with pytest.raises(InputError, match="a P value a variant"):
        clump(np.ones(3), source, rows=np.arange(4))
