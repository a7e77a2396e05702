"""A first look at all rows of a table: which concepts it uses, and which of its keys name more than one row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from careloop.ingest.omop.cells import Cells
from careloop.ingest.omop.concepts import Concepts
from careloop.ingest.tables.keys import repeated_keys
from careloop.ingest.tables.rows import Rows


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
            yield cells.identifier(key)

    repeated = repeated_keys(keys())
    return Survey(concepts.drop_nulls().sort(), repeated)
