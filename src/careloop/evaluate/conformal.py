"""Split conformal prediction: sets of labels that hold the true one with a stated probability, and whether they do.

Labels are numbered 0 to k - 1 (of a binary outcome 1 is the outcome). A label's score says how badly it fits a row; a
row's set holds the labels whose score is at most a threshold, a quantile of the scores that the true labels of
calibration rows had. If those rows and the new one are exchangeable, the set holds the true label with probability
`level` or a little more, whatever the model. Thresholds may be taken for each label and group on its own, and then the
promise holds within each (Mondrian).

Sources: Sadinle, Lei and Wasserman, JASA 2019;114:223 (least ambiguous sets, sections 2 and 3); Romano, Sesia and
Candès, NeurIPS 2020 (adaptive sets); Vovk, ACML 2012 (conditional validity); Tibshirani et al., NeurIPS 2019 (weights).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from careloop import InputError
from careloop.evaluate.censoring import Outcomes
from careloop.evaluate.estimate import Estimate, Support, estimate, replicate
from careloop.evaluate.subgroups import Subgroup, group_names, ordered

# No score is above 1, so this threshold keeps every label.
EVERY_LABEL = 1.0
FIGURES = ("coverage", "coverage_event", "coverage_event_free", "mean_size", "single", "empty", "several")

# A row's group in each of some variables; the greatest scores that keep each label in its set.
Group: TypeAlias = tuple[str, ...]
Limits: TypeAlias = tuple[float, ...]


@dataclass(frozen=True, eq=False)
class LabelSets:
    """Which labels each row's set holds, `member` (n, k) bool, and the probability they promise."""

    level: float
    member: np.ndarray


@dataclass(frozen=True)
class Thresholds:
    """Greatest score of a label in the set, by label (k): for all rows, and for combinations of groups."""

    level: float
    overall: Limits
    groups: Mapping[Group, Limits]

    def sets(self, scores: np.ndarray, groups: Sequence[Group] | None = None) -> LabelSets:
        """The sets of rows with these scores (n, k) and groups (n); unknown groups have the overall thresholds."""
        limits = np.array([self.groups.get(group, self.overall) for group in groups or [()] * len(scores)])
        return LabelSets(self.level, scores <= limits.reshape(scores.shape))


@dataclass(frozen=True)
class Coverage:
    """How often sets held the true label, and how large they were, overall and in subgroups."""

    level: float
    figures: Mapping[str, Estimate]
    subgroups: tuple[Subgroup, ...]


def binary(risk: np.ndarray) -> np.ndarray:
    """Probabilities (n, 2) of no outcome and of the outcome, from the risk (n,)."""
    return np.column_stack([1 - risk, risk])


def least_ambiguous(probability: np.ndarray) -> np.ndarray:
    """Scores (n, k): 1 - probability of the label, which give the smallest sets on average."""
    return 1 - probability


