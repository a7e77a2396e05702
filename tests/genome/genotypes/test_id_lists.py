"""Lists of ids are read as plink2 reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from careloop import InputError
from careloop.genome.genotypes.id_lists import read_sample_ids, read_variant_ids, rows_of_samples
from careloop.genome.genotypes.open_genotypes import open_genotypes
from careloop.genome.simulate.cohort import SimulatedCohort

LISTS = (
    "P000003\nP000001\n",
    "0 P000003\n0\tP000001  more words\n",
    "#IID\nP000001\nP000003\n",
    "#FID\tIID\n0\tP000003\n0\tP000001\n",
)


@pytest.mark.parametrize("text", LISTS)
def test_samples_of_each_layout(cohort_bed: Path, tmp_path: Path, text: str, plink2: Callable[..., None]) -> None:
    (tmp_path / "ids").write_text(text)
    source = open_genotypes(cohort_bed)
    found = rows_of_samples(source, read_sample_ids(tmp_path / "ids"))
    assert found.tolist() == [0, 2]
    plink2("--bfile", cohort_bed.with_suffix(""), "--keep", tmp_path / "ids", "--make-bed", "--out", tmp_path / "kept")
    assert open_genotypes(tmp_path / "kept").samples.equals(source.samples[found])


def test_variants(tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("rs9\tother\n\nrs3\n")
    assert read_variant_ids(tmp_path / "ids") == {"rs3", "rs9"}


def test_refused(cohort_bed: Path, cohort: SimulatedCohort, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "headed").write_text("#FID ID\n0 P000001\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, said in (
        ("empty", "no id"),
        ("headed", "a column IID"),
        ("binary", "not text"),
        ("none", "no such file"),
    ):
        with pytest.raises(InputError, match=said):
            read_sample_ids(tmp_path / name)
    with pytest.raises(InputError, match="none of the 1 ids"):
        rows_of_samples(open_genotypes(cohort_bed), frozenset(["nobody"]))
