"""Simulated patients whose outcome follows from order and spacing of events: networks, windows, the best possible.

    OMP_NUM_THREADS=1 python benchmarks/order_and_spacing.py
    OMP_NUM_THREADS=1 python benchmarks/order_and_spacing.py --models lightgbm gru --episodes order curve spacing

The record is that of the tests (`tests/models/sequence/ordered_record.py`, which says what decides the outcome),
appended to a record folder and read back as windows and as timelines; the true risk of every row is known. The best
possible AUROC is that of the true risks, over all labels that they can give, with the interval in which it lies for
95 % of the labels drawn. All models have the same training, tuning and held-out rows, by subject; tuning rows end
training early and choose among `--learning-rates`; all else is as the classes have it. Printed of the held-out rows:
AUROC for the drawn labels (bootstrap interval), AUROC over all labels that the true risks can give, how far that is
below the best possible (paired interval), AUROC less that of LightGBM on the study's windows (paired interval), seconds
of processor time for all that was fitted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from careloop.evaluate.discrimination import Ranking, auroc
from careloop.evaluate.estimate import draw_counts
from careloop.features import FeaturesSection, fit_features
from careloop.features.timelines import TimelinesSection, extract_timelines, fit_timelines
from careloop.models import LightGBM, logistic_regression
from careloop.models.sequence.arrays import SequenceParts, TokenSpace
from careloop.models.sequence.estimators import SequenceClassifier
from careloop.record import Record
from careloop.train.preprocess import fit_preprocessing

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "models" / "sequence"))
import ordered_record as simulated

MANY_WINDOWS = (7.0, 14.0, 30.0, 60.0, 90.0, 180.0, 270.0, 365.0, 545.0, "all")
REFERENCE = "lightgbm"
RESAMPLES = 1000
Fitted = tuple[NDArray[np.float64], float]  # risks of all rows, log loss on tuning rows
Fit = Callable[["Rows"], Fitted]


@dataclass(frozen=True)
class Rows:
    """What the models get: labels and splits (n,), windows' columns by name, sequences and their token space."""

    label: NDArray[np.int64]
    training: NDArray[np.intp]
    tuning: NDArray[np.intp]
    windows: dict[str, Any]
    sequences: SequenceParts
    space: TokenSpace

    def tuning_loss(self, risk: NDArray[np.float64]) -> float:
        """Mean log loss of the risks of all rows, on tuning rows."""
        p, y = np.clip(risk[self.tuning], 1e-7, 1 - 1e-7), self.label[self.tuning]
        return float(-np.mean(np.where(y == 1, np.log(p), np.log(1 - p))))


def read(record: simulated.OrderedRecord, folder: Path) -> Rows:
    """The simulated events through a record folder, as windows and as timelines."""
    stored = Record.create(folder, shards=4).append(record.events, key="simulated")
    sections = {"study": FeaturesSection(), "many": FeaturesSection(windows_days=MANY_WINDOWS)}
    windows = {name: fit_features(stored, record.keys, section) for name, section in sections.items()}
    recipe = fit_timelines(stored, record.keys, TimelinesSection())
    sequences = extract_timelines(stored, record.keys, recipe).sequences
    places = (np.flatnonzero(record.rows(split)) for split in ("train", "tuning"))
    columns = {name: (recipe.names, matrix.values) for name, (recipe, matrix) in windows.items()}
    return Rows(record.label, *places, columns, sequences, recipe.token_space())


def fit_logistic(rows: Rows) -> Fitted:
    """Logistic regression on the study's windows."""
    names, values = rows.windows["study"]
    preprocessing = fit_preprocessing(values[rows.training], names, "standardised")
    X = preprocessing.apply(values)
    model = logistic_regression().fit(X[rows.training], rows.label[rows.training])
    risk = model.predict_proba(X)[:, 1]
    return risk, rows.tuning_loss(risk)


def fit_lightgbm(windows: str) -> Fit:
    """LightGBM on windows."""

    def fit(rows: Rows) -> Fitted:
        values = rows.windows[windows][1]
        held = values[rows.tuning], rows.label[rows.tuning]
        model = LightGBM().fit(values[rows.training], rows.label[rows.training], validation=held)
        risk = model.predict_proba(values)[:, 1]
        return risk, rows.tuning_loss(risk)

    return fit


def fit_network(name: str, parameters: dict[str, Any]) -> Fit:
    """A network on timelines, with the learning rate that is best on tuning rows."""

    def fit(rows: Rows) -> Fitted:
        held = rows.sequences.take(rows.tuning), rows.label[rows.tuning]
        training = rows.sequences.take(rows.training)
        fitted = []
        for rate in parameters["learning_rates"]:
            given = {n: v for n, v in parameters.items() if n != "learning_rates" and v is not None}
            model = SequenceClassifier(network=name, learning_rate=rate, **given)
            model.fit(training, rows.label[rows.training], space=rows.space, validation=held)
            risk = model.predict_proba(rows.sequences)[:, 1]
            fitted.append((risk, rows.tuning_loss(risk)))
            print(
                f"  {name}, rate {rate:g}: {len(model.epochs_[0])} epochs, tuning loss {fitted[-1][1]:.4f}", flush=True
            )
        return min(fitted, key=lambda one: one[1])

    return fit


