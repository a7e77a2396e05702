"""Values of policies from logged choices against simulated truth and closed forms, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.plan.effect.doubly_robust import Scores
from careloop.plan.policy.off_policy import (
    AS_GIVEN,
    CARE_AS_GIVEN,
    compare_policies,
    effective_patients,
    evaluate_policy,
    policy_scores,
    policy_value,
    policy_weights,
)

OPTIONS = ("a", "b", "c")


def _logged(seed: int, n: int, *, model_error: float = 0.0) -> tuple[Scores, np.ndarray, np.ndarray]:
    """Scores of n decisions that depended on x0, the true means (n, 3), and x; the model may be wrong by a constant."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(n, 2))
    truth = np.column_stack([x[:, 0], 1 + 0 * x[:, 0], -x[:, 0] + 0.5 * x[:, 1]])
    odds = np.exp(0.5 * np.column_stack([x[:, 0], np.zeros(n), x[:, 1]]))
    propensity = odds / odds.sum(axis=1, keepdims=True)
    arm = (random.random((n, 1)) > propensity.cumsum(axis=1)).sum(axis=1)
    completed = truth[np.arange(n), arm] + random.normal(size=n)
    expected = truth + model_error
    given = arm[:, None] == np.arange(3)
    value = expected + given / propensity * (completed[:, None] - expected)
    return Scores(value, expected, propensity, completed, arm, np.arange(n)), truth, x


def _policy(x: np.ndarray) -> np.ndarray:
    """The option that is truly best where x1 is 0."""
    return np.where(x[:, 0] > 1, 0, np.where(x[:, 0] < -1, 2, 1))


@pytest.mark.parametrize("model_error", [0.0, 3.0])
def test_every_estimator_finds_the_true_value_also_with_a_wrong_outcome_model(model_error: float) -> None:
    scores, truth, x = _logged(0, 6000, model_error=model_error)
    policy = _policy(x)
    true_value = truth[np.arange(6000), policy].mean()
    found = policy_value(scores, policy, name="rule")
    for estimate in (found.doubly_robust, found.snips, found.ips):
        assert abs(estimate.value - true_value) < 3 * (estimate.high - estimate.low) / 3.92
    assert 1000 < found.effective_sample < 6000


def test_intervals_hold_the_truth_about_95_times_in_100_and_the_model_makes_them_narrower() -> None:
    population = _logged(99, 200_000)
    truth = population[1][np.arange(200_000), _policy(population[2])].mean()
    inside, width = [], []
    for seed in range(150):
        scores, _, x = _logged(seed, 400)
        found = policy_value(scores, _policy(x), name="rule")
        each = (found.doubly_robust, found.snips, found.ips)
        inside.append([estimate.low <= truth <= estimate.high for estimate in each])
        width.append([estimate.high - estimate.low for estimate in each])
    assert (np.mean(inside, axis=0) > 0.9).all()
    robust, snips, ips = np.mean(width, axis=0)
    assert robust < snips < ips


def test_one_option_for_all_in_a_trial_has_its_arms_mean_and_its_standard_error() -> None:
    scores, _, _ = _logged(0, 900)
    shares = np.bincount(scores.arm) / 900
    trial = Scores(
        scores.value, scores.expected, np.tile(shares, (900, 1)), scores.completed, scores.arm, scores.subjects
    )
    found = policy_value(trial, np.full(900, 1), name="b")
    own = trial.completed[trial.arm == 1]
    assert found.ips.value == pytest.approx(own.mean())
    assert found.snips.value == pytest.approx(own.mean())
    assert found.snips.high - found.snips.low == pytest.approx(2 * 1.96 * own.std() / np.sqrt(len(own)), rel=1e-3)
    assert found.effective_sample == pytest.approx(len(own))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000))
