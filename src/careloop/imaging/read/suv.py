"""PET activity to standardised uptake values by body weight (SUVbw), or why that cannot be done."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from careloop.imaging.finding import Finding
from careloop.imaging.read.elements import BadValueError, decimals, private_text, raw_text
from careloop.ingest.dicom.header import items, parse_datetime

if TYPE_CHECKING:
    from pydicom import Dataset

CHECK = "SUV"
BQ_ML, SUV_UNIT = "Bq/mL", "g/mL"
MOST_HALF_LIVES = 20  # between injection and scan: beyond it nothing is left to see, so a time must be wrong
# Private elements of vendors, each with the creator of its block (PS3.5 section 7.8.1).
_PHILIPS, _PHILIPS_SUV, _PHILIPS_BQML = 0x70530010, 0x70531000, 0x70531009
_GE, _GE_SCAN = 0x00090010, 0x0009100D
PRIVATE_TAGS = (_PHILIPS, _PHILIPS_SUV, _PHILIPS_BQML, _GE, _GE_SCAN)


@dataclass(frozen=True, slots=True)
class PetFacts:
    """What one PET file says that SUV depends on; None or empty is what it does not say.

    `dose_bq` is RadionuclideTotalDose at the injection, and `injected` when that was: a date and time, or a time of
    day on 1900-01-01 where the file has no date. `philips_suv` and `philips_bq_ml` are one count's SUV and activity.
    """

    units: str
    suv_type: str
    decay_correction: str
    corrections: frozenset[str]
    weight_kg: float | None
    dose_bq: float | None
    half_life_s: float | None
    injected: datetime | None
    series_start: datetime | None
    acquired: datetime | None
    ge_scan_start: datetime | None
    philips_suv: float | None
    philips_bq_ml: float | None


def read_pet_facts(header: Dataset) -> PetFacts:
    """Return the facts of one file's header; a malformed value counts as missing."""
    drug = next(iter(items(header, "RadiopharmaceuticalInformationSequence")), None)
    philips = private_text(header, _PHILIPS).startswith("Philips PET Private Group")
    ge = private_text(header, _GE) == "GEMS_PETD_01"
    return PetFacts(
        units=raw_text(header, "Units"),
        suv_type=raw_text(header, "SUVType"),
        decay_correction=raw_text(header, "DecayCorrection"),
        corrections=frozenset(raw_text(header, "CorrectedImage").split("\\")),
        weight_kg=_positive(header, "PatientWeight"),
        dose_bq=None if drug is None else _positive(drug, "RadionuclideTotalDose"),
        half_life_s=None if drug is None else _positive(drug, "RadionuclideHalfLife"),
        injected=None if drug is None else _injected(drug),
        series_start=_moment(raw_text(header, "SeriesDate"), raw_text(header, "SeriesTime")),
        acquired=_moment(raw_text(header, "AcquisitionDate"), raw_text(header, "AcquisitionTime")),
        ge_scan_start=_moment("", private_text(header, _GE_SCAN)) if ge else None,
        philips_suv=_private_number(header, _PHILIPS_SUV) if philips else None,
        philips_bq_ml=_private_number(header, _PHILIPS_BQML) if philips else None,
    )


def suv_factor(facts: Sequence[PetFacts]) -> tuple[float, str, Finding]:
    """Return what the rescaled values of a PET volume are multiplied by, their unit (UCUM) then, and a finding.

    SUVbw = activity (Bq/mL) x weight (g) / dose (Bq), the dose decayed from injection to the time that the activity is
    corrected to: the start of the scan (DecayCorrection START) or the injection itself (ADMIN). After the
    computation of the QIBA FDG-PET/CT profile (SUV calculation, "robust version") and PS3.3 C.8.9.1. `facts` are those
    of all files of one volume. The factor is 1, and the unit Bq/mL (or none), where SUV cannot be had.
    """
    first = facts[0]
    mixed = {(f.units, f.decay_correction, f.weight_kg, f.dose_bq, f.half_life_s, f.injected) for f in facts}
    if len(mixed) > 1:
        return _kept(first, "its files differ in unit, weight, dose or injection time")
    if first.units == "GML":
        return _already_suv(first)
    if first.units == "CNTS":
        return _from_counts(facts)
    if first.units != "BQML":
        return 1.0, "", Finding(CHECK, "noted", f"values are kept: their unit {first.units or '(none)'} is no activity")
    return _from_activity(facts, 1.0)


def _already_suv(first: PetFacts) -> tuple[float, str, Finding]:
    if first.suv_type not in {"", "BW"}:
        message = f"values are kept: they are SUV by another norm than body weight ({first.suv_type})"
        return 1.0, "", Finding(CHECK, "noted", message)
    return 1.0, SUV_UNIT, Finding(CHECK, "noted", "values are SUV by body weight as stored")


