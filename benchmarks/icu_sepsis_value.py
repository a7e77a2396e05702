"""ICU-Sepsis: values of treatment policies from logged episodes of the clinicians' policy, beside the exact ones.

Run: python benchmarks/icu_sepsis_value.py --parameters DYNAMICS [--episodes 5000] [--logs 20] [--resamples 100]

ICU-Sepsis 2.0.1 (Choudhary, Gupta & Thomas 2024; MIT) is a simulated MDP of 713 states and 25 actions, estimated from
MIMIC-III; an episode returns 1 if the patient survives. It has an environment of its own (`pip install
icu-sepsis==2.0.1`); DYNAMICS is `icu_sepsis/envs/assets/dynamics.npz` in there, from which episodes are drawn as its
`step` does and exact values are solved. Policies are 90 % and 80 % the clinicians' and the rest the optimal one, and
the optimal one alone. What clinicians do is either known, as in a trial, or estimated from the log; in the latter case
"as logged" policies are mixed with that estimate, as a hospital would have to. First one log is shown in full, then the
errors over all logs.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from careloop.plan.policy.repeated import (
    Episodes,
    RepeatedValue,
    episodes_of,
    logged_probabilities,
    value_of_repeated,
)

SURVIVAL = (0.0, 1.0)


@dataclass(frozen=True)
class Mdp:
    """Transitions (S, A, S), mean rewards (S, A), first states (S,), the clinicians' policy (S, A), `live` states."""

    transitions: np.ndarray
    rewards: np.ndarray
    after: np.ndarray
    first: np.ndarray
    clinicians: np.ndarray
    live: np.ndarray


def load(path: Path) -> Mdp:
    """The package's parameters; terminal states get even shares, which are never used."""
    with np.load(path) as file:
        transitions, after = file["tx_mat"], file["r_mat"]
        clinicians, first = file["expert_policy"].copy(), file["d_0"]
    live = np.arange(713)  # 713 death, 714 survival, 715 the state after them
    clinicians[713:] = 1 / clinicians.shape[1]
    return Mdp(transitions, (transitions * after).sum(axis=2), after, first / first.sum(), clinicians, live)


def exact_value(mdp: Mdp, policy: np.ndarray) -> float:
    """Value of a policy (S, A), by solving the linear equations."""
    live = mdp.live
    chain = np.einsum("sa,sat->st", policy[live], mdp.transitions[live])[:, live]
    values = np.linalg.solve(np.eye(len(live)) - chain, (policy[live] * mdp.rewards[live]).sum(axis=1))
    return float(mdp.first[live] @ values)


def optimal_policy(mdp: Mdp) -> np.ndarray:
    """The best action of those that clinicians take in a state, by value iteration, (S, A)."""
    values = np.zeros(len(mdp.first))
    while True:
        pairs = np.where(mdp.clinicians > 0, mdp.rewards + mdp.transitions @ values, -np.inf)
        pairs[len(mdp.live) :] = 0.0
        if np.abs(pairs.max(axis=1) - values).max() < 1e-12:
            return np.eye(pairs.shape[1])[pairs.argmax(axis=1)]
        values = pairs.max(axis=1)


