"""JSON objects cut out of a stream, so that a bundle of any size is read entry by entry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import Literal, NamedTuple

import numpy as np

_QUOTE, _BACKSLASH, _NEWLINE = b'"\\\n'
_OPEN, _OPEN_LIST = b"{["
_STEP = np.zeros(256, dtype=np.int8)
_STEP[list(b"{[")] = 1
_STEP[list(b"}]")] = -1
_IS_TOKEN = _STEP != 0
_IS_TOKEN[[_QUOTE, _BACKSLASH, _NEWLINE]] = True
_ENTRY_KEY = re.compile(rb'"entry"\s*:\s*\Z')
_KEY_BYTES = 200  # holds the key before a bracket, with line breaks and indentation
_KIND = re.compile(rb'"resourceType"\s*:\s*"(\w*)"')
_BLOCK_BYTES = 1 << 20  # columns of numbers are some ten times as large
_JUNK_BYTES = 1000  # of text that is no JSON, enough to recognise it by


class Cut(NamedTuple):
    """A piece: an entry of a bundle, or a whole document (also text that is none)."""

    kind: Literal["entry", "document"]
    raw: bytes


class _Where(Enum):
    OUTSIDE = 0
    DOCUMENT = 1
    ENTRIES = 2
    ENTRY = 3


class Cutter:
    """Feed it a stream in chunks; it gives back the pieces that are complete.

    Documents follow each other, or stand in one array. Those with an `entry` array give its objects instead, unless
    they say before it that they are another kind of resource than a Bundle. Brackets are found in whole columns
    (numpy), not character by character. A line break ends a string that was not closed, as JSON allows none in it: so
    a broken entry of an indented bundle does not hide those after it.
    """

    def __init__(self) -> None:
        self._where = _Where.OUTSIDE
        self._depth = 0
        self._outer = 0  # depth around documents: 1 in an array of them
        self._in_string = False
        self._backslashes = b""  # at a chunk's end they wait for what they escape
        self._held: list[bytes] = []  # what came so far of the open piece
        self._entries = 0  # of the open document
        self.open_bytes = 0

    @property
    def is_open(self) -> bool:
        """True while a document is not complete."""
        return self._where != _Where.OUTSIDE

    def rest(self) -> bytes:
        """Return what there is of an incomplete piece."""
        return b"".join(self._held) + self._backslashes if self.is_open else b""

    def feed(self, chunk: bytes) -> Iterator[Cut]:
        """Yield the pieces that this chunk completes."""
        for start in range(0, len(chunk), _BLOCK_BYTES):
            yield from self._feed(chunk[start : start + _BLOCK_BYTES])

    def _feed(self, chunk: bytes) -> Iterator[Cut]:
        chunk = self._backslashes + chunk
        self._backslashes = chunk[len(chunk.rstrip(b"\\")) :]
        chunk = chunk[: len(chunk) - len(self._backslashes)]
        start = 0  # of what in this chunk belongs to the open piece
        for place, token, depth in self._shallow(chunk):
            step = self._opened if token in (_OPEN, _OPEN_LIST) else self._closed
            found = step(chunk, start, place, depth - self._outer)
            if found is not None:
                start, cut = found
                if cut is not None:
                    yield cut
        self._hold(chunk[start:])

    def finish(self) -> Iterator[Cut]:
        """Yield what is left when the stream has ended outside of any document."""
        if not self.is_open:
            self._held.append(self._backslashes)
            junk = self._junk(b"")
            if junk is not None:
                yield junk

    def _hold(self, part: bytes) -> None:
        if self._where == _Where.ENTRIES or not part:
            return
        if self._where == _Where.OUTSIDE:
            part = part.strip()[:_JUNK_BYTES] if self.open_bytes < _JUNK_BYTES else b""
        self._held.append(part)
        self.open_bytes += len(part)

    def _taken(self, part: bytes) -> bytes:
        """Return the open piece with its last part, and begin a new one."""
        piece = b"".join([*self._held, part])
        self._held, self.open_bytes = [], 0
        return piece

    def _junk(self, part: bytes) -> Cut | None:
        junk = self._taken(part).strip(b" \t\r\n,")[:_JUNK_BYTES]
        return Cut("document", junk) if junk else None

    def _opened(self, chunk: bytes, start: int, place: int, depth: int) -> tuple[int, Cut | None] | None:
        """Take an opening bracket (`depth` counts it, from the documents' own on); None where it changes nothing."""
        is_object = chunk[place] == _OPEN
        if self._where == _Where.OUTSIDE and depth == 1:
            junk = self._junk(chunk[start:place])
            if is_object:
                self._where, self._entries = _Where.DOCUMENT, 0
                return place, junk
            if self._outer == 0:
                self._outer = 1
                return place + 1, junk
            return place, junk
        if self._where == _Where.DOCUMENT and depth == 2 and not is_object and self._is_entry_list(chunk[start:place]):
            self._hold(chunk[start : place + 1])
            self._prefix, self._held, self.open_bytes = self._held, [], 0
            self._where = _Where.ENTRIES
            return place + 1, None
        if self._where == _Where.ENTRIES and depth == 3 and is_object:
            self._where = _Where.ENTRY
            return place, None
        return None

    def _closed(self, chunk: bytes, start: int, place: int, depth: int) -> tuple[int, Cut | None] | None:
        """Take a closing bracket (`depth` is that after it); None where it changes nothing."""
        end = place + 1
        if self._where == _Where.ENTRY and depth == 2:
            self._where = _Where.ENTRIES
            self._entries += 1
            return end, Cut("entry", self._taken(chunk[start:end]))
        if self._where == _Where.ENTRIES and depth == 1:
            self._where, self._held = _Where.DOCUMENT, self._prefix
            return place, None
        if self._where == _Where.DOCUMENT and depth == 0:
            self._where = _Where.OUTSIDE
            document = self._taken(chunk[start:end])
            return end, None if self._entries else Cut("document", document)
        if self._where == _Where.OUTSIDE and depth < 0 and self._outer:
            junk = self._junk(chunk[start:place])
            self._outer = 0
            return end, junk
        return None

    def _is_entry_list(self, part: bytes) -> bool:
        before = b"".join([*self._held, part])
        if _ENTRY_KEY.search(before[-_KEY_BYTES:]) is None:
            return False
        kind = _KIND.search(before)
        return kind is None or kind[1] == b"Bundle"

    def _shallow(self, chunk: bytes) -> Iterator[tuple[int, int, int]]:
        """Yield place, bracket and depth after it of the brackets that are not deep inside a piece."""
        data = np.frombuffer(chunk, dtype=np.uint8)
        places = np.flatnonzero(_IS_TOKEN[data])
        if not len(places):
            return
        tokens = data[places]
        quotes = (tokens == _QUOTE) & ~_escaped(places, tokens == _BACKSLASH)
        counts = np.cumsum(quotes) + self._in_string
        counts = counts - np.maximum.accumulate(np.where(tokens == _NEWLINE, counts, 0))
        inside = (counts & 1).astype(bool)
        steps = np.where(inside, 0, _STEP[tokens])
        depths = self._depth + np.cumsum(steps)
        # Closing brackets that nothing opened do not count, else all that follows would be off by one.
        depths = depths - np.minimum(np.minimum.accumulate(depths), 0)
        self._depth, self._in_string = int(depths[-1]), bool(inside[-1])
        shallow = ((steps > 0) & (depths <= 4)) | ((steps < 0) & (depths <= 3))
        yield from zip(places[shallow].tolist(), tokens[shallow].tolist(), depths[shallow].tolist(), strict=True)


def _escaped(places: np.ndarray, backslashes: np.ndarray) -> np.ndarray:
    """Return which tokens follow an odd number of backslashes; `places` are those of all tokens."""
    result = np.zeros(len(places), dtype=bool)
    at = places[backslashes]
    if not len(at):
        return result
    numbers = np.arange(len(at))
    begins = np.diff(at, prepend=-2) != 1
    lengths = np.zeros(len(places), dtype=np.int64)
    lengths[backslashes] = numbers - np.maximum.accumulate(np.where(begins, numbers, 0)) + 1
    follows = np.diff(places) == 1
    result[1:] = follows & (lengths[:-1] % 2 == 1)
    return result
