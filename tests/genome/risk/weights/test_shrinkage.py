"""Shrinkage, against the exact posterior of few variants, the closed form of a ridge, and simulated truth."""

from __future__ import annotations

from itertools import product

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.genome.genotypes.linkage.linkage import Linkage
from careloop.genome.genotypes.source import VARIANTS
from careloop.genome.risk.weights.aligned import Aligned
from careloop.genome.risk.weights.shrinkage.gibbs import Schedule, sample
from careloop.genome.risk.weights.shrinkage.shrink import AutoOptions, shrink_auto, shrink_grid, shrink_infinitesimal
from careloop.genome.risk.weights.shrinkage.stacks import stacked


def blocks_of(sizes: list[int], seed: int) -> list[np.ndarray]:
    """Correlations that fall off with distance, by a strength that is the block's own."""
    strengths = np.random.default_rng(seed).uniform(0.3, 0.9, len(sizes))
    return [
        (strength ** np.abs(np.subtract.outer(np.arange(size), np.arange(size)))).astype(np.float32)
        for size, strength in zip(sizes, strengths, strict=True)
    ]


def drawn(blocks: list[np.ndarray], effects: np.ndarray, people: int, seed: int) -> np.ndarray:
    """Marginal effects about R times effects, with covariance R / n."""
    draws, found, at = np.random.default_rng(seed), [], 0
    for block in blocks:
        part = effects[at : at + len(block)]
        error = np.linalg.cholesky(block.astype(float)) @ draws.standard_normal(len(block))
        found.append(block @ part + error / np.sqrt(people))
        at += len(block)
    return np.concatenate(found)


def as_inputs(blocks: list[np.ndarray], marginal: np.ndarray, people: int) -> tuple[Aligned, Linkage]:
    """The same as summary statistics of genotypes of variance 1, and as a panel's linkage."""
    count = marginal.size
    columns = {"contig": "1", "position": np.arange(1, count + 1), "variant_id": "rs", "ref": "A", "alt": "G"}
    table = pl.DataFrame(columns, schema=VARIANTS)
    error = np.sqrt((1 - marginal**2) / people)
    n, nothing = np.full(count, float(people)), np.full(count, np.nan)
    aligned = Aligned(np.arange(count), marginal, error, n, nothing, nothing, {})
    return aligned, Linkage(table, np.full(count, 0.5), np.ones(count), tuple(blocks), 10**6)


def exact(block: np.ndarray, marginal: np.ndarray, people: int, share: float, slab: float) -> np.ndarray:
    """Posterior means by going through every set of causal variants."""
    count, weights, means = len(block), [], []
    for chosen in product([False, True], repeat=count):
        rows = np.flatnonzero(chosen)
        covariance = slab * block[:, rows] @ block[rows] + block / people
        solved = np.linalg.solve(covariance, marginal)
        log = rows.size * np.log(share) + (count - rows.size) * np.log(1 - share)
        weights.append(log - 0.5 * (marginal @ solved + np.linalg.slogdet(covariance)[1]))
        mean = np.zeros(count)
        mean[rows] = slab * block[rows] @ solved
        means.append(mean)
    weight = np.exp(np.array(weights) - max(weights))
    return weight @ np.array(means) / weight.sum()


def test_the_sampler_finds_the_exact_posterior() -> None:
    blocks = blocks_of([5, 7, 3], 1)
    effects = np.zeros(15)
    effects[[2, 6, 13]] = [0.08, -0.06, 0.05]
    marginal = drawn(blocks, effects, 1_000, 2)
    share, h2 = 0.2, 0.03
    found = sample(
        *(stacked(blocks, kept=1.0), marginal, np.full(15, 1_000.0)),
        start=(np.full(8, share), np.full(8, h2)),
        model="grid",
        schedule=Schedule(100, 4_000, 3),
    )
    ends = np.cumsum([0, 5, 7, 3])
    expected = np.concatenate(
        [
            exact(block.astype(float), marginal[start:end], 1_000, share, h2 / (15 * share))
            for block, start, end in zip(blocks, ends[:-1], ends[1:], strict=True)
        ]
    )
    assert np.allclose(found.effects.mean(axis=1), expected, atol=1e-3)
    assert not found.diverged.any()


