"""What HL7 v2 messages mean: examples of the standard (v2.5.1 chapters 3, 4 and 7), written out by hand as events."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from careloop.ingest.hl7v2 import hl7v2_sources

HEADER = r"MSH|^~\&|LAB|HOSP|||{sent}||{kind}|1|P|2.5.1"
PID = "PID|1||1234^^^HOSP^MR"
ADMIT = "PV1|1|I|2000^2012^01||||||||||||||||V7|||||||||||||||||||||||||202403011000"
OBR = "OBR|1|P1^EHR|F1^LAB|24323-8^CMP^LN|||202403010800|||||||||||||||202403011130|||F"


class Result:
    """All batches of a delivery together, with short views of their events."""

    def __init__(self, path: Path, **options: Any) -> None:
        batches = [batch for source in hl7v2_sources(path, **options) for batch in source.read()]
        self.events = pl.concat([batch.events for batch in batches])
        self.withdrawn = pl.concat([batch.withdrawn for batch in batches])
        self.merges = [pair for batch in batches for pair in batch.merges]
        self.codes = dict(pl.concat([batch.codes for batch in batches]).iter_rows())
        self.rejected = [reject for batch in batches for reject in batch.rejected]
        self.skipped = sum((Counter(batch.skipped) for batch in batches), Counter[str]())
        self.rows_read = sum(batch.rows_read for batch in batches)
        self.rows_kept = sum(batch.rows_kept for batch in batches)
        assert self.rows_read == self.rows_kept + len(self.rejected) + self.skipped.total()

    def coded(self, beginning: str = "") -> list[dict[str, Any]]:
        """Events whose code begins so."""
        return self.events.filter(pl.col("code").str.starts_with(beginning)).to_dicts()

    def values(self) -> list[tuple[Any, ...]]:
        """Code, number, unit and text of all but what is known of the patient."""
        rows = self.events.filter(~pl.col("source").str.contains("//patient/"))
        return [(c, n if n is None else round(n, 6), u, t) for c, n, u, t in rows.select(VALUE).iter_rows()]

    def reasons(self) -> list[tuple[str, str]]:
        return [(reject.place, reject.reason) for reject in self.rejected]


VALUE = ("code", "numeric_value", "unit", "text_value")
Read = Callable[..., Result]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Return a function that reads messages, each a list of segments or a text."""

    def read_messages(*messages: Sequence[str] | str, **options: Any) -> Result:
        texts = [text if isinstance(text, str) else "\r".join(text) + "\r" for text in messages]
        (tmp_path / "feed.hl7").write_text("".join(texts), newline="")
        return Result(tmp_path, **options)

    return read_messages


def message(kind: str, *segments: str, sent: str = "20240301120000") -> list[str]:
    return [HEADER.format(kind=kind, sent=sent), *segments]


def oru(*segments: str, sent: str = "20240301120000") -> list[str]:
    return message("ORU^R01^ORU_R01", PID, OBR, *segments, sent=sent)


def adt(trigger: str, *segments: str, sent: str = "20240301120000") -> list[str]:
    return message(f"ADT^{trigger}", f"EVN|{trigger}|{sent}", *segments, sent=sent)


def obx(kind: str, value: str, *, unit: str = "", status: str = "F", flag: str = "", sub: str = "") -> str:
    return f"OBX|1|{kind}|2160-0^Creatinine^LN|{sub}|{value}|{unit}||{flag}|||{status}"


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


# Chapter 3, section 3.3.1: the admission of Adam Everyman.
A01 = r"""MSH|^~\&|ADT1|GOOD HEALTH HOSPITAL|GHH LAB, INC.|GOOD HEALTH HOSPITAL|198808181126|SECURITY|ADT^A01^ADT_A01|MSG00001|P|2.5.1||
EVN|A01|198808181123||
PID|1||PATID1234^5^M11^ADT1^MR^GOOD HEALTH HOSPITAL~123456789^^^USSSA^SS||EVERYMAN^ADAM^A^III||19610615|M||2106-3|2222 HOME STREET^^GREENSBORO^NC^27401-1020|GL|(555) 555-2004|(555)555-2004||S||PATID12345001^2^M10^ADT1^AN^A|444333333|987654^NC|
NK1|1|NUCLEAR^NELDA^W|SPO^SPOUSE||||NK^NEXT OF KIN
PV1|1|I|2000^2012^01||||004777^ATTEND^AARON^A|||SUR||||7|A0|
"""  # noqa: E501


