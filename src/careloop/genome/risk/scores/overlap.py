"""How much of a score the genotypes have: rows used, by how, and rows not used, by reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from careloop.genome.risk.scores.matching import Matching
from careloop.genome.risk.scores.pgs_file import ScoreFile
from careloop.genome.risk.scores.placing.fitting import KINDS


@dataclass(frozen=True)
class Overlap:
    """Counts of a score file's rows.

    `rows` are all of them, `used` those scored, by `kinds` (of `KINDS`) and `found_by`; `reasons` counts all others,
    those that could not be read among them. `variants` and `weights` are shares from 0 to 1: of rows, and of the sum of
    absolute weights of those that could be read.
    """

    rows: int
    used: int
    kinds: Mapping[str, int]
    found_by: Mapping[str, int]
    reasons: Mapping[str, int]
    weights: float

    @property
    def variants(self) -> float:
        """The share of the file's rows that is used."""
        return self.used / self.rows if self.rows else 0.0


def overlap(file: ScoreFile, matching: Matching) -> Overlap:
    """Count what was used of a score and what not, with each reason."""
    used = matching.used
    reasons = pl.concat([file.rejects["reason"], matching.table["reason"].drop_nulls()])
    size = (pl.col("weight_2") - pl.col("weight_0")).abs().sum()
    whole = float(matching.table.select(size).item())
    return Overlap(
        rows=file.rows,
        used=used.height,
        kinds={kind: count for kind in KINDS if (count := int((used["kind"] == kind).sum()))},
        found_by=_counts(used["found_by"]),
        reasons=_counts(reasons),
        weights=float(used.select(size).item()) / whole if whole else 0.0,
    )


def _counts(values: pl.Series) -> dict[str, int]:
    counted = values.rename("value").value_counts().sort("count", "value", descending=[True, False])
    return dict(counted.iter_rows())
