"""Scores against plink2 --score, and what must hold of sums whatever the genotypes are."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.genome.genotypes.in_memory import InMemoryGenotypes
from careloop.genome.genotypes.open_genotypes import open_genotypes
from careloop.genome.genotypes.write_bed import write_bed
from careloop.genome.risk.scores.score import ScoreOptions, score
from careloop.genome.risk.scores.write_pgs import write_pgs
from careloop.genome.simulate.cohort import GenotypeModel, SimulatedCohort, simulate_cohort

PLINK2 = shutil.which("plink2")
needs_plink2 = pytest.mark.skipif(PLINK2 is None, reason="plink2 is not installed")
CONTIGS = ("1", "2", "X", "Y", "MT")


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> tuple[SimulatedCohort, Path]:
    """People, some with parents, with missing genotypes on all kinds of chromosomes, and two score files."""
    made = simulate_cohort(203, 200, seed=4, model=GenotypeModel(missing=0.04, contigs=CONTIGS))
    number = pl.int_range(pl.len())
    samples = made.samples.with_columns(
        father_id=pl.when(number % 5 == 0).then(pl.lit("dad")), mother_id=pl.when(number % 10 == 0).then(pl.lit("mum"))
    )
    folder = tmp_path_factory.mktemp("cohort")
    write_bed(folder / "people", samples, made.variants, [made.genotypes])
    draws = np.random.default_rng(3)
    for name, share in (("ALT", 1.0), ("MIXED", 0.5)):
        chosen = np.sort(draws.choice(200, int(200 * share), replace=False))
        as_alt = draws.random(len(chosen)) < (1.0 if name == "ALT" else 0.5)
        rows = made.variants[chosen]
        table = rows.select(
            "variant_id",
            pl.col("contig").alias("chromosome"),
            "position",
            pl.when(pl.Series(as_alt)).then("alt").otherwise("ref").alias("effect_allele"),
            pl.when(pl.Series(as_alt)).then("ref").otherwise("alt").alias("other_allele"),
            pl.Series("weight", draws.normal(size=len(chosen))),
        )
        write_pgs(table, folder / f"{name}.txt", name=name)
    return replace(made, samples=samples), folder


def plink2_score(folder: Path, name: str, *words: str) -> pl.DataFrame:
    """plink2's .sscore table of a score file, by its columns rsID, effect_allele, effect_weight."""
    lines = (folder / f"{name}.txt").read_text().splitlines()
    (folder / "plain.txt").write_text("\n".join(line for line in lines if not line.startswith("#")) + "\n")
    asked = ["--bfile", "people", "--score", "plain.txt", "1", "4", "6", "header", "cols=+denom,+scoresums"]
    ran = subprocess.run([str(PLINK2), *asked, *words, "--out", "theirs"], cwd=folder, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return pl.read_csv(folder / "theirs.sscore", separator="\t", infer_schema_length=None)


@needs_plink2
@pytest.mark.parametrize("name", ["ALT", "MIXED"])
@pytest.mark.parametrize("missing", ["mean", "none"])
def test_sums_and_averages_are_plink2s(cohort: tuple[SimulatedCohort, Path], name: str, missing: str) -> None:
    _, folder = cohort
    theirs = plink2_score(folder, name, *(["no-mean-imputation"] if missing == "none" else []))
    source = open_genotypes(folder / "people")
    for unit, column in (("sum", "SCORE1_SUM"), ("average", "SCORE1_AVG")):
        ours = score(source, [folder / f"{name}.txt"], options=ScoreOptions(missing=missing, unit=unit)).table  # type: ignore[arg-type]
        expected = theirs[column].to_numpy()
        np.testing.assert_allclose(ours[name].to_numpy(), expected, rtol=2e-5, atol=2e-5)
    assert theirs["IID"].to_list() == ours["sample_id"].to_list()
    females = (source.samples["sex"] == "female").to_numpy()
    called = ours[f"n_variants_{name}"].to_numpy()
    assert (called[females] < called[~females].max()).all()  # they have no Y


@needs_plink2
def test_frequencies_of_a_file_fill_in_as_plink2_read_freq(cohort: tuple[SimulatedCohort, Path]) -> None:
    made, folder = cohort
    known = np.random.default_rng(1).uniform(0.1, 0.9, made.variants.height)
    afreq = made.variants.select(
        pl.col("contig").alias("#CHROM"),
        pl.col("variant_id").alias("ID"),
        pl.col("ref").alias("REF"),
        pl.col("alt").alias("ALT"),
        pl.Series("ALT_FREQS", known),
        pl.lit(1000).alias("OBS_CT"),
    )
    afreq.write_csv(folder / "known.afreq", separator="\t")
    theirs = plink2_score(folder, "MIXED", "--read-freq", "known.afreq")
    options = ScoreOptions(frequencies=folder / "known.afreq")
    ours = score(open_genotypes(folder / "people"), [folder / "MIXED.txt"], options=options).table
    np.testing.assert_allclose(ours["MIXED"].to_numpy(), theirs["SCORE1_SUM"].to_numpy(), rtol=2e-5, atol=2e-5)


def test_many_scores_in_one_pass_are_each_alone(cohort: tuple[SimulatedCohort, Path]) -> None:
    _, folder = cohort
    source = open_genotypes(folder / "people")
    files = [folder / "ALT.txt", folder / "MIXED.txt"]
    both = score(source, files).table
    for file in files:
        alone = score(source, [file]).table
        np.testing.assert_allclose(both[file.stem].to_numpy(), alone[file.stem].to_numpy(), rtol=1e-5, atol=1e-5)
        assert both[f"n_variants_{file.stem}"].equals(alone[f"n_variants_{file.stem}"])


def test_dosages_and_genotypes_of_one_file_score_alike(cohort: tuple[SimulatedCohort, Path]) -> None:
    """The PLINK 1 path reads bytes itself; every other source gives dosages."""
    made, folder = cohort
    dosages = np.where(made.genotypes < 0, np.nan, made.genotypes).astype(np.float32)
    other = InMemoryGenotypes(made.samples, made.variants, dosages)
    for missing in ("mean", "none"):
        options = ScoreOptions(missing=missing)
        first = score(open_genotypes(folder / "people"), [folder / "MIXED.txt"], options=options).table
        second = score(other, [folder / "MIXED.txt"], options=options).table
        np.testing.assert_allclose(first["MIXED"].to_numpy(), second["MIXED"].to_numpy(), rtol=1e-5, atol=1e-5)
        assert first["n_variants_MIXED"].equals(second["n_variants_MIXED"])


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    weights=st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    seed=st.integers(0, 1000),
    missing=st.sampled_from(["mean", "none"]),
)
def test_weights_by_dosage_are_looked_up_and_missing_ones_expected(
    weights: list[float], seed: int, missing: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    draws = np.random.default_rng(seed)
    made = simulate_cohort(60, 3, seed=seed, model=GenotypeModel(frequencies=(0.2, 0.5)))
    genotypes = made.genotypes.copy()
    genotypes[draws.random(genotypes.shape) < 0.1] = -9
    one = made.variants.row(1, named=True)
    path = tmp_path_factory.mktemp("dosage") / "D.txt"
    names = "rsID\teffect_allele\tother_allele\tdosage_0_weight\tdosage_1_weight\tdosage_2_weight"
    path.write_text(f"{names}\n{one['variant_id']}\t{one['ref']}\t{one['alt']}\t" + "\t".join(map(str, weights)) + "\n")
    options = ScoreOptions(missing=missing)  # type: ignore[arg-type]
    ours = score(InMemoryGenotypes(made.samples, made.variants, genotypes), [path], options=options).table
    by_copies = np.array(weights)[::-1]  # by copies of alt, since the effect allele is ref
    known = genotypes[1] >= 0
    frequency = genotypes[1][known].mean() / 2
    hardy_weinberg = np.array([(1 - frequency) ** 2, 2 * frequency * (1 - frequency), frequency**2])
    expected = np.where(known, by_copies[np.maximum(genotypes[1], 0)], by_copies @ hardy_weinberg)
    expected = np.where(known | (missing == "mean"), expected, 0)
    np.testing.assert_allclose(ours["D"].to_numpy(), expected, atol=1e-5)
    assert ours["n_variants_D"].to_list() == known.astype(int).tolist()


def test_a_few_people_do_not_fill_in_each_others_missing_genotypes(tmp_path: Path) -> None:
    made = simulate_cohort(10, 5, seed=1)
    genotypes = made.genotypes.copy()
    path = tmp_path / "A.txt"
    path.write_text("".join(f"{name}\t{alt}\t1\n" for name, alt in made.variants.select("variant_id", "alt").rows()))
    whole = score(InMemoryGenotypes(made.samples, made.variants, genotypes), [path]).table
    assert whole["A"].to_list() == genotypes.sum(axis=0).tolist()
    genotypes[2, 3] = -9
    source = InMemoryGenotypes(made.samples, made.variants, genotypes)
    with pytest.raises(InputError, match="give --frequencies"):
        score(source, [path])
    left = score(source, [path], options=ScoreOptions(missing="none")).table
    assert left["A"].to_list() == np.maximum(genotypes, 0).sum(axis=0).tolist()


def test_overlap_is_stated_and_required_only_on_demand(tmp_path: Path) -> None:
    made = simulate_cohort(60, 4, seed=1)
    path = tmp_path / "A.txt"
    first = made.variants.row(0, named=True)
    path.write_text(f"{first['variant_id']}\t{first['alt']}\t3\nnowhere\tA\t-1\n")
    source = InMemoryGenotypes(made.samples, made.variants, made.genotypes)
    done = score(source, [path])
    assert (done.scored[0].overlap.variants, done.scored[0].overlap.weights) == (0.5, 0.75)
    assert done.table.columns == ["sample_id", "A", "n_variants_A"]
    strict = score(source, [path], options=ScoreOptions(min_overlap=0.75))
    assert strict.scored[0].left_out
    assert strict.table.columns == ["sample_id"]
    with pytest.raises(InputError, match="holds a score of the name A too"):
        score(source, [path, path])
