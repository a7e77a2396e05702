"""One patient's feature row whose labs can be changed: all features of a code, in all windows, change together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from careloop import InputError
from careloop.features import Column, FeatureMatrix
from careloop.features.timelines import Timelines
from careloop.features.words import code_words, unit
from careloop.models.sequence.arrays import Sequences, stacked
from careloop.predict.altered_history import altered_history
from careloop.predict.counterfactual import Lab, Values
from careloop.predict.population import outside_reasons
from careloop.predict.table import OF_ONE_VALUE, of_one, plain_names_of
from careloop.train import Package

# Which feature of a code shows its value, the most telling first.
SHOWS_VALUE = ("value", "last", "mean", "first", "max", "min")


@dataclass(frozen=True, eq=False)
class FeatureRow:
    """A `counterfactual.Patient` on features, and on the history for a model that reads it.

    `values` (p,) float32 in the order of the package's recipe; `history` is one row, None for models of features only.
    """

    package: Package
    values: np.ndarray
    history: Sequences | None = None

    @classmethod
    def of(cls, package: Package, matrix: FeatureMatrix, row: int = 0) -> FeatureRow:
        """One row of a matrix that has the package's columns. InputError: no such row, or a column is missing."""
        if not 0 <= row < matrix.keys.height:
            raise InputError(f"row {row} does not exist: the matrix has rows 0 to {matrix.keys.height - 1}")
        values = package.aligned(matrix)[[row]]
        dense = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
        history = None if matrix.timelines is None else matrix.timelines.sequences.take(np.array([row]))
        return cls(package, dense[0].astype(np.float32), history)

    @cached_property
    def labs(self) -> Mapping[str, Lab]:
        """The codes whose numbers the package reads."""
        found = {code: self._lab(code, places) for code, places in self._places.items()}
        return {code: lab for code, lab in found.items() if lab is not None}

    @property
    def threshold(self) -> float:
        """The package's decision threshold."""
        return self.package.threshold

    def risks(self, variants: Sequence[Values]) -> np.ndarray:
        """The risk (k,) under each variant."""
        return self.package.risk(self.matrix(variants))

    def outside(self, variants: Sequence[Values]) -> list[str | None]:
        """Why each variant lies outside the training population, or None."""
        return outside_reasons(self.package, self.matrix(variants).values)

    def altered(self, variant: Values) -> np.ndarray:
        """The features (p,) with each code of the variant at its value.

        A feature that shows a value shows the new one where it showed any, a slope becomes 0, counts stay. A code that
        was never measured is given one measurement at the prediction time; with None a code loses all of them.
        """
        values = self.values.copy()
        for code, value in variant.items():
            measured = self.labs[code].value is not None
            for j in self._places[code]:
                values[j] = altered_cell(self.package.recipe.columns[j], values[j], value, measured=measured)
        return values

    def matrix(self, variants: Sequence[Values]) -> FeatureMatrix:
        """One row a variant."""
        rows = np.array([self.altered(variant) for variant in variants], dtype=np.float32)
        keys = pl.DataFrame({"variant": np.arange(len(variants))})
        values = rows.reshape(len(variants), len(self.values))
        return FeatureMatrix(keys, self.package.preprocessing.names, values, self._timelines(keys, variants))

    def _timelines(self, keys: pl.DataFrame, variants: Sequence[Values]) -> Timelines | None:
        """The history under each variant."""
        recipe, history = self.package.timelines, self.history
        if recipe is None or history is None or not variants:
            return None
        return Timelines(keys, stacked([altered_history(history, recipe, variant) for variant in variants]))

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        """Positions of the features of each code with numbers."""
        places: dict[str, list[int]] = {}
        for j, column in enumerate(self.package.recipe.columns):
            if column.kind in ("value", "static_value"):
                places.setdefault(column.code, []).append(j)
        return places

    def _lab(self, code: str, places: Sequence[int]) -> Lab | None:
        """What the package knows of a code, and this patient's value; None if no feature shows a value of it."""
        columns = self.package.recipe.columns
        showing = sorted((j for j in places if columns[j].aggregation in OF_ONE_VALUE), key=lambda j: _rank(columns[j]))
        first = columns[showing[0]] if showing else None
        if first is None or first.median is None or first.low is None or first.high is None:
            return None
        value = next((float(self.values[j]) for j in showing if not np.isnan(self.values[j])), None)
        return Lab(
            code=code,
            words=code_words(first),
            unit=unit(first),
            value=value,
            typical=first.median,
            low=first.low,
            high=first.high,
            spread=float(self.package.population.scale[showing[0]]),
            names=tuple(sorted(plain_names_of(first))),
            changes=first.kind == "value",
        )


def _rank(column: Column) -> tuple[int, float]:
    """Most telling aggregation first, widest window first."""
    return SHOWS_VALUE.index(column.aggregation), -(column.window_days or np.inf)


def altered_cell(column: Column, cell: float, value: float | None, *, measured: bool) -> float:
    """One feature when its code's values are all `value`, or gone (None)."""
    if value is None:
        return column.absent
    if not measured:
        return of_one(column, value)
    if np.isnan(cell):
        return cell
    if column.aggregation == "slope":
        return 0.0
    return value if column.aggregation in OF_ONE_VALUE else cell
