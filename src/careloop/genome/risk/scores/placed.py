"""Where people lie among others: scores in standard deviations, and a person's place among the rest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError


@dataclass(frozen=True)
class Place:
    """`others` (people,): scores of everyone else; the person's own, and the percentile (0 to 100) among them."""

    others: NDArray[np.float64]
    value: float | None
    percentile: float | None


@dataclass(frozen=True)
class Standardised:
    """`table`: sample_id and `z` of people with a score; `without`: how many have none; `said`: how z was made."""

    table: pl.DataFrame
    without: int
    said: str

    def kept(self, person: str | None) -> pl.DataFrame:
        """Everyone, or one person.

        Raises:
            InputError: the person is not there, or has no score.
        """
        found = self.table if person is None else self.table.filter(pl.col("sample_id") == person)
        if not found.height:
            raise InputError("nobody to compute a risk for; check --person, and that the table has a score of them")
        return found


def place(table: pl.DataFrame, column: str, person: str | None) -> Place:
    """Place a person among all others with a score; ties count half.

    Raises:
        InputError: the person is not in the table.
    """
    known = table.filter(pl.col(column).is_finite())
    if person is None:
        return Place(known[column].to_numpy(), None, None)
    if not (table["sample_id"] == person).any():
        raise InputError("the person to show is not among the people of this table; check --person")
    others = known.filter(pl.col("sample_id") != person)[column].to_numpy()
    own = known.filter(pl.col("sample_id") == person)[column].to_list()
    if not own or not len(others):
        return Place(others, own[0] if own else None, None)
    below = (others < own[0]).mean() + (others == own[0]).mean() / 2
    return Place(others, float(own[0]), float(100 * below))


def standardised(path: Path, name: str) -> Standardised:
    """Read what `careloop genome score` wrote: `NAME_z` where it is there, else NAME less its mean, by its SD.

    Raises:
        InputError: no such file, no such column, or scores that are all the same.
    """
    try:
        table = pl.read_csv(path, separator="\t", infer_schema_length=None, schema_overrides={"sample_id": pl.String})
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; careloop genome score writes it") from None
    except pl.exceptions.PolarsError:
        raise InputError(f"{path}: not a table of scores parted by tabs; careloop genome score writes it") from None
    column = next((one for one in (f"{name}_z", name) if one in table.columns), None)
    if column is None or "sample_id" not in table.columns:
        raise InputError(f"{path}: no column {name} of scores beside sample_id; it has {', '.join(table.columns[:10])}")
    values = table.select("sample_id", z=pl.col(column).cast(pl.Float64, strict=False)).filter(pl.col("z").is_finite())
    without = table.height - values.height
    if column != name:
        return Standardised(values, without, f"{column}, calibrated by ancestry")
    mean, spread = values["z"].mean(), values["z"].std()
    if not isinstance(mean, float) or not isinstance(spread, float) or spread == 0:
        raise InputError(f"{path}: scores that differ are needed to standardise {name}; calibrate them by --pcs")
    said = f"{name} standardised by the mean and standard deviation of these {values.height:,} people"
    return Standardised(values.with_columns(z=(pl.col("z") - mean) / spread), without, said)
