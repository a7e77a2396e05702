"""Delimited text, possibly broken anywhere, as rows of text cells: a bad line is a reject, not the end of the file."""

from __future__ import annotations

import codecs
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import polars as pl

from careloop.ingest.delivery import BATCH_ROWS, Reject

BLOCK_BYTES = 1 << 24
COMPRESSED_BYTES = 1 << 16  # at a time: what is lost of a damaged file is at most what they hold
LONGEST_LINE_BYTES = 1 << 27  # a longer line is cut: the memory of a reader is bounded, whatever it reads
LONGEST_NAME_LINES = 20  # of one column's name
LONGEST_CELL_LINES = 10_000  # a quoted cell with more lines is taken for a quote that was never closed
SEPARATORS = ("\t", ",", ";", "|")
LINE = "\0line"  # no column of a file can have this name: NUL is removed from text
ENDS_EARLY = "file ends early"
GZIP = 16 + zlib.MAX_WBITS


@dataclass(frozen=True)
class Dialect:
    """How a file is written where that is known (terms of CSV on the Web, W3C 2015, section 5.9).

    `separator` None: the one that the header has most of. `encoding` None: UTF-8, or what a byte order mark says, or
    cp1252 line by line. `skip_lines` stand above the header; `header_lines` rows name the columns together, a cell of
    an upper one meaning all columns up to the next; `names` are the columns' names in place of a header's.
    """

    separator: str | None = None
    encoding: str | None = None
    skip_lines: int = 0
    header_lines: int = 1
    names: tuple[str, ...] = ()


PLAIN = Dialect()


@dataclass(frozen=True)
class Part:
    """Rows as text cells under lower-case names, their line numbers, and the broken lines in between."""

    cells: pl.DataFrame
    lines: pl.Series
    broken: list[Reject]


def delimited_rows(file: Path, dialect: Dialect = PLAIN) -> Iterator[Part]:
    """Read `.csv`, `.tsv` or `.txt`, also `.gz`, in parts of at most BATCH_ROWS rows.

    Unless `dialect` says otherwise, the first line names the columns and decides on the separator, and text is UTF-8,
    UTF-16 with a byte order mark, or cp1252 line by line where a line is not UTF-8. Cells may be quoted as in RFC 4180,
    over several lines too; a quote inside an unquoted cell is part of it. Tab-separated files do not quote (OHDSI's
    vocabulary files), unless a cell is quoted as a whole.
    """
    layout: _Layout | None = None
    waiting, first = pl.Series("text", [], dtype=pl.String), 1
    for block in _blocks(file, dialect.encoding):
        lines = waiting = pl.concat([waiting, block.lines])
        if layout is None:
            rows, used = _header(lines, dialect, is_last=block.is_last)
            if rows is not None:
                layout = _Layout.of(rows, dialect, file.name)
                lines, first = lines[used:], used + 1
        if layout is not None:
            taken, waits = layout.take(lines, first, is_last=block.is_last)
            waiting, first = lines[lines.len() - waits :], first + lines.len() - waits
            yield from _parts(taken)
        if block.damage:
            yield Part(pl.DataFrame(), pl.Series([], dtype=pl.UInt32), [Reject(f"{file.name} end", *block.damage)])


def _header(lines: pl.Series, dialect: Dialect, *, is_last: bool) -> tuple[list[str] | None, int]:
    """The header's rows, and how many lines stand above the first row of data; None until all of it is there.

    Without header rows it is the first row of data, which is not used up, as it alone tells the separator.
    """
    rows: list[str] = []
    at, wanted = dialect.skip_lines, max(dialect.header_lines, 1)
    while at < lines.len() and len(rows) < wanted:
        row: str = lines[at].removesuffix("\r")
        end = at + 1
        while row.count('"') % 2 and end < min(lines.len(), at + LONGEST_NAME_LINES):
            row = f"{row}\n{lines[end]}".removesuffix("\r")
            end += 1
        if row.count('"') % 2:
            if not is_last and end == lines.len():
                return None, 0
            row, end = lines[at].removesuffix("\r"), at + 1  # a quote that means nothing
        rows += [row] if row.strip() else []
        at = end
    if (not is_last and len(rows) < wanted) or not rows:
        return None, 0
    return rows, at if dialect.header_lines else dialect.skip_lines


