"""Which variants of a genotype file belong to which gene, from a table of variants and genes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.files.contigs import canonical_contig
from careloop.genome.genotypes.source import GenotypeSource

GENE = ("gene", "GENE", "SYMBOL", "gene_name", "gene_id")
VARIANT = ("variant", "variant_id", "ID", "#ID", "SNP", "rsid")
WEIGHT = ("weight", "WEIGHT", "score")
ALL = "all"  # the mask of every variant in the table


@dataclass(frozen=True)
class GeneSet:
    """One gene under one mask: `rows` of the source's variants, ascending, and their weights in the table."""

    gene: str
    mask: str
    rows: NDArray[np.int64]
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class GeneVariants:
    """Genes in the order of their first variant; `left_out` counts rows of the table by reason."""

    sets: tuple[GeneSet, ...]
    left_out: Mapping[str, int]


def read_gene_variants(
    path: Path,
    source: GenotypeSource,
    *,
    masks: Mapping[str, frozenset[str]] | None = None,
    mask_column: str = "impact",
) -> GeneVariants:
    """Read columns `gene` and `variant` (an id of the genotype file, or chr:pos:ref:alt), and `weight` where given.

    The tables that `careloop genome annotate` writes fit. `masks` {name: values of `mask_column`} choose the variants
    that count; without any there is one mask, of all. A variant may be in several genes.

    Raises:
        InputError: the table cannot be read, lacks a column, or names no variant of the genotype file.
    """
    table = _read(path)
    columns = {what: next((n for n in names if n in table.columns), None) for what, names in _NAMES.items()}
    for what in ("gene", "variant"):
        if columns[what] is None:
            raise InputError(f"{path}: a column {what} is needed; the columns are {', '.join(table.columns[:20])}")
    if masks and mask_column not in table.columns:
        raise InputError(
            f"{path}: masks go by a column {mask_column!r}; the columns are {', '.join(table.columns[:20])}"
        )
    rows = table.select(
        pl.col(str(columns["gene"])).alias("gene"),
        pl.col(str(columns["variant"])).alias("variant"),
        (pl.col(columns["weight"]).cast(pl.Float64, strict=False) if columns["weight"] else pl.lit(1.0)).alias(
            "weight"
        ),
        (pl.col(mask_column) if masks else pl.lit(ALL)).alias("value"),
    )
    placed = rows.join(_places(source), on="variant", how="left", maintain_order="left")
    broken = pl.col("gene").is_null() | pl.col("variant").is_null() | pl.col("weight").is_null()
    left_out = {
        "without gene, variant or weight": placed.filter(broken).height,
        "not in the genotypes": placed.filter(~broken & pl.col("row").is_null()).height,
    }
    usable = placed.filter(~broken & pl.col("row").is_not_null()).unique(["gene", "row", "value"], maintain_order=True)
    if usable.is_empty():
        raise InputError(
            f"{path}: none of its {rows.height:,} variants is in {source.path}; give ids or chr:pos:ref:alt"
        )
    return GeneVariants(
        tuple(_sets(usable, masks or {ALL: frozenset({ALL})})), {k: n for k, n in left_out.items() if n}
    )


_NAMES = {"gene": GENE, "variant": VARIANT, "weight": WEIGHT}


def _read(path: Path) -> pl.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path).with_columns(pl.all().cast(pl.String))
        with path.open(encoding="utf-8") as file:
            separator = "," if "," in file.readline() else "\t"
        return pl.read_csv(path, separator=separator, infer_schema=False, null_values=["", "NA", "."])
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except (OSError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path}: this table of genes cannot be read: {str(error).splitlines()[0]}") from error


def _places(source: GenotypeSource) -> pl.DataFrame:
    """Each variant's row by its id and by chr:pos:ref:alt in both spellings of the contig."""
    rows = source.variants.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    contigs = {name: canonical_contig(name) for name in rows["contig"].unique().to_list()}
    plain = pl.col("contig").replace(contigs)
    spellings = [
        pl.format("{}:{}:{}:{}", contig, "position", "ref", "alt") for contig in (plain, pl.lit("chr") + plain)
    ]
    parts = [rows.select(spelling.alias("variant"), "row") for spelling in (*spellings, pl.col("variant_id"))]
    return pl.concat(parts).drop_nulls().unique("variant", keep="first", maintain_order=True)


def _sets(usable: pl.DataFrame, masks: Mapping[str, frozenset[str]]) -> list[GeneSet]:
    sets = []
    for mask, values in masks.items():
        chosen = usable.filter(pl.col("value").is_in(list(values))).unique(["gene", "row"], maintain_order=True)
        for (gene,), part in chosen.sort("row").group_by("gene", maintain_order=True):
            sets.append(GeneSet(str(gene), mask, part["row"].to_numpy(), part["weight"].to_numpy()))
    return sorted(sets, key=lambda each: int(each.rows[0]))
