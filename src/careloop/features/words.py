"""A feature and its value in words that a clinician reads: what, over which time, in which unit."""

from __future__ import annotations

import math
import re

from careloop.features.recipe import Column

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


def code_words(column: Column) -> str:
    """The code in words: its description, such as `CD4 count`, else its last part."""
    return column.description or column.code.rsplit("//", 1)[-1]


def label(column: Column) -> str:
    """What the feature is: `CD4 count, last value in 365 days`, without its value."""
    what = code_words(column)
    if column.kind == "age":
        return "age"
    if column.kind == "static_category":
        return f"{what} {column.category}"
    if column.kind in ("static_present", "static_value"):
        return what
    window = f" in {column.window_days:g} days" if column.window_days else ""
    if column.aggregation == "present":
        return f"{what}{window}"
    if column.aggregation == "last" and not window:
        return what
    return f"{what}, {AGGREGATIONS.get(column.aggregation, column.aggregation)}{window}"


def stated(column: Column, value: float) -> str:
    """The feature with its value: `CD4 count, last value in 365 days 210 cells/uL`, or `male: no`."""
    return f"{label(column)}{':' if is_yes_or_no(column) else ''} {worded_value(column, value)}"


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
