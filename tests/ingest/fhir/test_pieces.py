"""Damaged and odd files: cut off, broken, in several encodings, in one huge bundle (all resources made up)."""

from __future__ import annotations

import codecs
import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from careloop.ingest import unpacking
from careloop.ingest.fhir import pieces

Read = Callable[..., Any]
Json = dict[str, Any]


def seen(number: int, text: str = "grün") -> Json:
    subject = {"reference": f"Patient/{number % 7}"}
    given = {"resourceType": "Observation", "id": f"o{number}", "code": {"text": "x"}, "subject": subject}
    return given | {"effectiveDateTime": "2020-01-01", "valueString": text}


def lines(count: int, **how: Any) -> list[bytes]:
    return [json.dumps(seen(number), ensure_ascii=False, **how).encode() for number in range(count)]


def texts(result: Any) -> list[str]:
    return [text for (text,) in result.rows("text_value")]


@pytest.mark.parametrize("name", ["a.ndjson.gz", "a.json.gz"])
@pytest.mark.parametrize("cut", [1, 5, 300, 1000])
def test_a_gzip_file_that_was_cut_off(read: Read, name: str, cut: int) -> None:
    packed = gzip.compress(b"\n".join(lines(2000)) + b"\n", compresslevel=1)
    result = read(packed[:-cut], name=name)
    assert [reject.reason for reject in result.rejected] == ["file ends early"]
    assert result.rejected[0].place.startswith("after line ")
    kept = result.rows_kept
    assert 1000 < kept <= 2000
    assert result.rows("source")[kept - 1] == (f"FHIR//fhir//Observation/o{kept - 1}",)


def test_a_gzip_file_that_is_damaged_in_the_middle(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "READ_BYTES", 1 << 16)
    packed = bytearray(gzip.compress(b"\n".join(lines(20_000)), compresslevel=1))
    packed[len(packed) // 2 :: 7] = b"\xff" * len(packed[len(packed) // 2 :: 7])
    result = read(bytes(packed), name="a.ndjson.gz")
    assert result.reasons["file is damaged"] == 1
    assert result.rows_kept > 100


def test_gzip_members_one_after_another(read: Read) -> None:
    packed = b"".join(gzip.compress(line + b"\n") for line in lines(5)) + b"\0" * 20
    assert read(packed, name="a.ndjson.gz").rows_kept == 5
    assert read(gzip.compress(b"\n".join(lines(5))), name="a.ndjson").rows_kept == 5  # whatever it is called


def test_one_broken_line_in_100_000(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "READ_BYTES", 1 << 20)
    good = lines(1)[0]
    result = read(*[good] * 61_234, good[:-9], *[good] * 38_765)
    assert (result.rows_read, result.rows_kept) == (100_000, 99_999)
    assert [(reject.place, reject.reason) for reject in result.rejected] == [("line 61235", "JSON ends early")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("name", ["a.ndjson", "a.json"])
def test_encodings(read: Read, name: str, encoding: str) -> None:
    text = b"\n".join(lines(3)).decode()
    assert texts(read(text.encode(encoding), name=name)) == ["grün"] * 3
    big_endian = codecs.BOM_UTF16_BE + text.encode("utf-16-be")
    assert texts(read(big_endian, name=name)) == ["grün"] * 3


def test_encodings_mixed_in_one_file(read: Read) -> None:
    utf8 = lines(1)[0]
    marked, windows, wide = codecs.BOM_UTF8 + utf8, utf8.decode().encode("cp1252"), utf8.decode().encode("utf-16")
    result = read(utf8, windows, marked, utf8 + b"\r", b" \t ", wide, b"\0" * 30, utf8)
    assert texts(result) == ["grün"] * 5
    assert result.rejected[0].place == "line 6"
    assert set(result.reasons) == {"not JSON"}


def test_encodings_mixed_in_one_bundle(read: Read) -> None:
    entries = [b'{"resource": ' + line + b"}" for line in lines(3)]
    entries[1] = entries[1].decode().encode("cp1252")
    result = read(b'{"resourceType": "Bundle", "entry": [' + b",\n".join(entries) + b"]}", name="a.json")
    assert texts(result) == ["grün"] * 3


def test_a_bundle_that_was_cut_off(read: Read) -> None:
    text = json.dumps({"resourceType": "Bundle", "entry": [{"resource": seen(n)} for n in range(50)]}).encode()
    result = read(text[: text.index(b'"o40"') + 40], name="a.json")
    assert result.rows_kept == 40
    assert [(reject.place, reject.reason) for reject in result.rejected] == [("after entry 40", "file ends early")]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_bundle_with_one_broken_entry(read: Read, indent: int | None) -> None:
    bundle = {"resourceType": "Bundle", "entry": [{"resource": seen(n)} for n in range(50)]}
    text = json.dumps(bundle, indent=indent).encode().replace(b'"Patient/6"', b'"Patient/6', 1)
    result = read(text, name="a.json")
    assert len(result.rejected) >= 1
    if indent:  # line breaks end the string, so what comes after is not lost
        assert result.rows_kept >= 48


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", None),
        (b"\n\n  \n", None),
        (b"[]", None),
        (b"<Bundle xmlns='http://hl7.org/fhir'/>", "not JSON"),
        (b'{"resourceType":', "file ends early"),
        (b"{" * 5000, "file ends early"),
        (b'{"resourceType":"Patient","a":' + b'[{"a":' * 9000 + b"[]" + b"}]" * 9000 + b"}", "nested too deeply"),
        (b"\0" * 100, "not JSON"),
        (b'{"resourceType":"Patient","id":"1","gender":"male"}\0', "not JSON"),
    ],
)
def test_odd_files(read: Read, text: bytes, reason: str | None) -> None:
    result = read(text, name="a.json")
    assert [reject.reason for reject in result.rejected] == ([reason] if reason else [])


def test_names_that_stand_twice_in_an_object(read: Read) -> None:
    line = b'{"resourceType":"Patient","id":"a","id":"b","gender":"male","gender":"female"}'
    assert read(line).rows("source", "code") == [("FHIR//fhir//Patient/b", "GENDER//F")]


def test_pieces_above_the_limit(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "MAX_PIECE_BYTES", 2 << 20)
    monkeypatch.setattr(unpacking, "READ_BYTES", 1 << 20)
    long = lines(1)[0].replace("grün".encode(), b"x" * (5 << 20))
    result = read(*lines(3), long, *lines(3))
    assert result.reasons == {"line is longer than 2 MB": 1}
    assert (result.rows_kept, len(result.rejected[0].raw)) == (3, 1000)
    assert read(b"[" + long + b"]", name="a.json").reasons == {"resource is longer than 2 MB": 1}


def test_a_large_bundle_needs_little_memory(read_path: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated: 12 MB in one line, read in pieces of 1 MB."""
    monkeypatch.setattr(unpacking, "READ_BYTES", 1 << 20)
    file = tmp_path / "bundle.json"
    entry = json.dumps({"fullUrl": "urn:uuid:1", "resource": seen(1) | {"note": [{"text": "n" * 1000}]}})
    count = (12 << 20) // len(entry)
    file.write_text('{"resourceType":"Bundle","type":"collection","entry":[' + ",".join([entry] * count) + "]}")
    tracemalloc.start()
    result = read_path(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.rows_kept == count
    assert peak < 8 << 20
