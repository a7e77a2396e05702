"""Cells of any stored type as identifiers, numbers, text and times; those that cannot be read mark their row."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl

from careloop.ingest.omop.concepts import Concepts
from careloop.ingest.tables.columns import first_of, kept, number_text, utc_times
from careloop.ingest.tables.rows import NO_CELL
from careloop.ingest.vocabularies import MAX_LOCAL

NULLS = ("", "NULL", "\\N")  # as databases write a null into a text file
NO_NUMBERS = (*NULLS, "NA", "NaN", "nan", "null", "None")
UNKNOWN_END = datetime(2099, 1, 1, tzinfo=UTC)  # 2099-12-31 and 9999-12-31 stand for "not ended yet"


@dataclass
class Cells:
    """The cells of a batch of rows, read as what they must be; `wrong` collects the rows where one is not."""

    rows: pl.DataFrame
    concepts: Concepts
    zone: str
    wrong: list[tuple[str, pl.Series]] = field(default_factory=list)

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.rows.height

    def always(self, value: str) -> pl.Series:
        """The same text in every row."""
        return pl.Series([value]).new_from_index(0, self.height)

    def column(self, name: str) -> pl.Series:
        """The column as it is stored; nulls where the table lacks it."""
        if name not in self.rows.columns:
            return pl.Series(name, [None], dtype=pl.String).new_from_index(0, self.height)
        return self.rows[name]

    def text(self, name: str) -> pl.Series:
        """Text without outer blanks; numbers as their digits."""
        column = self.column(name)
        if column.dtype.is_float() or column.dtype.is_decimal():
            return number_text(column)
        text = column.cast(pl.String).str.strip_chars()
        self.check(name, "is of a type that cannot be read", (text == NO_CELL).fill_null(False))
        return kept(text, ~text.is_in(NULLS))

    def identifier(self, name: str) -> pl.Series:
        """A key: text, where a whole number is written without a point."""
        return self.text(name).str.replace(r"^(-?\d+)\.0*$", "$1")

    def concept(self, name: str) -> pl.Series:
        """A concept id; null where it is 0 or missing."""
        text = self.identifier(name)
        number = text.cast(pl.Int64, strict=False)
        self.check(name, "is no concept id", number.is_null() & text.is_not_null())
        return kept(number, number != 0)

    def number(self, name: str) -> pl.Series:
        """A number; null where it is NaN."""
        column = self.column(name)
        if column.dtype.is_numeric():
            return column.cast(pl.Float64).fill_nan(None)
        text = self.text(name)
        text = kept(text, ~text.is_in(NO_NUMBERS))
        number = text.cast(pl.Float64, strict=False).fill_nan(None)
        self.check(name, "is no number", number.is_null() & text.is_not_null())
        return number

    def time(self, stem: str) -> pl.Series:
        """`stem`_datetime, else midnight of `stem`_date, in UTC; null where neither is given."""
        moment, day = self.moment(f"{stem}_datetime"), self.moment(f"{stem}_date")
        return moment.zip_with(moment.is_not_null(), day)

    def start(self, stem: str) -> pl.Series:
        """The time at which a row's fact begins: it must be there."""
        time = self.time(stem)
        self.check(f"{stem}_date", "is missing", time.is_null())
        return time

    def end(self, stem: str) -> pl.Series:
        """The time at which it ended; null where it is open."""
        time = self.time(stem)
        return kept(time, time < UNKNOWN_END)

    def code(self, stem: str) -> pl.Series:
        """The code of `stem`_concept_id, else of `stem`_source_concept_id, else `LOCAL//` and the source value."""
        standard = self.concepts.codes(self.concept(f"{stem}_concept_id"))
        source = self.concepts.codes(self.concept(f"{stem}_source_concept_id"))
        local = local_code(self.text(f"{stem}_source_value"))
        return first_of(standard, source, local)

    def name(self, column: str) -> pl.Series:
        """The name of a concept, or its code where no concept table names it."""
        return self.concepts.names(self.concept(column))

    def unit(self, concept: str, source: str) -> pl.Series:
        """The unit as UCUM, from its concept; as the source wrote it where there is none."""
        return first_of(self.concepts.units(self.concept(concept)), self.text(source))

    def moment(self, name: str) -> pl.Series:
        """The times of one column."""
        column = self.column(name)
        if not column.dtype.is_temporal():
            text = self.text(name)
            column = kept(text, ~text.is_in(NO_NUMBERS))
        times = utc_times(column, self.zone)
        self.check(name, "is no date", times.is_null() & column.is_not_null())
        return times

    def check(self, name: str, rule: str, is_wrong: pl.Series) -> None:
        """Mark the rows where a cell breaks a rule; the first mark of a row is the reason of its reject."""
        if is_wrong.any():
            self.wrong.append((f"{name} {rule}", is_wrong))


def local_code(text: pl.Series) -> pl.Series:
    """`LOCAL//` and the text in lower case, at most MAX_LOCAL characters of it."""
    return "LOCAL//" + text.str.to_lowercase().str.slice(0, MAX_LOCAL)
