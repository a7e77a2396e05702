"""Aligned reads in BAM or CRAM, opened only when they are whole, sorted, indexed and on the reference's contigs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from careloop import InputError
from careloop.genome.files.builds import detect_build, require_same_build
from careloop.genome.files.contigs import same_contig
from careloop.genome.files.htslib import is_bgzf, load_pysam, require_end_block
from careloop.genome.files.reference import Reference


def open_reads(path: str | Path, reference: Reference | None = None) -> Any:
    """Open a BAM or CRAM file as a `pysam.AlignmentFile`; CRAM is unpacked with `reference`.

    Raises:
        InputError: no such file, not BAM or CRAM (SAM among others), cut off, not sorted by position, without an index,
            contigs of two assemblies, or contigs that are not the reference's by name and length.
    """
    path = Path(path)
    _require_whole(path)
    file = _opened(path, reference)
    try:
        _require_order_and_index(file, path)
        if reference is not None:
            _require_contigs(dict(zip(file.references, file.lengths, strict=True)), reference, path)
    except InputError:
        file.close()
        raise
    return file


def index_reads(path: str | Path) -> None:
    """Make the index beside a BAM (.bai) or CRAM (.crai) file.

    Raises:
        InputError: the file is not sorted, or the folder cannot be written.
    """
    pysam = load_pysam()
    try:
        pysam.samtools.index(str(path), catch_stdout=False)
    except pysam.SamtoolsError:
        raise InputError(f"{path}: cannot be indexed; sort it first: samtools sort -o SORTED.bam {path}") from None


def sample_of(file: Any) -> str | None:
    """The sample whose reads an open file holds (SM of its read groups), None where the header does not say.

    Raises:
        InputError: reads of several samples in one file.
    """
    path = Path(file.filename.decode())
    names = sorted({group["SM"] for group in _header(file, path).get("RG", []) if group.get("SM")})
    if len(names) > 1:
        raise InputError(
            f"{path}: reads must be of one sample; it has {', '.join(names[:5])}; split it: samtools split"
        )
    return names[0] if names else None


def _require_whole(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(4)
        packed = is_bgzf(path)
    except OSError:
        raise InputError(f"{path}: no such file, or not readable; check the path of the reads") from None
    if packed or start == b"CRAM":
        require_end_block(path)
    else:
        remedy = f"samtools sort --write-index -o READS.bam {path}"
        told = "SAM is text and has no index" if start[:1] == b"@" else "not a BAM or CRAM file"
        raise InputError(f"{path}: reads must be BAM or CRAM; {told}; for SAM run: {remedy}")


def _opened(path: Path, reference: Reference | None) -> Any:
    pysam = load_pysam()
    options = {"reference_filename": str(reference.path)} if reference is not None else {}
    try:
        file = pysam.AlignmentFile(str(path), "rb", **options)
    except (OSError, ValueError):
        raise InputError(f"{path}: file ends early or is not BAM or CRAM; copy or make it again") from None
    if not (file.is_bam or file.is_cram):
        raise InputError(f"{path}: reads must be BAM or CRAM; not a BAM or CRAM file")
    return file


def _require_order_and_index(file: Any, path: Path) -> None:
    order = _header(file, path).get("HD", {}).get("SO")
    if order not in (None, "coordinate"):
        raise InputError(f"{path}: reads must be sorted by position; run: samtools sort -o SORTED.bam {path}")
    try:
        indexed = file.has_index()
    except (OSError, ValueError, AttributeError):
        indexed = False
    if not indexed:
        raise InputError(f"{path}: reads must have an index; run: samtools index {path}")


def _header(file: Any, path: Path) -> dict[str, Any]:
    try:
        return dict(file.header.to_dict())
    except (ValueError, KeyError):
        raise InputError(f"{path}: the header of the reads is not written as in SAM; see: samtools head") from None


def _require_contigs(contigs: dict[str, int], reference: Reference, path: Path) -> None:
    """Refuse reads that share no contig with the reference, or one of another length or name."""
    build = detect_build(dict(contigs), where=str(path))
    require_same_build({str(path): build, str(reference.path): reference.build})
    shared = [name for name in contigs if name in reference.contigs]
    for name in shared:
        if contigs[name] != reference.contigs[name]:
            raise InputError(
                f"{path}: contigs must be the reference's; {name} has {contigs[name]:,} bases here and "
                f"{reference.contigs[name]:,} in {reference.path}; give the reference that the reads were aligned to"
            )
    if not shared:
        other = next(((a, b) for a in contigs for b in reference.contigs if same_contig(a, b)), None)
        told = f"{other[0]} here is {other[1]} in" if other else f"{', '.join(list(contigs)[:3])} are not in"
        raise InputError(
            f"{path}: contigs must be named as in the reference; {told} {reference.path}; rename one of them"
        )
