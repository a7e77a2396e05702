"""Incidence of a disease and mortality from other causes by age, read from a table."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.files.packed import read_packed

SEXES = {"1": "male", "m": "male", "male": "male", "2": "female", "f": "female", "female": "female"}
_PER = {"incidence": 1.0, "incidence_per_100000": 1e-5, "mortality": 1.0, "mortality_per_100000": 1e-5}
_ASKED = "age (or age_from, age_to), incidence or incidence_per_100000, and perhaps sex and mortality"


@dataclass(frozen=True)
class Rates:
    """Rates per person and year, constant within each age group (groups,): from `start` to below `end`, in years.

    `incidence` among people free of the disease, `mortality` from other causes. Groups follow each other without gaps.
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    incidence: NDArray[np.float64]
    mortality: NDArray[np.float64]

    def __post_init__(self) -> None:
        sizes = {len(values) for values in (self.start, self.end, self.incidence, self.mortality)}
        if sizes in ({0}, set()) or len(sizes) != 1:
            raise InputError("rates need at least one age group, with a rate of each kind")
        if (self.end <= self.start).any() or (self.start[1:] != self.end[:-1]).any():
            raise InputError("age groups follow each other without gaps and overlaps; sort and complete the table")
        rates = np.concatenate([self.incidence, self.mortality])
        if not np.isfinite(rates).all() or (rates < 0).any():
            raise InputError("rates are numbers per person and year, not below 0")


def read_rates(path: Path, *, sex: str | None = None) -> Rates:
    """Read a table of rates, parted by commas or tabs, one row an age group, of `sex` where it has that column.

    Columns: `age` (a year, to below the next row's; the last one is a year long) or `age_from` and `age_to` (to below);
    `incidence` per person and year or `incidence_per_100000`; `mortality` from other causes likewise, 0 where absent.

    Raises:
        InputError: no such file, a column that is missing or no number, gaps between ages, a sex that is not given or
            not there.
    """
    table = _of_sex(_read(path), sex, path)
    age = "age" if "age" in table.columns else "age_from"
    incidence = _rate(table, "incidence", path)
    if age not in table.columns or incidence is None:
        raise InputError(f"{path}: rates need the columns {_ASKED}")
    start = _numbers(table, age, path)
    order = np.argsort(start, kind="stable")
    start = start[order]
    end = _numbers(table, "age_to", path)[order] if "age_to" in table.columns else np.append(start[1:], start[-1:] + 1)
    mortality = _rate(table, "mortality", path)
    zero = np.zeros(len(start))
    try:
        return Rates(start, end, incidence[order], zero if mortality is None else mortality[order])
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _read(path: Path) -> pl.DataFrame:
    content = read_packed(path)
    lines = b"\n".join(line for line in content.splitlines() if line.strip() and not line.startswith(b"#"))
    if not lines:
        raise InputError(f"{path}: no row of rates in this file")
    separator = "\t" if b"\t" in lines.splitlines()[0] else ","
    try:
        table = pl.read_csv(io.BytesIO(lines), separator=separator, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path}: not a table ({type(error).__name__}); export it again") from None
    return table.rename({name: name.strip().lower() for name in table.columns})


def _of_sex(table: pl.DataFrame, sex: str | None, path: Path) -> pl.DataFrame:
    if "sex" not in table.columns:
        return table
    named = table["sex"].str.strip_chars().str.to_lowercase().replace_strict(SEXES, default="both")
    wanted = "both" if sex is None else SEXES.get(sex.lower(), sex)
    found = table.filter(named == wanted)
    if not found.height:
        there = ", ".join(sorted(named.unique()))
        raise InputError(f"{path}: rates are by sex ({there}); name one of these")
    return found


def _rate(table: pl.DataFrame, kind: str, path: Path) -> NDArray[np.float64] | None:
    name = next((name for name in (kind, f"{kind}_per_100000") if name in table.columns), None)
    return None if name is None else _numbers(table, name, path) * _PER[name]


def _numbers(table: pl.DataFrame, name: str, path: Path) -> NDArray[np.float64]:
    values = table[name].str.strip_chars().cast(pl.Float64, strict=False)
    if values.null_count():
        raise InputError(
            f"{path}: {name} is a number in each row; row {int(values.is_null().arg_max() or 0) + 1} has none"
        )
    return values.to_numpy()
