"""VCF and BCF files of many people: genotypes as htslib reads them, dosages, probabilities, bad lines counted."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.genome.genotypes.formats.vcf import Vcf, open_vcf
from careloop.genome.genotypes.open_genotypes import open_genotypes
from careloop.genome.genotypes.source import MISSING

GT = '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">'
DS = '##FORMAT=<ID=DS,Number=A,Type=Float,Description="Dosage">'
GP = '##FORMAT=<ID=GP,Number=G,Type=Float,Description="Probabilities">'
GQ = '##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="Quality">'


def write(path: Path, lines: list[str], *formats: str, samples: int = 3) -> Path:
    names = "".join(f"\ts{number}" for number in range(samples))
    head = ["##fileformat=VCFv4.3", "##contig=<ID=20,length=63025520>", *formats]
    text = "\n".join([*head, f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT{names}", *lines]) + "\n"
    path.write_text(text)
    return path


def line(position: int, alt: str, keys: str, *samples: str, ref: str = "A") -> str:
    return "\t".join(["20", str(position), ".", ref, alt, ".", ".", ".", keys, *samples])


def opened(path: Path) -> Vcf:
    source = open_genotypes(path)
    assert isinstance(source, Vcf)
    return source


ALLELE = st.one_of(st.just("."), st.integers(0, 11).map(str))
DIPLOID = st.tuples(ALLELE, st.sampled_from("/|"), ALLELE).map("".join)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["GT", "GT:GQ"]), st.lists(st.one_of(ALLELE, DIPLOID), min_size=3, max_size=3)),
        min_size=1,
        max_size=4,
    )
)
def test_genotypes_as_htslib_reads_them(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    """Twelve alleles, so that some have two digits; the other reader gives each sample's alleles by pysam."""
    alternatives = ",".join("A" * (number + 2) for number in range(11))
    lines = [
        line(place + 1, alternatives, keys, *[text + (":7" if keys != "GT" else "") for text in texts])
        for place, (keys, texts) in enumerate(rows)
    ]
    path = write(tmp_path_factory.mktemp("vcf") / "any.vcf", lines, GT, GQ)
    expected = []
    with pysam.VariantFile(str(path)) as file:
        for record in file:
            alleles = [record.samples[name]["GT"] for name in file.header.samples]
            expected += [
                [MISSING if None in each else each.count(number) * 2 // len(each) for each in alleles]
                for number in range(1, 12)
            ]
    np.testing.assert_array_equal(opened(path).genotypes(slice(None)), expected)


def test_one_copy_counts_twice_and_a_half_call_is_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "a.vcf", [line(5, "C", "GT", "1", "0/.", "|1")], GT)
    source = opened(path)
    assert source.genotypes(slice(None)).tolist() == [[2, MISSING, 2]]
    assert source.hard_calls
    assert source.build == "GRCh37"
    assert source.variants.rows() == [("20", 5, ".", "A", "C")]


def test_dosages_by_ds_else_gt(tmp_path: Path) -> None:
    lines = [
        line(5, "C", "GT:DS", "0/1:0.97", "0/0:.", "1/1"),
        line(6, "C,G", "GT:GQ:DS", "0/1:3:0.7,1.3", ".:3:0.5,0.25", "1:3:1,0"),
        line(7, "C", "GT", "0/1", "./.", "1/1"),
        line(8, "C", "DS", "0.1234", "1.93", "."),
    ]
    source = opened(write(tmp_path / "a.vcf", lines, GT, DS, GQ))
    expected = [[0.97, 0, 2], [0.7, 1, 2], [1.3, 0.5, 0], [1, np.nan, 2], [0.1234, 1.93, np.nan]]
    np.testing.assert_allclose(source.dosages(slice(None)), expected, atol=1e-6)
    assert source.genotypes(np.array([0, 1, 4])).tolist() == [[1, 0, 2], [MISSING, 1, 2], [MISSING, 2, MISSING]]
    assert not source.hard_calls


def test_probabilities_where_there_is_neither_gt_nor_ds(tmp_path: Path) -> None:
    lines = [line(5, "C", "GP", "0.1,0.7,0.2", "0.25,0.75", "."), line(6, "C,G", "GP", "0,.1,.2,.3,.4,0", ".", "0,1,0")]
    source = opened(write(tmp_path / "a.vcf", lines, GP))
    expected = [[1.1, 1.5, np.nan], [0.1 + 0.4 + 0.4, np.nan, 2], [0.3 + 0.4, np.nan, 0]]
    np.testing.assert_allclose(source.dosages(slice(None)), expected, atol=1e-6)


