"""Files to raw HL7 v2 messages with bounded memory, whatever ends their segments and whatever frames them."""

from __future__ import annotations

from collections.abc import Iterator

from careloop.ingest.unpacking import MAX_PIECE_BYTES, Chunks, DamagedError

MESSAGES_AT_ONCE = 10_000  # some 100,000 events: enough to make columns of, little enough to keep in memory
ENVELOPES = ("FHS", "BHS", "BTS", "FTS")  # file and batch header and trailer segments (HL7 v2.5.1 section 2.10.3)
_START = b"\rMSH"
_SHOWN_BYTES = 1000
_BOM = b"\xef\xbb\xbf"
# Line ends of all systems, and the start-of-block byte of MLLP (its end-of-block byte is looked at later).
_LINE_ENDS = ((b"\r\n", b"\r"), (b"\n", b"\r"), (b"\x0b", b"\r"), (_BOM, b""))


def raw_messages(chunks: Chunks) -> Iterator[list[bytes]]:
    """Yield runs of raw messages, their segments parted by carriage returns; text outside of messages comes likewise.

    Batch and file envelopes and MLLP frames are taken off. Raises DamagedError, after all complete messages, where the
    file does not go on as it should.
    """
    rest = b"\r"
    damage: DamagedError | None = None
    while damage is None:
        try:
            chunk = next(chunks, None)
        except DamagedError as error:
            damage = error
            continue
        if chunk is None:
            break
        rest += _with_one_line_end(chunk)
        *complete, last = rest.split(_START)
        if complete:
            yield from _runs([complete[0], *(b"MSH" + part for part in complete[1:])])
            rest = _START + last
        if len(rest) > MAX_PIECE_BYTES:
            raise DamagedError(f"message is longer than {MAX_PIECE_BYTES >> 20} MB", rest[1:_SHOWN_BYTES])
    if damage is not None:
        raise DamagedError(damage.reason, rest[1:])
    yield from _runs([rest[1:]])


def _with_one_line_end(chunk: bytes) -> bytes:
    for written, plain in _LINE_ENDS:
        chunk = chunk.replace(written, plain)
    return chunk


def _runs(parts: list[bytes]) -> Iterator[list[bytes]]:
    found = [piece for part in parts for piece in (_unframed(part) if b"\x1c" in part else (part,)) if _says(piece)]
    for start in range(0, len(found), MESSAGES_AT_ONCE):
        yield found[start : start + MESSAGES_AT_ONCE]


def _unframed(part: bytes) -> Iterator[bytes]:
    """Yield a message up to its end-of-block byte, and what stands between that and the next message."""
    message, _, between = part.partition(b"\x1c")
    yield message
    yield between.replace(b"\x1c", b"")


def _says(piece: bytes) -> bool:
    """False for blanks and for envelopes alone."""
    if piece.startswith(b"MSH"):
        return True
    lines = (line.strip(b"\0 \t") for line in piece.split(b"\r"))
    return any(line and not line.startswith(tuple(name.encode() for name in ENVELOPES)) for line in lines)