def joined_names(rows: Sequence[Sequence[str]]) -> list[str]:
    """Column names from header rows: in upper rows a cell stands for the columns up to the next, as merged cells do."""
    width = max(map(len, rows), default=0)
    parts: list[list[str]] = [[] for _ in range(width)]
    for number, row in enumerate(rows, start=1):
        last = ""
        for at in range(width):
            cell = " ".join((row[at] if at < len(row) else "").split())
            last = cell or (last if number < len(rows) else "")
            parts[at] += [last] if last and last not in parts[at] else []
    return [" ".join(part) for part in parts]


def distinct_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names in lower case; one that is missing or there already is replaced by one that no mapping can name."""
    lower = [name.strip().lower() for name in names]
    return tuple(name if name and name not in lower[:i] else f"\0{i}" for i, name in enumerate(lower))


def _parts(taken: Part) -> Iterator[Part]:
    for start in range(0, max(taken.cells.height, 1), BATCH_ROWS):
        rows = slice(start, start + BATCH_ROWS)
        yield Part(taken.cells[rows], taken.lines[rows], taken.broken if start == 0 else [])


@dataclass(frozen=True)
class _Layout:
    """How the cells of one file are told apart."""

    separator: str
    names: tuple[str, ...]
    file: str

    @classmethod
    def of(cls, header: list[str], dialect: Dialect, file: str) -> _Layout:
        outside = re.sub('"[^"]*"', "", header[-1])
        separator = dialect.separator or max(SEPARATORS, key=outside.count)
        named = [list(dialect.names)] if dialect.names else [_cells(row, separator) for row in header]
        if not dialect.names and not dialect.header_lines:
            named = [[f"column_{number}" for number in range(1, len(named[0]) + 1)]]
        return cls(separator, distinct_names(joined_names(named)), file)

    def take(self, lines: pl.Series, first: int, *, is_last: bool) -> tuple[Part, int]:
        """Rows of these lines, `first` being the number of the first, and how many at the end wait for a closing quote.

        Lines that are a row each, nearly all of them, are taken apart together; the others one by one.
        """
        frame = pl.DataFrame({"text": lines.str.strip_suffix("\r")}).with_row_index(LINE, offset=first)
        frame = frame.with_columns(plain=self._plain(frame["text"]), blank=pl.col("text").str.strip_chars() == "")
        others = frame.filter(~pl.col("plain") & ~pl.col("blank"))[LINE]
        mended = _Mended(self, frame["text"], first, is_last)
        for line in others:
            mended.add(line)
        outside = ~pl.col(LINE).is_in(list(mended.inside)) & (pl.col(LINE) < first + mended.end)
        rows = self._apart(frame.filter("plain", ~pl.col("blank"), outside))
        if mended.rows:
            more = pl.DataFrame(mended.rows, schema=rows.schema, orient="row")
            rows = pl.concat([rows, more]).sort(LINE)
        return Part(rows.drop(LINE), rows[LINE], mended.broken), lines.len() - mended.end

    def _plain(self, text: pl.Series) -> pl.Series:
        """True where a line is exactly one row, with quotes only around cells."""
        if self.separator == "\t" or not text.str.contains('"', literal=True).any():
            count = text.str.count_matches(self.separator, literal=True) == len(self.names) - 1
            return count & ~text.str.contains(r'(?:^|\t)"[^"]*$')
        cell = rf'(?:"(?:[^"]|"")*"|[^"{self._escaped}]*)'
        return text.str.contains(rf"^{cell}(?:{self._escaped}{cell}){{{len(self.names) - 1}}}$")

    def _apart(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The cells of plain lines."""
        text = frame["text"]
        schema = dict.fromkeys(self.names, pl.String())
        is_quoted = text.str.contains('"', literal=True).any()
        if is_quoted and self.separator != "\t":
            whole = io.BytesIO("\n".join(text).encode())
            cells = pl.read_csv(
                whole, has_header=False, schema=schema, separator=self.separator, empty_string_is_null=False
            )
            if cells.height != text.len():  # never seen; a reader that merges lines must not shift the line numbers
                cells = pl.DataFrame([_cells(line, self.separator) for line in text], schema=schema, orient="row")
        else:
            pieces = text.str.split_exact(self.separator, len(self.names) - 1).struct.unnest()
            cells = pieces.rename(dict(zip(pieces.columns, self.names, strict=True)))
            if is_quoted:
                inner = pl.all().str.slice(1, pl.all().str.len_chars() - 2).str.replace_all('""', '"', literal=True)
                cells = cells.with_columns(pl.when(pl.all().str.contains('(?s)^".*"$')).then(inner).otherwise(pl.all()))
        return cells.insert_column(0, frame[LINE])

    def is_literal(self, line: str) -> bool:
        """True where a line is a row if its quotes mean nothing, in a file that does not quote."""
        return self.separator == "\t" and line.count("\t") == len(self.names) - 1

    @cached_property
    def _escaped(self) -> str:
        return re.escape(self.separator)

    @cached_property
    def whole(self) -> re.Pattern[str]:
        """A row, over several lines if its quotes are."""
        cell = rf'(?:"[^"]*(?:""[^"]*)*"|[^"{self._escaped}][^{self._escaped}]*|)'
        return re.compile(rf"{cell}(?:{self._escaped}{cell}){{{len(self.names) - 1}}}")

    @cached_property
    def unclosed(self) -> re.Pattern[str]:
        """A line that ends inside a quoted cell."""
        cell = rf'(?:"[^"]*(?:""[^"]*)*"|[^"{self._escaped}][^{self._escaped}]*|)'
        return re.compile(rf'(?:{cell}{self._escaped})*"[^"]*(?:""[^"]*)*')


