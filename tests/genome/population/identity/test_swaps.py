"""Swapped samples found between two files and by known genotypes; variants matched whatever their strand and order."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.genome.genotypes.in_memory import InMemoryGenotypes
from careloop.genome.genotypes.source import MISSING
from careloop.genome.population.identity.swaps import match_known, match_samples
from careloop.genome.population.shared_variants import shared_variants
from careloop.genome.simulate.cohort import GenotypeModel, SimulatedCohort, simulate_cohort

STRAND = {"A": "T", "C": "G", "G": "C", "T": "A"}


@pytest.fixture(scope="module")
def cohort() -> SimulatedCohort:
    return simulate_cohort(30, 800, seed=7, model=GenotypeModel((0.1, 0.5), missing=0.02, contigs=("1", "2")))


def source_of(cohort: SimulatedCohort) -> InMemoryGenotypes:
    return InMemoryGenotypes(cohort.samples, cohort.variants, cohort.genotypes)


def other_lab(cohort: SimulatedCohort, people: list[int], names: list[str]) -> InMemoryGenotypes:
    """The same people with another's names, chr-names, every third variant swapped, every fifth on the other strand."""
    rows = np.arange(0, 800, 2)
    table, genotypes = cohort.variants[rows], cohort.genotypes[np.ix_(rows, people)].copy()
    third = np.arange(rows.size) % 3 == 0
    genotypes[third] = np.where(genotypes[third] == MISSING, MISSING, 2 - genotypes[third])
    draws = np.random.default_rng(0)
    genotypes[draws.random(genotypes.shape) < 0.02] = 1
    ref, alt = table["ref"].to_list(), table["alt"].to_list()
    for number in range(rows.size):
        if number % 3 == 0:
            ref[number], alt[number] = alt[number], ref[number]
        if number % 5 == 0:
            ref[number], alt[number] = STRAND[ref[number]], STRAND[alt[number]]
    table = table.with_columns(("chr" + pl.col("contig")).alias("contig"), pl.Series("ref", ref), pl.Series("alt", alt))
    nobody = pl.lit(None, pl.String())
    samples = pl.DataFrame({"sample_id": names}).with_columns(
        *(nobody.alias(name) for name in ("family_id", "father_id", "mother_id", "sex"))
    )
    return InMemoryGenotypes(samples, table, genotypes)


def test_planted_swaps_are_found(cohort: SimulatedCohort) -> None:
    names = [f"P{number:06d}" for number in range(1, 11)]
    second = other_lab(cohort, [0, 1, 3, 2, 4, 29, 6, 7, 8, 9], [*names[:6], "unheard", *names[7:9], "elsewhere"])
    genotypes = second.genotypes(slice(None))
    genotypes[:, [4, 9]] = np.random.default_rng(1).permuted(genotypes[:, [4, 9]], axis=0)  # nobody of the first file
    found = match_samples(source_of(cohort), InMemoryGenotypes(second.samples, second.variants, genotypes))
    verdicts = dict(found.table.select("sample_id", "verdict").rows())
    assert verdicts == {
        **dict.fromkeys([*names[:2], *names[7:9]], "same"),
        **dict.fromkeys([names[2], names[3], names[5]], "swapped"),
        names[4]: "other person",
        "unheard": "renamed",
        "elsewhere": "new",
    }
    matches = dict(found.table.select("sample_id", "best_match").rows())
    assert (matches[names[2]], matches[names[3]], matches[names[5]]) == (names[3], names[2], "P000030")
    assert matches[names[4]] is None
    assert found.table.filter(verdict="same")["concordance"].min() > 0.95


def test_too_few_variants_in_common_are_refused(cohort: SimulatedCohort) -> None:
    elsewhere = cohort.variants.with_columns(pl.col("position") + 7, pl.lit("x").alias("variant_id"))
    with pytest.raises(InputError, match="must have 50 variants in common"):
        match_samples(source_of(cohort), InMemoryGenotypes(cohort.samples, elsewhere, cohort.genotypes))


