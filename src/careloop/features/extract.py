"""The feature matrix of a recipe, shard by shard: one pass over a shard's history serves all windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from careloop import InputError
from careloop.features.matrix import KEYS, FeatureMatrix, stacked_dense, stacked_sparse
from careloop.features.recipe import Column, Recipe, is_wide
from careloop.features.windows import AGGREGATIONS, MICROSECONDS_A_DAY, Groups
from careloop.record import Record, history
from careloop.record.schema import BIRTH
from careloop.record.shards import HERE, each_shard

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from careloop.features.matrix import Values

MICROSECONDS_A_YEAR = 365.25 * MICROSECONDS_A_DAY
IN_ORDER = ("subject_id", "time", "number", "known_time", "numeric_value")
STATIC = {"column": pl.Int64, "kind": pl.String, "code": pl.String, "wanted_unit": pl.String, "category": pl.String}
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Cells:
    """Cells of a matrix: `values[i]` belongs in row `rows[i]` and column `columns[i]`; no cell comes twice."""

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray


def extract(
    record: Record, keys: pl.DataFrame, recipe: Recipe, *, on: str = HERE, progress: Progress | None = None
) -> FeatureMatrix:
    """The matrix of `recipe` for each row of `keys` (subject_id, prediction_time), in their order.

    Only facts known at a row's prediction time count, and of those that happened by then; a window of d days holds
    facts with time in (prediction_time - d days, prediction_time]. A number in another unit than the recipe's is left
    out. A category that training rows did not have gives zeros. The record is read shard by shard, `on` as
    `each_shard` has it.

    Raises:
        InputError: a key's column is missing, null or of another type.
    """
    return matrix_of(record, keys, recipe.columns, on=on, progress=progress)


def matrix_of(
    record: Record, keys: pl.DataFrame, columns: Sequence[Column], *, on: str = HERE, progress: Progress | None = None
) -> FeatureMatrix:
    """The matrix of these columns, CSR where `is_wide` says so."""
    asked = checked_keys(keys)
    rows = asked.unique(maintain_order=True).with_row_index("row")
    block, stack = (_sparse_block, stacked_sparse) if is_wide(columns) else (_dense_block, stacked_dense)
    absent = np.array([column.absent for column in columns], dtype=np.float32)
    work = partial(_shard_block, rows=rows, plan=_Plan.of(columns), absent=absent, block=block)
    heard = partial(progress, "features") if progress else None
    blocks = each_shard(record, work, on=on, shards=shards_of(record, rows), progress=heard)
    values: Values = stack(blocks, (rows.height, len(columns)))
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


def shards_of(record: Record, keys: pl.DataFrame) -> list[int]:
    """The shards of the record that have keys."""
    return sorted(record.shard_of(keys["subject_id"]).unique())


def of_shard(record: Record, shard: int, keys: pl.DataFrame) -> pl.DataFrame:
    """The keys whose subjects are in this shard."""
    return keys.filter(record.shard_of(keys["subject_id"]) == shard)


def of_subjects(events: pl.LazyFrame, keys: pl.DataFrame) -> pl.LazyFrame:
    """The events of the keys' subjects; the range lets the reader skip parts of a file when there are few keys."""
    subjects = keys["subject_id"].unique()
    here = pl.col("subject_id").is_between(subjects.min(), subjects.max())
    return events.filter(here & pl.col("subject_id").is_in(subjects.implode()))


def _shard_block(
    record: Record,
    shard: int,
    *,
    rows: pl.DataFrame,
    plan: _Plan,
    absent: np.ndarray,
    block: Callable[[Iterator[Cells], int, np.ndarray], Values],
) -> tuple[np.ndarray, Values]:
    """One shard's part of the matrix of `rows`: the numbers of its rows, and their values (`absent` without facts)."""
    members = of_shard(record, shard, rows)
    here = members.drop("row").with_row_index("row")
    cells = _shard_cells(of_subjects(record.events(shard), here), here, plan)
    return members["row"].to_numpy(), block(cells, here.height, absent)


def _dense_block(parts: Iterator[Cells], height: int, absent: np.ndarray) -> np.ndarray:
    values = np.empty((height, len(absent)), dtype=np.float32)
    values[:] = absent
    for cells in parts:
        values[cells.rows, cells.columns] = cells.values
    return values


