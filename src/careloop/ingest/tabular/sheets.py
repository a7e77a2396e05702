"""Rows of a spreadsheet (.xlsx, .xls, .ods) as text cells: dates in ISO order, whatever the sheet shows."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import polars as pl

from careloop import InputError
from careloop.ingest.delivery import BATCH_ROWS, Reject
from careloop.ingest.tables.delimited import distinct_names, joined_names
from careloop.ingest.tables.rows import Rows
from careloop.ingest.tabular.mapping import Table

BOOKS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
_NO_DATE = r"^(?:1899-12-3[01]|1900-01-0[01]) ([0-9]{2}:)"  # the day 0 of a cell that holds a clock time alone


def sheet_rows(file: Path, table: Table) -> Iterator[Rows]:
    """Rows of the sheets that the table names, else of the first; a sheet (2**20 rows at most) is in memory as a whole.

    Raises:
        InputError: the library that reads spreadsheets is missing.
    """
    book = open_book(file)
    names = [] if book is None else list(book.sheet_names)
    chosen = [name for name in names if fnmatchcase(name.lower(), (table.sheet or "").lower())]
    for name in chosen or (names[:1] if table.sheet is None else []):
        place = f"{file.name} sheet {names.index(name) + 1} row"
        cells = load_sheet(book, name)
        yield from _in_batches(
            _unreadable(place, "the sheet cannot be read") if cells is None else _rows(cells, place, table)
        )
    if book is None:
        yield _unreadable(f"{file.name} row", "no readable spreadsheet")
    elif not chosen and table.sheet is not None:
        yield _unreadable(f"{file.name} row", "the file has no sheet of the name that the mapping gives")


def open_book(file: Path) -> Any | None:
    """The spreadsheet; None where it is none that can be read.

    Raises:
        InputError: the library that reads spreadsheets is missing.
    """
    try:
        import fastexcel
    except ImportError:
        raise InputError(f"{file}: Excel needs fastexcel, which is missing: pip install 'careloop[excel]'") from None
    return _guarded(lambda: fastexcel.read_excel(file.read_bytes()))


def load_sheet(book: Any, name: str) -> pl.DataFrame | None:
    """All cells of a sheet as text, from its first row on; None where it cannot be read."""

    def load() -> pl.DataFrame:
        cells: pl.DataFrame = book.load_sheet(name, header_row=None, skip_rows=0, dtypes="string").to_polars()
        return cells.select(pl.all().cast(pl.String))

    return _guarded(load)


def _guarded(call: Any) -> Any | None:
    try:
        return call()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # a panic of the library, which is no Exception, means a broken file like the others
        return None


def _rows(cells: pl.DataFrame, place: str, table: Table) -> Rows:
    header, skip = (0 if table.columns else table.header_rows), table.skip_rows
    names = table.columns or tuple(f"column_{number}" for number in range(1, cells.width + 1))
    if header:
        names = distinct_names(
            joined_names([[cell or "" for cell in row] for row in cells[skip : skip + header].rows()])
        )
    names = tuple(names[at] if at < len(names) else f"\0{at}" for at in range(cells.width))
    data = cells[skip + header :].with_columns(_shown(column, table.decimal) for column in cells[skip + header :])
    data.columns = list(names)
    numbers = pl.int_range(skip + header + 1, skip + header + 1 + data.height, eager=True)
    is_blank = data.select(pl.all_horizontal(pl.all().is_null())).to_series() if data.width else numbers == 0
    return Rows(data.filter(~is_blank), numbers.filter(~is_blank), place)


def _shown(column: pl.Series, decimal: str) -> pl.Series:
    """Clock times without their day 0; days without a clock time that none has; numbers with the table's sign."""
    text = column.str.replace(_NO_DATE, "$1")
    days = text.str.ends_with(" 00:00:00")
    if days.any() and (days | ~text.str.contains(r"^[0-9]{4}-[0-9]{2}-[0-9]{2} ")).fill_null(True).all():
        text = text.str.replace(r"^([0-9]{4}-[0-9]{2}-[0-9]{2}) 00:00:00$", "$1")
    return text if decimal == "." else text.str.replace(r"^(-?[0-9]+)\.([0-9]+(?:E-?[0-9]+)?)$", "$1,$2")


def _in_batches(rows: Rows) -> Iterator[Rows]:
    """The rows in batches of the usual size."""
    for start in range(0, max(rows.cells.height, 1), BATCH_ROWS):
        part = slice(start, start + BATCH_ROWS)
        yield Rows(rows.cells[part], rows.numbers[part], rows.place, rows.broken if start == 0 else ())


def _unreadable(place: str, reason: str) -> Rows:
    return Rows(pl.DataFrame(), pl.Series([], dtype=pl.Int64), place, [Reject(place.removesuffix(" row"), reason)])
