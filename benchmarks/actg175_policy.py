"""ACTG 175: is choosing for each patient better than the best arm for everybody? Prints both, and what careloop does.

Run: python benchmarks/actg175_policy.py [--repeats 10] [--folds 5] [--held-out 0.3]

2,139 adults with HIV, randomised to four arms; goal: gain of CD4 cells/uL after 20 weeks, higher is better. First each
patient's choice is made by models fitted without the patient's fold, and valued by doubly robust scores. Then part of
the patients are held out: everything is learned on the others (which arm is best, too), and values are of the held-out
ones. One division gives a naive policy luck or bad luck, so both are repeated with other divisions: shown are the mean
over repeats, the range, and the mean half-width of one repeat's 95 % interval.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl

from careloop.evaluate import Estimate
from careloop.plan.effect.doubly_robust import cross_fit_propensity, cross_fit_scores, estimate_effect, score_by
from careloop.plan.effect.goals import MeasureGoalData
from careloop.plan.effect.learners import TREES
from careloop.plan.effect.nuisance import fit_design, fit_outcome_model, subject_folds
from careloop.plan.policy.choose import cross_fitted_choice, decide, individual_choice, value_gain
from careloop.plan.policy.off_policy import AS_GIVEN, PolicyValue, compare_policies, policy_value
from careloop.plan.policy.projection import fit_summaries, prognosis_of, project
from careloop.plan.policy.splits import TreeFeatures
from careloop.plan.policy.tree import learn_tree, options_of, tree_in_words

OPTIONS = ("zidovudine", "zidovudine+didanosine", "zidovudine+zalcitabine", "didanosine")
COVARIATES = (
    "age", "wtkg", "hemo", "homo", "drugs", "karnof", "oprior", "z30", "preanti", "race", "gender", "str2", "symptom",
    "cd40", "cd80",
)  # fmt: skip


def load() -> pl.DataFrame:
    """The trial's table, from lifelines' datasets folder."""
    import lifelines

    return pl.read_csv(Path(lifelines.__file__).parent / "datasets" / "ACTG175.csv")


def naive_predicted(covariates: np.ndarray, arm: np.ndarray, gain: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Gain (m, 4) predicted for other patients by one LightGBM per arm: what individualising usually means."""
    from lightgbm import LGBMRegressor

    models = [LGBMRegressor(**TREES).fit(covariates[arm == a], gain[arm == a]) for a in range(4)]
    return np.column_stack([model.predict(others) for model in models])


