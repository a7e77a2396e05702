"""OMOP concept ids as codes, names and units, from the concept table: only those that a delivery uses are held."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import polars as pl

from careloop.ingest.vocabularies import prefix_of

CONCEPTS = pl.Schema({"concept_id": pl.Int64(), "code": pl.String(), "name": pl.String(), "unit": pl.String()})
# Names of demographic concepts, which a delivery without vocabulary tables uses too.
NAMES = {
    8515: "Asian", 8516: "Black or African American", 8527: "White", 8557: "Native Hawaiian or Other Pacific Islander",
    8657: "American Indian or Alaska Native", 38003563: "Hispanic or Latino", 38003564: "Not Hispanic or Latino",
}  # fmt: skip


@dataclass(frozen=True)
class Concepts:
    """What the concept table says about the concepts that are used (columns of CONCEPTS)."""

    table: pl.DataFrame = field(default_factory=CONCEPTS.to_frame)

    @classmethod
    def read(cls, batches: Iterator[pl.DataFrame], used: pl.Series) -> Concepts:
        """Pick the used concepts from the concept table (its cells as stored, under lower-case names)."""
        wanted = used.to_frame("concept_id")
        found = [part for cells in batches for part in _conform(cells, wanted)]
        return cls(pl.concat([CONCEPTS.to_frame(), *found]).unique("concept_id", keep="first", maintain_order=True))

    def codes(self, ids: pl.Series) -> pl.Series:
        """`VOCABULARY//CODE`; `OMOP//<concept_id>` for concepts that the table lacks."""
        unknown = "OMOP//" + ids.cast(pl.String)
        found = self._look_up(ids, "code")
        return found.zip_with(found.is_not_null(), unknown)

    def names(self, ids: pl.Series) -> pl.Series:
        """The concept's name, else its code."""
        names = self._look_up(ids, "name")
        names = names.zip_with(names.is_not_null(), ids.replace_strict(NAMES, default=None, return_dtype=pl.String))
        return names.zip_with(names.is_not_null(), self.codes(ids))

    def units(self, ids: pl.Series) -> pl.Series:
        """The UCUM code of a unit; null for what is none."""
        return self._look_up(ids, "unit")

    def descriptions(self) -> pl.DataFrame:
        """Code and description of every concept, one row a code."""
        named = self.table.select("code", description="name").drop_nulls()
        return named.unique("code", keep="first", maintain_order=True)

    def _look_up(self, ids: pl.Series, what: str) -> pl.Series:
        keys = ids.to_frame("concept_id")
        return keys.join(self.table, on="concept_id", how="left", maintain_order="left")[what]


def _conform(cells: pl.DataFrame, wanted: pl.DataFrame) -> Iterator[pl.DataFrame]:
    needed = ["concept_id", "concept_name", "vocabulary_id", "concept_code"]
    if not set(needed) <= set(cells.columns):
        return
    ids = pl.col("concept_id")
    ids = ids.str.strip_chars() if cells.schema["concept_id"] == pl.String else ids
    cells = cells.select(ids.cast(pl.Int64, strict=False), *(pl.col(name).cast(pl.String) for name in needed[1:]))
    cells = cells.join(wanted, on="concept_id", how="semi", maintain_order="left").drop_nulls(needed[2:])
    vocabulary = pl.col("vocabulary_id").replace({name: prefix_of(name) for name in cells["vocabulary_id"].unique()})
    code = pl.col("concept_code").str.strip_chars()
    yield cells.filter(code != "").select(
        "concept_id",
        code=vocabulary + "//" + code,
        name="concept_name",
        unit=pl.when(pl.col("vocabulary_id") == "UCUM").then(code),
    )
