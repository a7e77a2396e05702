"""C-CDA documents to events: every section by meaning, versions, and beside FHIR (all made up)."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from careloop.ingest.ccda import ccda_sources

LOINC, SNOMED, RXNORM = "2.16.840.1.113883.6.1", "2.16.840.1.113883.6.96", "2.16.840.1.113883.6.88"
TEMPLATE = "2.16.840.1.113883.10.20.22.4."
MADE = datetime(2024, 3, 1, 17, 0, tzinfo=UTC)
PATIENT = """
<patient><administrativeGenderCode code="F" codeSystem="2.16.840.1.113883.5.1"/><birthTime value="19500117"/>
<maritalStatusCode code="M" codeSystem="2.16.840.1.113883.5.2"/>
<raceCode code="2106-3" codeSystem="2.16.840.1.113883.6.238" displayName="Caucasian"/>
<sdtc:raceCode code="2028-9" codeSystem="2.16.840.1.113883.6.238"/>
<ethnicGroupCode code="2186-5" codeSystem="2.16.840.1.113883.6.238" displayName="Not Hispanic or Latino"/>
<languageCommunication><languageCode code="fr"/></languageCommunication>
<languageCommunication><languageCode code="en"/><preferenceInd value="true"/></languageCommunication></patient>
"""


def document(
    *sections: str,
    patient: str = PATIENT,
    numbers: str = '<id root="1.9.1" extension="77"/>',
    head: str = "",
    made: str = "20240301120000-0500",
    id_: str = '<id root="1.9.2" extension="doc1"/>',
    tail: str = "",
) -> str:
    body = "".join(f"<component>{section}</component>" for section in sections)
    return (
        '<?xml version="1.0" encoding="UTF-8"?><?xml-stylesheet href="CDA.xsl"?>'
        '<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:sdtc="urn:hl7-org:sdtc" '
        f'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">{id_}<code code="34133-9" codeSystem="{LOINC}"/>'
        f'<effectiveTime value="{made}"/>{head}<recordTarget><patientRole>{numbers}{patient}</patientRole>'
        f"</recordTarget>{tail}<component><structuredBody>{body}</structuredBody></component></ClinicalDocument>"
    )


def section(code: str, *entries: str, text: str = "") -> str:
    inside = "".join(f"<entry>{entry}</entry>" for entry in entries)
    return f'<section><code code="{code}" codeSystem="{LOINC}"/><title>x</title><text>{text}</text>{inside}</section>'


def observation(code: str, value: str, template: str = "2", *, more: str = "", attributes: str = "") -> str:
    return (
        f'<observation classCode="OBS" moodCode="EVN" {attributes}><templateId root="{TEMPLATE}{template}"/>{code}'
        f'<statusCode code="completed"/><effectiveTime value="20240229"/>{value}{more}</observation>'
    )


def lab(value: str, **more: str) -> str:
    return observation(f'<code code="2160-0" codeSystem="{LOINC}" displayName="Creatinine"/>', value, **more)


def cd(code: str, system: str = SNOMED, *, name: str = "value", display: str = "", inside: str = "") -> str:
    return f'<{name} xsi:type="CD" code="{code}" codeSystem="{system}" displayName="{display}">{inside}</{name}>'


def problem(value: str, times: str, *, more: str = "", attributes: str = "", concern: str = "active") -> str:
    status = observation('<code code="33999-4"/>', cd("55561003"), "6")
    inner = (
        f'<observation classCode="OBS" moodCode="EVN" {attributes}><templateId root="{TEMPLATE}4"/>{more}'
        f'<statusCode code="completed"/><effectiveTime>{times}</effectiveTime>{value}<entryRelationship>'
        f"{status}</entryRelationship></observation>"
    )
    return (
        f'<act classCode="ACT" moodCode="EVN"><templateId root="{TEMPLATE}3"/><statusCode code="{concern}"/>'
        f'<effectiveTime><low value="20240105"/></effectiveTime><entryRelationship typeCode="SUBJ">{inner}'
        "</entryRelationship></act>"
    )


def drug(code: str, times: str, *, mood: str = "EVN", template: str = "16", more: str = "", after: str = "") -> str:
    return (
        f'<substanceAdministration classCode="SBADM" moodCode="{mood}" {more}><templateId root="{TEMPLATE}{template}"/>'
        f'<statusCode code="completed"/>{times}<routeCode code="C38288"/><doseQuantity value="2" unit="mg"/>'
        f"<consumable><manufacturedProduct><manufacturedMaterial>{code}</manufacturedMaterial></manufacturedProduct></consumable>"
        f"{after}</substanceAdministration>"
    )


def allergy(substance: str, *, kind: str = "416098002", attributes: str = "") -> str:
    participant = (
        f'<participant typeCode="CSM"><participantRole><playingEntity>{substance}</playingEntity></participantRole>'
    )
    assertion = '<code code="ASSERTION" codeSystem="2.16.840.1.113883.5.4"/>'
    return observation(assertion, cd(kind), "7", more=participant + "</participant>", attributes=attributes)


def read_all(path: Path, **given: Any) -> dict[str, Any]:
    batches = [batch for source in ccda_sources(path, **given) for batch in source.read()]
    rejected = [reject for batch in batches for reject in batch.rejected]
    skipped = sum((Counter(batch.skipped) for batch in batches), Counter())
    rows, kept = (sum(getattr(batch, name) for batch in batches) for name in ("rows_read", "rows_kept"))
    assert rows == kept + len(rejected) + skipped.total()
    return {
        "events": pl.concat([batch.events for batch in batches]),
        "withdrawn": pl.concat([batch.withdrawn for batch in batches]),
        "merges": [pair for batch in batches for pair in batch.merges],
        "codes": dict(pl.concat([batch.codes for batch in batches]).rows()),
        "reasons": [reject.reason for reject in rejected],
        "rejected": rejected,
        "skipped": skipped,
    }


def events_of(folder: Path, *sections: str, head: str = "", tail: str = "", **given: Any) -> list[tuple[Any, ...]]:
    """Read one document; return code, time, number, unit and text of the events that are not about the patient."""
    (folder / "a.xml").write_text(document(*sections, head=head, tail=tail), encoding="utf-8")
    result = read_all(folder, **given)
    assert not result["reasons"]
    rows = result["events"].filter(~pl.col("source").str.contains("//Patient/"))
    return rows.select("code", "time", "numeric_value", "unit", "text_value").rows()


def day(year: int, month: int, day_: int) -> datetime:
    return datetime(year, month, day_, tzinfo=UTC)


FEBRUARY_29 = day(2024, 2, 29)


def test_patient(tmp_path: Path) -> None:
    death = PATIENT.replace("</patient>", '<sdtc:deceasedTime value="20240201"/></patient>')
    (tmp_path / "a.xml").write_text(document(patient=death))
    events = read_all(tmp_path)["events"]
    assert events["code"].to_list() == [
        "MEDS_BIRTH", "MEDS_DEATH", "GENDER//F", "RACE//white", "RACE//asian", "ETHNICITY//not hispanic or latino",
        "LANGUAGE//en", "MARITAL//M",
    ]  # fmt: skip
    assert events["time"].to_list()[:3] == [day(1950, 1, 17), day(2024, 2, 1), None]
    assert set(events["subject"]) == {"ccda:1.9.1|77"}
    assert set(events["source_time"]) == {MADE}


def test_hospital_number_is_the_subject(tmp_path: Path) -> None:
    numbers = '<id nullFlavor="UNK"/><id root="2.16.840.1.113883.4.1" extension="9"/><id root="1.5" extension="A"/>'
    (tmp_path / "a.xml").write_text(document(numbers=numbers + '<id root="1.9.1" extension="77"/>'))
    result = read_all(tmp_path, patient_identifier="urn:oid:1.9.1")
    assert set(result["events"]["subject"]) == {"77"}
    assert result["merges"] == [("ccda:1.5|A", "77")]
    assert set(read_all(tmp_path, patient_identifier="1.7")["events"]["subject"]) == {"ccda:1.5|A"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('<value xsi:type="PQ" value="1.5" unit="mg/dL"/>', [("", 1.5, "mg/dL", None)]),
        ('<value xsi:type="hl7:PQ" value="0" unit="1"/>', [("", 0, "1", None)]),
        ('<value xsi:type="INT" value="15"/>', [("", 15, None, None)]),
        ('<value xsi:type="REAL" value="-.5"/>', [("", -0.5, None, None)]),
        ('<value xsi:type="IVL_PQ"><low value="1" unit="g"/><high value="2" unit="g"/></value>',
         [("//LOW", 1, "g", None), ("//HIGH", 2, "g", None)]),
        ('<value xsi:type="IVL_PQ"><high value="2" inclusive="false"/></value>', [("", 2, None, "<")]),
        ('<value xsi:type="IVL_PQ"><low nullFlavor="NINF"/><high value="2"/></value>', [("", 2, None, "<=")]),
        ('<value xsi:type="IVL_PQ"><low value="60" unit="mL" inclusive="false"/></value>', [("", 60, "mL", ">")]),
        ('<value xsi:type="PQ" nullFlavor="OTH"><translation value="152" nullFlavor="OTH"><originalText>THOUS/MCL'
         "</originalText></translation></value>", [("", 152, "THOUS/MCL", None)]),
        ('<value xsi:type="RTO_INT_INT"><numerator value="1"/><denominator value="128"/></value>',
         [("", 0.0078125, None, "1:128")]),
        ('<value xsi:type="ST">  yellow\n  cloudy</value>', [("", None, None, "yellow cloudy")]),
        ('<value xsi:type="ED"><reference value="#v"/></value>', [("", None, None, "See here")]),
        ('<value xsi:type="BL" value="true"/>', [("", None, None, "true")]),
        ('<value xsi:type="TS" value="202403011230+0100"/>', [("", None, None, "2024-03-01T12:30:00+01:00")]),
        (cd("x", "1.2.3", inside=cd("260373001", name="translation", display="Detected")),
         [("", None, None, "Detected")]),
        ('<value xsi:type="CD" nullFlavor="OTH"><originalText>odd cells</originalText></value>',
         [("", None, None, "odd cells")]),
        ('<interpretationCode code="N" codeSystem="2.16.840.1.113883.5.83" displayName="Normal"/>',
         [("", None, None, "Normal")]),
    ],
)  # fmt: skip
def test_values(tmp_path: Path, value: str, expected: list[tuple[Any, ...]]) -> None:
    rows = events_of(tmp_path, section("30954-2", lab(value), text='<paragraph ID="v">See <b>here</b></paragraph>'))
    assert rows == [(f"LOINC//2160-0{end}", FEBRUARY_29, *rest) for end, *rest in expected]


@pytest.mark.parametrize(
    ("value", "attributes", "reason"),
    [
        ('<value xsi:type="PQ" nullFlavor="ASKU"/>', "", "value absent: asked-unknown"),
        ("", "", "value absent: not given"),
        ('<value xsi:type="INT" value="1"/>', 'nullFlavor="UNK"', "value absent: unknown"),
        ('<value xsi:type="INT" value="1"/>', 'negationInd="true"', "Observation: negated"),
    ],
)
def test_values_that_are_not_there(tmp_path: Path, value: str, attributes: str, reason: str) -> None:
    (tmp_path / "a.xml").write_text(document(section("30954-2", lab(value, attributes=attributes))))
    assert read_all(tmp_path)["skipped"] == {reason: 1}


def test_organizer_gives_its_parts_time_and_author(tmp_path: Path) -> None:
    part = lab('<value xsi:type="PQ" value="1"/>').replace('<effectiveTime value="20240229"/>', "")
    authored = '<author><time value="20240202080000+0000"/></author>'
    panel = (
        f'<organizer classCode="BATTERY" moodCode="EVN"><templateId root="{TEMPLATE}1"/>'
        f'<effectiveTime><low value="20240201"/></effectiveTime>{authored}<component>{part}</component></organizer>'
    )
    (tmp_path / "a.xml").write_text(document(section("30954-2", panel, panel.replace('low value="20240201"', "low"))))
    rows = read_all(tmp_path)["events"].filter(code="LOINC//2160-0").select("time", "known_time").rows()
    known = datetime(2024, 2, 2, 8, tzinfo=UTC)
    assert rows == [(day(2024, 2, 1), known), (known, known)]
    (tmp_path / "a.xml").write_text(document(section("30954-2", panel.replace("20240201", "soon"))))
    assert read_all(tmp_path)["reasons"] == ["Observation: not a date or time"]


def test_known_when_written_else_with_the_document(tmp_path: Path) -> None:
    authors = '<author><time value="20240229"/></author><author><time value="20240110"/></author>'
    entries = (lab('<value xsi:type="INT" value="1"/>', more=authors), lab('<value xsi:type="INT" value="2"/>'))
    (tmp_path / "a.xml").write_text(document(section("30954-2", *entries)))
    labs = pl.col("code") == "LOINC//2160-0"
    day_end = datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)
    assert read_all(tmp_path)["events"].filter(labs)["known_time"].to_list() == [day_end, MADE]
    assert read_all(tmp_path, known_by="event")["events"].filter(labs)["known_time"].to_list() == [day_end] * 2


def test_problems(tmp_path: Path) -> None:
    icd = cd("I10", "2.16.840.1.113883.6.90", name="translation")
    rows = events_of(
        tmp_path,
        section(
            "11450-4",
            problem(cd("38341003", inside=icd), '<low value="2023"/>'),
            problem(cd("233604007"), '<low value="20240101"/><high value="20240110"/>'),
            problem('<value xsi:type="CD" nullFlavor="OTH">' + icd + "</value>", '<low nullFlavor="UNK"/>'),
            problem('<value xsi:type="CD" nullFlavor="UNK"><originalText>Odd Gait</originalText></value>', ""),
            problem(cd("195967001"), '<low value="20240101"/><high value="20301231"/>'),  # its end is a plan
        ),
    )
    assert [row[:2] for row in rows] == [
        ("SNOMED//38341003", day(2023, 1, 1)),
        ("SNOMED//233604007", day(2024, 1, 1)),
        ("RESOLVED//SNOMED//233604007", day(2024, 1, 10)),
        ("ICD10CM//I10", day(2024, 1, 5)),  # when the concern began to be followed
        ("LOCAL//odd gait", day(2024, 1, 5)),
        ("SNOMED//195967001", day(2024, 1, 1)),
    ]


def test_problems_that_are_none(tmp_path: Path) -> None:
    id_ = '<id root="1.9.3" extension="p1"/>'
    negated = problem(cd("55607006"), "", more=id_, attributes='negationInd="true"')
    error = problem(cd("38341003"), "", more=id_.replace("p1", "p2"), concern="nullified")
    nameless = problem(cd("38341003"), "", concern="nullified")
    (tmp_path / "a.xml").write_text(document(section("11450-4", negated, error, nameless)))
    result = read_all(tmp_path)
    assert result["skipped"] == {
        "Problem: negated, the patient does not have it": 1,
        "taken back, but without an id of its own": 1,
    }
    assert sorted(source.split("/")[-2] for source in result["withdrawn"]["source"]) == ["p1", "p2"]
    assert not result["events"]["code"].str.contains("SNOMED").any()


def test_allergies(tmp_path: Path) -> None:
    entries = (
        allergy(cd("7980", RXNORM, name="code", display="Penicillin G")),
        allergy("<code nullFlavor='UNK'/><name>Trial Drug 7</name>"),
        allergy("<code nullFlavor='NA'/>", attributes='negationInd="true"'),
        allergy("<code nullFlavor='NA'/>", kind="419199007", attributes='negationInd="true"'),
    )
    rows = events_of(tmp_path, section("48765-2", *entries))
    codes = ("RXNORM//7980", "LOCAL//trial drug 7", "SNOMED//409137002", "SNOMED//716186003")
    assert [row[0] for row in rows] == [f"ALLERGY//{code}" for code in codes]
    assert read_all(tmp_path)["codes"]["ALLERGY//RXNORM//7980"] == "allergy: Penicillin G"
    peanuts = allergy(cd("762952008", name="code"), attributes='negationInd="true"')
    (tmp_path / "a.xml").write_text(document(section("48765-2", peanuts)))
    assert read_all(tmp_path)["skipped"] == {"Allergy: negated, the patient does not have it": 1}


def test_medications(tmp_path: Path) -> None:
    code = cd("197361", RXNORM, name="code")
    period = '<effectiveTime xsi:type="PIVL_TS" operator="A"><period value="8" unit="h"/></effectiveTime>'
    taken = '<effectiveTime xsi:type="IVL_TS"><low value="20240101"/><high value="20240110"/></effectiveTime>' + period
    handed_over = (
        f'<entryRelationship><supply classCode="SPLY" moodCode="EVN"><templateId root="{TEMPLATE}18"/>'
        '<effectiveTime value="20240103"/><quantity value="30"/></supply></entryRelationship>'
    )
    sections = (
        section("10160-0", drug(code, taken, after=handed_over), drug(code, taken, mood="INT")),
        section("29549-3", drug(code, '<effectiveTime value="20240105101500-0500"/>')),
    )
    name = "RXNORM//197361"
    assert events_of(tmp_path, *sections) == [
        (name, day(2024, 1, 1), 2, "mg", "reported"),
        (f"STOPPED//{name}", day(2024, 1, 10), None, None, "reported"),
        (name, day(2024, 1, 3), None, None, "dispensed"),
        (name, day(2024, 1, 1), 2, "mg", "ordered"),
        (name, datetime(2024, 1, 5, 15, 15, tzinfo=UTC), 2, "mg", "administered"),
    ]
    skipped = (drug(code, taken, more='negationInd="true"'), drug(code, taken, mood="INT", template="42"))
    (tmp_path / "a.xml").write_text(document(section("10160-0", *skipped)))
    assert read_all(tmp_path)["skipped"] == {"Medication: not taken": 1, "Medication: planned, not done": 1}


def test_other_sections(tmp_path: Path) -> None:
    cvx, now = cd("88", "2.16.840.1.113883.12.292", name="code"), '<effectiveTime value="20240229"/>'
    tail = f'<templateId root="{TEMPLATE}14"/>{cd("80146002", name="code")}<statusCode code="completed"/>{now}'
    visit = (
        f'<encounter classCode="ENC" moodCode="EVN"><templateId root="{TEMPLATE}49"/><code code="99213" codeSystem='
        '"2.16.840.1.113883.6.12"><translation code="IMP" codeSystem="2.16.840.1.113883.5.4"/></code><effectiveTime>'
        '<low value="20240227"/><high value="20240229"/></effectiveTime><sdtc:dischargeDispositionCode code="01" '
        'displayName="Home"/></encounter>'
    )
    relative = (
        f'<organizer classCode="CLUSTER" moodCode="EVN"><templateId root="{TEMPLATE}45"/><statusCode code="completed"/>'
        '<subject><relatedSubject><code code="FTH" codeSystem="2.16.840.1.113883.5.111"/></relatedSubject></subject>'
        f"<component>{observation('', cd('22298006'), '46')}</component></organizer>"
    )
    smoking = '<code code="ASSERTION" codeSystem="2.16.840.1.113883.5.4"/>'  # as R1.1 has it
    kinds = f'<code code="34109-9" codeSystem="{LOINC}"><translation code="11488-4" codeSystem="{LOINC}"/></code>'
    note = (
        f'<act classCode="ACT" moodCode="EVN"><templateId root="{TEMPLATE}202"/>{kinds}'
        f'<text mediaType="text/plain" representation="B64">QWxsIHdlbGw=</text>{now}</act>'
    )
    rows = events_of(
        tmp_path,
        section("11369-6", drug(cvx, now, template="52"), drug(cvx, now, template="52", more='negationInd="true"')),
        section("47519-4", f'<procedure classCode="PROC" moodCode="EVN">{tail}</procedure>'),
        section("46240-8", visit),
        section("10157-6", relative),
        section("29762-2", observation(smoking, cd("8517006", display="Former smoker"), "78"),
                observation(smoking, cd("77386006"), "x")),
        section("28650-6", note),
        section("10164-2", text="<paragraph>Fell.<br/>Bruised.</paragraph><tr><td>a</td><td>b</td></tr>"),
    )  # fmt: skip
    written_ = MADE
    assert rows == [
        ("CVX//88", FEBRUARY_29, 2, "mg", None),
        ("SNOMED//80146002", FEBRUARY_29, None, None, None),
        ("VISIT_START//IMP", day(2024, 2, 27), None, None, None),
        ("VISIT_END//IMP", FEBRUARY_29, None, None, "Home"),
        ("FAMILY//FTH//SNOMED//22298006", written_, None, None, None),
        ("LOINC//72166-2", FEBRUARY_29, None, None, "Former smoker"),
        ("SNOMED//77386006", FEBRUARY_29, None, None, None),
        ("DOCUMENT//LOINC//11488-4", FEBRUARY_29, None, None, "All well"),
        ("DOCUMENT//LOINC//10164-2", written_, None, None, "Fell.\nBruised.\na b"),
    ]


def test_planned_or_about_others(tmp_path: Path) -> None:
    other = lab('<value xsi:type="INT" value="1"/>', more="<subject><relatedSubject/></subject>")
    plan = lab('<value xsi:type="INT" value="1"/>').replace("EVN", "RQO")
    (tmp_path / "a.xml").write_text(document(section("18776-5", other, plan, '<act moodCode="INT"/>')))
    assert read_all(tmp_path)["skipped"] == {
        "Observation: about another than the patient (subject)": 1,
        "Observation: planned, not done": 1,
        "act: planned, not done": 1,
    }


def test_encounter_of_the_header_gives_way_to_its_entry(tmp_path: Path) -> None:
    times = '<effectiveTime><low value="20240228"/></effectiveTime>'
    id_ = '<id root="1.9.4" extension="e1"/>'
    header = f"<componentOf><encompassingEncounter>{id_}{times}</encompassingEncounter></componentOf>"
    entry = f'<encounter moodCode="EVN">{id_}<code code="AMB" codeSystem="2.16.840.1.113883.5.4"/>{times}</encounter>'
    assert [row[0] for row in events_of(tmp_path, tail=header)] == ["VISIT_START//UNK"]
    assert [row[0] for row in events_of(tmp_path, section("46240-8", entry), tail=header)] == ["VISIT_START//AMB"]


def test_unstructured_body(tmp_path: Path) -> None:
    start, _, _ = document().partition("<component>")
    body = '<component><nonXMLBody><text><reference value="scan.pdf"/></text></nonXMLBody></component>'
    (tmp_path / "a.xml").write_text(start + body + "</ClinicalDocument>")
    row = read_all(tmp_path)["events"].row(-1, named=True)
    assert (row["code"], row["asset"], row["time"]) == ("DOCUMENT//LOINC//34133-9", "scan.pdf", MADE)


def test_sources_and_versions(tmp_path: Path) -> None:
    one = lab('<value xsi:type="INT" value="1"/>', more='<id root="1.9.5" extension="r1"/>')
    unnamed = lab('<value xsi:type="INT" value="9"/>')
    head = '<setId root="1.9.2" extension="set"/><versionNumber value="{}"/>'
    first, second = (
        document(section("30954-2", one, *more), head=head.format(n), id_=f'<id root="1.9.2" extension="v{n}"/>')
        for n, more in ((1, [unnamed]), (2, [one.replace('value="1"', 'value="2"', 1)]))
    )
    for name, content in (("a", first), ("b", second)):
        (tmp_path / f"{name}.xml").write_text(content)
    result = read_all(tmp_path)
    labs = result["events"].filter(code="LOINC//2160-0")
    named = labs.filter(pl.col("source").str.contains("Observation/1.9.5/r1/"))
    # The second version has two different results under one id: it names neither.
    assert named["numeric_value"].to_list() == [1]
    documents_ = labs.filter(source="CCDA//Document/1.9.2/set")
    assert documents_["numeric_value"].to_list() == [9, 1, 2]
    assert documents_["row"].n_unique() == 2  # each version is one source row
    times = documents_["source_time"].to_list()
    assert times[0] < times[1] == times[2]


def test_same_entry_in_two_documents_is_one_source_row(tmp_path: Path) -> None:
    entry = lab('<value xsi:type="INT" value="1"/>', more='<id root="2D1C4B3A-0000-1111-2222-333344445555"/>')
    for number, patient in ((1, "77"), (2, "77"), (3, "78")):
        id_, whose = f'<id root="1.9.2" extension="{number}"/>', f'<id root="1.9.1" extension="{patient}"/>'
        (tmp_path / f"{number}.xml").write_text(document(section("30954-2", entry, entry), id_=id_, numbers=whose))
    result = read_all(tmp_path)
    labs = result["events"].filter(code="LOINC//2160-0")
    sources = labs["source"].to_list()
    assert sources[0] == sources[1] != sources[2]  # another patient's is another, whatever the id
    assert labs["row"].n_unique() == 3
    assert result["skipped"] == {"the same statement again": 3}


def test_replacement_takes_the_place_of_its_parent(tmp_path: Path) -> None:
    related = '<relatedDocument typeCode="RPLC"><parentDocument><id root="1.9.2" extension="old"/></parentDocument>'
    (tmp_path / "a.xml").write_text(document(head=related + "</relatedDocument>"))
    gone = read_all(tmp_path)["withdrawn"].rows()
    assert gone == [("CCDA//Document/1.9.2/doc1", MADE), ("CCDA//Document/1.9.2/old", MADE)]
    (tmp_path / "a.xml").write_text(document(head=related + "</relatedDocument>", patient="")[:-20])
    assert read_all(tmp_path)["withdrawn"].height == 0  # one that is cut off takes nothing back


def test_one_patient_reads_alike_from_fhir(tmp_path: Path) -> None:
    pytest.importorskip("msgspec")
    from careloop.ingest.fhir import fhir_sources

    local = "1.9.7"
    code = cd("K1", local, name="code", inside=f'<translation code="2345-7" codeSystem="{LOINC}"/>')
    troponin = cd("T9", local, name="code")
    low, high = '<low value="20240101"/>', '<high value="20240110"/>'
    (tmp_path / "ccda").mkdir()
    (tmp_path / "ccda" / "a.xml").write_text(
        document(
            section("11450-4", problem(cd("38341003"), low + high)),
            section("48765-2", allergy(cd("7980", RXNORM, name="code"))),
            section("10160-0", drug(cd("197361", RXNORM, name="code"), f"<effectiveTime>{low}{high}</effectiveTime>")),
            section(
                "30954-2",
                observation(code, '<value xsi:type="IVL_PQ"><low value="600" unit="mg/dL" inclusive="false"/></value>'),
                observation(troponin, cd("10828004", display="Positive")),
            ),
            patient=PATIENT.replace('<sdtc:raceCode code="2028-9" codeSystem="2.16.840.1.113883.6.238"/>', ""),
        )
    )
    about: dict[str, Any] = {"subject": {"reference": "Patient/1"}}

    def concept(system: str, code: str, display: str | None = None) -> dict[str, Any]:
        return {"coding": [{"system": system, "code": code} | ({"display": display} if display else {})]}

    snomed, rxnorm = "http://snomed.info/sct", "http://www.nlm.nih.gov/research/umls/rxnorm"
    core = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-"

    def group(kind: str, code: str, display: str) -> dict[str, Any]:
        coding = {"system": "urn:oid:2.16.840.1.113883.6.238", "code": code, "display": display}
        return {"url": core + kind, "extension": [{"url": "ombCategory", "valueCoding": coding}]}

    glucose = concept(f"urn:oid:{local}", "K1")["coding"] + concept("http://loinc.org", "2345-7")["coding"]
    limit = {"value": 600, "comparator": ">", "unit": "mg/dL", "system": "http://unitsofmeasure.org", "code": "mg/dL"}
    dose = [{"doseAndRate": [{"doseQuantity": {"value": 2, "unit": "mg"}}]}]
    resources = [
        {"resourceType": "Patient", "gender": "female", "birthDate": "1950-01-17",
         "maritalStatus": concept("http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "M"),
         "communication": [{"language": concept("urn:ietf:bcp:47", "en")}],
         "extension": [group("race", "2106-3", "White"), group("ethnicity", "2186-5", "Not Hispanic or Latino")]},
        {"resourceType": "Condition", **about, "code": concept(snomed, "38341003"), "onsetDateTime": "2024-01-01",
         "abatementDateTime": "2024-01-10"},
        {"resourceType": "AllergyIntolerance", "patient": about["subject"], "code": concept(rxnorm, "7980"),
         "onsetDateTime": "2024-02-29"},
        {"resourceType": "MedicationStatement", **about, "medicationCodeableConcept": concept(rxnorm, "197361"),
         "effectivePeriod": {"start": "2024-01-01", "end": "2024-01-10"}, "dosage": dose},
        {"resourceType": "Observation", **about, "status": "final", "code": {"coding": glucose},
         "effectiveDateTime": "2024-02-29", "valueQuantity": limit},
        {"resourceType": "Observation", **about, "status": "final", "code": concept(f"urn:oid:{local}", "T9"),
         "effectiveDateTime": "2024-02-29", "valueCodeableConcept": concept(snomed, "10828004", "Positive")},
    ]  # fmt: skip
    lines = "\n".join(json.dumps(resource | {"id": "1"}) for resource in resources)
    (tmp_path / "a.ndjson").write_text(lines)
    fhir = pl.concat([b.events for source in fhir_sources(tmp_path / "a.ndjson") for b in source.read()])
    ours = read_all(tmp_path / "ccda")["events"]
    columns = ["code", "time", "numeric_value", "unit", "text_value"]
    assert ours.select(columns).sort(columns).rows() == fhir.select(columns).sort(columns).rows()
    assert ours.height == 13
