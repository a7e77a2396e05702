"""The feature matrix: keys, column names, and float32 values, dense or CSR."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import polars as pl

from careloop import InputError
from careloop.features.recipe import WIDE_COLUMNS

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from careloop.features.timelines import Timelines

    Values: TypeAlias = np.ndarray | csr_matrix
KEYS = ["subject_id", "prediction_time"]
NARROWED_AT_ONCE = 4096  # rows that are copied at a time


@dataclass(frozen=True, eq=False)
class FeatureMatrix:
    """Features of each key: `values` is (rows, columns) float32, an array or a CSR matrix.

    NaN marks an absent value, 0 an absent code; in CSR the zeros are not stored and the NaN are. `timelines` are the
    same rows' event sequences, where a model reads them.
    """

    keys: pl.DataFrame
    names: tuple[str, ...]
    values: Values
    timelines: Timelines | None = None

    def __post_init__(self) -> None:
        if self.values.shape != (self.keys.height, len(self.names)):
            raise InputError(
                f"feature matrix: values must be (keys, names) = {(self.keys.height, len(self.names))},"
                f" got {self.values.shape}"
            )
        if self.timelines is not None and len(self.timelines) != self.keys.height:
            raise InputError(f"feature matrix: {self.keys.height} rows have {len(self.timelines)} timelines")

    @property
    def is_sparse(self) -> bool:
        """Whether `values` is a CSR matrix."""
        return not isinstance(self.values, np.ndarray)

    def select(self, names: Sequence[str]) -> FeatureMatrix:
        """Only these columns, in this order; a CSR matrix that becomes narrow becomes dense."""
        position = {name: i for i, name in enumerate(self.names)}
        unknown = [name for name in names if name not in position]
        if unknown:
            raise InputError(f"feature matrix: a selected column must be one of its names, got {unknown[0]!r}")
        values: Any = self.values[:, [position[name] for name in names]]
        if self.is_sparse and len(names) <= WIDE_COLUMNS:
            values = values.toarray()
        return FeatureMatrix(self.keys, tuple(names), values, self.timelines)

    def narrow(self, names: Sequence[str]) -> FeatureMatrix:
        """As `select` for names in the matrix's order, but in this matrix's own memory, which is used up by it."""
        wanted = set(names)
        kept = [i for i, name in enumerate(self.names) if name in wanted]
        if len(kept) < len(self.names) / 2 or (self.is_sparse and len(kept) <= WIDE_COLUMNS):
            return self.select(names)
        if not isinstance(self.values, np.ndarray):
            return FeatureMatrix(self.keys, tuple(names), _narrowed(self.values, kept), self.timelines)
        for begin in range(0, len(self.values), NARROWED_AT_ONCE):
            rows = slice(begin, begin + NARROWED_AT_ONCE)
            self.values[rows, : len(kept)] = self.values[rows, kept]
        return FeatureMatrix(self.keys, tuple(names), self.values[:, : len(kept)], self.timelines)

    def filter(self, rows: np.ndarray | pl.Series) -> FeatureMatrix:
        """Only the rows where the mask is true."""
        return self.take(np.flatnonzero(np.asarray(rows, dtype=bool)))

    def take(self, positions: np.ndarray) -> FeatureMatrix:
        """The rows at these positions, in this order."""
        timelines = None if self.timelines is None else self.timelines.take(positions)
        return FeatureMatrix(self.keys[positions], self.names, self.values[positions], timelines)

    def to_frame(self) -> pl.DataFrame:
        """Keys and one Float32 column a name (null where NaN); if CSR, keys and lists `feature` and `value`."""
        if not isinstance(self.values, np.ndarray):
            return self._lists(self.values)
        columns = pl.from_numpy(self.values, schema=dict.fromkeys(self.names, pl.Float32)).fill_nan(None)
        return pl.concat([self.keys, columns], how="horizontal")

    def _lists(self, values: csr_matrix) -> pl.DataFrame:
        rows = pl.Series(np.repeat(np.arange(self.keys.height), np.diff(values.indptr)))
        cells = pl.DataFrame(
            {
                "row": rows.cast(pl.UInt32),
                "feature": pl.Series(values.indices.astype(np.uint32)).cat.to(pl.Enum(self.names)),
                "value": values.data,
            }
        )
        lists = cells.group_by("row").agg("feature", "value")
        return self.keys.with_row_index("row").join(lists, on="row", how="left", maintain_order="left").drop("row")

    @classmethod
    def from_frame(cls, frame: pl.DataFrame) -> FeatureMatrix:
        """Read back what `to_frame` made, also after a round trip through parquet."""
        missing = [name for name in KEYS if name not in frame.columns]
        if missing:
            raise InputError(f"feature frame: column {missing[0]!r} is missing; write it with FeatureMatrix.to_frame")
        keys, columns = frame.select(KEYS), frame.drop(KEYS)
        if isinstance(columns.schema.get("feature"), pl.List):
            return cls._from_lists(keys, columns)
        values = columns.select(pl.all().cast(pl.Float32).fill_null(float("nan"))).to_numpy(order="c")
        return cls(keys, tuple(columns.columns), values)

    @classmethod
    def _from_lists(cls, keys: pl.DataFrame, lists: pl.DataFrame) -> FeatureMatrix:
        from scipy.sparse import csr_matrix

        names = tuple(lists.schema["feature"].inner.categories)  # type: ignore[attr-defined]
        lengths = lists["feature"].list.len().fill_null(0).to_numpy()
        starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        indices = lists["feature"].explode(empty_as_null=False).drop_nulls().to_physical().to_numpy().astype(np.int32)
        data = lists["value"].explode(empty_as_null=False).drop_nulls().to_numpy()
        return cls(keys, names, csr_matrix((data, indices, starts), shape=(keys.height, len(names))))


def _narrowed(values: csr_matrix, kept: Sequence[int]) -> csr_matrix:
    """Only these columns of a CSR matrix, moved up within its own arrays."""
    from scipy.sparse import csr_matrix

    place = np.full(values.shape[1], -1, dtype=np.int32)
    place[kept] = np.arange(len(kept), dtype=np.int32)
    starts = np.zeros_like(values.indptr)
    for begin in range(0, values.shape[0], NARROWED_AT_ONCE):
        ends = values.indptr[begin : begin + NARROWED_AT_ONCE + 1]
        cells, first = slice(ends[0], ends[-1]), starts[begin]
        columns = place[values.indices[cells]]
        stays = columns >= 0
        so_far = np.concatenate([[0], np.cumsum(stays)])
        starts[begin : begin + len(ends)] = first + so_far[ends - ends[0]]
        moved = slice(first, first + so_far[-1])
        values.indices[moved], values.data[moved] = columns[stays], values.data[cells][stays]
    arrays = values.data[: starts[-1]], values.indices[: starts[-1]], starts
    return csr_matrix(arrays, shape=(values.shape[0], len(kept)))


def stacked_dense(blocks: Iterable[tuple[np.ndarray, Values]], shape: tuple[int, int]) -> np.ndarray:
    """One dense matrix from blocks of its rows (their numbers, their values); every row is in one of them."""
    values = np.empty(shape, dtype=np.float32)
    for numbers, block in blocks:
        values[numbers] = block
    return values


def stacked_sparse(blocks: Iterable[tuple[np.ndarray, csr_matrix]], shape: tuple[int, int]) -> csr_matrix:
    """As `stacked_dense`, from CSR blocks, with little more memory than the matrix takes: blocks go as it fills."""
    from scipy.sparse import csr_matrix

    waiting = deque(blocks)
    starts = np.zeros(shape[0] + 1, dtype=np.int64)
    for numbers, block in waiting:
        starts[numbers + 1] = np.diff(block.indptr)
    np.cumsum(starts, out=starts)
    data, indices = np.empty(starts[-1], dtype=np.float32), np.empty(starts[-1], dtype=np.int32)
    while waiting:
        numbers, block = waiting.popleft()
        place = np.repeat(starts[numbers] - block.indptr[:-1], np.diff(block.indptr)) + np.arange(block.nnz)
        data[place], indices[place] = block.data, block.indices
    return csr_matrix((data, indices, starts), shape=shape)
