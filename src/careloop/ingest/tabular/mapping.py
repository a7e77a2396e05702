"""The mapping language: which tables there are, how their cells are written, and which events their rows are."""

from __future__ import annotations

import codecs
import warnings
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

import polars as pl
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from careloop.ingest.tables.delimited import Dialect
from careloop.ingest.tabular.times import SINCE, WORDS
from careloop.ingest.vocabularies import prefix_of
from careloop.record import BIRTH, CARELOOP, DEATH

STATIC = "static"
# Lower case. Not "none" and "nil", which as results mean that nothing was found.
MISSING = ("", "na", "n/a", "null", "nan", "nat", "-", "--", ".", "?", "#n/a", "\\n", "<na>", "(null)", "k.a.")
# Codecs of Python that are no encodings of text files.
_NO_ENCODINGS = {"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "mbcs", "oem"}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _column(name: object) -> object:
    """Column names count without case and outer blanks, as the readers give them."""
    return " ".join(name.split()).lower() if isinstance(name, str) else name


Column = Annotated[str, BeforeValidator(_column), Field(min_length=1)]
Columns = Annotated[tuple[Column, ...], BeforeValidator(_listed), Field(min_length=1)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class TimeOf(_Strict):
    """Where a time stands: one column, or several read as one text (date and clock); how it is written; in which zone.

    `format`: see `times.moments`. Without it the table's `dates` and `time_zone` count.
    """

    column: Columns
    format: Texts = ()
    time_zone: str | None = None

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, zone: str | None) -> str | None:
        return zone if zone is None else _known_zone(zone)

    @field_validator("format")
    @classmethod
    def _format(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        return _known_formats(formats)


def _time_of(value: object) -> object:
    return {"column": value} if isinstance(value, (str, list)) and value != STATIC else value


Time = Annotated[Literal["static"] | TimeOf, BeforeValidator(_time_of)]
TimeColumn = Annotated[TimeOf, BeforeValidator(_time_of)]


class Event(_Strict):
    """One event of a row; there is none where its code, its value or its own time is missing.

    The code is `code`, or the text of `code_column` (several are joined by `/`), in `vocabulary` or the one that
    `vocabulary_column` names; `codes` replaces single texts. `number` must be a number, `value` is a number or a text,
    `text` a text. `prefix` says what the code does here (`RESOLVED`, `FAMILY`). `time: static` is a fact without time.
    `value_missing: keep` makes it an event without a value too, as for a drug whose dose is not known.
    """

    code: str | None = None
    code_column: Columns | None = None
    vocabulary: str | None = None
    vocabulary_column: Column | None = None
    codes: dict[str, str] = Field(default_factory=dict)
    prefix: str | None = None
    number: Column | None = None
    value: Column | None = None
    text: Column | None = None
    unit: str | None = None
    unit_column: Column | None = None
    value_missing: Literal["skip", "keep"] = "skip"
    asset: Column | None = None
    time: Time | None = None
    known_time: TimeColumn | None = None
    description: str | None = None
    description_column: Column | None = None

    @model_validator(mode="after")
    def _fits(self) -> Event:
        if (self.code is None) == (self.code_column is None):
            raise ValueError("give either code (the same in every row) or code_column")
        if self.number is not None and self.value is not None:
            raise ValueError("give either number (must be one) or value (a number or a text)")
        if self.unit is not None and self.unit_column is not None:
            raise ValueError("give either unit (the same in every row) or unit_column")
        if (self.unit or self.unit_column) and not self.measured:
            raise ValueError("a unit belongs to a number or a value; name that column")
        if self.vocabulary is not None and self.vocabulary_column is not None:
            raise ValueError("give either vocabulary (the same in every row) or vocabulary_column")
        if self.time == STATIC and self.known_time is not None:
            raise ValueError("a static fact has no known_time; remove it, or give the fact a time")
        if self.code is not None and (self.codes or self.vocabulary_column):
            raise ValueError("codes and vocabulary_column belong to code_column")
        if self.code is not None and not self.code.strip():
            raise ValueError("code is empty")
        if any(code.startswith(CARELOOP) for code in (self.code or "", f"{self.prefix}//", *self.codes.values())):
            raise ValueError(f"codes that begin with {CARELOOP} are written by careloop itself; choose another")
        return self

    @property
    def measured(self) -> str | None:
        """The column of the number."""
        return self.number or self.value

    @property
    def constant(self) -> str | None:
        """The code that is the same in every row."""
        if self.code is None:
            return None
        code = self.code.strip()
        if self.vocabulary is None and ("//" in code or code in {BIRTH, DEATH}):
            return code
        return f"{prefix_of(self.vocabulary)}//{code}"

    @property
    def columns(self) -> set[str]:
        """All columns that it reads."""
        single = (self.vocabulary_column, self.number, self.value, self.text, self.unit_column, self.asset)
        found = {name for name in (*single, self.description_column) if name is not None}
        times = [time.column for time in (self.time, self.known_time) if isinstance(time, TimeOf)]
        return found.union(self.code_column or (), *times)


class Deleted(_Strict):
    """A column that says that the row is withdrawn: any text in it does, or only `values`."""

    column: Column
    values: Texts = ()


def _deleted(value: object) -> object:
    return {"column": value} if isinstance(value, str) else value


class Reading(_Strict):
    """How the cells of a table are written; under `defaults:` it is said for all tables at once.

    `dates` is the format of all its times, `decimal` and `thousands` the signs in its numbers, `missing` what stands
    for no value (in place of MISSING; an empty cell always does). `origin` is the namespace of its subjects: none for
    the hospital's own patient numbers, so that other formats meet them.
    """

    encoding: str | None = None
    separator: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    skip_rows: int = Field(0, ge=0, le=10_000)
    header_rows: int = Field(1, ge=0, le=20)
    time_zone: str = "UTC"
    dates: Texts = ("iso",)
    decimal: Literal[".", ","] = "."
    thousands: Literal[".", ",", " ", "'"] | None = None
    missing: Texts | None = None
    origin: str = ""

    @field_validator("encoding")
    @classmethod
    def _encoding(cls, name: str | None) -> str | None:
        return name if name is None else _known_encoding(name)

    @field_validator("separator", mode="before")
    @classmethod
    def _tab(cls, separator: object) -> object:
        return "\t" if separator in ("tab", "\\t") else separator

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, zone: str) -> str:
        return _known_zone(zone)

    @field_validator("dates")
    @classmethod
    def _format(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        return _known_formats(formats) or ("iso",)

    @model_validator(mode="after")
    def _signs(self) -> Reading:
        if self.decimal == self.thousands:
            raise ValueError("decimal and thousands must be two different signs")
        if self.separator in {'"', "\n", "\r", "\0"}:
            raise ValueError("separator must be a character that stands between cells")
        return self


class Table(Reading):
    """Files with the same columns, and the events that each of their rows is.

    `files` are patterns (`lab_*.csv`) of names below the delivered folder; `sheet` is a sheet's name in an Excel file.
    `columns` names the columns where no header does. `subject`, `key`: one column or several. Rows with the same `key`
    are versions of one source row, the newest being that with the latest `version`, else the one delivered last;
    without a key a row is known by its content. `only` and `skip` choose rows by the texts in a column, where `*`
    stands for anything and an empty text for a missing value; rows that `skip` excludes are withdrawn by their key.
    """

    files: Texts = Field(min_length=1)
    sheet: str | None = None
    columns: Columns | None = None
    subject: Columns
    key: Columns | None = None
    version: TimeColumn | None = None
    deleted: Annotated[Deleted, BeforeValidator(_deleted)] | None = None
    only: dict[Column, Texts] = Field(default_factory=dict)
    skip: dict[Column, Texts] = Field(default_factory=dict)
    time: Time | None = None
    known_time: TimeColumn | None = None
    events: tuple[Event, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _complete(self) -> Table:
        if self.key is None and (self.version or self.deleted):
            raise ValueError("version and deleted need a key: the columns that number the rows")
        if self.time is None and any(event.time is None for event in self.events):
            raise ValueError("time is missing; name the column, or write `time: static` for facts without a time")
        if self.time == STATIC and self.known_time is not None:
            raise ValueError("static facts have no known_time; remove it, or give the table a time")
        if self.columns is not None and self.header_rows and "header_rows" in self.model_fields_set:
            raise ValueError("give either columns (the file has no header) or header_rows")
        return self

    @property
    def dialect(self) -> Dialect:
        """How its delimited text is written."""
        header = 0 if self.columns else self.header_rows
        return Dialect(self.separator, self.encoding, self.skip_rows, header, self.columns or ())

    @property
    def used(self) -> list[str]:
        """All columns that it reads, sorted."""
        times = [time.column for time in (self.time, self.known_time, self.version) if isinstance(time, TimeOf)]
        found = {*self.subject, *(self.key or ()), *self.only, *self.skip}
        return sorted(found.union(*times, *(event.columns for event in self.events), self._deleted_column))

    @property
    def _deleted_column(self) -> tuple[str, ...]:
        return (self.deleted.column,) if self.deleted else ()


class Mapping(_Strict):
    """What a mapping file says; `defaults` are already part of each table."""

    tables: dict[Annotated[str, Field(pattern=r"^[^/\s][^/]*$")], Table] = Field(min_length=1)


def _known_zone(zone: str) -> str:
    try:
        ZoneInfo(zone)
        pl.Series([0]).cast(pl.Datetime("us", zone)).dt.convert_time_zone("UTC")
    except (KeyError, ValueError, OSError, pl.exceptions.PolarsError):
        raise ValueError("is no IANA time zone; give one such as Europe/Berlin") from None
    return zone


def _known_encoding(name: str) -> str:
    try:
        found = codecs.lookup(name)
        "".encode(name)  # refuses codecs that are not about text
        codecs.getincrementaldecoder(name)(errors="replace")
    except (LookupError, ValueError, UnicodeError):
        found = None
    if found is None or found.name.replace("_", "-") in _NO_ENCODINGS:
        raise ValueError("is no encoding of text; give one such as utf-8, cp1252, utf-16 or gb18030")
    return found.name


def _known_formats(formats: tuple[str, ...]) -> tuple[str, ...]:
    for form in formats:
        if form not in WORDS and not SINCE.fullmatch(form):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")  # what chrono reads otherwise than C does (%f)
                    pl.Series(["2020-01-31"]).str.to_datetime(form, strict=False, time_unit="us")
                known = "%" in form
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException, Warning):  # %3 without an f panics
                known = False
            if not known:
                raise ValueError(
                    f"is no format of times; give one of {', '.join(WORDS)}, 'days since 2000-01-01' or a pattern"
                    " such as '%d.%m.%Y %H:%M'"
                )
    return formats
