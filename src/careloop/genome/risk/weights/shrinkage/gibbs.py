"""Gibbs sampler of effects under a spike and a slab, given marginal effects and linkage; several chains at once.

The model of LDpred (Vilhjalmsson et al., Am J Hum Genet 2015;97:576) and LDpred2 (Prive et al., Bioinformatics
2020;36:5424): an effect on standardised genotypes is normal with variance h2 / (M p) with probability p, else 0, and
marginal effects are normal about R times the effects with covariance R / n. Blocks of linkage do not depend on each
other within a sweep, so that the first variants of all blocks are drawn at once, then all second ones, in all chains.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from careloop.genome.risk.weights.shrinkage.stacks import STEP, Stack

Model = Literal["auto", "grid"]
Progress = Callable[[str, int, int], None]
MIN_H2 = 1e-4  # a heritability of a chain is never taken as less
SHARES = (1e-5, 1.0)  # the least and the largest share of causal variants
_SQUARES_FREE = 1.0  # a sum of squared effects up to this never counts as divergence, for a few variants may reach it
_REFRESH = 50  # sweeps after which sums that were kept up to date are made anew, against rounding


@dataclass(frozen=True)
class Schedule:
    """How long chains are: sweeps that are thrown away, sweeps that count, and the seed of the draws."""

    burn_in: int = 300
    sweeps: int = 300
    seed: int = 0


@dataclass(frozen=True)
class Chains:
    """What chains came to. `effects` (variants, chains): posterior means on the standardised scale.

    `causal` (variants, chains): probability of an effect. `share` and `h2` (sweeps, chains): each sweep's share of
    causal variants and heritability, those of the burn-in too. `diverged` (chains,).
    """

    effects: NDArray[np.float64]
    causal: NDArray[np.float64]
    share: NDArray[np.float64]
    h2: NDArray[np.float64]
    diverged: NDArray[np.bool_]


@dataclass
class _State:
    """A stack's effects, R times effects, and sums over the sweeps that count: each (size, blocks, chains)."""

    stack: Stack
    marginal: NDArray[np.float32]  # (size, blocks, 1), as `people` is
    people: NDArray[np.float32]
    effects: NDArray[np.float32]
    product: NDArray[np.float32]
    means: NDArray[np.float64]
    causal: NDArray[np.float64]

    def refresh(self) -> None:
        self.product[:] = (self.stack.r @ self.effects.transpose(1, 0, 2)).transpose(1, 0, 2)


def sample(
    stacks: list[Stack],
    marginal: NDArray[np.float64],
    people: NDArray[np.float64],
    *,
    start: tuple[NDArray[np.float64], NDArray[np.float64]],
    model: Model,
    schedule: Schedule,
    progress: Progress | None = None,
) -> Chains:
    """Run one chain from each share of causal variants and heritability in `start`, both (chains,).

    `marginal` (variants,) are effects of standardised genotypes on the standardised trait, `people` (variants,) of
    how many people each is. With `auto` a chain draws its share and heritability anew after each sweep, with
    `grid` they stay. A chain whose effects grow beyond the marginal ones has diverged: it stops.
    """
    draws = np.random.default_rng(schedule.seed)
    share, h2 = start[0].astype(np.float64), start[1].astype(np.float64)
    states = [_state(stack, marginal, people, share.size) for stack in stacks]
    count, total = marginal.size, schedule.burn_in + schedule.sweeps
    shares, h2s = np.zeros((total, share.size)), np.zeros((total, share.size))
    diverged = np.zeros(share.size, bool)
    most = _SQUARES_FREE + 2 * float((marginal**2).sum())
    for sweep in range(total):
        figures = sum(
            _sweep(state, share, h2 / (count * share), draws, weight=int(sweep >= schedule.burn_in)) for state in states
        )
        causal, squares, found_h2 = np.asarray(figures)
        diverged |= ~(squares <= most) | ~np.isfinite(found_h2)
        if model == "auto":
            causal = np.where(diverged, 0, causal)
            share = draws.beta(1 + causal, 1 + count - causal).clip(*SHARES)
            h2 = np.where(diverged, MIN_H2, np.maximum(found_h2, MIN_H2))
        shares[sweep], h2s[sweep] = share, np.where(diverged, np.nan, found_h2)
        for state in states:
            state.effects[:, :, diverged] = 0
            if diverged.any() or sweep % _REFRESH == _REFRESH - 1:
                state.refresh()
        if progress:
            progress("sweeps", sweep + 1, total)
        if diverged.all():
            break
    return _chains(states, count, (shares, h2s), diverged, schedule.sweeps)


