"""Groups of rows by a feature: decided once, on all rows of a study, and the same for one new patient."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from careloop import InputError
from careloop.evaluate import SubgroupSection, cut_groups
from careloop.evaluate.subgroups import MISSING
from careloop.features import FeatureMatrix

Form = Literal["category", "borders", "yes_or_no", "value"]


@dataclass(frozen=True)
class Grouping:
    """How a feature divides rows: by its category columns, between borders, by yes or no, or one group a value."""

    feature: str
    form: Form
    columns: tuple[str, ...]
    cut_points: tuple[float, ...] = ()

    @classmethod
    def of(cls, section: SubgroupSection, matrix: FeatureMatrix) -> Grouping:
        """The grouping that the study's section means; InputError for a feature that the study does not have."""
        categories = tuple(name for name in matrix.names if name.startswith(f"static|{section.feature}="))
        if categories:
            return cls(section.feature, "category", categories)
        name = section.feature if section.feature in matrix.names else f"static|{section.feature}"
        if name not in matrix.names:
            raise InputError(
                f"evaluation.subgroups: {section.feature} is no feature of this study; features.parquet has the names, "
                f"such as {matrix.names[0]}"
            )
        if section.cut_points:
            return cls(section.feature, "borders", (name,), tuple(section.cut_points))
        values = set(np.unique(np.asarray(matrix.select([name]).values)).tolist())
        return cls(section.feature, "yes_or_no" if values <= {0.0, 1.0} else "value", (name,))

    def names(self, matrix: FeatureMatrix) -> np.ndarray | None:
        """Each row's group (n,) as text; None where the matrix lacks one of the columns."""
        if not set(self.columns) <= set(matrix.names):
            return None
        values = _dense(matrix, self.columns)
        if self.form == "category":
            named = np.array([name.split("=", 1)[1] for name in self.columns] + ["other"], dtype=object)
            return np.asarray(named[np.where((values > 0).any(axis=1), values.argmax(axis=1), len(self.columns))])
        if self.form == "borders":
            return cut_groups(values[:, 0], self.cut_points)
        if self.form == "yes_or_no":
            return np.where(values[:, 0] > 0, "yes", "no").astype(object)
        return np.array([MISSING if np.isnan(value) else f"{value:g}" for value in values[:, 0].tolist()], dtype=object)


def subgroups(sections: Sequence[SubgroupSection], matrix: FeatureMatrix) -> dict[Grouping, np.ndarray]:
    """Each section's grouping with every row's group (n,); errors as `Grouping.of`."""
    found = {}
    for section in sections:
        grouping = Grouping.of(section, matrix)
        found[grouping] = np.asarray(grouping.names(matrix))
    return found


def combined(groups: Iterable[np.ndarray], n: int) -> list[tuple[str, ...]]:
    """Each row's groups in all variables together (n); empty tuples without a variable."""
    columns = [names.tolist() for names in groups]
    return list(zip(*columns, strict=True)) if columns else [()] * n


def _dense(matrix: FeatureMatrix, columns: Sequence[str]) -> np.ndarray:
    values: Any = matrix.select(columns).values
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=np.float32)