def test_admission(read: Read) -> None:
    result = read(A01)
    assert {row["subject"] for row in result.coded()} == {"PATID1234"}
    assert {row["code"]: row["time"] for row in result.coded()} == {
        "VISIT_START//IMP": at(1988, 8, 18, 11, 23),  # no admit time (PV1-44), so when the event was recorded
        "MEDS_BIRTH": at(1961, 6, 15),
        "GENDER//M": None,
        "RACE//white": None,
        "MARITAL//S": None,
    }
    assert result.coded("VISIT")[0]["source"] == "HL7V2//visit/PATID12345001/start"
    assert result.skipped == {"NK1: not read": 1}
    assert {row["source_time"] for row in result.coded()} == {at(1988, 8, 18, 11, 26)}
    assert result.coded("MEDS_BIRTH")[0]["known_time"] == at(1961, 6, 15, 23, 59, 59)


# Chapter 7, section 7.5.1: electrolytes, in the style of v2.2 with a CPT4 code for each test.
ELECTROLYTES = r"""MSH|^~\&|LAB||||198703311405||ORU^R01|1|P|2.5
PID|||4567222^5^M11||Jones^William||19610613|M
OBR|1|870930010^OE|CM3562^LAB|80004^ELECTROLYTES|R|198703281530|198703290800|||401-0^INTERN^JOE^^^^MD^L|N|||SER|^SMITH^RICHARD^W.^^^DR.|(319)377-4400|This is requestor field #1.|Requestor field #2|Diag.serv.field #1.|Diag.serv.field #2.|198703311400|||F
OBX|1|NM|84295^NA^CPT4||150|mmol/l|136-148|H||A|F|19850301
OBX|2|NM|84132^K+^CPT4||4.5|mmol/l|3.5-5|N||N|F|19850301
OBX|3|NM|82435^CL^CPT4||102|mmol/l|94-105|N||N|F|19850301
OBX|4|NM|82374^CO2^CPT4||27|mmol/l|24-31|N||N|F|19850301
"""  # noqa: E501


def test_results(read: Read) -> None:
    result = read(ELECTROLYTES)
    assert result.values() == [
        ("CPT4//84295", 150, "mmol/l", None),
        ("CPT4//84132", 4.5, "mmol/l", None),
        ("CPT4//82435", 102, "mmol/l", None),
        ("CPT4//82374", 27, "mmol/l", None),
    ]
    row = result.coded("CPT4")[0]
    assert (row["time"], row["known_time"]) == (at(1987, 3, 29, 8), at(1987, 3, 31, 14, 5))  # OBR-22 is empty here
    assert row["source"] == "HL7V2//result/CM3562^LAB/80004/CPT4//84295/"
    assert result.codes["CPT4//84132"] == "K+"


@pytest.mark.parametrize(
    ("kind", "value", "unit", "expected"),
    [
        ("NM", "1.1", "mg/dL^milligram per decilitre^UCUM", [("", 1.1, "mg/dL", None)]),
        ("NM", "-0.5e1", "", [("", -5, None, None)]),
        ("NM", "<0.5", "mg/dL", [("", 0.5, "mg/dL", "<")]),
        ("NM", "HEMOLYZED", "mg/dL", [("", None, None, "HEMOLYZED")]),
        ("NM", "1_0", "mg/dL", [("", None, None, "1_0")]),
        ("NM", "1~2", "mg/dL", [("", 1, "mg/dL", None), ("", 2, "mg/dL", None)]),
        # Chapter 2.A.70: structured numerics
        ("SN", ">^100", "mg/dL", [("", 100, "mg/dL", ">")]),
        ("SN", "=^100", "mg/dL", [("", 100, "mg/dL", None)]),
        ("SN", "^100", "mg/dL", [("", 100, "mg/dL", None)]),
        ("SN", "^100^-^200", "mg/dL", [("//LOW", 100, "mg/dL", None), ("//HIGH", 200, "mg/dL", None)]),
        ("SN", "^1^:^128", "", [("", 1 / 128, None, "1:128")]),
        ("SN", "^2^+", "", [("", None, None, "2+")]),
        ("SN", "^ten", "", [("", None, None, "ten")]),
        ("NR", "3^5", "mmol/L", [("//LOW", 3, "mmol/L", None), ("//HIGH", 5, "mmol/L", None)]),
        ("CQ", "5^mg&milligram&UCUM", "", [("", 5, "mg", None)]),
        ("CE", "260385009^Negative^SCT", "", [("", None, None, "Negative")]),
        ("CWE", "x^^L^10828004^Positive^SCT", "", [("", None, None, "Positive")]),
        ("CWE", "A^Ay^L~B^Be^L", "", [("", None, None, "Ay; Be")]),
        ("CWE", "^^^^^^^^as was written", "", [("", None, None, "as was written")]),
        ("IS", "POS", "", [("", None, None, "POS")]),
        ("ST", "clear", "", [("", None, None, "clear")]),
        ("ST", "5.2", "", [("", None, None, "5.2")]),
        ("ST", "5.2", "mmol/L", [("", 5.2, "mmol/L", None)]),
        ("ST", "> 100", "mmol/L", [("", 100, "mmol/L", ">")]),
        ("FT", r"first\.br\second\.sp2\\H\bold\N\ \S\ \X41C3A4\ \Zlocal\end", "", None),
        ("TX", "one~two", "", [("", None, None, "one\ntwo")]),
        ("DT", "20240301", "", [("", None, None, "2024-03-01")]),
        ("TS", "202403011030+0100", "", [("", None, None, "2024-03-01T10:30+01:00")]),
        ("DTM", "20240301103005.12", "", [("", None, None, "2024-03-01T10:30:05.12")]),
        ("TM", "1030", "", [("", None, None, "10:30")]),
        ("ED", "^TEXT^PLAIN^Base64^aGVsbG8=", "", [("", None, None, "hello")]),
        ("ED", "^TEXT^^A^as it is", "", [("", None, None, "as it is")]),
    ],
)
def test_value_types(read: Read, kind: str, value: str, unit: str, expected: list[tuple[Any, ...]] | None) -> None:
    expected = expected or [("", None, None, "first\nsecond\n\nbold ^ Aä end")]
    coded = [(f"LOINC//2160-0{ending}", n and round(n, 6), *rest) for ending, n, *rest in expected]
    assert read(oru(obx(kind, value, unit=unit))).values() == coded