def test_bad_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    lines = [
        line(1, "C", "GT", "0/0", "0/1", "1/1"),
        line(2, "C", "GT", "0/0", "0/1"),
        line(3, "C", "GT", "0/0", "0/2", "1/1"),
        line(4, "C", "GT", "0/0/1", "0/1", "1/1"),
        line(5, "C", "GT", "0/0", "x", "1/1"),
        line(6, "C!", "GT", "0/0", "0/1", "1/1"),
        line(7, "C", "GT:DS", "0/0:0", "0/1:high", "1/1:2"),
        line(8, "C", "GT:DS", "0/0:0", "0/1:0,1", "1/1:2"),
        "20\t9\t.\tA\tC",
        line(10, "G", "GT", "1/1", "0/1", "./."),
    ]
    source = opened(write(tmp_path / "a.vcf", lines, GT, DS))
    assert source.variants["position"].to_list() == [1, 10]
    assert source.genotypes(slice(None)).tolist() == [[0, 1, 2], [2, 1, MISSING]]
    assert source.rejects.total == 8
    assert [bad.place for bad in source.rejects.lines] == [f"record {number}" for number in range(2, 10)]


def test_reference_sites_have_a_row_and_other_alleles_of_a_gvcf_none(tmp_path: Path) -> None:
    lines = [
        line(1, ".", "GT", "0/0", "0/0", "./."),
        line(2, "<NON_REF>", "GT", "0/0", "0/0", "0/0"),
        line(3, "<NON_REF>,C", "GT", "0/2", "0/0", "2/2"),
    ]
    source = opened(write(tmp_path / "a.vcf", lines, GT))
    assert source.variants.select("position", "alt").rows() == [(1, "."), (3, "C")]
    assert source.genotypes(slice(None)).tolist() == [[0, 0, MISSING], [1, 0, 2]]


def test_packed_and_binary_files_are_read_alike(tmp_path: Path) -> None:
    lines = [line(place, "C,G", "GT", "0/1", "2|2", "./.") for place in range(1, 700)]
    path = write(tmp_path / "a.vcf", lines, GT)
    (tmp_path / "b.vcf.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pysam.VariantFile(str(path)) as read:
        out = pysam.VariantFile(str(tmp_path / "c.bcf"), "wb", header=read.header)
        for record in read:
            out.write(record)
        out.close()
    (tmp_path / "d.vcf").write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    expected = opened(path)
    for name in ("b.vcf.gz", "c.bcf", "d.vcf"):
        source = opened(tmp_path / name)
        assert source.variants.equals(expected.variants)
        np.testing.assert_array_equal(source.genotypes(slice(None)), expected.genotypes(slice(None)))


def test_cut_off_or_without_samples(tmp_path: Path) -> None:
    path = write(tmp_path / "a.vcf", [line(place, "C", "GT", "0/1", "1/1", "0/0") for place in range(1, 9999)], GT)
    (tmp_path / "cut.vcf.gz").write_bytes(gzip.compress(path.read_bytes())[:-400])
    with pytest.raises(InputError, match="ends early"):
        open_vcf(tmp_path / "cut.vcf.gz")
    with pytest.raises(InputError, match="no sample"):
        open_vcf(write(tmp_path / "none.vcf", [], samples=0))


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "kept"))
    (tmp_path / "kept").mkdir()
    source = opened(write(tmp_path / "a.vcf", [line(1, "C", "GT", "0/1", "1/1", "0/0")], GT))
    assert len(list((tmp_path / "kept").iterdir())) == 1
    del source
    assert list((tmp_path / "kept").iterdir()) == []


def test_as_plink2_writes_one_copy(cohort_bed: Path, tmp_path: Path, plink2: Callable[..., None]) -> None:
    plink2("--bfile", cohort_bed.with_suffix(""), "--export", "vcf", "bgz", "--out", tmp_path / "made")
    expected, source = open_genotypes(cohort_bed), open_genotypes(tmp_path / "made.vcf.gz")
    assert source.variants.equals(expected.variants)
    np.testing.assert_array_equal(source.genotypes(slice(None)), expected.genotypes(slice(None)))


def test_dosages_of_one_copy_are_plink2s(tmp_path: Path, plink2: Callable[..., None]) -> None:
    text = line(5_000_000, "C", "GT:DS", "1:0.7", "0/1:0.7", "0:0.2").replace("20", "X", 1)
    path = write(tmp_path / "x.vcf", [text], GT, DS, "##contig=<ID=X,length=155270560>")
    (tmp_path / "sex").write_text("#IID SEX\ns0 1\ns1 2\ns2 1\n")
    plink2("--vcf", path, "dosage=DS", "--update-sex", tmp_path / "sex", "--make-pgen", "--out", tmp_path / "x")
    theirs = open_genotypes(tmp_path / "x.pgen").dosages(slice(None))
    np.testing.assert_allclose(opened(path).dosages(slice(None)), theirs, atol=1e-4)
    np.testing.assert_allclose(theirs, [[1.4, 0.7, 0.4]], atol=1e-4)
