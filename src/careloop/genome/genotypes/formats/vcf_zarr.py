"""VCF-Zarr stores: genotypes and dosages in compressed chunks, in a folder or a .zip of it.

Source: VCF Zarr specification 0.4; Czech et al., GigaScience 2025;14:giaf049.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.files.builds import UNKNOWN, detect_build
from careloop.genome.genotypes.formats.alternatives import NO_ALLELE, UNKNOWN_ALLELE, copies_called, one_row_an_allele
from careloop.genome.genotypes.formats.plink_tables import require_unique_samples, samples_table
from careloop.genome.genotypes.nearest_call import nearest_call
from careloop.genome.genotypes.rows import row_numbers, sample_numbers
from careloop.genome.genotypes.source import MISSING

_NEEDED = ("variant_contig", "variant_position", "variant_allele", "contig_id", "sample_id")
_CALLS = "call_genotype"
_DOSAGES = "call_DS"
_NO_SEQUENCE = ("", ".")  # what fills the list of a site with fewer alleles than others


class VcfZarr:
    """An open VCF-Zarr store, as `GenotypeSource` describes it: one row an alternative allele.

    Where the store has the field DS, that is the dosage, and the genotype is the call nearest to it; where DS is
    missing or there is none, the genotype GT is both. DS of a sample with one copy in GT is from 0 to 1 and is doubled.
    """

    def __init__(
        self, path: Path, group: Any, samples: pl.DataFrame, sites: pl.DataFrame, *, build: str | None
    ) -> None:
        self.path = path
        self.samples = samples
        self.variants, self._rows = one_row_an_allele(sites)
        self.build = build
        self.hard_calls = _DOSAGES not in group
        self._group = group

    def genotypes(
        self, variants: NDArray[np.int64] | slice, samples: NDArray[np.int64] | None = None
    ) -> NDArray[np.int8]:
        """Copies of `alt`: (variants, samples) of 0, 1, 2 or `MISSING`.

        Raises:
            InputError: rows outside the tables, variants that are not ascending, or a chunk that cannot be read.
        """
        if not self.hard_calls:
            return nearest_call(self.dosages(variants, samples))
        rows = row_numbers(variants, self.variants.height)
        return copies_called(*self._alleles(rows, samples), self._rows.allele[rows][:, None])

    def dosages(
        self, variants: NDArray[np.int64] | slice, samples: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Expected copies of `alt`: (variants, samples) from 0 to 2, NaN where missing.

        Raises:
            InputError: as `genotypes`.
        """
        rows = row_numbers(variants, self.variants.height)
        first, second = self._alleles(rows, samples)
        calls = copies_called(first, second, self._rows.allele[rows][:, None])
        dosages = np.where(calls == MISSING, np.nan, calls).astype(np.float32)
        if self.hard_calls:
            return dosages
        given = self._read(_DOSAGES, rows, samples)
        if given.ndim == 3:  # a dosage of each alternative
            given = given[np.arange(rows.size), :, self._rows.allele[rows] - 1]
        with np.errstate(invalid="ignore"):  # the NaN that says "missing" is a signalling one
            given = np.clip(given * np.where(second == NO_ALLELE, 2, 1), 0, 2)
        return np.where(np.isnan(given), dosages, given).astype(np.float32)

    def _alleles(
        self, rows: NDArray[np.int64], samples: NDArray[np.int64] | None
    ) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
        """The two alleles that were called, each (rows, samples)."""
        if _CALLS not in self._group:
            count = self.samples.height if samples is None else len(samples)
            unknown = np.full((rows.size, count), UNKNOWN_ALLELE, np.int8)
            return unknown, unknown
        alleles = self._read(_CALLS, rows, samples)
        first = alleles[:, :, 0]
        return first, alleles[:, :, 1] if alleles.shape[2] > 1 else np.full_like(first, NO_ALLELE)

    def _read(self, name: str, rows: NDArray[np.int64], samples: NDArray[np.int64] | None) -> NDArray[Any]:
        """An array's part: (rows, samples, ...), each site read once."""
        if not rows.size:
            return np.empty((0, self.samples.height, *self._group[name].shape[2:]))
        sites, back = np.unique(self._rows.site[rows], return_inverse=True)
        side_by_side = sites[-1] - sites[0] + 1 == sites.size
        try:
            array = self._group[name]
            part = array[sites[0] : sites[-1] + 1] if side_by_side else array.get_orthogonal_selection(sites)
        except (OSError, ValueError, RuntimeError):
            raise InputError(f"{self.path}: a chunk of {name} cannot be read; copy the store again") from None
        part = np.asarray(part)
        picked = sample_numbers(samples, self.samples.height)
        part = part if picked is None else np.take(part, picked, axis=1)
        return part if sites.size == rows.size else part[back]


