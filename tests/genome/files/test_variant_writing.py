"""Variant files are written so that bcftools reads the same, whole or not at all."""

from __future__ import annotations

import dataclasses
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.genome.files.variant_file import open_variants
from careloop.genome.files.variant_header import VariantHeader, new_header
from careloop.genome.files.variant_writing import record_line, write_variants
from careloop.genome.variant import Record, SampleCall

pysam = pytest.importorskip("pysam")
pytest.importorskip("pysam.bcftools")
TRAILING = re.compile(r"(:[.,]+)+(?=\t|$)")  # missing values at a sample's end, which may be left out
LINES = (
    '##FILTER=<ID=low,Description="Low">',
    '##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">',
    '##INFO=<ID=NOTE,Number=.,Type=String,Description="Notes">',
    '##INFO=<ID=DB,Number=0,Type=Flag,Description="Known">',
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
    '##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="Quality">',
    '##FORMAT=<ID=AD,Number=R,Type=Integer,Description="Depths">',
    '##FORMAT=<ID=GP,Number=G,Type=Float,Description="Probabilities">',
)
HEADER = new_header({"20": 63025520, "X": 155270560}, ["A", "B"], lines=LINES)


def some_records(count: int, *, seed: int = 1) -> Iterator[Record]:
    draw = random.Random(seed)
    start = 100
    for number in range(count):
        start += draw.randint(0, 50)
        ref = draw.choice(["A", "CG", "TTT"])
        alts = tuple(draw.sample(["G", "GG", "*", "<DEL>"], draw.randint(0, 2)))
        samples = {
            name: SampleCall(
                tuple(draw.choice([None, *range(len(alts) + 1)]) for _ in range(draw.randint(1, 3))),
                draw.random() < 0.5,
                {"GQ": draw.choice([None, 7]), "AD": tuple(draw.choice([None, 3]) for _ in range(len(alts) + 1))},
            )
            for name in ("A", "B")
        }
        info = {"DP": draw.randint(0, 9), "NOTE": ("a;b", "50%,=:", None)} | ({"DB": True} if number % 2 else {})
        quality = draw.choice([None, 0.5, 30.0])
        filters = draw.choice([(), ("PASS",), ("low",)])
        yield Record(
            "20", start, start + len(ref), ref, alts, draw.choice(["", "rs1"]), quality, filters, info, samples
        )