def models(parameters: dict[str, Any]) -> dict[str, tuple[str, Fit]]:
    """What is compared: words for the table, and how it is fitted."""
    networks = {"gru": "GRU", "temporal_cnn": "temporal CNN", "transformer": "Transformer"}
    return {
        "logistic": ("logistic regression, 3 windows", fit_logistic),
        REFERENCE: ("LightGBM, 3 windows", fit_lightgbm("study")),
        "lightgbm_many": ("LightGBM, 10 windows", fit_lightgbm("many")),
        **{name: (f"{words}, timelines", fit_network(name, parameters)) for name, words in networks.items()},
    }


def drawn_range(risk: NDArray[np.float64], seed: int) -> tuple[float, float]:
    """The interval in which the AUROC of the true risks lies for 95 % of the labels that they give."""
    random = np.random.default_rng(seed)
    found = [
        auroc(*Ranking.of(risk, random.random(len(risk)) < risk).above(np.ones((1, len(risk)))))[0]
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def replicates(score: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """AUROC of the rows and of resamples of them (1 + RESAMPLES,); `truth` are labels, or true risks for all labels."""
    ranking = Ranking.of(score, truth)
    blocks = draw_counts(np.arange(len(score)), resamples=RESAMPLES, seed=0)
    return np.concatenate([auroc(*ranking.above(count)) for count in blocks])


def show(values: NDArray[np.float64]) -> str:
    """The figure and its 95 % interval."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return f"{values[0]:.3f} ({low:.3f} to {high:.3f})"


def print_table(fits: dict[str, tuple[str, Fitted, float]], record: simulated.OrderedRecord, seed: int) -> None:
    """One row a model, of held-out rows."""
    held = record.rows("held_out")
    risk, label = record.risk[held], record.label[held]
    low, high = drawn_range(risk, seed)
    best_drawn = replicates(risk, label)[0]
    print(f"\nsimulated: {held.sum()} held-out patients, {label.sum()} with the outcome")
    print(
        f"best possible AUROC {simulated.expected_auroc(risk, risk):.4f}; 95 % of drawn labels {low:.3f} to {high:.3f}"
    )
    print(f"the true risks' AUROC for the labels drawn here: {best_drawn:.4f}\n")
    heads = ("AUROC, drawn labels", "AUROC, all labels", "below the best possible", "less LightGBM, 3 windows")
    print(f"{'simulated record':<31}" + "".join(f"{head:>26}" for head in heads) + f"{'CPU s':>8}")
    best = replicates(risk, risk)
    reference = replicates(fits[REFERENCE][1][0][held], label) if REFERENCE in fits else None
    for words, (scores, _), seconds in fits.values():
        drawn, all_labels = replicates(scores[held], label), replicates(scores[held], risk)
        cells = [show(drawn), show(all_labels), show(best - all_labels)]
        cells.append("" if reference is None else show(drawn - reference))
        print(f"{words:<31}" + "".join(f"{cell:>26}" for cell in cells) + f"{seconds:8.0f}")


def main() -> None:
    """Simulate, fit, print."""
    known = models({})
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--episodes", choices=list(simulated.EPISODES), nargs="+", default=list(simulated.EFFECTS))
    parser.add_argument("--effect", type=float, default=1.3, help="of each episode's form, on the log-odds")
    parser.add_argument("--models", choices=list(known), nargs="*", default=list(known))
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[3e-3])
    for name in ("width", "layers", "max-epochs", "patience", "tokens"):
        parser.add_argument(f"--{name}", type=int, help="of the networks; as the class has it where left out")
    arguments = parser.parse_args()
    names = ("learning_rates", "width", "layers", "max_epochs", "patience", "tokens")
    chosen = models({name: getattr(arguments, name) for name in names})
    effects = dict.fromkeys(arguments.episodes, arguments.effect)
    record = simulated.simulate(arguments.patients, arguments.seed, effects=effects)
    said = f"{arguments.patients} patients, {record.events.height} events, seed {arguments.seed}, {', '.join(effects)}"
    print(f"simulated: {said}", flush=True)
    fits = {}
    with tempfile.TemporaryDirectory() as folder:
        rows = read(record, Path(folder) / "record")
        for name in arguments.models:
            started = time.process_time()
            words, fit = chosen[name]
            fits[name] = (words, fit(rows), time.process_time() - started)
    print_table(fits, record, arguments.seed)


if __name__ == "__main__":
    main()
