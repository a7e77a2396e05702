"""What the cells of a column look like: numbers, dates of which order, codes of which terminology, words or prose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

from careloop.ingest.tables.rows import NO_CELL
from careloop.ingest.tabular.mapping import MISSING
from careloop.ingest.tabular.values import measured

Kind = Literal["empty", "number", "date", "clock", "code", "words", "prose"]
MOST = 0.9  # of the cells must fit: the others are slips
SLIPS = 0.02  # of the dates may speak for the other order
FEW_WORDS = 60  # different texts that still are categories
BOTH_SIGNS = "numbers with a decimal comma and with a decimal point; the former are texts"
PROSE = 40  # letters: longer cells are read, not counted
_NUMERIC_DATE = r"^([0-9]{1,2})([./-])([0-9]{1,2})[./-]([0-9]{4}|[0-9]{2})(?:[ ,T].*)?$"
_ISO = r"^[0-9]{4}[-/.年] ?[0-9]{1,2}(?:[-/.月] ?[0-9]{1,2}日?(?:[ T].*)?)?$"
_NAMED = r"^[0-9]{1,2}[-./ ]+[A-Za-z]{3}[A-Za-z]*[-./, ]+[0-9]{4}(?:[ ,T].*)?$"
_COMPACT = r"^(?:1[89]|20|21)[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])$"
_CLOCK = r"^[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?: ?[AaPp][Mm])?$"
_CODES = {
    "ICD10": r"^[A-TV-Z][0-9][0-9A-Z](?:\.[0-9A-Z]{1,4})?[-+*!]?$",
    "ATC": r"^[A-DGHJLMNPRSV][0-9]{2}[A-Z]{2}[0-9]{2}$",
    "LOINC": r"^[0-9]{1,5}-[0-9]$",
}


@dataclass(frozen=True)
class Content:
    """What is in a column.

    `order` of its dates: `iso`, `day-first`, `month-first`, or `?` where it cannot be told; `sign` between their parts;
    `short_year`: years of two digits. `vocabulary` of its codes. `pure`: all cells are numbers, `low` to `high`.
    `distinct`: its texts where they are few. `unique`: each row has one of its own.
    """

    kind: Kind
    order: str = ""
    sign: str = ""
    short_year: bool = False
    vocabulary: str = ""
    pure: bool = True
    distinct: tuple[str, ...] = ()
    unique: bool = False
    low: float = 0.0
    high: float = 0.0


def content_of(column: pl.Series, decimal: str, thousands: str | None) -> Content:
    """Look at a column (any plain type)."""
    if column.dtype.is_temporal():
        return Content("date", "iso", unique=column.is_not_null().all() and column.is_unique().all())
    text = column.cast(pl.String).str.strip_chars()
    text = text.filter(~text.str.to_lowercase().is_in(MISSING) & (text != NO_CELL)).drop_nulls()
    if not text.len():
        return Content("empty")
    values = text.unique().sort()
    unique = values.len() == column.len()
    few = tuple(values) if values.len() <= FEW_WORDS and (values.str.len_chars() <= PROSE).all() else ()
    found = _dates(text) or _codes(values)
    if found is None:
        found = _numbers(column if column.dtype.is_numeric() else text, decimal, thousands)
    if found is None:
        found = Content("prose" if _average(text.str.len_chars()) > PROSE else "words")
    return Content(**{**vars(found), "distinct": few, "unique": unique})


def _dates(text: pl.Series) -> Content | None:
    if _share(text, _CLOCK) >= MOST:
        return Content("clock")
    if max(_share(text, _ISO), _share(text, _NAMED), _share(text, _COMPACT)) >= MOST:
        is_year_month = text.str.contains(r"^[0-9]{4}[.][0-9]{1,2}$").any()  # 2000.5 is a number
        return None if is_year_month else Content("date", "iso")
    parts = text.str.extract_groups(_NUMERIC_DATE).struct.unnest()
    parts.columns = ["first", "sign", "second", "year"]
    first, second = (parts[name].cast(pl.Int64) for name in ("first", "second"))
    fits = parts.filter(((first <= 31) & (second <= 31) & ((first <= 12) | (second <= 12))).fill_null(False))
    if fits.height < MOST * text.len():
        return None
    day, month = (int((fits[name].cast(pl.Int64) > 12).sum()) for name in ("first", "second"))
    order = "day-first" if day and month <= SLIPS * day else "month-first" if month and day <= SLIPS * month else "?"
    is_short = bool((fits["year"].str.len_bytes() == 2).any())
    return Content("date", order, str(fits["sign"][0]), is_short)


def _codes(values: pl.Series) -> Content | None:
    for vocabulary, pattern in _CODES.items():
        fits = values.filter(values.str.contains(pattern))
        if fits.len() >= MOST * values.len() and values.len() >= 2 and _surely(vocabulary, fits):
            return Content("code", vocabulary=vocabulary)
    return None


def _surely(vocabulary: str, codes: pl.Series) -> bool:
    """Not by chance: LOINC codes carry a check digit (Luhn); of ICD-10 codes some have a point or several letters."""
    if vocabulary == "LOINC":
        return sum(map(_luhn, codes)) >= MOST * codes.len()
    letters = codes.str.slice(0, 1).n_unique()
    return vocabulary != "ICD10" or bool(codes.str.contains(".", literal=True).any()) or letters > 2


def _luhn(code: str) -> bool:
    digits = [int(sign) for sign in code if "0" <= sign <= "9"]
    doubled = [digit * 2 if at % 2 else digit for at, digit in enumerate(reversed(digits))]
    return sum(digit - 9 if digit > 9 else digit for digit in doubled) % 10 == 0


def _numbers(column: pl.Series, decimal: str, thousands: str | None) -> Content | None:
    number = measured(column, decimal, thousands).number
    there = number.drop_nulls()
    if there.len() < MOST * column.drop_nulls().len() or not there.len():
        return None
    low, high = there.to_numpy().min(), there.to_numpy().max()
    return Content("number", pure=there.len() == column.drop_nulls().len(), low=float(low), high=float(high))


def signs_of(rows: pl.DataFrame) -> tuple[str, str | None, str]:
    """Decimal and thousands sign of a table's numbers, and what cannot be told from them."""
    texts = [rows[name].drop_nulls().str.strip_chars() for name, kind in rows.schema.items() if kind == pl.String]
    cells = pl.concat(texts) if texts else pl.Series([], dtype=pl.String)
    cells = cells.str.extract(r"^[<>=≤≥]*\s*[-+]?([0-9][0-9.,]*)(?:\s|[%A-Za-zµμ]|$)").drop_nulls().unique()
    has = {name: bool(cells.str.contains(pattern).any()) for name, pattern in _SIGNS.items()}
    if has["comma last"] and not has["point last"]:
        return ",", ("." if has["points"] else None), ""
    if has["commas"] and not has["comma last"]:
        return ".", ",", ""
    if has["comma alone"] and not has["comma last"] and not has["point last"]:
        return ".", None, "1,234 may be 1234 (thousands: ',') or 1.234 (decimal: ','); until it is said it is a text"
    if has["comma last"]:
        return ".", None, BOTH_SIGNS
    return ".", None, ""


_SIGNS = {
    "comma last": r"^[0-9]+,(?:[0-9]{1,2}|[0-9]{4,})$|^[0-9]{1,3}(?:\.[0-9]{3})+,[0-9]+$",
    "point last": r"^[0-9]+\.(?:[0-9]{1,2}|[0-9]{4,})$|^[0-9]{1,3}(?:,[0-9]{3})+\.[0-9]+$",
    "points": r"^[0-9]{1,3}(?:\.[0-9]{3})+(?:,[0-9]+)$|^[0-9]{1,3}(?:\.[0-9]{3}){2,}$",
    "commas": r"^[0-9]{1,3}(?:,[0-9]{3})+\.[0-9]+$|^[0-9]{1,3}(?:,[0-9]{3}){2,}$",
    "comma alone": "^[0-9]{1,3},[0-9]{3}$",
}


def _share(text: pl.Series, pattern: str) -> float:
    return _average(text.str.contains(pattern))


def _average(values: pl.Series) -> float:
    return float(values.cast(pl.Float64).to_numpy().mean()) if values.len() else 0.0
