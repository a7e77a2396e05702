"""A reference sequence in FASTA (plain or bgzip), read by position."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

from careloop import InputError
from careloop.genome.files.builds import detect_build
from careloop.genome.files.contigs import canonical_contig
from careloop.genome.files.htslib import load_pysam

_BGZF = b"\x1f\x8b\x08\x04"


class Reference:
    """A FASTA file open for reading; `contigs` are {name: length in bases}, `build` the assembly they point to.

    Contigs are found under any of their names (`chr20`, `20`, `NC_000020.11`). An object sent to another process opens
    the file there again. One object serves one thread.
    """

    def __init__(self, path: Path, fasta: Any) -> None:
        self.path = path
        self._fasta = fasta
        self.contigs: dict[str, int] = dict(zip(fasta.references, fasta.lengths, strict=True))
        self._names = {canonical_contig(name): name for name in reversed(self.contigs)}
        self.build = detect_build(self.contigs, words=[path.name], where=str(path))

    def name_of(self, contig: str) -> str | None:
        """The name under which the FASTA has a contig, or None."""
        return contig if contig in self.contigs else self._names.get(canonical_contig(contig))

    def fetch(self, contig: str, start: int, end: int) -> str:
        """Return the bases of [start, end) (0-based, half-open) in upper case, cut off at the contig's ends.

        Raises:
            InputError: the FASTA has no such contig, or ends early.
        """
        name = self.name_of(contig)
        if name is None:
            known = ", ".join(list(self.contigs)[:5])
            raise InputError(f"{self.path}: no contig {contig!r} in this FASTA (it has {known} ...)")
        start, end = max(start, 0), min(end, self.contigs[name])
        if start >= end:
            return ""
        bases: str = self._fasta.fetch(name, start, end).upper()
        if len(bases) != end - start:
            raise InputError(f"{self.path}: the FASTA is not the one its index was made of; index it anew")
        return bases

    def close(self) -> None:
        """Close the file."""
        self._fasta.close()

    def __enter__(self) -> Reference:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return open_reference, (self.path,)


def open_reference(path: str | Path) -> Reference:
    """Open a FASTA file, plain or bgzip; its index (.fai, and .gzi for bgzip) is made beside it where it is missing.

    Raises:
        InputError: no such file, not FASTA, plain gzip (which has no positions), an index that cannot be made, or
            contigs of two assemblies.
    """
    path = Path(path)
    pysam = load_pysam()
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError:
        raise InputError(f"{path}: no such file, or not readable; check the path of the reference") from None
    if start[:2] == b"\x1f\x8b" and start != _BGZF:
        raise InputError(f"{path}: a packed FASTA must be bgzip, not plain gzip; run gunzip, then bgzip")
    if start[:2] != b"\x1f\x8b" and start[:1] not in (b">", b";"):
        raise InputError(f"{path}: not a FASTA file; it must begin with '>'")
    try:
        fasta = pysam.FastaFile(str(path))
    except (OSError, ValueError):
        command = f"samtools faidx {path}"
        raise InputError(f"{path}: the FASTA cannot be indexed (or its folder written); run: {command}") from None
    if not fasta.nreferences:
        raise InputError(f"{path}: no sequence in this FASTA")
    return Reference(path, fasta)
