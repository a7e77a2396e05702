"""Genotypes written as PLINK 1 files: .bed, .bim and .fam, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.genotypes.formats.plink1 import VARIANT_MAJOR, pack
from careloop.record.whole_file import whole_file

_SEX_CODES = {"male": "1", "female": "2"}


def write_bed(
    prefix: str | Path,
    samples: pl.DataFrame,
    variants: pl.DataFrame,
    genotypes: Iterable[NDArray[np.int8]],
) -> Path:
    """Write PREFIX.bed, .bim and .fam, and return the path of the .bed.

    `samples` and `variants` have the columns of SAMPLES and VARIANTS; `genotypes` are blocks (variants, samples) of 0,
    1, 2 copies of `alt` (which becomes allele 1) or `MISSING`, in the order of `variants`.

    Raises:
        InputError: a genotype that is none of these, or blocks that do not fit the two tables.
    """
    prefix = Path(prefix)
    paths = [prefix.with_name(prefix.name + ending) for ending in (".fam", ".bim", ".bed")]
    with whole_file(paths[0]) as fam, whole_file(paths[1]) as bim, whole_file(paths[2]) as bed:
        _fam(samples).write_csv(fam, include_header=False, separator="\t", quote_style="never")
        _bim(variants).write_csv(bim, include_header=False, separator="\t", quote_style="never")
        written = 0
        with bed.open("wb") as file:
            file.write(VARIANT_MAJOR)
            for block in genotypes:
                if block.ndim != 2 or block.shape[1] != samples.height:
                    raise InputError(f"{paths[2]}: a block has {samples.height:,} samples; got one of {block.shape}")
                file.write(pack(block).data)
                written += len(block)
        if written != variants.height:
            raise InputError(f"{paths[2]}: {variants.height:,} variants are in the table, {written:,} were given")
    return paths[2]


def _fam(samples: pl.DataFrame) -> pl.DataFrame:
    return samples.select(
        pl.col("family_id").fill_null("0"),
        "sample_id",
        pl.col("father_id").fill_null("0"),
        pl.col("mother_id").fill_null("0"),
        pl.col("sex").replace_strict(_SEX_CODES, default="0", return_dtype=pl.String()),
        pl.lit("-9").alias("phenotype"),
    )


def _bim(variants: pl.DataFrame) -> pl.DataFrame:
    return variants.select("contig", "variant_id", pl.lit("0").alias("centimorgan"), "position", "alt", "ref")
