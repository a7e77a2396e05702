"""A feature that alone tells who has the outcome, implausibly well, stops the run with its code's name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from careloop import InputError
from careloop.evaluate import horizon_weights
from careloop.train.definition import LabelledRows, TrainingData
from careloop.train.tune import subject_folds

# The features of one code separate the outcome implausibly well when the lower 95 % bound of their cross-validated
# AUROC is above this. Risk models with dozens of predictors seldom reach 0.95; one honest fact does not reach 0.98.
IMPLAUSIBLE_AUROC = 0.98
# A 0/1 feature whose bearers have the outcome at a rate with a lower bound above this, where fewer than half of all
# rows have it, records the outcome. The bound needs some 340 bearers: that 30 of 30 hospice patients die is possible.
IMPLAUSIBLE_RATE = 0.98
RATE_CONFIDENCE = 0.999
# With fewer subjects of either class an AUROC near 1 may be luck.
SMALLEST_CLASS = 20
FOLDS = 5
# Rows of each class that a code is judged on: AUROC does not depend on how common the classes are.
ROWS_A_CLASS = 5_000
DEPTH, SMALLEST_LEAF = 4, 5


@dataclass(frozen=True)
class Leak:
    """A code whose features alone tell the outcome, and how well, in words."""

    code: str
    features: tuple[str, ...]
    finding: str


def check_leakage(data: TrainingData) -> None:
    """InputError naming the first code (in order of columns) whose features alone give the outcome away.

    Looked at on the training rows, for two questions: the outcome within the horizon, and whether follow-up ended in
    the outcome at all, because a fact written down at the outcome shows in the second even when the horizon is short.
    """
    for leak in find_leaks(data.part("train"), code_groups(data)):
        raise InputError(
            f"code {leak.code} gives the outcome away: {leak.finding}. Most likely it was recorded because of it: "
            "add it to features.exclude_codes, or correct its known_time in the record, and run again"
        )


def code_groups(data: TrainingData) -> dict[str, list[int]]:
    """Columns of the matrix by the code that they are derived from."""
    groups: dict[str, list[int]] = {}
    for j, column in enumerate(data.recipe.columns):
        groups.setdefault(column.code or column.name, []).append(j)
    return groups


def find_leaks(rows: LabelledRows, groups: dict[str, list[int]]) -> Iterator[Leak]:
    """Leaks in order of `groups` (code -> columns)."""
    outcomes = rows.outcomes
    weight = horizon_weights(outcomes.follow_up_days, outcomes.event, outcomes.horizon_days)
    ended = outcomes.event == 1
    questions = [
        Question.of(rows, outcomes.label, weight > 0),
        Question.of(rows, ended, np.ones(len(ended), dtype=bool)),
    ]
    columns = rows.values.tocsc() if hasattr(rows.values, "tocsc") else rows.values
    for code, places in groups.items():
        block = columns[:, places]
        block = np.asarray(block.toarray() if hasattr(block, "toarray") else block, dtype=np.float64)
        findings = (question.judge(block) for question in questions if question.large_enough)
        finding = next((found for found in findings if found), None)
        if finding:
            yield Leak(code, tuple(str(place) for place in places), finding)


@dataclass(frozen=True, eq=False)
class Question:
    """Labels (m,) of the rows (m,) that a code is judged on, and the folds of a sample of them with both classes."""

    rows: np.ndarray
    label: np.ndarray
    sample: np.ndarray
    folds: np.ndarray
    subjects: tuple[int, int]

    @classmethod
    def of(cls, source: LabelledRows, label: np.ndarray, known: np.ndarray) -> Question:
        """Choose the rows with a known label, and at most `ROWS_A_CLASS` of each class for the trees."""
        rows = np.flatnonzero(known)
        label = label[rows].astype(np.int64)
        subject_id = source.outcomes.subject_id[rows]
        counts = [len(np.unique(subject_id[label == value])) for value in (0, 1)]
        if min(counts) < SMALLEST_CLASS:
            return cls(rows, label, rows[:0], rows[:0], (counts[0], counts[1]))
        random = np.random.default_rng(0)
        chosen = [random.permutation(np.flatnonzero(label == value))[:ROWS_A_CLASS] for value in (0, 1)]
        sample = np.sort(np.concatenate(chosen))
        folds = subject_folds(subject_id[sample], label[sample], FOLDS)
        return cls(rows, label, sample, folds, (counts[0], counts[1]))

    @property
    def large_enough(self) -> bool:
        """Whether both classes have enough subjects for a verdict."""
        return min(self.subjects) >= SMALLEST_CLASS

    def judge(self, block: np.ndarray) -> str | None:
        """What is implausible about the columns (n, k) of one code, or None."""
        values = block[self.rows]
        return self.pure_value(values) or self.separation(with_presence(values[self.sample]))

    def pure_value(self, values: np.ndarray) -> str | None:
        """A 0/1 column whose bearers nearly all have the outcome although most rows do not."""
        if self.label.mean() >= 0.5:
            return None
        binary = [j for j in range(values.shape[1]) if np.isin(values[:, j], (0.0, 1.0)).all()]
        for j in binary:
            bearers = values[:, j] == 1
            events, count = int(self.label[bearers].sum()), int(bearers.sum())
            if count and lower_rate(events, count) > IMPLAUSIBLE_RATE:
                share = f"{self.label.mean():.0%} of all rows do"
                return f"{events:,} of {count:,} rows with one value have the outcome, {share}"
        return None

    def separation(self, values: np.ndarray) -> str | None:
        """An implausible cross-validated AUROC of a shallow tree on the code's columns."""
        from sklearn.metrics import roc_auc_score

        label = self.label[self.sample]
        if best_possible_auroc(values, label) <= IMPLAUSIBLE_AUROC:
            return None
        everywhere = shallow_tree().fit(values, label)
        if roc_auc_score(label, everywhere.predict_proba(values)[:, 1]) <= IMPLAUSIBLE_AUROC:
            return None  # not even on the rows it was fitted to
        risk = np.empty(len(label))
        for fold in range(FOLDS):
            held = self.folds == fold
            risk[held] = shallow_tree().fit(values[~held], label[~held]).predict_proba(values[held])[:, 1]
        auroc = float(roc_auc_score(label, risk))
        lower = lower_auroc(auroc, self.subjects[1], self.subjects[0])
        if lower <= IMPLAUSIBLE_AUROC:
            return None
        return f"alone it has an AUROC of {auroc:.3f} (lower bound {lower:.3f}, limit {IMPLAUSIBLE_AUROC})"


