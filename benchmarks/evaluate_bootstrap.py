"""Time of 95 % bootstrap intervals: careloop.evaluate beside scikit-learn's metrics on resampled rows, in one run.

Both give the same three figures (AUROC, AUPRC, Brier) on simulated rows without censoring, where they must agree; then
careloop alone gives everything that one model's evaluation holds, with censoring. One thread throughout:

    OMP_NUM_THREADS=1 python benchmarks/evaluate_bootstrap.py --rows 10000 --resamples 1000
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from sklearn import metrics

from careloop.evaluate import Outcomes, Threshold, evaluate_predictions
from careloop.evaluate.discrimination import Ranking, auprc, auroc
from careloop.evaluate.estimate import replicate

FIGURES = ("auroc", "auprc", "brier")
HORIZON_DAYS = 5.0


def simulate(rows: int) -> tuple[np.ndarray, Outcomes, Outcomes]:
    """Probabilities, outcomes followed in full, and the same censored at random."""
    generator = np.random.default_rng(0)
    score = generator.normal(size=rows)
    days, end = generator.exponential(10 / np.exp(score)), generator.uniform(0, 20, rows)
    full = Outcomes(np.arange(rows), days, np.ones(rows, dtype=int), HORIZON_DAYS)
    seen = Outcomes(np.arange(rows), np.minimum(days, end), (days <= end).astype(int), HORIZON_DAYS)
    return 1 / (1 + np.exp(0.5 - score)), full, seen


def by_copying_rows(probability: np.ndarray, label: np.ndarray, resamples: int) -> np.ndarray:
    """(1 + resamples, 3) with scikit-learn on drawn rows."""
    generator = np.random.default_rng(0)
    results = []
    for number in range(resamples + 1):
        rows = slice(None) if number == 0 else generator.integers(0, len(label), len(label))
        y, p = label[rows], probability[rows]
        scores = (metrics.roc_auc_score, metrics.average_precision_score, metrics.brier_score_loss)
        results.append([score(y, p) for score in scores])
    return np.array(results)


def by_weights(probability: np.ndarray, outcomes: Outcomes, resamples: int) -> np.ndarray:
    """(1 + resamples, 3) with careloop, rows sorted once."""
    ranking = Ranking.of(probability, outcomes.label)
    error = (outcomes.label - probability) ** 2

    def statistic(count: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
        above = ranking.above(weight)
        return {"auroc": auroc(*above), "auprc": auprc(*above), "brier": weight @ error / weight.sum(axis=1)}

    found = replicate(outcomes, {"all": statistic}, resamples=resamples, seed=0)["all"]
    return np.column_stack([found[name] for name in FIGURES])


def timed(work: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Seconds and result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--resamples", type=int, default=1_000)
    options = parser.parse_args()
    probability, full, seen = simulate(options.rows)
    theirs = timed(lambda: by_copying_rows(probability, full.label, options.resamples))
    ours = timed(lambda: by_weights(probability, full, options.resamples))
    print(f"{options.rows} simulated rows, {options.resamples} resamples; value (95 % interval)")
    for name, (seconds, values) in (("scikit-learn, numpy draws", theirs), ("careloop", ours)):
        low, high = np.percentile(values[1:], [2.5, 97.5], axis=0)
        cells = [f"{f} {v:.4f} ({a:.4f}, {b:.4f})" for f, v, a, b in zip(FIGURES, values[0], low, high, strict=True)]
        print(f"{name:28s} {seconds:8.2f} s   " + "   ".join(cells))
    print(f"largest difference of the values: {np.abs(theirs[1][0] - ours[1][0]).max():.1e}")
    start = time.perf_counter()
    evaluate_predictions(probability, seen, threshold=Threshold(0.3, "stated"), resamples=options.resamples)
    censored = 1 - seen.known.mean()
    print(f"careloop, one model's whole evaluation, {censored:.0%} censored: {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
