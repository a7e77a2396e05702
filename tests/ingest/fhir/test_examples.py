"""FHIR's own examples (npm hl7.fhir.r4.examples 4.0.1, hl7.fhir.r5.examples 5.0.0, both CC0) against plain JSON.

What each resource should become is worked out here a second time, from the JSON as it stands and one element after
another, without anything of the reader.
"""

from __future__ import annotations

import json
import lzma
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

Json = dict[str, Any]
FOLDER = Path(__file__).parent
EXAMPLES = {"r4_examples.ndjson.xz": 5305, "r5_examples.ndjson.xz": 2822}
ERROR = {"entered-in-error"}
NO_EVENT_STATUS = {  # what was not done, is only planned, or is taken back
    "Condition": set(),
    "AllergyIntolerance": set(),
    "Encounter": {"planned", "cancelled"},
    "Observation": {"cancelled"},
    "Procedure": {"preparation", "not-done", "in-progress", "on-hold", "stopped", "unknown"},
    "Immunization": {"not-done"},
    "DiagnosticReport": {"registered", "cancelled"},
    "ImagingStudy": {"registered", "cancelled"},
    "DocumentReference": set(),
    "Specimen": set(),
    "MolecularSequence": set(),
    "FamilyMemberHistory": {"health-unknown"},
    "QuestionnaireResponse": {"in-progress", "stopped"},
    "MedicationRequest": {"draft", "cancelled"},
    "MedicationAdministration": {"not-done", "on-hold", "unknown", "cancelled"},
    "MedicationStatement": {"not-taken", "intended", "draft", "unknown", "cancelled"},
    "MedicationDispense": {"preparation", "declined", "on-hold", "unknown", "cancelled"},
}  # fmt: skip
TIMES = {
    "Condition": "onsetDateTime onsetPeriod recordedDate",
    "AllergyIntolerance": "onsetDateTime onsetPeriod recordedDate",
    "Encounter": "period.start period.end actualPeriod.start actualPeriod.end",
    "Observation": "effectiveDateTime effectivePeriod effectiveInstant effectiveTiming.event issued",
    "Procedure": "performedDateTime performedPeriod occurrenceDateTime occurrencePeriod recorded",
    "Immunization": "occurrenceDateTime recorded",
    "DiagnosticReport": "effectiveDateTime effectivePeriod issued",
    "ImagingStudy": "started series.started",
    "DocumentReference": "date content.attachment.creation",
    "Specimen": "collection.collectedDateTime collection.collectedPeriod receivedTime",
    "MolecularSequence": "",
    "FamilyMemberHistory": "date",
    "QuestionnaireResponse": "authored",
    "MedicationRequest": "authoredOn",
    "MedicationAdministration": "effectiveDateTime effectivePeriod occurenceDateTime occurencePeriod recorded",
    "MedicationStatement": "effectiveDateTime effectivePeriod dateAsserted",
    "MedicationDispense": "whenHandedOver whenPrepared recorded",
}
CODES = {
    "Condition": "code", "AllergyIntolerance": "code reaction.substance", "Procedure": "code",
    "Immunization": "vaccineCode", "DiagnosticReport": "code", "ImagingStudy": "modality series.modality",
    "Specimen": "type", "FamilyMemberHistory": "condition.code",
}  # fmt: skip
PATIENT = "gender birthDate deceasedDateTime maritalStatus communication.language"
CLINICAL = {"Patient", *TIMES}
SYSTEMS = {
    "http://loinc.org": "LOINC", "http://snomed.info/sct": "SNOMED", "http://hl7.org/fhir/sid/icd-10": "ICD10",
}  # fmt: skip


@dataclass(frozen=True)
class Placed:
    """A resource with its fullUrl and all resources of the same bundle or file."""

    resource: Json
    url: str
    around: list[Json]


def placed(resources: list[Json], urls: list[str] | None = None) -> Iterator[Placed]:
    for resource, url in zip(resources, urls or [""] * len(resources), strict=True):
        if resource["resourceType"] == "Bundle":
            entries = [entry for entry in resource.get("entry", []) if "resource" in entry]
            yield from placed([e["resource"] for e in entries], [e.get("fullUrl", "") for e in entries])
        else:
            yield Placed(resource, url, resources)


def found(element: Any, paths: str) -> list[Any]:
    """All values at any of the dotted paths, through lists."""
    return [value for path in paths.split() for value in _at(element, path.split("."))]


