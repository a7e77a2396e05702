"""Units: against published factors, atomic weights, pint and closed forms."""

from __future__ import annotations

import math
import re

import numpy as np
import pint
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.clean.faults.units import (
    TABLES,
    Conversion,
    analytes,
    canonical_units,
    conversion,
    find_units,
    ucum,
    unit_table,
)
from careloop.record import conform

# IUPAC 2021 standard atomic weights, abridged.
ATOMS = {
    "H": 1.008, "C": 12.011, "N": 14.007, "O": 15.999, "Na": 22.990, "Mg": 24.305, "P": 30.974, "Cl": 35.45,
    "K": 39.098, "Ca": 40.078, "Fe": 55.845, "Co": 58.933, "I": 126.904,
}  # fmt: skip


def convert(code: str, unit: str, value: float) -> float | None:
    found = conversion(unit, analytes()[code].unit, analytes()[code])
    return None if found is None else float(found(np.float64(value)))


def test_molar_masses_follow_from_the_formulas() -> None:
    table = pl.read_csv(TABLES / "analytes.csv", infer_schema=False).drop_nulls("formula")
    assert table.height > 60
    for code, formula, mass in table.select("code", "formula", "molar_mass").iter_rows():
        expected = sum(ATOMS[a] * int(n or 1) for a, n in re.findall(r"([A-Z][a-z]?)(\d*)", formula))
        assert float(mass) == pytest.approx(expected, rel=5e-5), code


def test_every_unit_of_the_table_is_its_own_ucum_spelling() -> None:
    for code, analyte in analytes().items():
        assert ucum(analyte.unit) == analyte.unit, code
        found = conversion(analyte.unit, analyte.unit, analyte)
        assert found is not None
        assert found.is_identity


# As conversion tables of clinical chemistry print them, rounded to three or four digits.
@pytest.mark.parametrize(
    ("code", "unit", "factor"),
    [
        ("2345-7", "mmol/L", 18.016),
        ("14749-6", "mg/dL", 0.0555),
        ("2160-0", "umol/L", 1 / 88.42),
        ("14682-9", "mg/dL", 88.42),
        ("2093-3", "mmol/L", 38.67),
        ("2571-8", "mmol/L", 88.57),
        ("1975-2", "umol/L", 1 / 17.1),
        ("14631-6", "mg/dL", 17.1),
        ("3084-1", "umol/L", 1 / 59.48),
        ("3094-0", "mmol/L", 2.801),
        ("17861-6", "mmol/L", 4.008),
        ("17861-6", "meq/L", 2.004),
        ("2000-8", "meq/L", 0.5),
        ("19123-9", "mmol/L", 2.431),
        ("2777-1", "mmol/L", 3.097),
        ("718-7", "mmol/L", 1.611),
        ("2498-4", "umol/L", 5.585),
        ("2143-6", "nmol/L", 1 / 27.59),
        ("2986-8", "nmol/L", 28.84),
        ("2243-4", "pmol/L", 1 / 3.671),
        ("3024-7", "pmol/L", 1 / 12.87),
        ("1989-3", "nmol/L", 1 / 2.496),
        ("2132-9", "pmol/L", 1 / 0.7378),
        ("9318-7", "mg/mmol", 8.84),
        ("10535-3", "nmol/L", 1 / 1.281),
        ("1742-6", "ukat/L", 60.0),
        ("2951-2", "meq/L", 1.0),
        ("8480-6", "kPa", 7.50062),
        ("29463-7", "lb", 0.45359237),
        ("8302-2", "in", 2.54),
        ("4544-3", "L/L", 100.0),
        ("777-3", "/uL", 0.001),
    ],
)
def test_published_factors(code: str, unit: str, factor: float) -> None:
    assert convert(f"LOINC//{code}", unit, 1.0) == pytest.approx(factor, rel=1.2e-3)


def test_a1c_follows_the_master_equation() -> None:
    assert convert("LOINC//59261-8", "%", 7.0) == pytest.approx(53.0, abs=0.1)  # printed in every diabetes guideline
    assert convert("LOINC//4548-4", "mmol/mol", 48) == pytest.approx(6.5, abs=0.05)
    assert convert("LOINC//59261-8", "%", 9.3) == pytest.approx(10.93 * (9.3 - 2.15), abs=0.01)
    # Only of haemoglobin A1c: another ratio of amounts is just a ratio.
    assert conversion("mmol/mol", "%") == Conversion(0.1)


@pytest.mark.parametrize(("fahrenheit", "celsius"), [(98.6, 37.0), (32.0, 0.0), (-40.0, -40.0), (212.0, 100.0)])
def test_temperature_is_affine(fahrenheit: float, celsius: float) -> None:
    assert convert("LOINC//8310-5", "°F", fahrenheit) == pytest.approx(celsius, abs=1e-9)
    found = conversion("Cel", "[degF]")
    assert found is not None
    assert float(found(np.float64(celsius))) == pytest.approx(fahrenheit, abs=1e-9)


