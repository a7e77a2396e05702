"""Sequence estimators by the name that a study file gives: the trunk, and whether hazards or labels are learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from careloop import InputError
from careloop.models.sequence.estimators import SequenceClassifier, SequenceHazard

ESTIMATORS = {"hazard": SequenceHazard, "label": SequenceClassifier}
KINDS = ("gru", "temporal_cnn", "transformer")


@dataclass(frozen=True)
class SequenceKind:
    """Makes unfitted estimators of one trunk; `target` is `hazard` (follow-up with its censoring) or `label`."""

    network: str

    def __call__(self, *, target: str = "hazard", **parameters: Any) -> SequenceHazard | SequenceClassifier:
        """An unfitted estimator. InputError for an unknown target."""
        if target not in ESTIMATORS:
            raise InputError(f"Model '{self.network}': target must be one of {', '.join(ESTIMATORS)}; got {target!r}")
        return ESTIMATORS[target](**{"network": self.network, **parameters})

    def from_state(self, state: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> SequenceHazard | SequenceClassifier:
        """The fitted estimator that `get_state` described."""
        return (SequenceHazard if "cuts" in state else SequenceClassifier).from_state(state, arrays)
