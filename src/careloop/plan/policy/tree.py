"""A rule that a clinician can read: a policy tree of depth 1 to 3 from doubly robust scores, and what it is worth.

The tree maximises the mean score of the options that it assigns (Athey & Wager 2021, Econometrica 89:133), over all
trees of round-numbered questions to depth 2, at depth 3 with each split looking two ahead (exact and hybrid search of
R's policytree: Sverdrup et al. 2020, JOSS 5:2232). Splits that do not do clearly better than a simpler tree are taken
back. What the tree is worth is the gain, over the best single option, of trees learned without each fold's rows; it is
shown to be better only if the lower limit of that gain's 95 % interval is above zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from careloop import InputError
from careloop.evaluate import Estimate
from careloop.plan.effect.doubly_robust import GoalEffect, Scores, mean_estimate
from careloop.plan.effect.goals import Array, Kind
from careloop.plan.policy.choose import best_first, improvement, value_gain
from careloop.plan.policy.splits import Question, TreeFeatures, in_words, useful_questions
from careloop.plan.policy.tree_search import Assigned, Branch, Found, assigned, best_tree
from careloop.plan.words import with_interval

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
    kind: Kind
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

    A row that an option is not allowed for gets the best single option instead. None where fewer than two options are
    usable. Raises InputError for a depth that is not 1, 2 or 3.
    """
    if not 1 <= depth <= DEEPEST:
        raise InputError(f"a policy tree has a depth of 1 to {DEEPEST}, so that it can be read; got {depth}")
    options = best_first(scores, effect, np.any(allowed, axis=0))
    if len(options) < 2:
        return None
    learning = Learning(_goodness(scores, effect, allowed)[:, options], scores.subjects, features)
    chosen = np.empty(len(fold), dtype=int)
    for k in range(fold.max() + 1):
        others = learning.take(np.flatnonzero(fold != k)).tree(depth)
        test = np.flatnonzero(fold == k)
        chosen[test] = np.array(options)[others.give(features.take(test))]
    best = np.full(len(fold), options[0])
    chosen = np.where(allowed[np.arange(len(fold)), chosen], chosen, best)
    gain = value_gain(scores, chosen, best, better=effect.better)
    names = [effect.options[a].option for a in options]
    root = learning.described(learning.tree(depth), names)
    return PolicyTree(
        goal=effect.goal,
        kind=effect.kind,
        best=names[0],
        root=root,
        rules=tuple(_rules(root)),
        gain=gain,
        departing=float((chosen != best).mean()),
        shown_better=gain.low is not None and gain.low > 0,
    )


def _goodness(scores: Scores, effect: GoalEffect, allowed: Array) -> Array:
    """Scores (n, K), positive is better; where an option is not allowed, that of the best single one."""
    best = best_first(scores, effect, np.any(allowed, axis=0))[0]
    goodness = improvement(scores.value, effect.better)
    return np.where(allowed, goodness, goodness[:, [best]])


@dataclass(frozen=True)
class Asked:
    """A tree with the questions that its branches point to."""

    questions: list[Question]
    root: Found

    def give(self, features: TreeFeatures) -> Array:
        """Position (n,) of the option for each row."""
        if isinstance(self.root, Assigned):
            return np.full(features.values.shape[0], self.root.option)
        return assigned(self.root, self.met(features))

    def met(self, features: TreeFeatures) -> Array:
        """Which questions rows meet (c, n)."""
        return np.array([question.met(features.column(question.feature)) for question in self.questions])