@pytest.mark.parametrize(
    ("written", "unit"),
    [
        ("mg/dl", "mg/dL"), ("MG/DL", "mg/dL"), ("mmHg", "mm[Hg]"), ("x10^9/L", "10*9/L"), ("10e3/uL", "10*3/uL"),
        ("K/uL", "10*3/uL"), ("10^3/µL", "10*3/uL"), ("X10E3/UL", "10*3/uL"), ("1000/uL", "10*3/uL"),
        ("M/uL", "10*6/uL"),
        ("bpm", "/min"), ("°C", "Cel"), ("lbs", "[lb_av]"), ("mcg/L", "ug/L"), ("μmol/L", "umol/L"), ("IU/L", "[IU]/L"),
        ("uIU/mL", "u[IU]/mL"), ("mEq/L", "meq/L"), ("mL/min/1.73m2", "mL/min/{1.73_m2}"), ("kg/m²", "kg/m2"),
        ("mg/g{creat}", "mg/g{creat}"), (" mmol/L ", "mmol/L"), ("gm/dL", "g/dL"), ("cells/mm3", "{cells}/uL"),
        ("no unit at all", "no unit at all"), ("", ""),
    ],
)  # fmt: skip
def test_spellings(written: str, unit: str) -> None:
    assert ucum(written) == unit


@pytest.mark.parametrize(
    ("unit", "into"),
    [
        ("mg/dL", "mmol/L"),  # without an analyte
        ("mg/dL", "mm[Hg]"),
        ("%", "{INR}"),
        ("/uL", "/[HPF]"),
        ("{cells}/uL", "[IU]/L"),
        ("what", "mg/dL"),
        ("", "mg/dL"),
    ],
)
def test_what_does_not_convert(unit: str, into: str) -> None:
    assert conversion(unit, into) is None


def test_giga_per_litre_of_cells_is_no_mass() -> None:
    assert convert("LOINC//777-3", "G/L", 250) == pytest.approx(250)
    assert convert("LOINC//2885-2", "G/L", 70) == pytest.approx(7)


REGISTRY = pint.UnitRegistry()
SIMPLE = {"g/L": "g/L", "mg/dL": "mg/dl", "ug/mL": "ug/ml", "kg": "kg", "[lb_av]": "pound", "[in_i]": "inch",
          "mm[Hg]": "mmHg", "kPa": "kPa", "h": "hour", "min": "minute", "L/min": "l/min", "kcal": "kcal"}  # fmt: skip


@pytest.mark.parametrize("unit", SIMPLE)
@pytest.mark.parametrize("into", SIMPLE)
def test_agrees_with_pint(unit: str, into: str) -> None:
    found = conversion(unit, into)
    try:
        expected = REGISTRY.Quantity(1, SIMPLE[unit]).to(SIMPLE[into]).magnitude
    except pint.DimensionalityError:
        assert found is None
        return
    assert found is not None
    assert found.scale == pytest.approx(expected, rel=1e-9)


@given(st.sampled_from(sorted(analytes())), st.floats(1e-3, 1e5))
@settings(max_examples=60, deadline=None)
def test_there_and_back(code: str, value: float) -> None:
    analyte = analytes()[code]
    for unit in ("mmol/L", "umol/L", "mg/dL", "ng/mL", "meq/L", "%", "mmol/mol", "[degF]", "[lb_av]", "kPa"):
        there, back = conversion(analyte.unit, unit, analyte), conversion(unit, analyte.unit, analyte)
        assert (there is None) == (back is None)
        if there is not None and back is not None:
            assert float(back(there(np.float64(value)))) == pytest.approx(value, rel=1e-9, abs=1e-7)
            assert float(there.inverse(there(np.float64(value)))) == pytest.approx(value, rel=1e-9, abs=1e-7)


@given(st.text(max_size=15))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_unit_or_none(text: str) -> None:
    assert isinstance(ucum(text), str)
    found = conversion(text, "mg/dL")
    assert found is None or math.isfinite(found.scale)


def events(rows: list[tuple[str, float | None, str | None]]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=["code", "numeric_value", "unit"], orient="row")
    time = pl.datetime(2024, 1, 1, time_zone="UTC") + pl.duration(hours=pl.int_range(pl.len()))
    return conform(frame.with_columns(subject_id=1, time=time)).with_row_index("row")


def test_canonical_unit_is_the_codes_tables_else_the_analytes_else_the_most_frequent() -> None:
    counts = pl.DataFrame(
        [("LOINC//2345-7", "mmol/L", 9), ("A", "mg", 2), ("A", "MG", 1), ("A", "g", 2), ("B", "mg", 5), ("B", None, 9)],
        schema=["code", "unit", "count"],
        orient="row",
    )
    units = canonical_units(counts, pl.DataFrame({"code": ["B"], "unit": ["ug"]}))
    assert (units["LOINC//2345-7"], units["A"], units["B"]) == ("mg/dL", "mg", "ug")


def test_findings_convert_or_flag() -> None:
    rows = events(
        [
            ("LOINC//2345-7", 5.0, "mmol/L"),
            ("LOINC//2345-7", 90.0, "mg/dL"),
            ("LOINC//2345-7", 90.0, "mg/dl"),
            ("LOINC//2345-7", 90.0, "U/L"),
            ("LOINC//2345-7", 90.0, None),
            ("LOINC//2345-7", None, "mmol/L"),
            ("LOINC//2345-7", 3e38, "mmol/L"),
        ]
    )
    table = unit_table(rows.select("code", "unit"), {"LOINC//2345-7": "mg/dL"})
    found = find_units(rows, table).sort("row")
    assert found.select("row", "action", "after_unit").rows() == [
        (0, "changed", "mg/dL"),
        (2, "changed", "mg/dL"),
        (3, "flagged", None),
        (6, "flagged", None),
    ]
    assert found["after_numeric_value"][0] == pytest.approx(90.078, rel=1e-5)
    assert found["after_numeric_value"][1] == 90.0