def shallow_tree() -> Any:
    """A tree that sees a threshold, an interval or absence in one code's columns, and little more."""
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_depth=DEPTH, min_samples_leaf=SMALLEST_LEAF, random_state=0)


def with_presence(values: np.ndarray) -> np.ndarray:
    """The columns (m, k) and one more: has the row any fact of this code (a text fact is spread over columns)."""
    present = (~np.isnan(values) & (values != 0)).any(axis=1, keepdims=True)
    return np.hstack([values, present])


def best_possible_auroc(values: np.ndarray, label: np.ndarray) -> float:
    """What the AUROC could be at most: rows in the commonest pattern (absent) are tied with one another."""
    tied = ~((~np.isnan(values) & (values != 0)).any(axis=1))
    shares = [float(tied[label == value].mean()) for value in (0, 1)]
    return 1.0 - shares[0] * shares[1] / 2


def lower_auroc(auroc: float, events: int, others: int) -> float:
    """Lower 95 % bound of an AUROC (Hanley and McNeil, Radiology 1982;143:29)."""
    one, two = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    spread = auroc * (1 - auroc) + (events - 1) * (one - auroc**2) + (others - 1) * (two - auroc**2)
    return auroc - 1.96 * float(np.sqrt(max(spread, 0.0) / (events * others)))


def lower_rate(events: int, count: int) -> float:
    """Lower bound of a rate at `RATE_CONFIDENCE` (Clopper and Pearson)."""
    from scipy.stats import beta

    return float(beta.ppf(1 - RATE_CONFIDENCE, events, count - events + 1)) if events else 0.0
