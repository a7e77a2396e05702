"""Chosen variants of a genotype file as a table: one row a person, one column a variant, copies of its ALT."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from careloop import InputError
from careloop.genome.findings.scores.score_table import SAMPLE
from careloop.genome.genotypes.source import GenotypeSource

MOST_VARIANTS = 1000  # a column of a study each: whole genomes belong in a score


def dosage_table(source: GenotypeSource, variants: Sequence[str]) -> pl.DataFrame:
    """`sample_id`, and for each variant a column `ID_ALT` (as plink2 names them) of expected copies, 0 to 2, or null.

    `variants` are ids, or places as `contig:position:ref:alt`; an id with several alternative alleles gives them all.
    A variant without an id is called by its place.

    Raises:
        InputError: a variant that the file does not have, no or more than `MOST_VARIANTS` variants.
    """
    if not 0 < len(variants) <= MOST_VARIANTS:
        raise InputError(f"1 to {MOST_VARIANTS:,} variants can be recorded as they are, got {len(variants):,}")
    place = pl.format("{}:{}:{}:{}", "contig", "position", "ref", "alt")
    held = source.variants.with_row_index("row").with_columns(place=place)
    rows = held.filter(pl.col("variant_id").is_in(variants) | pl.col("place").is_in(variants))
    absent = sorted(set(variants) - set(rows["variant_id"]) - set(rows["place"]))
    if absent:
        raise InputError(f"{source.path}: there is no variant {absent[0]}; give its id there, or chrom:pos:ref:alt")
    values = source.dosages(rows["row"].to_numpy().astype(np.int64))
    named = pl.when(pl.col("variant_id").fill_null(".").is_in([".", ""])).then("place").otherwise("variant_id")
    names = rows.select(pl.format("{}_{}", named, "alt")).to_series().to_list()
    columns = [pl.Series(name, row, nan_to_null=True) for name, row in zip(names, values, strict=True)]
    return pl.DataFrame([source.samples[SAMPLE].alias(SAMPLE), *columns])