def test_documents_are_assets(read: Read) -> None:
    result = read(
        oru(obx("ED", "^AP^PDF^Base64^JVBERg=="), obx("RP", r"http://pacs/x?a=1\T\b=2^PACS^IM^DICOM", sub="2"))
    )
    first, second = result.coded("LOINC")
    assert first["text_value"] == "AP/PDF"
    assert first["asset"] == f"sha256:{hashlib.sha256(b'%PDF').hexdigest()}"
    assert second["asset"] == "http://pacs/x?a=1&b=2"
    broken = read(oru(obx("ED", "^AP^PDF^Base64^J")))
    assert broken.reasons() == [("message 1, OBX 1", "OBX-5 is not encoded as it says")]


def test_lines_of_one_text_are_joined(read: Read) -> None:
    lines = [
        f"OBX|{n}|TX|18782-3^Report^LN||{line}||||||F" for n, line in enumerate(("Chest, two views.", "", "Clear."), 1)
    ]
    result = read(oru(*lines, obx("NM", "1"), *lines))
    report = "Chest, two views.\n\nClear."
    assert [text for *_, text in result.values()] == [report, None, report]
    assert len({row["source"] for row in result.coded("LOINC//18782-3")}) == 2
    assert "OBX: no value" not in result.skipped


def test_notes_follow_their_result(read: Read) -> None:
    note = "NTE|1|L|slightly haemolysed~seen twice"
    result = read(
        oru("NTE|1||on the order", obx("NM", "5", sub="1"), note, obx("NM", "<5", sub="2"), note, "NTE|2||again",
            obx("ST", "clear", sub="3"), note, obx("NM", "", sub="4"), note)
    )  # fmt: skip
    said = "slightly haemolysed\nseen twice"
    code = "LOINC//2160-0"
    assert result.values() == [
        (code, 5, None, said),
        (code, 5, None, "<"),  # a comparator stays alone, for it makes the number a bound
        (code, None, None, f"{said}\nagain"),
        (code, None, None, f"clear\n{said}"),
        (code, None, None, said),
    ]
    assert result.skipped["NTE: not read"] == 1


def test_times_of_results(read: Read) -> None:
    own = "OBX|1|NM|2160-0^C^LN|{}|1|mg/dL|||||F|||{}|||||{}"
    plain = OBR.replace("202403011130", "")
    result = read(
        oru(own.format(1, "202403010900", ""), own.format(2, "", "202403011000")),
        message("ORU^R01", PID, plain, own.format(3, "", "202403011000"), own.format(4, "", "")),
        message("ORU^R01", PID, plain.replace("202403010800", ""), own.format(5, "", "")),
        message("ORU^R01", PID, plain.replace("202403010800", "20240301"), own.format(6, "", "")),
        message("ORU^R01", PID, plain.replace("202403010800", ""), own.format(7, "", ""), sent=""),
    )
    assert [(row["source"][-1], row["time"], row["known_time"]) for row in result.coded("LOINC")] == [
        ("1", at(2024, 3, 1, 9), at(2024, 3, 1, 11, 30)),  # OBX-14; OBR-22
        ("2", at(2024, 3, 1, 8), at(2024, 3, 1, 11, 30)),  # OBR-7; OBR-22
        ("3", at(2024, 3, 1, 8), at(2024, 3, 1, 10)),  # OBX-19
        ("4", at(2024, 3, 1, 8), at(2024, 3, 1, 12)),  # MSH-7
        ("5", at(2024, 3, 1, 12), at(2024, 3, 1, 12)),
        ("6", at(2024, 3, 1), at(2024, 3, 1, 12)),
    ]
    assert result.reasons() == [("message 5, OBX 1", "OBX: no time, not even of the message")]


