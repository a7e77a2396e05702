"""BGEN 1.2 and 1.3 files: genotype probabilities as dosages, with the .sample file beside them.

Source: BGEN format specification 1.3, "Genotype data block (layout 2)"; the .sample format of QCTOOL.
"""

from __future__ import annotations

import threading
from copy import copy
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.genotypes.formats.alternatives import copies_in_genotypes, one_row_an_allele
from careloop.genome.genotypes.formats.plink_tables import read_columns, read_lines, samples_table, variants_table
from careloop.genome.genotypes.nearest_call import nearest_call
from careloop.genome.genotypes.rows import row_numbers, sample_numbers
from careloop.genome.genotypes.source import VARIANTS

_LAYOUT = 2  # of BGEN 1.2 and 1.3
_UNREADABLE = (ValueError, IndexError, RuntimeError, OSError)
_SAMPLE_HEADER = 2  # lines of a .sample file before the first person
_SAMPLE_COLUMNS = {"sex": "sex", "father": "father_id", "mother": "mother_id"}


class Bgen:
    """An open BGEN file, as `GenotypeSource` describes it: `alt` is an allele behind the first, one row each.

    Genotypes are the calls nearest to dosages. A sample with one copy of the chromosome has dosages from 0 to 2 too.
    """

    hard_calls = False
    build: str | None = None

    def __init__(self, path: Path, samples: pl.DataFrame, found: list[Any], *, reader: Any) -> None:
        self.path = path
        self.samples = samples
        self.variants, self._rows = one_row_an_allele(_sites(found, path))
        self._found = found  # bgen's variants, each of which knows its place in the file
        self._reader = reader  # closes the file when nobody holds it
        self._lock = threading.Lock()  # variants share the open file

    def genotypes(
        self, variants: NDArray[np.int64] | slice, samples: NDArray[np.int64] | None = None
    ) -> NDArray[np.int8]:
        """Copies of `alt`: (variants, samples) of 0, 1, 2, or `MISSING` where no call is near the dosage.

        Raises:
            InputError: as `dosages`.
        """
        return nearest_call(self.dosages(variants, samples))

    def dosages(
        self, variants: NDArray[np.int64] | slice, samples: NDArray[np.int64] | None = None
    ) -> NDArray[np.float32]:
        """Expected copies of `alt`: (variants, samples) from 0 to 2, NaN where missing.

        Raises:
            InputError: rows outside the tables, variants that are not ascending, the file ends early, or a sample has
                more than two copies.
        """
        rows = row_numbers(variants, self.variants.height)
        picked = sample_numbers(samples, self.samples.height)
        values = np.empty((rows.size, self.samples.height if picked is None else picked.size), np.float32)
        for number, row in enumerate(rows):
            with self._lock:
                found = self._dosages(int(self._rows.site[row]), int(self._rows.allele[row]))
            values[number] = found if picked is None else found[picked]
        return values

    def _dosages(self, site: int, allele: int) -> NDArray[np.float32]:
        variant = copy(self._found[site])  # one that was read keeps its probabilities in memory
        try:
            ploidy = variant.ploidy
            several = len(variant.alleles) > 2
            values = variant.probabilities if several else variant.alt_dosage
        except _UNREADABLE:
            raise _cut_off(self.path) from None
        if ploidy.max(initial=0) > 2:
            raise InputError(f"{self.path}: a sample has at most two copies; variant {site + 1} has more")
        if several:
            values = _of_several(values, allele, (variant.is_phased, len(variant.alleles), ploidy))
        else:
            values = values * (2 / np.maximum(ploidy, 1).astype(np.float32))
        return np.clip(values, 0, 2)


