"""Repeated decisions as logged: episodes of state, action and reward, and which pairs of state and action they hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from careloop import InputError
from careloop.plan.effect.goals import Array


@dataclass(frozen=True)
class Episodes:
    """Decisions of many episodes, one row each, an episode's rows together and in the order of time.

    `episode` (n,) numbers from 0, `state` (n,) from 0 to `states` - 1, `action` (n,) from 0 to `actions` - 1, `reward`
    (n,). The state after a row is that of the next row of its episode; after the last one the episode is over. Make it
    with `episodes_of`, which checks this.
    """

    episode: Array
    state: Array
    action: Array
    reward: Array
    states: int
    actions: int

    @property
    def count(self) -> int:
        """How many episodes."""
        return int(self.episode[-1]) + 1

    @property
    def last(self) -> Array:
        """Whether a row ends its episode, (n,)."""
        return np.append(self.episode[1:] != self.episode[:-1], True)

    @property
    def step(self) -> Array:
        """Number (n,) of the decision within its episode, from 0."""
        first = np.flatnonzero(np.append(True, self.episode[1:] != self.episode[:-1]))
        return np.arange(len(self.episode)) - first[self.episode]

    def pairs(self, weight: Array) -> Array:
        """How often each pair was logged (states, actions), rows counting `weight` (n,)."""
        cell = self.state * self.actions + self.action
        counts = np.bincount(cell, weights=weight, minlength=self.states * self.actions)
        return counts.reshape(self.states, self.actions)

    def by_step(self, values: Array, *, after: Array | float = 0.0) -> Array:
        """Values (n,) of rows as (episodes, longest), with `after` (episodes,) where an episode is over."""
        step = self.step
        table = np.empty((self.count, int(step.max()) + 1))
        table[:] = np.reshape(after, (-1, 1))
        table[self.episode, step] = values
        return table


def episodes_of(episode: Array, state: Array, action: Array, reward: Array, *, states: int, actions: int) -> Episodes:
    """Check and number episodes given by any identifier (n,) whose rows stand together in the order of time.

    Raises InputError where an episode's rows are apart, a state or an action is out of range, or a reward is not known.
    """
    if len(episode) == 0:
        raise InputError("off-policy evaluation needs at least one episode, got none; log decisions first")
    starts = np.append(True, episode[1:] != episode[:-1])
    if starts.sum() != len(np.unique(episode)):
        raise InputError("the rows of an episode must stand together in the order of time; sort by episode and time")
    for what, values, size in (("state", state, states), ("action", action, actions)):
        if values.min() < 0 or values.max() >= size:
            raise InputError(
                f"each {what} must be from 0 to {size - 1}, got {values.min()} to {values.max()}; number them anew"
            )
    if not np.isfinite(reward).all():
        raise InputError(
            f"each reward must be a number, got {int((~np.isfinite(reward)).sum())} that are not; leave out episodes "
            "whose end was not seen"
        )
    return Episodes(np.cumsum(starts) - 1, state, action, np.asarray(reward, dtype=float), states, actions)


def states_of_features(features: Array, *, states: int, seed: int) -> Array:
    """State (n,) of each row of standardised features (n, p): its cluster of k-means.

    As is usual for records of intensive care (Komorowski et al. 2018, Nature Medicine 24:1716). Clusters are only as
    good as what they leave out: patients of one cluster count as alike.
    """
    from sklearn.cluster import MiniBatchKMeans

    if not np.isfinite(features).all():
        raise InputError("features to be clustered must not be missing, got missing ones; transform them by a Design")
    model = MiniBatchKMeans(n_clusters=states, random_state=seed, n_init=3, batch_size=4096)
    return np.asarray(model.fit_predict(features))


def logged_probabilities(episodes: Episodes) -> Array:
    """The policy that acted, estimated: share of each action among those logged in a state (states, actions).

    All zero in a state that was never logged.
    """
    return _shares(episodes.pairs(np.ones(len(episodes.state))))


def check_policy(policy: Array, episodes: Episodes, *, what: str) -> None:
    """Raise InputError unless a policy is (states, actions) of probabilities that sum to 1 in each state."""
    shape = (episodes.states, episodes.actions)
    if policy.shape != shape:
        raise InputError(f"{what} must be probabilities by state and action {shape}, got shape {policy.shape}")
    if (policy < 0).any() or not np.allclose(policy.sum(axis=1), 1.0):
        raise InputError(f"{what} must be probabilities that sum to 1 in each state, got others; divide by their sum")


def within(target: Array, acted: Array) -> Array:
    """The policy nearest to the target policy (states, actions) that takes only actions which `acted` takes.

    Its shares of those are scaled up to sum to 1; where it has none of them, it is `acted`, whose shares need not sum
    to 1.
    """
    kept = np.where(acted > 0, target, 0.0)
    return _shares(np.where(kept.sum(axis=1, keepdims=True) > 0, kept, acted))


def outside(target: Array, acted: Array) -> Array:
    """Chance (states,) that the target policy takes an action which `acted` never takes in the state."""
    return np.asarray(np.where(acted > 0, 0.0, target).sum(axis=1))


def _shares(amounts: Array) -> Array:
    total = amounts.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(amounts, total, out=np.zeros(amounts.shape), where=total > 0))
