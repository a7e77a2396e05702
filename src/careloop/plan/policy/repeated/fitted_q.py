"""Fitted Q evaluation: what a policy's decisions are worth by the transitions that were logged, and by none invented.

For every logged pair of state and action Q(s, a) = mean reward + discount x mean of V at the states that followed, with
V(s) = sum over a of target(a | s) Q(s, a) (Ernst, Geurts & Wehenkel 2005, JMLR 6:503; as evaluation: Le, Voloshin & Yue
2019, ICML). Where the target policy takes an action that is never taken in a state, nothing is known of what follows:
such a pair gets a value that is given, by which values are bounded from below and above (Manski's worst case). Among
the actions that are taken, the policy is held to those that were logged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from careloop.plan.effect.goals import Array
from careloop.plan.policy.repeated.episodes import Episodes, within

MOST_STEPS = 10  # times the longest logged episode are followed; what comes later has the value of an unknown pair
TOLERANCE = 1e-9
LARGEST_RATIO = 100.0  # no decision counts more for its state than this


@dataclass(frozen=True)
class QFunction:
    """Values of pairs (states, actions) and of states (states,) under a target policy."""

    pair: Array
    state: Array


@dataclass(frozen=True)
class Unseen:
    """What of the target policy was never seen: the share of its episodes, and of its decisions until then."""

    episodes: float
    decisions: float


@dataclass(frozen=True)
class Logged:
    """What was logged, as transitions; rows count `weight` (n,), the same for all of an episode."""

    episodes: Episodes
    weight: Array
    discount: float

    def values(self, target: Array, unknown: Array, *, reward: Array, fill: Array) -> Array:
        """V (states, c) of rewards (n,) under a target policy, by steps until nothing changes.

        `fill` (c,) are values of an action of unknown consequence, which has the chance `unknown` (states,), and of
        states never logged.
        """
        share, policy = self._share(target, unknown)
        fixed = np.bincount(self.episodes.state, weights=share * reward, minlength=self.episodes.states)[:, None]
        fixed = fixed + (1.0 - policy.sum(axis=1))[:, None] * fill
        return self._repeated(_transitions(self.episodes, share), fixed, np.tile(fill, (self.episodes.states, 1)))

    def visits(self, target: Array) -> Array:
        """How often an episode of the target policy comes to each state (states,), later times discounted."""
        share, _ = self._share(target, np.zeros(self.episodes.states))
        first = self.episodes.state[self.episodes.step == 0]
        begin = np.bincount(first, weights=self.weight[self.episodes.step == 0], minlength=self.episodes.states)
        begin = begin[:, None] / begin.sum()
        return self._repeated(_transitions(self.episodes, share).T, begin, begin)[:, 0]

    def _share(self, target: Array, unknown: Array) -> tuple[Array, Array]:
        """The part (n,) that each row has in its state under the target policy, and the policy held to logged pairs."""
        episodes = self.episodes
        pairs = episodes.pairs(self.weight)
        policy = within(target, pairs) * (1.0 - unknown)[:, None]
        count = pairs[episodes.state, episodes.action]
        share = self.weight * policy[episodes.state, episodes.action]
        return np.divide(share, count, out=np.zeros(len(count)), where=count > 0), policy

    def _repeated(self, transitions: Any, fixed: Array, start: Array) -> Array:
        """Solution of x = fixed + discount x transitions x, or where episodes never end what the last step makes."""
        values = start
        for _ in range(MOST_STEPS * (int(self.episodes.step.max()) + 1)):
            updated = np.asarray(fixed + self.discount * (transitions @ values))
            if np.abs(updated - values).max() < TOLERANCE:
                break
            values = updated
        return updated

    def mean_return(self) -> float:
        """Mean over episodes of the discounted sum of their rewards."""
        step = self.episodes.step
        total = float((self.weight * self.discount**step * self.episodes.reward).sum())
        return total / float(self.weight[step == 0].sum())

    def at_start(self, values: Array) -> Array:
        """Mean of values (states, c) at the episodes' first states, (c,)."""
        first = np.flatnonzero(self.episodes.step == 0)
        return np.asarray(np.average(values[self.episodes.state[first]], axis=0, weights=self.weight[first]))


def fitted_q(logged: Logged, target: Array) -> QFunction:
    """Q and V of a target policy (states, actions) held to logged pairs.

    A pair never logged has the value of its state, a state never logged the mean return.
    """
    episodes, fill = logged.episodes, np.array([logged.mean_return()])
    state = logged.values(target, np.zeros(episodes.states), reward=episodes.reward, fill=fill)
    after = np.where(episodes.last, 0.0, np.append(state[episodes.state[1:], 0], 0.0))
    total = episodes.pairs(logged.weight * (episodes.reward + logged.discount * after))
    pairs = episodes.pairs(logged.weight)
    unlogged = np.repeat(state, episodes.actions, axis=1)
    return QFunction(np.divide(total, pairs, out=unlogged, where=pairs > 0), state[:, 0])


def visit_ratio(logged: Logged, target: Array) -> Array:
    """How often the target policy comes to a state (states,), for once that it was logged; 1 where it never was."""
    episodes = logged.episodes
    earlier = logged.weight * logged.discount**episodes.step
    came = np.bincount(episodes.state, weights=earlier, minlength=episodes.states)
    came = came / logged.weight[episodes.step == 0].sum()
    ratio = np.divide(logged.visits(target), came, out=np.ones(episodes.states), where=came > 0)
    return np.minimum(ratio, LARGEST_RATIO)


def worst_and_best(
    logged: Logged, target: Array, unknown: Array, *, returns: tuple[float, float]
) -> tuple[float, float]:
    """Value if every action of unknown consequence led to the lowest, and to the highest, of `returns`.

    `unknown` (states,) is the chance that the target policy takes one.
    """
    states = logged.values(target, unknown, reward=logged.episodes.reward, fill=np.array(returns))
    low, high = logged.at_start(states)
    return float(low), float(high)


def unseen_share(episodes: Episodes, target: Array, unknown: Array) -> Unseen:
    """How much of what the target policy would do has unknown consequences, by the transitions that were logged."""
    ones = np.ones(len(episodes.state))
    logged = Logged(episodes, ones, 1.0)
    leaving = logged.values(target, unknown, reward=0.0 * ones, fill=np.array([1.0]))
    decisions = logged.values(target, unknown, reward=ones, fill=np.array([0.0]))
    share, known = (float(logged.at_start(values)[0]) for values in (leaving, decisions))
    return Unseen(share, share / (share + known))


def _transitions(episodes: Episodes, share: Array) -> Any:
    """Chance (states, states) of the next state under the policy, as a sparse matrix; the rest ends there."""
    from scipy.sparse import csr_matrix

    goes_on = np.flatnonzero(~episodes.last)
    places = (episodes.state[goes_on], episodes.state[goes_on + 1])
    return csr_matrix((share[goes_on], places), shape=(episodes.states, episodes.states))
