"""HL7 v2 files: how messages are found and spelled, times and zones, deliveries in any order, any bytes at all."""

from __future__ import annotations

import gzip
import random
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from careloop import InputError
from careloop.ingest import load, unpacking
from careloop.ingest.delivery import ARRIVING, CODES, WITHDRAWN
from careloop.ingest.hl7v2 import hl7v2_sources
from careloop.ingest.hl7v2.times import Clock, as_iso
from careloop.record import EVENTS, Record

HEADER = r"MSH|^~\&|LAB|HOSP|EHR||{sent}||ORU^R01^ORU_R01|{id}|P|2.5.1"
OBR = "OBR|1||{filler}^LAB|24323-8^CMP^LN|||{time}|||||||||||||||{reported}|||F"
OBX = "OBX|{n}|NM|2160-0^Creatinine^LN||{value}|mg/dL^^UCUM|0.5-1.2|N|||{status}"


def oru(number: int, value: object = "1.1", **more: str) -> str:
    said = {"sent": "20240301120000", "time": "202403010800", "reported": "202403011130", "status": "F"} | more
    lines = (HEADER, f"PID|1||{1000 + number % 7}^^^HOSP^MR||DOE^JANE||19700101|F", OBR, OBX)
    return "\r".join(lines).format(id=number, filler=f"F{number}", n=1, value=value, **said) + "\r"


def read(path: Path, **options: Any) -> dict[str, Any]:
    batches = [batch for source in hl7v2_sources(path, **options) for batch in source.read()]
    rejected = [reject for batch in batches for reject in batch.rejected]
    skipped = sum((Counter(batch.skipped) for batch in batches), Counter[str]())
    rows, kept = (sum(getattr(batch, name) for batch in batches) for name in ("rows_read", "rows_kept"))
    assert rows == kept + len(rejected) + skipped.total()
    events = pl.concat([ARRIVING.to_frame(), *(batch.events for batch in batches)])
    pl.concat([WITHDRAWN.to_frame(), *(batch.withdrawn for batch in batches)])
    pl.concat([CODES.to_frame(), *(batch.codes for batch in batches)])
    reasons = [(reject.place, reject.reason) for reject in rejected]
    return {"events": events, "reasons": reasons, "skipped": skipped, "rejected": rejected, "rows": rows}


def values(result: dict[str, Any]) -> list[tuple[Any, ...]]:
    rows = result["events"].filter(pl.col("code").str.starts_with("LOINC"))
    return list(rows.select(pl.col("numeric_value").cast(pl.Float64).round(3), "text_value").iter_rows())


def written(tmp_path: Path, content: bytes, name: str = "feed.hl7") -> Path:
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


THREE = "".join(oru(number, number) for number in (1, 2, 3))


@pytest.mark.parametrize(
    "content",
    [
        THREE,
        THREE.replace("\r", "\n"),
        THREE.replace("\r", "\r\n"),
        THREE.rstrip("\r"),
        "\ufeff" + THREE,
        THREE.replace("MSH", "\n\n\ufeffMSH"),
        "".join(f"\x0b{oru(n, n)}\x1c\r" for n in (1, 2, 3)),
        "".join(f"\x0b{oru(n, n)}\x1c" for n in (1, 2, 3)),
        f"FHS|^~\\&|LAB\rBHS|^~\\&|LAB\r{THREE}BTS|3\rFTS|1\r",
        f"BHS|^~\\&|A\r{oru(1, 1)}BTS|1\rBHS|^~\\&|B\r{oru(2, 2)}{oru(3, 3)}BTS|2\r",
    ],
    ids=[
        "CR",
        "LF",
        "CRLF",
        "no last end",
        "BOM",
        "BOM and blank lines between",
        "MLLP",
        "MLLP bare",
        "file",
        "batches",
    ],
)
def test_messages_are_found(tmp_path: Path, content: str) -> None:
    result = read(written(tmp_path, content.encode()))
    assert [number for number, _ in values(result)] == [1, 2, 3]
    assert result["reasons"] == []
    assert result["rows"] == 6


def test_chunks_may_end_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "".join(f"\x0b{oru(n, n)}\x1c\r" for n in range(5)).replace("\r", "\r\n").encode())
    whole = read(path)["events"]
    for size in (1, 7, 50, 333):
        monkeypatch.setattr(unpacking, "READ_BYTES", size)
        # Batches fall otherwise, and rows are numbered within them.
        assert_frame_equal(read(path)["events"].drop("row"), whole.drop("row"), check_row_order=False)


