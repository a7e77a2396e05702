"""Fitted Q evaluation: what a policy's decisions are worth by the transitions that were logged, and by none invented.

For every logged pair of state and action Q(s, a) = mean reward + discount x mean of V at the states that followed, with
V(s) = sum over a of target(a | s) Q(s, a) (Ernst, Geurts & Wehenkel 2005, JMLR 6:503; as evaluation: Le, Voloshin & Yue
2019, ICML). Where the target policy takes an action that was never logged in a state, nothing is known of what follows:
such a pair has the value it is given, by which values can be bounded from below and above (Manski's worst case).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from careloop.plan.effect.goals import Array
from careloop.plan.policy.episodes import Episodes, within_seen

MOST_STEPS = 2000  # of an episode that is followed; what comes later has the value of an unseen pair
TOLERANCE = 1e-9


@dataclass(frozen=True)
class QFunction:
    """Values of pairs (states, actions) and of states (states,) under a target policy."""

    pair: Array
    state: Array


@dataclass(frozen=True)
class Unseen:
    """Where the target policy leaves what was logged: shares of its episodes and of its decisions until then."""

    episodes: float
    decisions: float


def fitted_q(episodes: Episodes, target: Array, *, discount: float, weight: Array) -> QFunction:
    """Q and V of a target policy (states, actions) from rows that count `weight` (n,).

    The target is held to pairs that were logged (`within_seen`); what follows others counts as the mean return.
    """
    pairs = episodes.pairs(weight)
    fill = _mean_return(episodes, discount, weight)
    held = within_seen(target, pairs)
    state = _fixed_point(episodes, held, weight, reward=episodes.reward, discount=discount, fill=np.array([fill]))[:, 0]
    after = np.where(episodes.last, 0.0, np.append(state[episodes.state[1:]], 0.0))
    total = episodes.pairs(weight * (episodes.reward + discount * after))
    return QFunction(np.divide(total, pairs, out=np.full(pairs.shape, fill), where=pairs > 0), state)


def worst_and_best(
    episodes: Episodes, target: Array, *, discount: float, weight: Array, return_range: tuple[float, float]
) -> tuple[float, float]:
    """Value if every pair never logged led to the lowest, and to the highest, return from there on."""
    fill = np.array(return_range)
    states = _fixed_point(episodes, target, weight, reward=episodes.reward, discount=discount, fill=fill)
    low, high = at_start(episodes, states, weight)
    return float(low), float(high)


def unseen_share(episodes: Episodes, target: Array) -> Unseen:
    """How much of what the target policy would do was never logged, by the transitions that were."""
    ones = np.ones(len(episodes.state))
    leaving = _fixed_point(episodes, target, ones, reward=0.0 * ones, discount=1.0, fill=np.array([1.0]))
    decisions = _fixed_point(episodes, target, ones, reward=ones, discount=1.0, fill=np.array([0.0]))
    share, logged = (float(at_start(episodes, values, ones)[0]) for values in (leaving, decisions))
    return Unseen(share, share / (share + logged))


def at_start(episodes: Episodes, values: Array, weight: Array) -> Array:
    """Mean of values (states, ...) at the episodes' first states."""
    first = np.flatnonzero(episodes.step == 0)
    return np.asarray(np.average(values[episodes.state[first]], axis=0, weights=weight[first]))


def _mean_return(episodes: Episodes, discount: float, weight: Array) -> float:
    """Mean over episodes of the discounted sum of their rewards, rows of an episode sharing its weight."""
    starts = float(weight[episodes.step == 0].sum())
    return float((weight * discount**episodes.step * episodes.reward).sum()) / starts


def _fixed_point(
    episodes: Episodes, policy: Array, weight: Array, *, reward: Array, discount: float, fill: Array
) -> Array:
    """V (states, c) for each of the values `fill` (c,) of a pair never logged, by steps until nothing changes."""
    pairs = episodes.pairs(weight)
    count = pairs[episodes.state, episodes.action]
    share = np.divide(
        weight * policy[episodes.state, episodes.action], count, out=np.zeros(len(count)), where=count > 0
    )
    unknown = np.maximum(1.0 - np.where(pairs > 0, policy, 0.0).sum(axis=1), 0.0)
    immediate = np.bincount(episodes.state, weights=share * reward, minlength=episodes.states)
    fixed = immediate[:, None] + unknown[:, None] * fill
    transitions = discount * _transitions(episodes, share)
    values = np.tile(fill, (episodes.states, 1))
    for _ in range(MOST_STEPS):
        updated = fixed + transitions @ values
        if np.abs(updated - values).max() < TOLERANCE:
            break
        values = updated
    return np.asarray(updated)


def _transitions(episodes: Episodes, share: Array) -> Any:
    """Chance (states, states) of the next state under the policy, as a sparse matrix; the rest ends there."""
    from scipy.sparse import csr_matrix

    goes_on = np.flatnonzero(~episodes.last)
    places = (episodes.state[goes_on], episodes.state[goes_on + 1])
    return csr_matrix((share[goes_on], places), shape=(episodes.states, episodes.states))
