"""The feature matrix of a recipe, shard by shard: one pass over a shard's history serves all windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from careloop import InputError
from careloop.features.matrix import KEYS, FeatureMatrix
from careloop.features.recipe import Column, Recipe, is_wide
from careloop.features.windows import AGGREGATIONS, Groups
from careloop.record import Record, history
from careloop.record.schema import BIRTH

MICROSECONDS_A_YEAR = 365.25 * 86_400_000_000
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Cells:
    """Cells of a matrix: `values[i]` belongs in row `rows[i]` and column `columns[i]`; no cell comes twice."""

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray


def extract(record: Record, keys: pl.DataFrame, recipe: Recipe, *, progress: Progress | None = None) -> FeatureMatrix:
    """The matrix of `recipe` for each row of `keys` (subject_id, prediction_time), in their order.

    Only facts known at a row's prediction time count, and of those that happened by then; a window of d days holds
    facts with time in (prediction_time - d days, prediction_time]. A number in another unit than the recipe's is left
    out. A category that training rows did not have gives zeros.

    Raises:
        InputError: a key's column is missing, null or of another type.
    """
    return matrix_of(record, keys, recipe.columns, progress=progress)


def matrix_of(
    record: Record, keys: pl.DataFrame, columns: Sequence[Column], *, progress: Progress | None = None
) -> FeatureMatrix:
    """The matrix of these columns, CSR where `is_wide` says so."""
    asked = checked_keys(keys)
    rows = asked.unique(maintain_order=True).with_row_index("row")
    fill = _fill_sparse if is_wide(columns) else _fill_dense
    values = fill(_by_shard(record, rows, columns, progress), rows.height, columns)
    if rows.height < asked.height:
        values = values[asked.join(rows, on=KEYS, how="left", maintain_order="left")["row"].to_numpy()]
    return FeatureMatrix(asked, tuple(column.name for column in columns), values)


def checked_keys(keys: pl.DataFrame) -> pl.DataFrame:
    """Columns subject_id and prediction_time of `keys`, without nulls."""
    missing = [name for name in KEYS if name not in keys.columns]
    if missing:
        raise InputError(f"keys: column {missing[0]} is missing; a key is subject_id and prediction_time")
    nulls = {name: keys[name].null_count() for name in KEYS if keys[name].null_count()}
    for name, count in nulls.items():
        raise InputError(f"keys: {name} must not be null, got {count} nulls; remove these rows")
    return keys.select(KEYS)


def shards_of(record: Record, keys: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
    """Each shard of the record that has keys, and its keys."""
    shard = record.shard_of(keys["subject_id"])
    for number in range(record.shards):
        members = keys.filter(shard == number)
        if members.height:
            yield number, members


def _fill_dense(shards: Iterator[tuple[np.ndarray, Iterator[Cells]]], height: int, columns: Sequence[Column]) -> Any:
    values = np.empty((height, len(columns)), dtype=np.float32)
    values[:] = np.array([column.absent for column in columns], dtype=np.float32)
    for rows, parts in shards:
        for cells in parts:
            values[rows[cells.rows], cells.columns] = cells.values
    return values


def _fill_sparse(shards: Iterator[tuple[np.ndarray, Iterator[Cells]]], height: int, columns: Sequence[Column]) -> Any:
    from scipy.sparse import csr_matrix, vstack

    blocks, order = [csr_matrix((0, len(columns)), dtype=np.float32)], [np.empty(0, dtype=np.int64)]
    for rows, parts in shards:
        blocks.append(_sparse_block(parts, len(rows), columns))
        order.append(rows)
    return vstack(blocks, format="csr")[np.argsort(np.concatenate(order), kind="stable")]


def _sparse_block(parts: Iterator[Cells], height: int, columns: Sequence[Column]) -> Any:
    """One shard as CSR: columns that are NaN where absent are all stored, of the others what is not 0."""
    from scipy.sparse import csr_matrix

    absent = np.array([column.absent for column in columns], dtype=np.float32)
    stored = np.flatnonzero(np.isnan(absent))
    place = np.full(len(columns), -1)
    place[stored] = np.arange(len(stored))
    block = np.full((height, len(stored)), np.nan, dtype=np.float32)
    counts = []
    for cells in parts:
        dense = place[cells.columns] >= 0
        block[cells.rows[dense], place[cells.columns[dense]]] = cells.values[dense]
        counts.append(Cells(cells.rows[~dense], cells.columns[~dense], cells.values[~dense]))
    shape = (height, len(columns))
    starts = np.arange(height + 1) * len(stored)
    values = csr_matrix((block.ravel(), np.tile(stored, height), starts), shape=shape)
    rows, cols = (np.concatenate([getattr(c, name) for c in counts] or [stored[:0]]) for name in ("rows", "columns"))
    data = np.concatenate([c.values for c in counts] or [absent[:0]]).astype(np.float32)
    return (values + csr_matrix((data, (rows, cols)), shape=shape)).astype(np.float32)


def _by_shard(
    record: Record, rows: pl.DataFrame, columns: Sequence[Column], progress: Progress | None
) -> Iterator[tuple[np.ndarray, Iterator[Cells]]]:
    """For each shard with keys: the numbers of its rows, and the cells of these rows, numbered from 0 in that order."""
    for number, members in shards_of(record, rows):
        here = members.drop("row").with_row_index("row")
        yield members["row"].to_numpy(), _shard_cells(record.events(number), here, columns)
        if progress is not None:
            progress("features", number + 1, record.shards)


def _shard_cells(events: pl.LazyFrame, rows: pl.DataFrame, columns: Sequence[Column]) -> Iterator[Cells]:
    numbers, codes = _vocabulary(columns, "value"), _vocabulary(columns, "code")
    with_number = pl.col("numeric_value").is_finite() & pl.col("unit").eq_missing(pl.col("wanted_unit"))
    queries = [
        _timed_facts(events.join(numbers.lazy(), on="code").filter(with_number), rows, numbers.height),
        _timed_facts(events.join(codes.lazy(), on="code").with_columns(numeric_value=None), rows, codes.height),
        _static_facts(events, rows, columns),
        _births(events, rows),
    ]
    timed_numbers, timed_codes, static, births = pl.collect_all(queries)
    yield from _window_cells(timed_numbers, numbers, columns)
    yield from _window_cells(timed_codes, codes, columns)
    yield from _static_cells(static, columns)
    yield from _age_cells(births, columns)


def _vocabulary(columns: Sequence[Column], kind: str) -> pl.DataFrame:
    """The codes of this kind of timed column, numbered, and the unit that numbers must have."""
    units = {column.code: column.unit for column in columns if column.kind == kind}
    frame = pl.DataFrame(sorted(units.items()), schema={"code": pl.String, "wanted_unit": pl.String}, orient="row")
    return frame.with_row_index("number")


def _timed_facts(events: pl.LazyFrame, rows: pl.DataFrame, codes: int) -> pl.LazyFrame:
    """Known facts by `group` (row * codes + number), oldest first; of one time by known_time, then value."""
    known = history(events.select("subject_id", "time", "known_time", "number", "numeric_value"), rows)
    return (
        known.filter(pl.col("time") <= pl.col("prediction_time"))
        .join(rows.lazy(), on=KEYS)
        .select(
            (pl.col("row").cast(pl.Int64) * codes + pl.col("number")).alias("group"),
            (pl.col("prediction_time") - pl.col("time")).dt.total_microseconds().alias("age_us"),
            (pl.col("prediction_time") - pl.col("known_time")).dt.total_microseconds().alias("known_us"),
            pl.col("numeric_value").cast(pl.Float32),
        )
        .sort("group", "age_us", "known_us", "numeric_value", descending=[False, True, True, False])
    )


def _window_cells(timed: pl.DataFrame, vocabulary: pl.DataFrame, columns: Sequence[Column]) -> Iterator[Cells]:
    if timed.is_empty():
        return
    group = timed["group"].to_numpy()
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    row, number = np.divmod(group[starts], vocabulary.height)
    everything = Groups(
        timed["age_us"].to_numpy(), timed["numeric_value"].to_numpy(), np.diff(starts, append=len(group))
    )
    for days, places in _places(vocabulary, columns).items():
        some, groups = everything.within(days)
        for aggregation, place in places.items():
            column = place[number[some]]
            wanted = column >= 0
            if wanted.any():
                values = AGGREGATIONS[aggregation](groups)[wanted].astype(np.float32)
                yield Cells(row[some][wanted], column[wanted], values)


def _places(vocabulary: pl.DataFrame, columns: Sequence[Column]) -> dict[float | None, dict[str, np.ndarray]]:
    """For each window and aggregation, the column of each code of the vocabulary, -1 where there is none."""
    number = {code: i for i, code in enumerate(vocabulary["code"])}
    places: dict[float | None, dict[str, np.ndarray]] = {}
    for position, column in enumerate(columns):
        if column.kind in ("value", "code") and column.code in number:
            window = places.setdefault(column.window_days, {})
            place = window.setdefault(column.aggregation, np.full(len(number), -1))
            place[number[column.code]] = position
    return places


def _static_facts(events: pl.LazyFrame, rows: pl.DataFrame, columns: Sequence[Column]) -> pl.LazyFrame:
    codes = sorted({column.code for column in columns if column.kind.startswith("static")})
    static = events.filter(pl.col("time").is_null() & pl.col("code").is_in(codes))
    return history(static, rows).join(rows.lazy(), on=KEYS).select("row", "code", "numeric_value", "unit", "text_value")


def _static_cells(facts: pl.DataFrame, columns: Sequence[Column]) -> Iterator[Cells]:
    places = [(i, c.kind, c.code, c.unit, c.category) for i, c in enumerate(columns) if c.kind.startswith("static")]
    schema = {"column": pl.Int64, "kind": pl.String, "code": pl.String, "wanted_unit": pl.String, "category": pl.String}
    chosen = facts.join(pl.DataFrame(places, schema=schema, orient="row"), on="code").filter(
        pl.when(pl.col("kind") == "static_value")
        .then(pl.col("numeric_value").is_finite() & pl.col("unit").eq_missing(pl.col("wanted_unit")))
        .when(pl.col("kind") == "static_category")
        .then(pl.col("text_value") == pl.col("category"))
        .otherwise(True)
    )
    value = pl.when(pl.col("kind") == "static_value").then("numeric_value").otherwise(1.0)
    # Two static numbers of one code contradict each other; the larger is taken so that the order of rows cannot matter.
    cells = chosen.group_by("row", "column").agg(value.max().cast(pl.Float32).alias("value"))
    yield Cells(cells["row"].to_numpy(), cells["column"].to_numpy(), cells["value"].to_numpy())


def _births(events: pl.LazyFrame, rows: pl.DataFrame) -> pl.LazyFrame:
    births = history(events.filter(pl.col("code") == BIRTH), rows).filter(pl.col("time") <= pl.col("prediction_time"))
    age = (pl.col("prediction_time") - pl.col("time")).dt.total_microseconds() / MICROSECONDS_A_YEAR
    return births.join(rows.lazy(), on=KEYS).group_by("row").agg(age.max().cast(pl.Float32).alias("age_years"))


def _age_cells(ages: pl.DataFrame, columns: Sequence[Column]) -> Iterator[Cells]:
    for position, column in enumerate(columns):
        if column.kind == "age":
            values = ages["age_years"].to_numpy()
            yield Cells(ages["row"].to_numpy(), np.full(len(values), position), values)
