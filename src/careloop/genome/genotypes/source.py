"""What every genotype file looks like to the rooms that use it: two tables, and a matrix read in parts."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

MISSING = -9  # a genotype that was not called, where genotypes are whole numbers

# One row a person, in the file's order; sex is "male", "female" or null.
SAMPLES = pl.Schema(
    {
        "sample_id": pl.String(),
        "family_id": pl.String(),
        "father_id": pl.String(),
        "mother_id": pl.String(),
        "sex": pl.String(),
    }
)
# One row an alternative allele, in the file's order; `position` counts from 1, as every file of this kind writes it;
# `variant_id` is `.` where the file has none, `alt` where there is no alternative.
VARIANTS = pl.Schema(
    {
        "contig": pl.String(),
        "position": pl.Int64(),
        "variant_id": pl.String(),
        "ref": pl.String(),
        "alt": pl.String(),
    }
)


class GenotypeSource(Protocol):
    """A genotype file that is open; what is counted is always `alt`.

    `samples` and `variants` have the columns of `SAMPLES` and `VARIANTS`. `build` is the assembly that the file tells
    ("GRCh37", "GRCh38", "T2T-CHM13v2.0") or None. `hard_calls` tells whether genotypes are whole numbers throughout.
    Who has one copy of a chromosome has genotypes from 0 to 2 all the same: 0 or 2 where they are called.
    """

    path: Path
    samples: pl.DataFrame
    variants: pl.DataFrame
    build: str | None
    hard_calls: bool

    def genotypes(
        self, variants: NDArray[np.int64] | slice, samples: NDArray[np.int64] | None = None
    ) -> NDArray[np.int8]:
        """Copies of `alt`: (variants, samples) of 0, 1, 2 or `MISSING`; dosages become the nearest call or missing.

        `variants` are rows of the variants' table, ascending; `samples` rows of the samples' table in any order.
        """
        ...

    def dosages(
        self, variants: NDArray[np.int64] | slice, samples: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Expected copies of `alt`: (variants, samples) from 0 to 2, NaN where missing."""
        ...
