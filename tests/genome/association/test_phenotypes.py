"""Traits and covariates are matched by id; how a column was read, and who is left out, is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.genome.association.phenotypes import PhenotypeRequest, read_phenotypes

SAMPLES = pl.DataFrame({"sample_id": ["a", "b", "c", "d", "e"], "sex": ["male", "female", None, "female", "male"]})


def write(folder: Path, text: str, name: str = "traits.txt") -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize(
    ("values", "trait", "said"),
    [
        (["1", "2", "2", "0", "-9"], [0, 1, 1], "2 is a case"),
        (["0", "1", "1.0", "NA", "-9"], [0, 1, 1], "1 is a case"),
        (["control", "Case", "case", "NA", "NA"], [0, 1, 1], "case and control"),
        (["1", "2", "3", "NA", "-9"], [1, 2, 3], "quantitative"),
    ],
)
def test_codings_are_recognised_and_said(tmp_path: Path, values: list[str], trait: list[float], said: str) -> None:
    rows = "".join(f"0 {who} {value}\n" for who, value in zip("ebcda", values, strict=True))
    found = read_phenotypes(write(tmp_path, "#FID IID T\n" + rows), SAMPLES)
    assert dict(zip(found.people.tolist(), found.trait.tolist(), strict=True)) == dict(
        zip([4, 1, 2], trait, strict=True)
    )
    assert said in found.notes[0]
    assert found.left_out == {"without the trait": 2}


def test_a_kind_asked_for_overrides_or_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "IID\tT\na\t1\nb\t2\nc\t2\n")
    found = read_phenotypes(path, SAMPLES, request=PhenotypeRequest(kind="quantitative"))
    assert (found.kind, found.trait.tolist()) == ("quantitative", [1, 2, 2])
    path = write(tmp_path, "IID\tT\na\t1\nb\t2\nc\t5\n")
    with pytest.raises(InputError, match="must be case/control"):
        read_phenotypes(path, SAMPLES, request=PhenotypeRequest(kind="binary"))


def test_who_is_left_out_is_counted_by_reason(tmp_path: Path) -> None:
    path = write(tmp_path, "sample_id,T,X\na,1.5,1\nb,NA,2\nc,2.5,\nz,1,1\ny,1,1\n", "traits.csv")
    found = read_phenotypes(path, SAMPLES, request=PhenotypeRequest(trait="T", covariates=("X",)))
    assert found.people.tolist() == [0]
    assert found.left_out == {
        "in the table, not in the genotypes": 2,
        "in the genotypes, not in the table": 2,
        "without the trait": 1,
        "without a covariate": 1,
    }


def test_covariates_come_from_tables_by_name_or_range_words_become_columns(tmp_path: Path) -> None:
    path = write(tmp_path, "IID\tT\n" + "".join(f"{who}\t{at}.5\n" for at, who in enumerate("abcde")))
    rows = "".join(
        f"{who}\t{at}\t{-at}\t{at * at}\t{site}\n" for at, (who, site) in enumerate(zip("edcba", "NNSNW", strict=True))
    )
    table = write(tmp_path, "#IID\tPC1\tPC2\tPC3\tSITE\n" + rows, "pcs.tsv")
    pl.read_csv(table, separator="\t").rename({"#IID": "IID"}).write_parquet(tmp_path / "pcs.parquet")
    request = PhenotypeRequest(covariate_tables=(tmp_path / "pcs.parquet",), covariates=("PC1-PC2", "SITE"))
    found = read_phenotypes(path, SAMPLES, request=request)
    assert list(found.covariates) == ["PC1", "PC2", "SITE=S", "SITE=W"] or list(found.covariates)[2:] == [
        "SITE=W",
        "SITE=S",
    ]
    np.testing.assert_array_equal(found.covariates["PC1"], [4, 3, 2, 1, 0])
    np.testing.assert_array_equal(found.covariates["SITE=W"], [1, 0, 0, 0, 0])
    assert any("SITE has words" in note for note in found.notes)
    every = read_phenotypes(path, SAMPLES, request=PhenotypeRequest(covariate_tables=(table,)))
    assert list(every.covariates)[:3] == ["PC1", "PC2", "PC3"]


def test_sex_may_come_from_the_genotype_file(tmp_path: Path) -> None:
    path = write(tmp_path, "IID\tT\na\t1.5\nb\t2.5\nc\t3\nd\t4\n")
    found = read_phenotypes(path, SAMPLES, request=PhenotypeRequest(covariates=("sex",)))
    assert found.people.tolist() == [0, 1, 3]
    np.testing.assert_array_equal(found.covariates["sex"], [1, 2, 2])


@pytest.mark.parametrize(
    ("text", "request_", "message"),
    [
        ("IID\tT\na\t1\na\t2\n", PhenotypeRequest(), "each person has one row"),
        ("who\tT\na\t1\n", PhenotypeRequest(), "column of sample ids"),
        ("IID\tT\nx\t1\n", PhenotypeRequest(), "none of its 1 ids"),
        ("IID\tT\tU\na\t1\t1\n", PhenotypeRequest(), "name the trait"),
        ("IID\tT\na\t1\n", PhenotypeRequest(trait="V"), "no column 'V'"),
        ("IID\tT\na\t1\nb\tlots\n", PhenotypeRequest(), "T must be numbers; 1 values"),
        ("IID\tT\na\t1\n", PhenotypeRequest(covariates=("W",)), "no column 'W' for a covariate"),
        ("IID T\na 1 2\n", PhenotypeRequest(), "row 1 has 3"),
        ("", PhenotypeRequest(), "empty"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, text: str, request_: PhenotypeRequest, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_phenotypes(write(tmp_path, text), SAMPLES, request=request_)
