"""Sequence estimators by the name that a study file gives: the trunk, and what is learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from careloop import InputError
from careloop.models.sequence.estimators import SequenceClassifier, SequenceHazard
from careloop.models.sequence.many_outputs import SequenceLabels, SequenceRegressor

SequenceEstimator = SequenceHazard | SequenceClassifier | SequenceLabels | SequenceRegressor
ESTIMATORS: dict[str, type[SequenceEstimator]] = {
    "hazard": SequenceHazard, "label": SequenceClassifier, "labels": SequenceLabels, "numbers": SequenceRegressor,
}  # fmt: skip
STATE_KEYS = {"hazard": "cuts", "label": "classes", "labels": "labels", "numbers": "numbers"}  # that only one has
KINDS = ("gru", "temporal_cnn", "transformer")


@dataclass(frozen=True)
class SequenceKind:
    """Makes unfitted estimators of one trunk.

    `target` says of what: `hazard` (follow-up with its censoring), `label`, `labels` (several at once), `numbers`.
    """

    network: str

    def __call__(self, *, target: str = "hazard", **parameters: Any) -> SequenceEstimator:
        """An unfitted estimator. InputError for an unknown target."""
        if target not in ESTIMATORS:
            raise InputError(f"Model '{self.network}': target must be one of {', '.join(ESTIMATORS)}; got {target!r}")
        return ESTIMATORS[target](**{"network": self.network, **parameters})

    def from_state(self, state: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> SequenceEstimator:
        """The fitted estimator that `get_state` described."""
        target = next(target for target, key in STATE_KEYS.items() if key in state)
        return ESTIMATORS[target].from_state(state, arrays)
