"""BGEN files: dosages of probabilities (phased or not, one copy or two, several alternatives), and .sample files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.genome.genotypes.blocks import blocks
from careloop.genome.genotypes.open_genotypes import open_genotypes
from careloop.genome.genotypes.source import MISSING

bgen = pytest.importorskip("bgen")

NAMES = list("abcdef")
TOLERANCE = 1e-4  # 16 bits a probability
DRAWS = np.random.default_rng(0)
PAIRS = DRAWS.dirichlet(np.ones(3), 6)  # of alleles 00, 01, 11
TRIPLES = DRAWS.dirichlet(np.ones(6), 6)  # 00, 01, 11, 02, 12, 22
PHASED = DRAWS.dirichlet(np.ones(3), (6, 2))  # (samples, haplotypes, alleles)
ONE_OR_TWO = np.array([1, 1, 1, 2, 2, 2])


def write(path: Path, *, names: list[str] = NAMES, layout: int = 2) -> Path:
    with bgen.BgenWriter(str(path), n_samples=6, samples=names, compression="zlib", layout=layout) as file:
        unknown = PAIRS.copy()
        unknown[2] = np.nan
        file.add_variant("", "rs1", "01", 5, ["A", "G"], unknown, bit_depth=16)
        if layout == 1:
            return path
        file.add_variant("v2", "", "1", 6, ["A", "C", "G"], TRIPLES, bit_depth=16)
        file.add_variant("v3", ".", "1", 7, ["A", "C", "T"], PHASED.reshape(6, 6), phased=True, bit_depth=16)
        x = PAIRS.copy()
        x[:3] = [[0.25, 0.75, np.nan], [1, 0, np.nan], [0, 1, np.nan]]
        file.add_variant("", "rs4", "X", 8, ["AT", "A"], x, ploidy=ONE_OR_TWO.astype(np.uint8), bit_depth=16)
    return path


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return write(tmp_path / "made.bgen")


def test_dosages_are_expected_copies_of_each_alternative(made: Path) -> None:
    source = open_genotypes(made)
    found = source.dosages(slice(None))
    first = PAIRS[:, 1] + 2 * PAIRS[:, 2]
    first[2] = np.nan
    np.testing.assert_allclose(found[0], first, atol=TOLERANCE)
    np.testing.assert_allclose(found[1], TRIPLES[:, 1] + 2 * TRIPLES[:, 2] + TRIPLES[:, 4], atol=TOLERANCE)
    np.testing.assert_allclose(found[2], TRIPLES[:, 3] + TRIPLES[:, 4] + 2 * TRIPLES[:, 5], atol=TOLERANCE)
    np.testing.assert_allclose(found[3:5], PHASED.sum(axis=1)[:, 1:].T, atol=TOLERANCE)
    np.testing.assert_allclose(found[5, :3], [1.5, 0, 2], atol=TOLERANCE)
    np.testing.assert_allclose(found[5, 3:], (PAIRS[:, 1] + 2 * PAIRS[:, 2])[3:], atol=TOLERANCE)
    np.testing.assert_array_equal(source.dosages(np.array([1, 5]), np.array([4, 0])), found[[1, 5]][:, [4, 0]])


def test_an_index_is_not_needed_and_one_of_another_file_does_no_harm(made: Path) -> None:
    expected = open_genotypes(made).dosages(slice(None))
    index = made.with_name("made.bgen.bgi")
    index.write_bytes(b"of another file")
    found = [block.values for block in blocks(open_genotypes(made), kind="dosages", size=2)]  # in threads
    np.testing.assert_array_equal(np.concatenate(found), expected)
    index.unlink()
    np.testing.assert_array_equal(open_genotypes(made).dosages(slice(None)), expected)


def test_variants_and_genotypes(made: Path) -> None:
    source = open_genotypes(made)
    assert source.variants["variant_id"].to_list() == ["rs1", "v2", "v2", "v3", "v3", "rs4"]
    assert source.variants["contig"].to_list() == ["1", "1", "1", "1", "1", "X"]
    assert source.variants["alt"].to_list() == ["G", "C", "G", "C", "T", "A"]
    assert not source.hard_calls
    assert source.genotypes(slice(5, 6))[0, :3].tolist() == [MISSING, 0, 2]


def test_people_of_the_sample_file_beside_it_or_given(made: Path, tmp_path: Path) -> None:
    rows = "".join(f"F{name} P{name} 0 {sex}\n" for name, sex in zip(NAMES, "121212", strict=True))
    text = "ID_1 ID_2 missing sex\n0 0 0 D\n" + rows
    made.with_suffix(".sample").write_text(text)
    (tmp_path / "other.txt").write_text("ID sex\n0 D\n" + "".join(f"Q{name} NA\n" for name in NAMES))
    beside = open_genotypes(made).samples
    assert beside["sample_id"].to_list() == [f"P{name}" for name in NAMES]
    assert beside["family_id"].to_list() == [f"F{name}" for name in NAMES]
    assert beside["sex"].to_list() == ["male", "female"] * 3
    given = open_genotypes(made, sample_file=tmp_path / "other.txt").samples
    assert given["sample_id"].to_list() == [f"Q{name}" for name in NAMES]
    assert given["sex"].is_null().all()


def test_as_plink2_writes_it(cohort_bed: Path, tmp_path: Path, plink2: Callable[..., None]) -> None:
    plink2("--bfile", cohort_bed.with_suffix(""), "--export", "bgen-1.3", "ref-first", "--out", tmp_path / "made")
    expected, source = open_genotypes(cohort_bed), open_genotypes(tmp_path / "made.bgen")
    assert source.samples.equals(expected.samples)
    assert source.variants.equals(expected.variants)
    np.testing.assert_array_equal(source.genotypes(slice(None)), expected.genotypes(slice(None)))


def test_refused_in_one_line(made: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.bgen"
    cut.write_bytes(made.read_bytes()[:-20])
    few = tmp_path / "few.sample"
    few.write_text("ID sex\n0 D\na 1\nb 2\n")
    headless = tmp_path / "headless.sample"
    headless.write_text("a 1\nb 2\n")
    text = tmp_path / "text.bgen"
    text.write_text("no genotypes here, but some text that is long enough to hold a header")
    old, twice = write(tmp_path / "old.bgen", layout=1), write(tmp_path / "twice.bgen", names=list("abcdea"))
    for path, sample_file, said in (
        (cut, None, "ends early"),
        (text, None, "not a BGEN file"),
        (made, few, "it has 6 samples and the .sample file 2"),
        (made, headless, "begins with a line of names"),
        (made, tmp_path / "none.sample", "no such file"),
        (old, None, "1.1 is not read"),
        (twice, None, "sample 6 has the id of one before it"),
    ):
        with pytest.raises(InputError, match=said):
            open_genotypes(path, sample_file=sample_file)


def test_people_are_none_of_the_header(tmp_path: Path) -> None:
    made = write(tmp_path / "made.bgen", names=[])
    with pytest.raises(InputError, match="no sample ids"):
        open_genotypes(made)
    made.with_suffix(".sample").write_text("ID\n0\n" + "\n".join(NAMES) + "\n")
    assert open_genotypes(made).samples.equals(
        pl.DataFrame({"sample_id": NAMES}).with_columns(
            pl.lit(None, pl.String()).alias(name) for name in ("family_id", "father_id", "mother_id", "sex")
        )
    )