@pytest.mark.parametrize("status", ["F", "C", "P", "R", "S", "", "f"])
def test_statuses_that_stand(read: Read, status: str) -> None:
    assert read(oru(obx("NM", "1", status=status))).values() == [("LOINC//2160-0", 1, None, None)]


@pytest.mark.parametrize("status", ["D", "W", "X"])
def test_statuses_that_take_back(read: Read, status: str) -> None:
    result = read(oru(obx("NM", "1", status=status), obx("NM", "2", sub="b")))
    given = read(oru(obx("NM", "1"), obx("NM", "2", sub="b")))
    source = given.coded("LOINC")[0]["source"]
    assert result.withdrawn.to_dicts() == [{"source": source, "source_time": at(2024, 3, 1, 12)}]
    assert [value[1] for value in result.values()] == [2]


@pytest.mark.parametrize(("status", "value"), [("F", '""'), ("C", "")])
def test_null_and_empty_correction_take_back(read: Read, status: str, value: str) -> None:
    result = read(oru(obx("NM", value, status=status)))
    assert result.withdrawn.height == 1
    assert not result.values()


def test_what_says_nothing(read: Read) -> None:
    result = read(
        oru(obx("NM", ""), obx("NM", "1", status="I"), obx("NM", "1", status="N"), obx("NM", "1", status="O"),
            obx("XPN", "Doe^J"), obx("NA", "1^2^3"), obx("QQ", "1"), obx("NM", "", flag="H"))
    )  # fmt: skip
    assert result.values() == [("LOINC//2160-0", None, None, "H")]  # a flag without a value, as in FHIR
    assert result.skipped == {
        "PID: says nothing that is read": 1,
        "OBX: no value": 1,
        "OBX: result pending": 1,
        "OBX: not asked for": 1,
        "OBX: describes the order, no result": 1,
        "OBX: a value of type XPN": 1,
        "OBX: a value of type NA": 1,
        "OBX: a value of a type that HL7 does not define": 1,
    }


def test_a_broken_segment_leaves_the_others(read: Read) -> None:
    result = read(
        oru(obx("NM", "1", sub="a"), "OBX|2|NM|||5", "OBX|3|NM|2160-0^C^LN||5||||||Q",
            "OBX|4|NM|2160-0^C^LN|x|5||||||F|||20241350", "rubbish", "OBX", "ZZZ|1|x", obx("NM", "2", sub="b")),
        message("ORU^R01", "PID|1||", OBR, obx("NM", "1")),
        message("ORU^R01", OBR, obx("NM", "1")),
        message("ORU^R01", PID, OBR, obx("NM", "3"), "PID|2||", OBR, obx("NM", "4")),
    )  # fmt: skip
    assert [value[1] for value in result.values()] == [1, 2, 3]
    assert result.reasons() == [
        ("message 1, OBX 2", "OBX-3 (what was observed) is missing"),
        ("message 1, OBX 3", "OBX-11 (status) is not in HL7 table 0085"),
        ("message 1, OBX 4", "OBX: not a date or time between 1850 and 2150"),
        ("message 1, line 8", "line that is no segment"),
        ("message 1, OBX 5", "OBX-3 (what was observed) is missing"),
        ("message 2", "no patient number (PID-3)"),
        ("message 3", "no patient number (PID-3)"),
        ("message 4, PID 2", "PID-3 (patient number) is missing"),
        ("message 4, OBX 2", "OBX: no patient number (PID-3) before it"),
    ]
    assert result.skipped["Z segment: not read"] == 1
    assert result.rejected[1].raw.startswith("OBX|3|NM|2160-0^C^LN||5")
    assert result.rejected[5].raw.startswith("MSH|")


def test_a_row_is_told_whole_or_not_at_all(read: Read) -> None:
    """A time that is none, found late in a segment, leaves nothing of it behind, nor what a text could go on with."""
    line = "OBX|1|TX|18782-3^Report^LN||{}||||||F|||{}"
    drug, bad = "6809^Metformin^RXNORM", "2024022930"
    result = read(
        oru(obx("NM", "1"), line.format("lost", bad), line.format("kept", ""), line.format("with this", bad)),
        message("RAS^O17", PID, "ORC|RE|P1", f"RXA|0|1|202403011100|{bad}|{drug}|500|mg"),
        adt("A02", PID, ADMIT + f"|{bad}"),
        adt("A12", PID, ADMIT),
    )
    assert result.values() == [("LOINC//2160-0", 1, None, None), ("LOINC//18782-3", None, None, "kept\nwith this")]
    assert [place for place, _ in result.reasons()] == ["message 1, OBX 2", "message 2, RXA 1", "message 3, PV1 1"]
    assert result.skipped["PV1: does not say which transfer is cancelled (EVN-6)"] == 1


