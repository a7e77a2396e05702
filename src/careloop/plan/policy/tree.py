"""A rule that a clinician can read: a policy tree of depth 1 to 3 learned on doubly robust scores, and what it is worth.

The tree maximises the mean score of the options that it assigns (Athey & Wager 2021, Econometrica 89:133), over all
trees of round-numbered questions to depth 2, at depth 3 with each split looking two ahead (exact and hybrid search of
R's policytree: Sverdrup et al. 2020, JOSS 5:2232). Splits that do not do clearly better than one option for the same
patients are taken back. What the tree is worth is the gain over the best single option of trees learned without each
fold's rows; it is shown to be better only if the lower limit of that gain's 95 % interval is above zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from careloop import InputError
from careloop.evaluate import Estimate
from careloop.plan.effect.doubly_robust import GoalEffect, Scores, mean_estimate
from careloop.plan.effect.goals import Array
from careloop.plan.policy.choose import best_first, improvement, value_gain
from careloop.plan.policy.splits import Question, TreeFeatures, in_words, useful_questions
from careloop.plan.policy.tree_search import Assigned, Branch, Found, assigned, best_tree

DEEPEST = 3
SMALLEST_LEAF = 0.05  # share of rows; a rule for fewer is not worth reading
FEWEST_IN_LEAF = 20


@dataclass(frozen=True)
class Leaf:
    """An option for `patients` patients, who are this share of the rows."""

    option: str
    patients: int
    share: float


@dataclass(frozen=True)
class Split:
    """Rows with `feature` below `below` (a missing value counts as below where `with_missing`) go to `met`."""

    feature: str
    below: float
    with_missing: bool
    condition: str
    opposite: str
    met: Node
    unmet: Node


Node: TypeAlias = Leaf | Split


@dataclass(frozen=True)
class Rule:
    """One way through the tree: all conditions hold, so this option."""

    conditions: tuple[str, ...]
    option: str
    patients: int
    share: float
    words: str


@dataclass(frozen=True)
class PolicyTree:
    """The tree, its rules in the order in which they are read, and what it is worth.

    `gain` is the cross-fitted improvement over giving everybody `best` (positive is better), `departing` the share of
    patients whom those trees give another option, `shown_better` whether the gain's lower limit is above zero.
    """

    goal: str
    best: str
    root: Node
    rules: tuple[Rule, ...]
    gain: Estimate
    departing: float
    shown_better: bool


def learn_tree(
    scores: Scores,
    features: TreeFeatures,
    *,
    effect: GoalEffect,
    allowed: Array,
    fold: Array,
    depth: int = 2,
) -> PolicyTree | None:
    """Learn a tree from rows with features (n, p), options `allowed` (n, K) and folds (n,), and value it by folds.

    None where fewer than two options are usable. Raises InputError for a depth that is not 1, 2 or 3.
    """
    if not 1 <= depth <= DEEPEST:
        raise InputError(f"a policy tree has a depth of 1 to {DEEPEST}, so that it can be read; got {depth}")
    order = best_first(scores, effect, np.any(allowed, axis=0))
    if len(order) < 2:
        return None
    names = [option.option for option in effect.options]
    problem = Problem(_goodness(scores, effect, allowed, order[0]), order, scores.subjects, features)
    chosen = np.empty(len(fold), dtype=int)
    for k in range(fold.max() + 1):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        chosen[test] = _learned(problem.take(train), depth)[1].give(features.take(test))
    chosen = np.where(allowed[np.arange(len(chosen)), chosen], chosen, order[0])
    gain = value_gain(scores, chosen, np.full(len(chosen), order[0]), better=effect.better)
    return ...
