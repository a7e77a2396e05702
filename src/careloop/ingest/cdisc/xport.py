"""SAS transport files (XPORT version 5 and 8) as rows, as far as a file goes: nothing is believed before it is checked.

Own code, since the C library that other readers share gives nothing of a file that is cut off, and cannot be told to
read text as UTF-8 or windows-1252 as it comes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import polars as pl

from careloop.ingest.delivery import BATCH_ROWS, Reject
from careloop.ingest.tables.rows import Rows

RECORD_BYTES = 80
BLOCK_BYTES = 1 << 26
LONGEST_ROW_BYTES = 1 << 24
MOST_VARIABLES = 100_000
_MARK, _AFTER_MARK = b"HEADER RECORD*******", b"HEADER RECORD!!!!!!!"
_NEXT_MEMBER = _MARK + b"MEMB"
_NAMESTR_BYTES = (140, 136)  # 136 on VAX
# First byte of a number whose others are zero: ".", "._" and ".A" to ".Z" are missing values.
_MISSING = np.zeros(256, dtype=bool)
_MISSING[[0x2E, 0x5F, *range(0x41, 0x5B)]] = True
_FRACTION = np.uint64(0x00FF_FFFF_FFFF_FFFF)
ENDS_EARLY = "file ends early"


class _RefusedError(Exception):
    """Why a file cannot be read on, in fixed words."""


@dataclass(frozen=True)
class _Variable:
    name: str
    is_number: bool
    start: int
    length: int


@dataclass(frozen=True)
class Reading:
    """How files are read: text encoding (None: UTF-8, and windows-1252 where it is not), rows at a time, columns."""

    encoding: str | None = None
    batch_rows: int = BATCH_ROWS
    only: Collection[str] | None = None


PLAIN = Reading()


def xport_rows(file: Path, reading: Reading = PLAIN) -> Iterator[Rows]:
    """Rows of all members of a transport file: numbers as float64, text without trailing blanks.

    Formats: SAS technical support papers TS-140 (version 5) and "Record Layout of a SAS Version 8 or 9 Data Set in SAS
    Transport Format". Rows before a damage are given, then one reject.
    """
    place, first = f"{file.name} row", 1
    try:
        with file.open("rb") as opened:
            if _keyword(_records(opened, 3)[:RECORD_BYTES]) not in {"LIBRARY", "LIBV8"}:
                raise _RefusedError("not a SAS transport file (XPORT)")
            record = opened.read(RECORD_BYTES)
            while record:
                variables = _variables(record, opened)
                width = sum(variable.length for variable in variables)
                blocks = _Blocks(opened, width, reading.batch_rows)
                for block in blocks:
                    cells = _cells(block, variables, width, reading)
                    yield Rows(cells, pl.int_range(first, first + cells.height, eager=True), place)
                    first += cells.height
                record = blocks.following
    except _RefusedError as refused:
        yield _broken(place, first, str(refused))
    except OSError:
        yield _broken(place, first, "the file cannot be read")


def _broken(place: str, first: int, reason: str) -> Rows:
    return Rows(pl.DataFrame(), pl.Series([], dtype=pl.Int64), place, [Reject(f"{place} {first}", reason)])


def _records(opened: BinaryIO, count: int) -> bytes:
    data = opened.read(count * RECORD_BYTES)
    if len(data) < count * RECORD_BYTES:
        raise _RefusedError(ENDS_EARLY)
    return data


def _keyword(record: bytes) -> str:
    """What a header record heads; empty for any other record."""
    is_header = record.startswith(_MARK) and record[28:48] == _AFTER_MARK
    return record[20:28].decode("ascii", errors="replace").strip() if is_header else ""


def _variables(record: bytes, opened: BinaryIO) -> list[_Variable]:
    """Read a member's header from its first record on, up to its first row."""
    size = _number(record[74:78])
    if _keyword(record) not in {"MEMBER", "MEMBV8"} or size not in _NAMESTR_BYTES:
        raise _RefusedError("the member header is not that of a transport file")
    _records(opened, 3)  # descriptor header, and the dataset's name and dates
    head = _records(opened, 1)
    count = _number(head[48:58])
    if _keyword(head) not in {"NAMESTR", "NAMSTV8"} or not 0 < count <= MOST_VARIABLES:
        raise _RefusedError("the variables' header is not that of a transport file")
    data = _records(opened, -(-count * size // RECORD_BYTES))
    variables: list[_Variable] = []
    width = 0
    for at in range(0, count * size, size):
        variables.append(_variable(data[at : at + size], width))
        width += variables[-1].length
    if width > LONGEST_ROW_BYTES:
        raise _RefusedError("a row is longer than 16 MiB")
    while _keyword(head) not in {"OBS", "OBSV8"}:  # long labels may come before
        head = _records(opened, 1)
    return variables


def _number(digits: bytes) -> int:
    return int(digits) if digits.isdigit() else 0


def _variable(data: bytes, start: int) -> _Variable:
    """A variable at `start`: what the header says of its place (npos) is that in the original dataset, not here."""
    kind, length = (int.from_bytes(data[start : start + 2], "big") for start in (0, 4))
    long_name = data[88:120].split(b"\0")[0].strip()  # version 8; zeros in version 5
    name = (long_name or data[8:16].split(b"\0")[0]).decode("cp1252", errors="replace").strip().upper()
    if kind not in {1, 2} or not length or (kind == 1 and not 2 <= length <= 8):
        raise _RefusedError("a variable is neither number nor text")
    return _Variable(name, kind == 1, start, length)


class _Blocks:
    """Bytes of whole rows of one member; `following` is the header record after them, empty at the end of the file."""

    def __init__(self, opened: BinaryIO, width: int, batch_rows: int) -> None:
        self._opened, self._width = opened, width
        rows = max(1, min(batch_rows, BLOCK_BYTES // width))
        self._bytes = -(-rows * width // RECORD_BYTES) * RECORD_BYTES
        self.following = b""

    def __iter__(self) -> Iterator[bytes]:
        held, kept_back = b"", RECORD_BYTES // self._width * self._width + self._width
        while True:
            block = self._opened.read(self._bytes)
            end = _member_header(block)
            if end is not None:
                self.following = block[end : end + RECORD_BYTES]
                self._opened.seek(end + RECORD_BYTES - len(block), 1)
                block = block[:end]
            held += block
            is_last = end is not None or len(block) < self._bytes
            # The last rows may be the blanks that fill the last record.
            whole = max(0, len(held) - kept_back) // self._width * self._width
            if is_last:
                yield from self._last(held)
                return
            yield held[:whole]
            held = held[whole:]

    def _last(self, held: bytes) -> Iterator[bytes]:
        whole = len(held) // self._width * self._width
        rest = held[whole:]
        while whole and len(held) - whole + self._width < RECORD_BYTES and _is_blank(held[whole - self._width : whole]):
            whole -= self._width
        yield held[:whole]
        is_cut = not self.following and self._opened.tell() % RECORD_BYTES != 0
        if is_cut or not _is_blank(rest):
            raise _RefusedError(ENDS_EARLY)


def _is_blank(data: bytes) -> bool:
    return not data.strip(b" \0")


def _member_header(block: bytes) -> int | None:
    """Where the next member begins."""
    at = block.find(_NEXT_MEMBER)
    while at >= 0:
        if at % RECORD_BYTES == 0 and _keyword(block[at : at + RECORD_BYTES]) in {"MEMBER", "MEMBV8"}:
            return at
        at = block.find(_NEXT_MEMBER, at + 1)
    return None


def _cells(block: bytes, variables: list[_Variable], width: int, reading: Reading) -> pl.DataFrame:
    rows = np.frombuffer(block, dtype=np.uint8).reshape(-1, width)
    columns: dict[str, pl.Series] = {}
    for variable in variables:
        if variable.name in columns or (reading.only is not None and variable.name not in reading.only):
            continue
        part = rows[:, variable.start : variable.start + variable.length]
        columns[variable.name] = _numbers(part) if variable.is_number else _text(part, reading.encoding)
    return pl.DataFrame(columns) if columns else pl.DataFrame(height=len(rows))


def _numbers(part: np.ndarray) -> pl.Series:
    """IBM/360 floating point, `(rows, 2 to 8)` bytes, to float64: sign, exponent of 16 with excess 64, fraction."""
    padded = np.zeros((len(part), 8), dtype=np.uint8)
    padded[:, : part.shape[1]] = part
    bits = padded.view(">u8").ravel().astype(np.uint64)
    fraction = bits & _FRACTION
    exponent = ((bits >> np.uint64(56)) & np.uint64(0x7F)).astype(np.int64)
    size = np.ldexp(fraction.astype(np.float64), 4 * (exponent - 64) - 56)
    values = np.where(bits >> np.uint64(63), -size, size)
    is_missing = _MISSING[padded[:, 0]] & (fraction == 0)
    return pl.select(pl.when(~pl.Series(is_missing)).then(pl.Series(values))).to_series()


def _text(part: np.ndarray, encoding: str | None) -> pl.Series:
    raw = pl.Series(np.ascontiguousarray(part).view(f"S{part.shape[1]}").ravel(), dtype=pl.Binary)
    return decoded(raw, encoding).str.replace_all("\0", "", literal=True).str.strip_chars_end(" ")


def decoded(raw: pl.Series, encoding: str | None) -> pl.Series:
    """Binary as text: in `encoding`, else UTF-8, and windows-1252 for each value that is not."""
    if encoding is None:
        try:
            return raw.cast(pl.String)
        except pl.exceptions.ComputeError:
            pass
    values = raw.unique()
    texts = pl.DataFrame({"raw": values, "text": pl.Series([_decoded(v, encoding) for v in values], dtype=pl.String)})
    return pl.DataFrame({"raw": raw}).join(texts, on="raw", how="left", maintain_order="left")["text"]


def _decoded(value: bytes, encoding: str | None) -> str:
    if encoding is not None:
        return value.decode(encoding, errors="replace")
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("cp1252", errors="replace")
