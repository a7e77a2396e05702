"""A file's people checked at once: what is planted is found, and nothing else."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.genome.genotypes.in_memory import InMemoryGenotypes
from careloop.genome.genotypes.source import MISSING
from careloop.genome.population.identity.check import CheckOptions, check_samples
from careloop.genome.simulate.cohort import GenotypeModel, simulate_cohort

MODEL = GenotypeModel(frequencies=(0.1, 0.5), contigs=("1", "2", "X"))


@pytest.fixture(scope="module")
def source() -> InMemoryGenotypes:
    """Forty people; P000040 is a child of the first two, P000039 the 38th again, P000004 gappy, P000005 mixed."""
    cohort = simulate_cohort(40, 3000, seed=11, model=MODEL)
    draws = np.random.default_rng(0)
    genotypes = cohort.genotypes.copy()
    half = [(draws.random(3000) < genotypes[:, parent] / 2).astype(np.int8) for parent in (0, 1)]
    genotypes[:2000, 39] = (half[0] + half[1])[:2000]
    genotypes[:, 38] = genotypes[:, 37]
    genotypes[draws.random(3000) < 0.2, 3] = MISSING
    genotypes[:2000, 4] = np.where(draws.random(2000) < 0.3, 1, genotypes[:2000, 4])
    sex = cohort.samples["sex"].to_list()
    sex[38] = sex[37]
    sex[9] = "male" if sex[9] == "female" else "female"
    father, mother = [None] * 40, [None] * 40
    father[39], mother[39], mother[20] = "P000001", "P000002", "P000007"
    father[21] = "nobody here"
    samples = cohort.samples.with_columns(
        pl.Series("sex", sex), pl.Series("father_id", father), pl.Series("mother_id", mother)
    )
    return InMemoryGenotypes(samples, cohort.variants.with_columns(pl.col("position") + 5_000_000), genotypes)


def test_what_is_planted_is_found_and_nothing_else(source: InMemoryGenotypes) -> None:
    found = check_samples(source)
    problems = dict(found.problems.select("sample_id", "problems").rows())
    assert sorted(problems) == ["P000004", "P000005", "P000010", "P000021", "P000038", "P000039"]
    assert problems["P000004"].endswith("% of genotypes are missing")
    assert "more heterozygous" in problems["P000005"]
    assert problems["P000010"].startswith("stated ")
    assert problems["P000021"] == "P000007 is stated as mother, but is not a parent"
    assert problems["P000038"] == "the same genotypes as P000039: the same person, or twins"
    assert sorted(found.parents.select("sample_id", "stated", "verdict").rows()) == [
        ("P000021", "P000007", "refuted"),
        ("P000040", "P000001", "confirmed"),
        ("P000040", "P000002", "confirmed"),
    ]
    assert found.relatives is not None
    pairs = found.relatives.pairs.filter(~pl.any_horizontal(pl.col("sample_id_1", "sample_id_2") == "P000005"))
    assert pairs["relation"].to_list() == ["same person or twins", "parent and child", "parent and child"]
    assert found.notes == ("pairs of a kinship below 0.070 are not listed: with few variants, chance brings such",)


def test_what_could_not_be_looked_at_is_said(source: InMemoryGenotypes) -> None:
    few = InMemoryGenotypes(source.samples, source.variants[:60], source.genotypes(slice(0, 60)))
    found = check_samples(few)
    assert found.relatives is None
    assert found.parents.is_empty()
    assert len(found.notes) == 2
    assert not found.people["problems"].str.contains("sex").any()


def test_one_person_can_be_checked(source: InMemoryGenotypes) -> None:
    alone = InMemoryGenotypes(source.samples[:1], source.variants, source.genotypes(slice(None), np.array([0])))
    found = check_samples(alone)
    assert found.people.height == 1
    assert found.people["inbreeding"][0] is None or abs(found.people["inbreeding"][0]) < 1


@pytest.mark.parametrize("options", [{"max_missing": 2}, {"min_kinship": 0}, {"most_variants": 5}])
def test_options_are_checked(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="a check needs"):
        CheckOptions(**options)  # type: ignore[arg-type]