def _from_counts(facts: Sequence[PetFacts]) -> tuple[float, str, Finding]:
    suv = {f.philips_suv for f in facts}
    if len(suv) == 1 and (factor := suv.pop()):
        return factor, SUV_UNIT, Finding(CHECK, "handled", "counts to SUV by body weight by the vendor's own factor")
    activity = {f.philips_bq_ml for f in facts}
    if len(activity) == 1 and (factor := activity.pop()):
        return _from_activity(facts, factor)
    return 1.0, "", Finding(CHECK, "noted", "values are kept as counts: no vendor's factor to activity or SUV")


def _from_activity(facts: Sequence[PetFacts], bq_ml: float) -> tuple[float, str, Finding]:
    """SUV from values that are activity once multiplied by `bq_ml`."""
    first = facts[0]
    missing = [
        name
        for name, value in (
            ("patient weight", first.weight_kg), ("injected dose", first.dose_bq), ("half life", first.half_life_s),
        )
        if value is None
    ]  # fmt: skip
    if missing:
        return _kept(first, f"the header has no valid {', '.join(missing)}", bq_ml)
    if not {"ATTN", "DECY"} <= first.corrections:
        return _kept(first, "the image is not corrected for attenuation and decay", bq_ml)
    elapsed, reason = _seconds_of_decay(facts)
    if elapsed is None:
        return _kept(first, reason, bq_ml)
    assert first.dose_bq
    assert first.half_life_s
    assert first.weight_kg
    dose = first.dose_bq * 2.0 ** (-elapsed / first.half_life_s)
    return bq_ml * first.weight_kg * 1000.0 / dose, SUV_UNIT, Finding(CHECK, "handled", f"SUV by body weight; {reason}")


def _kept(first: PetFacts, why: str, bq_ml: float = 1.0) -> tuple[float, str, Finding]:
    unit = "" if first.units == "CNTS" and bq_ml == 1.0 else BQ_ML
    return bq_ml, unit, Finding(CHECK, "noted", f"values are kept as activity, not SUV: {why}")


def _seconds_of_decay(facts: Sequence[PetFacts]) -> tuple[float | None, str]:
    """Time from the injection to what activity is corrected to, and in words which; None and why where unknown."""
    first = facts[0]
    if first.decay_correction == "ADMIN":
        return 0.0, "activity is corrected to the time of injection"
    if first.decay_correction != "START":
        return None, f"decay correction is {first.decay_correction or 'not stated'}"
    start, said = _scan_start(facts)
    if start is None or first.injected is None:
        return None, "the header has no valid time of injection or scan"
    elapsed = (start - _dated(first.injected, start)).total_seconds()
    assert first.half_life_s
    if not 0 <= elapsed <= MOST_HALF_LIVES * first.half_life_s:
        return None, "the time of injection is after the scan or too long before it"
    return elapsed, f"activity is corrected to {said}"


def _scan_start(facts: Sequence[PetFacts]) -> tuple[datetime | None, str]:
    """Series time, unless it is later than the first acquisition (a series made afterwards), as QIBA has it."""
    acquired = [f.acquired for f in facts if f.acquired]
    first = min(acquired, default=None)
    series = min((f.series_start for f in facts if f.series_start), default=None)
    if series is not None and (first is None or series <= first):
        return series, "the series' time"
    if facts[0].ge_scan_start is not None:
        return facts[0].ge_scan_start, "the scanner's start of the scan"
    return first, "the first acquisition's time (the series was made later)"


def _dated(injected: datetime, start: datetime) -> datetime:
    """An injection known by its time of day only was the last such time before the scan (which may pass midnight)."""
    if injected.year > 1900:
        return injected
    day = datetime.combine(start.date(), injected.time(), tzinfo=UTC)
    return day - timedelta(days=1) if day > start else day


def _injected(drug: Dataset) -> datetime | None:
    stated = _moment("", raw_text(drug, "RadiopharmaceuticalStartDateTime"))
    return stated or _moment("19000101", raw_text(drug, "RadiopharmaceuticalStartTime"))


def _moment(date: str, time: str) -> datetime | None:
    """A date and time (or one DT in `time`), to the minute at least, by the scanner's clock: its zone is left out."""
    moment = parse_datetime(date + re.sub(r":|[+-]\d{4}$", "", time), UTC)
    return moment.time if moment is not None and moment.time == moment.latest else None


def _positive(dataset: Dataset, keyword: str) -> float | None:
    try:
        values = decimals(dataset, keyword, [])
    except BadValueError:
        return None
    return values[0] if values and values[0] > 0 else None


def _private_number(header: Dataset, tag: int) -> float | None:
    try:
        value = float(private_text(header, tag).split("\\")[0])
    except ValueError:
        return None
    return value if value > 0 else None
