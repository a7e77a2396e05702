"""Elements that all resources of a genomics report share: codes, references, who, when, and what it is not for."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from careloop import InputError
from careloop.genome.findings.fhir.codes import ANNOTATION, GENETICS, LABORATORY, LOINC, PROFILE, Coded
from careloop.genome.findings.finding import GenomeFindings

Json = dict[str, Any]
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:careloop:genome")
NOT_CLINICAL = "Research software. Not for clinical use."
SIMULATED = "Simulated data: no patient's genome."
TAG = {"system": "urn:careloop:fhir:tag", "code": "not-for-clinical-use", "display": NOT_CLINICAL}
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")  # FHIR R4 section 2.24.0.1, type id


@dataclass(frozen=True)
class PatientKey:
    """Whom a report is about: the patient's FHIR id, or, with a `system`, a business identifier."""

    value: str
    system: str = ""

    def reference(self) -> Json:
        """The reference; InputError where an id has other characters than FHIR allows."""
        if self.system:
            return {"type": "Patient", "identifier": {"system": self.system, "value": self.value}}
        if not _ID.fullmatch(self.value):
            raise InputError(
                "findings as FHIR: the patient's id must be letters, digits, '-' and '.', at most 64, as FHIR ids are; "
                "give the hospital's FHIR id of the patient, or an identifier with its system"
            )
        return {"reference": f"Patient/{self.value}", "type": "Patient"}


@dataclass(frozen=True)
class ReportSetting:
    """What all resources of one bundle share."""

    findings: GenomeFindings
    patient: PatientKey
    made_at: datetime

    def id(self, kind: str, name: str = "") -> str:
        """A name-based UUID (RFC 9562, version 5), so that the same findings give the same bundle."""
        parts = (
            self.findings.origin.source,
            self.patient.system,
            self.patient.value,
            instant(self.made_at),
            kind,
            name,
        )
        return str(uuid.uuid5(NAMESPACE, "\x1f".join(parts)))

    def to(self, kind: str, name: str = "") -> Json:
        """A reference to another resource of the bundle."""
        return {"reference": f"urn:uuid:{self.id(kind, name)}", "type": kind}

    def resource(self, kind: str, profile: str, content: Json, *, name: str = "") -> Json:
        """A resource of a profile of the guide (of none where empty)."""
        meta: Json = {"profile": [f"{PROFILE}/{profile}"]} if profile else {}
        simulated = [{**TAG, "code": "simulated", "display": SIMULATED}] if self.findings.simulated else []
        return {"resourceType": kind, "id": self.id(kind, name), "meta": {**meta, "tag": [TAG, *simulated]}, **content}

    def observation(self, profile: str, content: Json, *, name: str) -> Json:
        """An Observation of the guide's base profile; preliminary, as no laboratory has signed it."""
        time = self.findings.origin.time
        return self.resource(
            "Observation",
            profile,
            {
                "status": "preliminary",
                "category": [category(*LABORATORY), category(*GENETICS)],
                "subject": self.patient.reference(),
                **({"effectiveDateTime": instant(time)} if time else {}),
                "issued": instant(self.made_at),
                "device": self.to("Device"),
                **content,
            },
            name=name,
        )


def instant(moment: datetime) -> str:
    """A time as FHIR's instant, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def category(system: str, code: str) -> Json:
    """A category with one coding."""
    return {"coding": [{"system": system, "code": code}]}


def coded(system: str, code: Coded, *, text: str = "") -> Json:
    """A CodeableConcept of one code, and a text where that says more."""
    return {"coding": [{"system": system, "code": code[0], "display": code[1]}], **({"text": text} if text else {})}


def loinc(code: Coded) -> Json:
    """A CodeableConcept of a LOINC code."""
    return coded(LOINC, code)


def component(code: Coded | Json, **value: Any) -> Json:
    """A component with one value (`valueString=...`); `code` of LOINC, or a concept."""
    return {"code": loinc(code) if isinstance(code, tuple) else code, **value}


def disclaimer(text: str = NOT_CLINICAL) -> Json:
    """A note of the guide's type test-disclaimer."""
    kind = {"coding": [{"system": ANNOTATION, "code": "test-disclaimer", "display": "Test Disclaimer"}]}
    return {"extension": [{"url": f"{PROFILE}/annotation-code", "valueCodeableConcept": kind}], "text": text}
