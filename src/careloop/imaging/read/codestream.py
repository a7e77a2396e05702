"""What a JPEG, JPEG-LS or JPEG 2000 codestream says about itself, read before any codec allocates for it."""

from __future__ import annotations

from dataclasses import dataclass

_J2K_START = b"\xff\x4f\xff\x51"  # SOC and SIZ (ISO/IEC 15444-1 A.4.1, A.5.1)
_NO_FRAME_HEADER = {0xC4, 0xC8, 0xCC}  # DHT, JPG and DAC lie between the start-of-frame markers C0 to CF
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xDA)}
_SEARCHED_BYTES = 1 << 20  # the frame header of a JPEG comes after its application segments, some 64 kB each


@dataclass(frozen=True, slots=True)
class Codestream:
    """Size, samples and precision of an encoded frame; `signed` is None for codings without a sign (JPEG, JPEG-LS)."""

    rows: int
    columns: int
    samples: int
    precision: int
    signed: bool | None = None


def read_codestream(data: bytes) -> Codestream | None:
    """Return what the beginning of an encoded frame says, or None where it is no such codestream."""
    start = data.find(_J2K_START, 0, 4096)  # a JP2 box may stand before it
    if start >= 0:
        return _jpeg_2000(data[start + 2 :])
    return _jpeg(data) if data[:2] == b"\xff\xd8" else None


def _jpeg_2000(siz: bytes) -> Codestream | None:
    if len(siz) < 41:
        return None
    x1, y1, x0, y0 = (int.from_bytes(siz[at : at + 4], "big") for at in (6, 10, 14, 18))
    component = siz[40]
    samples = int.from_bytes(siz[38:40], "big")
    return Codestream(y1 - y0, x1 - x0, samples, (component & 0x7F) + 1, signed=bool(component & 0x80))


def _jpeg(data: bytes) -> Codestream | None:
    at = 2
    while at + 10 <= min(len(data), _SEARCHED_BYTES):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME_HEADER):
            rows, columns = int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(data[at + 7 : at + 9], "big")
            return Codestream(rows, columns, data[at + 9], data[at + 4])
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
