"""Many labels at once, such as next year's diagnoses: figures of each, their averages, and recall at k.

Every label is evaluated as one outcome is: rows that were censored before the horizon count through the censoring
weights, fitted for each label on the rows that are at risk of it. Averages are those of scikit-learn: `macro` the mean
over labels, `weighted` the mean weighted by the labels' events, `micro` all pairs of row and label as one outcome.
Recall at k is the share of all events that are among the k labels ranked highest in their row (Choi et al. 2016, Doctor
AI, section 5.2, over events instead of rows). All resamples draw the same subjects for all labels and models.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from careloop import InputError
from careloop.evaluate.censoring import CENSORED, OUTCOME, HorizonWeights, Outcomes, identified
from careloop.evaluate.discrimination import Ranking, auprc, auroc
from careloop.evaluate.estimate import FEWEST_FOR_INTERVAL, Estimate, Support, draw_counts, estimate

FIGURES = ("auroc", "auprc", "brier")
RECALLED = (5, 10)  # of the labels ranked highest in a row; left out where there are no more labels than that
BLOCK_SIZE = 2**22  # resamples times rows times labels held at a time: weights of 32 MB
NONE_COUNTS = f"no label has {FEWEST_FOR_INTERVAL} subjects with and {FEWEST_FOR_INTERVAL} without the event"
Averages = Mapping[str, Mapping[str, Estimate]]


@dataclass(frozen=True, eq=False)
class LabelOutcomes:
    """What happened to each row (n) for each label (k).

    `subject_id` (n,); `event` and `follow_up_days` (n, k) as `Outcomes` has them; `at_risk` (n, k), False where the
    label does not apply to the row, which then does not count. Raises InputError for shapes that differ.
    """

    names: tuple[str, ...]
    subject_id: np.ndarray
    event: np.ndarray
    follow_up_days: np.ndarray
    at_risk: np.ndarray
    horizon_days: float

    def __post_init__(self) -> None:
        shape = (len(self.subject_id), len(self.names))
        for name in ("event", "follow_up_days", "at_risk"):
            if getattr(self, name).shape != shape:
                raise InputError(f"{name} must have shape {shape} (rows, labels); got {getattr(self, name).shape}")
        if 0 in shape or len(set(self.names)) < shape[1]:
            raise InputError("labels are evaluated on at least one row and one label, with names that all differ")

    @classmethod
    def of_values(cls, names: Sequence[str], subject_id: np.ndarray, values: np.ndarray) -> LabelOutcomes:
        """Labels (n, k) of 0, 1 or NaN without follow-up: NaN does not count, as if it had nothing to do with them."""
        known = ~np.isnan(values)
        event = np.where(values == 1, OUTCOME, CENSORED).astype(np.int8)
        return cls(tuple(names), np.asarray(subject_id), event, np.ones(values.shape), known, 1.0)


@dataclass(frozen=True)
class LabelFigures:
    """One label of one model: `figures` AUROC, AUPRC, Brier score and prevalence; with too few events no intervals."""

    name: str
    rows: Support
    figures: Mapping[str, Estimate]


@dataclass(frozen=True)
class LabelsModel:
    """One model: every label, and `averages`: `macro`, `weighted` and `micro` of `FIGURES`, `recall_at` of `RECALLED`.

    `macro` and `weighted` are over the labels that `LabelsEvaluation.too_few` does not name, the others over all.
    """

    labels: tuple[LabelFigures, ...]
    averages: Averages


@dataclass(frozen=True)
class LabelsComparison:
    """Differences first - second of the averages of two models, on the same rows and resamples (paired)."""

    first: str
    second: str
    averages: Averages


@dataclass(frozen=True)
class LabelsEvaluation:
    """All models; `too_few`: labels without ten subjects with and ten without the event among the rows at risk."""

    models: Mapping[str, LabelsModel]
    comparisons: tuple[LabelsComparison, ...]
    too_few: tuple[str, ...]


def evaluate_labels(
    probabilities: Mapping[str, np.ndarray], outcomes: LabelOutcomes, *, resamples: int = 1000, seed: int = 0
) -> LabelsEvaluation:
    """Evaluate the models' probabilities (n, k) of the same rows and labels.

    Raises:
        InputError: probabilities of another shape or outside 0 to 1; follow-up that `Outcomes` refuses.
    """
    labels = [_Label.of(outcomes, place) for place in range(len(outcomes.names))]
    models = {name: _Model(_checked(name, p, outcomes), outcomes, labels) for name, p in probabilities.items()}
    blocks = []
    for count in _draws(outcomes, resamples, seed):
        weights = [label.weigh(count) for label in labels]
        with np.errstate(invalid="ignore", divide="ignore"):
            shared = _shared(weights, labels)
            blocks.append({name: shared | model.figures(weights) for name, model in models.items()})
    found = {
        name: {figure: np.concatenate([block[name][figure] for block in blocks]) for figure in blocks[0][name]}
        for name in models
    }
    return _evaluation(found, labels)


def _checked(name: str, probability: np.ndarray, outcomes: LabelOutcomes) -> np.ndarray:
    values = np.asarray(probability, dtype=np.float64)
    if values.shape != outcomes.event.shape:
        raise InputError(f"model {name!r}: probabilities must have shape {outcomes.event.shape}; got {values.shape}")
    bad = ~((values >= 0) & (values <= 1)) & outcomes.at_risk
    if bad.any():
        raise InputError(f"model {name!r}: probabilities must lie between 0 and 1; {int(bad.sum())} do not")
    return values


def _draws(outcomes: LabelOutcomes, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Counts (b, n) in blocks whose weights for all labels fit in memory."""
    most = max(1, BLOCK_SIZE // outcomes.event.size)
    for count in draw_counts(outcomes.subject_id, resamples=resamples, seed=seed):
        yield from (count[start : start + most] for start in range(0, len(count), most))


@dataclass(frozen=True, eq=False)
class _Label:
    """One label's rows at risk (places in all rows), and what happened to them.

    Of a label without such rows the first row stands there, without a weight; `outcomes` is then None.
    """

    name: str
    rows: np.ndarray
    outcomes: Outcomes | None

    @classmethod
    def of(cls, outcomes: LabelOutcomes, place: int) -> _Label:
        rows = np.flatnonzero(outcomes.at_risk[:, place])
        if not len(rows):
            return cls(outcomes.names[place], np.zeros(1, dtype=np.intp), None)
        ends = outcomes.follow_up_days[rows, place], outcomes.event[rows, place]
        return cls(outcomes.names[place], rows, Outcomes(outcomes.subject_id[rows], *ends, outcomes.horizon_days))

    @cached_property
    def label(self) -> np.ndarray:
        """(m,) whether the event happened."""
        return np.zeros(1, dtype=bool) if self.outcomes is None else self.outcomes.label

    @cached_property
    def support(self) -> Support:
        return Support(0, 0, 0, 0, 0, 0, 0, 0, 0) if self.outcomes is None else Support.of(self.outcomes)

    @cached_property
    def horizon_weights(self) -> HorizonWeights | None:
        return None if self.outcomes is None else HorizonWeights.of(self.outcomes)

    @cached_property
    def is_identified(self) -> bool:
        """Whether somebody at risk is followed to the horizon."""
        return bool(np.isfinite(self.weigh(np.ones((1, self.rows.max() + 1)))).all())

    @cached_property
    def has_enough(self) -> bool:
        return self.is_identified and self.support.shortage() is None

    def weigh(self, count: np.ndarray) -> np.ndarray:
        """Weights (b, m) for counts (b, n) of all rows, NaN where nobody is followed to the horizon."""
        chosen = count[:, self.rows]
        if self.horizon_weights is None:
            return np.full_like(chosen, np.nan)
        weight = self.horizon_weights(chosen)
        return np.where(identified(chosen, weight)[:, None], weight, np.nan)


class _Model:
    """One model's rows, sorted once for each label and for all of them together."""

    def __init__(self, probability: np.ndarray, outcomes: LabelOutcomes, labels: Sequence[_Label]) -> None:
        values = [probability[label.rows, place] for place, label in enumerate(labels)]
        self.labels = labels
        self.rankings = [Ranking.of(value, label.label) for value, label in zip(values, labels, strict=True)]
        self.errors = [(value - label.label) ** 2 for value, label in zip(values, labels, strict=True)]
        pooled = [place for place, label in enumerate(labels) if label.is_identified]
        self.pooled = pooled
        if pooled:
            truth = np.concatenate([labels[place].label for place in pooled])
            self.pool = Ranking.of(np.concatenate([values[place] for place in pooled]), truth)
        self.recalled = {
            at: [mask[label.rows, place] for place, label in enumerate(labels)]
            for at in RECALLED
            if at < len(labels)
            for mask in [highest(probability, outcomes.at_risk, at)]
        }

    def figures(self, weights: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """`FIGURES` of the labels (b, k), and (b,) `micro FIGURE` and `recall K` of all together."""
        counted = [ranking.above(weight) for ranking, weight in zip(self.rankings, weights, strict=True)]
        found = {"auroc": _columns(auroc(*pair) for pair in counted), "auprc": _columns(auprc(*p) for p in counted)}
        lost = [weight @ error for weight, error in zip(weights, self.errors, strict=True)]
        total = [weight.sum(axis=1) for weight in weights]
        found["brier"] = _columns(lost) / _columns(total)
        if not self.pooled:
            return found | {f"micro {name}": np.full(len(weights[0]), np.nan) for name in FIGURES}
        pair = self.pool.above(np.hstack([weights[place] for place in self.pooled]))
        found |= {"micro auroc": auroc(*pair), "micro auprc": auprc(*pair)}
        found["micro brier"] = sum(lost[p] for p in self.pooled) / sum(total[p] for p in self.pooled)
        for at, masks in self.recalled.items():
            hit = sum(weights[p] @ (self.labels[p].label & masks[p]) for p in self.pooled)
            found[f"recall {at}"] = hit / sum(weights[p] @ self.labels[p].label for p in self.pooled)
        return found


def highest(probability: np.ndarray, at_risk: np.ndarray, at: int) -> np.ndarray:
    """(n, k) bool: the `at` labels ranked highest of those each row is at risk of; of equal ones the first."""
    order = np.argsort(np.where(at_risk, -probability, np.inf), axis=1, kind="stable")[:, :at]
    found = np.zeros(probability.shape, dtype=bool)
    np.put_along_axis(found, order, True, axis=1)
    return found & at_risk


def _shared(weights: Sequence[np.ndarray], labels: Sequence[_Label]) -> dict[str, np.ndarray]:
    """What no model changes: the labels' weighted events and prevalence (b, k)."""
    events = _columns(weight @ label.label for weight, label in zip(weights, labels, strict=True))
    return {"events": events, "prevalence": events / _columns(weight.sum(axis=1) for weight in weights)}


def _columns(arrays: Iterator[np.ndarray] | Sequence[np.ndarray]) -> np.ndarray:
    return np.column_stack(list(arrays))


def _evaluation(found: Mapping[str, Mapping[str, np.ndarray]], labels: Sequence[_Label]) -> LabelsEvaluation:
    enough = np.array([label.has_enough for label in labels])
    averaged = {name: _averages(figures, enough) for name, figures in found.items()}
    models = {}
    for name, figures in found.items():
        singles = tuple(
            LabelFigures(
                label.name,
                label.support,
                {f: estimate(figures[f][:, p], label.support) for f in (*FIGURES, "prevalence")},
            )
            for p, label in enumerate(labels)
        )
        models[name] = LabelsModel(singles, _estimates(averaged[name], labels))
    comparisons = []
    for first, second in itertools.combinations(found, 2):
        differences = {
            kind: {name: values - averaged[second][kind][name] for name, values in some.items()}
            for kind, some in averaged[first].items()
        }
        comparisons.append(LabelsComparison(first, second, _estimates(differences, labels)))
    return LabelsEvaluation(models, tuple(comparisons), tuple(x.name for x in labels if not x.has_enough))


def _averages(figures: Mapping[str, np.ndarray], enough: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Averages (1 + resamples,) by kind and figure."""
    events = figures["events"][:, enough]
    found = {
        "macro": {name: _mean(figures[name][:, enough], np.ones_like(events)) for name in FIGURES},
        "weighted": {name: _mean(figures[name][:, enough], events) for name in FIGURES},
        "micro": {name: figures[f"micro {name}"] for name in FIGURES},
    }
    recall = {name.removeprefix("recall "): values for name, values in figures.items() if name.startswith("recall ")}
    return found | ({"recall_at": recall} if recall else {})


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean (b,) of the defined of (b, k): a resample may hold no event of some label."""
    defined = np.isfinite(values) & np.isfinite(weights)
    shares = np.where(defined, weights, 0.0)
    total = shares.sum(axis=1)
    return np.divide((np.where(defined, values, 0.0) * shares).sum(axis=1), total, out=total * np.nan, where=total > 0)


def _estimates(averages: Mapping[str, Mapping[str, np.ndarray]], labels: Sequence[_Label]) -> Averages:
    support = _together(labels)
    none = not any(label.has_enough for label in labels)
    return {
        kind: {
            name: Estimate(None, reason=NONE_COUNTS)
            if none and kind in ("macro", "weighted")
            else estimate(values, support)
            for name, values in some.items()
        }
        for kind, some in averages.items()
    }


def _together(labels: Sequence[_Label]) -> Support:
    """All pairs of row and label as one; a subject counts once."""
    known = [label.outcomes for label in labels if label.outcomes is not None]
    if not known:
        return Support(0, 0, 0, 0, 0, 0, 0, 0, 0)
    subjects, days, events = (
        np.concatenate(parts) for parts in zip(*((o.subject_id, o.follow_up_days, o.event) for o in known), strict=True)
    )
    return Support.of(Outcomes(subjects, days, events, known[0].horizon_days))
