"""Lines of a text file that may be packed by gzip, or one error that says what the file was to be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from careloop import InputError
from careloop.genome.files.packed import UNREADABLE, open_packed


def text_lines(path: Path, what: str) -> Iterator[str]:
    """Lines without their end; `what` says what the file is, such as "proteins come as a FASTA file".

    Raises:
        InputError: it cannot be read, is cut, or is no text in UTF-8.
    """
    try:
        with open_packed(path) as file:
            for line in file:
                yield line.decode("utf-8").rstrip("\r\n")
    except (*UNREADABLE, UnicodeDecodeError) as error:
        raise InputError(f"{what}; {path} cannot be read as one: {error}") from error
