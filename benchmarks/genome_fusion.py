"""What a genome adds to the clinic in simulated patients, as drawn and with outcomes dealt out anew, over seeds.

    OMP_NUM_THREADS=1 python benchmarks/genome_fusion.py                  # 20 seeds of 5,000 simulated patients
    OMP_NUM_THREADS=1 python benchmarks/genome_fusion.py --seeds 3 --people 2000

Each seed is a new record (`simulated_patients`: nobody real) and a whole run of the packaged study `genome`. As drawn
the genome does add something; with shuffled outcomes nothing can foretell them, so that 95 % intervals should hold an
AUROC of .5 and a gain of 0 in about 95 of 100 seeds, and the mean over seeds should be near .5 and 0. Beside careloop's
paired bootstrap stands an independent path to the same figures: scikit-learn's logistic regression without a penalty on
the same rows and columns, and DeLong's interval (Biometrics 1988;44:837) of the difference between two AUROCs. Held-out
rows that were censored before the horizon are weighted by careloop and left out by the other.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from careloop.genome.findings.scores.simulated_patients import simulated_patients
from careloop.study import Study, example_study

PARTS = ("clinical", "genome", "both")
Z_95 = 1.959964


def delong(label: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """AUROC of the second less that of the first, with DeLong's 95 % limits; all (n,)."""
    placements = []
    for side in (True, False):
        own, others = ([p[label == s] for p in (first, second)] for s in (side, not side))
        above = [
            (np.searchsorted(np.sort(o), p, "left") + np.searchsorted(np.sort(o), p, "right")) / (2 * len(o))
            for p, o in zip(own, others, strict=True)
        ]
        placements.append(np.array(above if side else [1 - v for v in above]))
    gain = float(np.diff(placements[0].mean(axis=1))[0])
    variance = sum(np.var(np.diff(p, axis=0), ddof=1) / p.shape[1] for p in placements)
    half = Z_95 * float(np.sqrt(variance))
    return gain, gain - half, gain + half


def by_scikit_learn(run: Path) -> tuple[float, float, float]:
    """The gain by the independent path, from the run's rows and columns."""
    fusion = json.loads((run / "fusion.json").read_text())
    rows, features = pl.read_parquet(run / "cohort.parquet"), pl.read_parquet(run / "features.parquet")
    known = rows["boolean_value"].is_not_null()
    is_training, is_held_out = ((rows["split"] == split) & known for split in ("train", "held_out"))
    label = rows["boolean_value"].to_numpy()
    risks = []
    for names in (fusion["columns"]["clinical"], fusion["columns"]["clinical"] + fusion["columns"]["genome"]):
        values = features.select(names).to_numpy().astype(float)
        model = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler(), LogisticRegression(C=np.inf))
        fitted = model.fit(values[is_training], label[is_training].astype(int))
        risks.append(fitted.predict_proba(values[is_held_out])[:, 1])
    return delong(label[is_held_out].astype(bool), *risks)


def one(people: int, seed: int, outcome: Any) -> dict[str, Any]:
    """The figures of one simulated record."""
    with tempfile.TemporaryDirectory() as folder:
        record = simulated_patients(Path(folder) / "record", people=people, seed=seed, outcome=outcome)
        run = Path(folder) / "run"
        Study.read(example_study("genome")).run(record, run)
        fusion = json.loads((run / "fusion.json").read_text())
        return {"models": fusion["models"], "scikit-learn": by_scikit_learn(run)}


def interval(estimate: Any) -> tuple[float, float, float]:
    """Value and limits."""
    return estimate["value"], estimate["low"], estimate["high"]


def report(results: list[dict[str, Any]], outcome: str) -> None:
    """Print one line a seed and the summary."""
    print(f"\nSimulated patients, outcomes {outcome}: AUROC on held-out rows, and the gain of both over clinical alone")
    for name in results[0]["models"]:
        entries = [r["models"][name]["evaluation"] for r in results]
        auroc = {p: np.array([interval(e["models"][p]["figures"]["auroc"]) for e in entries]) for p in PARTS}
        gain, benefit = (
            np.array([interval(e["comparisons"][0]["differences"][figure]) for e in entries])
            for figure in ("auroc", "net_benefit")
        )
        means = ", ".join(f"{p} {auroc[p][:, 0].mean():.3f}" for p in PARTS)
        holds = int(((auroc["both"][:, 1] <= 0.5) & (auroc["both"][:, 2] >= 0.5)).sum())
        line = f"{name}: mean AUROC {means}; interval of both holds .5 in {holds} of {len(results)} seeds"
        print(line)
        for what, values in (("gain in AUROC", gain), ("gain in net benefit", benefit)):
            print(f"  {what:<22} {summary(values)}")
    print(f"  {'scikit-learn, DeLong':<22} {summary(np.array([r['scikit-learn'] for r in results]))}")


def summary(values: np.ndarray) -> str:
    """Mean of the values, mean width of the intervals, and how many hold 0."""
    holds = int(((values[:, 1] <= 0) & (values[:, 2] >= 0)).sum())
    error = values[:, 0].std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    width = (values[:, 2] - values[:, 1]).mean()
    return f"mean {values[:, 0].mean():+.4f} (s.e. {error:.4f}), interval {width:.4f} wide, holds 0 in {holds} seeds"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--people", type=int, default=5_000)
    asked = parser.parse_args()
    for outcome in ("as drawn", "shuffled"):
        start = time.process_time()
        report([one(asked.people, seed, outcome) for seed in range(asked.seeds)], outcome)
        print(f"  {(time.process_time() - start) / asked.seeds:.1f} s of processor time a record and run")
    print(f"\npeak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
