"""VCF and BCF are read as pysam reads them; bad lines are counted, cut files refused, random bytes do no harm."""

from __future__ import annotations

import contextlib
import gzip
import os
import pickle
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.genome.files.variant_file import open_variants
from careloop.genome.files.variant_writing import record_line
from careloop.genome.variant import Record

pysam = pytest.importorskip("pysam")
pytest.importorskip("pysam.bcftools")

HEADER = """##fileformat=VCFv4.3
##FILTER=<ID=PASS,Description="All filters passed">
##FILTER=<ID=q10,Description="Low">
##FILTER=<ID=s50,Description="Few">
##reference=file:///data/hg19.fa
##source=freebayes v1.3
##contig=<ID=20,length=63025520>
##contig=<ID=X,length=155270560>
##contig=<ID=HLA-A*01:01>
##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth, Number=2">
##INFO=<ID=AF,Number=A,Type=Float,Description="Frequency">
##INFO=<ID=DB,Number=0,Type=Flag,Description="In dbSNP">
##INFO=<ID=ANN,Number=.,Type=String,Description="Consequence">
##INFO=<ID=GENE,Number=1,Type=String,Description="Gene">
##INFO=<ID=END,Number=1,Type=Integer,Description="End">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
##FORMAT=<ID=DP,Number=1,Type=Integer,Description="Depth">
##FORMAT=<ID=AD,Number=R,Type=Integer,Description="Depths">
##FORMAT=<ID=GP,Number=G,Type=Float,Description="Probabilities">
##FORMAT=<ID=PS,Number=1,Type=Integer,Description="Phase set">
##FORMAT=<ID=FT,Number=1,Type=String,Description="Filter">
"""
COLUMNS = "#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT S1 S2 S3"
LINES = [
    "20 1000 rs1 G A 50.5 PASS DP=10;AF=0.5;DB GT:DP:AD:PS 0|1:10:5,5:1000 1/1:.:.,. ./.",
    "20 1001 . GAT G,GATAT . q10;s50 AF=.,0.25;ANN=a|b,c GT:AD:GP 1/2:1,2,3:0.1,0.2,0.3,0.1,0.2,0.1 0/.:. .|1",
    "20 2000 rs3;rs4 T * 0 . GENE=CYP2C19 GT:DP:FT 0/1:3:PASS 1:4:q10;s50 .",
    "20 2010 . C <DEL> 9 PASS END=2500 GT 0/1 0/0 0/1",
    "20 2600 . C <NON_REF> . . END=2700 GT:DP 0/0:20 0/0:3 ./.:0",
    "20 2700 . A . 30 PASS . GT:DP 0/0:9 0/0:8 0/0:7",
    "20 2800 . A C]X:100] 30 PASS DP=. GT 0/1 0/0 0/0",
    "X 100 . N C 1e3 PASS DP=4 GT:DP 0:1 1:2 0/1:3",
    "HLA-A*01:01 5 . A C 3 PASS DP=4 GT:DP 0/0/1:1 0|1|1:2 ./0/1:3",
]


def text_of(lines: list[str], *, header: str = HEADER, columns: str = COLUMNS) -> str:
    return header + "\n".join(line.replace(" ", "\t") for line in [columns, *lines]) + "\n"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "all.vcf"
    path.write_text(text_of(LINES))
    return path


def packed(path: Path) -> Path:
    pysam.tabix_compress(str(path), str(path) + ".gz", force=True)
    return Path(str(path) + ".gz")


def binary(path: Path) -> Path:
    made = path.with_suffix(".bcf")
    pysam.bcftools.view("-Ob", "-o", str(made), str(path), catch_stdout=False)
    return made


def near(value: Any) -> Any:
    """Numbers as BCF's 32-bit floats keep them."""
    if isinstance(value, tuple):
        return tuple(map(near, value))
    return pytest.approx(value, rel=1e-6) if isinstance(value, float) else value


