"""Short reads in FASTQ aligned to a reference (minimap2), sorted, with duplicates marked, as an indexed BAM file."""

from __future__ import annotations

import statistics
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from careloop import InputError
from careloop.genome.files.fastq import Read, read_fragments
from careloop.genome.files.htslib import load_pysam
from careloop.genome.files.reference import Reference, open_reference

Progress = Callable[[str, int, int], None]
_CHUNK = 2000  # fragments handed to a thread at once
_SORT_MEMORY = "256M"  # of samtools sort, a thread
_FLAG_PAIRED, _FLAG_PROPER, _FLAG_UNMAPPED, _FLAG_REVERSE, _FLAG_FIRST, _FLAG_SECOND = 1, 2, 4, 16, 64, 128
_PAIRS_FOR_INSERT = 200
_LARGEST_INSERT = 2000  # until the file's own fragments have been seen; Illumina's are mostly under 1,000 bases
_COMPLEMENT = str.maketrans("ACGTNMRWSYKVHDB", "TGCANKYWSRMBDHV")


@dataclass(frozen=True)
class AlignmentSummary:
    """How many fragments (read pairs, or single reads) were read, and how many of their reads were placed."""

    fragments: int
    reads: int
    mapped: int


class _Placed(NamedTuple):
    """Where a read lies: contig, 0-based start and end, strand (1 or -1), mapping quality, CIGAR and mismatches."""

    contig: str
    start: int
    end: int
    strand: int
    quality: int
    cigar: str
    mismatches: int


def align_reads(
    fastq: Sequence[str | Path],
    reference: str | Path,
    *,
    out: str | Path,
    sample: str,
    threads: int = 1,
    progress: Progress | None = None,
) -> AlignmentSummary:
    """Align one FASTQ file, or two of pairs, and write `out` (.bam) with its index, whole or not at all.

    minimap2's short-read preset through mappy (Li 2018); each read has its best place only. Mates and duplicates are
    marked by samtools. Memory is minimap2's index of the reference (0.5 GB measured for the 63 Mb of chromosome 20)
    and 256 MB for sorting; `progress` hears ("align", fragments done, 0), as the total is not known.

    Raises:
        InputError: a reference or FASTQ that cannot be read, another ending than .bam, or a folder that cannot
            be written.
    """
    paths, out = tuple(Path(path) for path in fastq), Path(out)
    if out.suffix != ".bam":
        raise InputError(f"{out}: aligned reads are written to a file ending in .bam")
    if not sample or any(character in sample for character in "\t\n\r"):
        raise InputError("a sample must have a name, without tabs and line ends; name the sample")
    with open_reference(reference) as opened:
        aligner = _aligner(opened.path)
        try:
            with tempfile.TemporaryDirectory(dir=out.parent, prefix=".align-") as folder:
                placed = _in_chunks(aligner, read_fragments(paths), threads)
                summary = _write_by_name(Path(folder, "names.bam"), placed, opened, sample, progress)
                _finish(Path(folder), out)
        except OSError as error:
            told = error.strerror or "error"
            raise InputError(f"{out}: cannot be written ({told}); check folder and space") from None
    return summary


def _aligner(reference: Path) -> Any:
    try:
        import mappy
    except ImportError:
        raise InputError('aligning reads needs mappy; pip install "careloop[genome]"') from None
    aligner = mappy.Aligner(str(reference), preset="sr")
    if not aligner:
        raise InputError(f"{reference}: minimap2 cannot read this reference; give FASTA, plain or bgzip")
    return aligner


_Fragment = tuple[tuple[Read, _Placed | None], ...]


def _in_chunks(aligner: Any, fragments: Iterator[tuple[Read, ...]], threads: int) -> Iterator[_Fragment]:
    """Fragments with their places, in order; at most two chunks a thread are in memory."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[list[_Fragment]]] = deque()
        while True:
            while len(waiting) < 2 * threads and (chunk := list(islice(fragments, _CHUNK))):
                waiting.append(pool.submit(_place_chunk, aligner, chunk))
            if not waiting:
                return
            yield from waiting.popleft().result()


def _place_chunk(aligner: Any, chunk: list[tuple[Read, ...]]) -> list[_Fragment]:
    import mappy

    buffer = mappy.ThreadBuffer()
    return [_place(aligner, fragment, buffer) for fragment in chunk]


def _place(aligner: Any, fragment: tuple[Read, ...], buffer: Any) -> _Fragment:
    best: dict[int, _Placed] = {}
    for hit in aligner.map(*[read.bases for read in fragment], buf=buffer) if all(r.bases for r in fragment) else ():
        read = fragment[hit.read_num - 1]
        if hit.is_primary and hit.read_num not in best:
            cigar = _clipped(hit.cigar_str, hit.q_st, len(read.bases) - hit.q_en, hit.strand)
            best[hit.read_num] = _Placed(hit.ctg, hit.r_st, hit.r_en, hit.strand, hit.mapq, cigar, hit.NM)
    return tuple((read, best.get(number)) for number, read in enumerate(fragment, start=1))


def _clipped(cigar: str, before: int, after: int, strand: int) -> str:
    """The CIGAR with the read's unaligned ends, which are counted along the read, along the reference."""
    left, right = (before, after) if strand > 0 else (after, before)
    return (f"{left}S" if left else "") + cigar + (f"{right}S" if right else "")


