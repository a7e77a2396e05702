"""VCF and BCF files, 4.1 to 4.5, read record by record; a bad line is counted and the rest is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar

from careloop import InputError
from careloop.genome.files.contigs import canonical_contig, same_contig
from careloop.genome.files.htslib import is_bgzf, load_pysam, require_end_block
from careloop.genome.files.packed import UNREADABLE, open_packed
from careloop.genome.files.regions import Region, Regions, parse_region
from careloop.genome.files.variant_header import VariantHeader, parse_header
from careloop.genome.files.variant_lines import BadLineError, LineReader
from careloop.genome.variant import Record

MAX_LINE_BYTES = 256 * 2**20  # a line of a million samples has some 20 MB
MAX_REJECTS_KEPT = 1000
Place = TypeVar("Place", int, Region)  # a line's number, or the region it was looked up for


@dataclass(frozen=True, slots=True)
class RejectedLine:
    """A line that was not read: where it stands and why, without its content."""

    place: str
    reason: str


@dataclass
class Rejects:
    """The lines that a pass over a file did not read: all counted by reason, the first 1,000 kept."""

    reasons: Counter[str] = field(default_factory=Counter)
    lines: list[RejectedLine] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many lines were rejected."""
        return self.reasons.total()

    def add(self, place: str, reason: str) -> None:
        """Count one line."""
        self.reasons[reason] += 1
        if len(self.lines) < MAX_REJECTS_KEPT:
            self.lines.append(RejectedLine(place, reason))


class VariantFile:
    """A variant file that was opened and whose header was read; every pass over its records opens it anew.

    `rejects` are those of the latest pass.
    """

    def __init__(self, path: Path, header: VariantHeader, *, binary: bool) -> None:
        self.path = path
        self.header = header
        self.rejects = Rejects()
        self._binary = binary

    def __iter__(self) -> Iterator[Record]:
        return self.records()

    @property
    def index(self) -> Path | None:
        """The .tbi or .csi beside the file, None where there is none or it is older than the file."""
        for ending in (".csi", ".tbi"):
            index = self.path.with_name(self.path.name + ending)
            if index.is_file() and index.stat().st_mtime >= self.path.stat().st_mtime:
                return index
        return None

    def records(self, region: Region | str | None = None) -> Iterator[Record]:
        """Yield the records, or those that overlap a region, in the file's order.

        A contig is found under any of its names. With an index only the region is read; without one, or with one older
        than the file, the whole file is passed through, with the same result.

        Raises:
            InputError: a region that cannot be read or that names a contig the header does not have; a file that ends
                early or is not readable.
        """
        if isinstance(region, str):
            region = parse_region(region, self.header.contigs or None)
        return self.records_in(None if region is None else [region])

    def records_in(self, regions: Sequence[Region] | None) -> Iterator[Record]:
        """Yield the records that overlap some of these regions, each once; all of them for None.

        Regions must not overlap each other, and must be in the order of their starts (as those of `Regions` are).

        Raises:
            InputError: as `records`.
        """
        rejects = self.rejects = Rejects()
        index = self.index if regions is not None and (self._binary or is_bgzf(self.path)) else None
        if regions is not None and index is not None:
            read = _binary_lines_in if self._binary else _text_lines_in
            return _first_found(_parsed(read(self.path, regions, index), self.header, rejects))
        lines = _binary_lines(self.path) if self._binary else _text_lines(self.path)
        found = (record for _, record in _parsed(lines, self.header, rejects))
        return found if regions is None else _overlapping(found, Regions(regions))


