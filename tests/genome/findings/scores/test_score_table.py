"""Tables of people as plink, careloop and spreadsheets write them, and chosen variants of a genotype file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.genome.findings.scores.dosage_table import dosage_table
from careloop.genome.findings.scores.score_table import read_score_table
from careloop.genome.genotypes.in_memory import InMemoryGenotypes
from careloop.genome.genotypes.source import SAMPLES, VARIANTS


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_plink2_sscore(tmp_path: Path) -> None:
    text = "#FID\tIID\tALLELE_CT\tNAMED_ALLELE_DOSAGE_SUM\tSCORE1_AVG\nF1\t007\t10\t4\t0.25\nF2\tb\t10\t5\tnan\n"
    found = read_score_table(written(tmp_path / "a.sscore", text), kind="score")
    assert found.columns == ["sample_id", "SCORE1_AVG"]
    assert found["sample_id"].to_list() == ["007", "b"]
    assert found["SCORE1_AVG"].to_list() == ["0.25", None]


def test_plink_eigenvec_and_padded_columns(tmp_path: Path) -> None:
    for text in ("#IID\tPC1\tPC2\na\t0.1\t-2\n", "  FID  IID   PC1    PC2\n  0    a     0.1    -2\n"):
        found = read_score_table(written(tmp_path / "a.eigenvec", text), kind="pc")
        assert found.rows() == [("a", "0.1", "-2")]
        assert found.columns == ["sample_id", "1", "2"]


def test_columns_that_are_no_values_are_left_out(tmp_path: Path) -> None:
    text = "sample_id,PGS000018,n_matched,PGS000018_variants,group\na,1.5,10,20,EUR\nb,2,10,20,AFR\n"
    path = written(tmp_path / "a.csv", text)
    assert read_score_table(path, kind="score").columns == ["sample_id", "PGS000018"]
    renamed = read_score_table(path, kind="score", columns=["PGS000018=CAD", "n_matched"])
    assert renamed.columns == ["sample_id", "CAD", "n_matched"]


def test_parquet_holds_the_same(tmp_path: Path) -> None:
    pl.DataFrame({"sample_id": ["a", "b"], "x": [1.5, float("nan")]}).write_parquet(tmp_path / "a.parquet")
    path = written(tmp_path / "a.csv", "sample_id,x\na,1.5\nb,NA\n")
    for each in (tmp_path / "a.parquet", path):
        assert read_score_table(each, kind="burden").rows() == [("a", "1.5"), ("b", None)]


@pytest.mark.parametrize(
    ("text", "kind", "columns", "message"),
    [
        ("name,x\na,1\n", "score", (), "sample_id"),
        ("IID,x\na,1\na,2\n", "score", (), "again"),
        ("IID,sex\na,1\n", "score", (), "no column of numbers"),
        ("IID,x\na,1\n", "pc", (), "PC1"),
        ("IID,x\na,1\n", "score", ("y",), "no column y"),
        ("IID,x\na,1\n", "score", ("x=a//b",), "no //"),
        ("IID,a b\na,1\n", "score", (), "no blanks"),
        ("IID,x,y\na,1,2\n", "score", ("x=z", "y=z"), "one name"),
        ("", "score", (), "empty"),
    ],
)
def test_refusals_name_the_file(tmp_path: Path, text: str, kind, columns: tuple[str, ...], message: str) -> None:
    path = written(tmp_path / "table.csv", text)
    with pytest.raises(InputError, match=message) as error:
        read_score_table(path, kind=kind, columns=columns)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_absent_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_score_table(tmp_path / "absent.csv", kind="score")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="cannot be read"):
        read_score_table(tmp_path / "broken.parquet", kind="score")


@pytest.fixture
def three_people() -> InMemoryGenotypes:
    """Four alleles: rs1 with two alternatives, one without an id, and rs3."""
    rows = [("1", 10, "rs1", "A", "C"), ("1", 10, "rs1", "A", "T"), ("2", 5, ".", "C", "CA"), ("2", 9, "rs3", "G", "T")]
    dosages = np.array([[0, 1, 2], [0, 0, 1], [2, np.nan, 0.5], [1, 1, 1]], dtype=np.float32)
    samples = pl.DataFrame([{"sample_id": one} for one in "abc"], schema=SAMPLES)
    return InMemoryGenotypes(samples, pl.DataFrame(rows, schema=VARIANTS, orient="row"), dosages)


def test_chosen_variants_by_id_and_by_place(three_people: InMemoryGenotypes) -> None:
    found = dosage_table(three_people, ["rs1", "2:5:C:CA"])
    assert found.columns == ["sample_id", "rs1_C", "rs1_T", "2:5:C:CA_CA"]
    assert found["2:5:C:CA_CA"].to_list() == [2.0, None, 0.5]
    with pytest.raises(InputError, match="no variant rs9"):
        dosage_table(three_people, ["rs1", "rs9"])
    with pytest.raises(InputError, match="got 0"):
        dosage_table(three_people, [])
