"""Values of repeated decisions against exact ones of a simulated MDP; what was never seen is bounded or refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from careloop import InputError
from careloop.plan.policy.repeated.episodes import Episodes, episodes_of, logged_probabilities, within
from careloop.plan.policy.repeated.fitted_q import Logged, fitted_q, unseen_share, visit_ratio, worst_and_best
from careloop.plan.policy.repeated.value import DECIDES, ESTIMATORS, FITTED_Q, Trajectories, value_of_repeated

STATES, ACTIONS = 8, 3


@dataclass(frozen=True)
class Simulated:
    """An MDP whose episodes end with a chance of 0.25 a step; rewards are 0 or 1 with chance `reward` (S, A)."""

    transitions: np.ndarray
    reward: np.ndarray
    behaviour: np.ndarray

    def exact(self, policy: np.ndarray, discount: float = 1.0) -> float:
        chain = 0.75 * discount * np.einsum("sa,sat->st", policy, self.transitions)
        return float(np.linalg.solve(np.eye(STATES) - chain, (policy * self.reward).sum(axis=1)).mean())

    def episodes(self, count: int, seed: int) -> Episodes:
        random = np.random.default_rng(seed)
        number, state = np.arange(count), random.integers(STATES, size=count)
        rows = []
        while len(number):
            action = _drawn(self.behaviour[state], random)
            reward = random.random(len(number)) < self.reward[state, action]
            rows.append((number, state, action, reward.astype(float)))
            goes_on = random.random(len(number)) >= 0.25
            after = _drawn(self.transitions[state, action], random)
            number, state = number[goes_on], after[goes_on]
        columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
        order = np.argsort(columns[0], kind="stable")
        return episodes_of(*(column[order] for column in columns), states=STATES, actions=ACTIONS)


def _drawn(chances: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One of the columns for each row of chances (n, c)."""
    drawn = (random.random((len(chances), 1)) > chances.cumsum(axis=1)).sum(axis=1)
    return np.minimum(drawn, chances.shape[1] - 1)


@pytest.fixture(scope="module")
def mdp() -> Simulated:
    random = np.random.default_rng(0)
    return Simulated(
        transitions=random.dirichlet(np.full(STATES, 0.4), size=(STATES, ACTIONS)),
        reward=random.uniform(0, 0.4, size=(STATES, ACTIONS)),
        behaviour=random.dirichlet(np.full(ACTIONS, 5.0), size=STATES),
    )


@pytest.fixture(scope="module")
def log(mdp: Simulated) -> Episodes:
    return mdp.episodes(3000, 1)


@pytest.fixture(scope="module")
def target(mdp: Simulated) -> np.ndarray:
    """Near what acted."""
    return 0.7 * mdp.behaviour + 0.3 * np.eye(ACTIONS)[np.arange(STATES) % ACTIONS]


@pytest.mark.parametrize("discount", [1.0, 0.9])
@pytest.mark.parametrize("known", [True, False])
def test_every_estimator_finds_the_exact_value(
    mdp: Simulated, log: Episodes, target: np.ndarray, discount: float, known: bool
) -> None:
    truth = mdp.exact(target, discount)
    behaviour = mdp.behaviour if known else None
    found = value_of_repeated(log, target, behaviour=behaviour, discount=discount, resamples=60)
    assert found.reason is None
    assert set(found.by_estimator) == {*ESTIMATORS, FITTED_Q}
    for estimate in found.by_estimator.values():
        error = (estimate.high - estimate.low) / 3.92
        assert abs(estimate.value - truth) < 3.5 * error
        assert error < 0.12 * truth
    assert found.value == found.by_estimator[DECIDES]
    decides, plain = found.value, found.by_estimator["importance sampling"]
    assert decides.high - decides.low < plain.high - plain.low


def test_the_policy_that_acted_has_the_mean_return_and_everybody_followed_it(log: Episodes) -> None:
    found = value_of_repeated(log, within(logged_probabilities(log), logged_probabilities(log)), resamples=40)
    assert found.effective_sample == pytest.approx(log.count)
    assert found.logged.value == pytest.approx(log.reward.sum() / log.count)
    for name in list(ESTIMATORS)[:4]:
        assert found.by_estimator[name].value == pytest.approx(found.logged.value)
    assert found.gain.low < 0 < found.gain.high
    assert abs(found.gain.value) < 0.03 * found.logged.value