def adaptive(probability: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray:
    """Scores (n, k): probability of the labels at least as likely as this one, so that hard rows get larger sets.

    With `uniform` (n,) random numbers a share of the label's own probability is left out, which makes coverage exact
    instead of too high (Romano, Sesia and Candès 2020, equation 5).
    """
    order = np.argsort(-probability, axis=1, kind="stable")
    cumulative = np.cumsum(np.take_along_axis(probability, order, axis=1), axis=1)
    scores = np.empty_like(cumulative)
    np.put_along_axis(scores, order, cumulative, axis=1)
    own = 0.0 if uniform is None else uniform[:, None] * probability
    return np.clip(scores - own, 0.0, 1.0)


def conformal_quantile(scores: np.ndarray, level: float, weight: np.ndarray | None = None) -> float:
    """The ceil((n + 1) level)-th smallest of scores (n,), infinite if that is more than there are.

    Weights (n,) are scaled to sum to Kish's effective number of rows, (sum w)^2 / sum w^2; the new row, whose score may
    be anything, counts 1 beside them (Tibshirani et al. 2019, lemma 1, with the new row's weight taken as average).
    """
    if not len(scores):
        return float("inf")
    weight = np.ones(len(scores)) if weight is None else np.asarray(weight, dtype=np.float64)
    scaled = weight * (effective_rows(weight) / weight.sum())
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(scaled[order])
    # Sums of weights are rounded: a needed mass that is met to 1e-9 is met.
    place = int(np.searchsorted(reached, level * (scaled.sum() + 1) - 1e-9))
    return float(scores[order[place]]) if place < len(scores) else float("inf")


def conformal_thresholds(
    scores: np.ndarray,
    label: np.ndarray,
    *,
    level: float,
    weight: np.ndarray | None = None,
    groups: Sequence[Group] | None = None,
    condition: Literal["label", "none"] = "label",
) -> Thresholds:
    """Thresholds from calibration rows with scores (n, k), true labels (n,) of 0 to k - 1, and weights of 0 or more.

    `condition="label"`: the promise holds for rows of each label; "none": on average over labels. `groups` (n) are each
    row's groups in one or more variables, and every combination of them gets its own thresholds. One with too few rows
    of a label for a quantile at `level` gets the most cautious of the thresholds of its groups taken singly, and where
    they too have too few, the label is always in the set. InputError for other shapes or levels.
    """
    label = np.asarray(label).astype(np.int64)
    weight = np.ones(len(label)) if weight is None else np.asarray(weight, dtype=np.float64)
    if scores.ndim != 2 or label.shape != scores.shape[:1] or weight.shape != label.shape or not 0 < level < 1:
        raise InputError(
            f"conformal sets need scores (n, k), a label and a weight for each row and a level between 0 and 1: got "
            f"shapes {scores.shape}, {label.shape}, {weight.shape} and level {level}"
        )
    true = np.take_along_axis(scores, label[:, None], axis=1)[:, 0]
    parts = [(label == k) | (condition == "none") for k in range(scores.shape[1])]

    def limits(rows: Sequence[int]) -> Limits:
        taken = np.asarray(rows, dtype=np.int64)
        chosen = [taken[part[taken] & (weight[taken] > 0)] for part in parts]
        return tuple(conformal_quantile(true[at], level, weight[at]) for at in chosen)

    overall = tuple(min(limit, EVERY_LABEL) for limit in limits(range(len(label))))
    return Thresholds(level, overall, _group_limits(groups or [], limits))


def _group_limits(groups: Sequence[Group], limits: Callable[[Sequence[int]], Limits]) -> dict[Group, Limits]:
    """Thresholds of each combination of groups; `limits` gives those of chosen rows, infinite where too few."""
    rows_of: dict[Group, list[int]] = {}
    singly: dict[tuple[int, str], list[int]] = {}
    for row, group in enumerate(groups):
        rows_of.setdefault(group, []).append(row)
        for pair in enumerate(group):
            singly.setdefault(pair, []).append(row)
    coarse = {pair: limits(rows) for pair, rows in singly.items()}
    found = {}
    for group, rows in rows_of.items():
        own, cautious = limits(rows), np.max([coarse[pair] for pair in enumerate(group)], axis=0)
        best = np.minimum(np.where(np.isinf(own), cautious, own), EVERY_LABEL)
        found[group] = tuple(best.tolist())
    return found


def effective_rows(weight: np.ndarray) -> float:
    """Kish's effective number of rows, (sum w)^2 / sum w^2; 0 without rows."""
    return float(weight.sum() ** 2 / (weight**2).sum()) if len(weight) else 0.0


def coverage(
    sets: LabelSets,
    outcomes: Outcomes,
    groups: Mapping[str, np.ndarray],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Coverage:
    """`FIGURES` of binary sets on evaluated rows, overall and in every group of every variable.

    `coverage` is the share of rows whose set holds the true label, `coverage_event` and `coverage_event_free` that of
    rows with and without the outcome, by censoring weights; `mean_size` is the mean number of labels in a set, and
    `single`, `empty` and `several` are the shares of sets with one, none and more, of all rows. Intervals by the
    bootstrap of subjects. `groups` as for `evaluate_subgroups`. InputError for sets of other rows than the outcomes'.
    """
    if sets.member.shape != (len(outcomes), 2):
        raise InputError(
            f"sets must be (rows, 2), one column a label: got {sets.member.shape} for {len(outcomes)} rows"
        )
    parts = []
    for variable, values in groups.items():
        names = group_names(variable, values, len(outcomes))
        for group in ordered(names):
            rows = names == group
            chosen = outcomes.take(rows)
            figures = _figures(sets.member[rows], chosen, resamples=resamples, seed=seed)
            parts.append(Subgroup(variable, group, Support.of(chosen), figures))
    return Coverage(sets.level, _figures(sets.member, outcomes, resamples=resamples, seed=seed), tuple(parts))


def _figures(member: np.ndarray, outcomes: Outcomes, *, resamples: int, seed: int) -> dict[str, Estimate]:
    label, size = outcomes.label, member.sum(axis=1)
    held = member[np.arange(len(member)), label.astype(np.int64)]
    sizes = {"mean_size": size, "single": size == 1, "empty": size == 0, "several": size > 1}

    def statistic(count: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
        rows = {"coverage": weight, "coverage_event": weight * label, "coverage_event_free": weight * ~label}
        found = {name: (kept @ held) / kept.sum(axis=1) for name, kept in rows.items()}
        return found | {name: (count @ value) / count.sum(axis=1) for name, value in sizes.items()}

    found = replicate(outcomes, {"sets": statistic}, resamples=resamples, seed=seed)["sets"]
    support = Support.of(outcomes)
    return {name: estimate(found[name], support) for name in FIGURES}
