"""The rule by which a package gives a row its set of labels: thresholds from tuning rows, in the study's subgroups.

Thresholds belong to each label, so only the order of the risks matters, which no calibration turns round. They are
taken from the model's own risks, before calibration: a map fitted to the tuning rows' labels would make the promise
optimistic, and one in steps, which makes many risks equal, the sets larger. That tuning rows also end a network's
training early is left: it is one choice among epochs, and held-out coverage shows what it costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from careloop.evaluate.conformal import (
    Group,
    LabelSets,
    Limits,
    Thresholds,
    binary,
    conformal_thresholds,
    least_ambiguous,
)
from careloop.features import FeatureMatrix
from careloop.train.subgroups import Grouping, combined

# Of a package written before there were label sets; it is the study file's default too.
DEFAULT_LEVEL = 0.9


@dataclass(frozen=True)
class ConformalRule:
    """Thresholds for each label (no outcome, outcome) and combination of the groupings' groups."""

    groupings: tuple[Grouping, ...]
    thresholds: Thresholds

    def sets(self, risk: np.ndarray, matrix: FeatureMatrix) -> LabelSets:
        """Each row's label set from its risk before calibration (n,) and its groups.

        Where the matrix lacks a grouping's column, no row's group is known and all have the overall thresholds.
        """
        names = [grouping.names(matrix) for grouping in self.groupings]
        known = [found for found in names if found is not None]
        groups = combined(known, len(risk)) if len(known) == len(names) else None
        return self.thresholds.sets(least_ambiguous(binary(risk)), groups)

    @property
    def note(self) -> str:
        """The model card's sentence about label sets."""
        named = ", ".join(grouping.feature for grouping in self.groupings)
        within = f" and, where tuning rows suffice, in each combination of {named}" if named else ""
        return (
            f"Label sets hold the truth with probability {self.thresholds.level:.0%} in people like the tuning rows, "
            f"among those with the outcome and among those without{within} (split conformal prediction)."
        )


def conformal_rule(
    risk: np.ndarray,
    label: np.ndarray,
    *,
    weight: np.ndarray,
    level: float = DEFAULT_LEVEL,
    groups: Mapping[Grouping, np.ndarray] | None = None,
) -> ConformalRule:
    """The rule from tuning rows with known label: raw risks, 0/1 labels, censoring weights and groups, (m,) each."""
    groups = groups or {}
    thresholds = conformal_thresholds(
        least_ambiguous(binary(risk)),
        label,
        level=level,
        weight=weight,
        groups=combined(groups.values(), len(risk)) if groups else None,
    )
    return ConformalRule(tuple(groups), thresholds)


def conformal_document(rule: ConformalRule) -> dict[str, Any]:
    """Plain JSON values."""
    found = rule.thresholds
    return {
        "level": found.level,
        "groupings": [asdict(grouping) for grouping in rule.groupings],
        "overall": list(found.overall),
        "groups": [{"group": group, "thresholds": list(limits)} for group, limits in found.groups.items()],
    }


def conformal_from(document: dict[str, Any]) -> ConformalRule:
    """The rule that `conformal_document` described."""
    groupings = tuple(
        Grouping(g["feature"], g["form"], tuple(g["columns"]), tuple(g["cut_points"])) for g in document["groupings"]
    )
    groups: dict[Group, Limits] = {tuple(entry["group"]): tuple(entry["thresholds"]) for entry in document["groups"]}
    return ConformalRule(groupings, Thresholds(document["level"], tuple(document["overall"]), groups))