def _by_loops(log: Episodes, tables: Trajectories) -> dict[str, float]:
    """The formulas of Thomas & Brunskill (2016), one term at a time."""
    n, longest = tables.reward.shape
    step_total = [sum(tables.weight[i, t] for i in range(n)) for t in range(longest)]
    plain = weighted = robust = weighted_robust = 0.0
    for i in range(n):
        for t in range(longest):
            now, discount = tables.weight[i, t], tables.discount[t]
            earlier = tables.weight[i, t - 1] if t else 1.0
            share = earlier / (step_total[t - 1] if t else n)
            plain += discount * now * tables.reward[i, t] / n
            weighted += discount * now / step_total[t] * tables.reward[i, t]
            robust += discount * (now * (tables.reward[i, t] - tables.pair[i, t]) + earlier * tables.state[i, t]) / n
            weighted_robust += discount * now / step_total[t] * (tables.reward[i, t] - tables.pair[i, t])
            weighted_robust += discount * share * tables.state[i, t]
    return {
        "per-decision importance sampling": plain,
        "self-normalised per decision": weighted,
        "doubly robust": robust,
        "weighted doubly robust": weighted_robust,
    }


def test_formulas_are_those_of_the_papers_term_by_term(mdp: Simulated) -> None:
    random = np.random.default_rng(2)
    log = mdp.episodes(6, 3)
    shape = log.by_step(log.reward).shape
    over = log.by_step(np.zeros(len(log.reward)), after=1.0) > 0
    ratio = np.where(over, 1.0, random.uniform(0.5, 1.5, shape))
    weight = np.cumprod(ratio, axis=1)
    pair, state = (np.where(over, 0.0, random.normal(size=shape)) for _ in range(2))
    before = np.hstack([np.ones((6, 1)), weight[:, :-1]])
    discount = 0.9 ** np.arange(shape[1])
    tables = Trajectories(weight, before, weight, log.by_step(log.reward), pair, pair, state, discount)
    for name, value in _by_loops(log, tables).items():
        assert ESTIMATORS[name](tables, np.ones((1, 6)))[0] == pytest.approx(value)


def test_fitted_q_solves_the_logged_mdp(log: Episodes, target: np.ndarray) -> None:
    """Against a dense solution of the equations of the counted transitions."""
    counts, reward = np.zeros((STATES, ACTIONS)), np.zeros((STATES, ACTIONS))
    nexts = np.zeros((STATES, ACTIONS, STATES))
    for row in range(len(log.state)):
        pair = log.state[row], log.action[row]
        counts[pair] += 1
        reward[pair] += log.reward[row]
        if not log.last[row]:
            nexts[(*pair, log.state[row + 1])] += 1
    mean, chance = reward / counts, nexts / counts[..., None]
    chain = 0.9 * np.einsum("sa,sat->st", target, chance)
    values = np.linalg.solve(np.eye(STATES) - chain, (target * mean).sum(axis=1))
    logged = Logged(log, np.ones(len(log.state)), 0.9)
    found = fitted_q(logged, target)
    np.testing.assert_allclose(found.state, values, atol=1e-7)
    np.testing.assert_allclose(found.pair, mean + 0.9 * chance @ values, atol=1e-7)
    start = np.bincount(log.state[log.step == 0], minlength=STATES) / log.count
    visits = np.linalg.solve((np.eye(STATES) - chain).T, start)
    came = np.bincount(log.state, weights=0.9**log.step, minlength=STATES) / log.count
    np.testing.assert_allclose(visit_ratio(logged, target), visits / came, atol=1e-6)


@pytest.fixture(scope="module")
def blind(mdp: Simulated) -> tuple[Simulated, Episodes, np.ndarray]:
    """In states 0 and 1 action 2 is never taken; there it is worth more than all else, and the target wants it."""
    behaviour = mdp.behaviour.copy()
    behaviour[:2, 2] = 0
    behaviour /= behaviour.sum(axis=1, keepdims=True)
    reward = mdp.reward.copy()
    reward[:2, 2] = 1.0
    other = Simulated(mdp.transitions, reward, behaviour)
    return other, other.episodes(2000, 4), np.array([0.0, 0.0, 1.0])


def _mixed(other: Simulated, wanted: np.ndarray, share: float) -> np.ndarray:
    policy = other.behaviour.copy()
    policy[:2] = (1 - share) * policy[:2] + share * wanted
    return policy


@pytest.mark.parametrize("known", [True, False])
def test_pairs_never_seen_are_bounded_and_never_counted_as_zero(blind: tuple, known: bool) -> None:
    other, log, wanted = blind
    behaviour = other.behaviour if known else None
    target = _mixed(other, wanted, 0.1)
    truth, most = other.exact(target), 8.0
    found = value_of_repeated(log, target, behaviour=behaviour, return_range=(0.0, most), resamples=40)
    low, high = found.bounds
    assert 0 < found.unseen.episodes < 0.1
    assert low.value < truth < high.value
    assert found.reason is None
    assert found.value.low < low.low + 0.05 * truth
    assert found.value.high > high.value
    without = value_of_repeated(log, target, behaviour=behaviour, resamples=2)
    assert "without a range of returns" in without.reason
    assert without.value.value is None
    assert without.bounds == ()