def _at(element: Any, names: list[str]) -> list[Any]:
    if isinstance(element, list):
        return [value for part in element for value in _at(part, names)]
    if not names:
        return [] if element in (None, "", {}) else [element]
    return _at(element.get(names[0]), names[1:]) if isinstance(element, dict) else []


def is_coded(concept: Json) -> bool:
    return bool(found(concept, "text code concept.text concept.coding.code coding.code coding.display"))


def is_about_a_patient(each: Placed) -> bool:
    subject = each.resource.get("subject") or each.resource.get("patient") or {}
    reference = subject.get("reference", "")
    held = [part for part in each.resource.get("contained", []) if f"#{part['id']}" == reference]
    return (
        "Patient/" in reference
        or reference.startswith("urn:")
        or any(part["resourceType"] == "Patient" and found(part, "identifier.value") for part in held)
        or (bool(found(subject, "identifier.value")) and subject.get("type", "Patient") == "Patient")
    )


def has_drug(each: Placed) -> bool:
    if any(map(is_coded, found(each.resource, "medicationCodeableConcept medication.concept"))):
        return True
    reference = next(iter(found(each.resource, "medicationReference medication.reference")), {})
    wanted = reference.get("reference", "").lstrip("#").rpartition("/")[2]
    drugs = [*each.resource.get("contained", []), *each.around]
    return bool(reference.get("display")) or any(
        drug["resourceType"] == "Medication" and drug.get("id") == wanted and found(drug, "code ingredient")
        for drug in drugs
    )


def has_value(part: Json) -> bool:
    values = {name: value for name, value in part.items() if name.startswith("value")}
    values.pop("valueSampledData", None)
    if "valueQuantity" in values and "value" not in values["valueQuantity"]:
        del values["valueQuantity"]
    return bool(values) or ("interpretation" in part and "dataAbsentReason" not in part)


def gives_events(each: Placed) -> bool:
    """Work out from the JSON whether a resource should become at least one event."""
    resource, kind = each.resource, each.resource["resourceType"]
    if "modifierExtension" in resource:
        return False
    if kind == "Patient":
        return bool(found(resource, PATIENT)) or "us-core-race" in json.dumps(resource)
    status = {resource.get("status"), *found(resource, "verificationStatus.coding.code adherence.code.coding.code")}
    if status & (ERROR | {"refuted", "not-taking"} | NO_EVENT_STATUS[kind]) or not is_about_a_patient(each):
        return False
    if not found(resource, TIMES[kind] + ("" if kind == "Encounter" else " meta.lastUpdated")):
        return False
    if kind in CODES:
        return any(map(is_coded, found(resource, CODES[kind])))
    if kind == "Observation":
        parts = [resource, *resource.get("component", [])]
        return "focus" not in resource and any(is_coded(part.get("code", {})) and has_value(part) for part in parts)
    if kind.startswith("Medication"):
        order = resource.get("intent") not in {"proposal", "plan", "option"} and not resource.get("doNotPerform")
        return has_drug(each) and order
    if kind == "QuestionnaireResponse":
        return '"value' in json.dumps(resource.get("item", []))
    return True


def name_of(each: Placed) -> str:
    own = each.resource.get("id") or each.url.rstrip("/").replace(":", "/").rpartition("/")[2]
    return f"FHIR//fhir//{each.resource['resourceType']}/{own}"


@pytest.fixture(scope="module", params=list(EXAMPLES))
def examples(request: pytest.FixtureRequest, read_path: Callable[..., Any]) -> Any:
    """The file's name, its resources, and what the reader made of them."""
    text = lzma.decompress((FOLDER / request.param).read_bytes())
    with tempfile.TemporaryDirectory() as folder:
        (file := Path(folder) / "examples.ndjson").write_bytes(text)
        return request.param, [json.loads(line) for line in text.splitlines()], read_path(file)


def test_every_resource_is_kept_or_counted_with_its_reason(examples: Any) -> None:
    name, resources, result = examples
    everything = list(placed(resources))
    assert len(resources) == EXAMPLES[name]
    assert result.rejected == []
    bundles = [each for each in _bundles(resources) if each.get("entry")]
    empty = sum(1 for each in _bundles(resources) if not each.get("entry"))
    bare = sum("resource" not in entry for bundle in bundles for entry in bundle["entry"])
    assert result.rows_read == len(everything) + empty + bare
    kinds = Counter(each.resource["resourceType"] for each in everything)
    for kind, total in kinds.items():
        counted = sum(n for reason, n in result.skipped.items() if reason.startswith(f"{kind}: "))
        if kind not in CLINICAL:
            assert counted == total, kind
    assert result.rows_kept <= sum(kinds[kind] for kind in CLINICAL)


