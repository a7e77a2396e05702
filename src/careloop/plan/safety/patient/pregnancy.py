"""Whether a patient is pregnant: yes, no or unknown, with the reason; age and sex alone decide only the plain cases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

# Outside of these ages a pregnancy is not looked for; they are wider than the 15 to 49 years of WHO's and CDC's
# statistics of women of reproductive age, so that asking errs on the safe side.
FERTILE_FROM_YEARS, FERTILE_BELOW_YEARS = 10, 56
LONGEST_DAYS = 300.0  # after its last sign a pregnancy is over
TEST_DAYS = 30.0  # for which a negative answer holds
# LOINC: pregnancy status; hCG tests for presence in urine and serum.
STATUS = "LOINC//82810-3"
TESTS = ("LOINC//2106-3", "LOINC//2118-8", "LOINC//2110-5", "LOINC//2112-1")
PREGNANCY_CODES = (STATUS, *TESTS)
# Chapter O of ICD-10 and the supervision codes; what ends a pregnancy; what makes one impossible.
SIGNS = ("ICD10//O", "ICD10//Z33", "ICD10//Z34", "ICD10//Z3A", "ICD9//V22", "ICD9//V23", "SNOMED//77386006")
ENDS = (
    "ICD10//O00", "ICD10//O01", "ICD10//O02", "ICD10//O03", "ICD10//O04", "ICD10//O07", "ICD10//O08", "ICD10//O80",
    "ICD10//O82", "ICD10//O85", "ICD10//O86", "ICD10//O90", "ICD10//O91", "ICD10//O92", "ICD10//Z332", "ICD10//Z37",
    "ICD10//Z39", "ICD9//V24", "ICD9//V27", "ICD9//650", "SNOMED//60001007",
)  # fmt: skip
IMPOSSIBLE = ("ICD10//Z780", "ICD10//N951", "ICD10//Z90710", "ICD10//Z90712", "SNOMED//161712005")


@dataclass(frozen=True)
class Pregnancy:
    """`status` with the fact it rests on, in words."""

    status: Literal["yes", "no", "unknown"]
    reason: str


def pregnancy_of(
    diagnoses: Iterable[tuple[Sequence[str], datetime | None, str]],
    answers: Sequence[tuple[str, str | None, datetime | None]],
    *,
    at: datetime,
    age_years: float | None,
    sex: Literal["F", "M"] | None,
) -> Pregnancy:
    """The status at a time, from diagnoses (codes, time, standing) and answers (LOINC code, text, time) known by then.

    The last sign counts, for `LONGEST_DAYS`; an end or a negative answer after it counts for `TEST_DAYS`, then nobody
    knows. Men, and ages outside of FERTILE_FROM_YEARS to FERTILE_BELOW_YEARS, are not pregnant without a sign of it.
    """
    signs, ends, never = _dated(diagnoses, answers)
    sign, end = max(signs, default=None), max(ends, default=None)
    # A delivery is coded in the same chapter, at the same moment: the end counts where both are equally new.
    if sign is not None and sign >= at - timedelta(days=LONGEST_DAYS) and (end is None or sign > end):
        return Pregnancy("yes", f"pregnancy recorded on {sign:%Y-%m-%d}")
    if sex == "M":
        return Pregnancy("no", "male")
    if never:
        return Pregnancy("no", "past the menopause or without a uterus")
    if age_years is not None and not FERTILE_FROM_YEARS <= age_years < FERTILE_BELOW_YEARS:
        return Pregnancy("no", f"aged {age_years:.0f} years")
    if end is not None and end >= at - timedelta(days=TEST_DAYS):
        return Pregnancy("no", f"not pregnant on {end:%Y-%m-%d}")
    return Pregnancy("unknown", "pregnancy status is not recorded")


def _dated(
    diagnoses: Iterable[tuple[Sequence[str], datetime | None, str]],
    answers: Sequence[tuple[str, str | None, datetime | None]],
) -> tuple[list[datetime], list[datetime], bool]:
    """Times of signs and of ends, and whether a pregnancy is impossible."""
    signs: list[datetime] = []
    ends: list[datetime] = []
    never = False
    for codes, time, standing in diagnoses:
        never = never or (_begins(codes[:1], IMPOSSIBLE) and standing == "active")
        if time is None or standing == "suspected":
            continue
        if _begins(codes[:1], ENDS) or (_begins(codes, SIGNS) and standing == "resolved"):
            ends.append(time)
        elif _begins(codes, SIGNS):
            signs.append(time)
    for _, text, time in answers:
        is_positive = _is_positive(text)
        if time is not None and is_positive is not None:
            (signs if is_positive else ends).append(time)
    return signs, ends, never


def _begins(codes: Sequence[str], prefixes: Sequence[str]) -> bool:
    return any(code.startswith(tuple(prefixes)) for code in codes)


def _is_positive(text: str | None) -> bool | None:
    """What the text of a test or of the status says; None where it says neither."""
    words = (text or "").strip().lower()
    if words.startswith(("not pregnant", "negative", "neg", "not detected", "absent", "la26683-5")):
        return False
    return True if words.startswith(("pregnant", "positive", "pos", "detected", "present", "la15173-0")) else None
