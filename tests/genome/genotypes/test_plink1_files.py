"""PLINK 1 files are read as bed-reader reads them, written as they were, and refused where they do not fit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from careloop import InputError
from careloop.genome.genotypes.formats.plink1 import Plink1
from careloop.genome.genotypes.open_genotypes import open_genotypes
from careloop.genome.genotypes.source import MISSING, SAMPLES, VARIANTS
from careloop.genome.genotypes.write_bed import write_bed
from careloop.genome.simulate.cohort import SimulatedCohort

SIZES = st.tuples(st.integers(1, 30), st.integers(1, 13))


@pytest.fixture
def copied(cohort_bed: Path, tmp_path: Path) -> Path:
    for ending in (".bed", ".bim", ".fam"):
        shutil.copy(cohort_bed.with_suffix(ending), tmp_path)
    return tmp_path / "cohort"


def people(count: int) -> pl.DataFrame:
    return pl.DataFrame({"sample_id": [f"s{number}" for number in range(count)]}).select(
        pl.col(name) if name == "sample_id" else pl.lit(None, pl.String()).alias(name) for name in SAMPLES
    )


def sites(count: int) -> pl.DataFrame:
    numbers = range(1, count + 1)
    columns = ["1"] * count, list(numbers), [f"v{number}" for number in numbers], ["A"] * count, ["C"] * count
    return pl.DataFrame(dict(zip(VARIANTS, columns, strict=True)), schema=VARIANTS)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_genotypes_come_back_whole_and_in_parts(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    shape = data.draw(SIZES)
    genotypes = data.draw(arrays(np.int8, shape, elements=st.sampled_from([0, 1, 2, MISSING])))
    prefix = tmp_path_factory.mktemp("bed") / "any.name"
    write_bed(prefix, people(shape[1]), sites(shape[0]), [genotypes[:1], genotypes[1:]])
    source = open_genotypes(prefix)
    rows = np.array(sorted(data.draw(st.sets(st.integers(0, shape[0] - 1)))), np.int64)
    samples = np.array(data.draw(st.lists(st.integers(0, shape[1] - 1), min_size=1)), np.int64)
    np.testing.assert_array_equal(source.genotypes(slice(None)), genotypes)
    np.testing.assert_array_equal(source.genotypes(rows, samples), genotypes[np.ix_(rows, samples)])
    expected = np.where(genotypes == MISSING, np.nan, genotypes)[rows]
    np.testing.assert_array_equal(source.dosages(rows), expected.astype(np.float32))


def test_read_as_bed_reader_reads_it(cohort_bed: Path, cohort: SimulatedCohort) -> None:
    open_bed = pytest.importorskip("bed_reader").open_bed
    theirs = open_bed(cohort_bed).read(dtype="float32").T
    np.testing.assert_array_equal(open_genotypes(cohort_bed).dosages(slice(None)), theirs)
    np.testing.assert_array_equal(open_genotypes(cohort_bed).genotypes(slice(None)), cohort.genotypes)


def test_tables_are_those_written_and_of_the_shared_columns(cohort_bed: Path, cohort: SimulatedCohort) -> None:
    source = open_genotypes(cohort_bed.with_suffix(".fam"))
    assert source.samples.equals(cohort.samples)
    assert source.variants.equals(cohort.variants)
    assert (source.samples.schema, source.variants.schema) == (SAMPLES, VARIANTS)
    assert source.hard_calls
    assert source.build is None


def test_written_as_plink2_writes_it(cohort_bed: Path, tmp_path: Path, plink2: Callable[..., None]) -> None:
    plink2("--bfile", cohort_bed.with_suffix(""), "--make-bed", "--out", tmp_path / "theirs")
    assert (tmp_path / "theirs.bed").read_bytes() == cohort_bed.read_bytes()
    theirs = open_genotypes(tmp_path / "theirs")
    assert theirs.variants.equals(open_genotypes(cohort_bed).variants)
    assert theirs.samples.equals(open_genotypes(cohort_bed).samples)


def test_scattered_variants_are_read_from_the_mapped_file(cohort_bed: Path, cohort: SimulatedCohort) -> None:
    rows = np.arange(0, cohort.variants.height, 3)
    np.testing.assert_array_equal(open_genotypes(cohort_bed).genotypes(rows), cohort.genotypes[rows])


def test_codes_of_contigs_sexes_and_nobody_in_files_of_any_spacing(tmp_path: Path) -> None:
    (tmp_path / "a.fam").write_text("F1  a 0 0  1 -9\n F1 b a 0 2 -9\n0\tc\t0\t0\t0\t-9\n")
    (tmp_path / "a.bim").write_bytes(b"23\trs1\t0\t5\tA\tG\r\n25 . 0 6 0 G\r\n26 rs3 0.1 7 AT G\r\n\r\n")
    (tmp_path / "a.bed").write_bytes(b"\x6c\x1b\x01" + bytes(3))
    source = open_genotypes(tmp_path / "a.bim")
    assert source.variants["contig"].to_list() == ["X", "XY", "MT"]
    assert source.variants["alt"].to_list() == ["A", ".", "AT"]
    assert source.variants["ref"].to_list() == ["G", "G", "G"]
    assert source.samples.rows() == [
        ("a", "F1", None, None, "male"),
        ("b", "F1", "a", None, "female"),
        ("c", None, None, None, None),
    ]


@pytest.mark.parametrize(
    ("ending", "change", "said"),
    [
        (".bed", lambda old: old[:-1], "need 20,403 bytes, but it has 20,402"),
        (".bed", lambda old: b"\x6c\x1b\x00" + old[3:], "sample-major"),
        (".bed", lambda old: b"chr1\t1\t2\n", "not a PLINK 1 genotype file"),
        (".fam", lambda old: old + b"0\tP000001\t0\t0\t1\t-9\n", "sample 204 has the id of one before it"),
        (".fam", lambda old: b"", "no sample"),
        (".bim", lambda old: old.replace(b"\trs7\t0\t", b"\trs7\t"), "line 7 has fewer"),
        (".bim", lambda old: old.replace(b"\trs7\t0\t", b"\trs7\t0\t7."), "position is a whole number; line 7"),
        (".bim", lambda old: old[: old.index(b"Y\trs300")], "or its .bim or .fam is another file's"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    copied: Path, ending: str, change: Callable[[bytes], bytes], said: str
) -> None:
    path = copied.with_suffix(ending)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError) as error:
        open_genotypes(copied)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("ending", [".bed", ".bim", ".fam"])
def test_a_file_that_is_not_there(copied: Path, ending: str) -> None:
    copied.with_suffix(ending).unlink()
    with pytest.raises(InputError, match="no such file"):
        open_genotypes(copied)


def test_a_file_that_became_shorter(copied: Path) -> None:
    source = open_genotypes(copied)
    bed = copied.with_suffix(".bed")
    bed.write_bytes(bed.read_bytes()[:-100])
    with pytest.raises(InputError, match="ends early"):
        source.genotypes(slice(None))


def test_rows_outside_or_out_of_order_are_refused(cohort_bed: Path) -> None:
    source = open_genotypes(cohort_bed)
    for rows in ([3, 2], [2, 2], [-1, 2], [399, 400]):
        with pytest.raises(InputError, match="rows of variants"):
            source.genotypes(np.array(rows))
    with pytest.raises(InputError, match="samples are asked for"):
        source.genotypes(slice(None), np.array([203]))


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ([np.zeros((3, 4), np.int8)], "4 variants are in the table, 3 were given"),
        ([np.zeros((4, 5), np.int8)], "a block has 4 samples"),
        ([np.full((4, 4), 3, np.int8)], "a genotype is 0, 1, 2"),
    ],
)
def test_nothing_is_left_of_a_file_that_was_not_written_whole(
    tmp_path: Path, blocks: list[np.ndarray], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        write_bed(tmp_path / "out", people(4), sites(4), blocks)
    assert list(tmp_path.iterdir()) == []


def test_two_bits_a_genotype(cohort_bed: Path) -> None:
    source = open_genotypes(cohort_bed)
    assert isinstance(source, Plink1)
    assert source.packed(slice(2, 4)).tobytes() == cohort_bed.read_bytes()[3 + 2 * 51 : 3 + 4 * 51]
