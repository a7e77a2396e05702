"""The commands `careloop genome linkage`, `clump` and `weights`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from careloop.cli.genome_weights import clump, linkage, weights
from careloop.genome.association.associate import associate
from careloop.genome.association.phenotypes import Phenotypes
from careloop.genome.genotypes.open_genotypes import open_genotypes
from careloop.genome.genotypes.write_bed import write_bed
from careloop.genome.risk.scores.pgs_file import read_pgs
from careloop.genome.simulate.cohort import GenotypeModel, TraitModel, simulate_cohort


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated cohort of 800 people and 300 variants, its statistics and its trait."""
    path = tmp_path_factory.mktemp("weights")
    model = GenotypeModel(frequencies=(0.1, 0.5), correlation=0.7, contigs=("1", "2"))
    made = simulate_cohort(800, 300, seed=5, model=model, trait=TraitModel(causal=20, covariates=0))
    bed = write_bed(path / "cohort", made.samples, made.variants, [made.genotypes])
    trait = made.phenotypes["trait"].to_numpy()
    people = np.arange(600)
    associate(open_genotypes(bed), Phenotypes(people, trait[people], "quantitative"), out=path / "statistics.tsv")
    tuning = made.phenotypes[600:].select(IID="sample_id", trait="trait")
    tuning.write_csv(path / "tuning.txt", separator="\t")
    return path


def run(command: Any, *arguments: object) -> dict[str, Any]:
    ran = CliRunner().invoke(command, [*map(str, arguments), "--json"])
    assert ran.exit_code == 0, ran.output
    shown: dict[str, Any] = json.loads(ran.stdout)
    return shown


def test_clumps_are_written(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "clumps.tsv"
    shown = run(clump, folder / "statistics.tsv", "--reference", folder / "cohort", "--p1", 0.01, "--out", out)
    table = pl.read_csv(out, separator="\t")
    assert table.height == len(shown["clumps"]) > 0
    assert table["p_value"].max() <= 0.01
    text = CliRunner().invoke(clump, [str(folder / "statistics.tsv"), "--reference", str(folder / "cohort")])
    assert " clumps" in text.stdout


def test_weights_of_a_reference_and_of_its_stored_linkage_are_the_same(folder: Path, tmp_path: Path) -> None:
    quick = ("--sweeps", 60, "--chains", 4)
    stored = run(linkage, folder / "cohort", "--out", tmp_path / "panel.npz")
    assert stored["variants"] == 300
    first, second = tmp_path / "first.txt", tmp_path / "second.txt.gz"
    statistics = folder / "statistics.tsv"
    shown = run(weights, statistics, "--reference", folder / "cohort", "--out", first, *quick)
    run(weights, statistics, "--reference", tmp_path / "panel.npz", "--out", second, *quick)
    assert shown["variants"] == 300
    assert shown["not_for_clinical_use"]
    assert 0.1 < shown["h2"] < 1
    one, other = (read_pgs(path).variants for path in (first, second))
    assert np.corrcoef(one["weight_1"], other["weight_1"])[0, 1] > 0.99
    assert read_pgs(first).name == "first"


def test_thresholds_need_tuning_people(folder: Path, tmp_path: Path) -> None:
    arguments = [
        str(folder / "statistics.tsv"),
        "--reference",
        str(folder / "cohort"),
        "--out",
        str(tmp_path / "w.txt"),
    ]
    refused = CliRunner().invoke(weights, [*arguments, "--method", "threshold"])
    assert refused.exit_code == 2
    assert "--tuning" in refused.output
    tuning = ("--tuning", folder / "cohort", "--tuning-phenotypes", folder / "tuning.txt")
    shown = run(weights, *arguments, "--method", "threshold", *tuning)
    assert shown["variants"] == read_pgs(tmp_path / "w.txt").variants.height
    assert len(shown["tried"]) > 10
    text = CliRunner().invoke(weights, [*arguments, "--method", "infinitesimal"])
    assert text.exit_code == 0, text.output
    assert "LD score regression" in text.stdout
    assert "not for clinical use" in text.stdout
