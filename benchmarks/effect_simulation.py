"""Effects where the truth is known: bias, coverage of 95 % intervals, their width beside an oracle's, and abstaining.

Run: python benchmarks/effect_simulation.py [--repetitions 200] [--patients 1500] [--seed 1] [--workers 2]
                                            [--settings observed competing ...]

Simulated patients: six covariates; who gets the drug, who is lost to follow-up (also by arm), whose measure is missing,
and how much the drug does all depend on them, partly in bent ways that no fitted line can follow. Goals: risk of the
outcome by day 365, days free of any event until then (RMST), and a measure. Settings: `observed`; `competing` adds a
competing event; `crossing` makes the effect of a covariate fade with time, so that no proportional hazard is right;
`randomised`; `no overlap` gives the drug to one side of a covariate only: there no repetition may end with advice.

Bias is in per cent of the true effect, with its Monte Carlo standard error; `-oracle` is the bias beyond the oracle's
in the same repetitions, `plain` that of the unadjusted difference between the arms. The oracle is the same estimator
with the true propensities, hazards and means put in; `width` and `SD` (of the estimates) are relative to it. `SE/SD` is
the mean standard error over the estimates' own SD; `s` seconds a repetition.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, partial
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl

from careloop.evaluate.calibration import expit
from careloop.features import FeatureMatrix
from careloop.plan import PlanSection, make_plan
from careloop.plan.effect.doubly_robust import (
    Z_95,
    Scores,
    cross_fit,
    cross_fit_propensity,
    estimate_effect,
    score,
)
from careloop.plan.effect.goals import EventGoalData, GoalData, MeasureGoalData, RmstGoalData
from careloop.plan.effect.hazards import Hazard
from careloop.plan.effect.nuisance import KNOWN_FLOOR, fit_design, subject_folds
from careloop.plan.effect.survival import SurvivalModel

HORIZON = 365.0
OPTIONS = ("control", "drug")
SETTINGS = ("observed", "competing", "crossing", "randomised")
NO_OVERLAP = "no overlap"
GOALS = ("risk", "RMST", "measure")
FINE = np.linspace(0.0, HORIZON, 366)[1:]  # jumps of the oracle's hazards
FADE = 365.0  # days after which, in `crossing`, the first covariate acts the other way round

Array = np.ndarray


@dataclass(frozen=True)
class Simulated:
    """Patients (n,) with their goals and what is true of them, (n, 2) under both options."""

    x: Array
    arm: Array
    propensity: Array
    goals: tuple[GoalData, ...]
    mean: Array
    seen: Array


def propensity_of(x: Array, setting: str) -> Array:
    """True P(drug) (n,)."""
    if setting == "randomised":
        return np.full(len(x), 0.5)
    if setting == NO_OVERLAP:
        return np.where(x[:, 0] > 0, 0.995, 0.005)
    return expit(0.6 * x[:, 0] - 0.4 * x[:, 1] + 0.5 * x[:, 5] - 0.25 + 0.3 * (np.abs(x[:, 2]) - 0.8))


def relative_outcome(x: Array, option: int) -> Array:
    """Relative hazard (n,) of the outcome: the drug helps less where x3 is high, and more where x5 is 1."""
    line = 0.5 * x[:, 0] + 0.4 * x[:, 1] + 0.3 * np.abs(x[:, 2]) + 0.3 * x[:, 3]
    return np.asarray(np.exp(line + option * (-0.6 + 0.3 * x[:, 3] - 0.5 * x[:, 5])))


def relative_censoring(x: Array, option: int) -> Array:
    """Relative hazard (n,) of being lost: sicker patients are, and those on the drug for other reasons."""
    return np.asarray(np.exp(0.7 * x[:, 0] - 0.4 * x[:, 4] + option * (0.3 + 0.5 * x[:, 1] - 0.4 * x[:, 0])))


def relative_competing(x: Array, option: int) -> Array:
    """Relative hazard (n,) of the competing event."""
    return np.asarray(np.exp(0.4 * x[:, 1] + 0.3 * x[:, 4] + 0.2 * option))


BASE = {"outcome": 0.0011, "competing": 0.0005, "censoring": 0.0010}


def means_of(x: Array) -> Array:
    """True mean (n, 2) of the measure."""
    base = 8 * x[:, 0] + 5 * x[:, 1] + 4 * np.abs(x[:, 2])
    return np.column_stack([base, base + 6 + 5 * x[:, 3] - 4 * x[:, 5]])


def seen_of(x: Array) -> Array:
    """True probability (n, 2) that the measure is taken."""
    return np.column_stack([expit(1.2 - 0.7 * x[:, 0]), expit(1.0 - 0.3 * x[:, 0] + 0.5 * x[:, 3])])


def covariates_of(n: int, random: np.random.Generator) -> Array:
    """Five normal covariates and a binary one, (n, 6)."""
    return np.column_stack([random.normal(size=(n, 5)), random.random(n) < 0.4])


def outcome_days(x: Array, option: int, setting: str, random: np.random.Generator) -> Array:
    """Days (n,) to the outcome under an option."""
    exposure = random.exponential(size=len(x)) / BASE["outcome"]
    if setting != "crossing":
        return np.asarray(exposure / relative_outcome(x, option))
    # The logarithm of the hazard falls by x0 * 0.8 over FADE days: cumulative hazard inverted in closed form.
    rate = relative_outcome(x, option)
    slope = -0.8 * x[:, 0] / FADE
    inside = 1 + slope * exposure / rate
    with np.errstate(divide="ignore", invalid="ignore"):
        days = np.where(inside > 0, np.log(np.maximum(inside, 1e-300)) / slope, np.inf)
    return np.asarray(days)


def simulate(n: int, setting: str, random: np.random.Generator) -> Simulated:
    """One study of n patients."""
    x = covariates_of(n, random)
    drug = propensity_of(x, setting)
    arm = (random.random(n) < drug).astype(int)
    rows = np.arange(n)
    event = np.column_stack([outcome_days(x, a, setting, random) for a in (0, 1)])[rows, arm]
    lost = np.column_stack([random.exponential(size=n) / BASE["censoring"] / relative_censoring(x, a) for a in (0, 1)])
    other = np.column_stack([random.exponential(size=n) / BASE["competing"] / relative_competing(x, a) for a in (0, 1)])
    competing = other[rows, arm] if setting == "competing" else np.full(n, np.inf)
    censored = np.minimum(lost[rows, arm], 730.0)
    days = np.minimum(np.minimum(event, competing), censored)
    kind = np.where(days == censored, 0, np.where(days == event, 1, 2))
    mean, seen = means_of(x), seen_of(x)
    measured = mean[rows, arm] + random.normal(scale=10, size=n)
    measured[random.random(n) > seen[rows, arm]] = np.nan
    goals = (
        EventGoalData("outcome", days, kind, HORIZON),
        RmstGoalData("days free", days, kind, HORIZON),
        MeasureGoalData("score", measured, "higher"),
    )
    return Simulated(x, arm, np.column_stack([1 - drug, drug]), goals, mean, seen)


@cache
def truth_of(setting: str) -> Array:
    """True effects of the drug (3,): in 4,000,000 patients each of whom is followed under both options."""
    parts = []
    for seed in range(20):
        random = np.random.default_rng([77, seed])
        x = covariates_of(200_000, random)
        values = []
        for option in (0, 1):
            event = outcome_days(x, option, setting, np.random.default_rng([78, seed]))
            other = np.full(len(x), np.inf)
            if setting == "competing":
                draw = np.random.default_rng([79, seed]).exponential(size=len(x))
                other = draw / BASE["competing"] / relative_competing(x, option)
            risk = ((event <= HORIZON) & (event < other)).mean()
            free = np.minimum(np.minimum(event, other), HORIZON).mean()
            values.append([risk, free, means_of(x)[:, option].mean()])
        parts.append(np.subtract(values[1], values[0]))
    return np.asarray(np.mean(parts, axis=0))


def true_model(option: int, setting: str) -> SurvivalModel:
    """The hazards under an option, with constant baselines."""
    rate = {kind: -np.append(0.0, FINE) * base for kind, base in BASE.items()}
    none = Hazard(np.empty(0), np.zeros(1), lambda x: np.ones(len(x)))
    competing = Hazard(FINE, rate["competing"], partial(relative_competing, option=option))
    return SurvivalModel(
        outcome=Hazard(FINE, rate["outcome"], partial(relative_outcome, option=option)),
        competing=competing if setting == "competing" else none,
        censoring=Hazard(FINE, rate["censoring"], partial(relative_censoring, option=option)),
    )


def oracle_scores(data: Simulated, setting: str) -> tuple[Scores, ...]:
    """Scores with the truth in the place of everything fitted (in `crossing`, all but the course of the outcome)."""
    scores = []
    for goal in data.goals:
        expected, completed = data.mean, np.empty(len(data.arm))
        if isinstance(goal, MeasureGoalData):
            own, seen = (part[np.arange(len(data.arm)), data.arm] for part in (data.mean, data.seen))
            completed = own + goal.known / np.maximum(seen, KNOWN_FLOOR) * (goal.value - own)
        else:
            models = [true_model(a, setting) for a in (0, 1)]
            expected = np.column_stack([model.expected(data.x, goal) for model in models])
            for a, model in enumerate(models):
                rows = np.flatnonzero(data.arm == a)
                completed[rows] = model.complete(data.x[rows], goal.take(rows))
        scores.append(
            score(
                data.arm, np.arange(len(data.arm)), expected=expected, propensity=data.propensity, completed=completed
            )
        )
    return tuple(scores)


def estimated_scores(data: Simulated, setting: str) -> tuple[Scores, ...]:
    """Scores by careloop: one fit for risk and days free, one for the measure."""
    subjects = np.arange(len(data.arm))
    design = fit_design(data.x, tuple("abcdef"))
    covariates = design.transform(data.x)
    assignment = "randomised" if setting == "randomised" else "observed"
    fold = subject_folds(subjects, 5, 0)
    propensity = cross_fit_propensity(covariates, data.arm, 2, fold=fold, assignment=assignment)
    risk, days, measure = data.goals
    survival, means = (
        cross_fit(covariates, data.arm, goal, subjects=subjects, propensity=propensity, fold=fold)
        for goal in (risk, measure)
    )
    return survival.score(risk), survival.score(days), means.score(measure)


def one_study(seed: int, *, setting: str, patients: int, base: int) -> Array:
    """Estimate, low, high, plain estimate, oracle's estimate and its width, by goal (3, 6)."""
    data = simulate(patients, setting, np.random.default_rng([base, seed]))
    rows = []
    oracles = oracle_scores(data, setting)
    for goal, scores, oracle in zip(data.goals, estimated_scores(data, setting), oracles, strict=True):
        contrast = estimate_effect(scores, goal, OPTIONS, reference=OPTIONS[0]).contrasts[0]
        ideal = estimate_effect(oracle, goal, OPTIONS, reference=OPTIONS[0]).contrasts[0].adjusted
        mine = contrast.adjusted
        rows.append([mine.value, mine.low, mine.high, contrast.plain.value, ideal.value, ideal.high - ideal.low])
    return np.array(rows, dtype=float)


