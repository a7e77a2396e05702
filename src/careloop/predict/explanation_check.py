"""Whether what an explanation calls important is so: removing those events must move the risk more than others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from careloop.features import FeatureMatrix
from careloop.models.sequence.explanation.attribution import Score, integrated_gradients
from careloop.models.sequence.explanation.removal import DeletionCurve, deletion_curve
from careloop.train import Package

MOST_ROWS = 200  # enough for an interval of about a tenth of the distance


@dataclass(frozen=True)
class ExplanationCheck:
    """The deletion curve of a model's explanations, and what it says in a sentence."""

    model: str
    fractions: tuple[float, ...]
    explained: tuple[float, ...]
    random: tuple[float, ...]
    area: float
    low: float
    high: float
    rows: int

    @property
    def text(self) -> str:
        """What the curve says."""
        verdict = (
            "The explanations name events that matter" if self.low > 0 else "The explanations are no better than chance"
        )
        return (
            f"{verdict}: without the {self.fractions[-1]:.0%} of a patient's events that they say raise the risk most, "
            f"the log-odds are {self.explained[-1]:.2f} lower, without as many at random {self.random[-1]:.2f} (mean "
            f"distance {self.area:.2f}, 95 % interval {self.low:.2f} to {self.high:.2f}; {self.rows} patients)."
        )


def check_explanation(package: Package, matrix: FeatureMatrix) -> ExplanationCheck:
    """Compare removal in the order of integrated gradients with removal at random, on one row of each subject.

    The package is of a model over event sequences; `matrix` has held-out rows with timelines, of which at most
    `MOST_ROWS` are drawn.
    """
    _, first = np.unique(matrix.keys["subject_id"].to_numpy(), return_index=True)
    drawn = np.random.default_rng(0).permutation(first)[:MOST_ROWS]
    rows, score = package.inputs(matrix.take(np.sort(drawn))), Score(horizon=package.horizon_days)
    found = integrated_gradients(package.estimators[0], rows, score=score)
    return _check(package.name, deletion_curve(package.estimators[0], rows, found, score=score))


def _check(model: str, curve: DeletionCurve) -> ExplanationCheck:
    fractions, explained, random = (
        tuple(v.tolist()) for v in (curve.fractions, curve.explained.mean, curve.random.mean)
    )
    return ExplanationCheck(
        model, fractions, explained, random, curve.area, low=curve.low, high=curve.high, rows=curve.rows
    )
