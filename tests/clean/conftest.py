"""Simulated laboratory values with known truth, and errors planted in them at stated rates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

from careloop.record import conform

Values = Callable[[np.random.Generator, int, int], np.ndarray]


@dataclass(frozen=True)
class Lab:
    """A code with its unit and how its values are distributed over and within patients."""

    code: str
    unit: str | None
    middle: float
    spread: float  # standard deviation: of the natural logarithm where log-normal, else in the unit
    decimals: int
    is_log: bool = True
    within: float = 0.35  # one patient's standard deviation, as a part of all patients'

    def values(self, rng: np.random.Generator, patients: int, each: int) -> np.ndarray:
        """Values of patients (rows) by visit (columns)."""
        level = rng.normal(0, np.sqrt(1 - self.within**2), (patients, 1))
        z = level + rng.normal(0, self.within, (patients, each))
        value = self.middle * np.exp(self.spread * z) if self.is_log else self.middle + self.spread * z
        return np.maximum(np.round(value, self.decimals), 10.0**-self.decimals)


LABS = {
    "glucose": Lab("LOINC//2345-7", "mg/dL", 100, 0.30, 0),
    "creatinine": Lab("LOINC//2160-0", "mg/dL", 0.95, 0.40, 2),
    "cholesterol": Lab("LOINC//2093-3", "mg/dL", 190, 40, 0, is_log=False),
    "bilirubin": Lab("LOINC//1975-2", "mg/dL", 0.7, 0.60, 1),
    "sodium": Lab("LOINC//2951-2", "mmol/L", 140, 4, 0, is_log=False),
    "temperature": Lab("LOINC//8310-5", "Cel", 37, 0.6, 1, is_log=False),
    "weight": Lab("LOINC//29463-7", "kg", 78, 0.22, 1, within=0.15),
    "height": Lab("LOINC//8302-2", "cm", 170, 10, 0, is_log=False, within=0.1),
    "hemoglobin": Lab("LOINC//718-7", "g/dL", 13.5, 1.8, 1, is_log=False),
    "a1c": Lab("LOINC//4548-4", "%", 6.2, 0.20, 1),
    "hematocrit": Lab("LOINC//4544-3", "%", 41, 5, 1, is_log=False),
    "platelets": Lab("LOINC//777-3", "10*3/uL", 240, 0.35, 0),
    "crp": Lab("LOINC//1988-5", "mg/L", 4, 1.3, 1),
    "tsh": Lab("LOINC//3016-3", "m[IU]/L", 1.8, 0.8, 2),
    "calcium": Lab("LOINC//17861-6", "mg/dL", 9.4, 0.5, 1, is_log=False),
    "local": Lab("LAB//marker", "mg/L", 30, 0.5, 1),
}


def events_of(code: str, unit: str | None, values: np.ndarray, *, seed: int = 0) -> pl.DataFrame:
    """Values of patients (rows) by visit (columns) as events about a month apart, numbered by `row`."""
    patients, each = values.shape
    rng = np.random.default_rng(seed)
    days = np.arange(each) * 30 + rng.integers(0, 20, (patients, each))
    minutes = days.ravel() * 1440 + rng.integers(0, 1440, patients * each)
    start = pl.datetime(2020, 1, 1, time_unit="us", time_zone="UTC")
    frame = pl.DataFrame(
        {
            "subject_id": np.arange(patients).repeat(each),
            "minutes": minutes,
            "numeric_value": values.ravel().astype(np.float32),
        }
    ).select(
        "subject_id",
        time=start + pl.duration(minutes="minutes"),
        code=pl.lit(code),
        numeric_value="numeric_value",
        unit=pl.lit(unit, dtype=pl.String),
        source=pl.format("LAB//{}/{}", pl.lit(code), pl.int_range(pl.len())),
    )
    return conform(frame).with_row_index("row")


@pytest.fixture
def labs() -> dict[str, Lab]:
    """The laboratory tests by name."""
    return LABS


@pytest.fixture
def lab_events() -> Callable[..., pl.DataFrame]:
    """`events_of`."""
    return events_of