@dataclass(frozen=True)
class Learning:
    """Rows to learn from: what each would have under each option (n, K), the first being the best single one."""

    goodness: Array
    subjects: Array
    features: TreeFeatures

    def take(self, rows: Array) -> Learning:
        """Some of the rows."""
        return Learning(self.goodness[rows], self.subjects[rows], self.features.take(rows))

    def tree(self, depth: int) -> Asked:
        """The best tree, without splits that are not clear."""
        questions, met = useful_questions(self.features, self.goodness)
        fewest = max(FEWEST_IN_LEAF, int(np.ceil(SMALLEST_LEAF * len(self.goodness))))
        found = best_tree(met, self.goodness, depth=depth, fewest=fewest)
        return Asked(questions, self._clear(found, met, np.arange(len(self.goodness))))

    def _clear(self, found: Found, met: Array, rows: Array) -> Found:
        """The tree of these rows, with splits taken back, from the last on, that a simpler tree does about as well as.

        Simpler is one option for all rows, or for all what the split gives to one of its sides.
        """
        alone = Assigned(int(self.goodness[rows].sum(axis=0).argmax()))
        if isinstance(found, Assigned):
            return alone
        inside = met[found.question, rows]
        sides = [self._clear(found.met, met, rows[inside]), self._clear(found.unmet, met, rows[~inside])]
        given = self._given(Branch(found.question, *sides), met, rows)
        simpler = [(self._given(tree, met, rows), tree) for tree in (alone, *sides)]
        value, tree = max(simpler, key=lambda each: each[0].sum())
        low = mean_estimate(given - value, self.subjects[rows]).low
        return Branch(found.question, *sides) if low is not None and low > 0 else tree

    def _given(self, tree: Found, met: Array, rows: Array) -> Array:
        """What rows have under the options that a tree gives them."""
        return np.asarray(self.goodness[rows, assigned(tree, met[:, rows])])

    def described(self, tree: Asked, names: list[str]) -> Node:
        """The tree in words and numbers."""
        return self._node(tree.root, tree, names, np.arange(len(self.goodness)))

    def _node(self, found: Found, tree: Asked, names: list[str], rows: Array) -> Node:
        if isinstance(found, Assigned):
            share = len(rows) / len(self.goodness)
            return Leaf(names[found.option], len(np.unique(self.subjects[rows])), share)
        question = tree.questions[found.question]
        inside = question.met(self.features.column(question.feature)[rows])
        condition, opposite = in_words(question, self.features)
        return Split(
            feature=self.features.names[question.feature],
            below=question.below,
            with_missing=question.with_missing,
            condition=condition,
            opposite=opposite,
            met=self._node(found.met, tree, names, rows[inside]),
            unmet=self._node(found.unmet, tree, names, rows[~inside]),
        )


def _rules(node: Node, conditions: tuple[str, ...] = ()) -> Iterator[Rule]:
    """Every way through the tree, those that meet a question first."""
    if isinstance(node, Leaf):
        who = " and ".join(conditions) or "everybody"
        words = f"{who}: {node.option} ({node.share:.0%} of patients)"
        yield Rule(conditions, node.option, node.patients, node.share, words)
        return
    yield from _rules(node.met, (*conditions, node.condition))
    yield from _rules(node.unmet, (*conditions, node.opposite))


def tree_in_words(tree: PolicyTree) -> str:
    """The rules, one a line, and whether they are shown to be better than the best single option."""
    if isinstance(tree.root, Leaf):
        return f"No rule by patient was found that does clearly better than {tree.best} for everybody."
    shown = "shown to be better" if tree.shown_better else "not shown to be better"
    low = "above" if tree.shown_better else "not above"
    verdict = (
        f"This rule is {shown} than {tree.best} for everybody: its gain, by rules learned on other patients, is "
        f"{with_interval(tree.gain, tree.kind)}, the lower limit {low} zero."
    )
    return "\n".join([*(rule.words for rule in tree.rules), verdict])


def options_of(tree: PolicyTree, features: TreeFeatures) -> list[str]:
    """The option that the tree gives to each row."""
    return list(_given(tree.root, features))


def _given(node: Node, features: TreeFeatures) -> Array:
    rows = features.values.shape[0]
    if isinstance(node, Leaf):
        return np.full(rows, node.option, dtype=object)
    feature = features.names.index(node.feature)
    met = Question(feature, node.below, node.with_missing).met(features.column(feature))
    return np.where(met, _given(node.met, features), _given(node.unmet, features))
