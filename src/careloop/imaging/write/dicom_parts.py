"""What all DICOM objects written here share: UIDs that follow from the content, codes, texts that fit, whole files."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from careloop.imaging.terms import Code
from careloop.imaging.volume import name_and_version
from careloop.record.whole_file import whole_file

if TYPE_CHECKING:
    import highdicom
    from pydicom import Dataset

NOT_CLINICAL = "not for clinical use"
LONG_STRING_LENGTH = 64  # PS3.5 table 6.2-1


def derived_uid(*parts: str | NDArray[np.generic]) -> str:
    """A UID `2.25.…` (DICOM PS3.5 B.2) made from the SHA-256 of `parts`: the same parts always give the same UID.

    The UUID in it is of version 8 (RFC 9562 section 5.8). Each part is hashed with its length, so that no two lists
    of parts run into the same bytes.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            data, kind = part.encode(), "text"
        else:
            data, kind = np.ascontiguousarray(part).tobytes(), f"{part.dtype.str}{part.shape}"
        digest.update(f"{kind} {len(data)}:".encode() + data)
    bits = int.from_bytes(digest.digest()[:16], "big")
    bits = bits & ~(0xF << 76) & ~(0x3 << 62) | (0x8 << 76) | (0x2 << 62)
    return f"2.25.{uuid.UUID(int=bits).int}"


def save_whole(made: Dataset, path: Path) -> Path:
    """Write a DICOM object whole or not at all; returns the path."""
    with whole_file(path) as draft:
        made.save_as(draft, enforce_file_format=True)
    return path


def concept(code: Code) -> highdicom.sr.CodedConcept:
    """A code (scheme, value, meaning) as highdicom's coded concept."""
    import highdicom

    scheme, value, meaning = code
    return highdicom.sr.CodedConcept(value, scheme, meaning)


def named_algorithm(made_by: str) -> tuple[str, str]:
    """Name and version of what made a label map, as long strings; `unknown` where it does not say."""
    name, version = name_and_version(made_by)
    return long_string(name or "unknown"), long_string(version or "unknown")


def long_string(value: str) -> str:
    """Text that fits an element of value representation LO: at most 64 characters, no backslash, no line ends."""
    return " ".join(value.replace("\\", "/").split())[:LONG_STRING_LENGTH]
