"""Cox and the boosted hazard beside scikit-survival's random survival forest: Harrell's C and integrated Brier score.

    OMP_NUM_THREADS=1 python benchmarks/survival_forest.py --repeats 3

Three data sets of scikit-survival, nothing tuned, the same folds for all models (repeated 5-fold). The integrated Brier
score runs from the 10th to the 90th percentile of the event times, with censoring weights from the training fold. The
forest is shown with its defaults and with the leaves of scikit-survival's user guide. Printed are means over the folds
(fold standard error), the difference from the default forest fold by fold, and seconds a fit.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.model_selection import RepeatedStratifiedKFold
from sksurv.datasets import load_gbsg2, load_veterans_lung_cancer, load_whas500
from sksurv.ensemble import RandomSurvivalForest
from sksurv.metrics import concordance_index_censored, integrated_brier_score
from sksurv.preprocessing import OneHotEncoder

from careloop.models import BoostedHazard, CoxPH, survival_at

DATA: dict[str, Callable[[], Any]] = {
    "WHAS500": load_whas500,
    "GBSG2": load_gbsg2,
    "veteran": load_veterans_lung_cancer,
}
MODELS: dict[str, Callable[[], Any]] = {
    "Cox": CoxPH,
    "boosted hazard": BoostedHazard,
    "forest": lambda: RandomSurvivalForest(random_state=0),
    "forest, leaves 15": lambda: RandomSurvivalForest(min_samples_split=10, min_samples_leaf=15, random_state=0),
}
PEER = "forest"


def score(model: Any, X: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> tuple[float, float, float]:
    """Harrell's C, integrated Brier score and seconds to fit, on one fold."""
    event, follow_up = y.dtype.names
    started = time.perf_counter()
    model.fit(X[train], y[train])
    seconds = time.perf_counter() - started
    concordance = concordance_index_censored(y[test][event], y[test][follow_up], model.predict(X[test]))[0]
    low, high = np.quantile(y[has_event(y)][follow_up], [0.1, 0.9])
    until = min(high, y[test][follow_up].max() * (1 - 1e-9), y[train][follow_up].max() * (1 - 1e-9))
    times = np.linspace(low, until, 50)
    seen = y[test].copy()  # what happens after the last time does not enter, but the censoring weights must exist there
    seen[event] &= seen[follow_up] <= until
    seen[follow_up] = np.minimum(seen[follow_up], until * (1 + 1e-9))
    brier = integrated_brier_score(y[train], seen, survival_at(model, X[test], times), times)
    return concordance, brier, seconds


def has_event(y: np.ndarray) -> np.ndarray:
    """The event column, whatever its name."""
    return y[y.dtype.names[0]]


def compare(name: str, repeats: int, folds: int) -> None:
    """Print one data set's table."""
    frame, y = DATA[name]()
    X = OneHotEncoder().fit_transform(frame).to_numpy(dtype=float)
    splits = list(RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=0).split(X, has_event(y)))
    scores = {m: np.array([score(make(), X, y, a, b) for a, b in splits]) for m, make in MODELS.items()}
    print(f"\n{name}: {len(y)} people, {has_event(y).sum()} events, {len(splits)} folds")
    print(f"{'':<18}{'C':>16}{'C - forest':>18}{'IBS':>18}{'IBS - forest':>20}{'s/fit':>8}")
    for model, values in scores.items():
        cells = [f"{model:<18}"]
        for column, digits in ((0, 3), (1, 4)):
            difference = values[:, column] - scores[PEER][:, column]
            cells += [show(values[:, column], digits), show(difference, digits)]
        print(*cells, f"{values[:, 2].mean():7.2f}", sep="  ")


def show(values: np.ndarray, digits: int) -> str:
    """Mean (standard error)."""
    error = values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():7.{digits}f} ({error:.{digits}f})"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--data", choices=list(DATA), nargs="*", default=list(DATA))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)
    for name in arguments.data:
        compare(name, arguments.repeats, arguments.folds)


if __name__ == "__main__":
    main()
