"""Supplemental qualifiers (SUPPxx): those that the reader uses, as columns of the rows that they belong to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import polars as pl

from careloop.ingest.tables.rows import Rows

TABLE = pl.Schema({name: pl.String() for name in ("RDOMAIN", "USUBJID", "IDVAR", "IDVARVAL", "QNAM", "QVAL")})
# Variables of a domain that codes are taken from, and the parts of a mixed race; a sponsor may keep them beside it.
READ = r"^(?:[A-Z]{2}(?:LOINC|PTCD|DECOD)|RACE[1-5])$"


@dataclass(frozen=True)
class Supplements:
    """The qualifiers that are used (columns of TABLE), of all supplemental datasets."""

    table: pl.DataFrame = field(default_factory=TABLE.to_frame)

    @staticmethod
    def is_read(rows: pl.DataFrame) -> pl.Series:
        """True for the rows of a supplemental dataset whose qualifier is used."""
        if not rows.height or "QNAM" not in rows.columns:
            return pl.Series([False], dtype=pl.Boolean).new_from_index(0, rows.height)
        return _text(rows, "QNAM").str.contains(READ).fill_null(False)

    def joined(self, rows: pl.DataFrame, domain: str) -> pl.DataFrame:
        """The rows of a domain with their qualifiers as further columns; what a row has itself stays."""
        own = self.table.filter(pl.col("RDOMAIN") == domain)
        for (variable, name), part in own.group_by(["IDVAR", "QNAM"], maintain_order=True):
            rows = _with_qualifier(rows, str(variable), str(name), part)
        return rows


def supplements_of(datasets: Iterable[Iterable[Rows]]) -> Supplements:
    """Read supplemental datasets, keeping what is used."""
    parts = [TABLE.to_frame()]
    for dataset in datasets:
        for batch in dataset:
            wanted = batch.cells.filter(Supplements.is_read(batch.cells))
            if wanted.height:
                parts.append(pl.DataFrame({name: _text(wanted, name) for name in TABLE}))
    found = pl.concat(parts).filter(pl.col("QVAL").fill_null("") != "")
    return Supplements(found.with_columns(pl.col("RDOMAIN", "IDVAR").str.to_uppercase().fill_null("")))


def _text(rows: pl.DataFrame, name: str) -> pl.Series:
    if name not in rows.columns:
        return pl.Series(name, [None], dtype=pl.String).new_from_index(0, rows.height)
    return _key(rows[name]).alias(name)


def _key(column: pl.Series) -> pl.Series:
    """A value by which rows find each other: "3", whether it was stored as 3, 3.0 or " 3"."""
    return column.cast(pl.String).str.strip_chars().str.replace(r"^(-?\d+)\.0*$", "$1")


def _with_qualifier(rows: pl.DataFrame, variable: str, name: str, part: pl.DataFrame) -> pl.DataFrame:
    """Rows with one qualifier, found by subject and the value of `variable` (none: the subject alone, as in DM)."""
    if "USUBJID" not in rows.columns or (variable and variable not in rows.columns):
        return rows
    on = ["USUBJID", "IDVARVAL"] if variable else ["USUBJID"]
    values = part.select(*on, "QVAL").unique(on, keep="first", maintain_order=True)
    keys = pl.DataFrame({"USUBJID": _key(rows["USUBJID"])})
    if variable:
        keys = keys.with_columns(IDVARVAL=_key(rows[variable]))
    found = keys.join(values, on=on, how="left", maintain_order="left")["QVAL"].alias(name)
    if name not in rows.columns:
        return rows.with_columns(found)
    own = _key(rows[name])
    return rows.with_columns(
        pl.select(pl.when(own.fill_null("") != "").then(own).otherwise(found).alias(name)).to_series()
    )
