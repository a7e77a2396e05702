"""Rows of a stored table, whatever file it lies in: cells as they are, where each row stands, and what was broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from careloop.ingest.delivery import BATCH_ROWS, Reject
from careloop.ingest.tables.delimited import delimited_rows

CALENDAR_US = (-62_135_510_400_000_000, 253_402_214_400_000_000)  # 0001-01-02 to 9999-12-31
NO_CELL = "\ufffd"  # stands for a value of a type that no OMOP column has


@dataclass(frozen=True)
class Rows:
    """Up to BATCH_ROWS rows in the order of the file.

    `cells` has lower-case column names; its columns are numbers, dates, times or text (delimited text: all text).
    `numbers` says which line or row of the file each is, `place` what is numbered ("measurement.csv line"). `broken`
    are the rows in between that could not be taken apart; `headers` counts a header that was stored as a row.
    """

    cells: pl.DataFrame
    numbers: pl.Series
    place: str
    broken: Sequence[Reject] = ()
    headers: int = 0


def file_rows(file: Path) -> Iterator[Rows]:
    """Rows of a parquet or a delimited text file, in batches."""
    if file.name.lower().endswith(".parquet"):
        yield from _parquet_rows(file)
        return
    for part in delimited_rows(file):
        yield Rows(part.cells, part.lines, f"{file.name} line", part.broken)


def duckdb_rows(file: Path, table: str) -> Iterator[Rows]:
    """Rows of a table of a duckdb file; `table` is its quoted name with schema."""
    import duckdb

    place, first = f"{file.name} {table} row", 1
    with duckdb.connect(str(file), read_only=True) as connection:
        try:
            for part in connection.sql(f"select * from {table}").to_arrow_reader(BATCH_ROWS):
                cells = _plain(pl.DataFrame(part))
                named = _without_header(cells) if first == 1 else cells
                numbers = pl.int_range(first, first + cells.height, eager=True)[cells.height - named.height :]
                yield Rows(named, numbers, place, headers=cells.height - named.height)
                first += cells.height
        except (duckdb.Error, pl.exceptions.PolarsError, ValueError):
            yield _unreadable(place, first)


def _parquet_rows(file: Path) -> Iterator[Rows]:
    place, first = f"{file.name} row", 1
    try:
        scan = pl.scan_parquet(file, glob=False, hive_partitioning=False)
        for cells in scan.collect_batches(chunk_size=BATCH_ROWS, maintain_order=True):
            for part in cells.iter_slices(BATCH_ROWS):
                yield Rows(_plain(part), pl.int_range(first, first + part.height, eager=True), place)
                first += part.height
    except (pl.exceptions.PolarsError, OSError):
        yield _unreadable(place, first)


def _unreadable(place: str, first: int) -> Rows:
    broken = Reject(f"{place} {first}", "the table cannot be read from here on")
    return Rows(pl.DataFrame(), pl.Series([], dtype=pl.Int64), place, [broken])


def _without_header(cells: pl.DataFrame) -> pl.DataFrame:
    """The rows under their right names where the first row holds them (an import may take a header for data)."""
    if not cells.height or not all(name.startswith("column") for name in cells.columns):
        return cells
    names = [str(name).lower() for name in cells.row(0)]
    return cells[1:].rename(dict(zip(cells.columns, names, strict=True))) if len(set(names)) == len(names) else cells


def plain_types(cells: pl.DataFrame) -> pl.DataFrame:
    """Every column as numbers, dates, times or text; NO_CELL for a value of any other type."""
    plain = cells.select(_readable(column).alias(column.name) for column in cells)
    return plain.with_columns(within_calendar(column) for column in plain)


def _plain(cells: pl.DataFrame) -> pl.DataFrame:
    """Plain types under lower-case names; of two names that differ in nothing else the first stays."""
    first: dict[str, pl.Series] = {}
    for column in cells:
        first.setdefault(column.name.strip().lower(), column)
    return plain_types(cells.select(column.alias(name) for name, column in first.items()))


def within_calendar(column: pl.Series) -> pl.Series:
    """The column; where it holds a date or time outside the years 1 to 9999, it is all text, and that one its number.

    Such values overflow when they are converted, and polars ends the process when it writes one.
    """
    if not (column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime)):
        return column
    ticks = column.cast(pl.Datetime("us"), strict=False).to_physical()
    inside = ticks.is_between(*CALENDAR_US).fill_null(False)
    if (inside | column.is_null()).all():
        return column
    zone = "Z" if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone else ""
    times = ticks.zip_with(inside, pl.Series([None], dtype=pl.Int64)).cast(pl.Datetime("us"))
    text = times.dt.strftime("%Y-%m-%dT%H:%M:%S%.f") + zone
    return text.zip_with(inside, column.to_physical().cast(pl.String)).alias(column.name)


def _readable(column: pl.Series) -> pl.Expr:
    kind, cell = column.dtype, pl.lit(column)  # not by its name: polars takes `*` and `^a$` for patterns
    if kind.is_numeric() or kind in {pl.String, pl.Date} or isinstance(kind, pl.Datetime):
        return cell
    if kind in {pl.Boolean, pl.Categorical, pl.Enum, pl.Time, pl.Null}:
        return cell.cast(pl.String)
    return pl.when(cell.is_not_null()).then(pl.lit(NO_CELL))
