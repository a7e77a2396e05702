"""Fit a recipe: the columns that enough training rows have, with each one's median and range there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

import numpy as np
import polars as pl

from careloop import InputError
from careloop.features.definition import FeaturesSection
from careloop.features.extract import Progress, checked_keys, matrix_of
from careloop.features.matrix import KEYS, FeatureMatrix
from careloop.features.recipe import Column, Recipe
from careloop.features.vocabulary import named_codes, vocabulary
from careloop.record import Record
from careloop.record.shards import HERE

RANGE = (0.001, 0.5, 0.999)
THREADS = 2  # numpy works on one core, outside Python's lock; a second block uses another
BLOCK = 128  # columns whose statistics are computed together: 15 MB for 30,000 rows


def fit_recipe(
    record: Record,
    keys: pl.DataFrame,
    section: FeaturesSection,
    *,
    exclude_codes: Sequence[str] = (),
    on: str = HERE,
    progress: Progress | None = None,
) -> Recipe:
    """The recipe that the training rows among `keys` justify.

    Training rows are those with split `train`; without a `split` column, all. `exclude_codes` (exact or prefix ending
    in `*`) are left out as the section's own are; so are MEDS_BIRTH (but for age), MEDS_DEATH and careloop's
    own events. The record is read shard by shard, `on` as `each_shard` has it.

    A code whose numbers at least `min_subjects` training subjects have gives the `value` aggregations over the numbers
    in its most common unit, any other code with enough subjects the `code` aggregations. A code that the section names
    exactly needs one subject. Columns that fewer subjects have, and columns with one value only, are left out.

    Raises:
        InputError: no training rows; a named code that is unknown, or known only after the prediction time; no
            feature left.
    """
    train = _training(keys).unique(KEYS).sort(KEYS)
    columns, notes = vocabulary(record, train, section, exclude_codes, on=on)
    matrix = matrix_of(record, train, columns, on=on, progress=progress)
    return _recipe(matrix, np.arange(train.height), columns, section, notes)


def fit_features(
    record: Record,
    keys: pl.DataFrame,
    section: FeaturesSection,
    *,
    exclude_codes: Sequence[str] = (),
    on: str = HERE,
    progress: Progress | None = None,
) -> tuple[Recipe, FeatureMatrix]:
    """What `fit_recipe` and then `extract` for all `keys` return, but with one pass over the record instead of two.

    Raises:
        InputError: as `fit_recipe` and `extract`.
    """
    train = _training(keys.with_row_index("place")).unique(KEYS).sort(KEYS)
    columns, notes = vocabulary(record, train, section, exclude_codes, on=on)
    matrix = matrix_of(record, keys, columns, on=on, progress=progress)
    recipe = _recipe(matrix, train["place"].to_numpy(), columns, section, notes)
    return recipe, matrix.narrow(recipe.names)


def _training(keys: pl.DataFrame) -> pl.DataFrame:
    train = keys.filter(pl.col("split") == "train") if "split" in keys.columns else keys
    if train.is_empty():
        raise InputError("features: no training rows to fit on; check the cohort's size and its split fractions")
    checked_keys(train)
    return train


def _recipe(
    matrix: FeatureMatrix, rows: np.ndarray, columns: Sequence[Column], section: FeaturesSection, notes: list[str]
) -> Recipe:
    """The recipe from the training `rows` (positions, in order of their keys) of a matrix of all candidate columns."""
    subjects = matrix.keys["subject_id"].to_numpy()[rows]
    first_rows = np.flatnonzero(np.concatenate([[True], subjects[1:] != subjects[:-1]]))
    kept = _measured(matrix.values, rows, first_rows, columns, section, notes)
    if not kept:
        raise InputError(
            f"features: no column is left that varies and that {section.min_subjects} training subjects have;"
            " lower features.min_subjects, or widen windows_days and codes"
        )
    return Recipe(tuple(kept), tuple(notes), len(rows), len(first_rows))


def _measured(
    values: Any,
    rows: np.ndarray,
    first_rows: np.ndarray,
    columns: Sequence[Column],
    section: FeaturesSection,
    notes: list[str],
) -> list[Column]:
    """Columns with their statistics over `rows`, without those too rare or without variation."""
    named = {*named_codes(section.codes), *named_codes(section.static)}
    block_of = _blocks(values, rows)
    kept: list[Column] = []
    rare = constant = 0

    def measure(begin: int) -> list[tuple[Column, int]]:
        block, some = block_of(slice(begin, begin + BLOCK)), columns[begin : begin + BLOCK]
        return list(zip(_with_statistics(block, some), _subjects(block, some, first_rows), strict=True))

    with ThreadPoolExecutor(THREADS) as pool:
        measured = chain.from_iterable(pool.map(measure, range(0, len(columns), BLOCK)))
        for column, subjects in measured:
            if subjects < (1 if column.code in named else section.min_subjects):
                rare += 1
            elif column.minimum == column.maximum and column.missing_share == 0:
                constant += 1
            else:
                kept.append(column)
    if rare:
        notes.append(f"{rare} columns are left out: fewer than {section.min_subjects} training subjects have them")
    if constant:
        notes.append(f"{constant} columns are left out: they are the same in all training rows")
    return kept


def _blocks(values: Any, rows: np.ndarray) -> Callable[[slice], np.ndarray]:
    """How to get some columns of the rows as a dense array."""
    if isinstance(values, np.ndarray):
        return lambda columns: values[rows, columns]
    by_column = values[rows].tocsc()  # in CSR every block would cost a pass over all columns
    return lambda columns: by_column[:, columns].toarray()


def _subjects(block: np.ndarray, columns: Sequence[Column], first_rows: np.ndarray) -> np.ndarray:
    """How many subjects have each column in any of their rows."""
    zero_if_absent = np.array([column.absent == 0 for column in columns])
    has = ~np.isnan(block) & ((block != 0) | ~zero_if_absent)
    return np.logical_or.reduceat(has, first_rows, axis=0).sum(axis=0)


def _with_statistics(block: np.ndarray, columns: Sequence[Column]) -> Iterator[Column]:
    """Median, range and missing share of each column; a quantile is interpolated between neighbouring values."""
    ordered = np.sort(np.ascontiguousarray(block.T), axis=1)  # NaN last
    known = np.count_nonzero(~np.isnan(ordered), axis=1)
    for column, values, count in zip(columns, ordered, known, strict=True):
        if not count:
            yield dataclasses.replace(column, missing_share=1.0)
            continue
        low, median, high = (
            float(q) for q in np.interp(np.array(RANGE) * (count - 1), np.arange(count), values[:count])
        )
        yield dataclasses.replace(
            column,
            median=median,
            low=low,
            high=high,
            minimum=float(values[0]),
            maximum=float(values[count - 1]),
            missing_share=1 - int(count) / len(values),
        )
