"""Allele frequencies from a file (plink2's .afreq), for the variants of a genotype file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.files.packed import read_packed

_NEEDED = ("ID", "REF", "ALT", "ALT_FREQS")


def read_frequencies(path: Path, variants: pl.DataFrame) -> NDArray[np.float64]:
    """Frequencies of `alt` of each row of `variants` (columns of VARIANTS), NaN where the file has none.

    Variants are found by id; swapped alleles are turned. Sites with several ALT in one line are not read.

    Raises:
        InputError: no such file, not readable, or without the columns ID, REF, ALT, ALT_FREQS.
    """
    content = read_packed(path, missing="make one by plink2 --freq")
    table = pl.read_csv(io.BytesIO(content), separator="\t", infer_schema=False, truncate_ragged_lines=True)
    if any(name not in table.columns for name in _NEEDED):
        raise InputError(f"{path}: allele frequencies need the columns {', '.join(_NEEDED)}, as plink2 --freq writes")
    known = table.select(
        pl.col("ID").alias("variant_id"),
        pl.col("REF").alias("their_ref"),
        pl.col("ALT").alias("their_alt"),
        pl.col("ALT_FREQS").cast(pl.Float64, strict=False).alias("frequency"),
    ).filter(pl.col("frequency").is_between(0, 1) & (pl.col("variant_id") != "."))
    known = known.unique("variant_id", keep="first")
    joined = variants.join(known, on="variant_id", how="left", maintain_order="left")
    same = (pl.col("ref") == pl.col("their_ref")) & (pl.col("alt") == pl.col("their_alt"))
    swapped = (pl.col("ref") == pl.col("their_alt")) & (pl.col("alt") == pl.col("their_ref"))
    found = joined.select(pl.when(same).then("frequency").when(swapped).then(1 - pl.col("frequency")))["frequency"]
    return found.fill_null(float("nan")).to_numpy()