def test_all_causal_is_the_ridge() -> None:
    blocks = blocks_of([40, 25, 30], 4)
    marginal = drawn(blocks, np.random.default_rng(5).normal(0, 0.05, 95), 2_000, 6)
    aligned, linkage = as_inputs(blocks, marginal, 2_000)
    closed = shrink_infinitesimal(aligned, linkage, h2=0.2)
    options = AutoOptions(kept=1, schedule=Schedule(100, 1_500, 7))
    grid = shrink_grid(aligned, linkage, points=[(1.0, 0.2)], options=options)
    assert np.allclose(grid[:, 0], closed, atol=3e-3)
    whole = np.zeros((95, 95))
    for block, one in zip(linkage.blocks, linkage.slices, strict=True):
        whole[one, one] = block
    assert np.allclose(closed, np.linalg.solve(whole + np.eye(95) * 95 / (0.2 * 2_000), marginal), atol=1e-6)


def test_auto_learns_what_was_simulated_and_is_the_same_again() -> None:
    blocks, people, h2, share = blocks_of([60] * 30, 8), 20_000, 0.3, 0.02
    draws = np.random.default_rng(9)
    effects = np.where(draws.random(1_800) < share, draws.normal(0, np.sqrt(h2 / (1_800 * share)), 1_800), 0)
    true_h2 = sum(
        float(effects[at * 60 : at * 60 + 60] @ block @ effects[at * 60 : at * 60 + 60])
        for at, block in enumerate(blocks)
    )
    aligned, linkage = as_inputs(blocks, drawn(blocks, effects, people, 10), people)
    options = AutoOptions(chains=4, kept=1, schedule=Schedule(80, 80, 1))
    found = shrink_auto(aligned, linkage, options=options)
    assert found.h2[0] == pytest.approx(true_h2, rel=0.05)
    assert found.share[0] == pytest.approx(np.mean(effects != 0), rel=0.3)
    assert found.r2 == pytest.approx(true_h2, rel=0.1)
    assert np.corrcoef(found.effects, effects)[0, 1] > 0.97
    assert found.causal[effects == 0].mean() < 0.02
    assert found.chains["left_out"].null_count() >= 1
    assert np.array_equal(shrink_auto(aligned, linkage, options=options).effects, found.effects)


def test_linkage_that_does_not_fit_diverges_and_is_said() -> None:
    blocks = [np.full((40, 40), 0.99, np.float32) + np.eye(40, dtype=np.float32) * 0.01 for _ in range(4)]
    marginal = np.tile([0.3, -0.3], 80)  # opposite effects of variants that are all but the same
    aligned, linkage = as_inputs(blocks, marginal, 100_000)
    with pytest.raises(InputError, match="every chain of the shrinkage diverged"):
        shrink_auto(aligned, linkage, options=AutoOptions(chains=3, kept=1, schedule=Schedule(50, 50)))


def test_stacks_hold_every_variant_once() -> None:
    blocks = blocks_of([3, 200, 17, 1, 90, 33], 0)
    stacks = stacked(blocks, kept=0.9)
    places = np.concatenate([one.place[one.real] for one in stacks])
    assert np.array_equal(np.sort(places), np.arange(344))
    for stack in stacks:
        for at in range(len(stack.r)):
            count = int(stack.real[:, at].sum())
            block = next(one for one in blocks if len(one) == count)
            expected = np.where(np.eye(count, dtype=bool), 1, block * np.float32(0.9))
            assert np.allclose(stack.r[at, :count, :count], expected)
            assert not stack.r[at, count:].any()


def test_wrong_requests_are_refused() -> None:
    blocks = blocks_of([5], 0)
    aligned, linkage = as_inputs(blocks, np.zeros(5), 100)
    with pytest.raises(InputError, match="heritability above 0"):
        shrink_infinitesimal(aligned, linkage, h2=-0.1)
    with pytest.raises(InputError, match="shares of causal variants"):
        shrink_grid(aligned, linkage, points=[(0.0, 0.1)])
    with pytest.raises(InputError, match="same variants"):
        shrink_infinitesimal(aligned, linkage.only(np.arange(3)), h2=0.1)
    with pytest.raises(InputError, match="a chain, a burn-in and a sweep"):
        AutoOptions(chains=0)