def test_event_segment_behind_others(read: Read) -> None:
    header = r"MSH|^~\&|ADT||||||ADT|1|P|2.5"
    result = read([header, "SFT|Maker|2", "UAC|x", "EVN|A04|202403010930", PID, "PV1|1|O||||||||||||||||||V7"])
    assert [(row["code"], row["time"], row["source_time"]) for row in result.coded()] == [
        ("VISIT_START//AMB", at(2024, 3, 1, 9, 30), at(2024, 3, 1, 9, 30)),
    ]  # fmt: skip


def test_sources_tell_results_apart(read: Read) -> None:
    plain = OBR.replace("F1^LAB", "F1")
    result = read(
        oru(obx("NM", "1", sub="1"), obx("NM", "2", sub="2"), obx("NM", "3", sub="2")),
        message("ORU^R01", PID, plain, obx("NM", "4")),
        message("ORU^R01", PID, "ORC|RE||F9^LAB", OBR.replace("F1^LAB", ""), obx("NM", "5")),
        message("ORU^R01", PID, OBR.replace("F1^LAB", ""), obx("NM", "6")),
        message("ORU^R01", PID, OBR.replace("F1^LAB", "").replace("P1^EHR", ""), obx("NM", "7")),
    )
    assert [row["source"].removeprefix("HL7V2//result/") for row in result.coded("LOINC")] == [
        "F1^LAB/24323-8/LOINC//2160-0/1",
        "F1^LAB/24323-8/LOINC//2160-0/2",
        "F1^LAB/24323-8/LOINC//2160-0/2#2",
        "F1^LAB/24323-8/LOINC//2160-0/",  # the number's giver is the sending application (MSH-3)
        "F9^LAB/24323-8/LOINC//2160-0/",
        "placer/P1^EHR/24323-8/LOINC//2160-0/",
        "1234/202403010800/24323-8/LOINC//2160-0/",
    ]


def test_visit_from_admission_to_discharge(read: Read) -> None:
    leaving = ADMIT.replace("|2000^", "|ICU^").replace("202403011000", "202403011000|202403051400")
    leaving = "|".join([*leaving.split("|")[:36], "01^Home", *leaving.split("|")[37:]])
    result = read(
        adt("A01", PID, ADMIT),
        adt("A02", PID, ADMIT.replace("2000^2012", "ICU^1"), sent="202403021100"),
        adt("A08", PID, ADMIT.replace("|I|", "|E|")),
        adt("A03", PID, leaving),
        adt("A03", PID, ADMIT, sent="202403051500"),
        adt("A05", PID, ADMIT),
        adt("A04", PID, ADMIT.replace("|I|", "|P|")),
        adt("A31", PID, "PV1|1|N"),
    )
    start, end = "HL7V2//visit/V7/start", "HL7V2//visit/V7/end"
    assert [(row["code"], row["time"], row["source"], row["text_value"]) for row in result.coded()] == [
        ("VISIT_START//IMP", at(2024, 3, 1, 10), start, None),
        ("TRANSFER//ICU", at(2024, 3, 2, 11), "HL7V2//visit/V7/transfer/1709377200000000", None),
        ("VISIT_START//IMP", at(2024, 3, 1, 10), start, None),
        ("VISIT_START//EMER", at(2024, 3, 1, 10), start, None),
        ("VISIT_START//IMP", at(2024, 3, 1, 10), start, None),
        ("VISIT_END//IMP", at(2024, 3, 5, 14), end, "Home"),
        ("VISIT_START//IMP", at(2024, 3, 1, 10), start, None),
        ("VISIT_END//IMP", at(2024, 3, 5, 15), end, None),
    ]
    assert result.skipped["PV1: a visit, transfer or discharge that is planned"] == 2
    assert result.skipped["PV1: neither visit number nor time of admission"] == 1


@pytest.mark.parametrize(
    ("trigger", "withdrawn"),
    [("A11", ["start", "end"]), ("A13", ["end"]), ("A23", ["start", "end"]), ("A08", [])],
)
def test_cancelled_visits(read: Read, trigger: str, withdrawn: list[str]) -> None:
    result = read(adt(trigger, PID, ADMIT))
    assert result.withdrawn["source"].to_list() == [f"HL7V2//visit/V7/{part}" for part in withdrawn]
    assert len(result.coded("VISIT_START")) == (trigger in {"A13", "A08"})


