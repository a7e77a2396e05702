"""BGEN 1.2 and 1.3 files: genotype probabilities as dosages, with the .sample file beside them.

Source: BGEN format specification 1.3, "Genotype data block (layout 2)"; the .sample format of QCTOOL.
"""

from __future__ import annotations

import threading
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

    def __init__(self, path: Path, samples: pl.DataFrame, sites: pl.DataFrame, *, reader: Any) -> None:
        self.path = path
        self.samples = samples
        self.variants, self._rows = one_row_an_allele(sites)
        self._reader = reader
        self._lock = threading.Lock()  # a reader has one place in the file

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
        try:
            variant = self._reader[site]
            ploidy = variant.ploidy
            if ploidy.max(initial=0) > 2:
                raise InputError(f"{self.path}: a sample has at most two copies; variant {site + 1} has more")
            if len(variant.alleles) == 2:
                dosages = variant.alt_dosage * (2 / np.maximum(ploidy, 1).astype(np.float32))
            else:
                dosages = _of_several(variant, allele, ploidy)
        except _UNREADABLE as error:
            if isinstance(error, InputError):
                raise
            raise _cut_off(self.path) from None
        return np.clip(dosages, 0, 2)


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
        layout, count = reader.header.layout, reader.header.nsamples
        found, end = _variants(bgen.BgenReader(path, delay_parsing=True))
    except _UNREADABLE:
        raise _cut_off(path) from None
    if end > path.stat().st_size:
        raise _cut_off(path)
    if layout != _LAYOUT:
        raise InputError(f"{path}: BGEN 1.1 is not read, but 1.2 and 1.3; make it again by plink2 --export bgen-1.3")
    samples = _samples(path, sample_file, reader)
    if samples.height != count:
        raise InputError(f"{path}: it has {count:,} samples and the .sample file {samples.height:,}; give its own")
    return Bgen(path, samples, _sites(found, path), reader=reader)


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


def _samples(path: Path, sample_file: Path | None, reader: Any) -> pl.DataFrame:
    beside = path.with_suffix(".sample")
    if sample_file or beside.is_file():
        return read_sample_file(sample_file or beside)
    if not reader.header.has_sample_ids:
        raise InputError(f"{path}: no sample ids in this file and no {beside.name} beside it; give a .sample file")
    return samples_table(pl.DataFrame({"sample_id": list(reader.samples)}), path)


def _variants(reader: Any) -> tuple[list[tuple[str, int, str, list[str]]], int]:
    """Contig, position, id and alleles of each variant, and the first byte behind the last."""
    found, end = [], 0
    for one in reader:
        found.append((one.chrom, one.pos, _identifier(one), one.alleles))
        end = one.next_variant_offset
    return found, end


def _sites(found: list[tuple[str, int, str, list[str]]], path: Path) -> pl.DataFrame:
    rows = [
        (contig.lstrip("0") or contig, position, identifier, alleles[0], ",".join(alleles[1:]))
        for contig, position, identifier, alleles in found
    ]
    table = pl.DataFrame(rows, schema=VARIANTS, orient="row")
    return variants_table(table, path).with_columns(pl.col("alt").str.split(","))


def _identifier(variant: Any) -> str:
    return variant.rsid if variant.rsid not in ("", ".") else variant.varid or "."


def _of_several(variant: Any, allele: int, ploidy: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Dosages of one of several alternatives: (samples,), NaN where missing."""
    alleles, probabilities = len(variant.alleles), variant.probabilities
    if variant.is_phased:
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