def _sparse_block(parts: Iterator[Cells], height: int, absent: np.ndarray) -> csr_matrix:
    """One shard as CSR: columns that are NaN where absent are all stored, of the others what is not 0."""
    from scipy.sparse import csr_matrix

    stored = np.flatnonzero(np.isnan(absent))
    place = np.full(len(absent), -1)
    place[stored] = np.arange(len(stored))
    block = np.full((height, len(stored)), np.nan, dtype=np.float32)
    counts = []
    for cells in parts:
        dense = place[cells.columns] >= 0
        block[cells.rows[dense], place[cells.columns[dense]]] = cells.values[dense]
        counts.append(Cells(cells.rows[~dense], cells.columns[~dense], cells.values[~dense]))
    shape = (height, len(absent))
    starts = np.arange(height + 1) * len(stored)
    values = csr_matrix((block.ravel(), np.tile(stored, height), starts), shape=shape)
    rows, cols = (np.concatenate([getattr(c, name) for c in counts] or [stored[:0]]) for name in ("rows", "columns"))
    data = np.concatenate([c.values for c in counts] or [absent[:0]]).astype(np.float32)
    return (values + csr_matrix((data, (rows, cols)), shape=shape)).astype(np.float32)


@dataclass(frozen=True)
class _Plan:
    """What to read, and in which column each result belongs.

    `numbers` and `codes`: number, code, wanted_unit of the timed facts with and without numbers; `static`: as `STATIC`;
    `places[kind][window_days][aggregation]`: the column of each number, -1 for none.
    """

    numbers: pl.DataFrame
    codes: pl.DataFrame
    static: pl.DataFrame
    places: dict[str, dict[float | None, dict[str, np.ndarray]]]
    age: tuple[int, ...]

    @classmethod
    def of(cls, columns: Sequence[Column]) -> _Plan:
        static = [(i, c.kind, c.code, c.unit, c.category) for i, c in enumerate(columns) if c.kind.startswith("static")]
        numbers, codes = _vocabulary(columns, "value"), _vocabulary(columns, "code")
        return cls(
            numbers=numbers,
            codes=codes,
            static=pl.DataFrame(static, schema=STATIC, orient="row"),
            places={"value": _places(columns, "value", numbers), "code": _places(columns, "code", codes)},
            age=tuple(i for i, column in enumerate(columns) if column.kind == "age"),
        )


def _vocabulary(columns: Sequence[Column], kind: str) -> pl.DataFrame:
    units = {column.code: column.unit for column in columns if column.kind == kind}
    frame = pl.DataFrame(sorted(units.items()), schema={"code": pl.String, "wanted_unit": pl.String}, orient="row")
    return frame.with_row_index("number")


def _places(
    columns: Sequence[Column], kind: str, vocabulary: pl.DataFrame
) -> dict[float | None, dict[str, np.ndarray]]:
    number = {code: i for i, code in enumerate(vocabulary["code"])}
    places: dict[float | None, dict[str, np.ndarray]] = {}
    for position, column in enumerate(columns):
        if column.kind == kind:
            window = places.setdefault(column.window_days, {})
            if column.aggregation not in window:
                window[column.aggregation] = np.full(len(number), -1)
            window[column.aggregation][number[column.code]] = position
    return places


def _shard_cells(events: pl.LazyFrame, rows: pl.DataFrame, plan: _Plan) -> Iterator[Cells]:
    timed, static = events.filter(pl.col("time").is_not_null()), events.filter(pl.col("time").is_null())
    with_number = pl.col("numeric_value").is_finite() & pl.col("unit").eq_missing(pl.col("wanted_unit"))
    numbers, codes, fixed, births = pl.collect_all(
        [
            timed.join(plan.numbers.lazy(), on="code").filter(with_number).select(IN_ORDER),
            timed.join(plan.codes.lazy(), on="code").with_columns(numeric_value=pl.lit(0, pl.Float32)).select(IN_ORDER),
            _static_values(history(static.join(plan.static.lazy(), on="code"), rows), rows),
            _ages(history(timed.filter(pl.col("code") == BIRTH), rows), rows),
        ]
    )
    for facts, vocabulary, kind in ((numbers, plan.numbers, "value"), (codes, plan.codes, "code")):
        yield from _window_cells(_in_order(facts), rows, vocabulary.height, plan.places[kind])
    yield Cells(*(fixed[name].to_numpy() for name in ("row", "column", "value")))
    for position in plan.age:
        yield Cells(births["row"].to_numpy(), np.full(births.height, position), births["age"].to_numpy())


