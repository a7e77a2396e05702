"""References and aligned reads are opened with clear errors; FASTQ pairs are aligned to where they were drawn from."""

from __future__ import annotations

import contextlib
import gzip
import pickle
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.genome.files.align import align_reads
from careloop.genome.files.builds import reference_agreement, require_reference_bases
from careloop.genome.files.fastq import read_fastq, read_fragments
from careloop.genome.files.reads import index_reads, open_reads, sample_of
from careloop.genome.files.reference import open_reference
from careloop.genome.variant import Record

pysam = pytest.importorskip("pysam")
pytest.importorskip("pysam.samtools")
DRAW = random.Random(5)
SEQUENCE = "".join(DRAW.choices("ACGT", k=20_000))
COMPLEMENT = str.maketrans("ACGT", "TGCA")
FUZZ = settings(
    max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "ref.fa"
    lines = [SEQUENCE[i : i + 60] for i in range(0, len(SEQUENCE), 60)]
    path.write_text(">chr20 simulated\n" + "\n".join(lines) + "\n>21\nacgtNRac\n")
    return path


def write_reads(path: Path, *, header: dict[str, Any] | None = None, starts: tuple[int, ...] = (10, 20, 30)) -> Path:
    given_header = header or {
        "HD": {"VN": "1.6", "SO": "coordinate"},
        "SQ": [{"SN": "chr20", "LN": len(SEQUENCE)}, {"SN": "21", "LN": 8}],
        "RG": [{"ID": "1", "SM": "S1"}],
    }
    with pysam.AlignmentFile(str(path), "wb", header=given_header) as file:
        for number, start in enumerate(starts):
            read = pysam.AlignedSegment(file.header)
            read.query_name, read.reference_id, read.reference_start = f"r{number}", 0, start
            read.query_sequence, read.cigarstring, read.mapping_quality = SEQUENCE[start : start + 50], "50M", 60
            read.query_qualities = pysam.qualitystring_to_array("I" * 50)
            file.write(read)
    return path


def test_bases_are_upper_case_by_any_name_and_cut_off_at_the_ends(fasta: Path) -> None:
    with open_reference(fasta) as reference:
        assert reference.contigs == {"chr20": 20_000, "21": 8}
        assert reference.fetch("20", 100, 160) == SEQUENCE[100:160]
        assert reference.fetch("chr21", -5, 50) == "ACGTNRAC"
        assert reference.fetch("21", 9, 20) == ""
        assert pickle.loads(pickle.dumps(reference)).fetch("21", 0, 2) == "AC"
        with pytest.raises(InputError, match="no contig 'chr7'"):
            reference.fetch("chr7", 0, 1)


def test_a_bgzip_reference_is_read_and_a_gzip_one_refused(fasta: Path, tmp_path: Path) -> None:
    pysam.tabix_compress(str(fasta), str(tmp_path / "ref.fa.gz"))
    with open_reference(tmp_path / "ref.fa.gz") as reference:
        assert reference.fetch("chr20", 19_990, 20_010) == SEQUENCE[-10:]
    (tmp_path / "plain.fa.gz").write_bytes(gzip.compress(fasta.read_bytes()))
    with pytest.raises(InputError, match="must be bgzip"):
        open_reference(tmp_path / "plain.fa.gz")


@FUZZ
@given(st.binary(max_size=200), st.sampled_from([b"", b">chr1\n", b"\x1f\x8b\x08\x04"]))
def test_random_bytes_as_a_reference_are_an_input_error_or_opened(tmp_path: Path, data: bytes, start: bytes) -> None:
    path = tmp_path / "random.fa"
    path.write_bytes(start + data)
    for ending in (".fai", ".gzi"):
        Path(str(path) + ending).unlink(missing_ok=True)
    with contextlib.suppress(InputError):
        open_reference(path).close()


def test_a_file_made_on_another_reference_is_refused_by_its_ref_bases(fasta: Path) -> None:
    reference = open_reference(fasta)
    own = [Record("20", i, i + 1, SEQUENCE[i], ("N",)) for i in range(0, 4000, 40)]
    other = [Record("20", i, i + 1, SEQUENCE[i + 7], ("N",)) for i in range(0, 4000, 40)]
    elsewhere = [Record("7", i, i + 1, "A", ("C",)) for i in range(50)]
    assert require_reference_bases([*own, *elsewhere], reference, where="f").share == 1
    assert reference_agreement(other, reference).share < 0.5
    with pytest.raises(InputError, match="must be the reference's bases"):
        require_reference_bases(other, reference, where="f")
    assert require_reference_bases(other[:10], reference, where="f").compared == 10, "too few to tell"


def test_reads_are_opened_with_their_sample(fasta: Path, tmp_path: Path) -> None:
    path = write_reads(tmp_path / "reads.bam")
    index_reads(path)
    with open_reference(fasta) as reference, open_reads(path, reference) as file:
        assert sample_of(file) == "S1"
        assert [read.reference_start for read in file.fetch("chr20", 0, 15)] == [10]


def test_cram_is_read_with_its_reference_and_refused_when_cut_off(fasta: Path, tmp_path: Path) -> None:
    path = tmp_path / "reads.cram"
    bam = write_reads(tmp_path / "reads.bam")
    pysam.samtools.view("-C", "-T", str(fasta), "-o", str(path), str(bam), catch_stdout=False)
    index_reads(path)
    with open_reference(fasta) as reference, open_reads(path, reference) as file:
        assert next(read.query_sequence for read in file.fetch("chr20")) == SEQUENCE[10:60]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="ends early"):
        open_reads(path)