def one_abstention(seed: int, *, patients: int, base: int) -> tuple[bool, bool]:
    """Whether, without overlap, the check says not usable and the plan advises nobody."""
    data = simulate(patients, NO_OVERLAP, np.random.default_rng([base, seed]))
    event, measure = data.goals[0], data.goals[2]
    assert isinstance(event, EventGoalData)
    keys = pl.DataFrame({"subject_id": np.arange(patients)}).with_columns(
        prediction_time=pl.lit(datetime(2020, 1, 1, tzinfo=UTC)).cast(pl.Datetime("us", "UTC"))
    )
    rows = keys.with_columns(
        split=pl.lit("train"),
        follow_up_days=event.follow_up_days,
        event=event.event.astype(np.int8),
        treatment=pl.Series([OPTIONS[a] for a in data.arm]),
        measure_score=pl.Series(measure.value).set(pl.Series(~measure.known), None),
    )
    matrix = FeatureMatrix(keys, tuple(f"LAB//{i}|all|last" for i in range(data.x.shape[1])), data.x)
    goals: Any = [{"event": "outcome"}, {"measure": "score", "better": "higher"}]
    plan = make_plan(rows, matrix, PlanSection(goals=goals), horizon_days=HORIZON, options=OPTIONS)
    unusable = not any(option.usable for option in plan.balance.options)
    return unusable, plan.policy.decision == "abstain" and not plan.table["recommended"].any()


