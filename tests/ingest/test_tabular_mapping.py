"""The mapping file: what is wrong is said in one line with file, key and remedy; any text gives that or a mapping."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.ingest.tabular import read_mapping
from careloop.ingest.tabular.mapping_file import parse_mapping

GOOD = """
defaults: {time_zone: Europe/Berlin, missing: [NA, -9]}
tables:
  labs:
    files: labs.csv
    subject: [Clinic, Number]
    time: static
    time_zone: UTC
    only: {state: [no, 0123]}
    events:
      - {code_column: test, value: result, codes: {no: LOINC//1-8, 1e5: x}}
  more:
    files: [a.csv, b.csv]
    subject: Patient  ID
    time: {column: [day, hour], format: day-first}
    separator: tab
    events: [{code: crea, vocabulary: http://loinc.org, number: x}, {code: MEDS_DEATH, time: died}]
"""


def test_a_mapping_is_read_with_its_defaults_and_every_text_as_written() -> None:
    labs, more = parse_mapping(GOOD).tables.values()
    assert (labs.time_zone, more.time_zone, labs.missing) == ("UTC", "Europe/Berlin", ("NA", "-9"))
    assert labs.only == {"state": ("no", "0123")}
    assert labs.events[0].codes == {"no": "LOINC//1-8", "1e5": "x"}
    assert (labs.subject, more.subject, more.dialect.separator) == (("clinic", "number"), ("patient id",), "\t")
    assert [event.constant for event in more.events] == ["LOINC//crea", "MEDS_DEATH"]
    assert more.used == ["day", "died", "hour", "patient id", "x"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("separator: tab", "separator: [a]", "tables.more.separator: Input should be a valid string"),
        ("subject: [Clinic, Number]", "", "tables.labs.subject: is missing; add it"),
        ("value: result", "valeu: result", "tables.labs.events.0.valeu: unknown key here; did you mean value?"),
        ("value: result", "unit: mg", "tables.labs.events.0: a unit belongs to a number or a value; name that column"),
        ("value: result", "value: a, number: b", "give either number (must be one) or value"),
        ("code_column: test, ", "", "give either code (the same in every row) or code_column"),
        ("time: static", "", "tables.labs: time is missing; name the column, or write `time: static`"),
        ("format: day-first", "format: dd.mm.yyyy", "time.format: is no format of times; give one of iso, day-first"),
        ("Europe/Berlin", "Berlin", "is no IANA time zone; give one such as Europe/Berlin"),
        ("time_zone: UTC", "encoding: klingon", "tables.labs.encoding: is no encoding of text; give one such as utf-8"),
        ("time_zone: UTC", "decimal: x", "tables.labs.decimal: Input should be '.' or ','"),
        ("time_zone: UTC", "decimal: '.'\n    thousands: '.'", "decimal and thousands must be two different signs"),
        ("time_zone: UTC", "version: changed", "version and deleted need a key"),
        ("time_zone: UTC", "skip_rows: many", "tables.labs.skip_rows: Input should be a valid integer"),
        ("defaults: {", "defaults: {files: x, ", "defaults: may hold only"),
        ("code: crea", "code: CARELOOP//PREDICTION//x", "are written by careloop itself; choose another"),
        ("more:", "labs:", "no YAML: the key 'labs' is there twice; correct it"),
        ("tables:", "tables: [", "no YAML"),
        ("tables:", "table:", "table: unknown key here; did you mean tables?"),
    ],
)
def test_what_is_wrong_is_said_with_file_key_and_remedy(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = tmp_path / "mapping.yaml"
    file.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        read_mapping(file)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{file}")
    assert "\n" not in str(caught.value)


def test_no_file_and_no_mapping(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such mapping file; write a first one with --suggest"):
        read_mapping(tmp_path / "none.yaml")
    alias = (b"a: &a [*a]", b"tables: &t {x: *t}", b"tables: &t [*t]")
    for content in (b"", b"[]", b"\xff\xfe\x00", b"tables: {a: 1}", b"? [a]\n: b", *alias):
        (tmp_path / "mapping.yaml").write_bytes(content)
        with pytest.raises(InputError):
            read_mapping(tmp_path / "mapping.yaml")


SIGNS = [*"?-[]{}:,|>'#~0", "&a", "*a", "!!x", "static", "%Y", "%Q", "-1"]
WORDS = st.sampled_from([*GOOD.split(), *SIGNS, "\n", "\n  ", "\n    "])


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(max_size=80)
    | st.lists(WORDS, max_size=20).map(" ".join)
    | st.tuples(st.integers(0, len(GOOD)), WORDS, st.integers(0, 12)).map(
        lambda cut: f"{GOOD[: cut[0]]}{cut[1]}{GOOD[cut[0] + cut[2] :]}"
    )
)
def test_any_text_is_a_mapping_or_a_one_line_error(text: str) -> None:
    assert "\n" not in refusal_of(text)


@settings(max_examples=100, deadline=None)
@example("%3")
@given(st.text(st.sampled_from("%YmdHMSyBbpfzZ:.- +#3jsTIQ\\"), max_size=8))
def test_any_pattern_of_times_is_taken_or_refused(pattern: str) -> None:
    said = refusal_of(GOOD.replace("day-first", f"'{pattern}'"))
    assert not said or "time.format: is no format of times" in said


def refusal_of(text: str) -> str:
    try:
        parse_mapping(text)
    except InputError as error:
        return str(error)
    return ""
