"""PLINK 2 genotypes: .pgen with .pvar (also .pvar.zst) and .psam; several alternatives, phased calls and dosages.

Genotypes are read by pgenlib. Source: PGEN file format specification of plink-ng (pgen_spec), sections 2 and 3.
"""

from __future__ import annotations

import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.genotypes.formats.alternatives import one_row_an_allele
from careloop.genome.genotypes.formats.plink2_tables import read_psam, read_pvar
from careloop.genome.genotypes.rows import row_numbers, sample_numbers
from careloop.genome.genotypes.source import MISSING

_MAGIC = b"\x6c\x1b"
_VARIABLE_WIDTH = 0x10
_OF_CALLS = (0x01, 0x02)  # storage modes without dosages: PLINK 1's, and calls of fixed width
_IN_A_BLOCK = 2**16  # variants whose record types stand together in the header
_HAS_DOSAGES = 0x60  # bits of a variant's record type
_REMEDY = "copy it again, or make it again by plink2 --make-pgen"


class Plink2:
    """An open PLINK 2 file set, as `GenotypeSource` describes it: one row an alternative allele.

    Of a site with several alternatives a genotype counts the copies of the row's own one. `reader` is pgenlib's.
    """

    def __init__(
        self,
        path: Path,
        samples: pl.DataFrame,
        sites: pl.DataFrame,
        *,
        build: str | None,
        hard_calls: bool,
        reader: Any,
    ) -> None:
        self.path = path
        self.samples = samples
        self.variants, self._rows = one_row_an_allele(sites)
        self.build = build
        self.hard_calls = hard_calls
        self._reader = reader
        self._lock = threading.Lock()  # a reader has one place in the file

    def genotypes(
        self, variants: NDArray[np.int64] | slice, samples: NDArray[np.int64] | None = None
    ) -> NDArray[np.int8]:
        """Copies of `alt`: (variants, samples) of 0, 1, 2 or `MISSING`; of dosages the calls that the file has.

        Raises:
            InputError: rows outside the tables, variants that are not ascending, or the file ends early.
        """
        return self._values(variants, samples, np.dtype(np.int8))

    def dosages(
        self, variants: NDArray[np.int64] | slice, samples: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Expected copies of `alt`: (variants, samples) from 0 to 2, NaN where missing.

        Raises:
            InputError: as `genotypes`.
        """
        values = self._values(variants, samples, np.dtype(np.float32))
        values[values == MISSING] = np.nan
        return values

    def _values(
        self, variants: NDArray[np.int64] | slice, samples: NDArray[np.int64] | None, dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        rows = row_numbers(variants, self.variants.height)
        picked = sample_numbers(samples, self.samples.height)
        values = np.empty((rows.size, self.samples.height), dtype)
        if rows.size:
            with self._lock:
                self._read(rows, values)
        return values if picked is None else np.take(values, picked, axis=1)

    def _read(self, rows: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Fill (rows, samples): all rows at once by their first alternative, then those of others one by one."""
        calls = values.dtype == np.int8
        sites, alleles = self._rows.site[rows].astype(np.uint32), self._rows.allele[rows]
        try:
            if (alleles == 1).all():
                (self._reader.read_list if calls else self._reader.read_dosages_list)(sites, values)
                return
            read_one = self._reader.read if calls else self._reader.read_dosages
            for number, (site, allele) in enumerate(zip(sites, alleles, strict=True)):
                read_one(int(site), values[number], int(allele))
        except RuntimeError:
            raise InputError(f"{self.path}: file ends early or is not readable; {_REMEDY}") from None


def open_plink2(pgen: Path) -> Plink2:
    """Open PREFIX.pgen with PREFIX.pvar or PREFIX.pvar.zst, and PREFIX.psam, beside it.

    Raises:
        InputError: one of the three is not there or cannot be read, the .pgen is none, was cut off or has other
            numbers of samples or variants than the tables; two people have one id; pgenlib is not installed.
    """
    try:
        with pgen.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise InputError(f"{pgen}: not a PLINK 2 genotype file: it does not begin as one")
    except FileNotFoundError:
        raise InputError(f"{pgen}: no such file; check the path") from None
    samples = read_psam(pgen.with_suffix(".psam"))
    pvar = pgen.with_suffix(".pvar")
    sites, build = read_pvar(pvar if pvar.is_file() else pvar.with_suffix(".pvar.zst"))
    reader = _reader(pgen, samples.height, sites["alt"].list.len().to_numpy())
    source = Plink2(pgen, samples, sites, build=build, hard_calls=_only_calls(pgen), reader=reader)
    source.genotypes(slice(source.variants.height - 1, source.variants.height))  # that the file reaches its end
    return source


def _reader(pgen: Path, samples: int, alternatives: NDArray[np.uint32]) -> Any:
    try:
        import pgenlib
    except ImportError:
        raise InputError('PLINK 2 files need pgenlib; pip install "careloop[genome]"') from None
    alleles = np.maximum(alternatives.astype(np.uintp), 1) + 1
    offsets = np.concatenate(([0], np.cumsum(alleles))).astype(np.uintp) if (alleles > 2).any() else None
    try:
        return pgenlib.PgenReader(
            str(pgen).encode(), raw_sample_ct=samples, variant_ct=alleles.size, allele_idx_offsets=offsets
        )
    except RuntimeError as error:
        said = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        what = "fits its .pvar and .psam" if "called with" in said else "is readable"
        numbers = f"{samples:,} samples and {alleles.size:,} variants"
        raise InputError(f"{pgen}: not a file that {what} ({numbers}); {_REMEDY}") from None


def _only_calls(pgen: Path) -> bool:
    """Whether no variant has dosages, told from the record types in the header; where it is not clear, no."""
    with pgen.open("rb") as file:
        start = file.read(12)
        if start[2] in _OF_CALLS:
            return True
        if start[2] != _VARIABLE_WIDTH or len(start) < 12:
            return False
        variants, _, flags = struct.unpack("<IIB", start[3:])
        if flags & 0x0F < 4:  # types of four bits: neither phase nor dosages
            return True
        file.seek(-(-variants // _IN_A_BLOCK) * 8, 1)
        for at in range(0, variants, _IN_A_BLOCK):
            count = min(_IN_A_BLOCK, variants - at)
            if (np.frombuffer(file.read(count), np.uint8) & _HAS_DOSAGES).any():
                return False
            nonreference = -(-count // 8) if flags & 0xC0 == 0xC0 else 0
            file.seek(count * ((flags & 0x03) + 1 + (flags >> 4 & 0x03)) + nonreference, 1)
    return True
