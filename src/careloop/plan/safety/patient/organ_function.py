"""Kidney and liver function from laboratory values: eGFR, creatinine clearance, Child-Pugh, MELD and FIB-4."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Literal

from careloop import InputError

Sex = Literal["F", "M"]
ADULT_YEARS = 18
# Limits outside of which a MELD score does not change: United Network for Organ Sharing, OPTN policy 9.
MELD_LOW, MELD_HIGH = 6, 40


@dataclass(frozen=True)
class ChildPugh:
    """Points (5 to 15) and class: A 5-6, B 7-9, C 10-15."""

    points: int
    grade: Literal["A", "B", "C"]


def egfr_ckd_epi_2021(creatinine_mg_per_dl: float, *, age_years: float, sex: Sex) -> float:
    """Estimated glomerular filtration rate in mL/min/1.73 m2 by the CKD-EPI creatinine equation of 2021, for adults.

    Source: Inker et al., N Engl J Med 2021;385:1737, table S10 (without race; standardised creatinine).

    Raises:
        InputError: a creatinine that is not positive, or an age under 18.
    """
    _require_positive("creatinine", creatinine_mg_per_dl)
    _require_adult("CKD-EPI 2021", age_years)
    kappa, alpha, factor = (0.7, -0.241, 1.012) if sex == "F" else (0.9, -0.302, 1.0)
    ratio = creatinine_mg_per_dl / kappa
    power: float = min(ratio, 1.0) ** alpha * max(ratio, 1.0) ** -1.2
    return float(142 * power * 0.9938**age_years * factor)


def creatinine_clearance(creatinine_mg_per_dl: float, *, age_years: float, weight_kg: float, sex: Sex) -> float:
    """Creatinine clearance in mL/min by Cockcroft and Gault, with the weight as given (the actual one), for adults.

    Source: Cockcroft & Gault, Nephron 1976;16:31: (140 - age) x weight / (72 x creatinine), 15 % less in women.

    Raises:
        InputError: a creatinine or weight that is not positive, or an age under 18.
    """
    _require_positive("creatinine", creatinine_mg_per_dl)
    _require_positive("weight", weight_kg)
    _require_adult("Cockcroft-Gault", age_years)
    factor = 0.85 if sex == "F" else 1.0
    return max(140 - age_years, 0.0) * weight_kg / (72 * creatinine_mg_per_dl) * factor


def child_pugh(
    *, bilirubin_mg_per_dl: float, albumin_g_per_dl: float, inr: float, ascites: int, encephalopathy: int
) -> ChildPugh:
    """Child-Pugh score; `ascites` 0 none, 1 mild, 2 moderate or severe; `encephalopathy` its grade, 0 to 4.

    Source: Pugh et al., Br J Surg 1973;60:646, with INR limits 1.7 and 2.3 in place of the prothrombin time, as in the
    FDA's guidance on pharmacokinetics in impaired hepatic function (2003), table 1.

    Raises:
        InputError: a value that is not positive, or a grade outside of its range.
    """
    for name, value in (("bilirubin", bilirubin_mg_per_dl), ("albumin", albumin_g_per_dl), ("INR", inr)):
        _require_positive(name, value)
    if ascites not in range(3) or encephalopathy not in range(5):
        raise InputError(f"ascites must be 0 to 2 and encephalopathy 0 to 4, got {ascites} and {encephalopathy}")
    points = (
        1 + (bilirubin_mg_per_dl >= 2) + (bilirubin_mg_per_dl > 3)
        + 1 + (albumin_g_per_dl <= 3.5) + (albumin_g_per_dl < 2.8)
        + 1 + (inr >= 1.7) + (inr > 2.3)
        + 1 + ascites
        + 1 + (encephalopathy >= 1) + (encephalopathy >= 3)
    )  # fmt: skip
    return ChildPugh(points, "A" if points <= 6 else "B" if points <= 9 else "C")


def meld(*, bilirubin_mg_per_dl: float, inr: float, creatinine_mg_per_dl: float) -> int:
    """Model for end-stage liver disease, 6 to 40.

    Source: Kamath et al., Hepatology 2001;33:464, with UNOS's limits: less than 1 counts as 1, creatinine over 4 as 4.

    Raises:
        InputError: a value that is not positive.
    """
    return _limited(_meld(bilirubin_mg_per_dl, inr, creatinine_mg_per_dl))


def meld_na(*, bilirubin_mg_per_dl: float, inr: float, creatinine_mg_per_dl: float, sodium_mmol_per_l: float) -> int:
    """MELD with sodium, 6 to 40; sodium counts from 125 to 137 mmol/L, and only where MELD is above 11.

    Source: Kim et al., N Engl J Med 2008;359:1018, in the form of OPTN policy 9 (2016).

    Raises:
        InputError: a value that is not positive.
    """
    _require_positive("sodium", sodium_mmol_per_l)
    score = _meld(bilirubin_mg_per_dl, inr, creatinine_mg_per_dl)
    if score > 11:
        lack = 137 - min(max(sodium_mmol_per_l, 125), 137)
        score += 1.32 * lack - 0.033 * score * lack
    return _limited(score)


def meld_3(
    *,
    bilirubin_mg_per_dl: float,
    inr: float,
    creatinine_mg_per_dl: float,
    sodium_mmol_per_l: float,
    albumin_g_per_dl: float,
    sex: Sex,
) -> int:
    """MELD 3.0 for adults, 6 to 40.

    Source: Kim et al., Gastroenterology 2021;161:1887: sodium counts from 125 to 137 mmol/L, albumin from 1.5 to
    3.5 g/dL, creatinine up to 3.0 mg/dL; bilirubin, INR and creatinine below 1 count as 1.

    Raises:
        InputError: a value that is not positive.
    """
    for name, value in (("sodium", sodium_mmol_per_l), ("albumin", albumin_g_per_dl)):
        _require_positive(name, value)
    bilirubin, ratio = _log_from_1("bilirubin", bilirubin_mg_per_dl), _log_from_1("INR", inr)
    creatinine = min(_log_from_1("creatinine", creatinine_mg_per_dl), log(3.0))
    no_sodium = 137 - min(max(sodium_mmol_per_l, 125), 137)
    no_albumin = 3.5 - min(max(albumin_g_per_dl, 1.5), 3.5)
    return _limited(
        (1.33 if sex == "F" else 0.0)
        + 4.56 * bilirubin + 0.82 * no_sodium - 0.24 * no_sodium * bilirubin
        + 9.09 * ratio + 11.14 * creatinine + 1.85 * no_albumin - 1.83 * no_albumin * creatinine
        + 6
    )  # fmt: skip


def fib4(*, age_years: float, ast_u_per_l: float, alt_u_per_l: float, platelets_per_nl: float) -> float:
    """FIB-4 index of liver fibrosis: age x AST / (platelets x square root of ALT), platelets in 10^9/L.

    Source: Sterling et al., Hepatology 2006;43:1317.

    Raises:
        InputError: a value that is not positive.
    """
    for name, value in (("AST", ast_u_per_l), ("ALT", alt_u_per_l), ("platelets", platelets_per_nl)):
        _require_positive(name, value)
    return float(age_years * ast_u_per_l / (platelets_per_nl * alt_u_per_l**0.5))


def _meld(bilirubin: float, inr: float, creatinine: float) -> float:
    kidney = min(_log_from_1("creatinine", creatinine), log(4.0))
    score = 9.57 * kidney + 3.78 * _log_from_1("bilirubin", bilirubin) + 11.2 * _log_from_1("INR", inr) + 6.43
    # The policy rounds to one decimal before sodium is added.
    return float(round(score, 1))


def _log_from_1(name: str, value: float) -> float:
    _require_positive(name, value)
    return log(max(value, 1.0))


def _limited(score: float) -> int:
    return min(max(int(score + 0.5), MELD_LOW), MELD_HIGH)


def _require_positive(name: str, value: float) -> None:
    if not value > 0:
        raise InputError(f"{name} must be above 0; check the value and its unit")


def _require_adult(name: str, age_years: float) -> None:
    if not age_years >= ADULT_YEARS:
        raise InputError(f"{name} is for adults from {ADULT_YEARS} years; use an equation for children")
