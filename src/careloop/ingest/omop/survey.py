"""A first look at all rows of a table: which concepts it uses, and which of its keys name more than one row."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from careloop.ingest.omop.cells import Cells
from careloop.ingest.omop.concepts import Concepts
from careloop.ingest.omop.rows import Rows

KEYS_AT_ONCE = 20_000_000  # 8 bytes each; more lie on disk and are compared part by part


@dataclass(frozen=True)
class Survey:
    """`concepts`: the concept ids of a table; `repeated`: hashes (`key_hash`) of its keys that occur more than once."""

    concepts: pl.Series
    repeated: pl.Series


def survey(batches: Iterator[Rows], key: str) -> Survey:
    """Look through a table once."""
    concepts = pl.Series("concept_id", [], dtype=pl.Int64)

    def keys() -> Iterator[pl.Series]:
        nonlocal concepts
        for rows in batches:
            cells = Cells(rows.cells, Concepts(), "UTC")
            names = [name for name in rows.cells.columns if name.endswith("_concept_id")]
            found = [cells.concept(name).unique().alias("concept_id") for name in names]
            concepts = pl.concat([concepts, *found]).unique()
            yield key_hash(cells.identifier(key).drop_nulls())

    repeated = _repeated(keys())
    return Survey(concepts.drop_nulls().sort(), repeated)


def key_hash(keys: pl.Series) -> pl.Series:
    """Equal for equal keys within one run; two different keys that share one only get longer source names."""
    return keys.hash().alias("key")


def _repeated(parts: Iterator[pl.Series]) -> pl.Series:
    with tempfile.TemporaryDirectory() as folder:
        waiting, waiting_rows, total, files = [pl.Series("key", [], dtype=pl.UInt64)], 0, 0, 0
        for part in parts:
            waiting.append(part)
            waiting_rows, total = waiting_rows + part.len(), total + part.len()
            if waiting_rows >= KEYS_AT_ONCE:
                pl.concat(waiting).to_frame().write_parquet(Path(folder, f"{files}.parquet"))
                waiting, waiting_rows, files = waiting[:1], 0, files + 1
        rest = pl.concat(waiting)
        if not files:
            return _twice(rest)
        rest.to_frame().write_parquet(Path(folder, f"{files}.parquet"))
        share = 1 + total // KEYS_AT_ONCE
        scan = pl.scan_parquet([Path(folder, f"{number}.parquet") for number in range(files + 1)], glob=False)
        found = [_twice(scan.filter(pl.col("key") % share == i).collect()["key"]) for i in range(share)]
        return pl.concat(found)


def _twice(keys: pl.Series) -> pl.Series:
    return keys.filter(keys.is_duplicated()).unique().sort()
