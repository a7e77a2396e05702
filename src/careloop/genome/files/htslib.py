"""htslib through pysam: loaded when first needed, and kept from writing to standard error; BGZF's end block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from careloop import InputError

# The empty block that ends a whole BGZF file (SAM specification section 4.1.2).
_END_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
# The container that ends a whole CRAM 3 file (CRAM specification section 9).
_CRAM_END = bytes.fromhex("0f000000ffffffff0fe0454f4600000000010005bdd94f0001000606010001000100ee63014b")


def load_pysam() -> Any:
    """Return pysam, its htslib quiet: what goes wrong is raised.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pysam
        import pysam.bcftools
        import pysam.samtools
    except ImportError:
        raise InputError('genomes need pysam; pip install "careloop[genome]"') from None
    pysam.set_verbosity(0)
    return pysam


def is_bgzf(path: Path) -> bool:
    """Whether a file is block gzip (BGZF): gzip with the extra field `BC` (SAM specification section 4.1)."""
    with path.open("rb") as file:
        start = file.read(18)
    return start[:4] == b"\x1f\x8b\x08\x04" and start[12:14] == b"BC"


def require_end_block(path: Path) -> None:
    """Refuse a BGZF or CRAM file whose last block is missing (CRAM before version 3 is not checked).

    Raises:
        InputError: the file was cut off.
    """
    with path.open("rb") as file:
        start = file.read(5)
    if start[:4] != b"CRAM":
        _require_last_bytes(path, _END_BLOCK)
    elif start[4:] >= b"\3":
        _require_last_bytes(path, _CRAM_END)


def _require_last_bytes(path: Path, expected: bytes) -> None:
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - len(expected), 0))
        last = file.read()
    if last != expected:
        raise InputError(f"{path}: file ends early: its end block is missing; copy or make it again")
