"""What one record of a variant file says of one site: alleles, reference, or nothing that is sure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from careloop.genome.variant import ANY_OTHER, SPANNING, Record, SampleCall

_DELETION = "<DEL"
_NOT_CALLED = "not called"


@dataclass(frozen=True, slots=True)
class Site:
    """A place to be looked up: `start` 0-based, `ref` the reference's bases there, `alts` the alleles of interest.

    Written as in VCF: an insertion or deletion with the base before it, left-aligned, as the file's records are.
    """

    contig: str
    start: int
    ref: str
    alts: tuple[str, ...] = ()
    name: str = ""

    @property
    def end(self) -> int:
        """The first base after the reference allele, 0-based."""
        return self.start + len(self.ref)


@dataclass(frozen=True, slots=True)
class Minimum:
    """What a call must reach where the file gives it: quality (GQ, phred) for any, also depth for one of reference.

    A quality of 20 is an error of 1 in 100; at a depth of 10 a heterozygous site shows no alternative read once in a
    thousand times.
    """

    quality: float = 20
    depth: int = 10


class Edit(NamedTuple):
    """A change without the bases that both alleles share: [start, end) of the reference becomes `bases`."""

    start: int
    end: int
    bases: str

    @property
    def keeps_length(self) -> bool:
        """Whether bases are only replaced."""
        return self.end - self.start == len(self.bases)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a record says of a site.

    `reference` is of records without alternative alleles (blocks of covered reference), over [start, end); `call` of
    those that call alleles at the site, `alleles` over the site's REF; `edits` are the changes of the site on offer.
    """

    kind: Literal["mismatch", "no-call", "reference", "call"]
    reason: str
    start: int = 0
    end: int = 0
    alleles: tuple[str | None, ...] = ()
    phased: bool = False
    phase_set: int | str | None = None
    edits: frozenset[Edit] = frozenset()
    depth: int | None = None
    quality: float | None = None


def trimmed_edit(start: int, ref: str, alt: str) -> Edit:
    """Return the change from `ref` to `alt`; shared last bases come off first, save the base that VCF puts before."""
    ref, alt = _without_shared_end(ref, alt, keep=1)
    before = 0
    while before < min(len(ref), len(alt)) and ref[before] == alt[before]:
        before += 1
    ref, alt = _without_shared_end(ref[before:], alt[before:], keep=0)
    return Edit(start + before, start + before + len(ref), alt)


def _without_shared_end(ref: str, alt: str, *, keep: int) -> tuple[str, str]:
    shared = 0
    while shared < min(len(ref), len(alt)) - keep and ref[-1 - shared] == alt[-1 - shared]:
        shared += 1
    return ref[: len(ref) - shared], alt[: len(alt) - shared]


def record_evidence(site: Site, record: Record, call: SampleCall, minimum: Minimum) -> Evidence | None:
    """Return what a record that overlaps a site says of it for one sample, None where it says nothing.

    A record beside the matter proves nothing: an insertion after the base, or a larger deletion that the sample does
    not have, does not say that the base itself is reference.
    """
    if _bases_differ(site, record):
        return Evidence("mismatch", f"REF of {record.contig}:{record.start + 1} differs from the site's")
    if all(alt in ANY_OTHER for alt in record.alts):
        return _stated_reference(site, record, call, minimum)
    return _called(site, record, call, minimum)


def _stated_reference(site: Site, record: Record, call: SampleCall, minimum: Minimum) -> Evidence:
    """The evidence of a record without alternative alleles: one base of an all-sites file, or a block."""
    depth, quality = _depth(record, call), _quality(call.fields)
    weakness = _weakness(record, call, minimum, reference=True)
    is_block = bool(record.alts) or record.end > record.start + len(record.ref)
    stated = is_block and not call.alleles and isinstance(call.fields.get("GQ"), int | float)  # freebayes: GQ, no GT
    if weakness is None and set(call.alleles) != {0} and not stated:
        weakness = _NOT_CALLED
    if weakness is None and is_block and depth is None and quality is None:
        weakness = "block of reference without depth and quality"
    return Evidence(
        "no-call" if weakness else "reference",
        weakness or ("block of covered reference" if is_block else "record without alternative alleles"),
        record.start,
        record.end,
        (site.ref,) * len(call.alleles),
        depth=depth,
        quality=quality,
    )


def _called(site: Site, record: Record, call: SampleCall, minimum: Minimum) -> Evidence | None:
    """The evidence of a record with alternative alleles."""
    changes = [_change(site, record, alt) for alt in record.alts]
    alleles = tuple([_site_allele(site, changes, index) for index in call.alleles])
    changed = any(allele not in (site.ref, None) for allele in alleles)
    if not _is_about(site, changes) and not changed:
        return None
    edits = frozenset(c for c in changes if isinstance(c, Edit) and _touches(site, c))
    weakness = _weakness(record, call, minimum, reference=not changed)
    if weakness is None and not changed and (not alleles or None in alleles):
        weakness = _NOT_CALLED
    return Evidence(
        "no-call" if weakness else "call",
        weakness or ("genotype" if changed else "record says reference"),
        record.start,
        record.end,
        alleles,
        call.phased,
        call.phase_set,
        edits,
        _depth(record, call),
        _quality(call.fields),
    )


