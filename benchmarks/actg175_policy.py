"""ACTG 175: is choosing for each patient better than the best arm for everybody? Prints both, and what careloop does.

Run: python benchmarks/actg175_policy.py [--repeats 10] [--folds 5]

2,139 adults with HIV, randomised to four arms; goal: gain of CD4 cells/uL after 20 weeks, higher is better. Each
patient's choice is made by models fitted without the patient's fold, and valued by doubly robust scores. One division
into folds gives a naive policy luck or bad luck, so it is repeated with other folds: shown are the mean over repeats,
the range, and the mean half-width of one repeat's 95 % interval.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl

from careloop.evaluate import Estimate
from careloop.plan.policy.choose import cross_fitted_choice, decide, value_gain
from careloop.plan.effect.doubly_robust import cross_fit_propensity, cross_fit_scores, estimate_effect
from careloop.plan.effect.goals import MeasureGoalData
from careloop.plan.effect.learners import TREES
from careloop.plan.effect.nuisance import fit_design, subject_folds
from careloop.plan.policy.projection import fit_summaries, prognosis_of

OPTIONS = ("zidovudine", "zidovudine+didanosine", "zidovudine+zalcitabine", "didanosine")
COVARIATES = (
    "age", "wtkg", "hemo", "homo", "drugs", "karnof", "oprior", "z30", "preanti", "race", "gender", "str2", "symptom",
    "cd40", "cd80",
)  # fmt: skip


def load() -> pl.DataFrame:
    """The trial's table, from lifelines' datasets folder."""
    import lifelines

    return pl.read_csv(Path(lifelines.__file__).parent / "datasets" / "ACTG175.csv")


def naive_choice(covariates: np.ndarray, arm: np.ndarray, gain: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """The arm with the highest predicted gain, by one LightGBM per arm: what individualising usually means."""
    from lightgbm import LGBMRegressor

    chosen = np.empty(len(arm), dtype=int)
    for k in range(fold.max() + 1):
        train, test = fold != k, fold == k
        models = [
            LGBMRegressor(**TREES).fit(covariates[train & (arm == a)], gain[train & (arm == a)]) for a in range(4)
        ]
        chosen[test] = np.column_stack([model.predict(covariates[test]) for model in models]).argmax(axis=1)
    return chosen


def one_repeat(trial: pl.DataFrame, *, folds: int, seed: int) -> tuple[dict[str, tuple[float, Estimate, float]], str]:
    """By policy: value, gain over the best arm, share departing from it; and careloop's decision."""
    arm, subjects = trial["arms"].to_numpy(), trial["pidnum"].to_numpy()
    gain = (trial["cd420"] - trial["cd40"]).to_numpy().astype(float)
    design = fit_design(trial.select(COVARIATES).to_numpy(), COVARIATES)
    covariates = design.transform(trial.select(COVARIATES).to_numpy())
    fold = subject_folds(subjects, folds, seed)
    goal = MeasureGoalData("CD4 gain", gain, "higher")
    propensity = cross_fit_propensity(covariates, arm, 4, fold=fold, assignment="randomised")
    scores = cross_fit_scores(covariates, arm, goal, subjects=subjects, propensity=propensity, fold=fold)
    prognosis = prognosis_of(scores.expected, "measure")
    summaries = fit_summaries(covariates, prognosis).transform(covariates, prognosis)
    allowed = np.ones(propensity.shape, dtype=bool)
    effect = estimate_effect(scores, goal, OPTIONS, reference=OPTIONS[0])
    policy = decide(scores, summaries, effect=effect, allowed=allowed, fold=fold)
    best = OPTIONS.index(policy.best or OPTIONS[0])
    policies = {f"everybody {option}": np.full(len(arm), a) for a, option in enumerate(OPTIONS)}
    policies["naive: best by one LightGBM an arm"] = naive_choice(covariates, arm, gain, fold)
    policies["naive: best by careloop's regressions"] = scores.expected.argmax(axis=1)
    policies["careloop's individual choice"] = cross_fitted_choice(
        scores, summaries, effect=effect, fold=fold, best=best, allowed=allowed
    )
    rows = np.arange(len(arm))
    found = {}
    for name, chosen in policies.items():
        over = value_gain(scores, chosen, np.full(len(arm), best), better="higher")
        found[name] = (float(scores.value[rows, chosen].mean()), over, float((chosen != best).mean()))
    return found, f"{policy.decision} ({policy.best})"


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--folds", type=int, default=5)
    wanted = parser.parse_args()
    trial = load()
    repeats = [one_repeat(trial, folds=wanted.folds, seed=seed) for seed in range(wanted.repeats)]
    over_best = f"{'over best arm':>13s} {'range':>14s} {'+-':>5s}"
    print(f"{'policy':38s} {'CD4 gain':>8s} {'range':>14s}   {over_best} {'departs':>8s}")
    for name in repeats[0][0]:
        value, over, departs = zip(*(found[name] for found, _ in repeats), strict=True)
        gains = [estimate.value or 0.0 for estimate in over]
        half = np.mean([((estimate.high or 0.0) - (estimate.low or 0.0)) / 2 for estimate in over])
        print(
            f"{name:38s} {np.mean(value):8.1f} {min(value):6.1f} to {max(value):4.1f}   {np.mean(gains):13.1f} "
            f"{min(gains):6.1f} to {max(gains):4.1f} {half:5.1f} {np.mean(departs):8.1%}"
        )
    for decision, count in Counter(decision for _, decision in repeats).items():
        print(f"careloop decides {decision} in {count} of {wanted.repeats} repeats")


if __name__ == "__main__":
    main()