def test_files_below_a_folder(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    written(tmp_path, oru(1).encode(), "a.HL7")
    written(tmp_path, gzip.compress(oru(2).encode()[:60]) + gzip.compress(oru(2).encode()[60:]), "deep/b.hl7.gz")
    written(tmp_path, oru(3).encode(), "c.txt")
    written(tmp_path, b"\x0b" + oru(4).encode(), "d.dat")
    written(tmp_path, b"MSHA is no segment", "readme.txt")
    written(tmp_path, oru(5).encode(), "e.csv")
    written(tmp_path, oru(6).encode("utf-16"), "f.msg")
    assert [source.name for source in hl7v2_sources(tmp_path)] == [
        "a.HL7", "c.txt", "d.dat", "deep/b.hl7.gz", "f.msg",
    ]  # fmt: skip
    assert len(values(read(tmp_path))) == 5
    assert len(values(read(tmp_path / "e.csv"))) == 1


def test_user_mistakes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        hl7v2_sources(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"no HL7 v2 file \(.hl7, .txt"):
        hl7v2_sources(tmp_path)
    with pytest.raises(InputError, match="not an HL7 v2 file"):
        hl7v2_sources(written(tmp_path, b"a,b\n", "a.csv"))
    with pytest.raises(InputError, match="'Berlin' is no IANA time zone"):
        hl7v2_sources(written(tmp_path, oru(1).encode()), time_zone="Berlin")


def test_cut_off_gzip_keeps_what_is_complete(tmp_path: Path) -> None:
    random.seed(1)
    content = "".join(oru(number, random.random()) for number in range(200)).encode()
    packed = gzip.compress(content)
    result = read(written(tmp_path, packed[: len(packed) // 2], "cut.hl7.gz"))
    complete = len(values(result))
    assert 50 < complete < 150
    assert result["reasons"] == [(f"after message {complete}", "file ends early")]
    assert result["rejected"][0].raw.startswith("MSH|")


def test_text_outside_of_messages(tmp_path: Path) -> None:
    content = f"log begins\r{oru(1)}\x1cbetween\r\x0b{oru(2)}"
    result = read(written(tmp_path, content.encode()))
    outside = "text outside of any message"
    assert result["reasons"] == [("message 1", outside), ("message 3", outside)]
    assert len(values(result)) == 2


def test_other_delimiters(tmp_path: Path) -> None:
    """A bar is text where the delimiter is another, and so is a backslash where that is not the escape character."""
    text = "MSH#*-/:#LAB##EHR##20240301120000##ORU*R01#1#P#2.3\rPID#1##12*3:4*x\rOBR#1##F1*LAB#9*C*LN###202403010800\r"
    body = r"OBX#1#ST#2160-0*Creat|inine*LN##a|b^c\d~e/S//X41/##||##F"
    result = read(written(tmp_path, f"{text}{body}\r".replace("2160-0", "2160/R/0").encode()))
    rows = result["events"].to_dicts()
    assert rows[0]["subject"] == "12"
    assert rows[0]["code"] == "LOINC//2160-0"
    assert rows[0]["text_value"] == "a|b^c\\d~e*A"
    for header in ("MSH|aaaa|", "MSH", "MSH|^^^^|", "MSHx^~\\&x"):
        broken = f"{header}\rPID|1||1\r"
        assert read(written(tmp_path, broken.encode()))["reasons"] == [("message 1", "MSH names no usable delimiters")]
    lacking = oru(1).replace(r"MSH|^~\&|", "MSH|^~&|")
    assert values(read(written(tmp_path, lacking.encode()))) == [(1.1, None)]


def test_long_text(tmp_path: Path) -> None:
    """ADD segments go on with the segment before; so do lines that no escape sequence replaces."""
    start = oru(1).replace("|NM|", "|FT|")
    added = (
        start.replace("1.1|mg/dL^^UCUM|0.5-1.2|N|||F", "This is the fir") + "ADD|st sentence. And\rADD| more.||||||F\r"
    )
    assert values(read(written(tmp_path, added.encode()))) == [(None, "This is the first sentence. And more.")]
    broken = start.replace("1.1|mg/dL^^UCUM|", "line one\nand two.\nThree||")
    assert values(read(written(tmp_path, broken.encode()))) == [(None, "line one\nand two.\nThree")]


@pytest.mark.parametrize(
    ("declared", "codec", "word"),
    [
        ("", "utf-8", "Grüße €"),
        ("", "cp1252", "Grüße €"),
        ("UNICODE UTF-8", "utf-8", "Grüße 肝"),
        ("8859/1", "iso8859_1", "Grüße"),
        ("8859/1", "utf-8", "Grüße"),  # recoded on the way, and the header forgotten
        ("8859/2", "iso8859_2", "Żółć"),
        ("8859/5", "iso8859_5", "печень"),
        ("8859/7", "iso8859_7", "ήπαρ"),
        ("8859/15", "iso8859_15", "Grüße €"),
        ("ASCII", "cp1252", "Grüße"),
        ("GB 18030-2000", "gb18030", "肝硬化 联通"),
        ("ISO IR14~ISO IR87", "iso2022_jp", "肝硬変"),
        ("KS X 1001", "euc_kr", "간경화"),
    ],
)
def test_character_sets(tmp_path: Path, declared: str, codec: str, word: str) -> None:
    header, _, rest = oru(1, word).replace("|NM|", "|ST|").replace("|mg/dL^^UCUM|", "||").partition("\r")
    content = f"{header}||||||{declared}\r{rest}".encode(codec)
    assert values(read(written(tmp_path, content))) == [(None, word)]


def test_mixed_encodings(tmp_path: Path) -> None:
    text = oru(1, "Größe").replace("|NM|", "|ST|").replace("|mg/dL^^UCUM|", "||")
    second = OBX.format(n=2, value="Länge", status="F").replace("|NM|", "|ST|").replace("2160", "2161")
    content = text.encode("latin-1") + second.replace("mg/dL^^UCUM", "").encode() + b"\r" + text.encode()
    assert [text for _, text in values(read(written(tmp_path, content)))] == ["Größe", "Länge", "Größe"]


def test_two_time_zones(tmp_path: Path) -> None:
    """The zone of a time comes first, then that of MSH-7, then that of the delivery; a day is a day there."""
    day = "20240701"
    texts = [
        oru(1, time="202407010800", reported=day),
        oru(2, time="202407010800+0530", reported="202407010900"),
        oru(3, time="202407010800", reported=day, sent="20240701120000-0400"),
    ]
    path = written(tmp_path, "".join(texts).encode())
    rows = read(path, time_zone="Europe/Berlin")["events"].filter(pl.col("numeric_value") > 0).to_dicts()
    assert [(row["time"], row["known_time"]) for row in rows] == [
        (datetime(2024, 7, 1, 6, tzinfo=UTC), datetime(2024, 7, 1, 21, 59, 59, tzinfo=UTC)),
        (datetime(2024, 7, 1, 2, 30, tzinfo=UTC), datetime(2024, 7, 1, 7, tzinfo=UTC)),
        (datetime(2024, 7, 1, 12, tzinfo=UTC), datetime(2024, 7, 2, 3, 59, 59, tzinfo=UTC)),
    ]
    assert rows[2]["source_time"] == datetime(2024, 7, 1, 16, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2024", "2024-01-01 00:00:00", "2024-12-31 23:59:59"),
        ("202402", "2024-02-01 00:00:00", "2024-02-29 23:59:59"),
        ("20240200", "2024-02-01 00:00:00", "2024-02-29 23:59:59"),
        ("20240000", "2024-01-01 00:00:00", "2024-12-31 23:59:59"),
        ("20240229", "2024-02-29 00:00:00", "2024-02-29 23:59:59"),
        ("2024022913", "2024-02-29 13:00:00", "2024-02-29 13:59:59"),
        ("202402291305", "2024-02-29 13:05:00", "2024-02-29 13:05:00"),
        ("20240229130507.25", "2024-02-29 13:05:07.25", "2024-02-29 13:05:07.25"),
        ("20240229130507", "2024-02-29 13:05:07", "2024-02-29 13:05:07"),
        ("20161231235960", "2016-12-31 23:59:59", "2016-12-31 23:59:59"),
        ("20240229-0500", "2024-02-29 05:00:00", "2024-03-01 04:59:59"),
        ("202402291305+0545", "2024-02-29 07:20:00", "2024-02-29 07:20:00"),
        ("20240229^D", "2024-02-29 00:00:00", "2024-02-29 23:59:59"),
        ("2024-02-29T13:05:07Z", "2024-02-29 13:05:07", "2024-02-29 13:05:07"),
        ("2024-02-29 13:05:07.5+01:00", "2024-02-29 12:05:07.5", "2024-02-29 12:05:07.5"),
    ],
)
def test_times(text: str, start: str, end: str) -> None:
    span = Clock("UTC").span(text)
    expected = [datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() * 1e6 for moment in (start, end)]
    assert span is not None
    assert list(span) == expected


@pytest.mark.parametrize(
    "text",
    ["", "24", "20240230", "20241301", "202402292460", "18400101", "99991231", "20240229130567", "now", "２０２４"],
)
def test_no_times(text: str) -> None:
    assert Clock("UTC").span(text) is None
    assert as_iso(text) in {text, "2024-02-30", "2024-13-01", "1840-01-01", "9999-12-31", "2024-02-29T24:60"} | {
        "2024-02-29T13:05:67"
    }


def test_clocks_that_are_set() -> None:
    """In autumn 02:30 comes twice and is known at the second; in spring it never comes and counts an hour later."""
    clock = Clock("Europe/Berlin")
    twice, never = clock.span("202410270230"), clock.span("202403310230")
    hours = [[datetime.fromtimestamp(moment / 1e6, UTC).hour for moment in span or ()] for span in (twice, never)]
    assert hours == [[0, 1], [1, 1]]


def test_same_fields_as_an_independent_parser(tmp_path: Path) -> None:
    hl7 = pytest.importorskip("hl7")
    rnd = random.Random(2)
    words = ("Zürich", r"a\F\b", r"c\S\d\T\e\R\f\E\g", "x y", "", "plain text")
    texts = []
    for number in range(200):
        text = oru(number, rnd.choice(words) + str(number)).replace("|NM|", "|ST|").replace("|mg/dL^^UCUM|", "||")
        texts.append(text if rnd.random() < 0.5 else text.replace("2160-0^", rf"{rnd.choice(words[1:3])}^"))
    path = written(tmp_path, "".join(texts).encode())
    rows = read(path)["events"].filter(~pl.col("source").str.contains("//patient/")).to_dicts()
    for text, row in zip(texts, rows, strict=True):
        parsed = hl7.parse(text)
        plain = [parsed.extract_field("OBX", 1, field, 1, part) for field, part in ((3, 1), (5, 1))]
        assert (row["code"], row["text_value"]) == (f"LOINC//{plain[0]}", plain[1])
        assert row["subject"] == parsed.extract_field("PID", 1, 3, 1, 1)
        assert row["source"].startswith(f"HL7V2//result/{parsed.extract_field('OBR', 1, 3, 1, 1)}^LAB/")


def stored(record: Record) -> pl.DataFrame:
    return record.events().collect().sort(EVENTS.names())


ADT = "MSH|^~\\&|ADT||||{sent}||ADT^{kind}|1|P|2.5\rEVN|{kind}|{sent}\rPID|1||1001\rPV1|1|I|ICU" + "|" * 16 + "V1"
VERSIONS = [
    oru(1, "1.0", status="P", sent="202403011200"),
    oru(1, "1.1", status="F", sent="202403011300"),
    oru(1, "1.2", status="C", sent="202403011400"),
    oru(2, "2.0", sent="202403011200"),
    oru(2, "2.0", status="W", sent="202403011500"),
    oru(3, "3.0", status="W", sent="202403011200"),
    oru(3, "3.1", status="C", sent="202403011500"),
    ADT.format(kind="A01", sent="202403010900") + "|" * 25 + "202403010900\r",
    ADT.format(kind="A03", sent="202403020900") + "\r",
    ADT.format(kind="A13", sent="202403021000") + "\r",
]


@pytest.mark.parametrize("seed", range(4))
def test_the_newest_version_wins_in_whatever_order(tmp_path: Path, seed: int) -> None:
    """Corrected, deleted and restored results and a cancelled discharge, in one delivery or in one for each message."""
    texts = random.Random(seed).sample(VERSIONS, len(VERSIONS))
    record = Record.create(tmp_path / "record", shards=2)
    for number, part in enumerate([texts[:4], texts[4:6], texts[6:]] if seed else [texts]):
        (tmp_path / f"{number}").mkdir()
        load(Record.open(record.path), hl7v2_sources(written(tmp_path, "".join(part).encode(), f"{number}/feed.hl7")))
    events = stored(Record.open(record.path))
    results = events.filter(pl.col("code") == "LOINC//2160-0")
    assert sorted(results["numeric_value"]) == pytest.approx([1.2, 3.1])
    assert events.filter(pl.col("code").str.starts_with("VISIT"))["code"].to_list() == ["VISIT_START//IMP"]
    assert events.filter(pl.col("code") == "MEDS_BIRTH").height == 3


def test_same_moment_goes_by_order(tmp_path: Path) -> None:
    """Of two messages of one second the later in the file counts, withdrawal or not."""
    texts = [oru(1, "1", status="W"), oru(1, "2"), oru(2, "3"), oru(2, "3", status="W")]
    record = Record.create(tmp_path / "record", shards=1)
    load(record, hl7v2_sources(written(tmp_path, "".join(texts).encode())))
    results = stored(Record.open(record.path)).filter(pl.col("code") == "LOINC//2160-0")
    assert results["numeric_value"].to_list() == [2]


TOLD = (pl.col("subject") == "1000") & (pl.col("code") == "MEDS_BIRTH")


def test_patient_is_told_once_a_batch_as_of_the_newest(tmp_path: Path) -> None:
    texts = [oru(7, sent="20240301"), oru(14, sent="20240303"), oru(21, sent="20240302"), oru(1)]
    born = read(written(tmp_path, "".join(texts).encode()))["events"].filter(TOLD)
    assert born["source_time"].to_list() == [datetime(2024, 3, 3, tzinfo=UTC)]
    undated = [*texts[:3], oru(28, sent=""), oru(1)]
    born = read(written(tmp_path, "".join(undated).encode()))["events"].filter(TOLD)
    assert born["source_time"].to_list() == [None]


SEED = "".join(
    (
        *VERSIONS,
        "MSH|^~\\&|A||||20240301||VXU^V04|1|P|2.5\rPID|1||5\rORC|RE||1\rRXA|0|1|20240301||08^B^CVX|1|mL\r",
        "MSH|^~\\&|A||||20240301||ADT^A40|1|P|2.5\rPID|1||5\rMRG|6\rDG1|1||I10^H^I10C||2024\rAL1|1||^nuts\rPR1|1||x\r",
        "MSH|^~\\&|A||||20240301||OML^O21|1|P|2.5\rPID|1||5\rORC|NW|1\rOBR|1|1||x^y\rOBX|1|SN|a||<^1^-^2\rNTE|1||x\\X41\\\r",
    )
).encode()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_give_events_or_counted_rejects(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(SEED)
    place, octet = st.integers(0, len(content) - 1), st.sampled_from(b'|^~\\&\r\n\x00\x0b\x1c"<-:0179AMSHOBX\xff\xc3')
    for _ in range(data.draw(st.integers(0, 30))):
        content[data.draw(place)] = data.draw(octet)
    start = data.draw(place)
    content = content[start : start + data.draw(st.integers(0, 600))] + data.draw(st.binary(max_size=60))
    packed = gzip.compress(content) if data.draw(st.booleans()) else bytes(content)
    read(written(tmp_path, packed[: data.draw(st.integers(0, len(packed)))] if len(packed) % 3 else packed))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["NM", "SN", "CE", "CWE", "ED", "RP", "CQ", "NR", "TM", "DTM", "FT", "ST", ""]),
    value=st.text(alphabet=r"0123456789.^~&\XSF<>=-+:/eE ab\"", max_size=30),
    time=st.text(alphabet="0123456789+-.TZ:^", max_size=24),
)
def test_any_value_and_time(tmp_path: Path, kind: str, value: str, time: str) -> None:
    text = oru(1, value, time=time, reported=time).replace("|NM|", f"|{kind}|")
    result = read(written(tmp_path, text.encode()))
    assert result["rows"] == 2


@settings(deadline=None)
@given(
    st.datetimes(datetime(1960, 1, 1), datetime(2100, 1, 1)), st.sampled_from(["UTC", "Europe/Berlin", "Asia/Tokyo"])
)
def test_spellings_agree(moment: datetime, zone: str) -> None:
    clock, whole = Clock(zone), moment.replace(microsecond=0)
    assert clock.span(f"{whole:%Y%m%d%H%M%S}") == clock.span(f"{whole:%Y%m%d%H%M%S}.0") == clock.span(f"{whole}")
