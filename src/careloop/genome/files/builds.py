"""The assembly a file is on, told from contig lengths, names, header words or REF bases; mixed ones are refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from careloop import InputError
from careloop.genome.files.contigs import build_of_accession, canonical_contig
from careloop.genome.variant import Record
from careloop.ingest.assemblies import build_of_length, builds_in_words

if TYPE_CHECKING:
    from careloop.genome.files.reference import Reference

UNKNOWN = "unknown"
# Unrelated sequence agrees at some 28 % of bases by chance; patches of one assembly differ at far fewer than 2 %.
MIN_AGREEING = 0.98
MIN_COMPARED = 20  # below this many bases neither can be told
_MOST_COMPARED = 2000


def detect_build(contigs: Mapping[str, int | None], *, words: Iterable[str] = (), where: str) -> str:
    """Return `GRCh37`, `GRCh38`, `T2T-CHM13v2.0` or `unknown`.

    `contigs` are names with lengths in bases (None not known), `words` what the header says of its reference, asked
    only where lengths and accessions are silent (they are often left over from before a liftover).

    Raises:
        InputError: contigs of two assemblies in one file; `where` names it.
    """
    found: dict[str, str] = {}
    for name, length in contigs.items():
        build = build_of_length(canonical_contig(name), length) if length else build_of_accession(name)
        if build:
            found.setdefault(build, name)
    if len(found) > 1:
        told = ", ".join(f"{name} is {build}'s" for build, name in sorted(found.items()))
        raise InputError(f"{where}: all contigs must be of one assembly; {told}; make the file anew on one reference")
    if found:
        return next(iter(found))
    named = {build for text in words for build in builds_in_words(text)}
    return next(iter(named)) if len(named) == 1 else UNKNOWN


def require_same_build(builds: Mapping[str, str]) -> str:
    """Return the one assembly that files are on, given {file: build}; `unknown` agrees with all.

    Raises:
        InputError: two files are on different assemblies.
    """
    known = {build: name for name, build in builds.items() if build != UNKNOWN}
    if len(known) > 1:
        told = ", ".join(f"{name} is on {build}" for build, name in sorted(known.items()))
        raise InputError(f"files must be on one assembly; {told}; lift one over or choose files on the same assembly")
    return next(iter(known), UNKNOWN)


@dataclass(frozen=True)
class ReferenceAgreement:
    """How many records' REF alleles were compared with a reference, and how many are the same bases."""

    compared: int
    agreeing: int

    @property
    def share(self) -> float:
        """The share that agrees, NaN where none was compared."""
        return self.agreeing / self.compared if self.compared else float("nan")


def reference_agreement(records: Iterable[Record], reference: Reference) -> ReferenceAgreement:
    """Compare the first REF base of up to 2,000 records with a reference (other codes than ACGT are left out).

    Records on contigs that the reference does not have are left out. One base a record, so that long deletions, which
    rarely agree by chance, count no more than SNVs.
    """
    compared = agreeing = 0
    for record in islice((r for r in records if reference.name_of(r.contig) is not None), _MOST_COMPARED):
        expected, given = reference.fetch(record.contig, record.start, record.start + 1), record.ref[:1].upper()
        if given in "ACGT" and expected in "ACGT":  # "" behind the contig's end disagrees
            compared += 1
            agreeing += given == expected
    return ReferenceAgreement(compared, agreeing)


def require_reference_bases(records: Iterable[Record], reference: Reference, *, where: str) -> ReferenceAgreement:
    """Return how well REF alleles agree with a reference, having refused a file that was made on another one.

    Raises:
        InputError: of 20 or more REF bases, under 98 % are the reference's.
    """
    agreement = reference_agreement(records, reference)
    if agreement.compared >= MIN_COMPARED and agreement.share < MIN_AGREEING:
        raise InputError(
            f"{where}: REF must be the reference's bases; {agreement.agreeing} of {agreement.compared} agree with "
            f"{reference.path}; give the reference that the file was made on"
        )
    return agreement
