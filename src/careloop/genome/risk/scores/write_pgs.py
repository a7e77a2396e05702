"""Weights written as a PGS Catalog scoring file (format version 2.0), whole or not at all.

Source: PGS Catalog, Scoring files, https://www.pgscatalog.org/downloads/#dl_ftp_scoring.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from careloop import InputError
from careloop.record.whole_file import whole_file

# One row a variant; `weight` belongs to one copy of `effect_allele`, positions count from 1, ids may be null.
WEIGHTS = pl.Schema(
    {
        "variant_id": pl.String(),
        "chromosome": pl.String(),
        "position": pl.Int64(),
        "effect_allele": pl.String(),
        "other_allele": pl.String(),
        "weight": pl.Float64(),
    }
)
FREQUENCY = "effect_allele_frequency"  # a further column that may be there
_THEIR_NAMES = {
    "variant_id": "rsID",
    "chromosome": "chr_name",
    "position": "chr_position",
    "weight": "effect_weight",
    FREQUENCY: "allelefrequency_effect",
}


def write_pgs(
    table: pl.DataFrame, path: Path, *, name: str, build: str | None = None, about: Mapping[str, str] | None = None
) -> None:
    """Write rows of WEIGHTS (and `effect_allele_frequency` where the table has it); gzip where the name ends in .gz.

    `about` are further lines of the header, `trait_reported` and `weight_type` among them, by the Catalog's names.

    Raises:
        InputError: a column of WEIGHTS is not there, or a weight is no finite number.
    """
    absent = [column for column in WEIGHTS if column not in table.columns]
    if absent:
        raise InputError(f"weights need the columns {', '.join(WEIGHTS)}; {', '.join(absent)} are not there")
    if not table["weight"].cast(pl.Float64()).is_finite().fill_null(value=False).all():
        raise InputError("each weight of a score is a finite number; leave variants without one out")
    columns = [*WEIGHTS, *([FREQUENCY] if FREQUENCY in table.columns else [])]
    text = table.select(columns).rename(_THEIR_NAMES, strict=False).write_csv(separator="\t")
    content = (_header(table.height, name, build, about or {}) + text).encode()
    with whole_file(path) as draft:
        draft.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def _header(variants: int, name: str, build: str | None, about: Mapping[str, str]) -> str:
    lines = {
        "format_version": "2.0",
        "pgs_id": name,
        "pgs_name": name,
        "trait_reported": "NR",
        "weight_type": "beta",
        "genome_build": build or "NR",
        **about,
        "variants_number": str(variants),
    }
    written = "".join(f"#{key}={' '.join(value.split())}\n" for key, value in lines.items())
    return f"###PGS CATALOG SCORING FILE - see https://www.pgscatalog.org/downloads/#dl_ftp_scoring\n{written}"