def assert_as_pysam(record: Record, other: Any, samples: tuple[str, ...]) -> None:
    assert (record.contig, record.start, record.ref, record.alts) == (
        other.contig,
        other.start,
        other.ref,
        other.alts or (),
    )
    assert (record.end, record.identifier or None) == (other.stop, other.id)
    assert record.quality == near(other.qual)
    assert record.filters == tuple(other.filter)
    # pysam takes END out of INFO; its `stop` was compared above
    assert {k: v for k, v in record.info.items() if k != "END"} == {k: near(v) for k, v in other.info.items()}
    for name in samples:
        call, given_call = record.samples[name], other.samples[name]
        assert call.alleles == given_call["GT"]
        assert call.phased == (given_call.phased if len(call.alleles) > 1 else False)
        for key in set(other.format) - {"GT"}:
            given = None if given_call[key] == "." else given_call[key]  # so pysam gives a sample's missing text
            assert call.fields[key] == near(given), (key, name)


@pytest.mark.parametrize("form", ["plain", "gzip", "bgzip", "bcf", "crlf"])
def test_records_are_those_that_pysam_reads(plain: Path, tmp_path: Path, form: str) -> None:
    path = {"bgzip": packed, "bcf": binary}.get(form, lambda path: path)(plain)
    if form == "gzip":
        path = tmp_path / "gzip.vcf.gz"
        path.write_bytes(gzip.compress(plain.read_bytes()))
    if form == "crlf":
        path = tmp_path / "crlf.vcf"
        path.write_bytes(plain.read_bytes().replace(b"\n", b"\r\n"))
    file = open_variants(path)
    with pysam.VariantFile(str(plain)) as other:
        expected = list(other)
        found = list(file.records())
        assert len(found) == len(expected) == len(LINES)
        for record, theirs in zip(found, expected, strict=True):
            assert_as_pysam(record, theirs, file.header.samples)
    assert file.rejects.total == 0


def test_header_says_samples_contigs_build_version_and_callers(plain: Path) -> None:
    header = open_variants(plain).header
    assert header.samples == ("S1", "S2", "S3")
    assert header.contigs == {"20": 63025520, "X": 155270560, "HLA-A*01:01": None}
    assert (header.build, header.version, header.callers) == ("GRCh37", "4.3", ("freebayes v1.3",))
    assert open_variants(binary(plain)).header.contigs == header.contigs


def test_bcftools_query_prints_the_same(plain: Path) -> None:
    told = pysam.bcftools.query("-f", "%CHROM %POS %REF %ALT %QUAL[ %GT]\n", str(plain)).splitlines()
    for record, line in zip(open_variants(plain), told, strict=True):
        contig, position, ref, alts, quality, *genotypes = line.split(" ")
        assert (record.contig, record.start + 1, record.ref) == (contig, int(position), ref)
        assert (",".join(record.alts) or ".") == alts
        assert record.quality == (None if quality == "." else float(quality))
        columns = record_line(record, ("S1", "S2", "S3")).split("\t")[9:]
        assert [column.split(":")[0] for column in columns] == genotypes


@pytest.mark.parametrize("form", ["plain", "bgzip", "bcf", "indexed bgzip", "indexed bcf"])
@pytest.mark.parametrize(
    ("region", "positions"),
    [
        ("20:1,001-2,000", [1001, 2000]),
        ("chr20:2300", [2010]),
        ("20:2701-", [2800]),
        ("chrX", [100]),
        ("HLA-A*01:01", [5]),
        ("20:2650-2700", [2600, 2700]),
        ("20:5000-6000", []),
    ],
)
def test_regions_are_the_same_with_and_without_an_index(
    plain: Path, form: str, region: str, positions: list[int]
) -> None:
    path = packed(plain) if "bgzip" in form else binary(plain) if "bcf" in form else plain
    if "indexed" in form:
        pysam.tabix_index(str(path), preset="bcf" if path.suffix == ".bcf" else "vcf", csi=True, force=True)
    file = open_variants(path)
    assert (file.index is not None) == ("indexed" in form)
    assert [record.start + 1 for record in file.records(region)] == positions


def test_a_region_of_no_contig_of_the_file_is_an_error(plain: Path) -> None:
    with pytest.raises(InputError, match="contig that the file does not have"):
        open_variants(plain).records("chr7:1-2")


