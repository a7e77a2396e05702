"""A first look at a file: its encoding, separator, lines above the header, header, and some of its rows."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import polars as pl

from careloop.ingest.tables.delimited import PLAIN, SEPARATORS, first_bytes, joined_names
from careloop.ingest.tabular.contents import BOTH_SIGNS, signs_of
from careloop.ingest.tabular.files import Delivered, table_rows
from careloop.ingest.tabular.mapping import Table
from careloop.ingest.tabular.sheets import BOOKS, load_sheet, open_book

SAMPLE_ROWS = 20_000
_SAMPLE_BYTES = 1 << 18
_GRID_ROWS = 100  # from which the header is found
_NUMBER = re.compile(r"[-+<>]?[0-9][0-9.,:/ -]*")


@dataclass(frozen=True)
class Looked:
    """A table as it lies in a file: keys of the mapping that say how it is written, and a sample of its rows.

    `headings` are the columns' names as the file writes them, by their lower-case names in `sample`. `complete`: the
    sample is the whole file. `problem`: why there is no sample.
    """

    each: Delivered
    written: dict[str, str] = field(default_factory=dict)
    sheet: str | None = None
    sample: pl.DataFrame = field(default_factory=pl.DataFrame)
    headings: dict[str, str] = field(default_factory=dict)
    complete: bool = False
    problem: str = ""


def look_at(each: Delivered) -> list[Looked]:
    """The tables in a file: one, or one for each sheet that is not empty.

    Raises:
        InputError: an Excel file, and the library that reads it is missing.
    """
    lower = each.file.name.lower()
    if lower.endswith(BOOKS):
        return _sheets(each)
    if lower.endswith(".parquet"):
        looked = _sampled(each, {}, None)
        return [replace(looked, headings=_headings(_parquet_names(each)))]
    written, names = _written(each)
    return [replace(_sampled(each, written, None), headings=_headings(names))]


def _headings(names: Sequence[str]) -> dict[str, str]:
    plain = [" ".join(name.split()) for name in names]
    return {name.lower(): name for name in reversed(plain)}


def _parquet_names(each: Delivered) -> list[str]:
    try:
        return list(pl.read_parquet_schema(each.file))
    except (pl.exceptions.PolarsError, OSError):
        return []


def _sampled(each: Delivered, written: dict[str, str], sheet: str | None) -> Looked:
    event = {"code": "LOCAL//x", "time": "static"}
    table = Table.model_validate({"files": "*", "subject": "x", "events": [event], "sheet": sheet, **written})
    parts: list[pl.DataFrame] = []
    height = 0
    rows = table_rows(each, table)
    for part in islice(rows, 20):
        if part.cells.height and (not parts or part.cells.schema == parts[0].schema):
            parts.append(part.cells)
            height += part.cells.height
        if height >= SAMPLE_ROWS:
            break
    complete = height < SAMPLE_ROWS and next(rows, None) is None
    if not parts:
        return Looked(each, written, sheet, problem="no rows that can be read")
    sample = pl.concat(parts).head(SAMPLE_ROWS)
    return Looked(each, written, sheet, sample, complete=complete)


def _written(each: Delivered) -> tuple[dict[str, str], list[str]]:
    """Encoding, separator and header of delimited text, and its names."""
    data = first_bytes(each.file, _SAMPLE_BYTES)
    encoding = guess_encoding(data)
    lines = _decoded(data, encoding).removeprefix("\ufeff").replace("\0", "").split("\n")[:_GRID_ROWS]
    separator = _separator(lines)
    try:
        grid = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator)]
    except csv.Error:
        grid = [line.split(separator) for line in lines]
    skip, header = _header(grid[:-1] if len(grid) > 2 else grid)
    written = {"separator": "tab" if separator == "\t" else separator}
    written |= {"encoding": encoding} if encoding else {}
    return written | _said(skip, header), joined_names(grid[skip : skip + header])


def _decoded(data: bytes, encoding: str | None) -> str:
    if encoding or data[:2] in _BOMS:
        return data.decode(encoding or "utf-16", errors="replace")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        is_cut = error.start >= len(data) - 3
        return data.decode("utf-8" if is_cut else "cp1252", errors="replace")


_BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _said(skip: int, header: int) -> dict[str, str]:
    skipped = {"skip_rows": str(skip)} if skip else {}
    return skipped | ({"header_rows": str(header)} if header != 1 else {})


def _sheets(each: Delivered) -> list[Looked]:
    book = open_book(each.file)
    if book is None:
        return [Looked(each, problem="no readable spreadsheet")]
    found = []
    for name in book.sheet_names:
        cells = load_sheet(book, name)
        if cells is None or not cells.height:
            continue
        grid = [[cell or "" for cell in row] for row in cells.head(_GRID_ROWS).rows()]
        skip, header = _header(grid)
        pattern = re.sub(r"[\[*]", "?", name) if len(book.sheet_names) > 1 else None
        looked = _sampled(each, _said(skip, header), pattern)
        if looked.sample.width and signs_of(looked.sample)[2] == BOTH_SIGNS:
            # A number of the sheet is shown with a point; it is the texts among them that have a comma.
            looked = _sampled(each, _said(skip, header) | {"decimal": ","}, pattern)
        found.append(replace(looked, headings=_headings(joined_names(grid[skip : skip + header]))))
    return found or [Looked(each, problem="no sheet with rows")]


def guess_encoding(data: bytes) -> str | None:
    """An encoding that must be named; None for UTF-8, for text with a byte order mark, and for cp1252.

    UTF-16 without a mark shows by its zero bytes. GB 18030 shows by high bytes that come in pairs, most of them of the
    first level of GB 2312 (3,755 common characters); in Western text they stand alone.
    """
    if data.startswith((codecs.BOM_UTF8, *_BOMS)) or not data:
        return None
    for name, zeros in (("utf-16-le", data[1::2]), ("utf-16-be", data[::2])):
        if len(data) > 8 and zeros.count(0) > 0.4 * len(zeros) and data.count(0) < 0.6 * len(data):
            return name
    try:
        data[:-3].decode()
    except UnicodeDecodeError as error:
        if error.start < len(data) - 8:
            pairs = re.findall(rb"[\x81-\xfe][\x40-\x7e\x80-\xfe]", data)
            common = sum(0xB0 <= first <= 0xD7 and second >= 0xA1 for first, second in pairs)
            return "gb18030" if pairs and common >= 0.7 * len(pairs) else None
    return None


def _separator(lines: Sequence[str]) -> str:
    """The sign that most lines have equally often, and often."""
    outside = [re.sub('"[^"]*"', "", line) for line in lines if line.strip()]

    def alike(sign: str) -> tuple[int, int]:
        counts = [line.count(sign) for line in outside]
        usual = max(set(counts) - {0}, key=lambda n: (counts.count(n), n), default=0)
        return (counts.count(usual) if usual else 0, usual)

    return max(SEPARATORS, key=alike) if outside else PLAIN.separator or ","


def _header(grid: Sequence[Sequence[str]]) -> tuple[int, int]:
    """How many rows stand above the header, and how many rows it has: 0 where the first row is data already."""
    filled = [sum(bool(cell) for cell in row) for row in grid]
    usual = max(filled, default=0)
    first = next((at for at, count in enumerate(filled) if count >= max(2, 0.8 * usual)), 0)
    if first >= len(grid):
        return 0, 1
    # Rows of group names, such as merged cells, stand right above; other lines are a title.
    above = first
    while above and filled[above - 1] >= 2 and not any(_NUMBER.fullmatch(cell) for cell in grid[above - 1]):
        above -= 1
    numbers = [cell for cell in grid[first] if _NUMBER.fullmatch(cell)]
    if len(numbers) * 2 >= max(filled[first], 1) and first == above:
        return first, 0
    below = first + 1 if first + 1 < len(grid) and _goes_on(grid[first], grid[first + 1]) else first
    return above, below - above + 1 if first - above < 4 else 1


def _goes_on(header: Sequence[str], below: Sequence[str]) -> bool:
    """True where a header names some columns alike and the row below, with gaps, tells these apart."""
    names = [cell for cell in header if cell]
    told = [cell for cell in below if cell]
    words = not any(_NUMBER.fullmatch(cell) for cell in told)
    return len(set(names)) < len(names) and 0 < len(told) < len(below) and words