def _bases_differ(site: Site, record: Record) -> bool:
    first, last = max(site.start, record.start), min(site.end, record.start + len(record.ref))
    expected = site.ref[first - site.start : last - site.start].upper()
    given = record.ref[first - record.start : last - record.start].upper()
    return first < last and any(a != b and "N" not in (a, b) for a, b in zip(expected, given, strict=True))


def _change(site: Site, record: Record, alt: str) -> Edit | str | None:
    """An alternative allele as an edit, as `*` where it takes the site away, or None where it says nothing of bases."""
    if alt == SPANNING:
        return SPANNING
    if alt.startswith(_DELETION):
        return Edit(record.start + 1, record.end, "")
    return trimmed_edit(record.start, record.ref, alt) if set(alt) <= set("ACGTN") else None


def _site_allele(site: Site, changes: list[Edit | str | None], index: int | None) -> str | None:
    """The bases over the site's REF that an allele of the record gives, `*` for none, None for unknown."""
    if index is None:
        return None
    change = changes[index - 1] if index else None
    if not index or (isinstance(change, Edit) and not _touches(site, change)):
        return site.ref
    if not isinstance(change, Edit):
        return change
    if site.start <= change.start and change.end <= site.end:
        return site.ref[: change.start - site.start] + change.bases + site.ref[change.end - site.start :] or SPANNING
    if change.keeps_length:
        first, last = max(site.start, change.start), min(site.end, change.end)
        inside = change.bases[first - change.start : last - change.start]
        return site.ref[: first - site.start] + inside + site.ref[last - site.start :]
    return SPANNING


@lru_cache(maxsize=4096)
def _site_edits(site: Site) -> tuple[Edit, ...]:
    """The changes that the site's alternative alleles are; where none is given, any of its bases replaced."""
    edits = [trimmed_edit(site.start, site.ref, alt) for alt in site.alts if set(alt) <= set("ACGTN")]
    return tuple(edits) or (Edit(site.start, site.end, site.ref),)


def _touches(site: Site, edit: Edit) -> bool:
    """Whether an edit is at odds with a change that the site is about, so that both cannot be on one chromosome."""
    return any(_collide(change, edit) for change in _site_edits(site))


def _collide(change: Edit, edit: Edit) -> bool:
    """Whether two edits meet; at an insertion's place, another change of length beside it does as well."""
    if change.start == change.end and not edit.keeps_length:
        return edit.start <= change.start <= edit.end
    if edit.start == edit.end:
        return change.start < edit.start < change.end
    return edit.start < change.end and change.start < edit.end


def _is_about(site: Site, changes: list[Edit | str | None]) -> bool:
    """Whether a record offers changes of the site's kinds (bases, length), so that not having them is reference."""
    if SPANNING in changes:
        return True
    met = [change for change in changes if isinstance(change, Edit) and _touches(site, change)]
    offered = {e.keeps_length for e in met if e.keeps_length or (site.start <= e.start and e.end <= site.end)}
    return {change.keeps_length for change in _site_edits(site)} <= offered


def _weakness(record: Record, call: SampleCall, minimum: Minimum, *, reference: bool) -> str | None:
    """Why a call does not count (filter, quality, depth), or None."""
    if not record.passed:
        return f"filtered: {';'.join(record.filters)}"
    given = call.fields.get("FT")
    failed = [name for name in (given if isinstance(given, tuple) else (given,)) if name not in (None, "PASS")]
    if failed:
        return f"filtered for the sample: {';'.join(map(str, failed))}"
    quality, depth = _quality(call.fields), _depth(record, call)
    if quality is not None and quality < minimum.quality:
        return f"quality {quality:g} is below {minimum.quality:g}"
    if reference and depth is not None and depth < minimum.depth:
        return f"depth {depth} is below {minimum.depth}"
    return None


def _quality(fields: Mapping[str, Any]) -> float | None:
    """GQ, GATK's RGQ of reference calls, or what PL says: the distance to the second most likely genotype."""
    for key in ("GQ", "RGQ"):
        if isinstance(fields.get(key), int | float):
            return float(fields[key])
    likelihoods = fields.get("PL")
    if isinstance(likelihoods, tuple) and len(likelihoods) > 1 and all(isinstance(v, int) for v in likelihoods):
        return float(sorted(likelihoods)[1])
    return None


def _depth(record: Record, call: SampleCall) -> int | None:
    """A block's least depth where given (FORMAT/MIN_DP, INFO/MinDP), else the sample's depth."""
    found = [call.fields.get("MIN_DP"), call.fields.get("DP")]
    if len(record.samples) == 1:
        found[1:1] = [record.info.get("MinDP"), record.info.get("MIN_DP")]
    return next((value for value in found if isinstance(value, int)), None)
