"""Value of a policy for repeated decisions from logged episodes, or why it cannot be told.

Importance sampling of whole trajectories and per decision (Precup, Sutton & Singh 2000, ICML), each also normalised by
its weights; doubly robust with fitted Q evaluation of other episodes (Jiang & Li 2016, ICML), also weighted (Thomas &
Brunskill 2016, ICML, section 5) and by visits, where a decision counts by how much more often the policy comes to it
instead of by all that led to it (Kallus & Uehara 2020, JMLR 21:167): this one is the most precise and decides; fitted Q
evaluation itself. Intervals are bootstrapped by episode.

Two things are never passed over. A policy that differs much from the one that acted is followed by few of the logged
episodes: under an effective sample size of 50 no value is given (Gottesman et al. 2019, Nature Medicine 25:16). And
what follows an action that is never taken in a state is not known: importance sampling would count it as zero. Here the
share of the policy's episodes that come to one is reported; the value is that of the policy held to actions that are
taken, its interval is widened by what the others could add or take away, and above 10 % of episodes, or where the range
of returns is not given, no value is given. An action is never taken where the policy that acted, if it is known, has no
chance of it; where that is estimated, if it was never logged.

Assumption: the states hold all reasons for which actions were chosen, and all of the past that bears on what follows.
The latter is not needed by importance sampling and the first two doubly robust values, which therefore stand beside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from careloop import InputError
from careloop.evaluate import Estimate
from careloop.evaluate.estimate import PERCENTILES, draw_counts
from careloop.plan.effect.diagnostics.balance import effective_sample
from careloop.plan.effect.goals import Array
from careloop.plan.effect.nuisance import subject_folds
from careloop.plan.policy.off_policy import SMALLEST_EFFECTIVE_SAMPLE
from careloop.plan.policy.repeated.episodes import (
    Episodes,
    check_policy,
    logged_probabilities,
    outside,
    within,
)
from careloop.plan.policy.repeated.fitted_q import Logged, Unseen, fitted_q, unseen_share, visit_ratio, worst_and_best

MOST_UNSEEN_EPISODES = 0.1  # as MOST_WITHOUT_OVERLAP, for episodes
DECIDES, FITTED_Q = "doubly robust by visits", "fitted Q evaluation"
FOLDS = 5
MODEL_RESAMPLES = 100  # for fitted Q evaluation and bounds, which are solved anew in each
NEGLIGIBLE = 1e-6  # of a share found by steps that end with a tolerance


@dataclass(frozen=True)
class RepeatedValue:
    """Mean return of a policy, in the unit of the rewards.

    `value` is the one that decides, `by_estimator` has all; where `reason` says why, none of them is given. `logged` is
    the mean return of the logged episodes, `gain` the value minus that, paired. `effective_sample` is how many equally
    weighted episodes followed the policy to their end, `unseen` how much of it is never seen; `bounds` are the values
    if that led to the worst and to the best, empty without a range of returns.
    """

    value: Estimate
    logged: Estimate
    gain: Estimate
    by_estimator: dict[str, Estimate]
    episodes: int
    effective_sample: float
    unseen: Unseen
    bounds: tuple[Estimate, ...]
    reason: str | None


@dataclass(frozen=True)
class Question:
    """A target policy (states, actions), and the logged episodes and the policy that acted there to answer from."""

    episodes: Episodes
    target: Array
    acted: Array
    discount: float
    return_range: tuple[float, float] | None

    @property
    def unknown(self) -> Array:
        """Chance (states,) that the target policy takes an action that is never taken in the state."""
        return outside(self.target, self.acted)

    @property
    def followed(self) -> float:
        """How many equally weighted episodes followed the target policy to their end."""
        taken = self.episodes.state, self.episodes.action
        ratio = self.episodes.by_step(self.target[taken] / self.acted[taken], after=1.0)
        return effective_sample(ratio.prod(axis=1))


def value_of_repeated(
    episodes: Episodes,
    target: Array,
    *,
    behaviour: Array | None = None,
    discount: float = 1.0,
    return_range: tuple[float, float] | None = None,
    resamples: int = 500,
) -> RepeatedValue:
    """Value of the target policy (states, actions) from logged episodes, or the reason why none is given.

    `behaviour` (states, actions) is the policy that acted (default: estimated from what was logged), `return_range` the
    lowest and highest sum of rewards that can follow any decision. Raises InputError where a policy is none, or an
    action was logged that `behaviour` does not take.
    """
    check_policy(target, episodes, what="the target policy")
    acted = logged_probabilities(episodes) if behaviour is None else _checked(behaviour, episodes)
    asked = Question(episodes, target, acted, discount, return_range)
    tables = _tables(asked)
    draws = np.concatenate(list(draw_counts(np.arange(episodes.count), resamples=resamples, seed=0)))
    replicates = {name: estimator(tables, draws) for name, estimator in ESTIMATORS.items()}
    model = _model_values(asked, draws[: MODEL_RESAMPLES + 1])
    replicates[FITTED_Q] = model.held
    logged = draws @ (tables.reward @ tables.discount) / episodes.count
    unseen, effective = unseen_share(episodes, target, asked.unknown), asked.followed
    reason = _why_not(effective, unseen, return_range)
    bounds = () if return_range is None else (_interval(model.worst), _interval(model.best))

    def given(values: Array) -> Estimate:
        return Estimate(None, reason=reason) if reason is not None else _interval(values, *model.slack)

    return RepeatedValue(
        value=given(replicates[DECIDES]),
        logged=_interval(logged),
        gain=given(replicates[DECIDES] - logged),
        by_estimator={name: given(values) for name, values in replicates.items()},
        episodes=episodes.count,
        effective_sample=effective,
        unseen=unseen,
        bounds=bounds,
        reason=reason,
    )


def _checked(behaviour: Array, episodes: Episodes) -> Array:
    check_policy(behaviour, episodes, what="the policy that acted")
    never = int((behaviour[episodes.state, episodes.action] <= 0).sum())
    if never:
        raise InputError(
            f"the policy that acted must have a chance of every logged action, got {never} decisions without; leave "
            "`behaviour` out to estimate it"
        )
    return behaviour


def _why_not(effective: float, unseen: Unseen, return_range: tuple[float, float] | None) -> str | None:
    """Why no value is given, or None."""
    if effective < SMALLEST_EFFECTIVE_SAMPLE:
        return (
            f"the logged episodes count as only {effective:.0f} that followed the policy "
            f"(at least {SMALLEST_EFFECTIVE_SAMPLE:.0f} are needed)"
        )
    unknown = f"{unseen.episodes:.1%} of the policy's episodes come to an action never taken in its state, or never end"
    if unseen.episodes > MOST_UNSEEN_EPISODES:
        return f"{unknown} (at most {MOST_UNSEEN_EPISODES:.0%} may)"
    if unseen.episodes > NEGLIGIBLE and return_range is None:
        return f"{unknown}, and without a range of returns what follows cannot be bounded"
    return None


@dataclass(frozen=True)
class Trajectories:
    """Episodes as tables (episodes, longest): products of weights up to a step and before it, rewards, Q and V.

    Past an episode's end its weight stays and all else is 0: a step's weights are normalised over all episodes.
    `visits` are weights of single decisions instead of what led to them, `gone_on` the reward with V of the next state.
    """

    weight: Array
    before: Array
    visits: Array
    reward: Array
    gone_on: Array
    pair: Array
    state: Array
    discount: Array  # (longest,)


def _tables(asked: Question) -> Trajectories:
    """Weights of the target held to actions that are taken, with Q, V and visits from other episodes."""
    episodes, discount, held = asked.episodes, asked.discount, within(asked.target, asked.acted)
    ratio = held[episodes.state, episodes.action] / asked.acted[episodes.state, episodes.action]
    weight = np.cumprod(episodes.by_step(ratio, after=1.0), axis=1)
    pair, state, after, visits = _cross_fitted(episodes, held, discount)
    return Trajectories(
        weight=weight,
        before=np.hstack([np.ones((len(weight), 1)), weight[:, :-1]]),
        visits=episodes.by_step(ratio * visits),
        reward=episodes.by_step(episodes.reward),
        gone_on=episodes.by_step(episodes.reward + discount * after),
        pair=episodes.by_step(pair),
        state=episodes.by_step(state),
        discount=discount ** np.arange(weight.shape[1]),
    )


def _cross_fitted(episodes: Episodes, held: Array, discount: float) -> Array:
    """Each row's Q, V, V of the next state, and visits of the state under the policy for once logged, (4, n).

    All by transitions of other folds' episodes. V is the mean of Q under the policy that the weights are of.
    """
    fold = subject_folds(np.arange(episodes.count), FOLDS, 0)[episodes.episode]
    found = np.zeros((4, len(fold)))
    for k in range(fold.max() + 1):
        rows = np.flatnonzero(fold == k)
        logged = Logged(episodes, (fold != k).astype(float), discount)
        pair = fitted_q(logged, held).pair
        state = (held * pair).sum(axis=1)
        goes_on = rows[~episodes.last[rows]]
        found[0, rows] = pair[episodes.state[rows], episodes.action[rows]]
        found[1, rows] = state[episodes.state[rows]]
        found[2, goes_on] = state[episodes.state[goes_on + 1]]
        found[3, rows] = visit_ratio(logged, held)[episodes.state[rows]]
    return found


def _trajectory(tables: Trajectories, draws: Array) -> Array:
    return draws @ (tables.weight[:, -1] * (tables.reward @ tables.discount)) / draws.sum(axis=1)


def _weighted_trajectory(tables: Trajectories, draws: Array) -> Array:
    weight = tables.weight[:, -1]
    return draws @ (weight * (tables.reward @ tables.discount)) / (draws @ weight)


def _per_decision(tables: Trajectories, draws: Array) -> Array:
    return draws @ ((tables.weight * tables.reward) @ tables.discount) / draws.sum(axis=1)


def _weighted_per_decision(tables: Trajectories, draws: Array) -> Array:
    return (draws @ (tables.weight * tables.reward)) / (draws @ tables.weight) @ tables.discount


def _doubly_robust(tables: Trajectories, draws: Array) -> Array:
    corrected = tables.weight * (tables.reward - tables.pair) + tables.before * tables.state
    return draws @ (corrected @ tables.discount) / draws.sum(axis=1)


def _weighted_doubly_robust(tables: Trajectories, draws: Array) -> Array:
    correction = draws @ (tables.weight * (tables.reward - tables.pair)) / (draws @ tables.weight)
    return (correction + draws @ (tables.before * tables.state) / (draws @ tables.before)) @ tables.discount


def _by_visits(tables: Trajectories, draws: Array) -> Array:
    corrected = (tables.visits * (tables.gone_on - tables.pair)) @ tables.discount + tables.state[:, 0]
    return draws @ corrected / draws.sum(axis=1)


# From tables and how often each episode counts (draws, episodes) to the value in each draw (draws,).
ESTIMATORS: dict[str, Callable[[Trajectories, Array], Array]] = {
    "importance sampling": _trajectory,
    "self-normalised importance sampling": _weighted_trajectory,
    "per-decision importance sampling": _per_decision,
    "self-normalised per decision": _weighted_per_decision,
    "doubly robust": _doubly_robust,
    "weighted doubly robust": _weighted_doubly_robust,
    DECIDES: _by_visits,
}


@dataclass(frozen=True)
class ModelValues:
    """Values (draws,) by fitted Q evaluation: of the policy held to logged pairs, and of itself at worst and best."""

    held: Array
    worst: Array
    best: Array

    @property
    def slack(self) -> tuple[float, float]:
        """By how much actions that are never taken could lower and raise the value; 0 where that is not bounded."""
        if np.isnan(self.worst[0]):
            return 0.0, 0.0
        return max(self.held[0] - self.worst[0], 0.0), max(self.best[0] - self.held[0], 0.0)


def _model_values(asked: Question, draws: Array) -> ModelValues:
    values = np.full((len(draws), 3), np.nan)
    for draw, count in zip(values, draws, strict=True):
        logged = Logged(asked.episodes, count[asked.episodes.episode], asked.discount)
        draw[0] = logged.at_start(fitted_q(logged, asked.target).state)
        if asked.return_range is not None:
            draw[1:] = worst_and_best(logged, asked.target, asked.unknown, returns=asked.return_range)
    return ModelValues(*values.T)


def _interval(replicates: Array, below: float = 0.0, above: float = 0.0) -> Estimate:
    """Value (the first) with the percentile interval of the others, widened on either side."""
    low, high = np.percentile(replicates[1:], PERCENTILES)
    return Estimate(float(replicates[0]), float(low) - below, float(high) + above)
