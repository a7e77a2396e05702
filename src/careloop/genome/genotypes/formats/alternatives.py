"""Sites with several alternative alleles as variants with one: which row is which allele of which site."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop.genome.genotypes.source import MISSING, VARIANTS
from careloop.genome.variant import ANY_OTHER

UNKNOWN_ALLELE = -1  # as VCF-Zarr and htslib's readers number them
NO_ALLELE = -2
NO_ALTERNATIVE = "."


@dataclass(frozen=True)
class Alternatives:
    """Of each row of a variants' table: `site`, from 0 in the file, and `allele`, from 1 among its alternatives."""

    site: NDArray[np.int64]
    allele: NDArray[np.int64]


def one_row_an_allele(sites: pl.DataFrame) -> tuple[pl.DataFrame, Alternatives]:
    """Part sites, whose `alt` is a list, into the rows of VARIANTS.

    A site without an alternative has one row, `.`; "any other allele" of a gVCF (`<*>`, `<NON_REF>`) has none.
    """
    named = pl.when(pl.col("alt").list.len() == 0).then(pl.lit([NO_ALTERNATIVE])).otherwise(pl.col("alt"))
    rows = sites.with_row_index("site").with_columns(named.alias("alt")).explode("alt")
    site = rows["site"].to_numpy().astype(np.int64)
    allele = np.arange(site.size) - np.searchsorted(site, site) + 1
    kept = (~rows["alt"].is_in(ANY_OTHER)).to_numpy()
    return rows.filter(kept).select(*VARIANTS), Alternatives(site[kept], allele[kept])


def copies_called(
    first: NDArray[np.integer[Any]], second: NDArray[np.integer[Any]], allele: NDArray[np.int64] | int
) -> NDArray[np.int8]:
    """Copies of an allele, on the scale 0 to 2, by the two alleles that were called; all of one shape.

    Alleles are numbers, `UNKNOWN_ALLELE`, or `NO_ALLELE` for the second of one copy. One unknown allele makes the whole
    genotype `MISSING`.
    """
    one, two = (first == allele).astype(np.int8), (second == allele).astype(np.int8)
    copies = np.where(second == NO_ALLELE, 2 * one, one + two)
    return np.where((first < 0) | (second == UNKNOWN_ALLELE), MISSING, copies).astype(np.int8)


def copies_in_genotypes(allele: int, alleles: int, *, ploidy: int) -> NDArray[np.float32]:
    """Copies of an allele, on the scale 0 to 2, in each possible genotype in the order of VCF and BGEN.

    Source: VCF 4.5 section 1.6.2, GL; BGEN 1.2, per-sample order of genotype probabilities.
    """
    if ploidy == 1:
        return np.where(np.arange(alleles) == allele, 2, 0).astype(np.float32)
    pairs = [(first, second) for second in range(alleles) for first in range(second + 1)]
    return np.array([(first == allele) + (second == allele) for first, second in pairs], np.float32)