def haploid_unphased(record: Record) -> Record:
    """The record with what a GT cannot say taken back: whether one allele alone is phased."""
    samples = {
        name: SampleCall(call.alleles, call.phased and len(call.alleles) > 1, call.fields)
        for name, call in record.samples.items()
    }
    return Record(
        record.contig, record.start, record.end, record.ref, record.alts, record.identifier, record.quality,
        record.filters, dict(record.info), samples,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["out.vcf", "out.vcf.gz", "out.vcf.bgz", "out.bcf"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    written = list(some_records(60))
    assert write_variants(path, HEADER, written) == 60
    file = open_variants(path)
    assert list(file) == [haploid_unphased(record) for record in written]
    assert (file.header.samples, file.header.contigs, file.header.build) == (("A", "B"), HEADER.contigs, "GRCh37")
    assert file.rejects.total == 0
    assert (file.index is not None) == (name != "out.vcf")
    if file.index is not None:
        assert {r.start for r in file.records("20:500-700")} == {
            r.start for r in written if r.end > 499 and r.start < 700
        }
        with pysam.VariantFile(str(path)) as other:
            assert sum(1 for _ in other.fetch("20", 0, 10**6)) == 60
    assert [left.name for left in tmp_path.iterdir() if left.name.startswith(".")] == []


def test_a_valid_file_keeps_its_lines_through_bcftools(tmp_path: Path) -> None:
    path = tmp_path / "out.vcf"
    write_variants(path, HEADER, some_records(40))
    body = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    read = pysam.bcftools.view("-H", str(path)).splitlines()
    assert [TRAILING.sub("", line) for line in read] == [TRAILING.sub("", line) for line in body]


def test_what_comes_from_a_file_unchanged_keeps_its_text(tmp_path: Path) -> None:
    text = "20 5 . A C . . GENEINFO=BRCA1:672;B=1,2;DP=007 GT:GQ:AD 0/1:9 1/1:.:3,4".replace(" ", "\t")
    columns = "#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT A B".replace(" ", "\t")
    (tmp_path / "in.vcf").write_text("\n".join(["##fileformat=VCFv4.2", *LINES, columns, text]) + "\n")
    file = open_variants(tmp_path / "in.vcf")
    write_variants(tmp_path / "out.vcf", file.header, file)
    assert (tmp_path / "out.vcf").read_text().splitlines()[-1] == text
    write_variants(tmp_path / "b.vcf", file.header.with_samples(["B", "new"]), file)
    assert (tmp_path / "b.vcf").read_text().splitlines()[-1].endswith("GT:GQ:AD\t1/1:.:3,4\t.")
    (changed,) = (dataclasses.replace(record, info={"GENEINFO": record.info["GENEINFO"]}) for record in file)
    assert record_line(changed, ()).endswith("GENEINFO=BRCA1:672"), "a colon is no delimiter of INFO"


def test_nothing_is_left_of_a_file_that_was_not_finished(tmp_path: Path) -> None:
    def breaking() -> Iterator[Record]:
        yield from some_records(5)
        raise RuntimeError("killed")

    for name in ("out.vcf", "out.vcf.gz", "out.bcf"):
        path = tmp_path / name
        write_variants(path, HEADER, some_records(3))
        before = path.read_bytes()
        with pytest.raises(RuntimeError):
            write_variants(path, HEADER, breaking())
        assert path.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {
        "out.vcf", "out.vcf.gz", "out.vcf.gz.tbi", "out.bcf", "out.bcf.csi",
    }  # fmt: skip


def test_records_out_of_order_cannot_be_indexed(tmp_path: Path) -> None:
    one, two = Record("20", 5, 6, "A", ("C",)), Record("X", 5, 6, "A", ("C",))
    for records in ([Record("20", 9, 10, "A", ("C",)), one], [one, two, one]):
        with pytest.raises(InputError, match="in order"):
            write_variants(tmp_path / "out.vcf.gz", HEADER, records)
    assert list(tmp_path.iterdir()) == []
    assert write_variants(tmp_path / "out.vcf", HEADER, [two, one]) == 2


def test_other_endings_and_missing_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ending in"):
        write_variants(tmp_path / "out.txt", HEADER, [])
    with pytest.raises(InputError, match="cannot be written"):
        write_variants(tmp_path / "none" / "out.vcf", HEADER, [])


def test_a_record_of_undefined_keys_is_refused_as_bcf_or_read_again(tmp_path: Path) -> None:
    record = Record("20", 5, 6, "A", ("C",), info={"NEW": 3})
    write_variants(tmp_path / "out.vcf", new_header({"20": None}), [record])
    assert next(iter(open_variants(tmp_path / "out.vcf"))).info == {"NEW": "3"}


def test_long_contigs_get_a_csi_index(tmp_path: Path) -> None:
    header = new_header({"long": 2**30})
    record = Record("long", 2**29 + 5, 2**29 + 6, "A", ("C",))
    write_variants(tmp_path / "out.vcf.gz", header, [record])
    assert (tmp_path / "out.vcf.gz.csi").exists()
    assert list(open_variants(tmp_path / "out.vcf.gz").records(f"long:{2**29 + 6}")) == [record]


def test_headers_are_extended_and_older_versions_written_as_4_3(tmp_path: Path) -> None:
    header = HEADER.with_lines('##INFO=<ID=DP,Number=1,Type=Float,Description="New">', "##source=careloop")
    header = header.with_samples(["C"])
    assert (header.infos["DP"].kind, header.callers, header.samples) == ("Float", ("careloop",), ("C",))
    assert sum("ID=DP," in line for line in header.lines) == 1
    old = VariantHeader((), {"20": None}, "unknown", version="4.1", lines=("##contig=<ID=20>",))
    write_variants(tmp_path / "out.vcf", old, [])
    assert (tmp_path / "out.vcf").read_text().startswith("##fileformat=VCFv4.3\n")
    with pytest.raises(InputError, match="another one"):
        new_header({}, ["A", "A"])


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8), min_size=1))
def test_any_text_comes_through_an_info_value(tmp_path: Path, texts: list[str]) -> None:
    path = tmp_path / "text.vcf"
    write_variants(path, HEADER, [Record("20", 5, 6, "A", ("C",), info={"NOTE": tuple(texts)})])
    (record,) = open_variants(path)
    assert record.info["NOTE"] == tuple(None if text == "." else text for text in texts)