def _bundles(resources: list[Json]) -> Iterator[Json]:
    for each in resources:
        if each["resourceType"] == "Bundle":
            yield each
            yield from _bundles([entry["resource"] for entry in each.get("entry", []) if "resource" in entry])


@pytest.mark.parametrize("kind", sorted(CLINICAL))
def test_which_resources_become_events(examples: Any, kind: str) -> None:
    _, resources, result = examples
    of_kind = [each for each in placed(resources) if each.resource["resourceType"] == kind]
    expected = {name_of(each) for each in of_kind if gives_events(each)}
    prefix = f"FHIR//fhir//{kind}/"
    assert {source for source in result.events["source"] if source.startswith(prefix)} == expected
    assert of_kind


def code_of(concept: Json) -> str | None:
    codings = [coding for coding in concept.get("coding", []) if coding.get("code")]
    for coding in codings:
        if coding.get("system") in SYSTEMS:
            return f"{SYSTEMS[coding['system']]}//{coding['code'].strip()}"
    for coding in codings:
        return f"{coding.get('system', 'LOCAL').rstrip('/').rpartition('/')[2]}//{coding['code'].strip()}"
    words = concept.get("text") or next(iter(found(concept, "coding.display")), None)
    return f"LOCAL//{words.lower()}" if words else None


def moments(written: str) -> tuple[datetime, datetime]:
    """First and last moment of a date, or of a time."""
    if "T" in written:
        moment = datetime.fromisoformat(written)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC), moment.astimezone(UTC)
    year, month, day = [*map(int, written.split("-")), 0, 0][:3]
    first = datetime(year, month or 1, day or 1, tzinfo=UTC)
    if day:
        after = first + timedelta(days=1)
    else:
        after = datetime(year + 1, 1, 1, tzinfo=UTC) if month in {0, 12} else datetime(year, month + 1, 1, tzinfo=UTC)
    return first, after - timedelta(seconds=1)


def numbers_of(resource: Json) -> Iterator[tuple[Any, ...]]:
    """Code, number, unit, comparator, time and known_time of each plain number of an observation."""
    period = resource.get("effectivePeriod", {})
    taken = (
        resource.get("effectiveDateTime") or resource.get("effectiveInstant") or period.get("start", period.get("end"))
    )
    updated = resource.get("meta", {}).get("lastUpdated")
    time = next(filter(None, [taken, *found(resource, "effectiveTiming.event"), resource.get("issued"), updated]))
    issued = resource.get("issued") or period.get("end")
    known = moments(issued or time)[1]
    for part in [resource, *resource.get("component", [])]:
        quantity = part.get("valueQuantity", {})
        if quantity.get("value") is not None and (code := code_of(part.get("code", {}))):
            in_ucum = quantity.get("system") == "http://unitsofmeasure.org" and quantity.get("code")
            unit = quantity["code"] if in_ucum else quantity.get("unit") or quantity.get("code")
            yield code, round(quantity["value"], 3), unit, quantity.get("comparator"), moments(time)[0], known
        elif "valueInteger" in part and (code := code_of(part.get("code", {}))):
            yield code, part["valueInteger"], None, None, moments(time)[0], known


def test_codes_numbers_units_and_times_of_observations(examples: Any) -> None:
    _, resources, result = examples
    kept = [each for each in placed(resources) if each.resource["resourceType"] == "Observation" and gives_events(each)]
    expected = Counter((name_of(each), *row) for each in kept for row in numbers_of(each.resource))
    numbers = result.events.filter(
        pl.col("source").str.starts_with("FHIR//fhir//Observation/"),
        pl.col("numeric_value").is_not_null(),
        ~pl.col("text_value").fill_null("").str.contains(":"),  # ratios
        ~pl.col("code").str.contains("//(LOW|HIGH)$"),
    ).with_columns(pl.col("numeric_value").cast(pl.Float64).round(3), pl.coalesce("known_time", "time"))
    columns = ["source", "code", "numeric_value", "unit", "text_value", "time", "known_time"]
    assert Counter(numbers.select(columns).rows()) == expected
    assert len(expected) > 40
