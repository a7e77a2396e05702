"""Which assembly a file is on, and whether what it holds bears that out: a file on another one is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from careloop import InputError
from careloop.genome.files.builds import UNKNOWN, require_same_build
from careloop.genome.files.contigs import canonical_contig
from careloop.genome.files.reference import Reference
from careloop.genome.files.site_evidence import Edit, trimmed_edit
from careloop.genome.files.sites import Site, SiteCall
from careloop.genome.files.variant_file import VariantFile
from careloop.genome.pharmacogenes.definitions import BUILDS, GeneDefinition
from careloop.genome.variant import Record

# By chance one of some 300 places has a listed change on the wrong assembly in perhaps one genome of forty (a variant
# in 1,000 bases, one of twelve changes), two places in one of a few thousand.
MIN_HITS = 2
# Of unrelated bases three in four differ; one site that differs may be an error of the tables or of the file.
MIN_MISMATCHES = 3
MISMATCH_SHARE = 0.1
_REMEDY = "state the assembly in the header (##contig lengths), or make the file anew on GRCh37 or GRCh38"
Change = tuple[str, Edit, str]  # contig, edit, and the bases that it replaces


def assembly_of(
    file: VariantFile, reference: Reference | None, genes: Sequence[GeneDefinition], records: Iterable[Record]
) -> str:
    """Return GRCh37 or GRCh38: what the file and its reference say, or which variants of the tables it has.

    `records` are the file's in the regions of the genes on both assemblies.

    Raises:
        InputError: another assembly; the file's and the reference's are not the same; nothing tells; or the variants
            of the tables are found at their places on the other assembly.
    """
    told = {str(file.path): file.header.build} | ({str(reference.path): reference.build} if reference else {})
    build = require_same_build(told)
    if build not in (*BUILDS, UNKNOWN):
        raise InputError(
            f"{file.path}: pharmacogenes are read on GRCh37 or GRCh38; the file is on {build}; lift it over"
        )
    hits = _hits(genes, records)
    likely = max(BUILDS, key=lambda each: hits[each])
    clear = hits[likely] >= MIN_HITS and hits[likely] > sum(hits[other] for other in BUILDS if other != likely)
    if build == UNKNOWN:
        if not clear:
            raise InputError(f"{file.path}: the file does not tell its assembly; {_REMEDY}")
        return likely
    if clear and likely != build:
        raise InputError(
            f"{file.path}: the file says {build}, but {hits[likely]} variants of the tables stand where {likely} has "
            f"them (where {build} has them: {hits[build]}); {_REMEDY}"
        )
    return build


def require_bases(calls: Sequence[SiteCall], build: str, *, where: str) -> None:
    """Refuse a file whose REF bases at the defining sites are not those of `build`.

    Raises:
        InputError: three or more of the sites that the file speaks of differ, and one in ten of them.
    """
    differing = sum(call.state == "mismatch" for call in calls)
    spoken = sum(call.state != "absent" for call in calls)
    if differing >= MIN_MISMATCHES and differing > MISMATCH_SHARE * spoken:
        raise InputError(
            f"{where}: REF must be the bases of {build}; at {differing} of {spoken} defining sites it is not; {_REMEDY}"
        )


def require_reference(sites: Iterable[Site], reference: Reference) -> None:
    """Refuse a reference that has other bases at the defining sites than the tables say.

    Sites on contigs that it does not have, as a reference of one chromosome, are not checked. Raises InputError naming
    the first site that differs.
    """
    for site in sites:
        if reference.name_of(site.contig) is None:
            continue
        found = reference.fetch(site.contig, site.start, site.end)
        if found != site.ref:
            raise InputError(
                f"{reference.path}: {site.contig}:{site.start + 1} must be {site.ref} ({site.name}), got {found}; "
                "give the reference that the variants were called against"
            )


def _hits(genes: Sequence[GeneDefinition], records: Iterable[Record]) -> Counter[str]:
    """How many variants of the tables the records hold at the places of each assembly."""
    wanted = {build: {change for gene in genes for change in _listed(gene, build)} for build in BUILDS}
    found: dict[str, set[Change]] = {build: set() for build in BUILDS}
    for record in records:
        for variant in record.variants:
            if variant.is_sequence:
                change = _change(variant.contig, variant.start, variant.ref, variant.alt)
                for build in BUILDS:
                    if change in wanted[build]:
                        found[build].add(change)
    return Counter({build: len(changes) for build, changes in found.items()})


def _listed(gene: GeneDefinition, build: str) -> Iterable[Change]:
    for site in gene.sites(build):
        for alt in site.alts:
            yield _change(site.contig, site.start, site.ref, alt)


def _change(contig: str, start: int, ref: str, alt: str) -> Change:
    edit = trimmed_edit(start, ref, alt)
    return canonical_contig(contig), edit, ref[edit.start - start : edit.end - start]