def _in_order(facts: pl.DataFrame) -> pl.DataFrame:
    """Facts sorted by `IN_ORDER`, numbered: oldest first, those of one time by known_time, then by value."""
    if not _is_sorted(facts):  # a shard of one file is, and looking is ten times faster than sorting
        facts = facts.sort(IN_ORDER)
    return facts.with_row_index("order")


def _is_sorted(facts: pl.DataFrame) -> bool:
    equal_so_far = np.ones(max(facts.height - 1, 0), dtype=bool)
    for name in IN_ORDER:
        column = facts[name].to_numpy()
        if (equal_so_far & (column[1:] < column[:-1])).any():
            return False
        equal_so_far &= column[1:] == column[:-1]
    return True


def _window_cells(
    facts: pl.DataFrame, rows: pl.DataFrame, codes: int, places: dict[float | None, dict[str, np.ndarray]]
) -> Iterator[Cells]:
    known = history(facts.lazy(), rows).filter(pl.col("time") <= pl.col("prediction_time")).join(rows.lazy(), on=KEYS)
    group = pl.col("row").cast(pl.Int64) * codes + pl.col("number")
    # One number for group and order, so that one plain sort puts the facts of each group in their order.
    both = known.select(group * facts.height + pl.col("order")).collect().to_series().to_numpy()
    if not len(both):
        return
    group_of_fact, order = np.divmod(np.sort(both), facts.height)
    starts = np.flatnonzero(np.diff(group_of_fact, prepend=-1))
    row, number = np.divmod(group_of_fact[starts], codes)
    sizes = np.diff(starts, append=len(order))
    times, prediction_times = (
        frame[name].to_physical().to_numpy() for frame, name in ((facts, "time"), (rows, KEYS[1]))
    )
    ages = prediction_times[row].repeat(sizes) - times[order]
    yield from _cells_of(Groups(ages, facts["numeric_value"].to_numpy()[order], sizes), row, number, places)


def _cells_of(
    everything: Groups, row: np.ndarray, number: np.ndarray, places: dict[float | None, dict[str, np.ndarray]]
) -> Iterator[Cells]:
    """Cells of each window and aggregation that has a column; `row` and `number` (of the code) are of the groups."""
    for days, aggregations in places.items():
        some, groups = everything.within(days)
        for aggregation, place in aggregations.items():
            column = place[number[some]]
            wanted = column >= 0
            if wanted.any():
                values = AGGREGATIONS[aggregation](groups)[wanted].astype(np.float32)
                yield Cells(row[some][wanted], column[wanted], values)


def _static_values(known: pl.LazyFrame, rows: pl.DataFrame) -> pl.LazyFrame:
    """Row, column and value of each static fact that has a column."""
    is_value = pl.col("kind") == "static_value"
    fits = (
        pl.when(is_value)
        .then(pl.col("numeric_value").is_finite() & pl.col("unit").eq_missing(pl.col("wanted_unit")))
        .when(pl.col("kind") == "static_category")
        .then(pl.col("text_value") == pl.col("category"))
        .otherwise(pl.lit(True))
    )
    value = pl.when(is_value).then("numeric_value").otherwise(pl.lit(1, dtype=pl.Float32))
    # Two static numbers of one code contradict each other; the larger is taken, so that the order cannot matter.
    return known.filter(fits).join(rows.lazy(), on=KEYS).group_by("row", "column").agg(value.max().alias("value"))


def _ages(births: pl.LazyFrame, rows: pl.DataFrame) -> pl.LazyFrame:
    born = births.filter(pl.col("time") <= pl.col("prediction_time"))
    years = (pl.col("prediction_time") - pl.col("time")).dt.total_microseconds() / MICROSECONDS_A_YEAR
    return born.join(rows.lazy(), on=KEYS).group_by("row").agg(years.max().cast(pl.Float32).alias("age"))
