"""A feature and its value in words that a clinician reads: what, over which time, in which unit."""

from __future__ import annotations

import math
import re

from careloop.features import Column

AGGREGATIONS = {
    "first": "first value",
    "last": "last value",
    "min": "lowest value",
    "max": "highest value",
    "mean": "mean",
    "slope": "change per day",
    "count": "number of entries",
    "time_since": "days since the last entry",
}


LONE_ANNOTATION = re.compile(r"\{[^}]*\}")
# How `Column.description` begins, before the code's own words.
BEGINNINGS = {"present": "any ", "count": "number of ", "time_since": "days since the last ", "slope": "slope of "}


def code_words(column: Column) -> str:
    """The code in words: `CD4 count` of `last CD4 count (LOINC//24467-3) in 365 days`, else the code's last part."""
    words, described, _ = column.description.partition(f" ({column.code})")
    if not described:
        return column.code.rsplit("//", 1)[-1]
    return words.removeprefix(BEGINNINGS.get(column.aggregation, f"{column.aggregation} "))


def label(column: Column) -> str:
    """What the feature is: `CD4 count, last value in 365 days`, without its value."""
    what = code_words(column)
    if column.kind == "age":
        return "age"
    if column.kind == "static_category":
        return f"{what} {column.category}:"
    if column.kind == "static_present":
        return f"{what}:"
    if column.kind == "static_value":
        return what
    window = f" in {column.window_days:g} days" if column.window_days else ""
    if column.aggregation == "present":
        return f"{what}{window}:"
    if column.aggregation == "last" and not window:
        return what
    return f"{what}, {AGGREGATIONS.get(column.aggregation, column.aggregation)}{window}"


def worded_value(column: Column, value: float) -> str:
    """The value with its unit; yes or no for a 0/1 feature, recorded or not for an event; `missing` for NaN."""
    if math.isnan(value):
        return "missing"
    if column.aggregation == "present" and column.kind != "static_present":
        return "recorded" if value else "not recorded"
    if is_yes_or_no(column):
        return "yes" if value else "no"
    return f"{number(value)}{unit(column)}"


def unit(column: Column) -> str:
    """The unit with a space before it, or nothing; UCUM's annotations in braces as words, a lone one left out."""
    if column.kind == "age":
        return " years"
    if column.aggregation in ("count", "time_since") or not column.unit or LONE_ANNOTATION.fullmatch(column.unit):
        return ""
    written = column.unit.replace("{", "").replace("}", "")
    return f" {written}/d" if column.aggregation == "slope" else f" {written}"


def is_yes_or_no(column: Column) -> bool:
    """Whether the feature is 0/1 by its making."""
    return column.aggregation == "present" or column.kind in ("static_category", "static_present")


def number(value: float) -> str:
    """Four significant digits, without an exponent where a clinician would not write one."""
    rounded = float(f"{value:.4g}")
    return f"{rounded:g}" if abs(rounded) < 1e4 else f"{rounded:,.0f}"
