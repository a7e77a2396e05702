"""The policy tree with the highest total score among all that yes-or-no questions can make, to depth 2 exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from careloop.plan.effect.goals import Array

TINY = 1e-12  # of the scores' size: a split that gains no more than rounding gains nothing


@dataclass(frozen=True)
class Assigned:
    """A leaf: its rows get the option at this position."""

    option: int


@dataclass(frozen=True)
class Branch:
    """Rows that meet the question at this position go to `met`, the others to `unmet`."""

    question: int
    met: Found
    unmet: Found


Found: TypeAlias = Assigned | Branch


def best_tree(met: Array, goodness: Array, *, depth: int, fewest: int) -> Found:
    """Tree of at most this depth for rows that meet questions (c, n) bool and have goodness (n, K) under the options.

    No leaf has under `fewest` rows. To depth 2 it is the best of all; deeper, each split is the root of the best tree
    of depth 2 and what follows is searched anew. A split whose sides would get the same option is left out.
    """
    alone = Assigned(int(goodness.sum(axis=0).argmax()))
    if depth == 0 or len(met) == 0:
        return alone
    question = _best_root(met, goodness, depth=min(depth, 2), fewest=fewest)
    if question is None:
        return alone
    inside = met[question]
    sides = (best_tree(met[:, rows], goodness[rows], depth=depth - 1, fewest=fewest) for rows in (inside, ~inside))
    found = Branch(question, *sides)
    return found.met if found.met == found.unmet and isinstance(found.met, Assigned) else found


def assigned(tree: Found, met: Array) -> Array:
    """Position (n,) of the option that the tree gives to each row, from the questions that it meets (c, n)."""
    if isinstance(tree, Assigned):
        return np.full(met.shape[1], tree.option)
    return np.where(met[tree.question], assigned(tree.met, met), assigned(tree.unmet, met))


def _best_root(met: Array, goodness: Array, *, depth: int, fewest: int) -> int | None:
    """The first question of the best tree of depth 1 or 2, or None if no split gains anything."""
    alone = goodness.sum(axis=0)
    inside = met.astype(float) @ goodness  # (c, K)
    count = met.sum(axis=1)
    both = np.stack([inside.max(axis=1), (alone - inside).max(axis=1)])
    if depth == 2:
        both = np.maximum(both, _best_second(met, goodness, fewest))
    total = np.where(np.minimum(count, met.shape[1] - count) >= fewest, both.sum(axis=0), -np.inf)
    best = int(total.argmax())
    return best if total[best] > alone.max() + TINY * np.abs(goodness).sum() else None


def _best_second(met: Array, goodness: Array, fewest: int) -> Array:
    """For each first question the total of its best second one, among rows that meet it and that do not, (2, c).

    With S[i, j] the total over rows that meet both i and j, the other three quarters follow from those that meet i, and
    j, and from all: no tree is ever looked at alone.
    """
    weight = met.astype(float)
    quarters = np.full((4, len(met), len(met)), -np.inf)
    for column in goodness.T:
        np.maximum(quarters, _quarters(weight, column), out=quarters)
    counts = _quarters(weight, np.ones(met.shape[1]))
    halves = []
    for first, second in ((0, 1), (2, 3)):
        fits = np.minimum(counts[first], counts[second]) >= fewest
        halves.append(np.where(fits, quarters[first] + quarters[second], -np.inf).max(axis=1))
    return np.array(halves)


def _quarters(weight: Array, values: Array) -> Array:
    """Totals of values (n,) over rows that meet both of two questions, the first only, the second only, or neither.

    Shape (4, c, c), by the first question and the second.
    """
    both = (weight * values) @ weight.T
    own, everything = weight @ values, values.sum()
    first, second = own[:, None], own[None, :]
    return np.stack([both, first - both, second - both, everything - first - second + both])