def open_variants(path: str | Path) -> VariantFile:
    """Open a VCF (plain, gzip or bgzip) or BCF file and read its header. A full pass needs no index.

    Raises:
        InputError: no such file, not VCF 4.1 to 4.5 or BCF, a header that is not one, a bgzip file without its end
            block (cut off), two samples of one name, or contigs of two assemblies.
    """
    path = Path(path)
    try:
        if is_bgzf(path):
            require_end_block(path)
        with closing(open_packed(path)) as file:
            binary = file.read(3) == b"BCF"
        if binary:
            return VariantFile(path, _binary_header(path), binary=True)
        with closing(open_packed(path)) as file:
            return VariantFile(path, parse_header(_header_lines(file, path), where=str(path)), binary=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except UNREADABLE:
        raise _cut_off(path) from None


def _cut_off(path: Path) -> InputError:
    return InputError(f"{path}: file ends early or is not readable; copy or make it again")


def _header_lines(file: BinaryIO, path: Path) -> Iterator[str]:
    size = 0
    while line := file.readline(MAX_LINE_BYTES - size + 1):
        size += len(line)
        if size > MAX_LINE_BYTES:
            raise InputError(f"{path}: header is longer than 256 MiB")
        yield _text(line)


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines behind the header, without line ends, numbered from 1 at the file's first."""
    number = 0
    try:
        with closing(open_packed(path)) as file:
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                if len(line) == MAX_LINE_BYTES:
                    raise InputError(f"{path}: line {number} is longer than 256 MiB")
                if not line.startswith(b"#"):
                    yield number, _text(line)
    except UNREADABLE:
        raise _cut_off(path) from None


def _text(line: bytes) -> str:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:  # older tools write descriptions in Windows' code page
        text = line.decode("cp1252", errors="replace")
    return text.rstrip("\r\n")


def _binary_header(path: Path) -> VariantHeader:
    pysam = load_pysam()
    try:
        with pysam.VariantFile(str(path)) as file:
            lines = str(file.header).rstrip("\n").split("\n")
    except (OSError, ValueError):
        raise _cut_off(path) from None
    return parse_header(lines, where=str(path))


def _binary_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The records of a BCF file as the lines of a VCF, so that both are read by the same rules."""
    pysam = load_pysam()
    try:
        with pysam.VariantFile(str(path)) as file:
            for number, record in enumerate(file, start=1):
                yield number, str(record).rstrip("\n")
    except (OSError, ValueError):
        raise _cut_off(path) from None


def _binary_lines_in(path: Path, regions: Sequence[Region], index: Path) -> Iterator[tuple[Region, str]]:
    pysam = load_pysam()
    try:
        with pysam.VariantFile(str(path), index_filename=str(index)) as file:
            for region, name in _named(regions, list(file.header.contigs)):
                for record in file.fetch(name, max(region.start, 0), region.end):
                    yield region, str(record).rstrip("\n")
    except (OSError, ValueError):
        raise InputError(f"{path}: cannot be read by its index {index.name}; make it anew: bcftools index -f") from None


def _text_lines_in(path: Path, regions: Sequence[Region], index: Path) -> Iterator[tuple[Region, str]]:
    pysam = load_pysam()
    try:
        with pysam.TabixFile(str(path), index=str(index), encoding="latin-1") as file:
            for region, name in _named(regions, file.contigs):
                for line in file.fetch(name, max(region.start, 0), region.end):
                    yield region, _text(line.encode("latin-1"))
    except (OSError, ValueError):
        raise InputError(f"{path}: cannot be read by its index {index.name}; make it anew: tabix -f {path}") from None


def _named(regions: Sequence[Region], names: list[str]) -> Iterator[tuple[Region, str]]:
    """Regions with their contig's name in the file, those whose contig it does not have left out."""
    by_chromosome = {canonical_contig(name): name for name in reversed(names)}
    for region in regions:
        name = region.contig if region.contig in names else by_chromosome.get(canonical_contig(region.contig))
        if name is not None:
            yield region, name


def _parsed(
    lines: Iterator[tuple[Place, str]], header: VariantHeader, rejects: Rejects
) -> Iterator[tuple[Place, Record]]:
    reader = LineReader(header)
    for place, line in lines:
        if not line:
            continue
        try:
            record = reader.record(line)
        except BadLineError as bad:
            rejects.add(f"line {place}" if isinstance(place, int) else f"in {place}", str(bad))
            continue
        yield place, record


def _first_found(found: Iterator[tuple[Region, Record]]) -> Iterator[Record]:
    """Records found region by region; one that reaches into several comes with the first of them only."""
    before: Region | None = None
    current: Region | None = None
    for region, record in found:
        if region is not current:
            before, current = current, region
        if _reaches(record, region) and not (before and _reaches(record, before)):
            yield record


def _reaches(record: Record, region: Region) -> bool:
    return same_contig(record.contig, region.contig) and region.overlaps(region.contig, record.start, record.end)


def _overlapping(records: Iterator[Record], regions: Regions) -> Iterator[Record]:
    for record in records:
        if regions.overlaps(record.contig, record.start, record.end):
            yield record
