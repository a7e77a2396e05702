"""The header of a document: which document and version it is, whose, and what it says about the patient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from xml.etree.ElementTree import Element

from careloop.ingest.ccda.codes import codes_in, id_of, identifier, plain_code, words_of
from careloop.ingest.ccda.elements import SDTC, V3, BrokenError, Narrative, at, is_true
from careloop.ingest.ccda.facts import Row
from careloop.ingest.ccda.times import Span, interval_of, span_of
from careloop.ingest.concepts import SkipError
from careloop.record import BIRTH, DEATH

_SEX = {"F": "F", "M": "M", "UN": "other", "UNK": "unknown"}
# OMB categories by their names in CDC's code system: documents spell them in many ways (FHIR: in US Core's).
_GROUPS = {
    "1002-5": "american indian or alaska native", "2028-9": "asian", "2054-5": "black or african american",
    "2076-8": "native hawaiian or other pacific islander", "2106-3": "white", "2131-1": "other race",
    "2135-2": "hispanic or latino", "2186-5": "not hispanic or latino",
}  # fmt: skip
_SOCIAL_SECURITY = "2.16.840.1.113883.4.1"  # its numbers are mistyped and shared too often to say who somebody is
_NOTHING = Narrative()


@dataclass(frozen=True)
class Header:
    """A document's identity.

    `key` is the id of its set of versions, else its own; `replaces` the key of a document that this one stands for;
    `version` orders the versions, `is_revision` says that there are earlier ones; `made` is when it was written;
    `subject` is the patient's subject, `retired` the one that documents without the hospital's number give.

    The version is the document's time and, in microseconds, its versionNumber: that decides where a system keeps the
    time of the first version.
    """

    subject: str
    retired: str | None
    key: str | None
    replaces: str | None
    version: datetime | None
    is_revision: bool
    made: Span | None
    kind: Element | None


@dataclass(frozen=True)
class Numbers:
    """Which of a patient's numbers is whose: the namespace of subjects, and the OID of the hospital's own numbers."""

    origin: str = "ccda"
    patient_identifier: str | None = None

    def subjects(self, role: Element) -> tuple[str, str | None]:
        """Return subject and retired subject of a patientRole.

        Raises:
            BrokenError: it has no number.
        """
        hospital = (self.patient_identifier or "").removeprefix("urn:oid:")
        own, others = None, []
        for element in role.iterfind(f"{V3}id"):
            root, extension = ((element.get(part) or "").strip() for part in ("root", "extension"))
            if extension and root == hospital:
                own = own or extension
            elif identifier(element):
                others.append((root == _SOCIAL_SECURITY, f"{root}|{extension}" if extension else root))
        other = next((number for _, number in sorted(others, key=lambda pair: pair[0])), None)
        named = other and (f"{self.origin}:{other}" if self.origin else other)
        if own is None and named is None:
            raise BrokenError("the patient has no identifier")
        return own or str(named), named if own else None


def read_header(root: Element, numbers: Numbers, zone: tzinfo) -> Header:
    """Return the header of a ClinicalDocument (CDA R2 section 4.2; C-CDA US Realm Header).

    Raises:
        BrokenError: no or several patients, a patient without a number, or an effectiveTime that is none.
    """
    roles = root.findall(f"{V3}recordTarget/{V3}patientRole")
    if len(roles) != 1:
        raise BrokenError("no patient" if not roles else "several patients in one document")
    made = interval_of(at(root, "effectiveTime"), zone).start
    written = (interval_of(at(author, "time"), zone).start for author in root.iterfind(f"{V3}author"))
    made = made or next((time for time in written if time), None)
    parent, number = _replaced(root), _version_number(root)
    key = id_of(root, name="setId") or id_of(root)
    subject, retired = numbers.subjects(roles[0])
    return Header(
        subject,
        retired,
        key=key,
        replaces=parent if parent != key else None,
        version=None if made is None else made.start + timedelta(microseconds=number),
        is_revision=number > 1 or parent is not None,
        made=made,
        kind=at(root, "code"),
    )


def _replaced(root: Element) -> str | None:
    for related in root.iterfind(f"{V3}relatedDocument"):
        parent = at(related, "parentDocument")
        if related.get("typeCode") == "RPLC" and parent is not None:
            return id_of(parent, name="setId") or id_of(parent)
    return None


def _version_number(root: Element) -> int:
    element = at(root, "versionNumber")
    digits = (element.get("value") or "" if element is not None else "").strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 6 else 0


def patient_rows(root: Element, zone: tzinfo) -> list[Row]:
    """Return birth, death, and what does not change: sex, race, ethnicity, language, marital status.

    Raises:
        SkipError: the document says none of these.
        BrokenError: a time that is none.
    """
    patient = at(root, "recordTarget", "patientRole", "patient")
    if patient is None:
        raise SkipError("Patient: says nothing that is read")
    birth = span_of(at(patient, "birthTime"), zone)
    death = span_of(patient.find(f"{SDTC}deceasedTime"), zone)
    rows = [Row(code, time) for code, time in ((BIRTH, birth), (DEATH, death)) if time is not None]
    rows += [Row(f"{name}//{value}", None) for name, value in _unchanging(patient)]
    if not rows:
        raise SkipError("Patient: says nothing that is read")
    return rows


def _unchanging(patient: Element) -> Iterator[tuple[str, str]]:
    sex = at(patient, "administrativeGenderCode")
    code = None if sex is None else plain_code(sex) or sex.get("nullFlavor")
    if code:
        yield "GENDER", _SEX.get(code, "unknown" if sex is not None and sex.get("nullFlavor") else "other")
    yield from (("RACE", name) for name in _groups(patient, "raceCode"))
    yield from (("ETHNICITY", name) for name in _groups(patient, "ethnicGroupCode"))
    spoken = [
        (not _is_preferred(each), at(each, "languageCode")) for each in patient.iterfind(f"{V3}languageCommunication")
    ]
    language = next((code for _, each in sorted(spoken, key=lambda pair: pair[0]) if (code := plain_code(each))), None)
    marital = plain_code(at(patient, "maritalStatusCode"))
    yield from ((name, code) for name, code in (("LANGUAGE", language), ("MARITAL", marital)) if code)


def _is_preferred(language: Element) -> bool:
    preference = at(language, "preferenceInd")
    return preference is not None and is_true(preference, "value")


def _groups(patient: Element, name: str) -> list[str]:
    """Return names of groups, one of several; more detailed ones only where no OMB category is given."""
    concepts = [*patient.iterfind(f"{V3}{name}"), *patient.iterfind(f"{SDTC}{name}")]
    categories = [_GROUPS[code] for concept in concepts for code in codes_in(concept) if code in _GROUPS]
    if categories:
        return list(dict.fromkeys(categories))
    named = ((words_of(concept, _NOTHING) or "").strip().lower() for concept in concepts)
    return list(dict.fromkeys(name for name in named if name))