def test_cancelled_transfer_and_null_discharge(read: Read) -> None:
    event = "EVN|{}|202403021300||||202403021100"
    result = read(
        message("ADT^A12", event.format("A12"), PID, "PV1|1|I|2000||||||||||||||||V7"),
        message("ADT^A12", "EVN|A12|202403021300", PID, "PV1|1|I|2000||||||||||||||||V7"),
        adt("A08", PID, ADMIT.replace("202403011000", '202403011000|""')),
    )
    assert result.withdrawn["source"].to_list() == ["HL7V2//visit/V7/transfer/1709377200000000", "HL7V2//visit/V7/end"]
    assert result.skipped["PV1: does not say which transfer is cancelled (EVN-6)"] == 1
    moved = read(message("ADT^A02", event.format("A02"), PID, "PV1|1|I|ICU||||||||||||||||V7"))
    assert [row["source"] for row in moved.coded("TRANSFER")] == ["HL7V2//visit/V7/transfer/1709377200000000"]


@pytest.mark.parametrize("trigger", ["A18", "A30", "A34", "A35", "A36", "A39", "A40", "A47"])
def test_merged_patients(read: Read, trigger: str) -> None:
    result = read(adt(trigger, PID, "MRG|99^^^HOSP^MR", "PID|2||5^^^HOSP^MR", "MRG|6^^^HOSP^MR"))
    assert result.merges == [("99", "1234"), ("6", "5")]


def test_what_merges_no_patients(read: Read) -> None:
    result = read(
        adt("A35", PID, "MRG|1234^^^HOSP^MR||ACC2"),  # accounts of one patient
        adt("A43", PID, "MRG|1234^^^HOSP^MR"),
        adt("A24", PID, "PID|2||99^^^HOSP^MR"),
    )
    assert result.merges == []
    assert result.skipped["MRG: no patients are merged"] == 2
    assert result.skipped["ADT: a link between patients, whose records stay apart"] == 1
    assert read(adt("A40", PID, "MRG|")).reasons() == [("message 1, MRG 1", "MRG-1 (prior patient number) is missing")]


def test_person_null_against_absent(read: Read) -> None:
    full = f"{PID}||||19610615|F||2028-9^Asian^HL70005|||||de^German|M||||||N^Not Hispanic or Latino|||||||20240302|Y"
    result = read(adt("A28", full), adt("A31", f'{PID}||||""|""', sent="20240302"))
    assert [row["code"] for row in result.coded()] == [
        "MEDS_BIRTH", "MEDS_DEATH", "GENDER//F", "RACE//asian", "ETHNICITY//not hispanic or latino", "LANGUAGE//de",
        "MARITAL//M",
    ]  # fmt: skip
    assert result.coded("MEDS_DEATH")[0]["known_time"] == at(2024, 3, 2, 23, 59, 59)
    assert result.withdrawn["source"].to_list() == ["HL7V2//patient/1234/birth", "HL7V2//patient/1234/sex"]
    deleted = read(adt("A29", full))
    assert deleted.withdrawn.height == 7
    assert not deleted.events.height
    broken = read(adt("A28", f"{PID}||||yesterday|F"))
    assert broken.reasons() == [("message 1, PID 1", "PID: not a date or time between 1850 and 2150")]


@pytest.mark.parametrize(
    ("numbers", "options", "subject"),
    [
        ("7^^^HOSP^PI~1234^^^HOSP^MR~9^^^SSA^SS", {}, "1234"),
        ("7^^^HOSP", {}, "7"),
        ("7^^^A^MR~8^^^B&2.16.840&ISO^MR", {"authority": "B"}, "8"),
        ("7^^^A^MR~8^^^B&2.16.840&ISO^MR", {"authority": "2.16.840"}, "8"),
        ("7^^^A^MR", {"authority": "B"}, "A:7"),
        ("7^^^A^MR", {"origin": "north"}, "north:7"),
        (r"7\S\8^^^A", {}, "7^8"),
    ],
)
def test_which_number_is_the_patient(read: Read, numbers: str, options: dict[str, str], subject: str) -> None:
    result = read(message("ADT^A28", f"PID|1||{numbers}||||1961|F"), **options)
    assert set(result.events["subject"]) == {subject}


def test_old_messages_have_the_number_in_pid_2(read: Read) -> None:
    result = read([r"MSH|^~\&|ADT||||19880818||ADT|1|P|2.1", "EVN|A01|198808181123", "PID|1|777||||||F", "PV1|1|I"])
    assert [(row["subject"], row["code"]) for row in result.coded()] == [
        ("777", "VISIT_START//IMP"), ("777", "GENDER//F"),
    ]  # fmt: skip