@dataclass
class _Mended:
    """Lines that are no plain row: joined with the next ones where a quoted cell goes on there, else broken."""

    layout: _Layout
    text: pl.Series
    first: int
    is_last: bool

    def __post_init__(self) -> None:
        self.rows: list[tuple[object, ...]] = []
        self.broken: list[Reject] = []
        self.inside: set[int] = set()  # numbers of lines that belong to a row above
        self.end = self.text.len()  # from here on lines wait

    def add(self, line: int) -> None:
        at = line - self.first
        if line in self.inside or at >= self.end:
            return
        row = self._row(at)
        if row is not None:
            self.rows.append((line, *_cells(row, self.layout.separator)))
        elif at < self.end and self.layout.is_literal(self.text[at]):
            self.rows.append((line, *self.text[at].split("\t")))
        elif at < self.end:
            place = f"{self.layout.file} line {line}"
            self.broken.append(Reject(place, "another number of cells than the header has", self.text[at]))

    def _row(self, at: int) -> str | None:
        """The row that begins here, or None; `end` moves up where it may go on in the next block."""
        row: str = self.text[at]
        if self.layout.whole.fullmatch(row):
            return row
        if not self.layout.unclosed.fullmatch(row):
            return None
        below = self.text[at + 1 : at + LONGEST_CELL_LINES].to_list()
        for count, more in enumerate(below, start=1):
            if more.count('"') % 2:
                row = "\n".join([row, *below[:count]])
                if not self.layout.whole.fullmatch(row):
                    return None
                self.inside.update(range(self.first + at + 1, self.first + at + 1 + count))
                return row
        if not self.is_last and len(below) < LONGEST_CELL_LINES - 1:
            self.end = at
        return None


