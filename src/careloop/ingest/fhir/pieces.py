"""Chunks of JSON text to pieces with bounded memory: cut at lines or at the entries of a bundle."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from careloop.ingest.delivery import BATCH_ROWS
from careloop.ingest.fhir.cutting import Cut, Cutter
from careloop.ingest.unpacking import MAX_PIECE_BYTES, Chunks, DamagedError

_SHOWN_BYTES = 1000
_NOT_READ = msgspec.json.Decoder(msgspec.Raw)


@dataclass(frozen=True)
class Run:
    """Some pieces in their order: lines, entries of a bundle, or whole documents (`kind`), with their numbers."""

    kind: str
    raws: list[bytes]
    numbers: Sequence[int]


def runs(chunks: Chunks, *, lines: bool) -> Iterator[Run]:
    """Yield the pieces of a file in runs, as they come.

    `lines`: the file's name says that it has a resource a line; else its beginning decides.
    """
    first = b""
    while len(first) < 1 << 10 and (chunk := next(chunks, b"")):
        first += chunk
    yield from _lines(first, chunks) if lines or _has_lines(first) else _documents(first, chunks)


def _has_lines(first: bytes) -> bool:
    head, _, rest = first.partition(b"\n")
    try:
        _NOT_READ.decode(head)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return head.lstrip().startswith(b"{") and rest.lstrip().startswith(b"{")


def _lines(first: bytes, chunks: Chunks) -> Iterator[Run]:
    """Yield runs of lines that are not blank."""
    rest, number = b"", 1
    damage: DamagedError | None = None
    chunk: bytes | None = first
    while chunk is not None:
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        yield from _numbered(lines, number)
        number += len(lines)
        if len(rest) > MAX_PIECE_BYTES:
            raise DamagedError(f"line is longer than {MAX_PIECE_BYTES >> 20} MB", rest[:_SHOWN_BYTES])
        try:
            chunk = next(chunks, None)
        except DamagedError as error:
            chunk, damage = None, error
    if damage is not None:
        raise DamagedError(damage.reason, rest)
    yield from _numbered([rest], number)


def _numbered(lines: list[bytes], first: int) -> Iterator[Run]:
    numbers: Sequence[int] = range(first, first + len(lines))
    if not all(map(bytes.strip, lines)):
        numbers = [number for number, line in zip(numbers, lines, strict=True) if line.strip()]
        lines = [line for line in lines if line.strip()]
    for start in range(0, len(lines), BATCH_ROWS):
        yield Run("line", lines[start : start + BATCH_ROWS], numbers[start : start + BATCH_ROWS])


def _documents(first: bytes, chunks: Chunks) -> Iterator[Run]:
    """Yield runs of the entries of bundles and of other documents, cut out of a file as it streams."""
    cutter = Cutter()
    counts = {"entry": 0, "document": 0}
    damage: DamagedError | None = None
    chunk: bytes | None = first
    while chunk is not None:
        yield from _grouped(cutter.feed(chunk), counts)
        if cutter.open_bytes > MAX_PIECE_BYTES:
            raise DamagedError(f"resource is longer than {MAX_PIECE_BYTES >> 20} MB")
        try:
            chunk = next(chunks, None)
        except DamagedError as error:
            chunk, damage = None, error
    yield from _grouped(cutter.finish(), counts)
    if damage is not None or cutter.is_open:
        raise DamagedError(damage.reason if damage else "file ends early", cutter.rest())


def _grouped(cuts: Iterator[Cut], counts: dict[str, int]) -> Iterator[Run]:
    for kind, group in itertools.groupby(cuts, key=lambda cut: cut.kind):
        raws = [cut.raw for cut in group]
        yield Run(kind, raws, list(range(counts[kind] + 1, counts[kind] + len(raws) + 1)))
        counts[kind] += len(raws)