def test_diagnoses(read: Read) -> None:
    admit, final, old, gone = (
        "DG1|1||K74.60^Cirrhosis^I10C||20240229|A",
        "DG1|2||I10^Hypertension^I10C||202402291200|F",
        "DG1|3|I9|571.5|CIRRHOSIS OF LIVER||F",
        "DG1|4||E11.9^Diabetes^I10C||20240229|W||||||||||||||DX1|D",
    )
    result = read(adt("A08", PID, ADMIT, admit, final, old, gone, "DG1|5"))
    day_end, sent = at(2024, 2, 29, 23, 59, 59), at(2024, 3, 1, 12)
    assert [
        (row["code"], row["time"], row["known_time"], row["text_value"])
        for row in result.coded("ICD")
    ] == [
        ("ICD10CM//K74.60", at(2024, 2, 29), day_end, "admitting"),
        ("ICD10CM//I10", at(2024, 2, 29, 12), sent, None),  # coded after the stay: not known before it was sent
        ("ICD9CM//571.5", sent, sent, None),
    ]  # fmt: skip
    assert result.coded("ICD")[0]["source"] == "HL7V2//diagnosis/visit/V7/ICD10CM//K74.60"
    assert result.codes["ICD9CM//571.5"] == "CIRRHOSIS OF LIVER"
    assert result.withdrawn["source"].to_list() == ["HL7V2//diagnosis/DX1"]
    assert result.reasons() == [("message 1, DG1 5", "DG1-3 (a code) is missing")]


def test_procedures_allergies_and_measures_in_an_admission(read: Read) -> None:
    result = read(
        adt("A01", PID, ADMIT,
            "OBX|1|NM|3141-9^Weight^LN||81|kg|||||F|||202403011015",
            "AL1|1|DA|7980^Penicillin^RXNORM|SV|Rash|20100501",
            "AL1|2|FA|^Peanut",
            "PR1|1||80146002^Appendectomy^SCT||202403011800"),
        adt("A60", PID, "IAM|1|DA|1191^Aspirin^RXNORM|MO|Hives|A^Add|AL9^EHR||||20090203||20240215",
            "IAM|2|DA|161^Paracetamol^RXNORM|||D", "IAM|3|DA|5640^Ibuprofen^RXNORM|||A|||||||||||E"),
    )  # fmt: skip
    assert [(row["code"], row["time"], row["known_time"], row["text_value"]) for row in result.coded()[1:]] == [
        ("LOINC//3141-9", at(2024, 3, 1, 10, 15), at(2024, 3, 1, 12), None),
        ("ALLERGY//RXNORM//7980", at(2010, 5, 1), at(2010, 5, 1, 23, 59, 59), "Rash"),
        ("ALLERGY//LOCAL//peanut", at(2024, 3, 1, 12), None, None),
        ("SNOMED//80146002", at(2024, 3, 1, 18), None, None),
        ("ALLERGY//RXNORM//1191", at(2009, 2, 3), at(2024, 2, 15, 23, 59, 59), "Hives"),
    ]
    assert result.withdrawn["source"].to_list() == [
        "HL7V2//allergy/1234/ALLERGY//RXNORM//161", "HL7V2//allergy/1234/ALLERGY//RXNORM//5640",
    ]  # fmt: skip


def test_orders(read: Read) -> None:
    obr = "OBR|1|{}||2160-0^Creatinine^LN"
    result = read(
        message(
            "OML^O21", PID, "ORC|NW|P1^EHR|||||||202403010900", obr.format("P1^EHR"), "OBX|1|NM|29463-7^W^LN||80|kg"
        ),
        message("ORM^O01", PID, "ORC|DC|P1^EHR|||||||202403011000", obr.format("P1^EHR")),
        message("OMG^O19", PID, "ORC|CA|P2^EHR", obr.format("P2^EHR")),
        message("ORM^O01", PID, "ORC|CA|P3^EHR"),
        message("ORM^O01", PID, "ORC|RP|P4^EHR", obr.format("P4^EHR"), "ORC|RO|P5^EHR", obr.format("P5^EHR")),
        message("ORM^O01", PID, "ORC|SC|P6^EHR", obr.format("P6^EHR"), "ORC|OK|P7^EHR"),
        message("ORM^O01", PID, "ORC|NW||F8", obr.format("")),
        message("ORM^O01", PID, "ORC|NW", obr.format("")),
        message("ORM^O01", PID, "ORC|NW|P9", "OBR|1|P9"),
    )
    assert [(row["code"], row["time"], row["source"]) for row in result.coded()] == [
        ("ORDER//LOINC//2160-0", at(2024, 3, 1, 9), "HL7V2//order/P1^EHR"),
        ("LOINC//29463-7", at(2024, 3, 1, 12), "HL7V2//order/P1^EHR/observation/LOINC//29463-7/"),
        ("STOPPED//ORDER//LOINC//2160-0", at(2024, 3, 1, 10), "HL7V2//order/P1^EHR/stop"),
        ("ORDER//LOINC//2160-0", at(2024, 3, 1, 12), "HL7V2//order/P5^EHR"),
        ("ORDER//LOINC//2160-0", at(2024, 3, 1, 12), "HL7V2//order/filler/F8^LAB"),
        ("ORDER//LOINC//2160-0", at(2024, 3, 1, 12), "HL7V2//order/1234/20240301120000"),
    ]
    assert result.withdrawn["source"].to_list() == [f"HL7V2//order/{number}^EHR" for number in ("P2", "P3", "P4")]
    assert result.skipped["ORC: an order control code that makes no order"] == 1
    assert result.skipped["ORC: says nothing of what is ordered"] == 1
    assert result.codes["ORDER//LOINC//2160-0"] == "order: Creatinine"
    assert result.reasons() == [("message 9, OBR 1", "OBR-4 (a code) is missing")]