def _cells(row: str, separator: str) -> list[str]:
    """The cells of one row."""
    apart = re.escape(separator)
    found = re.finditer(rf'(?:\A|{apart})("[^"]*(?:""[^"]*)*"(?={apart}|\Z)|[^{apart}]*)', row)
    cells = [match.group(1) for match in found]
    return [cell[1:-1].replace('""', '"') if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell for cell in cells]


@dataclass(frozen=True)
class _Block:
    lines: pl.Series
    is_last: bool = False
    damage: tuple[str, str] | None = None  # reason and the cut-off line


class _DamageError(Exception):
    """The file cannot be read on."""


def _blocks(file: Path, encoding: str | None) -> Iterator[_Block]:
    """Whole lines, some 16 MB at a time; the last block says whether the file ended as it should."""
    rest, decoder, damage = b"", None, None
    try:
        for number, piece in enumerate(_pieces(file)):
            if number == 0:
                decoder = _decoder(piece, encoding)
                piece = piece.removeprefix(codecs.BOM_UTF8)
            rest += decoder.decode(piece).encode(errors="replace") if decoder else piece
            cut = rest.rfind(b"\n") + 1 or (len(rest) if len(rest) > LONGEST_LINE_BYTES else 0)
            if cut:
                yield _Block(_lines(rest[:cut]))
                rest = rest[cut:]
    except _DamageError as error:
        damage = (str(error), _text(rest))
        rest = b""  # a line cut in the middle may look whole
    yield _Block(_lines(rest), is_last=True, damage=damage)


def _decoder(beginning: bytes, encoding: str | None) -> codecs.IncrementalDecoder | None:
    """What turns the file's bytes into text; None where they are UTF-8, at least most of them."""
    if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif beginning.startswith(codecs.BOM_UTF8) or encoding is None or codecs.lookup(encoding).name == "utf-8":
        return None
    return codecs.getincrementaldecoder(encoding)(errors="replace")


def first_bytes(file: Path, count: int) -> bytes:
    """The beginning of a file, unpacked; less of it where it is damaged."""
    data = b""
    try:
        for piece in _pieces(file):
            data += piece
            if len(data) >= count:
                break
    except _DamageError:
        pass
    return data[:count]


def _pieces(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as opened:
            if file.name.lower().endswith(".gz"):
                yield from _decompressed(opened)
            while piece := opened.read(BLOCK_BYTES):
                yield piece
    except OSError:
        raise _DamageError("the file cannot be read") from None


def _decompressed(opened: BinaryIO) -> Iterator[bytes]:
    """Not by gzip.open, which loses what it has decompressed where the file is cut off."""
    unpacked, stream, is_whole = b"", zlib.decompressobj(GZIP), False
    while packed := opened.read(COMPRESSED_BYTES):
        while packed:
            try:
                unpacked += stream.decompress(packed)
            except zlib.error:
                yield unpacked
                raise _DamageError("the compressed file is damaged from here on") from None
            packed, is_whole = stream.unused_data, stream.eof
            if is_whole:
                stream = zlib.decompressobj(GZIP)
        if len(unpacked) >= BLOCK_BYTES:
            yield unpacked
            unpacked = b""
    yield unpacked
    if not is_whole:
        raise _DamageError(ENDS_EARLY)


def _lines(data: bytes) -> pl.Series:
    text = _text(data)
    if not text:
        return pl.Series("text", [], dtype=pl.String)
    return pl.Series("text", [text.removesuffix("\n")]).str.split("\n").explode()


def _text(data: bytes) -> str:
    """UTF-8; cp1252 for each line that is not."""
    try:
        return data.decode().replace("\0", "")
    except UnicodeDecodeError:
        return "\n".join(_line_text(line) for line in data.split(b"\n")).replace("\0", "")


def _line_text(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("cp1252", errors="replace")
