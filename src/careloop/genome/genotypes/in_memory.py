"""Genotypes that are in memory already, as the same kind of source as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.genotypes.nearest_call import nearest_call
from careloop.genome.genotypes.rows import row_numbers, sample_numbers
from careloop.genome.genotypes.source import MISSING


class InMemoryGenotypes:
    """A `GenotypeSource` of an array: (variants, samples) of int8 genotypes or of float32 dosages.

    Raises:
        InputError: the array does not fit the two tables.
    """

    path = Path("memory")

    def __init__(
        self, samples: pl.DataFrame, variants: pl.DataFrame, values: NDArray[Any], *, build: str | None = None
    ) -> None:
        if values.shape != (variants.height, samples.height):
            raise InputError(
                f"genotypes are (variants, samples) = ({variants.height:,}, {samples.height:,}); got {values.shape}"
            )
        self.samples = samples
        self.variants = variants
        self.build = build
        self.hard_calls = np.issubdtype(values.dtype, np.integer)
        self._values = values

    def genotypes(
        self, variants: NDArray[np.int64] | slice, samples: NDArray[np.int64] | None = None
    ) -> NDArray[np.int8]:
        """Copies of `alt`: (variants, samples) of 0, 1, 2 or `MISSING`; dosages become the nearest call."""
        values = self._picked(variants, samples)
        return values.astype(np.int8) if self.hard_calls else nearest_call(values)

    def dosages(
        self, variants: NDArray[np.int64] | slice, samples: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Expected copies of `alt`: (variants, samples), NaN where missing."""
        values = self._picked(variants, samples)
        if not self.hard_calls:
            return values.astype(np.float32)
        return np.where(values == MISSING, np.float32(np.nan), values.astype(np.float32))

    def _picked(self, variants: NDArray[np.int64] | slice, samples: NDArray[np.int64] | None) -> NDArray[Any]:
        rows = row_numbers(variants, self.variants.height)
        picked = sample_numbers(samples, self.samples.height)
        return self._values[rows] if picked is None else self._values[np.ix_(rows, picked)]