def test_drugs_ordered_dispensed_and_given(read: Read) -> None:
    drug, orc = "6809^Metformin^RXNORM", "ORC|{}|P1^EHR|||||||202403010900"
    result = read(
        message("OMP^O09", PID, orc.format("NW"), f"RXO|{drug}|500||mg"),
        message("RDE^O11", PID, orc.format("NW"), f"RXO|{drug}|400||mg", f"RXE|^^^20240301|{drug}|500||mg"),
        message("RDE^O11", PID, orc.format("DC"), f"RXE||{drug}|500||mg"),
        message("RDS^O13", PID, orc.format("RE"), f"RXE||{drug}|500||mg", f"RXD|1|{drug}|202403011000|30|TAB"),
        message("RAS^O17", PID, orc.format("RE"),
                f"RXA|0|1|202403011100|202403011130|{drug}|500|mg|||||||||||||CP||202403011140",
                f"RXA|0|2|202403021100||{drug}|500|mg|||||||||||||RE"),
    )  # fmt: skip
    assert [(*row[:4], row[4].strftime("%d %H%M")) for row in result.events.select(*VALUE, "time").iter_rows()] == [
        ("RXNORM//6809", 500, "mg", "ordered", "01 0900"),
        ("RXNORM//6809", 500, "mg", "ordered", "01 0900"),
        ("STOPPED//RXNORM//6809", None, None, "ordered", "01 0900"),
        ("RXNORM//6809", None, None, "dispensed", "01 1000"),
        ("RXNORM//6809", 500, "mg", "administered", "01 1100"),
        ("STOPPED//RXNORM//6809", None, None, "administered", "01 1130"),
    ]
    assert result.events["known_time"][-1] == at(2024, 3, 1, 11, 40)
    assert result.events["source"][:2].unique().to_list() == ["HL7V2//order/P1^EHR"]
    assert result.skipped["RXA: refused"] == 1


def test_vaccinations(read: Read) -> None:
    rxa = "RXA|0|1|20230910|20230910|{}|{}|mL|||||||||||||{}|{}|"
    result = read(
        message("VXU^V04", PID, "ORC|RE||65929^DCS", rxa.format("140^Influenza^CVX", "0.5", "CP", "A"),
                "OBX|1|CE|64994-7^Eligibility^LN|1|V02^VFC eligible^HL70064||||||F|||20230910"),
        message("VXU^V04", PID, "ORC|RE||9999^DCS", rxa.format("08^Hep B^CVX", "999", "CP", "A")),
        message("VXU^V04", PID, "ORC|RE||65930^DCS", rxa.format("03^MMR^CVX", "0.5", "CP", "D")),
        message("VXU^V04", PID, "ORC|RE||65931^DCS", rxa.format("998^none^CVX", "999", "NA", "A")),
    )  # fmt: skip
    assert result.values() == [
        ("CVX//140", 0.5, "mL", None),
        ("LOINC//64994-7", None, None, "VFC eligible"),
        ("CVX//08", None, None, None),
    ]
    assert result.events["source"].to_list() == [
        "HL7V2//vaccination/65929^DCS/CVX//140",
        "HL7V2//vaccination/65929^DCS/CVX//140/observation/LOINC//64994-7/1",
        "HL7V2//vaccination/1234/20230910/CVX//08",
    ]
    assert "HL7V2//vaccination/65930^DCS/CVX//03" in result.withdrawn["source"]
    assert result.coded("CVX")[0]["known_time"] == at(2024, 3, 1, 12)  # told of half a year later
    assert result.skipped["RXA: not administered"] == 1


def test_other_messages_are_counted(read: Read) -> None:
    result = read(
        message("SIU^S12", PID), message("MFN^M02"), message("Doe^J", PID), message("", PID), ["MSH|^~\\&|x"],
    )  # fmt: skip
    assert result.skipped == {
        "SIU: not read": 1,
        "MFN: not read": 1,
        "message of a type that HL7 does not define": 1,
    }
    assert result.reasons() == [(f"message {n}", "MSH-9 (message type) is missing") for n in (4, 5)]
