"""Summary statistics of association: one table in the names of GWAS-SSF, read from many layouts and written whole.

GWAS-SSF: Hayhurst et al., A community driven GWAS summary statistics standard, bioRxiv 2022.07.15.500230.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl
import yaml

from careloop import InputError
from careloop.genome.association.statistics.columns import STATISTICS, Recognised, recognise
from careloop.genome.association.statistics.rows import additive, in_standard, numbers, placed, reasons
from careloop.genome.files.packed import UNREADABLE, open_packed
from careloop.record.whole_file import whole_file, write_whole

__all__ = [
    "NULLS",
    "REJECTS",
    "STATISTICS",
    "SummaryStatistics",
    "p_text",
    "read_summary_statistics",
    "write_summary_statistics",
]

REJECTS = pl.Schema({"line": pl.Int64(), "reason": pl.String()})
NULLS = ("", "NA", "#NA", "N/A", "nan", "NaN", "NAN", ".", "-", "NULL", "null", "None")
_SSF_NUMBERS = {"X": "23", "Y": "24", "MT": "25"}


@dataclass(frozen=True)
class SummaryStatistics:
    """`table` has the columns of `STATISTICS` (null where the file has none), `rejects` those of `REJECTS`.

    `recognised` says which column of the file each is; `left_out` counts rows that are understood but no additive
    effect, by their test; `build` is the assembly that a metadata file beside it names, or None.
    """

    path: Path
    table: pl.DataFrame
    rejects: pl.DataFrame
    recognised: Recognised
    left_out: Mapping[str, int]
    build: str | None = None

    def require(self, *columns: str) -> None:
        """Raise InputError unless each of these columns of `STATISTICS` has values."""
        absent = [name for name in columns if self.table[name].null_count() == self.table.height]
        if absent:
            raise InputError(f"{self.path}: {', '.join(absent)} are needed; the file has only {self.recognised.said}")


def read_summary_statistics(path: Path, *, n: int | None = None) -> SummaryStatistics:
    """Read GWAS-SSF, PLINK 2 (.glm.*), REGENIE and the common layouts; plain, gzip or zstd; tab, comma or spaces.

    Odds and hazard ratios become their logarithms; a standard error that is absent comes from effect and P value; `n`
    is the number of people where the file does not say. Rows that break a rule are in `rejects` with their line.

    Raises:
        InputError: the file cannot be read or its columns are not known.
    """
    path = Path(path)
    raw = _read_text(path)
    recognised = recognise(raw.columns, where=str(path))
    rows = raw.select(
        pl.int_range(2, pl.len() + 2, dtype=pl.Int64).alias("line"),
        *(pl.col(theirs).alias(ours) for ours, theirs in recognised.columns.items()),
    )
    kept, left_out = additive(rows)
    if "place" in kept.columns:
        kept = placed(kept)
    numbered, unreadable = numbers(kept)
    table = in_standard(numbered, n)
    why = reasons(table, unreadable)
    rejected = why.is_not_null()
    rejects = pl.DataFrame({"line": kept["line"].filter(rejected), "reason": why.filter(rejected)}, schema=REJECTS)
    return SummaryStatistics(path, table.filter(~rejected), rejects, recognised, left_out, _stated_build(path))


def write_summary_statistics(table: pl.DataFrame, path: Path, *, build: str | None = None) -> None:
    """Write rows of `STATISTICS` (and further columns behind them) as GWAS-SSF, with its metadata file beside it.

    X, Y and MT are written 23, 24 and 25, null as #NA; gzip where the name ends in .gz. Whole or not at all.
    """
    text = table.with_columns(pl.col("chromosome").replace(_SSF_NUMBERS))
    packing: Literal["gzip", "uncompressed"] = "gzip" if path.suffix == ".gz" else "uncompressed"
    with whole_file(path) as draft:
        text.write_csv(draft, separator="\t", null_value="#NA", compression=packing)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "md5").hexdigest()
    metadata = {
        "genome_assembly": build or "unknown",
        "coordinate_system": "1-based",
        "file_type": "GWAS-SSF v1.0",
        "data_file_name": path.name,
        "data_file_md5sum": digest,
        "is_harmonised": False,
        "is_sorted": False,
    }
    write_whole(_metadata_path(path), yaml.safe_dump(metadata, sort_keys=False))


def p_text(minus_log: float) -> str:
    """A P value by its -log10 in three figures, the smallest too: `0.0412`, `2.38e-06`, `3.20e-412`."""
    if minus_log < 3:
        return f"{10**-minus_log:.4f}"
    exponent = math.ceil(minus_log)
    mantissa = f"{10 ** (exponent - minus_log):.2f}"
    if mantissa == "10.00":
        mantissa, exponent = "1.00", exponent - 1
    return f"{mantissa}e-{exponent:02d}"


def _metadata_path(path: Path) -> Path:
    return path.with_name(f"{path.name}-meta.yaml")


def _stated_build(path: Path) -> str | None:
    if not _metadata_path(path).exists():
        return None
    stated = yaml.safe_load(_metadata_path(path).read_text()) or {}
    build = str(stated.get("genome_assembly", "unknown")) if isinstance(stated, dict) else "unknown"
    return None if build == "unknown" else build


def _read_text(path: Path) -> pl.DataFrame:
    """The file's table, all as text, null where a value is absent."""
    try:
        with open_packed(path) as file:
            first = file.readline(2**20)
            while first.startswith(b"##"):
                first = file.readline(2**20)
        header = first.decode("utf-8", "replace")
        zstd = first[:4] == b"\x28\xb5\x2f\xfd"  # which polars unpacks by itself
        if not zstd and "\t" not in header and "," not in header:
            return _spaced(path, header.split())
        return pl.read_csv(
            path,
            separator="," if "," in header and "\t" not in header and not zstd else "\t",
            infer_schema=False,
            null_values=list(NULLS),
            comment_prefix="##",
            truncate_ragged_lines=True,
        )
    except (*UNREADABLE, pl.exceptions.PolarsError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: these summary statistics cannot be read: {why}; give a whole table") from error


def _spaced(path: Path, header: list[str]) -> pl.DataFrame:
    """A table whose columns are parted by any number of spaces, as PLINK 1 writes."""
    lines = pl.read_csv(path, separator="\x01", has_header=True, new_columns=["line"], infer_schema=False)
    parts = lines["line"].str.strip_chars().str.replace_all(r"\s+", " ").str.split_exact(" ", len(header) - 1)
    table = parts.struct.rename_fields(header).struct.unnest()
    return table.with_columns(pl.when(pl.all().is_in(NULLS)).then(None).otherwise(pl.all()).name.keep())
