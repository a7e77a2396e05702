"""CDISC Dataset-JSON 1.1 as rows, from one JSON object (.json) or line by line (.ndjson), with bounded memory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import polars as pl

from careloop.ingest.cdisc.xport import PLAIN, Reading
from careloop.ingest.delivery import Reject
from careloop.ingest.tables.rows import Rows

CHUNK_BYTES = 1 << 22
LONGEST_BYTES = 1 << 25  # of a row, and of all that stands before the rows
RAW_CHARACTERS = 1000  # of a broken row, kept in its reject
_NUMBERS = {"integer", "float", "double"}  # "decimal" comes as text
_ROWS = re.compile(rb'"rows"\s*+:\s*+\[')
_BETWEEN = re.compile(rb"[\s,]*+")
_ROW = re.compile(rb'\[(?:[^\[\]"]++|"(?:[^"\\]++|\\.)*+")*+\]', re.DOTALL)
ENDS_EARLY = "file ends early"


class _RefusedError(Exception):
    """Why a file cannot be read on, in fixed words."""


def dataset_json_rows(file: Path, reading: Reading = PLAIN) -> Iterator[Rows]:
    """Rows of a dataset: numbers as float64, else text. Broken rows are rejects; so is an end before the last row."""
    place, count, expected, names = f"{file.name} row", 0, 0, []
    try:
        with file.open("rb") as opened:
            is_lines = file.suffix.lower() == ".ndjson"
            columns, expected, rest = _line_head(opened) if is_lines else _object_head(opened)
            names = [name for name, _ in columns]
            pieces = _lines(opened) if is_lines else _arrays(opened, rest)
            for batch in _batches(pieces, reading.batch_rows):
                yield _rows(batch, columns, place, count + 1)
                count += len(batch)
            if count < expected:
                raise _RefusedError(ENDS_EARLY)
    except _RefusedError as refused:
        reject = Reject(f"{place} {count + 1}", str(refused))
        yield Rows(pl.DataFrame(schema=dict.fromkeys(names, pl.String())), _range(count, 0), place, [reject])
    except OSError:
        yield Rows(pl.DataFrame(), _range(count, 0), place, [Reject(f"{place} {count + 1}", "the file cannot be read")])


def _range(start: int, length: int) -> pl.Series:
    return pl.int_range(start, start + length, eager=True)


def _line_head(opened: BinaryIO) -> tuple[list[tuple[str, str]], int, bytes]:
    return *_described(opened.readline(LONGEST_BYTES).removeprefix(b"\xef\xbb\xbf")), b""


def _object_head(opened: BinaryIO) -> tuple[list[tuple[str, str]], int, bytes]:
    """Columns, number of rows, and the first bytes after the bracket that opens the rows."""
    head = b""
    while (begin := _ROWS.search(head)) is None:
        chunk = opened.read(CHUNK_BYTES)
        if not chunk or len(head) > LONGEST_BYTES:
            raise _RefusedError("not Dataset-JSON: no rows")
        head += chunk
    before = head[: begin.start()].removeprefix(b"\xef\xbb\xbf")
    return *_described(before.rstrip().rstrip(b",") + b"}"), head[begin.end() :]


def _described(head: bytes) -> tuple[list[tuple[str, str]], int]:
    """Names with types, and the number of rows, from the metadata (Dataset-JSON 1.1, "Dataset" attributes)."""
    try:
        metadata = msgspec.json.decode(head)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise _RefusedError("not Dataset-JSON: the metadata before the rows cannot be read") from None
    columns = metadata.get("columns") if isinstance(metadata, dict) else None
    if not isinstance(columns, list) or not columns or not all(isinstance(column, dict) for column in columns):
        raise _RefusedError("not Dataset-JSON: no columns before the rows")
    records = metadata.get("records")
    named = [(str(column.get("name", "")).strip().upper(), str(column.get("dataType", ""))) for column in columns]
    if len({name for name, _ in named}) < len(named):
        raise _RefusedError("two columns have one name")
    return named, records if isinstance(records, int) else 0


def _lines(opened: BinaryIO) -> Iterator[bytes]:
    while line := opened.readline(LONGEST_BYTES):
        if line.strip():
            yield line


def _arrays(opened: BinaryIO, data: bytes) -> Iterator[bytes]:
    """The arrays in `rows`, cut out one by one."""
    at, is_end = 0, False
    while True:
        at = _BETWEEN.match(data, at).end()  # type: ignore[union-attr]
        row = _ROW.match(data, at)
        if row is not None:
            yield row.group()
            at = row.end()
        elif data[at : at + 1] == b"]":
            return
        elif is_end or len(data) - at > LONGEST_BYTES or data[at : at + 1] not in {b"", b"["}:
            raise _RefusedError(ENDS_EARLY if is_end else "no JSON from here on")
        else:
            chunk = opened.read(CHUNK_BYTES)
            data, at, is_end = data[at:] + chunk, 0, not chunk


def _batches(pieces: Iterator[bytes], rows: int) -> Iterator[list[bytes]]:
    """Pieces in lists; what came before a damage is given before it is raised."""
    batch: list[bytes] = []
    try:
        for piece in pieces:
            batch.append(piece)
            if len(batch) == rows:
                yield batch
                batch = []
    except _RefusedError:
        yield batch
        raise
    yield batch


def _rows(pieces: list[bytes], columns: list[tuple[str, str]], place: str, first: int) -> Rows:
    try:
        values = msgspec.json.decode(b"[" + b",".join(pieces) + b"]")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        values = [_value(piece) for piece in pieces]
    if len(values) != len(pieces):  # two arrays in one line
        values = [_value(piece) for piece in pieces]
    whole = [isinstance(row, list) and len(row) == len(columns) for row in values]
    broken = [
        Reject(f"{place} {first + at}", "not an array of as many values as there are columns", _text(pieces[at]))
        for at, is_whole in enumerate(whole)
        if not is_whole
    ]
    kept = [row for row, is_whole in zip(values, whole, strict=True) if is_whole]
    by_column: Sequence[Sequence[Any]] = list(zip(*kept, strict=True)) if kept else [()] * len(columns)
    cells = pl.DataFrame([_column(*column, cells) for column, cells in zip(columns, by_column, strict=True)])
    return Rows(cells, _range(first, len(pieces)).filter(pl.Series(whole, dtype=pl.Boolean)), place, broken)


def _value(piece: bytes) -> Any:
    try:
        return msgspec.json.decode(piece)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _text(piece: bytes) -> str:
    return piece[:RAW_CHARACTERS].decode(errors="replace")


def _column(name: str, kind: str, values: Sequence[Any]) -> pl.Series:
    try:
        return pl.Series(name, values, dtype=pl.Float64() if kind in _NUMBERS else pl.String())
    except (TypeError, OverflowError, pl.exceptions.PolarsError):
        texts = [value if value is None or isinstance(value, str) else str(value) for value in values]
        return pl.Series(name, texts, dtype=pl.String)