BAD = {
    "20 1000 . G A . . .": "number of columns is not the header's",
    "20 1e3 . G A . . . GT 0/1 0/1 0/1": "POS is not a position",
    "20 99999999999 . G A . . . GT 0/1 0/1 0/1": "POS is not a position",
    "20 1000 . G? A . . . GT 0/1 0/1 0/1": "REF is not bases",
    "20 1000 . G A, . . . GT 0/1 0/1 0/1": "ALT is not bases, `*`, a symbolic allele or a breakend",
    "20 1000 . G A high . . GT 0/1 0/1 0/1": "QUAL is not a number",
    "20 1000 . G A . . . GT 0/1 0/2 0/1": "genotype has an allele that the line does not have",
    "20 1000 . G A . . . GT 0/1 0/ 0/1": "genotype is not written as in VCF",
}


def test_a_bad_line_is_counted_with_its_number_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bad.vcf"
    lines = [line for pair in zip(BAD, LINES, strict=False) for line in pair]
    path.write_text(text_of(lines))
    file = open_variants(path)
    assert len(list(file)) == len(BAD)
    assert file.rejects.reasons == {reason: list(BAD.values()).count(reason) for reason in BAD.values()}
    first = len(HEADER.splitlines()) + 2
    assert [(r.place, r.reason) for r in file.rejects.lines] == [
        (f"line {first + 2 * number}", reason) for number, reason in enumerate(BAD.values())
    ]
    list(file)
    assert file.rejects.total == len(BAD), "each pass counts anew"


def test_values_that_are_not_of_their_type_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "odd.vcf"
    path.write_text(text_of(["20 5 . G A . . DP=many;AF=x,0.5;NEW=1,2;FLAG;MQ0 GT:DP:AD 0/1:few:1,x 0/1 0/1"]))
    record = next(iter(open_variants(path)))
    assert dict(record.info) == {"DP": None, "AF": (None, 0.5), "NEW": "1,2", "FLAG": True, "MQ0": True}
    assert record.samples["S1"].fields == {"DP": None, "AD": (1, None)}


def test_escapes_are_read_from_4_3_on(tmp_path: Path) -> None:
    for version, expected in [("4.2", ("a%2Cb", "c%3Bd%zz")), ("4.3", ("a,b", "c;d%zz"))]:
        path = tmp_path / "escaped.vcf"
        path.write_text(
            text_of(["20 5 . G A . . ANN=a%2Cb,c%3Bd%zz GT 0/1 0/1 0/1"]).replace("VCFv4.3", f"VCFv{version}")
        )
        assert next(iter(open_variants(path))).info["ANN"] == expected


@pytest.mark.parametrize(
    ("text", "alleles", "phased"),
    [
        ("/0/1", (0, 1), False),
        ("|0|1", (0, 1), True),
        ("|0/1", (0, 1), False),
        ("/0|1", (0, 1), False),
        ("|1", (1,), True),
        ("/1", (1,), False),
    ],
)
def test_leading_phasing_of_4_4(tmp_path: Path, text: str, alleles: tuple[int, ...], phased: bool) -> None:
    path = tmp_path / "leading.vcf"
    path.write_text(text_of([f"20 5 . G A . . . GT {text} 0/1 0/1"]).replace("VCFv4.3", "VCFv4.4"))
    call = next(iter(open_variants(path))).samples["S1"]
    assert (call.alleles, call.phased) == (alleles, phased)


def test_ends_of_symbolic_alleles_and_blocks(tmp_path: Path) -> None:
    path = tmp_path / "ends.vcf"
    lines = [
        "20 100 . G <DEL> . . SVLEN=-50 GT 0/1 0/1 0/1",
        "20 100 . G <INS> . . SVLEN=50 GT 0/1 0/1 0/1",
        "20 100 . G <*> . . . GT:LEN 0/0:20 0/0:30 0/0:25",
        "20 100 . GAT <DEL> . . END=50 GT 0/1 0/1 0/1",
    ]
    path.write_text(text_of(lines).replace("VCFv4.3", "VCFv4.5"))
    assert [record.end for record in open_variants(path)] == [150, 100, 129, 102]


