"""Learning curves of small models on a study: trained on disjoint parts of the training rows, judged on tuning rows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from careloop.evaluate import Outcomes
from careloop.evaluate.discrimination import Ranking, auroc
from careloop.evaluate.estimate import Estimate, Support, replicate
from careloop.evaluate.learning_curve import FEWEST_SIZES, Ahead, LearningCurve, fit_learning_curve
from careloop.models import build
from careloop.train import LabelledRows, ModelSection, TrainingData
from careloop.train.fit import fit_rows
from careloop.train.package import raw_risk

# The training subjects are divided into so many parts, each of which trains a model of its own, so that the errors of
# one size are independent; at most REPEATS parts are used of each division.
DIVISIONS = (16, 11, 8, 6, 4, 3, 2, 1)
REPEATS = 8
# A part with fewer events, or with fewer rows followed to the horizon, would fit nothing.
FEWEST_IN_A_PART = 10
TIMES_AS_MANY = (1, 2, 4)
RESAMPLES = 300
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class ModelCurve:
    """One model's learning curve, whose error is 1 - AUROC on the tuning rows, or None; `words` say what it shows."""

    model: str
    curve: LearningCurve | None
    words: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class HalvesStatistic:
    """1 - AUROC of risks (n,), as the mean over two halves of the rows; call it with counts and weights (b, n)."""

    ranking: Ranking
    halves: np.ndarray

    def __call__(self, count: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
        """The error (b,)."""
        found = [auroc(*self.ranking.above(weight * (self.halves == half))) for half in (0, 1)]
        return {"error": 1 - (found[0] + found[1]) / 2}


def learning_curves(
    sections: Sequence[ModelSection], data: TrainingData, *, seed: int = 0, progress: Progress | None = None
) -> tuple[ModelCurve, ...]:
    """The curve of each model with its parameters as given, untuned; `progress` counts the models fitted.

    Early stopping never sees the rows that judge: a model that is stopped on one half of the tuning subjects is judged
    on the other, and the two halves' figures are averaged. The columns are the same for all parts.
    """
    training, tuning = data.part("train"), data.part("tuning")
    supports = [Support.of(rows.outcomes) for rows in (training, tuning)]
    divisions = tuple(d for d in DIVISIONS if min(supports[0].events, supports[0].followed) >= d * FEWEST_IN_A_PART)
    reason = _why_none(supports, len(divisions))
    if reason is not None:
        return tuple(ModelCurve(section.name, None, (reason,)) for section in sections)
    halves = dealt(tuning.outcomes, 2, seed=seed)
    parts = list(_parts(training.outcomes, divisions, seed=seed))
    total = len(sections) * len(parts)
    found: list[ModelCurve] = []
    for section in sections:
        errors: list[HalvesStatistic] = []
        for _, rows in parts:
            if progress is not None:
                progress(f"learning curve of {section.name}", len(found) * len(parts) + len(errors), total)
            risk = _risk(section, training.take(rows), tuning, halves=halves, data=data, seed=seed)
            errors.append(HalvesStatistic(Ranking.of(risk, tuning.outcomes.label), halves))
        found.append(_curve(section.name, [size for size, _ in parts], errors, tuning.outcomes, seed=seed))
    if progress is not None:
        progress("learning curves", total, total)
    return tuple(found)


def dealt(outcomes: Outcomes, parts: int, *, seed: int) -> np.ndarray:
    """The part (n,), 0 to parts - 1, of each row: subjects dealt out at random, those with an event evenly."""
    subjects, subject = np.unique(outcomes.subject_id, return_inverse=True)
    has_event = np.zeros(len(subjects), dtype=bool)
    has_event[subject[outcomes.label & outcomes.known]] = True
    shuffled = np.random.default_rng([seed, parts]).permutation(len(subjects))
    order = shuffled[np.argsort(has_event[shuffled], kind="stable")]
    part = np.empty(len(subjects), dtype=np.int64)
    part[order] = np.arange(len(subjects)) % parts
    return part[subject]


def _parts(outcomes: Outcomes, divisions: Sequence[int], *, seed: int) -> Iterator[tuple[int, np.ndarray]]:
    """Subjects and rows (positions) of each part to train on, smallest first."""
    subjects = len(np.unique(outcomes.subject_id))
    for division in divisions:
        part = dealt(outcomes, division, seed=seed)
        for number in range(min(division, REPEATS)):
            yield round(subjects / division), np.flatnonzero(part == number)


def _risk(
    section: ModelSection,
    rows: LabelledRows,
    tuning: LabelledRows,
    *,
    halves: np.ndarray,
    data: TrainingData,
    seed: int,
) -> np.ndarray:
    """Risks (n,) of the tuning rows, each from a model whose training was not ended by its half of them."""

    def risk_of(judged: np.ndarray, stopping: np.ndarray) -> np.ndarray:
        preprocessing, estimators = fit_rows(section, rows, tuning.take(stopping), data, seed=seed)
        return raw_risk(estimators, preprocessing.apply(tuning.values[judged]), rows.outcomes.horizon_days)

    first, second = (np.flatnonzero(halves == half) for half in (0, 1))
    if not _stops_early(section):
        return risk_of(np.arange(len(halves)), first)  # which rows stop it is all one
    risk = np.empty(len(halves))
    risk[first], risk[second] = risk_of(first, second), risk_of(second, first)
    return risk


def _stops_early(section: ModelSection) -> bool:
    return "validation" in inspect.signature(build(section.kind, **section.parameters).fit).parameters


def _curve(
    model: str, sizes: Sequence[int], statistics: Sequence[HalvesStatistic], outcomes: Outcomes, *, seed: int
) -> ModelCurve:
    """The curve through one model's errors, and what it says."""
    by_part = {str(number): statistic for number, statistic in enumerate(statistics)}
    replicates = replicate(outcomes, by_part, resamples=RESAMPLES, seed=seed)
    errors = np.column_stack([replicates[number]["error"] for number in by_part])
    resampled = errors[1:][np.isfinite(errors[1:]).all(axis=1)]
    now = max(sizes)
    curve = fit_learning_curve(
        sizes, errors[0], at=[times * now for times in TIMES_AS_MANY], resampled=resampled, seed=seed
    )
    return ModelCurve(model, curve, tuple(_sentences(curve)))


def _sentences(curve: LearningCurve) -> Iterator[str]:
    """What the curve says of the AUROC."""
    if curve.shape == "noisy":
        yield f"Not identified (the error is 1 - AUROC): {curve.words}."
        return
    for times, ahead in zip(TIMES_AS_MANY, curve.predictions, strict=True):
        if times == 1:
            yield f"With the {ahead.n:,} training patients there are, AUROC {_auroc(ahead)}."
        else:
            yield f"With {times} times the patients ({ahead.n:,}), AUROC about {_auroc(ahead)}, {_gain(ahead.gain)}."
    if curve.shape == "flat":
        yield (
            f"No rise of the AUROC between {curve.seen[0][0]:,} and {curve.seen[-1][0]:,} patients can be told from "
            "chance, so do not count on any gain."
        )


def _auroc(ahead: Ahead) -> str:
    value, low, high = (_number(v) for v in (ahead.error.value, ahead.error.high, ahead.error.low))
    return f"{1 - value:.3f} ({1 - low:.3f} to {1 - high:.3f})"


def _gain(gain: Estimate) -> str:
    value, low, high = (_number(v) for v in (gain.value, gain.low, gain.high))
    return f"{value:.3f} ({low:.3f} to {high:.3f}) more"


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _why_none(supports: Sequence[Support], divisions: int) -> str | None:
    """Why there is no learning curve, or None where there is one."""
    training, tuning = supports
    if divisions < FEWEST_SIZES:
        return (
            f"No learning curve: the training rows have {training.events} events and {training.followed} rows followed "
            f"to the horizon, and {FEWEST_SIZES} sizes of parts need {DIVISIONS[-FEWEST_SIZES] * FEWEST_IN_A_PART} of "
            "each."
        )
    shortage = tuning.shortage()
    return None if shortage is None else f"No learning curve: the tuning rows have {shortage}."
