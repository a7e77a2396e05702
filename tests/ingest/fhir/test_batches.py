"""Bundles of every type, references within them, versions, deletions and what rejects say (all made up)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Read = Callable[..., Any]
Json = dict[str, Any]
MRN = "http://hospital.example/mrn"
UUID = "urn:uuid:6f1d2c3b-0000-4000-8000-000000000001"
DAY = "2020-01-01T08:00:00Z"
BORN = {"resourceType": "Patient", "id": "p1", "gender": "male", "identifier": [{"system": MRN, "value": "4711"}]}


def seen(reference: Any = "Patient/p1", **elements: Any) -> Json:
    subject = {"reference": reference} if isinstance(reference, str) else reference
    given = {"resourceType": "Observation", "id": "o1", "code": {"text": "X"}, "subject": subject, "status": "final"}
    return given | {"effectiveDateTime": DAY, "valueQuantity": {"value": 1}} | elements


def bundle(*entries: Json, kind: str = "collection") -> Json:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


@pytest.mark.parametrize("kind", ["transaction", "batch", "collection", "searchset", "document", "message"])
@pytest.mark.parametrize("name", ["a.json", "a.ndjson"])
def test_bundles_give_what_their_resources_give(read: Read, name: str, kind: str) -> None:
    other = {"resourceType": "Organization", "id": "h", "entry": [{"a": 1}]}
    result = read(bundle(*({"resource": each} for each in (BORN, seen(), other)), kind=kind), name=name)
    assert result.rows("code") == [("GENDER//M",), ("LOCAL//x",)]
    assert result.skipped == {"Organization: not about a patient": 1}
    assert result.rows_read == 3


def test_bundles_within_bundles(read: Read) -> None:
    inner = bundle({"resource": seen(UUID)}, {"fullUrl": UUID, "resource": BORN})
    for name in ("a.json", "a.ndjson"):
        result = read(bundle({"resource": inner}, {"resource": bundle()}), name=name)
        assert result.rows("subject") == [("fhir:p1",), ("fhir:p1",)]
        assert result.skipped == {"Bundle: no entries": 1}


@pytest.mark.parametrize(
    ("reference", "subject"),
    [
        (UUID, "fhir:p1"),
        ("urn:uuid:not-in-the-bundle", "fhir:not-in-the-bundle"),
        ("http://server.example/fhir/Patient/p7", "fhir:p7"),
        ("Patient/p7/_history/2", "fhir:p7"),
        (f"Patient?identifier={MRN}|4711", "fhir:p1"),
        ("Patient?identifier=http%3A%2F%2Fhospital.example%2Fmrn%7C4711&active=true", "fhir:p1"),
        (f"Patient?identifier={MRN}|4712", f"fhir:{MRN}|4712"),
        ({"identifier": {"system": MRN, "value": "4711"}}, "fhir:p1"),
        ({"identifier": {"value": "4711"}}, "fhir:|4711"),
    ],
)
@pytest.mark.parametrize("usual", [True, False])
def test_whose_a_resource_is(read: Read, reference: Any, subject: str, usual: bool) -> None:
    observed = seen(reference) if usual else seen(reference, component=[])
    result = read(
        bundle({"resource": observed}, {"fullUrl": UUID, "resource": BORN}, kind="transaction"), name="a.json"
    )
    assert result.rows("subject") == [(subject,), ("fhir:p1",)]


def test_a_patient_without_id_is_named_by_its_fullurl(read: Read) -> None:
    nameless = {"fullUrl": UUID, "resource": {name: value for name, value in BORN.items() if name != "id"}}
    by_number = {"resource": seen({"identifier": {"system": MRN, "value": "4711"}})}
    result = read(bundle(nameless, by_number, {"resource": seen(UUID, id="o2")}), name="a.json")
    assert result.rows("subject") == [(f"fhir:{UUID.rpartition(':')[2]}",)] * 3


@pytest.mark.parametrize("kind", ["Group", "Device", "Location"])
def test_a_urn_may_mean_another_subject_than_a_patient(read: Read, kind: str) -> None:
    held = {"fullUrl": UUID, "resource": {"resourceType": kind, "id": "g"}}
    result = read(bundle(held, {"resource": seen(UUID)}), name="a.json")
    assert result.skipped["Observation: subject is not a patient"] == 1
    assert result.events.height == 0


def test_a_patient_held_in_the_resource_has_only_numbers(read: Read) -> None:
    held = BORN | {"id": "held"}
    observed = seen("#held", contained=[{"resourceType": "Device", "id": "d"}, held])
    assert read(observed).rows("subject") == [(f"fhir:{MRN}|4711",)]
    assert read(observed, patient_identifier=MRN).rows("subject") == [("4711",)]
    assert read(seen("#held")).skipped == {"Observation: no subject": 1}


def test_namespaces_keep_two_hospitals_apart(read: Read) -> None:
    assert read(seen(), origin="north").rows("subject", "source") == [("north:p1", "FHIR//north//Observation/o1")]
    assert read(seen(), origin="").rows("subject", "source") == [("p1", "FHIR//Observation/o1")]


def test_resources_without_id_are_named_by_fullurl_or_content(read: Read) -> None:
    nameless = seen(id=None)
    named = read(bundle({"fullUrl": UUID, "resource": nameless}), name="a.json").rows("source")
    assert named == [(f"FHIR//fhir//Observation/{UUID.rpartition(':')[2]}",)]
    first, again, other = (read(each).rows("source") for each in (nameless, nameless, nameless | {"status": "amended"}))
    assert first == again != other


def test_a_history_says_when_versions_were_made_and_deleted(read: Read) -> None:
    def response(day: int) -> Json:
        return {"response": {"status": "200", "lastModified": f"2021-01-{day:02}T00:00:00Z"}}

    profile = {"profile": ["http://hospital.example/lab"]}
    result = read(
        bundle(
            {"request": {"method": "DELETE", "url": "Observation/gone"}} | response(4),
            {"resource": seen(id="o2"), "request": {"method": "PUT", "url": "Observation/o2"}} | response(3),
            {"resource": seen(id="o3", meta=profile)} | response(2),
            {"resource": seen(id="o4", meta={"lastUpdated": "2020-05-05T00:00:00Z"})} | response(1),
            {"request": {"method": "DELETE", "url": "http://server.example/Patient/p9/_history/3"}},
            {"request": {"method": "DELETE", "url": "Observation?identifier=http://x.example/Patient/1"}},
            {"request": {"method": "DELETE", "url": "Location/l"}},
            {"request": {"method": "GET", "url": "Observation/o2"}},
            kind="history",
        ),
        name="a.json",
    )
    times = {source.rpartition("/")[2]: str(time)[:10] for source, time in result.rows("source", "source_time")}
    assert times == {"o2": "2021-01-03", "o3": "2021-01-02", "o4": "2020-05-05"}
    assert [(source, time and str(time)[:10]) for source, time in result.withdrawn] == [
        ("FHIR//fhir//Observation/gone", "2021-01-04"),
        ("FHIR//fhir//Patient/p9", None),
    ]
    assert result.skipped == {
        "Bundle entry: no resource": 1,
        "Location: not about a patient": 1,
        "deletion: names no resource": 1,
    }
    assert (result.rows_read, result.rows_kept) == (8, 5)


def test_two_versions_in_one_file_are_told_apart(read: Read) -> None:
    old, new = (seen(meta={"lastUpdated": f"202{year}-01-01T00:00:00Z"}) for year in (1, 2))
    result = read(new, old, b"")
    assert result.rows("row") == [(0,), (1,)]
    assert [time.year for (time,) in result.rows("source_time")] == [2022, 2021]


@pytest.mark.parametrize("kind", ["Observation", "Patient", "Condition", "Encounter"])
def test_a_modifier_extension_forbids_to_read_on(read: Read, kind: str) -> None:
    turned = {"resourceType": kind, "id": "x", "modifierExtension": [{"url": "http://x.example/negated"}]}
    result = read(turned | {"subject": {"reference": "Patient/p1"}})
    assert result.skipped == {f"{kind}: a modifier extension that is not understood": 1}


def test_unknown_extensions_and_elements_are_passed_over(read: Read) -> None:
    result = read(seen(extension=[{"url": "http://x.example", "valueString": "y"}], brandNew={"a": [1]}))
    assert result.rows_kept == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"not json at all", "not JSON"),
        (b'{"resourceType": "Observation", "id": ', "JSON ends early"),
        (b'{"id": "x"}', "not a FHIR resource: no resourceType"),
        (b'{"resourceType": "Spaceship"}', "not a FHIR resource: unknown resourceType"),
        (b'["Observation"]', "resource: must be object, got array"),
        (b'{"resourceType": "Patient", "birthDate": 1}', "Patient.birthDate: must be str, got int"),
        (
            b'{"resourceType": "Observation", "component": [{"valueString": ["John Doe"]}]}',
            "Observation.component.valueString: must be str, got array",
        ),
    ],
)
def test_rejects_keep_the_line_and_give_fixed_words(read: Read, line: bytes, reason: str) -> None:
    result = read(seen(), b"", line, seen(id="o2"))
    assert [(each.place, each.reason, each.raw) for each in result.rejected] == [("line 3", reason, line.decode())]
    assert result.rows_kept == 2


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"effectiveDateTime": "yesterday"}, "Observation: not a date or time"),
        ({"issued": "2020-13-01"}, "Observation: not a date or time"),
        ({"effectiveDateTime": "2020-02-30"}, "Observation: not a date or time"),
        ({"effectiveDateTime": "1066-10-14"}, "Observation: a time is not between 1850 and 2150"),
        ({"issued": "9999-12-31T00:00:00Z"}, "Observation: a time is not between 1850 and 2150"),
        ({"valueQuantity": {"value": 1e39}}, "Observation: a number is out of range"),
        ({"component": [{"code": {"text": "y"}, "valueInteger": -1e300}]}, "Observation: a number is out of range"),
        ({"code": "2160-0"}, "Observation.code: must be object, got str"),
    ],
)
def test_what_a_record_cannot_hold_is_rejected_whole(read: Read, elements: Json, reason: str) -> None:
    result = read(seen(), seen(id="o2", **elements), seen(id="o3"))
    assert result.reasons == {reason: 1}
    assert [source[-2:] for (source,) in result.rows("source")] == ["o1", "o3"]
