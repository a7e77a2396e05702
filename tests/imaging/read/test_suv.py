"""SUV by body weight: closed forms for each kind of PET file, times past midnight, and when there is none."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from careloop.imaging.read.series import find_series, read_series
from careloop.imaging.read.suv import PetFacts, suv_factor

SCAN = datetime(2024, 3, 1, 0, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
FDG_S = 6586.2
FACTS = PetFacts(
    units="BQML", suv_type="", decay_correction="START", corrections=frozenset({"ATTN", "DECY"}), weight_kg=70.0,
    dose_bq=3.7e8, half_life_s=FDG_S, injected=SCAN - HOUR, series_start=SCAN, acquired=SCAN + HOUR / 60,
    ge_scan_start=None, philips_suv=None, philips_bq_ml=None,
)  # fmt: skip
DECAYED = 70_000 / (3.7e8 * 2 ** (-3600 / FDG_S))


def changed(**changes: Any) -> PetFacts:
    return dataclasses.replace(FACTS, **changes)


@pytest.mark.parametrize(
    ("facts", "factor"),
    [(FACTS, DECAYED),
     (changed(decay_correction="ADMIN"), 70_000 / 3.7e8),
     # a time of day only, the evening before: 23:30
     (changed(injected=datetime(1900, 1, 1, 23, 30, tzinfo=UTC)), DECAYED),
     # a series made the day after: the first acquisition counts; or the scanner's own start
     (changed(series_start=SCAN + 24 * HOUR, acquired=SCAN), DECAYED),
     (changed(series_start=SCAN + 24 * HOUR, acquired=SCAN + HOUR, ge_scan_start=SCAN), DECAYED),
     (changed(units="CNTS", philips_suv=0.0123), 0.0123),
     (changed(units="CNTS", philips_bq_ml=2.0), 2 * DECAYED),
     (changed(units="GML"), 1.0)],
)  # fmt: skip
def test_suv_in_closed_form(facts: PetFacts, factor: float) -> None:
    got, unit, finding = suv_factor([facts, facts])
    assert got == pytest.approx(factor, rel=1e-12)
    assert unit == "g/mL"
    assert finding.check == "SUV"


@pytest.mark.parametrize(
    ("facts", "unit", "why"),
    [(changed(weight_kg=None), "Bq/mL", "patient weight"), (changed(dose_bq=None), "Bq/mL", "dose"),
     (changed(decay_correction="NONE"), "Bq/mL", "NONE"), (changed(injected=SCAN + HOUR), "Bq/mL", "after the scan"),
     (changed(injected=SCAN - 90 * HOUR), "Bq/mL", "too long before"),
     (changed(corrections=frozenset({"DECY"})), "Bq/mL", "attenuation"), (changed(injected=None), "Bq/mL", "injection"),
     (changed(units="CNTS"), "", "counts"), (changed(units="GML", suv_type="LBM"), "", "LBM"),
     (changed(units="PROPCNTS"), "", "PROPCNTS")],
)  # fmt: skip
def test_values_are_kept_where_suv_cannot_be_had(facts: PetFacts, unit: str, why: str) -> None:
    factor, got, finding = suv_factor([facts])
    assert (factor, got, finding.verdict) == (1.0, unit, "noted")
    assert why in finding.message


def test_files_that_disagree_give_no_suv() -> None:
    assert suv_factor([FACTS, changed(weight_kg=71.0)])[1] == "Bq/mL"


def test_a_pet_series_in_suv(tmp_path: Path, made: Any) -> None:
    """Each slice has its own slope; the whole is checked against the formula on pydicom's values."""
    slices = made.slices(3)
    drug = Dataset()
    drug.RadionuclideTotalDose, drug.RadionuclideHalfLife = "370000000", f"{FDG_S}"
    drug.RadiopharmaceuticalStartDateTime = "20240229233000.00"
    for number, one in enumerate(slices):
        one.Modality, one.Units, one.DecayCorrection, one.CorrectedImage = "PT", "BQML", "START", ["ATTN", "DECY"]
        one.PatientWeight, one.RadiopharmaceuticalInformationSequence = "70", [drug]
        one.SeriesDate, one.SeriesTime, one.AcquisitionDate, one.AcquisitionTime = (
            "20240301",
            "003000",
            "20240301",
            "003100",
        )
        one.RescaleSlope, one.RescaleIntercept = f"{1.5 + number}", "0"
    volume = read_series(find_series(made.write(tmp_path, slices))[0])
    expected = [made.stored(s).astype(float) * (1.5 + n) * DECAYED for n, s in enumerate(slices)]
    np.testing.assert_allclose(volume.voxels, expected, rtol=1e-6)
    assert (volume.unit, volume.voxels.dtype) == ("g/mL", np.float32)
    assert any(f.check == "per-slice rescale" for f in volume.findings)
    for one in slices:
        del one.PatientWeight
    volume = read_series(find_series(made.write(tmp_path, slices))[0])
    np.testing.assert_allclose(volume.voxels, np.array(expected) / DECAYED, rtol=1e-6)
    assert volume.unit == "Bq/mL"