def _write_by_name(
    path: Path, fragments: Iterable[_Fragment], reference: Reference, sample: str, progress: Progress | None
) -> AlignmentSummary:
    pysam = load_pysam()
    header = pysam.AlignmentHeader.from_dict(
        {
            "HD": {"VN": "1.6", "SO": "unsorted", "GO": "query"},
            "SQ": [{"SN": name, "LN": length} for name, length in reference.contigs.items()],
            "RG": [{"ID": "1", "SM": sample, "PL": "ILLUMINA"}],
        }
    )
    inserts = _Inserts()
    counts = [0, 0, 0]
    with pysam.AlignmentFile(str(path), "wb", header=header) as file:
        for fragment in fragments:
            proper = inserts.is_proper(fragment)
            for number, (read, placed) in enumerate(fragment, start=1):
                file.write(_segment(read, placed, _flag(len(fragment), number, placed, proper=proper), header))
                counts[1] += 1
                counts[2] += placed is not None
            counts[0] += 1
            if progress is not None and counts[0] % _CHUNK == 0:
                progress("align", counts[0], 0)
    return AlignmentSummary(*counts)


class _Inserts:
    """The distances of mates that face each other, and from the first pairs seen the largest that is usual."""

    def __init__(self) -> None:
        self._seen: list[int] = []
        self._largest = _LARGEST_INSERT

    def is_proper(self, fragment: _Fragment) -> bool:
        """Whether two mates face each other at a distance like that of the other pairs."""
        if len(fragment) != 2 or fragment[0][1] is None or fragment[1][1] is None:
            return False
        left, right = sorted((fragment[0][1], fragment[1][1]), key=lambda placed: -placed.strand)
        insert = right.end - left.start
        if left.contig != right.contig or (left.strand, right.strand) != (1, -1) or not 0 < insert <= self._largest:
            return False
        if len(self._seen) < _PAIRS_FOR_INSERT and min(left.quality, right.quality) >= 20:
            self._learn(insert)
        return True

    def _learn(self, insert: int) -> None:
        self._seen.append(insert)
        if len(self._seen) == _PAIRS_FOR_INSERT:
            middle = statistics.median(self._seen)
            spread = statistics.median(abs(value - middle) for value in self._seen)
            self._largest = round(middle + max(9 * spread, middle))


def _flag(reads: int, number: int, placed: _Placed | None, *, proper: bool) -> int:
    flag = 0 if reads == 1 else _FLAG_PAIRED | (_FLAG_FIRST if number == 1 else _FLAG_SECOND)
    if placed is None:
        return flag | _FLAG_UNMAPPED
    return flag | (_FLAG_REVERSE if placed.strand < 0 else 0) | (_FLAG_PROPER if proper else 0)


def _segment(read: Read, placed: _Placed | None, flag: int, header: Any) -> Any:
    reverse = flag & _FLAG_REVERSE
    bases = read.bases.translate(_COMPLEMENT)[::-1] if reverse else read.bases
    qualities = read.qualities[::-1] if reverse else read.qualities
    where = f"{placed.contig}\t{placed.start + 1}\t{placed.quality}\t{placed.cigar}" if placed else "*\t0\t0\t*"
    tags = "RG:Z:1" + (f"\tNM:i:{placed.mismatches}" if placed else "")
    line = f"{read.name}\t{flag}\t{where}\t*\t0\t0\t{bases or '*'}\t{qualities or '*'}\t{tags}"
    return load_pysam().AlignedSegment.fromstring(line, header)


def _finish(folder: Path, out: Path) -> None:
    """Mates' fields, order, duplicates and index, each from a file to the next, then both files into place."""
    pysam = load_pysam()
    named, mated, ordered, marked = (str(folder / f"{step}.bam") for step in ("names", "mates", "sorted", "marked"))
    try:
        pysam.samtools.fixmate("-m", "-u", named, mated, catch_stdout=False)
        Path(named).unlink()
        pysam.samtools.sort(
            "-l", "1", "-m", _SORT_MEMORY, "-T", str(folder / "part"), "-o", ordered, mated, catch_stdout=False
        )
        Path(mated).unlink()
        pysam.samtools.markdup("-T", str(folder / "duplicates"), ordered, marked, catch_stdout=False)
        pysam.samtools.index(marked, catch_stdout=False)
    except pysam.SamtoolsError as error:
        told = str(error).strip().splitlines()
        raise InputError(f"{out}: samtools could not finish it ({told[-1][:200] if told else 'error'})") from None
    index = out.with_name(out.name + ".bai")
    index.unlink(missing_ok=True)  # never an old index beside a new file
    Path(marked).replace(out)
    Path(marked + ".bai").replace(index)
