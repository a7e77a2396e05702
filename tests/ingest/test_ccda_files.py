"""C-CDA files: times, groups, encodings, what is refused, cut-off documents, and any bytes at all (all made up)."""

from __future__ import annotations

import gzip
import zipfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.ingest.ccda import ccda_sources, documents, read
from careloop.ingest.ccda.times import parsed, written

NUMBER = '<id root="1.9.1" extension="77"/>'
PROBLEM = """<act classCode="ACT" moodCode="EVN"><templateId root="2.16.840.1.113883.10.20.22.4.3"/><entryRelationship>
<observation classCode="OBS" moodCode="EVN"><templateId root="2.16.840.1.113883.10.20.22.4.4"/>
<statusCode code="completed"/><effectiveTime><low value="2023"/></effectiveTime>
<value xsi:type="CD" code="38341003" codeSystem="2.16.840.1.113883.6.96"/></observation></entryRelationship></act>"""
LAB = """<observation classCode="OBS" moodCode="EVN"><templateId root="2.16.840.1.113883.10.20.22.4.2"/>
<code code="2160-0" codeSystem="2.16.840.1.113883.6.1"/><effectiveTime value="20240229"/>
<value xsi:type="PQ" value="1.5" unit="mg/dL"/><author><time value="20240229101500-0500"/></author></observation>"""
DRUG = """<substanceAdministration classCode="SBADM" moodCode="EVN"><templateId
root="2.16.840.1.113883.10.20.22.4.16"/><effectiveTime value="20240101"/><doseQuantity value="2" unit="mg"/><consumable>
<manufacturedProduct><manufacturedMaterial><code code="197361" codeSystem="2.16.840.1.113883.6.88"/>
</manufacturedMaterial></manufacturedProduct></consumable></substanceAdministration>"""


def document(*sections: str, numbers: str = NUMBER, head: str = "", made: str = "20240301120000-0500") -> str:
    body = "".join(f"<component>{section}</component>" for section in sections)
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ClinicalDocument xmlns="urn:hl7-org:v3" '
        'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><id root="1.9.2" extension="doc1"/>'
        f'<effectiveTime value="{made}"/>{head}<recordTarget><patientRole>{numbers}<patient>'
        '<birthTime value="19500117"/></patient></patientRole></recordTarget><component>'
        f"<structuredBody>{body}</structuredBody></component></ClinicalDocument>"
    )


def section(code: str, *entries: str, text: str = "") -> str:
    inside = "".join(f"<entry>{entry}</entry>" for entry in entries)
    return f'<section><code code="{code}" codeSystem="2.16.840.1.113883.6.1"/><text>{text}</text>{inside}</section>'


def read_all(path: Path, **given: Any) -> dict[str, Any]:
    batches = [batch for source in ccda_sources(path, **given) for batch in source.read()]
    rejected = [reject for batch in batches for reject in batch.rejected]
    skipped = sum((Counter(batch.skipped) for batch in batches), Counter())
    rows, kept = (sum(getattr(batch, name) for batch in batches) for name in ("rows_read", "rows_kept"))
    assert rows == kept + len(rejected) + skipped.total()
    return {
        "events": pl.concat([batch.events for batch in batches]),
        "reasons": [reject.reason for reject in rejected],
        "rejected": rejected,
    }


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2024", (2024, 1, 1), (2024, 12, 31, 23, 59, 59)),
        ("20240200", (2024, 2, 1), (2024, 2, 29, 23, 59, 59)),
        ("2024022923", (2024, 2, 29, 23), (2024, 2, 29, 23, 59, 59)),
        ("202402292315", (2024, 2, 29, 23, 15), (2024, 2, 29, 23, 15)),
        ("20240229231560", (2024, 2, 29, 23, 15, 59), (2024, 2, 29, 23, 15, 59)),
        ("20240229231501.25+0100", (2024, 2, 29, 22, 15, 1, 250000), (2024, 2, 29, 22, 15, 1, 250000)),
        ("20240229-0500", (2024, 2, 29, 5), (2024, 3, 1, 4, 59, 59)),
        ("2024-02-29T23:15:01-05:00", (2024, 3, 1, 4, 15, 1), (2024, 3, 1, 4, 15, 1)),
        ("2024-02", (2024, 2, 1), (2024, 2, 29, 23, 59, 59)),
    ],
)
def test_times(text: str, start: tuple[int, ...], end: tuple[int, ...]) -> None:
    assert parsed(text, UTC) == tuple(datetime(*part, tzinfo=UTC) for part in (start, end))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["200130311", "20230229", "YYYYMMDD", "20240101250000", "0000", "٢٠٢٤"])
def test_no_times(text: str) -> None:
    assert parsed(text, UTC) is None
    assert written(text) is not None


def test_local_times(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(document(made="202407011200"))
    assert read_all(tmp_path, time_zone="Europe/Berlin")["events"]["source_time"][0] == datetime(
        2024, 7, 1, 10, tzinfo=UTC
    )


def test_files_and_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "FILES_AT_ONCE", 2)
    for name in "abc":
        (tmp_path / f"{name}.xml").write_text(document())
    (tmp_path / "d.xml.gz").write_bytes(gzip.compress(document().encode()))
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
        archive.writestr("IHE_XDM/DOC1.XML", document())
        archive.writestr("IHE_XDM/METADATA.XML", "<SubmitObjectsRequest/>")
        archive.writestr("INDEX.HTM", "<html>")
    assert [source.name for source in ccda_sources(tmp_path)] == [
        "a.xml to b.xml (2 files)", "c.xml to d.xml.gz (2 files)", "e.zip",
    ]  # fmt: skip
    result = read_all(tmp_path)
    assert result["events"]["code"].to_list().count("MEDS_BIRTH") == 5
    assert [reject.place for reject in result["rejected"]] == ["e.zip/IHE_XDM/METADATA.XML"]


