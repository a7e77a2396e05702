"""Pruned variants beside plink2's --indep-pairwise, with gaps, on X, Y and MT; and what pruning promises."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.genome.genotypes.in_memory import InMemoryGenotypes
from careloop.genome.genotypes.open_genotypes import open_genotypes
from careloop.genome.genotypes.write_bed import write_bed
from careloop.genome.population.prune import PruneOptions, founders, prune
from careloop.genome.simulate.cohort import GenotypeModel, simulate_cohort

LINKED = GenotypeModel(frequencies=(0.0, 0.5), correlation=0.9, missing=0.05, contigs=("1", "2", "X", "Y", "MT"))


@pytest.fixture(scope="module")
def source() -> InMemoryGenotypes:
    cohort = simulate_cohort(151, 1500, seed=3, model=LINKED)
    haploid = cohort.variants["contig"].is_in(["Y", "MT"]).to_numpy()
    genotypes = np.where(haploid[:, None] & (cohort.genotypes == 1), 2, cohort.genotypes).astype(np.int8)
    return InMemoryGenotypes(cohort.samples, cohort.variants, genotypes)


def plink2(*arguments: object) -> None:
    subprocess.run(["plink2", *map(str, arguments)], check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("plink2") is None, reason="needs plink2")
@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (PruneOptions(0.2, 50, 5), ["50", "5"]),
        (PruneOptions(0.5, 40, 1), ["40", "1"]),
        (PruneOptions(0.1, 300, 1, "kb"), ["300kb"]),
        (PruneOptions(0.05, 2000, 1), ["2000", "1"]),
    ],
)
def test_plink2_keeps_the_same_variants(
    source: InMemoryGenotypes, options: PruneOptions, asked: list[str], tmp_path: Path
) -> None:
    """Founders are made a file of their own: alpha 3.5 errs on X and Y where a file has others as well."""
    everything = source.genotypes(slice(None))
    parents = source.samples.with_columns(
        pl.when(pl.int_range(pl.len()) < 9).then(pl.lit("P000140")).otherwise("father_id").alias("father_id")
    )
    bed = write_bed(tmp_path / "c", parents, source.variants, [everything])
    plink2("--bfile", tmp_path / "c", "--keep-founders", "--make-bed", "--out", tmp_path / "f")
    plink2("--bfile", tmp_path / "f", "--indep-pairwise", *asked, options.r2, "--out", tmp_path / "c")
    opened = open_genotypes(bed)
    kept = opened.variants["variant_id"].gather(prune(opened, options)).to_list()
    assert founders(opened).size == 142
    assert kept == (tmp_path / "c.prune.in").read_text().split()


def test_what_is_kept_is_not_correlated_and_what_is_not_was(source: InMemoryGenotypes) -> None:
    rows = np.arange(300)
    kept = prune(source, PruneOptions(0.3, 1000, 1), variants=rows)
    copies = source.genotypes(rows).astype(float)
    copies[copies < 0] = np.nan
    r2 = np.ma.corrcoef(np.ma.masked_invalid(copies)).filled(np.nan) ** 2
    among = r2[np.ix_(kept, kept)] - np.eye(kept.size)
    assert np.nanmax(among) <= 0.31  # a masked correlation centres by each variant's whole mean
    dropped = np.setdiff1d(rows, kept)
    varying = dropped[np.nanstd(copies[dropped], axis=1) > 0]
    assert np.nanmin(np.nanmax(r2[np.ix_(varying, np.setdiff1d(rows, []))] - np.eye(300)[varying], axis=1)) > 0.2


def test_pruning_again_changes_nothing(source: InMemoryGenotypes) -> None:
    options = PruneOptions(0.2, 400, 1, "kb")
    once = prune(source, options)
    assert prune(source, options, variants=once).tolist() == once.tolist()


def test_variants_that_are_not_sorted_are_refused(source: InMemoryGenotypes) -> None:
    order = np.random.default_rng(0).permutation(300)
    mixed = InMemoryGenotypes(source.samples, source.variants[order], source.genotypes(slice(None))[order])
    with pytest.raises(InputError, match="sorted by position"):
        prune(mixed)


@pytest.mark.parametrize("options", [{"r2": 1}, {"window": 1}, {"step": 0}, {"unit": "cm"}])
def test_options_are_checked(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match="pruning needs"):
        PruneOptions(**options)  # type: ignore[arg-type]
