"""The table that links samples and recordings to patients: its forms, and mistakes in it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.ingest.links import read_links


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_columns_in_any_order_and_case(tmp_path: Path, delimiter: str) -> None:
    rows = (("Time", "SUBJECT", "sample", "note"), ("2023-05-01T10:00", "P7", "A", "x"), ("", "P7", "B"))
    path = tmp_path / "links.csv"
    path.write_text("\ufeff" + "\n".join(delimiter.join(row) for row in rows) + "\n\n", encoding="utf-8")
    links = read_links(path, zone=ZoneInfo("Europe/Berlin"))
    assert [links.subject_of(name) for name in ("A", "B", "C")] == ["P7", "P7", None]
    assert links.times == {"A": datetime(2023, 5, 1, 8, tzinfo=UTC)}


def test_without_a_table_a_sample_is_its_own_patient() -> None:
    assert read_links(None).subject_of("NA12878") == "NA12878"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("id,subject\n", "sample is missing"),
        ("sample,subject\nA,\n", "row 1: sample and subject must not be empty"),
        ("sample,subject\nA,1\nA,2\n", "row 2: a sample is of one subject"),
        ("sample,subject,time\nA,1,yesterday\n", "row 1: time must be ISO 8601"),
    ],
)
def test_mistakes_in_links(tmp_path: Path, content: str, error: str) -> None:
    (tmp_path / "links.csv").write_text(content)
    with pytest.raises(InputError, match=error):
        read_links(tmp_path / "links.csv")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_links(tmp_path / "nothing.csv")


@settings(max_examples=150, deadline=None)
@given(
    content=st.binary(max_size=120)
    | st.text('sampleubjctim,;\t"\n12-:TZ+', max_size=80).map(lambda rows: f"sample,subject,time\n{rows}".encode())
)
def test_any_bytes_are_links_or_one_line(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("links") / "links.csv"
    path.write_bytes(content)
    try:
        links = read_links(path, zone=ZoneInfo("Europe/Berlin"))
    except InputError:
        return
    assert set(links.times) <= set(links.subjects)
