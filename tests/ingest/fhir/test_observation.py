"""Observations: every kind of value, absent values, times, errors, and the quick way against the careful one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Read = Callable[..., Any]
CREATININE = {
    "coding": [
        {"system": "http://hospital.example/labs", "code": "CREA"},
        {"system": "http://loinc.org", "code": "2160-0", "display": "Creatinine"},
    ]
}
UCUM = "http://unitsofmeasure.org"
MG = {"value": 1.4, "unit": "milligrams", "system": UCUM, "code": "mg/dL"}
TAKEN, KNOWN = "2020-01-01T08:00:00", "2020-01-01T11:30:00"


def seen(**elements: Any) -> dict[str, Any]:
    """An observation without a value; elements that are None are left out."""
    given = {
        "resourceType": "Observation",
        "id": "o1",
        "status": "final",
        "code": CREATININE,
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": TAKEN + "Z",
        "issued": KNOWN + "Z",
    } | elements
    return {name: value for name, value in given.items() if value is not None}


def quantity(value: float, unit: str | None = None) -> dict[str, Any]:
    return {"value": value} | ({"system": UCUM, "code": unit} if unit else {})


def test_a_result_is_known_when_it_was_issued(read: Read) -> None:
    result = read(seen(valueQuantity=MG, meta={"lastUpdated": "2021-06-07T08:09:10.250+02:00"}))
    assert result.rows() == [("LOINC//2160-0", pytest.approx(1.4), "mg/dL", None)]
    assert result.times() == [("LOINC//2160-0", TAKEN, KNOWN)]
    assert result.rows("subject", "source") == [("fhir:p1", "FHIR//fhir//Observation/o1")]
    assert str(result.events["source_time"][0]) == "2021-06-07 06:09:10.250000+00:00"
    assert result.codes == {"LOINC//2160-0": "Creatinine"}


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        ({"valueQuantity": MG | {"comparator": "<"}}, [("", 1.4, "mg/dL", "<")]),
        ({"valueQuantity": {"value": 3, "unit": "beats"}}, [("", 3, "beats", None)]),
        ({"valueQuantity": {"value": 3, "system": "http://x.example", "code": "b"}}, [("", 3, "b", None)]),
        ({"valueInteger": 7}, [("", 7, None, None)]),
        ({"valueBoolean": False}, [("", None, None, "false")]),
        ({"valueString": " trace "}, [("", None, None, "trace")]),
        ({"valueCodeableConcept": {"coding": [{"code": "+", "display": "Positive"}]}}, [("", None, None, "Positive")]),
        ({"valueCodeableConcept": {"text": "weakly positive"}}, [("", None, None, "weakly positive")]),
        (
            {"valueRange": {"low": quantity(2, "g"), "high": quantity(5, "g")}},
            [("//LOW", 2, "g", None), ("//HIGH", 5, "g", None)],
        ),
        ({"valueRange": {"low": quantity(2, "g")}}, [("//LOW", 2, "g", None)]),
        ({"valueRatio": {"numerator": quantity(1), "denominator": quantity(128)}}, [("", 1 / 128, None, "1:128")]),
        (
            {"valueRatio": {"numerator": quantity(3, "mg"), "denominator": quantity(2, "mL")}},
            [("", 1.5, "mg/mL", "3:2")],
        ),
        ({"valueDateTime": "2019-12-24"}, [("", None, None, "2019-12-24")]),
        ({"valueTime": "07:30:00"}, [("", None, None, "07:30:00")]),
        ({"valuePeriod": {"start": "2019", "end": "2020"}}, [("", None, None, "2019/2020")]),
        ({"interpretation": [{"coding": [{"code": "H", "display": "High"}]}]}, [("", None, None, "High")]),
    ],
)
def test_values_of_every_kind(read: Read, value: dict[str, Any], rows: list[tuple[Any, ...]]) -> None:
    got = read(seen(**value)).rows()
    assert [(code.removeprefix("LOINC//2160-0"), *rest) for code, *rest in got] == [
        (ending, None if number is None else pytest.approx(number), *rest) for ending, number, *rest in rows
    ]


def test_images_are_assets(read: Read) -> None:
    result = read(seen(valueAttachment={"contentType": "image/png", "url": "http://hospital.example/Binary/1"}))
    assert result.rows("asset", "text_value") == [("http://hospital.example/Binary/1", None)]


def test_components_stand_under_their_own_codes(read: Read) -> None:
    def part(code: str, **value: Any) -> dict[str, Any]:
        return {"code": {"coding": [{"system": "http://loinc.org", "code": code}]}} | value

    pressure = seen(
        code=part("85354-9")["code"],
        component=[
            part("8480-6", valueQuantity=quantity(107, "mm[Hg]")),
            part("8462-4", dataAbsentReason={"coding": [{"code": "not-performed"}]}),
            part("8478-0", valueInteger=70),
            {"valueInteger": 1},
        ],
    )
    rows = [("LOINC//8480-6", 107.0, "mm[Hg]", None), ("LOINC//8478-0", 70.0, None, None)]
    assert read(pressure).rows() == rows
    assert read(pressure | {"valueInteger": 2}).rows() == [("LOINC//85354-9", 2.0, None, None), *rows]
    assert [known for _, _, known in read(pressure).times()] == [KNOWN, KNOWN]
    turned = pressure | {"component": [part("8480-6", valueInteger=1, modifierExtension=[{"url": "http://x.example"}])]}
    assert read(turned).skipped == {"Observation: a modifier extension that is not understood": 1}


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({}, "value absent: not given"),
        ({"dataAbsentReason": {"coding": [{"code": "not-performed"}]}}, "value absent: not-performed"),
        ({"dataAbsentReason": {"text": "John Doe refused"}}, "value absent: other"),
        ({"valueQuantity": {"unit": "mg"}}, "value absent: not given"),
        ({"valueRatio": {"numerator": quantity(1), "denominator": quantity(0)}}, "value absent: not given"),
        ({"valueSampledData": {"data": "1 2 3"}}, "Observation: sampled data (a waveform)"),
        ({"valueInteger": 1, "code": None}, "Observation: no code"),
        ({"valueInteger": 1, "code": {}}, "Observation: no code"),
        ({"valueInteger": 1, "subject": None}, "Observation: no subject"),
        ({"valueInteger": 1, "subject": {"reference": "Group/g"}}, "Observation: subject is not a patient"),
        ({"valueQuantity": MG, "subject": {"reference": "Location/l"}}, "Observation: subject is not a patient"),
        ({"valueQuantity": MG, "subject": {"display": "John Doe"}}, "Observation: no subject"),
        ({"valueQuantity": MG, "focus": [{}]}, "Observation: about another than the patient (focus)"),
        ({"valueInteger": 1, "effectiveDateTime": None, "issued": None}, "Observation: no time"),
        (
            {"valueQuantity": MG, "modifierExtension": [{"url": "http://x.example/not"}]},
            "Observation: a modifier extension that is not understood",
        ),
    ],
)
def test_what_says_nothing_is_counted_with_its_reason(read: Read, elements: dict[str, Any], reason: str) -> None:
    result = read(seen(**elements))
    assert result.skipped == {reason: 1}
    assert result.events.height == 0
    # What an earlier version of it said no longer holds.
    assert [source for source, _ in result.withdrawn] == ["FHIR//fhir//Observation/o1"]


@pytest.mark.parametrize("status", ["entered-in-error", "cancelled"])
def test_what_was_entered_in_error_is_withdrawn(read: Read, status: str) -> None:
    result = read(seen(valueQuantity=MG, status=status, meta={"lastUpdated": "2021-01-01T00:00:00Z"}))
    assert (result.events.height, result.rows_kept) == (0, 1)
    assert [(source, str(time)) for source, time in result.withdrawn] == [
        ("FHIR//fhir//Observation/o1", "2021-01-01 00:00:00+00:00")
    ]


@pytest.mark.parametrize(
    "status", ["registered", "preliminary", "final", "amended", "corrected", "appended", "unknown"]
)
def test_other_states_are_kept(read: Read, status: str) -> None:
    assert read(seen(valueQuantity=MG, status=status)).rows_kept == 1


@pytest.mark.parametrize(
    ("elements", "time", "known"),
    [
        ({"issued": None}, TAKEN, TAKEN),
        ({"effectiveDateTime": "2020-01-01", "issued": None}, "2020-01-01T00:00:00", "2020-01-01T23:59:59"),
        ({"effectiveDateTime": None, "effectiveInstant": TAKEN + "Z"}, TAKEN, KNOWN),
        ({"effectiveDateTime": None, "effectiveTiming": {"event": [TAKEN + "Z", KNOWN + "Z"]}}, TAKEN, KNOWN),
        ({"effectiveDateTime": None}, KNOWN, KNOWN),
        (
            {"effectiveDateTime": None, "issued": None, "effectivePeriod": {"start": TAKEN, "end": "2020-01-02"}},
            TAKEN,
            "2020-01-02T23:59:59",
        ),
        ({"effectiveDateTime": None, "issued": None, "meta": {"lastUpdated": KNOWN + "Z"}}, KNOWN, KNOWN),
    ],
)
def test_times(read: Read, elements: dict[str, Any], time: str, known: str) -> None:
    assert read(seen(valueQuantity=MG, **elements)).times() == [("LOINC//2160-0", time, known)]


def test_the_quick_way_and_the_careful_way_agree(read: Read) -> None:
    ways = [
        {},
        {"valueQuantity": {"value": 3, "unit": "beats"}},
        {"effectiveDateTime": "2020-02-29", "issued": None},
        {"effectiveDateTime": "2020-02-29T23:59:60+01:00"},
        {"meta": {"lastUpdated": "2021-01-01T00:00:00Z"}, "status": "corrected"},
        {"subject": {"reference": "http://server.example/fhir/Patient/p2/_history/3"}},
        {"code": {"text": "Urine Colour"}},
        {"id": "o2"},
    ]
    quick = [seen(**({"valueQuantity": MG} | way)) for way in ways]
    careful = [each | {"component": []} for each in quick]  # not usual, so looked at one by one
    results = [read(*each) for each in (quick, careful)]
    assert results[0].events.equals(results[1].events)
    assert results[0].codes == results[1].codes
    assert results[0].rows_kept == len(ways)
