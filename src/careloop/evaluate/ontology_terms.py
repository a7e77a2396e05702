"""How well scores find each row's terms of an ontology: CAFA's Fmax and Smin, areas, and figures of each term.

A row is a protein, a column a term; truth holds every term above a true one. As CAFA defines them (Radivojac et al.,
Nat Methods 2013;10:221, and Jiang et al., Genome Biol 2016;17:184), and as `cafaeval` computes them: at each threshold
precision is averaged over the rows with any term at or above it, recall, remaining uncertainty and misinformation over
all rows. Fmax and Smin are the best over the thresholds; every resample of rows chooses its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from careloop import InputError
from careloop.evaluate.estimate import FEWEST_FOR_INTERVAL, PERCENTILES, Estimate, draw_counts

THRESHOLDS = np.arange(0.01, 1, 0.01)  # CAFA's and cafaeval's: rounding of each value included
FIGURES = ("fmax", "weighted_fmax", "smin", "aupr", "micro_fmax", "micro_aupr")
BLOCK_ROWS = 256  # rows whose scores are put into thresholds at a time

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TermCurve:
    """At each of `thresholds`: figures of averages over rows; `weighted_...` count a term by its information.

    `coverage` share of rows with any term at or above the threshold. `uncertainty` and `misinformation` are sums of
    information of terms missed and of false ones, averaged over all rows: numbers of terms where no information is
    given.
    """

    thresholds: Array
    precision: Array
    recall: Array
    f: Array
    coverage: Array
    weighted_precision: Array
    weighted_recall: Array
    weighted_f: Array
    uncertainty: Array
    misinformation: Array
    s: Array
    micro_precision: Array
    micro_recall: Array


@dataclass(frozen=True, eq=False)
class TermEvaluation:
    """One set of scores: `figures` by name (`FIGURES`) with intervals, the thresholds they are reached `at`, the curve.

    `aupr` areas go over the points of the curve by rising recall (trapezoid). `term_auroc` and `term_aupr` (average
    precision) are means over the `terms_averaged` columns with at least ten rows with and ten without the term.
    """

    rows: int
    terms: int
    figures: Mapping[str, Estimate]
    at: Mapping[str, float]
    curve: TermCurve
    term_auroc: float | None
    term_aupr: float | None
    terms_averaged: int
    replicates: Mapping[str, Array] = field(repr=False)


def evaluate_terms(
    scores: NDArray[np.floating],
    truth: NDArray[np.bool_],
    *,
    information: Array | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> TermEvaluation:
    """Evaluate scores (n, k) from 0 to 1 against truth (n, k), both with all terms above included.

    Leave out columns that are no finding, such as roots, and rows without any true term. `information` (k,) weighs
    terms (`information_accretion`); columns of 0 do not count in what is weighted.

    Raises:
        InputError: shapes differ, there is no row, a score outside 0 to 1, or a row without a true term.
    """
    values, labels = _checked(scores, truth)
    counts = _Counts.of(values, labels, information)
    blocks = [counts.figures(draws) for draws in draw_counts(np.arange(len(values)), resamples=resamples, seed=seed)]
    found = {name: np.concatenate([block[name] for block in blocks]) for name in FIGURES}
    curve = counts.curve()
    by_term = list(_of_each_term(values, labels))
    return TermEvaluation(
        rows=len(values),
        terms=values.shape[1],
        figures={name: _estimate(found[name], len(values)) for name in FIGURES},
        at=_best_at(curve),
        curve=curve,
        term_auroc=float(np.mean([auroc for auroc, _ in by_term])) if by_term else None,
        term_aupr=float(np.mean([aupr for _, aupr in by_term])) if by_term else None,
        terms_averaged=len(by_term),
        replicates=found,
    )


def fmax(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Fmax and its threshold alone, of scores and truth as `evaluate_terms` takes them."""
    curve = _Counts.of(*_checked(scores, truth), None).curve()
    best = int(np.argmax(curve.f))
    return float(curve.f[best]), float(curve.thresholds[best])


