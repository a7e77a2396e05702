"""Files of one tree gathered into series, studies and patients, whose events are made when all files are read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from careloop.ingest.dicom.header import Instance, coded, number, parse_date, text
from careloop.record import BIRTH

if TYPE_CHECKING:
    from pydicom import Dataset

_WAVEFORM = "1.2.840.10008.5.1.4.1.1.9."
_AGE = re.compile(r"(\d{3})([DWMY])")
_AGE_UNITS = {"D": "d", "W": "wk", "M": "mo", "Y": "a"}
_SEX = {"F": "GENDER//F", "M": "GENDER//M", "O": "GENDER//other"}
# Body values are in the units that DICOM fixes: metres and kilograms.
_BODY = (("PatientSize", "LOINC//8302-2", "m"), ("PatientWeight", "LOINC//29463-7", "kg"))
DESCRIPTIONS = {
    "LOINC//8302-2": "body height",
    "LOINC//29463-7": "body weight",
    "LOINC//30525-0": "age",
}
Row = dict[str, Any]


@dataclass(slots=True)
class Span:
    """From when something is, and by when all of it was known."""

    time: datetime
    known_time: datetime

    def widen(self, time: datetime, known_time: datetime) -> None:
        """Take in another file's times."""
        self.time = min(self.time, time)
        self.known_time = max(self.known_time, known_time)


@dataclass(slots=True)
class Series:
    """One series so far; `instances` are 64-bit hashes of SOPInstanceUIDs, so that a second copy is not counted."""

    study: str
    code: str
    described: str
    span: Span
    instances: set[int] = field(default_factory=set)
    images: int = 0


@dataclass(slots=True)
class Study:
    """One study so far: its image series, and facts about the patient from the file that was known first, and when."""

    subject: str
    described: str
    time: datetime
    known_time: datetime
    facts: list[Row]
    image_series: set[str] = field(default_factory=set)


class Gathered:
    """What all files read so far add up to.

    Memory grows with series and studies (about 1 kB each) and with instances (about 130 bytes each), not with the
    size of files: a million images in 5,000 series need some 130 MB.
    """

    def __init__(self) -> None:
        self.series: dict[str, Series] = {}
        self.studies: dict[str, Study] = {}
        self.patients: dict[str, dict[str, Row]] = {}
        self.codes: dict[str, str] = dict(DESCRIPTIONS)

    def clash(self, instance: Instance) -> str | None:
        """Return the reason why an instance cannot be added, if there is one."""
        series, study = self.series.get(instance.series), self.studies.get(instance.study)
        if (series and series.study != instance.study) or (study and study.subject != instance.subject):
            return "its series is also of another study, or its study of another patient"
        return None

    def is_copy(self, instance: Instance) -> bool:
        """True where the same instance was added before."""
        series = self.series.get(instance.series)
        return series is not None and hash(instance.uid) in series.instances

    def add(self, header: Dataset, instance: Instance, *, images: int) -> None:
        """Take in one instance; `images` is 0 for reports and documents, which have events of their own."""
        series = self.series.get(instance.series)
        if series is None:
            series = self.series[instance.series] = _new_series(header, instance)
        series.instances.add(hash(instance.uid))
        series.images += images
        series.span.widen(instance.time, instance.known_time)
        study_time = instance.study_time or instance.time
        study = self.studies.get(instance.study)
        if study is None:
            described = text(header, "StudyDescription")
            study = Study(instance.subject, described, study_time, instance.known_time, self._study_facts(header))
            self.studies[instance.study] = study
            facts = self.patients.setdefault(instance.subject, {})
            for fact in _patient_facts(header):
                facts.setdefault(fact["code"].partition("//")[0], fact)
        elif instance.known_time < study.known_time:
            study.known_time, study.facts = instance.known_time, self._study_facts(header)
        study.time = min(study.time, study_time)
        if images:
            study.image_series.add(instance.series)

    def _study_facts(self, header: Dataset) -> list[Row]:
        facts = list(_body_facts(header))
        done = coded(header, "ProcedureCodeSequence")
        if done:
            facts.append({"code": done[0]})
            self.codes[done[0]] = done[1]
        return facts

    def events(self, patient_source: str) -> Iterator[Row]:
        """Yield the rows of all series, studies and patients, in the order of their identifiers."""
        for uid, series in sorted(self.series.items()):
            if series.images:
                yield _series_event(uid, series, self.studies[series.study].subject)
        for uid, study in sorted(self.studies.items()):
            yield from _study_events(uid, study, [self.series[series] for series in study.image_series])
        for subject, facts in sorted(self.patients.items()):
            place = {"subject": subject, "source": f"{patient_source}{subject}"}
            yield from ({**place, **fact} for fact in facts.values())


def asset_of(instance: Instance) -> str:
    """The address of one instance in the hierarchy that DICOMweb uses."""
    return f"{_series_asset(instance.study, instance.series)}/instance/{instance.uid}"


def _series_asset(study: str, series: str) -> str:
    return f"dicom:study/{study}/series/{series}"


def _new_series(header: Dataset, instance: Instance) -> Series:
    kind = "WAVEFORM" if instance.sop_class.startswith(_WAVEFORM) else "IMAGING"
    described = (text(header, "BodyPartExamined"), text(header, "SeriesDescription"))
    return Series(
        study=instance.study,
        code=f"{kind}//{instance.modality}",
        described="; ".join(part for part in described if part),
        span=Span(instance.time, instance.known_time),
    )


def _series_event(uid: str, series: Series, subject: str) -> Row:
    return {
        "subject": subject,
        "time": series.span.time,
        "known_time": series.span.known_time,
        "code": series.code,
        "numeric_value": float(len(series.instances)),
        "unit": "{instances}",
        "text_value": series.described or None,
        "asset": _series_asset(series.study, uid),
        "source": f"DICOM//series/{uid}",
    }


def _study_events(uid: str, study: Study, image_series: list[Series]) -> Iterator[Row]:
    place = {"subject": study.subject, "time": study.time, "source": f"DICOM//study/{uid}"}
    by_modality: dict[str, list[Series]] = {}
    for series in image_series:
        by_modality.setdefault(series.code.partition("//")[2], []).append(series)
    for modality, made in sorted(by_modality.items()):
        yield {
            **place,
            "known_time": max([study.time, *(series.span.known_time for series in made)]),
            "code": f"IMAGING_STUDY//{modality}",
            "numeric_value": float(len(made)),
            "unit": "{series}",
            "text_value": study.described or None,
            "asset": f"dicom:study/{uid}",
        }
    yield from ({**place, "known_time": max(study.time, study.known_time), **fact} for fact in study.facts)


def _patient_facts(header: Dataset) -> Iterator[Row]:
    birth = parse_date(text(header, "PatientBirthDate"))
    if birth:
        yield {"code": BIRTH, "time": birth}
    sex = _SEX.get(text(header, "PatientSex").upper())
    if sex:
        yield {"code": sex}
    ethnicity = text(header, "EthnicGroup")
    if ethnicity:
        yield {"code": f"ETHNICITY//{ethnicity.lower()}"}


def _body_facts(header: Dataset) -> Iterator[Row]:
    for keyword, code, unit in _BODY:
        value = number(header, keyword)
        if value is not None and value > 0:  # scanners write 0 for what nobody entered
            yield {"code": code, "numeric_value": value, "unit": unit}
    age = _AGE.fullmatch(text(header, "PatientAge"))
    if age:
        yield {"code": "LOINC//30525-0", "numeric_value": float(age[1]), "unit": _AGE_UNITS[age[2]]}
