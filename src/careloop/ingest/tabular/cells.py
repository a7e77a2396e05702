"""Cells of a batch of rows, read as the mapping says they are written; those that cannot be read mark their row."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from careloop.ingest.tables.columns import first_of, kept, number_text
from careloop.ingest.tables.rows import NO_CELL
from careloop.ingest.tabular.mapping import MISSING, Table, TimeOf
from careloop.ingest.tabular.times import Spans, moments
from careloop.ingest.tabular.values import Measured, measured

BETWEEN = "/"  # joins the texts of several columns


@dataclass
class Cells:
    """The cells of a batch; `wrong` collects the rows where one breaks a rule, with the rule."""

    rows: pl.DataFrame
    table: Table
    wrong: list[tuple[str, pl.Series]] = field(default_factory=list)

    def always(self, value: str | None) -> pl.Series:
        """The same text in every row."""
        return pl.Series([value], dtype=pl.String).new_from_index(0, self.rows.height)

    def text(self, name: str) -> pl.Series:
        """The text of each cell without outer blanks, a whole number without a point; null where it is missing."""
        column = self.rows[name]
        if column.dtype.is_float() or column.dtype.is_decimal():
            return number_text(column.cast(pl.Float64).fill_nan(None))
        text = column.cast(pl.String).str.strip_chars()
        self.check(name, "is of a type that cannot be read", (text == NO_CELL).fill_null(False))
        return kept(text, ~self._is_missing(text))

    def identifier(self, names: tuple[str, ...]) -> pl.Series:
        """Keys of one or several columns; null where a part is missing. 7.0, as exports write a 7, is 7."""
        parts = [self.text(name).str.replace(r"^(-?[0-9]+)\.0+$", "$1") for name in names]
        return parts[0] if len(parts) == 1 else pl.select(pl.concat_str(parts, separator=BETWEEN)).to_series()

    def joined(self, names: tuple[str, ...]) -> pl.Series:
        """The texts of several columns, those that are there, in one."""
        parts = [self.text(name) for name in names]
        if len(parts) == 1:
            return parts[0]
        together = pl.select(pl.concat_str(parts, separator=BETWEEN, ignore_nulls=True)).to_series()
        return kept(together, first_of(*parts).is_not_null())

    def measured(self, name: str) -> Measured:
        """Numbers, with unit, comparator or text where the cell has one."""
        column = self.rows[name]
        return measured(
            column if column.dtype.is_numeric() else self.text(name), self.table.decimal, self.table.thousands
        )

    def number(self, name: str) -> Measured:
        """As `measured`; a text that is no number breaks a rule."""
        found = self.measured(name)
        self.check(name, "is no number", found.number.is_null() & found.text.is_not_null())
        return found

    def time(self, spec: TimeOf) -> Spans:
        """Times; several columns are read as one text, parted by a blank (without the date there is none)."""
        column = self.rows[spec.column[0]]
        if len(spec.column) > 1 or not column.dtype.is_temporal():
            column = self._time_text(spec.column)
        spans = moments(column, spec.format or self.table.dates, spec.time_zone or self.table.time_zone)
        self.check(" and ".join(spec.column), "is no time from 1851 to 2148 in the given format", spans.wrong)
        return spans

    def _time_text(self, names: tuple[str, ...]) -> pl.Series:
        date, *clocks = (self.text(name) for name in names)
        if not clocks:
            return date
        # A date column that a database or spreadsheet made a moment of: its clock time is another column's.
        date = date.str.replace(r"[T ]00:00(?::00(?:\.0+)?)?$", "")
        return kept(
            pl.select(pl.concat_str([date, *clocks], separator=" ", ignore_nulls=True)).to_series(), date.is_not_null()
        )

    def matches(self, chosen: dict[str, tuple[str, ...]]) -> pl.Series:
        """True in rows where every named column holds one of its texts; `*` stands for anything, "" for missing."""
        found = pl.Series([True]).new_from_index(0, self.rows.height)
        for name, values in chosen.items():
            found &= self._is_any(self.text(name).fill_null(""), values)
        return found

    def _is_any(self, text: pl.Series, values: tuple[str, ...]) -> pl.Series:
        wild = [_escaped(value) for value in values if "*" in value]
        found = text.is_in([value.strip() for value in values if "*" not in value])
        return found | text.str.contains(rf"(?s)^(?:{'|'.join(wild)})$") if wild else found

    def is_deleted(self) -> pl.Series:
        """True in rows that are withdrawn."""
        flag = self.table.deleted
        if flag is None:
            return pl.Series([False]).new_from_index(0, self.rows.height)
        text = self.text(flag.column)
        return self._is_any(text.fill_null(""), flag.values) if flag.values else text.is_not_null()

    def check(self, name: str, rule: str, is_wrong: pl.Series) -> None:
        """Mark the rows where a cell breaks a rule; the first mark of a row is the reason of its reject."""
        if is_wrong.any():
            self.wrong.append((f"{name} {rule}", is_wrong))

    def _is_missing(self, text: pl.Series) -> pl.Series:
        if self.table.missing is None:
            return text.str.to_lowercase().is_in(MISSING)
        return text.is_in(["", *self.table.missing])


def _escaped(value: str) -> str:
    """A regular expression (of Rust's kind) for a text where `*` stands for anything."""
    return ".*".join("".join(rf"\x{{{ord(sign):x}}}" for sign in part) for part in value.strip().split("*"))
