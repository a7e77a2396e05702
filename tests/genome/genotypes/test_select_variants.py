"""Variants are chosen and files converted as plink2 does it; what is left out is counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from careloop import InputError
from careloop.genome.files.regions import Regions, parse_region
from careloop.genome.genotypes.convert import convert
from careloop.genome.genotypes.id_lists import rows_of_samples
from careloop.genome.genotypes.in_memory import InMemoryGenotypes
from careloop.genome.genotypes.open_genotypes import open_genotypes
from careloop.genome.genotypes.quality.select_variants import VariantFilter, select_variants
from careloop.genome.simulate.cohort import GenotypeModel, SimulatedCohort, simulate_cohort


@pytest.fixture(scope="module")
def people() -> SimulatedCohort:
    """500 people of five populations that are apart, so that some variants are out of proportions."""
    model = GenotypeModel(frequencies=(0, 0.5), missing=0.03, populations=5, fst=0.2, contigs=("1", "2"))
    return simulate_cohort(500, 600, seed=3, model=model)


WANTED = VariantFilter(
    regions=Regions([parse_region("chr1:1-250,000"), parse_region("2")]),
    min_frequency=0.05,
    max_frequency=0.45,
    max_missing=0.032,
    min_hardy_weinberg_p=0.001,
)


def test_converted_as_plink2_does_it(people: SimulatedCohort, tmp_path: Path, plink2: Callable[..., None]) -> None:
    source = InMemoryGenotypes(people.samples, people.variants, people.genotypes)
    convert(source, tmp_path / "whole")
    done = convert(open_genotypes(tmp_path / "whole"), tmp_path / "ours", wanted=WANTED)
    (tmp_path / "region").write_text("1 1 250000 a\n2 1 9999999 b\n")
    filters = ("--maf", 0.05, "--max-maf", 0.45, "--geno", 0.032, "--hwe", 0.001, "--extract", "bed1")
    plink2("--bfile", tmp_path / "whole", *filters, tmp_path / "region", "--make-bed", "--out", tmp_path / "theirs")
    assert (tmp_path / "ours.bed").read_bytes() == (tmp_path / "theirs.bed").read_bytes()
    theirs = open_genotypes(tmp_path / "theirs")
    assert open_genotypes(done.bed).variants.equals(theirs.variants)
    assert 50 < done.variants == theirs.variants.height
    assert len(done.left_out) == 5
    assert done.variants + sum(done.left_out.values()) == 600
    assert done.missing == np.count_nonzero(theirs.genotypes(slice(None)) == -9)


def test_of_some_people_by_their_own_figures(people: SimulatedCohort, tmp_path: Path) -> None:
    source = InMemoryGenotypes(people.samples, people.variants, people.genotypes)
    samples = rows_of_samples(source, frozenset(["P000011", "P000005", "P000400", "nobody"]))
    assert samples.tolist() == [4, 10, 399]
    done = convert(source, tmp_path / "few", samples=samples, wanted=VariantFilter(max_missing=0))
    whole = (people.genotypes[:, samples] >= 0).all(axis=1)
    np.testing.assert_array_equal(open_genotypes(done.bed).genotypes(slice(None)), people.genotypes[whole][:, samples])


def test_only_the_asked_ids(people: SimulatedCohort) -> None:
    source = InMemoryGenotypes(people.samples, people.variants, people.genotypes)
    found = select_variants(source, VariantFilter(ids=frozenset(["rs9", "rs3", "rs9999"])))
    assert found.rows.tolist() == [2, 8]
    assert found.left_out == {"other ids": 598}


def test_a_region_holds_its_ends(people: SimulatedCohort) -> None:
    source = InMemoryGenotypes(people.samples, people.variants, people.genotypes)
    first, second = people.variants["position"][3], people.variants["position"][5]
    wanted = VariantFilter(regions=Regions([parse_region(f"chr1:{first}-{second}")]))
    assert select_variants(source, wanted).rows.tolist() == [3, 4, 5]


def test_refused(people: SimulatedCohort, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="from 0 to 1"):
        VariantFilter(min_frequency=5)
    source = InMemoryGenotypes(people.samples, people.variants, people.genotypes)
    with pytest.raises(InputError, match="no variant or no sample is left"):
        convert(source, tmp_path / "none", wanted=VariantFilter(ids=frozenset(["none"])))
    assert list(tmp_path.iterdir()) == []
