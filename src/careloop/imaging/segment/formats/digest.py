"""The content of a model's files as one digest, by which converted networks are cached and versions are told apart."""

from __future__ import annotations

import hashlib
from pathlib import Path


def file_digest(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits; read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short_version(*digests: str) -> str:
    """Eight hexadecimal digits that stand for all of `digests` in their order."""
    return digests[0][:8] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()[:8]