def test_choices_are_probabilities_of_0_and_1_and_mixtures_have_mixed_values(seed: int) -> None:
    scores, _, x = _logged(seed, 200)
    policy = _policy(x)
    np.testing.assert_allclose(policy_scores(scores, policy), policy_scores(scores, np.eye(3)[policy]))
    np.testing.assert_allclose(policy_weights(scores, policy), policy_weights(scores, np.eye(3)[policy]))
    even = np.full((200, 3), 1 / 3)
    np.testing.assert_allclose(policy_scores(scores, even), scores.value.mean(axis=1))
    mixed = 0.3 * np.eye(3)[policy] + 0.7 * even
    expected = 0.3 * policy_scores(scores, policy) + 0.7 * policy_scores(scores, even)
    np.testing.assert_allclose(policy_scores(scores, mixed), expected)


def test_a_policy_stands_beside_care_as_given_and_every_option() -> None:
    scores, truth, x = _logged(1, 4000)
    policy = _policy(x)
    values, comparisons = evaluate_policy(scores, policy, name="rule", options=OPTIONS)
    assert [value.policy for value in values] == ["rule", CARE_AS_GIVEN, *OPTIONS]
    assert values[1].doubly_robust.value == pytest.approx(scores.completed.mean())
    assert values[1].effective_sample == 4000
    assert [comparison.against for comparison in comparisons] == [CARE_AS_GIVEN, *OPTIONS]
    rows = np.arange(4000)
    own = truth[rows, policy]
    for comparison, other in zip(comparisons, (truth[rows, scores.arm], *truth.T), strict=True):
        assert comparison.difference.low < (own - other).mean() < comparison.difference.high
    unpaired = np.hypot(*(value.doubly_robust.high - value.doubly_robust.low for value in (values[0], values[3])))
    paired = comparisons[2].difference
    assert paired.high - paired.low < 0.9 * unpaired


def test_a_policy_by_which_few_were_treated_is_refused_with_the_reason() -> None:
    scores, _, _ = _logged(2, 400)
    rare = np.where(scores.arm == 0, 1, 0)  # what was not given
    rare[:40] = scores.arm[:40]
    found = policy_value(scores, rare, name="rare")
    assert found.effective_sample < 50
    expected = f"an effective {found.effective_sample:.0f} patients were treated so, fewer than 50"
    for estimate in (found.doubly_robust, found.snips, found.ips):
        assert (estimate.value, estimate.reason) == (None, expected)
    as_given = np.full(400, AS_GIVEN)
    difference = compare_policies(scores, {"rare": rare, "given": as_given}, policy="given", against="rare").difference
    assert difference.value is None
    assert difference.reason == f"rare: {expected}"


def test_care_as_given_is_seen_however_few_they_are() -> None:
    scores, _, _ = _logged(2, 20)
    assert policy_value(scores, np.full(20, AS_GIVEN), name="given").doubly_robust.value is not None


def test_rows_of_one_patient_count_as_one() -> None:
    weight = np.array([2.0, 2.0, 1.0, 3.0])
    assert effective_patients(weight, np.array([0, 0, 1, 1])) == pytest.approx(2.0)
    scores, _, x = _logged(3, 300)
    twice = Scores(*(np.repeat(part, 2, axis=0) for part in vars(scores).values()))
    once = policy_value(scores, _policy(x), name="rule")
    again = policy_value(twice, np.repeat(_policy(x), 2), name="rule")
    assert again.effective_sample == pytest.approx(once.effective_sample)
    for first, second in ((once.doubly_robust, again.doubly_robust), (once.snips, again.snips), (once.ips, again.ips)):
        assert (second.value, second.low, second.high) == pytest.approx((first.value, first.low, first.high))


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (np.full((5, 3), 0.5), "sum to 1"),
        (np.full((5, 2), 0.5), "probabilities of 3 options"),
        (np.full(5, 3), "choose an option from 0 to 2"),
        (np.zeros(4, dtype=int), "in each of 5 rows"),
    ],
)
def test_what_is_no_policy_is_named(policy: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        policy_value(_logged(0, 5)[0], policy, name="wrong")