def draw(mdp: Mdp, episodes: int, seed: int) -> Episodes:
    """Episodes of the clinicians' policy."""
    random = np.random.default_rng(seed)
    actions, nexts = mdp.clinicians.cumsum(axis=1), mdp.transitions.cumsum(axis=2)
    number, state = np.arange(episodes), random.choice(len(mdp.first), size=episodes, p=mdp.first)
    rows = []
    while len(number):
        action = np.minimum((random.random((len(state), 1)) > actions[state]).sum(axis=1), actions.shape[1] - 1)
        after = (random.random((len(state), 1)) > nexts[state, action]).sum(axis=1)
        after = np.minimum(after, len(mdp.first) - 1)
        rows.append((number, state, action, mdp.after[state, action, after]))
        goes_on = after < len(mdp.live)
        number, state = number[goes_on], after[goes_on]
    columns = [np.concatenate(column) for column in zip(*rows, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return episodes_of(*(column[order] for column in columns), states=len(mdp.first), actions=actions.shape[1])


def policies(mdp: Mdp, log: Episodes, best: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """By name: target policy and the policy that acted, None where it is estimated."""
    known, logged = mdp.clinicians, logged_probabilities(log)
    logged = np.where(logged.sum(axis=1, keepdims=True) > 0, logged, known)
    mixed = {
        "clinicians": (1.0, 0.0),
        "90 % clinicians, 10 % optimal": (0.9, 0.1),
        "80 % clinicians, 20 % optimal": (0.8, 0.2),
        "optimal": (0.0, 1.0),
    }
    found: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
    for name, (share, rest) in mixed.items():
        found[f"{name}; known"] = share * known + rest * best, known
        if share < 1:
            found[f"{name.replace('clinicians', 'as logged')}; estimated"] = share * logged + rest * best, None
    return found


def show(name: str, truth: float, found: RepeatedValue) -> None:
    """One log and policy in full."""
    unseen = f"{found.unseen.episodes:.2%} of episodes, {found.unseen.decisions:.3%} of decisions"
    bounds = " to ".join(f"{bound.value:.4f}" for bound in found.bounds)
    print(f"\n{name}: exact {truth:.4f}, mean return as logged {found.logged.value:.4f}")
    print(f"  effective sample {found.effective_sample:.0f} of {found.episodes}; unseen {unseen}; bounds {bounds}")
    if found.reason is not None:
        print(f"  refused: {found.reason}")
        return
    for estimator, value in found.by_estimator.items():
        print(f"  {estimator:38s} {value.value:.4f} [{value.low:.4f}, {value.high:.4f}]")
    print(f"  {'minus the return as logged':38s} {found.gain.value:.4f} [{found.gain.low:.4f}, {found.gain.high:.4f}]")


def summarise(name: str, found: list[tuple[float, RepeatedValue]]) -> None:
    """Errors of one policy over the logs where its value was given."""
    sample = np.mean([value.effective_sample for _, value in found])
    unseen = np.mean([value.unseen.episodes for _, value in found])
    given = [(truth, value) for truth, value in found if value.reason is None]
    print(
        f"\n{name}: effective sample {sample:.0f}, unseen {unseen:.2%}, refused {len(found) - len(given)}/{len(found)}"
    )
    for estimator in given[0][1].by_estimator if given else ():
        values = [value.by_estimator[estimator] for _, value in given]
        truths = np.array([truth for truth, _ in given])
        errors = np.array([value.value for value in values]) - truths
        inside = np.mean([v.low <= truth <= v.high for v, truth in zip(values, truths, strict=True)])
        print(
            f"  {estimator:38s} mean error {errors.mean():+.4f}  mean |error| {np.abs(errors).mean():.4f}  largest "
            f"{np.abs(errors).max():.4f}  within .01 {np.mean(np.abs(errors) <= 0.01):4.0%}  in interval {inside:4.0%}"
        )


def main() -> None:
    """Print exact values, one log in full, and the errors over all logs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=Path, required=True)
    parser.add_argument("--episodes", type=int, default=5000)
    parser.add_argument("--logs", type=int, default=20)
    parser.add_argument("--resamples", type=int, default=100)
    wanted = parser.parse_args()
    mdp = load(wanted.parameters)
    best = optimal_policy(mdp)
    print(f"exact: clinicians {exact_value(mdp, mdp.clinicians):.4f}, optimal {exact_value(mdp, best):.4f}")
    every: dict[str, list[tuple[float, RepeatedValue]]] = {}
    for seed in range(wanted.logs):
        log = draw(mdp, wanted.episodes, seed)
        for name, (target, acted) in policies(mdp, log, best).items():
            truth = exact_value(mdp, target)
            found = value_of_repeated(log, target, behaviour=acted, return_range=SURVIVAL, resamples=wanted.resamples)
            every.setdefault(name, []).append((truth, found))
            if seed == 0:
                show(name, truth, found)
    print(f"\nover {wanted.logs} logs of {wanted.episodes} episodes")
    for name, each in every.items():
        summarise(name, each)


if __name__ == "__main__":
    main()
