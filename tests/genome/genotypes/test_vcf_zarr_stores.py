"""VCF-Zarr stores, written here as the specification says: calls of one copy and two, dosages, several alternatives."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from careloop import InputError
from careloop.genome.genotypes.open_genotypes import open_genotypes
from careloop.genome.genotypes.source import MISSING

zarr = pytest.importorskip("zarr")

# Three sites of three people: alleles as numbers, -1 not called, -2 no second copy.
CALLS = np.array([[[0, 1], [1, 1], [-1, -1]], [[0, 2], [1, 2], [0, -1]], [[1, -2], [0, -2], [0, 1]]], np.int8)
EXPECTED = [[1, 2, MISSING], [0, 1, MISSING], [1, 1, MISSING], [2, 0, 1]]
NONE = [np.nan, np.nan]
DOSAGES = np.array([[[0.9, np.nan], NONE, [0.4, np.nan]], [[0, 1.2], [1, 0.95], NONE], [[0.3, np.nan], NONE, NONE]])
ARRAYS: dict[str, Any] = {
    "contig_id": np.array(["20", "X"]),
    "contig_length": np.array([64444167, 156040895]),
    "sample_id": np.array(["a", "b", "c"]),
    "variant_contig": np.array([0, 0, 1], np.int8),
    "variant_position": np.array([10, 20, 30], np.int32),
    "variant_id": np.array(["rs1", ".", "rs3"]),
    "variant_allele": np.array([["A", "C", ""], ["A", "C", "AT"], ["G", "T", ""]]),
    "call_genotype": CALLS,
}


def store(path: Path, arrays: dict[str, Any], *, version: int = 2) -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=version)
    for name, values in arrays.items():
        text = values.dtype.kind == "U"
        array = group.create_array(
            name, shape=values.shape, dtype="string" if text else values.dtype, chunks=(2, *values.shape[1:])
        )
        array[...] = values.astype(object) if text else values
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_each_alternative_is_a_row(tmp_path: Path, version: int) -> None:
    source = open_genotypes(store(tmp_path / "a.vcz", ARRAYS, version=version))
    assert source.genotypes(slice(None)).tolist() == EXPECTED
    np.testing.assert_array_equal(source.dosages(slice(1, 3)), [[0, 1, np.nan], [1, 1, np.nan]])
    assert source.genotypes(np.array([0, 3]), np.array([2, 0])).tolist() == [[MISSING, 1], [1, 2]]
    assert source.genotypes(np.array([], np.int64)).shape == (0, 3)
    expected = [("20", 20, ".", "A", "C"), ("20", 20, ".", "A", "AT"), ("X", 30, "rs3", "G", "T")]
    assert source.variants.rows()[1:] == expected
    assert source.samples["sample_id"].to_list() == ["a", "b", "c"]
    assert source.hard_calls
    assert source.build == "GRCh38"


def test_dosages_where_they_are_known(tmp_path: Path) -> None:
    source = open_genotypes(store(tmp_path / "a.vcz", {**ARRAYS, "call_DS": DOSAGES.astype(np.float32)}))
    expected = [[0.9, 2, 0.4], [0, 1, np.nan], [1.2, 0.95, np.nan], [0.6, 0, 1]]
    np.testing.assert_allclose(source.dosages(slice(None)), expected, atol=1e-6)
    assert source.genotypes(slice(0, 3)).tolist() == [[1, 2, MISSING], [0, 1, MISSING], [MISSING, 1, MISSING]]
    assert not source.hard_calls
    alone = {name: values for name, values in ARRAYS.items() if name != "call_genotype"}
    source = open_genotypes(store(tmp_path / "b.vcz", {**alone, "call_DS": DOSAGES.astype(np.float32)}))
    expected = [[0.9, np.nan, 0.4], [0, 1, np.nan], [1.2, 0.95, np.nan], [0.3, np.nan, np.nan]]
    np.testing.assert_allclose(source.dosages(slice(None)), expected, atol=1e-6)


def test_a_store_packed_as_zip(tmp_path: Path) -> None:
    shutil.make_archive(str(tmp_path / "a.vcz"), "zip", store(tmp_path / "a.vcz", ARRAYS))
    assert open_genotypes(tmp_path / "a.vcz.zip").genotypes(slice(None)).tolist() == EXPECTED


def test_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    cases = [
        (tmp_path / "empty", "not a Zarr store"),
        (store(tmp_path / "b.vcz", {k: v for k, v in ARRAYS.items() if k != "call_genotype"}), "has call_genotype or"),
        (store(tmp_path / "c.vcz", {**ARRAYS, "sample_id": np.array(["a", "b"])}), "call_genotype is for"),
        (store(tmp_path / "d.vcz", {**ARRAYS, "sample_id": np.array(["a", "b", "a"])}), "sample 3 has the id"),
        (store(tmp_path / "e.vcz", {**ARRAYS, "call_genotype": np.zeros((3, 3, 3), np.int8)}), "at most two copies"),
    ]
    for path, said in cases:
        with pytest.raises(InputError, match=said):
            open_genotypes(path)
