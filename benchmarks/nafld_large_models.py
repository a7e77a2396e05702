"""Large models beside baselines on nafld: the study `nafld_sequences.yaml`, its comparisons, and whether it explains.

    OMP_NUM_THREADS=1 python benchmarks/nafld_large_models.py --out FOLDER

Real data (extra `examples`): logistic regression, LightGBM and boosted hazard on windows; GRU and Transformer on whole
timelines from random weights; and a Transformer pre-trained on the histories of people outside the tuning and held-out
rows. All are trained on the same training rows, stopped early and calibrated on the same tuning rows, and shown on the
same held-out rows, with paired intervals from the same bootstrap resamples of people. The deletion curve removes the
held-out people's events in the order of their contribution and at random. Zero-shot is the pre-trained Transformer
without fine-tuning: the share of 100 simulated futures with the outcome. A folder of an earlier run is taken up.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from careloop.evaluate import Outcomes, Threshold, compare, evaluate_predictions
from careloop.ingest import example_record
from careloop.models.sequence.explanation.attribution import Score, integrated_gradients
from careloop.models.sequence.explanation.removal import deletion_curve
from careloop.predict.futures import Question, zero_shot_risk
from careloop.study import Study, example_study
from careloop.study.folder import RunFolder
from careloop.study.sequence_stages import read_pretrained
from careloop.study.stages import cohort_rows, feature_matrix
from careloop.train import open_package

FIGURES = ("auroc", "auprc", "brier")
EXPLAINED_ROWS = 400


def run(out: Path) -> dict[str, float]:
    """Run the study into `out`; seconds that each stage took, none where it was finished before."""
    started: dict[str, float] = {}
    seconds: dict[str, float] = {}

    def notify(stage: str, state: str) -> None:
        if state == "running":
            started[stage] = time.perf_counter()
        elif state == "done":
            seconds[stage] = time.perf_counter() - started[stage]
            print(f"{stage}: {seconds[stage]:.0f} s", flush=True)

    record = example_record("nafld", out / "record")
    Study.read(example_study("nafld_sequences")).run(record, out / "run", notify=notify)
    return seconds


def stated(estimate: dict[str, Any], digits: int) -> str:
    """A figure with its 95 % interval."""
    return f"{estimate['value']:.{digits}f} ({estimate['low']:.{digits}f} to {estimate['high']:.{digits}f})"


def show(evaluation: dict[str, Any]) -> None:
    """Print figures, and the paired differences of the networks from the baselines."""
    rows = evaluation["outcome"]["rows"]
    print(f"\n{rows['n']} held-out rows: {rows['events']} with the outcome, {rows['censored']} censored before it")
    print(f"{'':<24}" + "".join(f"{name:>26}" for name in (*FIGURES, "Harrell's C", "sets hold the truth")))
    for name, model in evaluation["models"].items():
        cells = [stated(model["figures"][figure], 4) for figure in FIGURES]
        cells.append(stated(model["survival"]["harrell_c"], 4) if model["survival"] else "-")
        cells.append(stated(model["conformal"]["figures"]["coverage"], 3))
        print(f"{name:<24}" + "".join(f"{cell:>26}" for cell in cells))
    print("\npaired differences, first less second (a better Brier score is lower)")
    for pair in evaluation["comparisons"]:
        figures = "   ".join(f"{name} {stated(pair['differences'][name], 4)}" for name in FIGURES)
        print(f"{pair['first']:<24}{pair['second']:<24}{figures}")


def explain(out: Path, name: str) -> None:
    """Print whether deleting what integrated gradients call important changes the risk more than deleting at random."""
    package = open_package(out / "run" / "models" / name)
    matrix = feature_matrix(RunFolder.reopen(out / "run"), "held_out")
    chosen = np.random.default_rng(0).choice(matrix.keys.height, EXPLAINED_ROWS, replace=False)
    rows = package.inputs(matrix.take(np.sort(chosen)))
    rows = rows.take(np.arange(len(rows)))
    score = Score(horizon=package.horizon_days)
    found = integrated_gradients(package.estimators[0], rows, score=score)
    curve = deletion_curve(package.estimators[0], rows, found, score=score)
    print(f"\n{name}, {curve.rows} held-out people: fall of the log-odds when events are removed")
    for fraction, told, chance in zip(curve.fractions, curve.explained.mean, curve.random.mean, strict=True):
        print(f"  {fraction:.0%} of events: {told:+.3f} in the explanation's order, {chance:+.3f} at random")
    print(f"  mean distance {curve.area:.3f} ({curve.low:.3f} to {curve.high:.3f})")


def zero_shot(out: Path) -> None:
    """Print how well simulated futures predict, without a model of the outcome, beside LightGBM."""
    run, study = RunFolder.reopen(out / "run"), Study.read(out / "run" / "study.yaml")
    outcome, held_out = study.cohort.outcome, cohort_rows(run, "held_out")
    question, started = Question(outcome.codes, outcome.horizon_days, futures=100), time.perf_counter()
    risk = zero_shot_risk(read_pretrained(run), feature_matrix(run, "held_out").timelines, question)
    seconds = time.perf_counter() - started
    columns = (held_out[name].to_numpy() for name in ("subject_id", "follow_up_days", "event"))
    outcomes = Outcomes(*columns, outcome.horizon_days)
    predictions = pl.read_parquet(out / "run" / "predictions.parquet").filter(pl.col("model") == "lightgbm")
    boosted = predictions["predicted_boolean_probability"].to_numpy()
    threshold = Threshold(0.1, "fixed")
    figures = evaluate_predictions(risk, outcomes, threshold=threshold).figures
    print(f"\nzero-shot, {len(risk)} held-out people x 100 futures in {seconds:.0f} s")
    print("  " + "   ".join(f"{name} {stated(vars(figures[name]), 4)}" for name in FIGURES))
    found = compare(risk, boosted, outcomes, threshold=threshold).differences
    print("  less LightGBM: " + "   ".join(f"{name} {stated(vars(found[name]), 4)}" for name in FIGURES))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for record and run; default: one that is removed afterwards")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        run(folder)
        show(json.loads((folder / "run" / "evaluation.json").read_text(encoding="utf-8")))
        explain(folder, "transformer_pretrained")
        zero_shot(folder)
