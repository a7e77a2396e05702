"""Names of contigs: chr20, 20 and NC_000020.11 are one chromosome, and one name is changed for another."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from careloop import InputError

CHROMOSOMES = (*map(str, range(1, 23)), "X", "Y")
MITOCHONDRION = "MT"
_PREFIX = re.compile(r"chr(?=[0-9XYM])", re.IGNORECASE)
# RefSeq: NC_000001 to NC_000024 (GRCh37 and GRCh38), NC_060925 to NC_060948 (T2T); GenBank: CM000663 to CM000686.
_ACCESSION = re.compile(r"(NC_0000|NC_0609|CM000)(\d+)\.(\d+)")
_FIRST = {"NC_0000": 1, "NC_0609": 25, "CM000": 663}
_MITOCHONDRIA = {"M", "MT", "NC_012920.1", "J01415.2"}
# Versions of RefSeq's NC_000001 to NC_000024 in GRCh37 (GCF_000001405.25); GRCh38 has each one higher.
_GRCH37_VERSIONS = (10, 11, 11, 11, 9, 11, 13, 10, 11, 10, 9, 11, 10, 8, 9, 9, 10, 9, 9, 10, 8, 10, 10, 9)


@lru_cache(maxsize=4096)
def canonical_contig(name: str) -> str:
    """The chromosome's plain name (`20`, `X`, `MT`) where `name` is one of its usual names, else `name` unchanged."""
    found = _numbered(name)
    if found is not None:
        return CHROMOSOMES[found[1]]
    bare = _PREFIX.sub("", name, count=1) if _PREFIX.match(name) else name
    if bare.upper() in _MITOCHONDRIA:
        return MITOCHONDRION
    return bare.upper() if bare.upper() in CHROMOSOMES else name


def same_contig(one: str, other: str) -> bool:
    """Whether two names mean the same chromosome (`chr20` and `20`, `chrM` and `MT`, `NC_000020.11`)."""
    return one == other or canonical_contig(one) == canonical_contig(other)


def build_of_accession(name: str) -> str | None:
    """The assembly that a chromosome's accession with version belongs to (`NC_000020.11` is GRCh38), or None."""
    found = _numbered(name)
    if found is None:
        return None
    series, index, version = found
    if series == "NC_0609":
        return "T2T-CHM13v2.0"
    older = _GRCH37_VERSIONS[index] if series == "NC_0000" else 1
    return {older: "GRCh37", older + 1: "GRCh38"}.get(version)


def renamer(
    from_contigs: Mapping[str, int | None] | Iterable[str], to_contigs: Mapping[str, int | None] | Iterable[str]
) -> Callable[[str], str | None]:
    """Return a function from a contig's name in one file to its name in another, None where the other has none.

    Both sides are names, or names with lengths in bases (None not known). Where lengths are known they must agree.
    hg19's `chrM` (16,571 bases) is another sequence than the `MT` of all later references (16,569), and is given no
    counterpart.

    Raises:
        InputError: a chromosome's lengths differ, so that the files are on different assemblies.
    """
    lengths, others = _with_lengths(from_contigs), _with_lengths(to_contigs)
    by_chromosome: dict[str, str] = {}
    for name in others:
        by_chromosome.setdefault(canonical_contig(name), name)
    apart = set()
    for name, length in lengths.items():
        other = name if name in others else by_chromosome.get(canonical_contig(name))
        if other is None or length is None or others[other] in (None, length):
            continue
        if canonical_contig(name) != MITOCHONDRION:
            raise InputError(
                f"contig lengths must agree; {name} has {length:,} bases in one file and {other} {others[other]:,} in "
                "the other; use files on the same assembly"
            )
        apart.add(name)

    def renamed(name: str) -> str | None:
        if name in apart:
            return None
        return name if name in others else by_chromosome.get(canonical_contig(name))

    return renamed


def _numbered(name: str) -> tuple[str, int, int] | None:
    """Series, index of the chromosome in CHROMOSOMES, and version of an accession of a human chromosome."""
    match = _ACCESSION.fullmatch(name)
    if match is None:
        return None
    index = int(match[2][:6]) - _FIRST[match[1]]
    return (match[1], index, int(match[3][:6])) if 0 <= index < len(CHROMOSOMES) else None


def _with_lengths(contigs: Mapping[str, int | None] | Iterable[str]) -> dict[str, int | None]:
    return dict(contigs) if isinstance(contigs, Mapping) else dict.fromkeys(contigs)
