"""Covariates of people, from the phenotype's table, other tables, or the sex in the genotype file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.association.people.person_table import PersonTable, read_person_table

MISSING_NUMBER = -9.0  # PLINK's code for missing phenotypes and covariates
_RANGE = re.compile(r"(.*?)(\d+)-(?:\1)?(\d+)")


def read_covariates(
    table: PersonTable, samples: pl.DataFrame, *, tables: Sequence[Path], names: Sequence[str]
) -> tuple[dict[str, NDArray[np.float64]], tuple[str, ...]]:
    """Covariates (people in samples,) by name, NaN where missing, and how they were read.

    They are looked for in the phenotype's table, then in `tables`, and `sex` in `samples`; without `names` all columns
    of `tables` are covariates.

    Raises:
        InputError: no such column, or values that are neither numbers nor all words.
    """
    opened = [read_person_table(path) for path in tables]
    names = [name for asked in names for name in _range(asked)]
    places = [(name, one) for one in opened for name in one.columns]
    if names:
        where = dict(places) | dict.fromkeys(table.columns, table)
        absent = [name for name in names if name not in where and name.lower() != "sex"]
        if absent:
            raise InputError(
                f"no column {absent[0]!r} for a covariate; there are {', '.join(list(where)[:20]) or 'none'}"
            )
        places = [(name, where[name]) for name in names if name in where]
    covariates: dict[str, NDArray[np.float64]] = {}
    notes: list[str] = []
    matched = {id(one): one.matched(samples) for _, one in places}
    for name, one in places:
        for column, values, said in _as_numbers(matched[id(one)][name], name):
            covariates[column] = values
            notes += said
    if any(name.lower() == "sex" and name not in covariates for name in names) and "sex" not in covariates:
        covariates["sex"] = sex_numbers(samples["sex"])
        notes.append("sex is taken from the genotype file")
    return covariates, tuple(notes)


def sex_numbers(sex: pl.Series) -> NDArray[np.float64]:
    """1 for male and 2 for female, as PLINK writes, NaN where not known."""
    numbers = sex.replace_strict({"male": 1.0, "female": 2.0}, default=None, return_dtype=pl.Float64)
    return numbers.fill_null(np.nan).to_numpy()


def _range(asked: str) -> list[str]:
    found = _RANGE.fullmatch(asked)
    return [asked] if not found else [f"{found[1]}{number}" for number in range(int(found[2]), int(found[3]) + 1)]


def _as_numbers(text: pl.Series, name: str) -> list[tuple[str, NDArray[np.float64], tuple[str, ...]]]:
    """A covariate as it is, or a 0/1 column for each of its values but the most frequent where they are words."""
    words = text.is_not_null() & text.cast(pl.Float64, strict=False).is_null()
    if not words.any():
        return [(name, *numbers(text, name))]
    levels = text.drop_nulls().value_counts(sort=True)[text.name].to_list()
    said = f"{name} has words: a 0/1 covariate for each of {len(levels)} values but {levels[0]}"
    columns = [
        (f"{name}={level}", (text == level).cast(pl.Float64).fill_null(np.nan).to_numpy(), ()) for level in levels[1:]
    ]
    return [(*columns[0][:2], (said,)), *columns[1:]] if columns else []


def numbers(text: pl.Series, name: str) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The numbers of a column of text, NaN where missing or -9, and that -9 was taken so."""
    parsed = text.cast(pl.Float64, strict=False)
    broken = int((text.is_not_null() & parsed.is_null()).sum())
    if broken:
        raise InputError(f"{name} must be numbers; {broken:,} values are none; write NA where a value is missing")
    coded = int((parsed == MISSING_NUMBER).sum())
    values = parsed.fill_null(np.nan).to_numpy().copy()
    values[values == MISSING_NUMBER] = np.nan
    return values, (f"{coded:,} values -9 of {name} are taken as missing",) if coded else ()