def test_sites_only_and_lines_without_format(tmp_path: Path) -> None:
    path = tmp_path / "sites.vcf"
    path.write_text(text_of(["20 5 . G A . . DP=3"], columns=COLUMNS.partition(" FORMAT")[0]))
    assert [dict(record.samples) for record in open_variants(path)] == [{}]
    path.write_text(text_of(["20 5 . G A . . DP=3 . . . ."]))
    assert next(iter(open_variants(path))).samples["S1"].alleles == ()


def test_records_cross_processes(plain: Path) -> None:
    record = next(iter(open_variants(plain)))
    again = pickle.loads(pickle.dumps(record))
    assert again == record
    assert again.samples["S1"].alleles == (0, 1)


def test_cut_off_files_are_refused(plain: Path, tmp_path: Path) -> None:
    rng = random.Random(1)
    bases = [rng.choice("ACGT") for _ in range(20_000)]
    lines = [
        f"20 {1000 + i} . {base} {'C' if base == 'A' else 'A'} . . . GT 0/1 0/1 0/1" for i, base in enumerate(bases)
    ]
    plain.write_text(text_of(lines))
    for whole in (packed(plain), binary(plain)):
        data = whole.read_bytes()
        for kept in (len(data) - 28, len(data) - 29, len(data) // 2, 100):  # without the end block, in it, in a block
            cut = tmp_path / f"cut{whole.suffix}"
            cut.write_bytes(data[:kept])
            with pytest.raises(InputError, match="ends early"):
                list(open_variants(cut))
    cut = tmp_path / "cut.vcf.gz"
    cut.write_bytes(gzip.compress(plain.read_bytes())[:-5000])
    file = open_variants(cut)
    with pytest.raises(InputError, match="ends early"):
        list(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a VCF or BCF file"),
        ("##fileformat=VCFv3.3\n", "must be 4.1 to 4.5"),
        (HEADER, "no column line"),
        (HEADER + "20\t5\n", "line #CHROM"),
        (text_of([], columns=COLUMNS + " S1"), "samples must have names"),
        (text_of([], header=HEADER + "##contig=<ID=1,length=248956422>\n"), "of one assembly"),
    ],
)
def test_files_that_are_no_vcf_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "no.vcf"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        open_variants(path)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        open_variants(tmp_path / "none.vcf")
    with pytest.raises(InputError):
        open_variants(tmp_path)


def test_an_index_older_than_its_file_is_not_used(plain: Path) -> None:
    path = packed(plain)
    pysam.tabix_index(str(path), preset="vcf", force=True)
    os.utime(path.with_name(path.name + ".tbi"), (1, 1))
    file = open_variants(path)
    assert file.index is None
    assert len(list(file.records("20:1000-1001"))) == 2


def read_all(path: Path) -> Iterator[Any]:
    """Everything that a file says, values included."""
    for record in open_variants(path):
        yield record.info and dict(record.info)
        yield [(call.alleles, call.phase_set, call.called) for call in record.samples.values()]


FUZZ = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(
    data=st.binary(max_size=300), prefix=st.sampled_from([b"", b"\x1f\x8b\x08", b"BCF\2\2", b"##fileformat=VCFv4.2\n"])
)
def test_random_bytes_are_an_input_error_or_nothing(tmp_path: Path, data: bytes, prefix: bytes) -> None:
    path = tmp_path / "random.vcf"
    path.write_bytes(prefix + data)
    with contextlib.suppress(InputError):
        list(read_all(path))


@FUZZ
@given(
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=3)), min_size=1, max_size=6),
    form=st.sampled_from(["plain", "bgzip", "bcf", "raw bcf"]),
)
def test_changed_bytes_are_an_input_error_or_rejected_lines(
    tmp_path: Path, changes: list[tuple[float, bytes]], form: str
) -> None:
    whole = tmp_path / "whole.vcf"
    whole.write_text(text_of(LINES))
    path = packed(whole) if form == "bgzip" else binary(whole) if "bcf" in form else whole
    data = bytearray(path.read_bytes())
    if form == "raw bcf":  # not packed, so that no checksum guards the bytes
        data = bytearray(gzip.decompress(bytes(data)))
    for place, new in changes:
        at = int(place * len(data))
        data[at : at + len(new)] = new
    path = tmp_path / f"changed{path.suffix}"
    path.write_bytes(bytes(data))
    with contextlib.suppress(InputError):
        list(read_all(path))