def test_user_mistakes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        ccda_sources(tmp_path / "nothing")
    with pytest.raises(InputError, match="no C-CDA file"):
        ccda_sources(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match="not a C-CDA file"):
        ccda_sources(tmp_path / "a.txt")
    with pytest.raises(InputError, match="time zone"):
        ccda_sources(tmp_path, time_zone="Mars/Olympus")


LAUGHS = """<?xml version="1.0"?><!DOCTYPE ClinicalDocument [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><ClinicalDocument xmlns="urn:hl7-org:v3"><id root="&c;"/></ClinicalDocument>"""
SECRET = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
_DOCTYPE = "a DOCTYPE, which is refused because it may declare entities"
_BROKEN = "XML ends early or is broken"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (LAUGHS, _DOCTYPE),
        (LAUGHS.encode("utf-16"), _DOCTYPE),
        (document(section("10164-2", text="&e;")).replace("<ClinicalDocument", SECRET + "<ClinicalDocument"), _DOCTYPE),
        ('<!DOCTYPE x SYSTEM "http://example.org/x.dtd"><x/>', _DOCTYPE),
        ("<!-- x -->" * 200_000 + LAUGHS, "not a CDA document: no element in its first MB"),
        (document(section("10164-2", text="&nbsp;")), _BROKEN),
        (document(section("10164-2", text="<list>" * 500)), "nested too deeply"),
        ("", _BROKEN),
        ("MSH|^~\\&|", "not XML"),
        ("<a/>", "not a CDA document: the root must be ClinicalDocument in urn:hl7-org:v3"),
        (document() * 2, "XML is broken after the end of the document"),
        (document(numbers='<id nullFlavor="UNK"/>'), "document: the patient has no identifier"),
        (document(made="soon"), "document: not a date or time"),
        (document(head="<recordTarget><patientRole/></recordTarget>"), "document: several patients in one document"),
        (gzip.compress(document().encode())[:-20], "file ends early or is damaged"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: str | bytes, reason: str) -> None:
    (tmp_path / "a.xml").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert read_all(tmp_path)["reasons"] == [reason]


def test_deep_statements_and_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = '<act moodCode="EVN"><entryRelationship>' * 80 + "</entryRelationship></act>" * 80
    (tmp_path / "a.xml").write_text(document(section("11450-4", deep)))
    assert read_all(tmp_path)["reasons"] == ["nested too deeply"]
    (tmp_path / "a.xml").write_text(document(*[section("10164-2", text="a<br/>" * 20)] * 100))
    monkeypatch.setattr(documents, "MAX_ELEMENTS", 1000)
    assert not read_all(tmp_path)["reasons"]  # sections are let go of
    (tmp_path / "a.xml").write_text(document(section("10164-2", text="a<br/>" * 2000)))
    assert read_all(tmp_path)["reasons"] == ["an entry, a narrative or the whole has too many elements"]
    monkeypatch.setattr(documents, "MAX_DOCUMENT_BYTES", 10_000)
    monkeypatch.setattr(read, "_READ_BYTES", 1000)
    monkeypatch.setattr(documents, "MAX_ELEMENTS", 100_000)
    assert read_all(tmp_path)["reasons"] == ["document is larger than 0 MB"]


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [("utf-8-sig", "UTF-8"), ("cp1252", "UTF-8"), ("iso-8859-1", "ISO-8859-1"), ("utf-16", "UTF-16"),
     ("utf-16-le", "UTF-16"), ("iso-8859-2", "iso-8859-2"), ("gb18030", "GB18030")],
)  # fmt: skip
def test_encodings(tmp_path: Path, encoding: str, declared: str) -> None:
    words = "Größe" if encoding != "gb18030" else "身高"
    content = document(section("10164-2", text=words)).replace("UTF-8", declared, 1)
    (tmp_path / "a.xml").write_bytes(content.encode(encoding))
    assert read_all(tmp_path)["events"]["text_value"][-1] == words


WHOLE = document(
    section("11450-4", PROBLEM), section("30954-2", LAB, text='<td ID="a">Ä</td>'), section("10160-0", DRUG)
).encode()


def test_cut_off_anywhere(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(WHOLE)
    whole = read_all(tmp_path)["events"]
    columns = [name for name in whole.columns if name not in {"row", "source"}]
    for length in range(0, len(WHOLE), 37):
        (tmp_path / "a.xml").write_bytes(WHOLE[:length])
        result = read_all(tmp_path)
        assert len(result["reasons"]) == 1
        assert result["events"].select(columns).equals(whole.head(result["events"].height).select(columns))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_give_events_or_a_counted_reject(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(0, 8))):
        place = data.draw(st.integers(0, len(content) - 1))
        length = data.draw(st.integers(0, 30))
        kept = data.draw(st.sampled_from([b"", content[:100], b'value="', b"nullFlavor=", b"<value/>", b"9e99", b"\0"]))
        content[place : place + length] = kept if data.draw(st.booleans()) else data.draw(st.binary(max_size=9))
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    (tmp_path / "a.xml").write_bytes(gzip.compress(content) if data.draw(st.booleans()) else content)
    read_all(tmp_path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200), name=st.sampled_from(["a.xml", "a.xml.gz", "a.zip"]))
def test_any_file(tmp_path: Path, content: bytes, name: str) -> None:
    for old in tmp_path.iterdir():
        old.unlink()
    (tmp_path / name).write_bytes(content)
    read_all(tmp_path)