def open_vcf_zarr(path: Path) -> VcfZarr:
    """Open a VCF-Zarr store: a folder (.vcz, .zarr), or one packed as .zip.

    Raises:
        InputError: no such store, arrays that a VCF-Zarr store needs are not there or do not fit each other, samples
            have more than two copies, two samples have one id, or zarr is not installed.
    """
    try:
        import zarr
    except ImportError:
        raise InputError('VCF-Zarr stores need zarr; pip install "careloop[genome]"') from None
    try:
        store = zarr.storage.ZipStore(path, mode="r") if path.is_file() else path
        group: Any = zarr.open_group(store, mode="r")
    except (OSError, ValueError, KeyError):
        raise InputError(f"{path}: not a Zarr store; give the folder that vcf2zarr wrote") from None
    missing = [name for name in _NEEDED if name not in group]
    if _CALLS not in group and _DOSAGES not in group:
        missing.append(f"{_CALLS} or {_DOSAGES}")
    if missing:
        raise InputError(f"{path}: a VCF-Zarr store has {', '.join(missing)}; this one has not")
    names = [str(name) for name in group["sample_id"][:]]
    samples = require_unique_samples(samples_table(pl.DataFrame({"sample_id": names}), path), path)
    sites = _sites(group)
    _require_shapes(group, (sites.height, samples.height), path)
    return VcfZarr(path, group, samples, sites, build=_build(group, path))


def _sites(group: Any) -> pl.DataFrame:
    names = np.array([str(name) for name in group["contig_id"][:]])
    alleles = group["variant_allele"][:].tolist()
    identifiers = group["variant_id"][:].tolist() if "variant_id" in group else ["."] * len(alleles)
    return pl.DataFrame(
        {
            "contig": names[np.asarray(group["variant_contig"][:])],
            "position": np.asarray(group["variant_position"][:]).astype(np.int64),
            "variant_id": [str(one) or "." for one in identifiers],
            "ref": [row[0] for row in alleles],
            "alt": [[one for one in row[1:] if one not in _NO_SEQUENCE] for row in alleles],
        },
        schema_overrides={"alt": pl.List(pl.String())},
    )


def _require_shapes(group: Any, expected: tuple[int, int], path: Path) -> None:
    for name in (_CALLS, _DOSAGES):
        shape = group[name].shape if name in group else expected
        if tuple(shape[:2]) != expected:
            raise InputError(f"{path}: {name} is for (variants, samples) = {expected}; it has {tuple(shape[:2])}")
    if _CALLS in group and group[_CALLS].shape[2] > 2:
        raise InputError(f"{path}: a sample has at most two copies; {_CALLS} has {group[_CALLS].shape[2]}")


def _build(group: Any, path: Path) -> str | None:
    names = [str(name) for name in group["contig_id"][:]]
    lengths = group["contig_length"][:].tolist() if "contig_length" in group else [None] * len(names)
    words = [str(value) for value in group.attrs.asdict().values()]
    build = detect_build(dict(zip(names, lengths, strict=True)), words=words, where=str(path))
    return None if build == UNKNOWN else build
