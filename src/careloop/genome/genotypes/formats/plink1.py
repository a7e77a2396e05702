"""PLINK 1 genotypes: .bed with .bim and .fam, two bits a genotype.

Four genotypes a byte are looked up at once, several times faster than a general reader of such files.
Source: PLINK 1.9 file format reference, section .bed.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.genotypes.formats.plink_tables import read_bim, read_fam
from careloop.genome.genotypes.rows import row_numbers, runs, sample_numbers
from careloop.genome.genotypes.source import MISSING

VARIANT_MAJOR = b"\x6c\x1b\x01"
SAMPLE_MAJOR = b"\x6c\x1b\x00"
CODES = (2, MISSING, 1, 0)  # copies of allele 1 by the two bits 00, 01, 10, 11
_UNKNOWN_CODE = 255
_SCATTERED = 32  # with fewer rows a run than this, rows are picked out of the mapped file


class Plink1:
    """An open PLINK 1 file set, as `GenotypeSource` describes it; `alt` is allele 1.

    Males' genotypes on X are as the file has them: 0 or 2.
    """

    hard_calls = True
    build: str | None = None

    def __init__(self, path: Path, samples: pl.DataFrame, variants: pl.DataFrame) -> None:
        self.path = path
        self.samples = samples
        self.variants = variants

    def genotypes(
        self, variants: NDArray[np.int64] | slice, samples: NDArray[np.int64] | None = None
    ) -> NDArray[np.int8]:
        """Copies of `alt`: (variants, samples) of 0, 1, 2 or `MISSING`.

        Raises:
            InputError: rows outside the tables, or variants that are not ascending.
        """
        return self._looked_up(variants, samples, _four_calls(), np.dtype(np.int8))

    def dosages(
        self, variants: NDArray[np.int64] | slice, samples: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Copies of `alt`: (variants, samples) of 0, 1, 2, or NaN where missing.

        Raises:
            InputError: as `genotypes`.
        """
        return self._looked_up(variants, samples, _four_dosages(), np.dtype(np.float32))

    def packed(self, variants: NDArray[np.int64] | slice) -> NDArray[np.uint8]:
        """The file's bytes: (variants, ceil(samples / 4)), the first genotype of four in the lowest two bits.

        Raises:
            InputError: as `genotypes`, or the file has become shorter since it was opened.
        """
        rows = row_numbers(variants, self.variants.height)
        width = -(-self.samples.height // 4)
        parts = list(runs(rows))
        if rows.size < len(parts) * _SCATTERED and len(parts) > 1:
            shape = (self.variants.height, width)
            mapped = np.memmap(self.path, np.uint8, mode="r", offset=len(VARIANT_MAJOR), shape=shape)
            return np.asarray(mapped[rows])
        packed = np.empty((rows.size, width), np.uint8)
        with self.path.open("rb", buffering=0) as file:
            for at, first, end in parts:
                file.seek(len(VARIANT_MAJOR) + first * width)
                if file.readinto(packed[at : at + end - first].data) != (end - first) * width:
                    raise InputError(f"{self.path}: file ends early; it has changed since it was opened")
        return packed

    def _looked_up(
        self,
        variants: NDArray[np.int64] | slice,
        samples: NDArray[np.int64] | None,
        table: NDArray[Any],
        dtype: np.dtype[Any],
    ) -> NDArray[Any]:
        picked = sample_numbers(samples, self.samples.height)
        values = np.take(table, self.packed(variants)).view(dtype)[:, : self.samples.height]
        return values if picked is None else np.take(values, picked, axis=1)


def open_plink1(bed: Path) -> Plink1:
    """Open PREFIX.bed with PREFIX.bim and PREFIX.fam beside it.

    Raises:
        InputError: one of the three is not there or cannot be read, the .bed is none, is sample-major, or has another
            size than the tables' lengths ask for; or two people have one id.
    """
    try:
        size = bed.stat().st_size
        with bed.open("rb") as file:
            start = file.read(len(VARIANT_MAJOR))
    except FileNotFoundError:
        raise InputError(f"{bed}: no such file; check the path") from None
    if start == SAMPLE_MAJOR:
        raise InputError(f"{bed}: sample-major PLINK files are not read; turn it by plink1.9 --make-bed")
    if start != VARIANT_MAJOR:
        raise InputError(f"{bed}: not a PLINK 1 genotype file: it does not begin as one; is it a BED of regions?")
    samples, variants = read_fam(bed.with_suffix(".fam")), read_bim(bed.with_suffix(".bim"))
    expected = len(VARIANT_MAJOR) + variants.height * -(-samples.height // 4)
    if size != expected:
        raise InputError(
            f"{bed}: {samples.height:,} samples and {variants.height:,} variants need {expected:,} bytes, but it has "
            f"{size:,}; it was cut off, or its .bim or .fam is another file's"
        )
    return Plink1(bed, samples, variants)


def pack(genotypes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Pack genotypes (variants, samples) of 0, 1, 2 or `MISSING` to two bits each: (variants, ceil(samples / 4)).

    Raises:
        InputError: a genotype that is none of these.
    """
    table = np.full(256, _UNKNOWN_CODE, np.uint8)
    table[np.array(CODES, np.int8).view(np.uint8)] = np.arange(4)
    codes = np.zeros((len(genotypes), -(-genotypes.shape[1] // 4) * 4), np.uint8)  # the bits behind the last are 0
    np.take(table, genotypes.astype(np.int8, copy=False).view(np.uint8), out=codes[:, : genotypes.shape[1]])
    if codes.size and codes.max() == _UNKNOWN_CODE:
        raise InputError(f"a genotype is 0, 1, 2 copies or {CODES[1]} for missing; got another number")
    four = codes.view(np.uint32)
    return ((four | four >> 6 | four >> 12 | four >> 18) & 255).astype(np.uint8)


def _of_byte() -> NDArray[np.int8]:
    """The four genotypes of each byte: (256, 4)."""
    values = np.arange(256)
    return np.stack([np.array(CODES, np.int8)[(values >> shift) & 3] for shift in (0, 2, 4, 6)], axis=1)


@cache
def _four_calls() -> NDArray[np.uint32]:
    return _of_byte().view(np.uint32).ravel()


@cache
def _four_dosages() -> NDArray[np.complex128]:
    """Four float32 in the 16 bytes of a complex128, the widest item that NumPy can look up."""
    calls = _of_byte()
    return np.where(calls == MISSING, np.nan, calls).astype(np.float32).view(np.complex128).ravel()