def test_much_that_was_never_seen_is_refused_with_bounds(blind: tuple) -> None:
    other, log, wanted = blind
    found = value_of_repeated(log, _mixed(other, wanted, 0.9), return_range=(0.0, 8.0), resamples=20)
    assert found.unseen.episodes > 0.1
    assert "never taken in its state" in found.reason
    assert {estimate.value for estimate in found.by_estimator.values()} == {None}
    assert found.bounds[0].value < other.exact(_mixed(other, wanted, 0.9)) < found.bounds[1].value


def test_unseen_share_is_the_chance_that_an_episode_comes_to_an_unseen_pair(blind: tuple) -> None:
    other, log, wanted = blind
    target = _mixed(other, wanted, 0.2)
    unknown = np.where(other.behaviour == 0, target, 0.0).sum(axis=1)
    share = unseen_share(log, target, unknown)
    chain = 0.75 * np.einsum("sa,sat->st", np.where(other.behaviour > 0, target, 0.0), other.transitions)
    exact = np.linalg.solve(np.eye(STATES) - chain, unknown).mean()
    assert share.episodes == pytest.approx(exact, abs=0.03)
    assert 0 < share.decisions < share.episodes


def test_a_policy_that_few_episodes_followed_is_refused(mdp: Simulated) -> None:
    log = mdp.episodes(150, 6)
    far = np.eye(ACTIONS)[mdp.behaviour.argmin(axis=1)]
    found = value_of_repeated(log, far, behaviour=mdp.behaviour, return_range=(0.0, 8.0), resamples=5)
    assert found.effective_sample < 50
    assert found.reason == (
        f"the logged episodes count as only {found.effective_sample:.0f} that followed the policy "
        "(at least 50 are needed)"
    )
    assert found.value.value is None
    assert found.gain.value is None
    assert found.logged.value is not None


def test_intervals_hold_the_exact_value_about_95_times_in_100(mdp: Simulated, target: np.ndarray) -> None:
    target = (target + mdp.behaviour) / 2
    truth, inside = mdp.exact(target), []
    for seed in range(40):
        found = value_of_repeated(mdp.episodes(400, 100 + seed), target, behaviour=mdp.behaviour, resamples=50)
        assert found.reason is None
        inside.append(found.value.low <= truth <= found.value.high)
    assert np.mean(inside) >= 0.85


def test_worst_is_never_above_best_and_an_endless_policy_is_not_known(log: Episodes) -> None:
    logged = Logged(log, np.ones(len(log.state)), 1.0)
    uniform = np.full((STATES, ACTIONS), 1 / ACTIONS)
    low, high = worst_and_best(logged, uniform, np.full(STATES, 0.1), returns=(0.0, 5.0))
    assert low < high
    # The only logged transition of action 0 leads back to its state: a policy of action 0 never ends by what is known.
    loop = episodes_of(np.array([0, 0, 0]), np.array([0, 0, 1]), np.array([0, 1, 1]), np.ones(3), states=2, actions=2)
    share = unseen_share(loop, np.array([[1.0, 0.0], [0.0, 1.0]]), np.zeros(2))
    assert share.episodes == 1.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"episode": [0, 1, 0]}, "must stand together"),
        ({"state": [0, 1, 5]}, "each state must be from 0 to 1"),
        ({"action": [0, -1, 1]}, "each action must be from 0 to 1"),
        ({"reward": [0.0, np.nan, 1.0]}, "each reward must be a number"),
    ],
)
def test_wrong_episodes_are_named(change: dict, words: str) -> None:
    columns = {"episode": [0, 0, 1], "state": [0, 1, 1], "action": [0, 1, 1], "reward": [0.0, 0.0, 1.0]} | change
    with pytest.raises(InputError, match=words):
        episodes_of(*(np.array(column) for column in columns.values()), states=2, actions=2)


def test_wrong_policies_are_named(log: Episodes, target: np.ndarray) -> None:
    with pytest.raises(InputError, match="the target policy must be probabilities by state and action"):
        value_of_repeated(log, target[:, :2])
    with pytest.raises(InputError, match="sum to 1"):
        value_of_repeated(log, target * 2)
    with pytest.raises(InputError, match="must have a chance of every logged action"):
        value_of_repeated(log, target, behaviour=np.tile([1.0, 0.0, 0.0], (STATES, 1)))


@pytest.fixture(scope="module")
def clusters() -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
    def make(seed: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(seed)
        kind = random.integers(0, 3, 400)
        return kind, kind[:, None] * 5.0 + random.normal(scale=0.3, size=(400, 2))

    return make


def test_features_become_states_by_their_clusters(clusters: Callable) -> None:
    from careloop.plan.policy.repeated.episodes import states_of_features

    kind, features = clusters(0)
    states = states_of_features(features, states=3, seed=0)
    assert [len(set(states[kind == k])) for k in range(3)] == [1, 1, 1]
    assert len(set(states)) == 3
    features[0, 0] = np.nan
    with pytest.raises(InputError, match="must not be missing"):
        states_of_features(features, states=3, seed=0)
