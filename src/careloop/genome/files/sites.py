"""Sites looked up in a variant file, every absent one accounted for."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from careloop import InputError
from careloop.genome.files.contigs import canonical_contig
from careloop.genome.files.regions import Region, Regions
from careloop.genome.files.site_evidence import Evidence, Minimum, Site, record_evidence
from careloop.genome.files.variant_file import VariantFile
from careloop.genome.variant import SPANNING, Record

__all__ = ["DEFAULT_MINIMUM", "Minimum", "Site", "SiteCall", "State", "sites_at"]

Number = TypeVar("Number", int, float)
State = Literal["genotype", "reference", "no-call", "absent", "mismatch", "spanned"]
DEFAULT_MINIMUM = Minimum()
_JOINED_BASES = 20_000  # sites nearer than this are read in one go
_MOST_LOOKUPS = 2000  # beyond this many places one pass over the file is quicker than its index


@dataclass(frozen=True, slots=True)
class SiteCall:
    """What a file says of one site for one sample.

    - `genotype`: alleles are called, at least one of them not the reference's.
    - `reference`: proved by a record, by blocks of covered reference over the minimum, or by the site lying in the
      covered regions while the file is silent (`alleles` is empty where nothing tells the ploidy).
    - `no-call`: not called, called in part (`alleles` has None), filtered, below the minimum, or contradictory.
    - `absent`: the file says nothing of the site, which proves nothing.
    - `mismatch`: the file's REF has other bases than the site: another assembly, or another strand.
    - `spanned`: a called deletion takes the site away on some chromosome (`*` in `alleles`).

    `alleles` are bases over the site's REF, in the order of the genotype; `phase_set` counts where `phased`. `depth`
    and `quality` are the least of the records used, None where not given. `reason` says what decided, in words.
    """

    site: Site
    state: State
    alleles: tuple[str | None, ...] = ()
    phased: bool = False
    phase_set: int | str | None = None
    depth: int | None = None
    quality: float | None = None
    reason: str = ""

    @property
    def known(self) -> bool:
        """Whether all alleles at the site are known and written as bases."""
        return self.state in ("genotype", "reference")


def sites_at(
    file: VariantFile,
    sites: Sequence[Site],
    sample: str | None = None,
    *,
    covered: Regions | None = None,
    minimum: Minimum = DEFAULT_MINIMUM,
) -> list[SiteCall]:
    """Return what the file says of each site, in the order asked.

    `sample` may be left out where the file has one. `covered` are the regions that were sequenced and looked at: only
    there a site absent from the file is reference. Contigs are found under any of their names. Sites and the file's
    records should be left-aligned alike; a shifted indel is not recognised as the site's.

    Raises:
        InputError: the file has no such sample, or several and none was named; or it cannot be read.
    """
    name = _sample_in(file, sample)
    evidence: list[list[Evidence]] = [[] for _ in sites]
    for record, places in _records_at(file, sites):
        for place in places:
            found = record_evidence(sites[place], record, record.samples[name], minimum)
            if found is not None:
                evidence[place].append(found)
    unread = file.rejects.total
    return [_decided(site, found, covered, unread) for site, found in zip(sites, evidence, strict=True)]


def _sample_in(file: VariantFile, sample: str | None) -> str:
    samples = file.header.samples
    if sample in samples:
        return str(sample)
    told = ", ".join(samples[:5]) + (" ..." if len(samples) > 5 else "") or "none (sites only)"
    if sample is not None:
        raise InputError(f"{file.path}: no sample {sample!r} in this file; it has {told}")
    if len(samples) != 1:
        raise InputError(f"{file.path}: name the sample to read; the file has {told}")
    return samples[0]


def _records_at(file: VariantFile, sites: Sequence[Site]) -> Iterator[tuple[Record, list[int]]]:
    """Each record that overlaps some site, with the numbers of those sites; one pass, or by the index."""
    order = sorted(range(len(sites)), key=lambda place: sites[place].start)
    by_contig: dict[str, list[int]] = {}
    for place in order:
        by_contig.setdefault(canonical_contig(sites[place].contig), []).append(place)
    starts = {contig: [sites[place].start for place in places] for contig, places in by_contig.items()}
    longest = max((len(site.ref) for site in sites), default=0)
    for record in _records_near(file, sites):
        contig = canonical_contig(record.contig)
        known = starts.get(contig)
        if known is not None:
            near = range(bisect_left(known, record.start - longest), bisect_left(known, record.end))
            places = [by_contig[contig][i] for i in near if sites[by_contig[contig][i]].end > record.start]
            if places:
                yield record, places


def _records_near(file: VariantFile, sites: Sequence[Site]) -> Iterator[Record]:
    places = list(Regions(Region(s.contig, s.start, s.end + _JOINED_BASES) for s in sites)) if file.index else []
    if file.index is None or len(places) > _MOST_LOOKUPS:
        return file.records()
    return file.records_in([Region(place.contig, place.start, place.end - _JOINED_BASES) for place in places])


def _decided(site: Site, evidence: list[Evidence], covered: Regions | None, unread: int) -> SiteCall:
    """One answer from all that was found. Disagreeing bases come first, then what is called, then what is unsure."""
    for found in evidence:
        if found.kind == "mismatch":
            return SiteCall(site, "mismatch", reason=found.reason)
    calls = [found for found in evidence if found.kind == "call"]
    changed = [found for found in calls if set(found.alleles) - {site.ref}]
    if changed:
        return _genotype(site, _without_repeats(changed))
    for found in evidence:
        if found.kind == "no-call":
            return _as_found(site, "no-call", found)
    if calls:
        return _as_found(site, "reference", calls[0])
    blocks = [found for found in evidence if found.kind == "reference"]
    if blocks:
        return _of_blocks(site, blocks)
    if covered is None or not covered.covers(site.contig, site.start, site.end):
        return SiteCall(site, "absent", reason="no record" + (", not in the covered regions" if covered else ""))
    if unread:
        return SiteCall(site, "absent", reason=f"no record, but {unread} of the file's lines could not be read")
    return SiteCall(site, "reference", reason="no record, in the covered regions")


def _as_found(site: Site, state: State, found: Evidence) -> SiteCall:
    alleles, phased, phase_set = found.alleles, found.phased, found.phase_set
    return SiteCall(site, state, alleles, phased, phase_set, found.depth, found.quality, found.reason)


def _of_blocks(site: Site, blocks: list[Evidence]) -> SiteCall:
    if not Regions(Region(site.contig, found.start, found.end) for found in blocks).covers(
        site.contig, site.start, site.end
    ):
        return SiteCall(site, "absent", reason="blocks of covered reference hold only a part of the site")
    shortest = min((found.alleles for found in blocks), key=len)
    return SiteCall(
        site, "reference", shortest, depth=_least(f.depth for f in blocks), quality=_least(f.quality for f in blocks),
        reason=blocks[0].reason,
    )  # fmt: skip


def _without_repeats(calls: list[Evidence]) -> list[Evidence]:
    """The calls less those that only say again what another one says of the same changes."""
    kept: list[Evidence] = []
    for call in calls:
        if not any(call.edits == other.edits and _same_genotype(call, other) for other in kept):
            kept.append(call)
    return kept


def _same_genotype(one: Evidence, other: Evidence) -> bool:
    both_phased = one.phased and other.phased and one.phase_set == other.phase_set
    return one.alleles == other.alleles or (not both_phased and Counter(one.alleles) == Counter(other.alleles))


def _genotype(site: Site, calls: list[Evidence]) -> SiteCall:
    """The genotype that records with called alleles give together."""
    alleles = calls[0].alleles if len(calls) == 1 else _joined(site, calls)
    phased = _share_chromosomes(calls)
    state: State
    if alleles is None:
        state, reason = "no-call", f"{len(calls)} records of the site contradict each other"
    elif SPANNING in alleles:
        state, reason = "spanned", "a called deletion spans the site"
    elif None in alleles:
        state, reason = "no-call", "called in part"
    else:
        state, reason = "genotype", "genotype" if len(calls) == 1 else f"genotype from {len(calls)} records"
    return SiteCall(
        site, state, alleles or (), phased, calls[0].phase_set if phased else None,
        _least(call.depth for call in calls), _least(call.quality for call in calls), reason,
    )  # fmt: skip


def _joined(site: Site, calls: list[Evidence]) -> tuple[str | None, ...] | None:
    """Alleles from several records (split multi-allelics, a deletion over an SNV), None where they contradict."""
    ploidy = max(len(call.alleles) for call in calls)
    edits = [edit for call in calls for edit in call.edits]
    if len(set(edits)) < len(edits):
        return None  # two records call the same change, and not alike
    if _share_chromosomes(calls):
        return _by_chromosome(site, calls)
    found: list[str | None] = [a for call in calls for a in call.alleles if a not in (site.ref, None, SPANNING)]
    found += [SPANNING] * _spanned_chromosomes(calls)
    if len(found) > ploidy:
        return None
    rest = None if any(None in call.alleles for call in calls) else site.ref
    return tuple([rest] * (ploidy - len(found)) + found)


def _share_chromosomes(calls: list[Evidence]) -> bool:
    """Whether the first allele of each call is on the same chromosome, the second as well."""
    phases = {(call.phased, call.phase_set, len(call.alleles)) for call in calls}
    return len(phases) == 1 and calls[0].phased


def _spanned_chromosomes(calls: list[Evidence]) -> int:
    """On how many chromosomes deletions take the site away; `*` beside an SNV stands for one of those deletions."""
    deleted, starred = 0, 0
    for call in calls:
        number = call.alleles.count(SPANNING)
        if all(edit.keeps_length for edit in call.edits):
            starred = max(starred, number)
        else:
            deleted += number
    return max(deleted, starred)


def _by_chromosome(site: Site, calls: list[Evidence]) -> tuple[str | None, ...] | None:
    """Alleles of phased records of one phase set, chromosome by chromosome."""
    alleles: list[str | None] = []
    for column in zip(*(call.alleles for call in calls), strict=True):
        others = {allele for allele in column if allele not in (site.ref, None)}
        if len(others) > 1:
            return None
        alleles.append(others.pop() if others else None if None in column else site.ref)
    return tuple(alleles)


def _least(values: Iterable[Number | None]) -> Number | None:
    return min((value for value in values if value is not None), default=None)