def test_known_genotypes_find_their_people(cohort: SimulatedCohort) -> None:
    rows = np.arange(0, 800, 20)  # forty variants
    people = [0, 2, 1, 5]
    draws = np.random.default_rng(2)
    known = pl.DataFrame(
        [
            (name, cohort.variants["variant_id"][int(row)], float(cohort.genotypes[row, person]))
            for name, person in zip(["P000001", "P000002", "P000003", "stranger"], people, strict=True)
            for row in rows
            if cohort.genotypes[row, person] != MISSING
        ]
        + [("P000009", cohort.variants["variant_id"][int(row)], float(draws.integers(0, 3))) for row in rows]
        + [("P000004", "rs1", 1.0)],
        schema=["sample_id", "variant_id", "copies"],
        orient="row",
    )
    found = match_known(source_of(cohort), known).table
    assert dict(found.select("sample_id", "verdict").rows()) == {
        "P000001": "same",
        "P000002": "swapped",
        "P000003": "swapped",
        "stranger": "renamed",
        "P000009": "other person",
        "P000004": "not clear",
    }
    assert found["best_match"].to_list() == ["P000001", "P000003", "P000002", "P000006", None, None]


def test_likelihood_ratio_is_the_closed_form(cohort: SimulatedCohort) -> None:
    genotypes = np.array([[0, 1, 2, 1]], np.int8)
    source = InMemoryGenotypes(cohort.samples[:4], cohort.variants[:1], genotypes)
    known = pl.DataFrame({"sample_id": ["P000001"], "variant_id": ["rs1"], "copies": [1.0]})
    found = match_known(source, known, error_rate=0.01)
    equal = np.log(0.99 / 0.5 + 0.01)  # the frequency is one half: (4 + 1) / (8 + 2)
    assert found.similarity[:, 0] == pytest.approx([np.log(0.01), equal, np.log(0.01), equal])


def test_known_genotypes_of_other_variants_are_refused(cohort: SimulatedCohort) -> None:
    known = pl.DataFrame({"sample_id": ["P000001"], "variant_id": ["rs0"], "copies": [1.0]})
    with pytest.raises(InputError, match="none is there"):
        match_known(source_of(cohort), known)


def variants(*rows: tuple[str, int, str, str, str]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=["contig", "position", "variant_id", "ref", "alt"], orient="row")


def test_shared_variants_say_what_is_swapped_and_what_is_left_out() -> None:
    first = variants(
        ("1", 10, "a", "A", "C"),
        ("1", 20, "b", "A", "G"),
        ("1", 30, "c", "A", "T"),
        ("1", 40, "d", "C", "T"),
        ("1", 50, "e", "A", "G"),
        ("1", 60, "f", "AT", "A"),
        ("1", 70, "g", "G", "T"),
    )
    second = variants(
        ("chr1", 10, "a", "A", "C"),
        ("chr1", 20, "b", "C", "T"),  # the other strand, swapped: T is A, C is G
        ("chr1", 30, "c", "A", "T"),
        ("chr1", 40, "d", "C", "G"),
        ("chr1", 50, "e", "A", "G"),
        ("chr1", 50, "e", "C", "T"),
        ("chr1", 60, "f", "A", "AT"),
    )
    found = shared_variants(first, second, builds=(None, None))
    assert found.first.tolist() == [0, 1, 5]
    assert found.second.tolist() == [0, 1, 6]
    assert found.swapped.tolist() == [False, True, True]
    assert found.left_out == {
        "not in both, or other alleles": 2,
        "strand cannot be told (A/T or C/G)": 1,
        "matches several": 1,
    }


def test_ids_match_where_positions_do_not() -> None:
    first = variants(("1", 10, "a", "A", "C"), ("1", 20, "b", "A", "G"))
    moved = first.with_columns(pl.col("position") + 100)
    assert shared_variants(first, moved, builds=("GRCh37", None)).by == "variant_id"
    assert shared_variants(first, moved, builds=("GRCh37", "GRCh37")).first.size == 0
    with pytest.raises(InputError, match="on one assembly"):
        shared_variants(first, moved, builds=("GRCh37", "GRCh38"))