def _state(stack: Stack, marginal: NDArray[np.float64], people: NDArray[np.float64], chains: int) -> _State:
    shape = (*stack.place.shape, chains)
    effects, product = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    known = [stack.spread(values)[:, :, None] for values in (marginal, people)]
    return _State(stack, known[0], known[1], effects, product, np.zeros(shape), np.zeros(shape))


def _sweep(
    state: _State, share: NDArray[np.float64], slab: NDArray[np.float64], draws: np.random.Generator, *, weight: int
) -> NDArray[np.float64]:
    """Draw every effect of a stack once: (3, chains) of how many are causal, their squares' sum, their h2.

    Posterior means enter the state's sums with `weight`, 0 in the burn-in.
    """
    with np.errstate(divide="ignore"):
        against = np.log((1 - share) / share).astype(np.float32)
    causal = np.zeros(share.size)
    for first in range(0, len(state.effects), STEP):
        here = slice(first, first + STEP)
        causal += _draw_step(state, here, (slab.astype(np.float32), against), draws, weight=weight)
    squares = np.einsum("sbc,sbc->c", state.effects, state.effects, dtype=np.float64)
    return np.stack([causal, squares, np.einsum("sbc,sbc->c", state.effects, state.product, dtype=np.float64)])


def _draw_step(
    state: _State,
    here: slice,
    prior: tuple[NDArray[np.float32], NDArray[np.float32]],
    draws: np.random.Generator,
    *,
    weight: int,
) -> NDArray[np.float64]:
    """Draw the variants of one step in all blocks, one after the other, then tell the rest of their blocks."""
    slab, odds_against = prior
    people, real, near = state.people[here], state.stack.real[here], state.stack.near[here]
    ratio = slab * people  # (STEP, blocks, chains): variance of an effect in units of its error's
    shrink = ratio / (1 + ratio)
    spread = np.sqrt(shrink / np.maximum(people, 1))
    against = odds_against + np.float32(0.5) * np.log1p(ratio)
    against[~real] = np.inf
    shape = against.shape
    with np.errstate(divide="ignore"):
        uniform = draws.random(shape, np.float32)
        lot = np.log1p(-uniform) - np.log(uniform)  # logistic: above the log odds against with their probability
    noise = draws.standard_normal(shape, np.float32) * spread
    effects, before = state.effects[here], state.effects[here].copy()
    rest = state.marginal[here] - state.product[here]
    means, half = np.empty(shape, np.float32), np.float32(0.5) * people / np.where(shrink > 0, shrink, 1)
    for number in range(STEP):
        mean = (rest[number] + before[number]) * shrink[number]
        against[number] -= half[number] * mean * mean
        means[number] = mean
        effects[number] = np.where(lot[number] > against[number], mean + noise[number], 0)
        change = effects[number] - before[number]
        rest[number + 1 :] -= near[number, number + 1 :, :, None] * change
    changes = (effects - before).transpose(1, 0, 2)
    state.product += (state.stack.r[:, :, here] @ changes).transpose(1, 0, 2)
    if weight:
        with np.errstate(over="ignore"):
            probability = 1 / (1 + np.exp(against))
        state.means[here] += weight * means * probability
        state.causal[here] += weight * probability
    return (effects != 0).sum(axis=(0, 1)).astype(np.float64)


def _chains(
    states: list[_State],
    count: int,
    paths: tuple[NDArray[np.float64], NDArray[np.float64]],
    diverged: NDArray[np.bool_],
    sweeps: int,
) -> Chains:
    effects, causal = np.zeros((count, diverged.size)), np.zeros((count, diverged.size))
    for state in states:
        rows = state.stack.place[state.stack.real]
        effects[rows] = state.means[state.stack.real] / sweeps
        causal[rows] = state.causal[state.stack.real] / sweeps
    return Chains(effects, causal, *paths, diverged)