def naive_choice(covariates: np.ndarray, arm: np.ndarray, gain: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """The arm with the highest predicted gain, by models of the other folds."""
    chosen = np.empty(len(arm), dtype=int)
    for k in range(fold.max() + 1):
        train, test = fold != k, fold == k
        predicted = naive_predicted(covariates[train], arm[train], gain[train], covariates[test])
        chosen[test] = predicted.argmax(axis=1)
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


def held_out_repeat(
    trial: pl.DataFrame, *, folds: int, share: float, seed: int
) -> tuple[dict[str, tuple[PolicyValue, Estimate]], str, str]:
    """By policy learned on the others: value of held-out patients and gain over the best arm; decision; the tree."""
    arm, subjects = trial["arms"].to_numpy(), trial["pidnum"].to_numpy()
    raw = trial.select(COVARIATES).to_numpy().astype(float)
    goal = MeasureGoalData("CD4 gain", (trial["cd420"] - trial["cd40"]).to_numpy().astype(float), "higher")
    order = np.random.default_rng(seed).permutation(len(arm))
    held, own = order[: round(share * len(arm))], order[round(share * len(arm)) :]
    design = fit_design(raw[own], COVARIATES)
    covariates, others = design.transform(raw[own]), design.transform(raw[held])
    fold = subject_folds(subjects[own], folds, seed)
    propensity = cross_fit_propensity(covariates, arm[own], 4, fold=fold, assignment="randomised")
    learned = cross_fit_scores(
        covariates, arm[own], goal.take(own), subjects=subjects[own], propensity=propensity, fold=fold
    )
    effect = estimate_effect(learned, goal.take(own), OPTIONS, reference=OPTIONS[0])
    prognosis = prognosis_of(learned.expected, "measure")
    summaries = fit_summaries(covariates, prognosis)
    summarised = summaries.transform(covariates, prognosis)
    allowed = np.ones(propensity.shape, dtype=bool)
    policy = decide(learned, summarised, effect=effect, allowed=allowed, fold=fold)
    features = TreeFeatures(raw[own], COVARIATES)
    tree = learn_tree(learned, features, effect=effect, allowed=allowed, fold=fold)
    best = OPTIONS.index(policy.best or OPTIONS[0])
    lines = project(summarised, learned.value, subjects[own], usable=np.ones(4, bool), slopes="own")
    model = fit_outcome_model(covariates, arm[own], goal.take(own), 4)
    expected = model.expected(others)
    scores = score_by(
        model,
        others,
        arm[held],
        goal=goal.take(held),
        subjects=subjects[held],
        propensity=np.tile(propensity[0], (len(held), 1)),
    )
    individual = individual_choice(
        lines,
        summaries.transform(others, prognosis_of(expected, "measure")),
        best=best,
        better="higher",
        allowed=np.ones(expected.shape, bool),
    )
    given = options_of(tree, TreeFeatures(raw[held], COVARIATES)) if tree is not None else [OPTIONS[best]] * len(held)
    everybody_best = np.full(len(held), best)
    gain = goal.measured[own]
    policies = {"the best arm of the others": everybody_best, "care as given": np.full(len(held), AS_GIVEN)}
    policies |= {f"everybody {option}": np.full(len(held), a) for a, option in enumerate(OPTIONS)}
    policies["naive: best by one LightGBM an arm"] = naive_predicted(covariates, arm[own], gain, others).argmax(axis=1)
    policies["naive: best by careloop's regressions"] = expected.argmax(axis=1)
    policies["careloop's individual choice"] = individual
    policies["policy tree of depth 2"] = np.array([OPTIONS.index(option) for option in given])
    policies["what careloop decides"] = individual if policy.decision == "individual" else everybody_best
    found = {
        name: (
            policy_value(scores, chosen, name=name),
            compare_policies(scores, policies, policy=name, against="the best arm of the others").difference,
        )
        for name, chosen in policies.items()
    }
    words = "no tree" if tree is None else tree_in_words(tree)
    return found, f"{policy.decision} ({policy.best})", words


def show_held_out(trial: pl.DataFrame, *, repeats: int, folds: int, share: float) -> None:
    """Print values on held-out patients over repeats."""
    each = [held_out_repeat(trial, folds=folds, share=share, seed=seed) for seed in range(repeats)]
    print(f"\n{share:.0%} of patients held out, {repeats} times; gains are over the best arm of the others")
    print(f"{'policy':38s} {'DR':>6s} {'+-':>5s} {'SNIPS':>6s} {'eff. n':>6s}   {'gain':>6s} {'range':>14s} {'+-':>5s}")
    for name in each[0][0]:
        values, gains = zip(*(found[name] for found, _, _ in each), strict=True)
        told = [value for value in values if value.doubly_robust.value is not None]
        mean = np.mean([value.doubly_robust.value for value in told])
        half = np.mean([_half(value.doubly_robust) for value in told])
        snips, sample = np.mean([value.snips.value for value in told]), np.mean([v.effective_sample for v in values])
        gain = [estimate.value for estimate in gains if estimate.value is not None]
        print(
            f"{name:38s} {mean:6.1f} {half:5.1f} {snips:6.1f} {sample:6.0f}   {np.mean(gain):6.1f} "
            f"{min(gain):6.1f} to {max(gain):4.1f} {np.mean([_half(estimate) for estimate in gains]):5.1f}"
        )
    for decision, count in Counter(decision for _, decision, _ in each).items():
        print(f"careloop decides {decision} in {count} of {repeats} repeats")
    shown = sum("is shown to be better" in words for _, _, words in each)
    print(f"policy tree shown to be better in {shown} of {repeats} repeats; that of the first:\n{each[0][2]}")


def _half(estimate: Estimate) -> float:
    return ((estimate.high or 0.0) - (estimate.low or 0.0)) / 2


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--held-out", type=float, default=0.3)
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
    show_held_out(trial, repeats=wanted.repeats, folds=wanted.folds, share=wanted.held_out)


if __name__ == "__main__":
    main()