HEADER = (
    f"{'setting':11s} {'goal':8s} {'truth':>9s} {'bias %':>7s} {'+- MC':>6s} {'-oracle':>7s} {'plain %':>8s} "
    f"{'covered':>8s} {'+- MC':>6s} {'width':>6s} {'SD':>6s} {'SE/SD':>6s} {'s':>6s}"
)


def run(work: Callable[[int], Any], repetitions: int, workers: int) -> list[Any]:
    """The work of every repetition, in processes."""
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(work, range(repetitions), chunksize=5))


def print_setting(setting: str, results: Array, seconds: float) -> None:
    """One line a goal; `results` (r, 3, 6)."""
    r = len(results)
    for place, goal in enumerate(GOALS):
        truth = truth_of(setting)[place]
        value, low, high, plain, ideal, ideal_width = results[:, place].T
        paired = 100 * (value - ideal).mean() / abs(truth)
        bias, error = (value.mean() - truth) / abs(truth), value.std(ddof=1) / np.sqrt(r) / abs(truth)
        covered = ((low <= truth) & (truth <= high)).mean()
        share = np.sqrt(covered * (1 - covered) / r)
        print(
            f"{setting:11s} {goal:8s} {truth:9.4g} {100 * bias:+7.1f} {100 * error:6.1f} {paired:+7.1f} "
            f"{100 * (plain.mean() - truth) / abs(truth):+8.1f} {100 * covered:8.1f} {100 * share:6.1f} "
            f"{(high - low).mean() / ideal_width.mean():6.2f} {value.std() / ideal.std():6.2f} "
            f"{(high - low).mean() / (2 * Z_95) / value.std():6.2f} {seconds / r:6.2f}",
            flush=True,
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--patients", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--settings", nargs="+", default=[*SETTINGS, NO_OVERLAP])
    wanted = parser.parse_args()
    same = {"patients": wanted.patients, "base": wanted.seed}
    print(f"{wanted.repetitions} repetitions of {wanted.patients} simulated patients, seed {wanted.seed}")
    print(HEADER)
    for setting in wanted.settings:
        if setting == NO_OVERLAP:
            continue
        start = perf_counter()
        work = partial(one_study, setting=setting, **same)
        results = np.array(run(work, wanted.repetitions, wanted.workers))
        print_setting(setting, results, perf_counter() - start)
    if NO_OVERLAP in wanted.settings:
        answers = np.array(run(partial(one_abstention, **same), wanted.repetitions, wanted.workers))
        unusable, abstained = answers.sum(axis=0)
        print(f"no overlap: not usable in {unusable} and no advice in {abstained} of {len(answers)} repetitions")


if __name__ == "__main__":
    main()
