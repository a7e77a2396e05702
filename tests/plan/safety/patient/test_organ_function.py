"""Organ function against published worked examples, other implementations' test values and closed forms."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careloop import InputError
from careloop.plan.safety.patient.organ_function import (
    child_pugh,
    creatinine_clearance,
    egfr_ckd_epi_2021,
    fib4,
    meld,
    meld_3,
    meld_na,
)


def test_ckd_epi_2021_against_the_calculator_of_the_national_kidney_foundation() -> None:
    """A man of 55 years with 1.2 mg/dL has 71 mL/min/1.73 m2 (kidney.org)."""
    assert round(egfr_ckd_epi_2021(1.2, age_years=55, sex="M")) == 71


def test_ckd_epi_2021_at_its_knots() -> None:
    """At creatinine = kappa both powers are 1, so that 142 x 0.9938^age (x 1.012) is left."""
    assert egfr_ckd_epi_2021(0.9, age_years=50, sex="M") == pytest.approx(142 * 0.9938**50)
    assert egfr_ckd_epi_2021(0.7, age_years=50, sex="F") == pytest.approx(142 * 0.9938**50 * 1.012)
    assert egfr_ckd_epi_2021(1.8, age_years=40, sex="M") == pytest.approx(142 * 2**-1.2 * 0.9938**40)
    assert egfr_ckd_epi_2021(0.35, age_years=40, sex="F") == pytest.approx(142 * 0.5**-0.241 * 0.9938**40 * 1.012)


def test_cockcroft_gault_by_its_definition() -> None:
    """(140 - 60) x 72 / (72 x 1.0) = 80 mL/min, in women 15 % less."""
    assert creatinine_clearance(1.0, age_years=60, weight_kg=72, sex="M") == pytest.approx(80)
    assert creatinine_clearance(1.0, age_years=60, weight_kg=72, sex="F") == pytest.approx(68)


@pytest.mark.parametrize(
    ("bilirubin", "albumin", "inr", "ascites", "encephalopathy", "points", "grade"),
    [
        (1.0, 4.0, 1.0, 0, 0, 5, "A"),
        (2.0, 3.5, 1.7, 0, 0, 8, "B"),  # 2 to 3, 2.8 to 3.5 and 1.7 to 2.3 are two points each
        (3.0, 2.8, 2.3, 0, 0, 8, "B"),
        (3.2, 2.6, 2.0, 1, 1, 12, "C"),  # the case of github.com/lakshay321123/medx, child_pugh.test.ts
        (9.0, 2.0, 3.0, 2, 4, 15, "C"),
    ],
)
def test_child_pugh(
    bilirubin: float, albumin: float, inr: float, ascites: int, encephalopathy: int, points: int, grade: str
) -> None:
    found = child_pugh(
        bilirubin_mg_per_dl=bilirubin,
        albumin_g_per_dl=albumin,
        inr=inr,
        ascites=ascites,
        encephalopathy=encephalopathy,
    )
    assert (found.points, found.grade) == (points, grade)


def test_meld_against_the_tests_of_r_packages() -> None:
    """The R package ameld has 20.04 for creatinine 1.9, bilirubin 4.2, INR 1.2; transplantr 24.798 in SI units."""
    assert meld(bilirubin_mg_per_dl=4.2, inr=1.2, creatinine_mg_per_dl=1.9) == 20
    assert meld(bilirubin_mg_per_dl=54 / 17.1, inr=2.0, creatinine_mg_per_dl=170 / 88.4) == 25
    assert meld(bilirubin_mg_per_dl=0.5, inr=0.9, creatinine_mg_per_dl=0.6) == 6
    assert meld(bilirubin_mg_per_dl=40, inr=9, creatinine_mg_per_dl=9) == 40


def test_meld_na_against_transplantr() -> None:
    """The R package transplantr has 26.257 for INR 1.8, bilirubin 2, creatinine 2, sodium 131."""
    assert meld_na(bilirubin_mg_per_dl=2, inr=1.8, creatinine_mg_per_dl=2, sodium_mmol_per_l=131) == 26
    normal = meld(bilirubin_mg_per_dl=2, inr=1.8, creatinine_mg_per_dl=2)
    assert meld_na(bilirubin_mg_per_dl=2, inr=1.8, creatinine_mg_per_dl=2, sodium_mmol_per_l=140) == normal


def test_meld_3_in_closed_form() -> None:
    """With bilirubin, INR and creatinine of 1 no logarithm is left: 6 + 0.82 x 7 + 1.85 = 13.59, in women 14.92."""
    values = {"bilirubin_mg_per_dl": 1.0, "inr": 1.0, "creatinine_mg_per_dl": 1.0}
    assert meld_3(**values, sodium_mmol_per_l=130, albumin_g_per_dl=2.5, sex="M") == 14
    assert meld_3(**values, sodium_mmol_per_l=130, albumin_g_per_dl=2.5, sex="F") == 15
    assert meld_3(**values, sodium_mmol_per_l=145, albumin_g_per_dl=4.5, sex="M") == 6
    assert meld_3(
        bilirubin_mg_per_dl=math.e, inr=math.e, creatinine_mg_per_dl=math.e, sodium_mmol_per_l=137,
        albumin_g_per_dl=3.5, sex="M",
    ) == round(6 + 4.56 + 9.09 + 11.14)  # fmt: skip


def test_fib4_by_its_definition() -> None:
    """60 years, AST 40, ALT 36, platelets 200: 60 x 40 / (200 x 6) = 2."""
    assert fib4(age_years=60, ast_u_per_l=40, alt_u_per_l=36, platelets_per_nl=200) == pytest.approx(2)


@given(st.floats(0.2, 12), st.floats(0.2, 12), st.integers(18, 100), st.sampled_from("FM"))
def test_more_creatinine_is_never_more_filtration(first: float, second: float, age: int, sex: str) -> None:
    low, high = sorted((first, second))
    assert egfr_ckd_epi_2021(low, age_years=age, sex=sex) >= egfr_ckd_epi_2021(high, age_years=age, sex=sex)


@pytest.mark.parametrize(
    ("creatinine", "age", "said"), [(0.0, 50, "above 0"), (float("nan"), 50, "above 0"), (1, 9, "adults")]
)
def test_what_makes_no_sense_is_refused(creatinine: float, age: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        egfr_ckd_epi_2021(creatinine, age_years=age, sex="M")
    with pytest.raises(InputError, match=said):
        creatinine_clearance(creatinine, age_years=age, weight_kg=70, sex="M")
