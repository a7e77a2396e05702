"""Genes' burdens are what one counts by hand, their tests those of the same regressions, the kernel test's P exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.genome.association.burden import BurdenOptions, burden, burdens_of_people
from careloop.genome.association.genes.gene_variants import read_gene_variants
from careloop.genome.association.genes.kernel_test import KernelTest, mixture_tail
from careloop.genome.association.phenotypes import Phenotypes
from careloop.genome.association.regression.design import make_design
from careloop.genome.genotypes.in_memory import InMemoryGenotypes
from careloop.genome.genotypes.source import MISSING

PEOPLE = 500


@pytest.fixture(scope="module")
def source() -> InMemoryGenotypes:
    """Twenty rare variants of two genes, the last written the other way round, one common variant; some missing."""
    random = np.random.default_rng(4)
    genotypes = random.binomial(2, 0.004, (21, PEOPLE)).astype(np.int8)
    genotypes[random.random(genotypes.shape) < 0.02] = MISSING
    genotypes[19] = np.where(genotypes[19] < 0, MISSING, 2 - genotypes[19])
    genotypes[20] = random.binomial(2, 0.3, PEOPLE)
    samples = pl.DataFrame({"sample_id": [f"p{at}" for at in range(PEOPLE)], "sex": ["male", "female"] * (PEOPLE // 2)})
    variants = pl.DataFrame({"contig": "chr7", "position": np.arange(100, 121)}).with_columns(
        variant_id=pl.format("v{}", pl.int_range(21)), ref=pl.lit("C"), alt=pl.lit("T")
    )
    return InMemoryGenotypes(samples, variants, genotypes)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [f"{'ABC1' if at < 12 else 'XYZ2'},v{at},{'HIGH' if at % 2 else 'MODERATE'},{at + 1}" for at in range(12)]
    rows += [f"XYZ2,7:{100 + at}:C:T,HIGH,1" for at in range(12, 21)]
    (tmp_path / "genes.csv").write_text(
        "\n".join(["gene,variant,impact,weight", *rows, "XYZ2,v99,HIGH,1", ",v1,HIGH,1"])
    )
    return tmp_path / "genes.csv"


def rarer(source: InMemoryGenotypes) -> np.ndarray:
    found = source.genotypes(slice(0, 20)).astype(float)
    found[19] = np.where(found[19] < 0, found[19], 2 - found[19])
    return found


def test_burdens_are_counted_by_hand(source: InMemoryGenotypes, table: Path) -> None:
    genes = read_gene_variants(table, source)
    assert genes.left_out == {"without gene, variant or weight": 1, "not in the genotypes": 1}
    found = burdens_of_people(source, genes)
    by_hand = (rarer(source)[12:20] > 0).any(axis=0)  # without the common variant, the last one the other way round
    assert found.columns == ["sample_id", "ABC1", "XYZ2"]
    np.testing.assert_array_equal(found["XYZ2"].to_numpy(), by_hand)
    weighted = burdens_of_people(source, genes, options=BurdenOptions(model="max", weights="table"))["ABC1"].to_numpy()
    by_hand = (np.maximum(rarer(source)[:12], 0) * np.arange(1, 13)[:, None]).max(axis=0)
    np.testing.assert_allclose(weighted, by_hand)
    total = burdens_of_people(source, genes, options=BurdenOptions(model="sum"))["ABC1"].to_numpy()
    part = rarer(source)[:12]
    known = part >= 0
    mean = np.where(known, part, 0).sum(axis=1) / known.sum(axis=1)
    np.testing.assert_allclose(total, np.where(known, part, mean[:, None]).sum(axis=0), rtol=1e-6)


def test_masks_choose_variants(source: InMemoryGenotypes, table: Path) -> None:
    masks = {"lof": frozenset({"HIGH"}), "any": frozenset({"HIGH", "MODERATE"})}
    genes = read_gene_variants(table, source, masks=masks)
    assert {(each.gene, each.mask): len(each.rows) for each in genes.sets} == {
        ("ABC1", "lof"): 6,
        ("ABC1", "any"): 12,
        ("XYZ2", "lof"): 9,
        ("XYZ2", "any"): 9,
    }
    assert "ABC1.lof" in burdens_of_people(source, genes).columns


def test_a_gene_is_tested_by_the_plain_regression_on_its_burden(
    source: InMemoryGenotypes, table: Path, tmp_path: Path
) -> None:
    random = np.random.default_rng(5)
    genes = read_gene_variants(table, source)
    carrier = burdens_of_people(source, genes)["ABC1"].to_numpy().astype(float)
    age = random.normal(size=PEOPLE)
    trait = 0.8 * carrier + age + random.normal(size=PEOPLE)
    given = Phenotypes(np.arange(PEOPLE), trait, "quantitative", {"AGE": age})
    found = burden(source, given, genes, out=tmp_path / "genes.tsv")
    x = np.column_stack([np.ones(PEOPLE), age, carrier])
    at, loss, *_ = np.linalg.lstsq(x, trait)
    error = np.sqrt(loss[0] / (PEOPLE - 3) * np.linalg.inv(x.T @ x)[-1, -1])
    row = found.table.row(0, named=True)
    assert (row["gene"], row["chromosome"], row["first_position"]) == ("ABC1", "7", 100)
    assert row["variants"] == (np.maximum(rarer(source)[:12], 0).sum(axis=1) > 0).sum()
    assert row["carriers"] == carrier.sum()
    assert (row["beta"], row["standard_error"]) == pytest.approx((at[-1], error), rel=1e-6)
    assert row["p_value"] < 1e-4 < found.table["p_value"][1]
    assert row["kernel_p_value"] < 0.01
    assert pl.read_csv(tmp_path / "genes.tsv", separator="\t")["gene"].to_list() == ["ABC1", "XYZ2"]


def test_a_burden_that_only_cases_carry_is_tested_by_firth(source: InMemoryGenotypes, table: Path) -> None:
    genes = read_gene_variants(table, source)
    carrier = burdens_of_people(source, genes)["ABC1"].to_numpy()
    case = np.where(carrier > 0, 1.0, np.random.default_rng(6).random(PEOPLE) < 0.3)
    found = burden(source, Phenotypes(np.arange(PEOPLE), case, "binary"), genes).table
    assert found["test"][0] == "BURDEN-FIRTH"
    assert found["beta"][0] > 2


@given(
    steps=st.lists(st.floats(0.2, 2), min_size=2, max_size=4),
    where=st.floats(0.3, 4),
)
@settings(max_examples=40, derandomize=True, deadline=None)
def test_tails_of_mixtures_are_near_their_closed_form(steps: list[float], where: float) -> None:
    """Shares that come twice make a sum of exponential variables, whose tail is known."""
    means = 2 * np.cumsum(steps)
    q = where * means.sum()
    others = [np.prod([one / (one - two) for two in means if two != one]) for one in means]
    exact = float((np.array(others) * np.exp(-q / means)).sum())
    assert mixture_tail(q, np.repeat(means / 2, 2)) == pytest.approx(exact, rel=0.06)


def test_tails_of_one_share_are_chi_square() -> None:
    assert mixture_tail(3 * 3.841458820694124, np.array([3.0, 0.0])) == pytest.approx(0.05)
    assert np.isnan(mixture_tail(1.0, np.zeros(2)))
    assert mixture_tail(0.0, np.ones(2)) == 1


def test_the_kernel_test_is_right_under_no_association(source: InMemoryGenotypes) -> None:
    """P values of shuffled traits are uniform: as many below a twentieth as by chance."""
    random = np.random.default_rng(7)
    values = np.maximum(rarer(source), 0)
    covariate = random.normal(size=PEOPLE)
    p = []
    for _ in range(300):
        design = make_design(np.arange(PEOPLE), random.normal(size=PEOPLE), {"x": covariate}, kind="quantitative")
        p.append(KernelTest(design).p_value(values, np.ones(20)))
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.085
    assert 0.42 < np.mean(p) < 0.58


def test_what_is_wrong_is_one_line(source: InMemoryGenotypes, tmp_path: Path) -> None:
    def read(text: str, **options: Any) -> object:
        (tmp_path / "bad.csv").write_text(text)
        return read_gene_variants(tmp_path / "bad.csv", source, **options)

    with pytest.raises(InputError, match="column gene is needed"):
        read("variant,x\nv1,1\n")
    with pytest.raises(InputError, match="none of its 1 variants"):
        read("gene,variant\nA,rs1\n")
    with pytest.raises(InputError, match="masks go by a column 'impact'"):
        read("gene,variant\nA,v1\n", masks={"lof": frozenset({"HIGH"})})
    with pytest.raises(InputError, match="largest frequency"):
        BurdenOptions(max_frequency=0)