def open_bgen(path: Path, *, sample_file: Path | None = None) -> Bgen:
    """Open a BGEN file; its people are those of `sample_file`, of a .sample file beside it, or of its own header.

    Raises:
        InputError: the file is not BGEN 1.2 or 1.3 or was cut off, no sample ids are found, their number is another
            than the file's, two people have one id, or bgen is not installed.
    """
    try:
        import bgen
    except ImportError:
        raise InputError('BGEN files need bgen; pip install "careloop[genome]"') from None
    try:
        reader = bgen.BgenReader(path, delay_parsing=True)
        header, names = reader.header, list(reader.samples)
        found = list(islice(reader, None))  # without asking for a length, which an index of another file would answer
        cut_off = bool(found) and found[-1].next_variant_offset > path.stat().st_size
    except _UNREADABLE:
        raise _cut_off(path) from None
    if cut_off:
        raise _cut_off(path)
    if header.layout != _LAYOUT:
        raise InputError(f"{path}: BGEN 1.1 is not read, but 1.2 and 1.3; make it again by plink2 --export bgen-1.3")
    samples = _samples(path, sample_file, names if header.has_sample_ids else None)
    if samples.height != header.nsamples:
        given = f"it has {header.nsamples:,} samples and the .sample file {samples.height:,}"
        raise InputError(f"{path}: {given}; give its own")
    return Bgen(path, samples, found, reader=reader)


def read_sample_file(path: Path) -> pl.DataFrame:
    """Read a .sample file to the columns of SAMPLES: with ID_1 and ID_2 the latter is the person's.

    Raises:
        InputError: no such file, no header, a line without its columns, or two people of one id.
    """
    header = read_lines(path, _SAMPLE_HEADER)
    names = header[0].split() if header else []
    if len(header) < _SAMPLE_HEADER or not header[1].split()[:1] == ["0"]:
        raise InputError(f"{path}: a .sample file begins with a line of names and one of types (0, D, P ...)")
    table = read_columns(path, tuple(names), required=1, skip_lines=_SAMPLE_HEADER)
    identifier = names[1] if len(names) > 1 and names[1].upper() == "ID_2" else names[0]
    chosen = {name: _SAMPLE_COLUMNS[name.lower()] for name in names if name.lower() in _SAMPLE_COLUMNS}
    if identifier != names[0]:
        chosen[names[0]] = "family_id"
    return samples_table(table.select(pl.col(identifier).alias("sample_id"), *_renamed(chosen)), path)


def _renamed(names: dict[str, str]) -> list[pl.Expr]:
    return [pl.col(name).alias(new) for name, new in names.items()]


def _samples(path: Path, sample_file: Path | None, names: list[str] | None) -> pl.DataFrame:
    beside = path.with_suffix(".sample")
    if sample_file or beside.is_file():
        return read_sample_file(sample_file or beside)
    if names is None:
        raise InputError(f"{path}: no sample ids in this file and no {beside.name} beside it; give a .sample file")
    return samples_table(pl.DataFrame({"sample_id": names}), path)


def _sites(found: list[Any], path: Path) -> pl.DataFrame:
    rows = [
        (one.chrom.lstrip("0") or one.chrom, one.pos, _identifier(one), one.alleles[0], ",".join(one.alleles[1:]))
        for one in found
    ]
    table = pl.DataFrame(rows, schema=VARIANTS, orient="row")
    return variants_table(table, path).with_columns(pl.col("alt").str.split(","))


def _identifier(variant: Any) -> str:
    return variant.rsid if variant.rsid not in ("", ".") else variant.varid or "."


def _of_several(
    probabilities: NDArray[np.float32], allele: int, made_of: tuple[bool, int, NDArray[np.uint8]]
) -> NDArray[np.float32]:
    """Dosages of one of several alternatives: (samples,), NaN where missing.

    `made_of`: whether probabilities are phased, the number of alleles, and each sample's copies of the chromosome.
    """
    phased, alleles, ploidy = made_of
    if phased:
        of_haplotypes = probabilities.reshape(len(ploidy), -1, alleles)[:, :, allele]
        known = ~np.isnan(of_haplotypes)
        share = np.where(known, of_haplotypes, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        return np.where(known.any(axis=1), 2 * share, np.nan).astype(np.float32)
    dosages = np.full(len(ploidy), np.nan, np.float32)
    for copies in (1, 2):
        weights = copies_in_genotypes(allele, alleles, ploidy=copies)
        dosages[ploidy == copies] = probabilities[ploidy == copies, : weights.size] @ weights
    return dosages


def _cut_off(path: Path) -> InputError:
    return InputError(f"{path}: not a BGEN file, or it ends early; copy it again, or make it again by plink2 --export")
