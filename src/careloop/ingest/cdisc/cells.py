"""Cells of a batch of CDISC rows as text, numbers and spans of time; rows that cannot be used are marked."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import polars as pl

from careloop.ingest.cdisc.dates import day_spans, iso_spans, moment_spans, study_day
from careloop.ingest.tables.columns import first_of, kept, number_text
from careloop.record.schema import TIME

NO_NUMBERS = (".", "NA", "NaN", "nan")
REFERENCE = pl.Schema({"USUBJID": pl.String(), "start": TIME, "end": TIME, "enrolled": TIME, "is_dead": pl.Boolean()})
DAY_LESS_SECOND = timedelta(days=1, seconds=-1)
MAX_NAME = 80  # characters of a text that stands in for a code
Span = tuple[pl.Series, pl.Series]


@dataclass
class Cells:
    """The cells of a batch of rows of one dataset, read as what they must be.

    `reference` (columns of REFERENCE) holds, of each subject, the moments that other datasets count from. `wrong`
    collects (reason, rows) that are rejected, `silent` those that are understood and have nothing to store.
    """

    rows: pl.DataFrame
    domain: str
    zone: str = "UTC"
    reference: pl.DataFrame = field(default_factory=REFERENCE.to_frame)
    wrong: list[tuple[str, pl.Series]] = field(default_factory=list)
    silent: list[tuple[str, pl.Series]] = field(default_factory=list)

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.rows.height

    def always(self, value: str) -> pl.Series:
        """The same text in every row."""
        return pl.Series([value], dtype=pl.String).new_from_index(0, self.height)

    def never(self) -> pl.Series:
        """No time in any row."""
        return pl.Series([None], dtype=TIME).new_from_index(0, self.height)

    def nothing(self) -> pl.Series:
        """No text in any row."""
        return pl.Series([None], dtype=pl.String).new_from_index(0, self.height)

    @property
    def prefix(self) -> str:
        """What the names of the domain's variables begin with: `AE` also in ADAE."""
        return self.domain[2:4] if self.domain.startswith("AD") and len(self.domain) > 2 else self.domain

    def has(self, name: str) -> bool:
        """True where the dataset has the column."""
        return name in self.rows.columns

    def text(self, *names: str) -> pl.Series:
        """Text without outer blanks, of the first named column that has some; numbers as their digits."""
        return first_of(*(self._text(name) for name in names))

    def _text(self, name: str) -> pl.Series:
        if not self.has(name):
            return self.nothing()
        column = self.rows[name]
        if column.dtype.is_float() or column.dtype.is_decimal():
            return number_text(column)
        text = column.cast(pl.String).str.strip_chars()
        return kept(text, text != "")

    def upper(self, *names: str) -> pl.Series:
        """The text in upper case, as controlled terms are written, at most MAX_NAME characters of it."""
        return upper(self.text(*names))

    def is_one_of(self, name: str, *values: str) -> pl.Series:
        """True where the cell is one of `values`, in any case."""
        return self.text(name).str.to_uppercase().is_in(values).fill_null(False)

    def number(self, name: str) -> pl.Series:
        """A number; null where it is missing or not finite."""
        if self.has(name) and self.rows.schema[name].is_numeric():
            number = self.rows[name].cast(pl.Float64)
            return kept(number, number.is_finite())
        text = self.text(name)
        text = kept(text, ~text.is_in(NO_NUMBERS))
        number = text.cast(pl.Float64, strict=False)
        self.refuse(f"{self._said(name)} is no number", number.is_null() & text.is_not_null())
        return kept(number, number.is_finite())

    def span(self, name: str) -> Span:
        """First and last moment of the date or time in a column; `name` says how it is written (--DTC, --DT, --DTM)."""
        if not self.has(name):
            return self.never(), self.never()
        if name.endswith("DTC"):
            spans = iso_spans(self.text(name), self.zone)
        else:
            column = self.rows[name]
            text = self.text(name) if not (column.dtype.is_numeric() or column.dtype.is_temporal()) else column
            if text.dtype == pl.String:
                text = kept(text, ~text.is_in(NO_NUMBERS))
            spans = (moment_spans if name.endswith("DTM") else day_spans)(text, self.zone)
        self.refuse(f"{self._said(name)} is no date or time", spans["is_wrong"])
        return spans["start"], spans["end"]

    def day(self, name: str, reference: pl.Series) -> Span:
        """First and last moment of a study day counted from `reference`."""
        midnight = study_day(reference, self.number(name), self.zone)
        return midnight, day_end(midnight)

    def of_subject(self, name: str) -> pl.Series:
        """A column of `reference` for the subject of each row."""
        keys = pl.DataFrame({"USUBJID": self.text("USUBJID")})
        return keys.join(self.reference, on="USUBJID", how="left", maintain_order="left")[name]

    def refuse(self, rule: str, is_wrong: pl.Series) -> None:
        """Mark rows that are rejected; the first mark of a row is its reason."""
        if is_wrong.any():
            self.wrong.append((rule, is_wrong.fill_null(False)))

    def skip(self, reason: str, where: pl.Series) -> None:
        """Mark rows that have nothing to store; the first mark of a row is its reason."""
        if where.any():
            self.silent.append((f"{self.domain}: {reason}", where.fill_null(False)))

    def _said(self, name: str) -> str:
        return name if name.isascii() and len(name) <= 32 else "a cell"


def upper(text: pl.Series) -> pl.Series:
    """Text in upper case, at most MAX_NAME characters of it."""
    return text.str.to_uppercase().str.replace_all(r"\s+", " ").str.slice(0, MAX_NAME).str.strip_chars()


def day_end(time: pl.Series) -> pl.Series:
    """The last second of the (UTC) day that each time lies in."""
    return time.dt.truncate("1d") + DAY_LESS_SECOND


def first_span(*spans: Span) -> Span:
    """In each row the first span that is there."""
    return first_of(*(start for start, _ in spans)), first_of(*(end for _, end in spans))


def latest(*times: pl.Series) -> pl.Series:
    """In each row the latest of the times that are there."""
    return pl.select(pl.max_horizontal(times)).to_series()
