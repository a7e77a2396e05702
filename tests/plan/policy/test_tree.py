"""Policy trees: exact search against brute force, rules that are there are found, and none is believed that is not."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from careloop import InputError
from careloop.evaluate import to_json
from careloop.features.recipe import Column
from careloop.plan.effect.doubly_robust import Scores, estimate_effect
from careloop.plan.effect.goals import MeasureGoalData
from careloop.plan.effect.nuisance import subject_folds
from careloop.plan.policy.splits import Question, TreeFeatures, in_words, questions_of, useful_questions
from careloop.plan.policy.tree import Leaf, PolicyTree, learn_tree, options_of, tree_in_words
from careloop.plan.policy.tree_search import assigned, best_tree

OPTIONS = ("a", "b", "c")


def _brute_force(met: np.ndarray, goodness: np.ndarray, depth: int, fewest: int) -> float:
    """Highest total of all trees of at most this depth, each looked at."""
    best = goodness.sum(axis=0).max()
    if depth == 0:
        return best
    for inside in met:
        if min(inside.sum(), (~inside).sum()) >= fewest:
            sides = (_brute_force(met[:, rows], goodness[rows], depth - 1, fewest) for rows in (inside, ~inside))
            best = max(best, sum(sides))
    return best


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), depth=st.integers(0, 2), options=st.integers(2, 4), fewest=st.integers(1, 8))
def test_search_is_exact_to_depth_2(seed: int, depth: int, options: int, fewest: int) -> None:
    random = np.random.default_rng(seed)
    met = random.random((7, 40)) < random.uniform(0.1, 0.9, (7, 1))
    goodness = random.normal(size=(40, options))
    tree = best_tree(met, goodness, depth=depth, fewest=fewest)
    total = goodness[np.arange(40), assigned(tree, met)].sum()
    assert total == pytest.approx(_brute_force(met, goodness, depth, fewest))


def test_depth_3_is_at_least_as_good_as_depth_2_and_depth_2_finds_what_one_split_cannot() -> None:
    """Exclusive or: no first split gains anything alone."""
    random = np.random.default_rng(0)
    met = random.random((6, 400)) < 0.5
    goodness = np.column_stack([np.zeros(400), np.where(met[1] ^ met[4], 1.0, -1.0)])
    tree = best_tree(met, goodness, depth=2, fewest=20)
    np.testing.assert_array_equal(assigned(tree, met), (met[1] ^ met[4]).astype(int))
    noisy = random.normal(size=(400, 3))
    totals = [noisy[np.arange(400), assigned(best_tree(met, noisy, depth=d, fewest=5), met)].sum() for d in range(4)]
    assert totals == sorted(totals)


def _trial(seed: int, n: int, *, interaction: float):
    """Scores with noise of SD 2: b suits patients under 40 with a count below 300, a all others."""
    random = np.random.default_rng(seed)
    age, count = random.uniform(20, 80, n), random.uniform(100, 600, n)
    values = np.column_stack([age, count, random.integers(0, 2, n), random.normal(size=n)])
    suits = (age < 40) & (count < 300)
    truth = np.column_stack([np.zeros(n), np.where(suits, interaction, -0.5), np.full(n, -1.0)])
    value = truth + random.normal(scale=2, size=(n, 3))
    arm = random.integers(0, 3, n)
    scores = Scores(value, truth, np.full((n, 3), 1 / 3), value[np.arange(n), arm], arm, np.arange(n))
    effect = estimate_effect(scores, MeasureGoalData("score", scores.completed, "higher"), OPTIONS, reference="a")
    features = TreeFeatures(values, ("age", "count", "male", "other"))
    return scores, features, effect, suits


def _learn(seed: int, n: int, *, interaction: float, depth: int = 2, **changes: object):
    scores, features, effect, suits = _trial(seed, n, interaction=interaction)
    given = {"effect": effect, "allowed": np.ones((n, 3), bool), "fold": subject_folds(scores.subjects, 5, 0)}
    return learn_tree(scores, features, depth=depth, **(given | changes)), features, suits


def test_a_rule_that_is_there_is_found_in_round_numbers_and_shown_to_be_better() -> None:
    tree, features, suits = _learn(0, 3000, interaction=2.0)
    assert tree.best == "a"
    assert tree.shown_better
    assert tree.gain.low < 2.0 * suits.mean() < tree.gain.high + 0.05
    given = np.array(options_of(tree, features))
    assert ((given == "b") == suits).mean() > 0.97
    rule = next(rule for rule in tree.rules if rule.option == "b")
    assert rule.words == f"{' and '.join(rule.conditions)}: b ({rule.share:.0%} of patients)"
    assert {condition.split()[0] for condition in rule.conditions} == {"age", "count"}
    assert sum(rule.patients for rule in tree.rules) == 3000
    assert "This rule is shown to be better than a for everybody" in tree_in_words(tree)
    content = json.loads(json.dumps(to_json(tree)))
    assert TypeAdapter(PolicyTree).validate_python(content) == tree


def test_a_lower_value_may_be_better() -> None:
    scores, features, effect, suits = _trial(0, 3000, interaction=2.0)
    lower = replace(scores, value=-scores.value)
    tree = learn_tree(
        lower,
        features,
        effect=replace(effect, better="lower"),
        allowed=np.ones((3000, 3), bool),
        fold=subject_folds(scores.subjects, 5, 0),
    )
    assert tree.shown_better
    assert ((np.array(options_of(tree, features)) == "b") == suits).mean() > 0.97


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_without_a_rule_none_is_shown_to_be_better(depth: int) -> None:
    """40 trials without interaction: a lower limit above zero by chance in 2.5 % at most."""
    trees = [_learn(seed, 400, interaction=-0.5, depth=depth)[0] for seed in range(40)]
    assert sum(tree.shown_better for tree in trees) <= 2
    assert np.mean([tree.gain.value for tree in trees]) < 0
    unshown = [tree for tree in trees if not isinstance(tree.root, Leaf) and not tree.shown_better]
    assert all("not shown to be better" in tree_in_words(tree) for tree in unshown)
    assert unshown or depth == 1


def test_a_tree_that_says_nothing_says_so() -> None:
    trees = (_learn(seed, 400, interaction=-0.5)[0] for seed in range(40))
    tree = next(tree for tree in trees if isinstance(tree.root, Leaf))
    assert tree.rules[0].words == f"everybody: {tree.best} (100% of patients)"
    assert tree_in_words(tree) == (
        f"No rule by patient was found that does clearly better than {tree.best} for everybody."
    )


def test_the_value_of_a_tree_is_not_that_of_its_own_rows() -> None:
    """In the rows it was learned on, a tree of noise gains; on others it does not."""
    scores, features, _, _ = _trial(3, 400, interaction=-0.5)
    goodness = scores.value[:, :2]
    _, met = useful_questions(features, goodness)
    given = assigned(best_tree(met, goodness, depth=2, fewest=20), met)
    own = goodness[np.arange(400), given].mean() - goodness.mean(axis=0).max()
    tree = _learn(3, 400, interaction=-0.5)[0]
    assert own > 0.05
    assert tree.gain.value <= 0


def test_options_that_are_not_allowed_are_not_given() -> None:
    allowed = np.ones((3000, 3), bool)
    allowed[:, 1] = False
    assert "b" not in {rule.option for rule in _learn(0, 3000, interaction=2.0, allowed=allowed)[0].rules}
    allowed[:, 2] = False
    assert _learn(0, 3000, interaction=2.0, allowed=allowed)[0] is None


def test_a_depth_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(InputError, match="depth of 1 to 3"):
        _learn(0, 300, interaction=0.0, depth=4)


def test_questions_are_in_round_numbers_and_missing_values_may_go_either_way() -> None:
    random = np.random.default_rng(0)
    count = random.normal(347, 118, 1000)
    assert all(question.below % 10 == 0 for question in questions_of(count, 0))
    sodium = random.normal(140, 3, 1000)
    assert len({question.below for question in questions_of(sodium, 0)}) > 8
    assert [question.below for question in questions_of(random.integers(0, 2, 50).astype(float), 0)] == [0.5]
    assert questions_of(np.ones(50), 0) == []
    count[::7] = np.nan
    questions = questions_of(count, 0)
    assert {question.with_missing for question in questions} == {False, True}
    for question in questions:
        met = question.met(count)
        assert met[np.isnan(count)].all() == question.with_missing
        np.testing.assert_array_equal(met[~np.isnan(count)], count[~np.isnan(count)] < question.below)


def test_sparse_features_are_asked_as_dense_ones() -> None:
    from scipy.sparse import csr_matrix

    scores, features, _, _ = _trial(0, 300, interaction=2.0)
    dense, sparse = (
        useful_questions(TreeFeatures(values, features.names), scores.value)
        for values in (features.values, csr_matrix(features.values))
    )
    assert dense[0] == sparse[0]
    np.testing.assert_array_equal(dense[1], sparse[1])


def test_of_many_features_those_are_asked_that_do_most_alone() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(500, 80))
    goodness = np.column_stack([np.zeros(500), np.where(values[:, 70] < 0, 2.0, -2.0) + random.normal(size=500)])
    questions, met = useful_questions(TreeFeatures(values, tuple(map(str, range(80)))), goodness)
    assert len(questions) <= 500
    assert met.shape == (len(questions), 500)
    assert 70 in {question.feature for question in questions}


def test_conditions_have_the_recipes_words_and_units() -> None:
    columns = {
        "LAB//CD4|all|last": Column(
            "LAB//CD4|all|last", "value", "LAB//CD4", "last", unit="cells/uL", description="CD4"
        ),
        "male": Column("male", "static_category", "SEX", "category", category="male", description="sex"),
    }
    values = np.array([[200.0, 0.0], [np.nan, 1.0], [400.0, 1.0]])
    features = TreeFeatures(values, tuple(columns), columns)
    assert in_words(Question(0, 300.0, True), features) == (
        "CD4 below 300 cells/uL or not known",
        "CD4 at least 300 cells/uL",
    )
    assert in_words(Question(0, 300.0, False), features)[1] == "CD4 at least 300 cells/uL or not known"
    plain = TreeFeatures(values, ("cd4", "male"))
    assert in_words(Question(1, 0.5, False), plain) == ("male: no", "male: yes")
    assert in_words(Question(1, 0.5, False), features) == ("sex male: no", "sex male: yes")
