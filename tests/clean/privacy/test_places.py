"""ZIP codes cut as 45 CFR 164.514(b)(2)(i)(B) asks; codes of places and direct identifiers are known in any depth."""

from __future__ import annotations

import polars as pl
import pytest

from careloop.clean.privacy.places import DIRECT_CODES, PLACE_CODES, three_digits
from careloop.record import code_matches, conform


def cut(code: str, text: str | None, value: float | None = None) -> tuple:
    row = {"subject_id": [1], "time": [None], "code": [code], "text_value": [text], "numeric_value": [value]}
    events = conform(pl.DataFrame(row, schema_overrides={"text_value": pl.String, "numeric_value": pl.Float32}))
    return three_digits(events).select("code", "text_value", "numeric_value", "is_three_digits").row(0)


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        ("ZIP", "10001-4417", ("ZIP", "100", None, True)),
        ("ZIP_CODE", " 94110 ", ("ZIP_CODE", "941", None, True)),
        ("ZIP", "03601", ("ZIP", "000", None, True)),  # fewer than 20,000 people
        ("ZIP//10001", None, ("ZIP//100", None, None, True)),
        ("ZIP//20310", None, ("ZIP//000", None, None, True)),
        ("ZIP", "SW1A 1AA", ("ZIP", "SW1A 1AA", None, False)),
        ("ZIP", "1000", ("ZIP", "1000", None, False)),
        ("CITY//Duluth", None, ("CITY//Duluth", None, None, False)),
        ("LOINC//2160-0", "12345", ("LOINC//2160-0", "12345", None, False)),
    ],
)
def test_zip_codes(code: str, text: str | None, expected: tuple) -> None:
    assert cut(code, text) == expected


def test_a_place_as_number_never_stays() -> None:
    assert cut("LATITUDE", None, 47.99)[2] is None
    assert cut("LOINC//2160-0", None, 1.5)[2] == 1.5


def test_code_lists_take_what_is_below_and_nothing_else() -> None:
    codes = pl.DataFrame(
        {"code": ["MRN", "MRN//1", "MRNA", "CITY//x", "CITYSCAN", "LOINC//56799-0", "LOINC//56799-01"]}
    )
    assert codes.filter(code_matches(DIRECT_CODES))["code"].to_list() == ["MRN", "MRN//1"]
    assert codes.filter(code_matches(PLACE_CODES))["code"].to_list() == ["CITY//x", "LOINC//56799-0"]
