"""The commands `genome associate` and `genome burden` on a small simulated cohort."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

import careloop.cli.genome_association  # noqa: F401  (registers the commands)
from careloop.cli import cli
from careloop.genome.genotypes.write_bed import write_bed

PEOPLE = 300


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """g.bed, traits.txt (QT follows v0; BT), covariates.csv, genes.csv."""
    random = np.random.default_rng(1)
    genotypes = random.binomial(2, np.append([0.4], np.full(19, 0.01))[:, None], (20, PEOPLE)).astype(np.int8)
    samples = pl.DataFrame({"sample_id": [f"p{at}" for at in range(PEOPLE)]}).with_columns(
        family_id=pl.lit("0"), father_id=pl.lit("0"), mother_id=pl.lit("0"), sex=pl.lit("female")
    )
    variants = pl.DataFrame({"contig": "2", "position": np.arange(1, 21)}).with_columns(
        variant_id=pl.format("v{}", pl.int_range(20)), ref=pl.lit("G"), alt=pl.lit("A")
    )
    folder = tmp_path_factory.mktemp("cohort")
    write_bed(folder / "g", samples, variants, [genotypes])
    trait = genotypes[0] + random.normal(size=PEOPLE)
    case = random.random(PEOPLE) < 0.4
    rows = [f"p{at}\t{trait[at]:.5f}\t{int(case[at])}" for at in range(PEOPLE)]
    (folder / "traits.txt").write_text("\n".join(["IID\tQT\tBT", *rows]) + "\n")
    rows = [f"p{at},{random.normal():.5f}" for at in range(PEOPLE)]
    (folder / "covariates.csv").write_text("\n".join(["sample_id,PC1", *rows]) + "\n")
    rows = [f"G{at % 2},v{at}" for at in range(1, 20)]
    (folder / "genes.csv").write_text("\n".join(["gene,variant", *rows]) + "\n")
    return folder


def run(*arguments: object) -> str:
    result = CliRunner().invoke(cli, ["genome", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_associate_says_what_it_did_and_writes_table_and_page(cohort: Path, tmp_path: Path) -> None:
    traits = ("--phenotypes", cohort / "traits.txt", "--covariates", cohort / "covariates.csv")
    paths = ("--out", tmp_path / "qt.tsv.gz", "--page", tmp_path / "page.html")
    text = run("associate", cohort / "g.bed", *traits, "--trait", "QT", *paths)
    assert "QT is quantitative" in text
    assert "lambda GC" in text
    assert "not for clinical use" in text
    assert "2:1 " in text
    assert pl.read_csv(tmp_path / "qt.tsv.gz", separator="\t").height == 20
    assert "v0" in (tmp_path / "page.html").read_text()


def test_associate_answers_in_json_and_takes_filters(cohort: Path, tmp_path: Path) -> None:
    arguments = ("associate", cohort / "g", "--phenotypes", cohort / "traits.txt", "--trait", "BT")
    filters = ("--min-frequency", "0.2", "--region", "2:1-10")
    found = json.loads(run(*arguments, *filters, "--out", tmp_path / "bt.tsv", "--json"))
    assert (found["kind"], found["people"], found["tested"]) == ("binary", PEOPLE, 1)
    assert found["not_for_clinical_use"]


def test_burden_tests_genes_and_writes_each_persons_burden(cohort: Path, tmp_path: Path) -> None:
    arguments = (
        "burden",
        cohort / "g",
        "--phenotypes",
        cohort / "traits.txt",
        "--trait",
        "QT",
        "--max-frequency",
        "0.05",
    )
    paths = ("--genes", cohort / "genes.csv", "--out", tmp_path / "genes.tsv", "--scores", tmp_path / "scores.tsv")
    text = run(*arguments, *paths)
    assert "2 genes tested" in text
    assert pl.read_csv(tmp_path / "genes.tsv", separator="\t")["gene"].to_list() == ["G1", "G0"]
    assert pl.read_csv(tmp_path / "scores.tsv", separator="\t").columns == ["sample_id", "G1", "G0"]
