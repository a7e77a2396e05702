"""Lines of a text file that may be packed by gzip, or one error that says what the file was to be."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from careloop import InputError


def text_lines(path: Path, what: str) -> Iterator[str]:
    """Lines without their end; `what` says what the file is, such as "proteins come as a FASTA file".

    Raises:
        InputError: it cannot be read, is cut, or is no text in UTF-8.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            for line in file:
                yield line.rstrip("\r\n")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{what}; {path} cannot be read as one: {error}") from error