def difference(first: TermEvaluation, second: TermEvaluation, figure: str = "fmax") -> Estimate:
    """`first` less `second` of one figure, on the same rows and draws (same seed), with its paired 95 % interval.

    Raises:
        InputError: evaluations of different rows or draws.
    """
    if (first.rows, len(first.replicates[figure])) != (second.rows, len(second.replicates[figure])):
        raise InputError("a paired difference needs evaluations of the same rows and resamples; these differ")
    return _estimate(first.replicates[figure] - second.replicates[figure], first.rows)


def information_accretion(truth: NDArray[np.bool_], parents: NDArray[np.int64]) -> Array:
    """(k,) bits by which a term tells more than its parents: -log2 of the share with it among rows with all parents.

    `truth` (n, k) of a reference population (not of the rows evaluated), `parents` (e, 2) places of child and parent.
    0 where nobody has the parents, or nobody the term. Source: Clark and Radivojac, Bioinformatics 2013;29:i53.
    """
    above: list[list[int]] = [[] for _ in range(truth.shape[1])]
    for child, parent in parents.tolist():
        above[child].append(parent)
    having = truth.sum(axis=0)
    eligible = np.array([truth[:, p].all(axis=1).sum() if p else len(truth) for p in above], dtype=np.int64)
    bits = np.zeros(truth.shape[1])
    known = (having > 0) & (eligible > 0)
    bits[known] = -np.log2(having[known] / eligible[known])
    return np.abs(bits)  # no -0.0


@dataclass(frozen=True, eq=False)
class _Counts:
    """Of each row (n) at each threshold (t): terms predicted and of those true, counted and by information."""

    predicted: Array
    found: Array
    true: Array  # (n,)
    weight_predicted: Array
    weight_found: Array
    weight_true: Array  # (n,)

    @classmethod
    def of(cls, values: NDArray[np.floating], labels: NDArray[np.bool_], information: Array | None) -> _Counts:
        n, t = len(values), len(THRESHOLDS)
        sums = {name: np.zeros((n, t)) for name in ("predicted", "found", "weight_predicted", "weight_found")}
        for start in range(0, n, BLOCK_ROWS):
            rows = slice(start, min(start + BLOCK_ROWS, n))
            # How many thresholds a score reaches: it is predicted at all of those.
            reached = np.searchsorted(THRESHOLDS, values[rows].astype(np.float64), side="right")
            cells = (np.arange(reached.shape[0])[:, None] * (t + 1) + reached).ravel()
            truths = labels[rows].ravel().astype(np.float64)
            weights = None if information is None else np.broadcast_to(information, reached.shape).ravel()
            for prefix, weight in (("", None), ("weight_", weights)):
                if prefix and weight is None:
                    continue
                both = truths if weight is None else truths * weight
                for name, what in (("predicted", weight), ("found", both)):
                    binned = np.bincount(cells, weights=what, minlength=reached.shape[0] * (t + 1))
                    by_row = binned.reshape(-1, t + 1)[:, 1:]
                    sums[prefix + name][rows] = np.cumsum(by_row[:, ::-1], axis=1)[:, ::-1]
        true = labels.sum(axis=1).astype(np.float64)
        if information is None:
            return cls(sums["predicted"], sums["found"], true, sums["predicted"], sums["found"], true)
        return cls(**sums, true=true, weight_true=labels @ information)

    def curve(self) -> TermCurve:
        """The curve of all rows."""
        one = self._curves(np.ones((1, len(self.true))))
        return TermCurve(thresholds=THRESHOLDS, **{name: values[0] for name, values in one.items()})

    def figures(self, draws: Array) -> dict[str, Array]:
        """`FIGURES` (b,) of resamples, `draws` (b, n) how often each row counts."""
        c = self._curves(draws)
        micro = _harmonic(c["micro_precision"], c["micro_recall"])
        covered = c["coverage"] > 0
        return {
            "fmax": c["f"].max(axis=1),
            "weighted_fmax": c["weighted_f"].max(axis=1),
            "smin": np.where(covered, c["s"], np.inf).min(axis=1),
            "aupr": _areas(c["recall"], c["precision"], covered),
            "micro_fmax": micro.max(axis=1),
            "micro_aupr": _areas(c["micro_recall"], c["micro_precision"], covered),
        }

    def _curves(self, draws: Array) -> dict[str, Array]:
        """Curves (b, t) by name."""
        rows = draws.sum(axis=1, keepdims=True)
        predicted, recalled = _ratios(self.found, self.predicted), _ratios(self.found, self.true[:, None])
        covering = draws @ (self.predicted > 0)
        precision, recall = _divided(draws @ predicted, covering), draws @ recalled / rows
        w_covering = draws @ (self.weight_predicted > 0)
        w_precision = _divided(draws @ _ratios(self.weight_found, self.weight_predicted), w_covering)
        w_recall = draws @ _ratios(self.weight_found, self.weight_true[:, None]) / rows
        missed = draws @ (self.weight_true[:, None] - self.weight_found) / rows
        false = draws @ (self.weight_predicted - self.weight_found) / rows
        all_found = draws @ self.found
        return {
            "precision": precision,
            "recall": recall,
            "f": _harmonic(precision, recall),
            "coverage": covering / rows,
            "weighted_precision": w_precision,
            "weighted_recall": w_recall,
            "weighted_f": _harmonic(w_precision, w_recall),
            "uncertainty": missed,
            "misinformation": false,
            "s": np.hypot(missed, false),
            "micro_precision": _divided(all_found, draws @ self.predicted),
            "micro_recall": all_found / (draws @ self.true)[:, None],
        }


