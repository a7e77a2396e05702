"""A genotype file is found by any of its names, and what is none is said in one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from careloop import InputError
from careloop.genome.genotypes.open_genotypes import open_genotypes


@pytest.mark.parametrize("name", ["co.hort", "co.hort.bed", "co.hort.bim", "co.hort.fam"])
def test_by_any_of_its_names(cohort_bed: Path, tmp_path: Path, name: str) -> None:
    for ending in (".bed", ".bim", ".fam"):
        shutil.copy(cohort_bed.with_suffix(ending), tmp_path / f"co.hort{ending}")
    assert open_genotypes(str(tmp_path / name)).path == tmp_path / "co.hort.bed"


def test_a_prefix_of_two_files_is_refused(cohort_bed: Path, tmp_path: Path) -> None:
    for ending in (".bed", ".bim", ".fam"):
        shutil.copy(cohort_bed.with_suffix(ending), tmp_path / f"cohort{ending}")
    (tmp_path / "cohort.pgen").write_bytes(b"")
    with pytest.raises(InputError, match="name the one to read"):
        open_genotypes(tmp_path / "cohort")
    assert open_genotypes(tmp_path / "cohort.bed").samples.height == 203


def test_what_is_no_genotype_file(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("a,b\n")
    with pytest.raises(InputError, match="not a genotype file that can be read; give PLINK 1"):
        open_genotypes(tmp_path / "table.csv")
    with pytest.raises(InputError, match="no such file"):
        open_genotypes(tmp_path / "none")
