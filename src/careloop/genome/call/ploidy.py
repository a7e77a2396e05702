"""How many chromosomes a place is on: X and Y by sex, outside of what they share, and mitochondrial DNA."""

from __future__ import annotations

from typing import Literal

from careloop import InputError
from careloop.genome.files.contigs import canonical_contig

Sex = Literal["female", "male"]
# 0-based, half-open, of X; the Genome Reference Consortium's pseudoautosomal regions.
_SHARED_OF_X = {
    "GRCh37": ((60_000, 2_699_520), (154_931_043, 155_260_560)),
    "GRCh38": ((10_000, 2_781_479), (155_701_382, 156_030_895)),
}
_SHARED_OF_Y = {
    "GRCh37": ((10_000, 2_649_520), (59_034_049, 59_363_566)),
    "GRCh38": ((10_000, 2_781_479), (56_887_902, 57_217_415)),
}
_X, _Y, _MITOCHONDRION = (canonical_contig(name) for name in ("chrX", "chrY", "chrM"))


def copies(contig: str, start: int, *, sex: Sex | None, build: str | None) -> int:
    """The number of chromosomes at a 0-based place: 2, 1, or 0 for Y in a woman.

    Without a sex X and Y count as two, as their reads are not told apart from autosomes'. Raises InputError for a
    stated sex on an assembly whose pseudoautosomal regions are not known.
    """
    name = canonical_contig(contig)
    if name == _MITOCHONDRION:
        return 1
    if name not in (_X, _Y) or sex is None or (name == _X and sex == "female"):
        return 2
    if sex == "female":
        return 0
    shared = (_SHARED_OF_X if name == _X else _SHARED_OF_Y).get(build or "")
    if shared is None:
        known = ", ".join(_SHARED_OF_X)
        raise InputError(f"{contig}: calling by sex needs an assembly of {known}, got {build or 'an unknown one'}")
    return 2 if any(first <= start < last for first, last in shared) else 1


def borders(contig: str, build: str | None) -> tuple[int, ...]:
    """The 0-based places of X and Y where the number of chromosomes may change; none on other contigs."""
    shared = {_X: _SHARED_OF_X, _Y: _SHARED_OF_Y}.get(canonical_contig(contig), {}).get(build or "", ())
    return tuple(place for span in shared for place in span)
