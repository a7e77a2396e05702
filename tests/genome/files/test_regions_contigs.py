"""Names of contigs, assemblies, regions and BED files."""

from __future__ import annotations

import contextlib
import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.genome.files.builds import UNKNOWN, detect_build, require_same_build
from careloop.genome.files.contigs import build_of_accession, canonical_contig, renamer, same_contig
from careloop.genome.files.regions import END_OF_CONTIG, Region, Regions, parse_region, read_bed
from careloop.ingest.assemblies import ASSEMBLIES, build_of_length

INTERVALS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), max_size=12)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("chr20", "20"),
        ("Chr20", "20"),
        ("20", "20"),
        ("chrx", "X"),
        ("chrM", "MT"),
        ("MT", "MT"),
        ("NC_012920.1", "MT"),
        ("NC_000020.11", "20"),
        ("NC_000023.10", "X"),
        ("CM000682.2", "20"),
        ("CM000686.1", "Y"),
        ("NC_060925.1", "1"),
        ("NC_060948.1", "Y"),
        ("chr20_random", "chr20_random"),
        ("chrUn_gl000220", "chrUn_gl000220"),
        ("NC_000025.1", "NC_000025.1"),
        ("chr23", "chr23"),
        ("HLA-A*01:01", "HLA-A*01:01"),
    ],
)
def test_usual_names_of_chromosomes(name: str, plain: str) -> None:
    assert canonical_contig(name) == plain
    assert same_contig(name, plain)


def test_names_are_changed_with_lengths_checked() -> None:
    rename = renamer({"chr20": 64444167, "chrM": 16571, "chr1": None}, {"20": 64444167, "MT": 16569, "1": 248956422})
    assert [rename(name) for name in ("chr20", "chrM", "chr1", "chr2", "20")] == ["20", None, "1", None, "20"]
    assert renamer(["1"], ["chr1"])("1") == "chr1"
    with pytest.raises(InputError, match="must agree"):
        renamer({"chr20": 64444167}, {"20": 63025520})


def test_assembly_tables_add_up_to_the_published_totals() -> None:
    """UCSC chromInfo: the sums over chromosomes 1 to 22, X and Y of hg19, hg38 and hs1."""
    totals = {build: sum(sizes.values()) for build, sizes in ASSEMBLIES.items()}
    assert totals == {"GRCh37": 3095677412, "GRCh38": 3088269832, "T2T-CHM13v2.0": 3117275501}
    assert build_of_length("20", 63025520) == "GRCh37"


def test_builds_are_told_by_lengths_then_accessions_then_words() -> None:
    assert detect_build({"chr20": 64444167, "chrUn": 5}, words=["hg19.fa"], where="f") == "GRCh38"
    assert detect_build({"NC_000020.10": None}, where="f") == "GRCh37"
    assert build_of_accession("CM000682.2") == "GRCh38"
    assert build_of_accession("NC_060944.1") == "T2T-CHM13v2.0"
    assert detect_build({"20": None}, words=["/ref/GRCh38_full.fa"], where="f") == "GRCh38"
    assert detect_build({"20": None}, words=["hg19", "hg38"], where="f") == UNKNOWN
    assert detect_build({}, where="f") == UNKNOWN


def test_mixed_builds_are_refused() -> None:
    with pytest.raises(InputError, match="of one assembly"):
        detect_build({"1": 248956422, "2": 243199373}, where="f")
    assert require_same_build({"a": "GRCh38", "b": UNKNOWN, "c": "GRCh38"}) == "GRCh38"
    with pytest.raises(InputError, match="on one assembly; a is on GRCh37, b is on GRCh38"):
        require_same_build({"a": "GRCh37", "b": "GRCh38"})


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("chr20", Region("chr20", 0, END_OF_CONTIG)),
        ("chr20:1-2,000", Region("chr20", 0, 2000)),
        (" 20:5-5 ", Region("20", 4, 5)),
        ("20:1,000", Region("20", 999, 1000)),
        ("20:1000-", Region("20", 999, END_OF_CONTIG)),
    ],
)
def test_regions_are_read_as_users_type_them(text: str, region: Region) -> None:
    assert parse_region(text) == region
    assert parse_region(str(region)) == region


def test_regions_take_the_files_name_and_length() -> None:
    contigs = {"20": 1000, "HLA-A*01:01:01:01": 3000}
    assert parse_region("chr20:900-2000", contigs) == Region("20", 899, 1000)
    assert parse_region("HLA-A*01:01:01:01", contigs) == Region("HLA-A*01:01:01:01", 0, 3000)
    assert parse_region("HLA-A*01:01:01:01:5-9", contigs) == Region("HLA-A*01:01:01:01", 4, 9)
    for text in ("chr7", "20:1001-1002"):
        with pytest.raises(InputError):
            parse_region(text, contigs)


@pytest.mark.parametrize(
    "text", ["", ":", "20:", "20:0-5", "20:9-5", "20:a-b", "20:1-2-3", "20:-5", "20:" + "9" * 5000]
)
def test_what_is_no_region_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="chr20:1-2,000"):
        parse_region(text)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(INTERVALS, st.integers(0, 75), st.integers(1, 9))
def test_sets_of_regions_answer_as_sets_of_bases_do(intervals: list[tuple[int, int]], start: int, size: int) -> None:
    regions = Regions(Region("chr1", first, first + length) for first, length in intervals)
    bases = {base for first, length in intervals for base in range(first, first + length)}
    asked = set(range(start, start + size))
    assert regions.bases == len(bases)
    assert regions.covers("1", start, start + size) == (asked <= bases)
    assert regions.overlaps("1", start, start + size) == bool(asked & bases)
    parts = regions.within(Region("1", start, start + size))
    assert {base for part in parts for base in range(part.start, part.end)} == asked & bases
    assert {base for part in regions for base in range(part.start, part.end)} == bases
    assert not regions.overlaps("2", start, start + size)


def test_bed_files_with_headers_blanks_and_packing(tmp_path: Path) -> None:
    path = tmp_path / "covered.bed"
    text = "track name=x\r\n#comment\r\nchr1\t10\t20\tgene\r\n\r\n1 20 30\nX\t5\t6\n"
    for data in (text.encode(), gzip.compress(text.encode())):
        path.write_bytes(data)
        assert list(read_bed(path)) == [Region("chr1", 10, 30), Region("X", 5, 6)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1\t10\n", "line 1 is not"),
        ("chr1\t1\t2\nchr1\t20\t10\n", "line 2 is not"),
        ("chr1\t-1\t10\n", "line 1 is not"),
        ("chr1\t1\t" + "9" * 6000, "line 1 is not"),
        ("#nothing\n", "no interval"),
    ],
)
def test_a_bad_line_of_a_bed_file_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.bed"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_bed(path)


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=60), st.sampled_from([b"", b"\x1f\x8b", b"chr1\t5\t"]))
def test_random_bytes_as_bed_are_an_input_error_or_regions(tmp_path: Path, data: bytes, prefix: bytes) -> None:
    path = tmp_path / "random.bed"
    path.write_bytes(prefix + data)
    with contextlib.suppress(InputError):
        list(read_bed(path))