def test_reads_cut_off_without_index_or_unsorted_are_refused_with_the_remedy(tmp_path: Path) -> None:
    path = write_reads(tmp_path / "reads.bam")
    with pytest.raises(InputError, match=r"samtools index .*reads\.bam"):
        open_reads(path)
    unsorted = {"HD": {"VN": "1.6", "SO": "unsorted"}, "SQ": [{"SN": "chr20", "LN": 20_000}]}
    with pytest.raises(InputError, match="samtools sort"):
        open_reads(write_reads(tmp_path / "unsorted.bam", header=unsorted))
    with pytest.raises(InputError, match="samtools sort"):
        index_reads(write_reads(tmp_path / "disorder.bam", starts=(30, 10)))
    cut = tmp_path / "cut.bam"
    cut.write_bytes(path.read_bytes()[:-28])
    with pytest.raises(InputError, match="ends early"):
        open_reads(cut)
    sam = tmp_path / "reads.sam"
    sam.write_text("@HD\tVN:1.6\n")
    with pytest.raises(InputError, match="SAM is text"):
        open_reads(sam)
    with pytest.raises(InputError, match="no such file"):
        open_reads(tmp_path / "none.bam")


@pytest.mark.parametrize(
    ("contigs", "message"),
    [
        ({"chr20": 19_999}, "chr20 has 19,999 bases here and 20,000"),
        ({"20": 20_000}, "20 here is chr20 in"),
        ({"7": 100}, "7 are not in"),
        ({"chr20": 20_000, "1": 248956422, "2": 243199373}, "of one assembly"),
    ],
)
def test_reads_on_other_contigs_are_refused(fasta: Path, tmp_path: Path, contigs: dict[str, int], message: str) -> None:
    header = {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": n, "LN": size} for n, size in contigs.items()]}
    path = write_reads(tmp_path / "reads.bam", header=header, starts=())
    index_reads(path)
    with open_reference(fasta) as reference, pytest.raises(InputError, match=message):
        open_reads(path, reference)


def test_reads_of_several_samples_are_refused(tmp_path: Path) -> None:
    groups = [{"ID": str(number), "SM": f"S{number}"} for number in range(2)]
    header = {"HD": {"SO": "coordinate", "VN": "1.6"}, "SQ": [{"SN": "chr20", "LN": 20_000}], "RG": groups}
    path = write_reads(tmp_path / "reads.bam", header=header)
    index_reads(path)
    with open_reads(path) as file, pytest.raises(InputError, match="of one sample; it has S0, S1"):
        sample_of(file)


@FUZZ
@given(st.binary(max_size=200), st.sampled_from([b"", b"BAM\1", b"CRAM\3\0", b"\x1f\x8b\x08\x04", b"@HD\t"]))
def test_random_bytes_as_reads_are_an_input_error(tmp_path: Path, data: bytes, start: bytes) -> None:
    path = tmp_path / "random.bam"
    path.write_bytes(start + data)
    with pytest.raises(InputError):
        open_reads(path)


def fastq_pair(folder: Path, count: int) -> tuple[Path, Path]:
    """Simulated pairs whose names hold where they were drawn from; every tenth is a duplicate of the one before."""
    texts: list[list[str]] = [[], []]
    start, size = 0, 300
    for number in range(count):
        if number % 10:
            start, size = DRAW.randint(0, 19_000), DRAW.randint(250, 450)
        ends = SEQUENCE[start : start + 100], SEQUENCE[start + size - 100 : start + size].translate(COMPLEMENT)[::-1]
        for mate, bases in enumerate(ends):
            texts[mate].append(f"@p{number}:{start}:{size}/{mate + 1} x\n{bases}\n+\n{'I' * 100}\n")
    paths = folder / "1.fq.gz", folder / "2.fq"
    paths[0].write_bytes(gzip.compress("".join(texts[0]).encode()))
    paths[1].write_text("".join(texts[1]))
    return paths


def test_pairs_are_aligned_where_they_were_drawn_from(fasta: Path, tmp_path: Path) -> None:
    pytest.importorskip("mappy")
    heard: list[tuple[str, int, int]] = []
    summary = align_reads(
        fastq_pair(tmp_path, 4000), fasta, out=tmp_path / "out.bam", sample="S1", threads=2,
        progress=lambda *told: heard.append(told),
    )  # fmt: skip
    assert (summary.fragments, summary.reads) == (4000, 8000)
    assert heard[0] == ("align", 2000, 0)
    with open_reference(fasta) as reference, open_reads(tmp_path / "out.bam", reference) as file:
        assert sample_of(file) == "S1"
        reads = list(file.fetch())
    right = proper = duplicates = 0
    for read in reads:
        _, start, size = read.query_name.split(":")
        expected = int(start) if read.is_read1 else int(start) + int(size) - 100
        right += read.reference_start == expected and read.is_reverse == read.is_read2
        proper += read.is_proper_pair and abs(read.template_length) == int(size)
        duplicates += read.is_duplicate
    assert summary.mapped == len(reads) >= 0.999 * 8000
    assert right >= 0.99 * 8000
    assert proper >= 0.98 * 8000
    assert duplicates >= 0.99 * 2 * 400
    assert not [left for left in tmp_path.iterdir() if left.name.startswith(".align")]


def test_unpaired_and_unplaceable_reads_are_written_too(fasta: Path, tmp_path: Path) -> None:
    pytest.importorskip("mappy")
    path = tmp_path / "one.fq"
    path.write_text(f"@a\n{SEQUENCE[500:600]}\n+\n{'I' * 100}\n@b\n{'AC' * 50}\n+\n{'I' * 100}\n@c\n\n+\n\n")
    summary = align_reads([path], fasta, out=tmp_path / "one.bam", sample="S1")
    assert (summary.fragments, summary.mapped) == (3, 1)
    with open_reads(tmp_path / "one.bam") as file:
        assert next((read.query_name, read.is_unmapped) for read in file.fetch(until_eof=True)) == ("a", False)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("@a\nAC\n+\nII\n", "@b\nAC\n+\nII\n", "another name"),
        ("@a\nAC\n+\nII\n@b\nAC\n+\nII\n", "@a\nAC\n+\nII\n", "ends after 1"),
        ("@a\nAC\n+\nI\n", "", "line 1 is not"),
        ("@a\nAC\n+\nII\n@b\nA", "@a\nAC\n+\nII\n", "file ends within that of line 5"),
        (">a\nAC\n", "", "file ends within"),
    ],
)
def test_bad_fastq_is_refused_with_its_line(tmp_path: Path, first: str, second: str, message: str) -> None:
    paths = tmp_path / "1.fq", tmp_path / "2.fq"
    for path, text in zip(paths, (first, second), strict=True):
        path.write_text(text)
    with pytest.raises(InputError, match=message):
        list(read_fragments(paths))


def test_a_cut_off_fastq_leaves_no_bam(fasta: Path, tmp_path: Path) -> None:
    pytest.importorskip("mappy")
    first, second = fastq_pair(tmp_path, 3000)
    first.write_bytes(first.read_bytes()[:-500])
    with pytest.raises(InputError, match="ends early"):
        align_reads([first, second], fasta, out=tmp_path / "out.bam", sample="S1")
    assert not (tmp_path / "out.bam").exists()


@FUZZ
@given(st.binary(max_size=100), st.sampled_from([b"", b"@a\nAC\n+\nII\n", b"\x1f\x8b"]))
def test_random_bytes_as_fastq_are_an_input_error_or_reads(tmp_path: Path, data: bytes, start: bytes) -> None:
    path = tmp_path / "random.fq"
    path.write_bytes(start + data)
    with contextlib.suppress(InputError):
        list(read_fastq(path))
