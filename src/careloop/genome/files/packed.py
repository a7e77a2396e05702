"""Text files that may be packed with gzip or bgzip, opened as bytes."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

from careloop import InputError

_READ_BYTES = 2**18
UNREADABLE = (OSError, EOFError, zlib.error)  # what reading a packed file that is cut off or damaged raises


def open_packed(path: Path) -> BinaryIO:
    """Open a file for reading its unpacked bytes, with fast `readline`.

    Raises:
        OSError: the file is not there or cannot be read; reading from it may raise any of UNREADABLE.
    """
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed:
        return io.BufferedReader(cast(Any, gzip.open(path, "rb")), _READ_BYTES)
    return path.open("rb", _READ_BYTES)


def read_packed(path: Path, *, missing: str = "check the path") -> bytes:
    """All unpacked bytes of a file.

    Raises:
        InputError: the file is not there (`missing` says what to do), ends early or cannot be read.
    """
    try:
        with open_packed(path) as file:
            return file.read()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; {missing}") from None
    except UNREADABLE:
        raise InputError(f"{path}: file ends early or is not readable; copy it again") from None
