"""Codes that name a patient or where one lives, and US ZIP codes cut to three digits (45 CFR 164.514(b)(2)(i)(B))."""

from __future__ import annotations

import polars as pl

from careloop.record import code_matches


def _with_parts(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(code for name in names for code in (name, f"{name}//*"))


DIRECT_CODES = _with_parts(
    (
        "NAME", "FIRST_NAME", "LAST_NAME", "PATIENT_NAME", "MRN", "SSN", "PHONE", "TELEPHONE", "FAX", "EMAIL",
        "INSURANCE_NUMBER", "ACCOUNT_NUMBER", "LICENSE_NUMBER", "IP_ADDRESS", "URL", "PHOTO", "IDENTIFIER",
    )
)  # fmt: skip
PLACE_CODES = (
    *_with_parts(
        (
            "ADDRESS", "STREET", "CITY", "TOWN", "COUNTY", "DISTRICT", "PRECINCT", "CENSUS_TRACT", "GEO", "GEOCODE",
            "LATITUDE", "LONGITUDE", "POSTAL", "POSTAL_CODE", "POSTCODE", "PLZ", "ZIP", "ZIP_CODE", "ZIPCODE",
        )
    ),
    "LOINC//56799-0", "LOINC//45401-7",  # address, postal code
)  # fmt: skip
# Areas of 20,000 people or fewer: those that the guidance of HHS lists from the census of 2000, and those of 2010.
_SMALL_AREAS = (
    "036", "059", "063", "102", "203", "205", "369", "556", "692", "753", "772", "790", "821", "823", "830", "831",
    "878", "879", "884", "890", "893",
)  # fmt: skip
_ZIP = r"^\s*(\d{3})\d{2}(?:-?\d{4})?\s*$"


def three_digits(events: pl.DataFrame) -> pl.DataFrame:
    """ZIP codes in the text or the code of `PLACE_CODES` cut to three digits, 000 where too few people live.

    Adds `is_three_digits`, false for every other event.
    """
    is_place = code_matches(PLACE_CODES)
    in_text = pl.col("text_value").str.extract(_ZIP)
    in_code = pl.col("code").str.extract(r"//([^/]*)$").str.extract(_ZIP)

    def cut(digits: pl.Expr) -> pl.Expr:
        return pl.when(digits.is_in(_SMALL_AREAS)).then(pl.lit("000")).otherwise(digits)

    code_of = pl.col("code").str.extract(r"^(.*//)[^/]*$") + cut(in_code)
    from_code = in_code.is_not_null() & pl.col("text_value").is_null()
    from_text = in_text.is_not_null() & in_code.is_null()
    return events.with_columns(
        is_three_digits=(is_place & (from_code | from_text)).fill_null(False),
        code=pl.when(is_place & from_code).then(code_of).otherwise("code"),
        text_value=pl.when(is_place & from_text).then(cut(in_text)).otherwise("text_value"),
        numeric_value=pl.when(~is_place).then("numeric_value"),
    )
