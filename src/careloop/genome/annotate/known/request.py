"""Which file of known variants to look in and which of its values to take, as a user writes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from careloop import InputError

Role = Literal["clinvar", "gnomad", "other"]

IDENTIFIER, FILTERS, QUALITY = "ID", "FILTER", "QUAL"  # columns of a VCF that are asked for like INFO keys
# Values that are taken where a user names none, as far as the file has them.
USUAL_KEYS: dict[Role, tuple[str, ...]] = {
    "clinvar": (IDENTIFIER, "CLNSIG", "CLNREVSTAT", "CLNDN"),
    "gnomad": (FILTERS, "AF", "AN", "nhomalt", "AF_grpmax", "AF_popmax", "fafmax_faf95_max", "faf95_popmax", "faf95"),
    "other": (IDENTIFIER,),
}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_KEYS = re.compile(r"[A-Za-z_#][^=,:/\\\s]*(?:,[A-Za-z_#][^=,:/\\\s]*)*")


@dataclass(frozen=True)
class KnownFile:
    """One file to look in: `name` stands before its values in the output, `keys` are the values to take.

    A VCF's keys are those of INFO, and ID, FILTER and QUAL; a table's are its columns; a BED's are `name` and `score`.
    Without keys the usual ones are taken.
    """

    name: str
    path: Path
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InputError(
                f"a known file's name is letters, digits, `_`, `.` and `-`, beginning with a letter; got {self.name!r}"
            )

    @property
    def role(self) -> Role:
        """What evidence the file is used for, by its name: `clinvar...`, `gnomad...`, or none."""
        for role in ("clinvar", "gnomad"):
            if self.name.lower().startswith(role):
                return role
        return "other"


def parse_known(text: str) -> KnownFile:
    """Read `name=path` or `name=path:KEY,KEY`, such as `gnomad=gnomad.vcf.gz:AF,AN`.

    Raises:
        InputError: it is not written so.
    """
    name, equals, rest = text.partition("=")
    if not equals or not rest:
        raise InputError(f"a known file is given as NAME=PATH or NAME=PATH:KEY,KEY; got {text!r}")
    path, colon, keys = rest.rpartition(":")
    if colon and path and _KEYS.fullmatch(keys) and not Path(rest).exists():
        return KnownFile(name, Path(path), tuple(keys.split(",")))
    return KnownFile(name, Path(rest))
