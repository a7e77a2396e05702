"""LD scores, blocks and linkage on disk, against sums and cuts that are known."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from careloop import InputError
from careloop.genome.genotypes.in_memory import InMemoryGenotypes
from careloop.genome.genotypes.linkage.correlations import correlations
from careloop.genome.genotypes.linkage.linkage import linkage_of
from careloop.genome.genotypes.linkage.partition import SIZE_COST, crossing, partition
from careloop.genome.genotypes.linkage.stored import read_linkage, write_linkage
from careloop.genome.genotypes.linkage.window import Window, linkage_sums
from careloop.genome.simulate.cohort import GenotypeModel, simulate_cohort


@pytest.fixture(scope="module")
def source() -> InMemoryGenotypes:
    """300 simulated people with 1,300 linked variants on two contigs; one of them does not vary."""
    made = simulate_cohort(300, 1_300, seed=2, model=GenotypeModel(correlation=0.9, contigs=("1", "2")))
    made.genotypes[7] = 2
    return InMemoryGenotypes(made.samples, made.variants, made.genotypes, build="GRCh38")


def test_sums_are_those_of_the_whole_matrix(source: InMemoryGenotypes) -> None:
    window = Window(kb=20.5, variants=15)
    sums = linkage_sums(source, window=window)
    r2 = correlations(source.genotypes(slice(None))) ** 2
    r2 -= (1 - r2) / (300 - 2)
    position, contig = source.variants["position"].to_numpy(), source.variants["contig"].to_numpy()
    apart = np.subtract.outer(np.arange(1_300), np.arange(1_300))
    near = np.abs(np.subtract.outer(position, position)) <= 20_500
    near &= (np.abs(apart) <= 15) & (contig[:, None] == contig[None])
    assert np.allclose(sums.left, (r2 * (near & (apart > 0))).sum(axis=1))
    assert np.allclose(sums.right, (r2 * (near & (apart < 0))).sum(axis=1))
    assert np.allclose(sums.scores, 1 + sums.left + sums.right)


def test_cuts_are_the_best_of_all() -> None:
    costs = np.append(np.random.default_rng(0).uniform(0, 1e-3, 9), 0)

    def total(ends: tuple[int, ...]) -> float:
        sizes = np.diff([0, *ends])
        return float(costs[np.array(ends) - 1].sum() + SIZE_COST * (sizes**2).sum())

    every = [(*cuts, 10) for count in range(10) for cuts in combinations(range(1, 10), count)]
    allowed = [ends for ends in every if np.diff([0, *ends]).max() <= 4]
    found = tuple(one.stop for one in partition(costs, max_size=4))
    assert total(found) == pytest.approx(min(map(total, allowed)))


def test_a_cut_costs_what_it_parts() -> None:
    r2 = np.triu(np.random.default_rng(1).uniform(size=(6, 6)), 1)
    costs = crossing(r2.sum(axis=0), r2.sum(axis=1))
    assert np.allclose(costs, [r2[:cut, cut:].sum() for cut in range(1, 7)])


def test_linkage_keeps_contigs_apart_and_what_does_not_vary_out(source: InMemoryGenotypes) -> None:
    linkage = linkage_of(source, max_size=100)
    assert linkage.variants.height == 1_299
    assert "rs8" not in linkage.variants["variant_id"].to_list()
    assert max(len(block) for block in linkage.blocks) <= 100
    assert all(linkage.variants["contig"][one].n_unique() == 1 for one in linkage.slices)
    one = linkage.slices[3]
    rows = np.flatnonzero(source.variants["variant_id"].is_in(linkage.variants["variant_id"][one].implode()).to_numpy())
    values = source.genotypes(rows)
    assert np.allclose(linkage.blocks[3], correlations(values), atol=1e-6)
    assert np.allclose(linkage.frequency[one], values.mean(axis=1) / 2)
    assert np.allclose(linkage.spread[one], values.std(axis=1), atol=1e-5)
    some = np.array([0, 5, 150, 900])
    part = linkage.only(some)
    assert part.variants["variant_id"].to_list() == linkage.variants["variant_id"].gather(some).to_list()
    assert part.slices[-1].stop == 4


def test_linkage_comes_back_from_disk(source: InMemoryGenotypes, tmp_path: Path) -> None:
    linkage = linkage_of(source, max_size=100)
    back = read_linkage(write_linkage(linkage, tmp_path / "panel.npz"))
    assert back.variants.equals(linkage.variants)
    assert (back.people, back.parted, back.build) == (300, linkage.parted, "GRCh38")
    assert all(np.allclose(a, b, atol=2e-5) for a, b in zip(back.blocks, linkage.blocks, strict=True))
    assert np.allclose(back.scores, linkage.scores, atol=1e-2)


def test_a_file_that_is_not_whole_is_refused(source: InMemoryGenotypes, tmp_path: Path) -> None:
    path = write_linkage(linkage_of(source, variants=np.arange(50)), tmp_path / "panel.npz")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="not whole"):
        read_linkage(path)
    with pytest.raises(InputError, match="no such file"):
        read_linkage(tmp_path / "none.npz")
    with pytest.raises(InputError, match=r"\.npz"):
        write_linkage(linkage_of(source, variants=np.arange(50)), tmp_path / "panel.txt")


def test_positions_out_of_order_are_refused(source: InMemoryGenotypes) -> None:
    turned = InMemoryGenotypes(source.samples, source.variants.reverse(), source.genotypes(slice(None))[::-1])
    with pytest.raises(InputError, match="sort the file"):
        linkage_of(turned)
