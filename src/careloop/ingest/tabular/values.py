"""Cells that hold a measured value: a number, its comparator, a unit or flag beside it, or a text that is no number."""

from __future__ import annotations

import re
from dataclasses import dataclass

import polars as pl

from careloop.ingest.tables.columns import first_of, kept

_SPELLINGS = {"≤": "<=", "≥": ">=", "＜": "<", "＞": ">", "−": "-", "－": "-", "＝": "=", "\u00a0": " ", "\u202f": " "}
_THOUSANDS = {".": r"\.", ",": ",", " ": " ", "'": "['’]"}
_UNIT = r"[%‰°µμA-Za-z\[{][^\s<>=]{0,19}|mm Hg|(?:x ?)?10 ?[*^]+ ?[0-9]{1,2}(?: ?/ ?\S{1,10})?"
# Without a blank before it only what is surely a unit is one: "2A" and "3b" are stages, "4th" is a word.
_GLUED = r"%|‰|°C|°F|(?:[munkcdpfµμ]|mc)?(?:g|mol|mole|[lL]|Eq|[IiEe]?[Uu]|Hg|bpm|min)(?:/\S{1,10})?|mmHg|cm|mm|sec|ms"
_FLAGS = "HH?|LL?|N|A|[*+-]"  # high, low, normal, abnormal, as laboratories print them behind a number
LARGEST = 3.4e38  # of a 32-bit float


@dataclass(frozen=True)
class Measured:
    """What cells say: `number`; `unit` where the cell names it; `text` is the comparator, a flag, or the whole text."""

    number: pl.Series
    unit: pl.Series
    text: pl.Series


def measured(cells: pl.Series, decimal: str, thousands: str | None) -> Measured:
    """Take values apart: "5.6", "<0.5", ">= 1.000,5", "5.6 mmol/L", "140 H".

    As in FHIR, the number of "<0.5" is 0.5 and its text "<". What is no number is a text, whatever digits it has
    ("1:128", "120/80", "5-10").
    """
    nothing = pl.Series([None], dtype=pl.String).new_from_index(0, cells.len())
    if cells.dtype.is_numeric():
        return Measured(_finite(cells.cast(pl.Float64)), nothing, nothing)
    plain = cells.cast(pl.String)
    is_plain = plain.str.contains(r"^[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?$" if decimal == "." else "^[+-]?[0-9]+$")
    number = kept(_finite(plain.cast(pl.Float64, strict=False)), is_plain)
    rest = plain.filter(number.is_null() & plain.is_not_null()).unique()
    if not rest.len():
        return Measured(number, nothing, nothing)
    read = _apart(rest, decimal, thousands)
    found = plain.to_frame("cell").join(read, on="cell", how="left", maintain_order="left")
    return Measured(first_of(number, found["number"]), found["unit"], found["text"])


def _apart(cells: pl.Series, decimal: str, thousands: str | None) -> pl.DataFrame:
    """Distinct cells and what each says."""
    point = re.escape(decimal)
    whole = "[0-9]+"
    if thousands:
        whole = rf"[0-9]{{1,3}}(?:{_THOUSANDS[thousands]}[0-9]{{3}})+|{whole}"
    digits = rf"(?:(?:{whole})(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]{{1,3}})?"
    pattern = rf"^(<=|>=|=|<|>)? ?([+-]?{digits})(?:({_GLUED})| ({_FLAGS})| ({_UNIT}))?$"
    plain = cells.str.replace_many(_SPELLINGS).str.replace_all(r"\s+", " ").str.strip_chars()
    parts = plain.str.extract_groups(pattern).struct.unnest()
    parts.columns = ["comparator", "digits", "glued", "flag", "unit"]
    written = parts["digits"].str.replace_all(_THOUSANDS[thousands], "") if thousands else parts["digits"]
    number = _finite(written.str.replace(decimal, ".", literal=True).cast(pl.Float64, strict=False))
    is_number = number.is_not_null()
    comparator = kept(parts["comparator"], parts["comparator"] != "=")
    return pl.DataFrame(
        {
            "cell": cells,
            "number": number,
            "unit": kept(first_of(parts["glued"], parts["unit"]), is_number),
            "text": first_of(kept(first_of(comparator, parts["flag"]), is_number), kept(cells, ~is_number)),
        }
    )


def _finite(number: pl.Series) -> pl.Series:
    """The numbers that a record can hold; null for the others."""
    return kept(number, (number.abs() < LARGEST).fill_null(False))