def _checked(scores: NDArray[np.floating], truth: NDArray[np.bool_]) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    values, labels = np.asarray(scores), np.asarray(truth, dtype=bool)
    if values.shape != labels.shape or values.ndim != 2 or not values.size:
        raise InputError(f"scores and truth have one shape (rows, terms) and a row; got {values.shape}, {labels.shape}")
    if not ((values >= 0) & (values <= 1)).all():
        raise InputError("scores of terms must lie between 0 and 1; some do not")
    if not labels.any(axis=1).all():
        raise InputError("a row is evaluated by its true terms; some rows have none: leave them out")
    return values, labels


def _ratios(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _divided(total: Array, count: Array) -> Array:
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0)


def _harmonic(precision: Array, recall: Array) -> Array:
    return _divided(2 * precision * recall, precision + recall)


def _areas(recall: Array, precision: Array, covered: NDArray[np.bool_]) -> Array:
    """(b,) areas by trapezoid over the points with any prediction; recall falls as the threshold rises."""
    width = np.where(covered[:, 1:], recall[:, :-1] - recall[:, 1:], 0)
    return (width * (precision[:, 1:] + precision[:, :-1]) / 2).sum(axis=1)


def _best_at(curve: TermCurve) -> dict[str, float]:
    """The threshold of Fmax, weighted Fmax and Smin."""
    s = np.where(curve.coverage > 0, curve.s, np.inf)
    places = {"fmax": curve.f.argmax(), "weighted_fmax": curve.weighted_f.argmax(), "smin": s.argmin()}
    return {name: float(curve.thresholds[place]) for name, place in places.items()}


def _estimate(replicates: Array, rows: int) -> Estimate:
    value = float(replicates[0])
    if rows < FEWEST_FOR_INTERVAL or len(replicates) == 1:
        return Estimate(value, reason=f"{rows} rows: an interval needs {FEWEST_FOR_INTERVAL}")
    low, high = np.percentile(replicates[1:], PERCENTILES)
    return Estimate(value, float(low), float(high))


def _of_each_term(values: NDArray[np.floating], labels: NDArray[np.bool_]) -> Iterator[tuple[float, float]]:
    """AUROC and average precision of each column with enough rows with and without the term."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    positive = labels.sum(axis=0)
    enough = (positive >= FEWEST_FOR_INTERVAL) & (len(labels) - positive >= FEWEST_FOR_INTERVAL)
    for place in np.flatnonzero(enough):
        truth, score = labels[:, place], values[:, place]
        yield float(roc_auc_score(truth, score)), float(average_precision_score(truth, score))
