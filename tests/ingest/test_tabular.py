"""Tables by a mapping: what was put into a file comes out as events; what is broken is a reject at its line."""

from __future__ import annotations

import gzip
import random
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.ingest.delivery import ARRIVING, CODES, WITHDRAWN, Batch, Reject
from careloop.ingest.tables import delimited
from careloop.ingest.tabular import tabular_sources
from careloop.record.schema import EVENTS, conform

LONG = """
defaults: {time_zone: Europe/Berlin, decimal: ",", thousands: ".", dates: day-first}
tables:
  lab:
    files: lab*.csv*
    subject: PatNr
    time: [Datum, Uhrzeit]
    events:
      - {code_column: Test, value: Wert, unit_column: Einheit}
"""
GERMAN = """PatNr;Datum;Uhrzeit;Test;Wert;Einheit
001;05.01.2020;09:30;Kreatinin;1,25;mg/dl
001;05.07.2020;9:45;Größe;<1.180,5;mm
002;31.12.2019;;CRP;12 mg/L;
002;31.12.2019;10:00;Kultur;negativ;
"""


def read(mapping: str, *paths: Path) -> list[Batch]:
    """All batches; each adds up and has the columns and types of the contract."""
    file = paths[0].parent / "mapping.yaml"
    file.write_text(mapping, encoding="utf-8")
    batches = [batch for source in tabular_sources(paths, file) for batch in source.read()]
    for batch in batches:
        assert batch.rows_read == batch.rows_kept + len(batch.rejected) + sum(batch.skipped.values())
        assert dict(batch.events.schema).items() <= ARRIVING.items()
        assert batch.withdrawn.schema == WITHDRAWN
        assert batch.codes.schema == CODES
        assert batch.events["subject"].null_count() == batch.events["source"].null_count() == 0
        stored = batch.events.select(name for name in EVENTS if name in batch.events.columns)
        conform(stored.with_columns(subject_id=pl.lit(1)))  # the record takes them as they are
    return batches


def events(batches: Sequence[Batch], *names: str) -> list[tuple[object, ...]]:
    return [row for batch in batches for row in batch.events.select(names).rows()]


def rejects(batches: Sequence[Batch]) -> list[Reject]:
    return [reject for batch in batches for reject in batch.rejected]


def test_long_table_as_a_german_spreadsheet_exports_it(tmp_path: Path) -> None:
    (tmp_path / "lab.csv").write_bytes(GERMAN.encode("cp1252"))
    batches = read(LONG, tmp_path)
    assert events(batches, "subject", "code", "numeric_value", "unit", "text_value") == [
        ("001", "LOCAL//kreatinin", 1.25, "mg/dl", None),
        ("001", "LOCAL//größe", 1180.5, "mm", "<"),
        ("002", "LOCAL//crp", 12.0, "mg/L", None),
        ("002", "LOCAL//kultur", None, None, "negativ"),
    ]
    assert events(batches, "time", "known_time") == [
        (datetime(2020, 1, 5, 8, 30, tzinfo=UTC), datetime(2020, 1, 5, 8, 30, tzinfo=UTC)),
        (datetime(2020, 7, 5, 7, 45, tzinfo=UTC), datetime(2020, 7, 5, 7, 45, tzinfo=UTC)),
        (datetime(2019, 12, 30, 23, tzinfo=UTC), datetime(2019, 12, 31, 22, 59, 59, tzinfo=UTC)),
        (datetime(2019, 12, 31, 9, tzinfo=UTC), datetime(2019, 12, 31, 9, tzinfo=UTC)),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_and_compression_change_nothing(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "lab.csv").write_text(GERMAN, encoding="utf-8")
    wanted = read(LONG, tmp_path / "lab.csv")[0].events
    (tmp_path / "lab.csv").unlink()
    (tmp_path / "lab.csv.gz").write_bytes(gzip.compress(GERMAN.encode(encoding)))
    assert read(LONG, tmp_path / "lab.csv.gz")[0].events.equals(wanted)


def test_gb18030_is_read_where_the_mapping_says_so(tmp_path: Path) -> None:
    (tmp_path / "lab.csv").write_bytes("患者编号,项目,结果\n1,血红蛋白,130\n".encode("gb18030"))
    mapping = """
tables:
  lab:
    {files: lab.csv, encoding: gb18030, subject: 患者编号, time: static, events: [{code_column: 项目, number: 结果}]}
"""
    assert events(read(mapping, tmp_path), "subject", "code", "numeric_value") == [("1", "LOCAL//血红蛋白", 130.0)]


WIDE = """
tables:
  visits:
    files: [visits.csv, visits.parquet]
    subject: [site, person]
    time: {column: day, time_zone: America/New_York}
    known_time: reported
    events:
      - {code: 2160-0, vocabulary: http://loinc.org, number: crea, unit: mg/dL}
      - {code: LOCAL//smoker, text: smoker}
      - {code: MEDS_BIRTH, time: born}
      - {code_column: sex, vocabulary: GENDER, codes: {w: F, m: GENDER//M}, time: static}
      - {code_column: icd, vocabulary: http://hl7.org/fhir/sid/icd-10-cm}
      - {code_column: icd, vocabulary: ICD10CM, prefix: RESOLVED, time: until}
"""
VISITS = {
    "site": ["A", "A"],
    "person": [7, 8],
    "day": [date(2020, 1, 1), date(2020, 1, 2)],
    "reported": [datetime(2020, 1, 3, 12), None],
    "crea": [1.5, None],
    "smoker": ["no", None],
    "born": [date(1950, 3, 4), None],
    "sex": ["w", "m"],
    "icd": ["I50.9", None],
    "until": [datetime(2020, 2, 1), None],
}


def test_wide_table_with_facts_codes_and_ends(tmp_path: Path) -> None:
    pl.DataFrame(VISITS).write_csv(tmp_path / "visits.csv")
    batches = read(WIDE, tmp_path / "visits.csv")
    known = datetime(2020, 1, 3, 12, tzinfo=UTC)
    day = datetime(2020, 1, 1, 5, tzinfo=UTC)
    assert events(batches, "subject", "code", "time", "known_time", "numeric_value", "unit", "text_value") == [
        ("A/7", "LOINC//2160-0", day, known, 1.5, "mg/dL", None),
        ("A/7", "LOCAL//smoker", day, known, None, None, "no"),
        (
            "A/7",
            "MEDS_BIRTH",
            datetime(1950, 3, 4, tzinfo=UTC),
            datetime(1950, 3, 4, 23, 59, 59, tzinfo=UTC),
            *[None] * 3,
        ),
        ("A/7", "GENDER//F", None, None, None, None, None),
        ("A/7", "ICD10CM//I50.9", day, known, None, None, None),
        ("A/7", "RESOLVED//ICD10CM//I50.9", *[datetime(2020, 2, 1, tzinfo=UTC)] * 2, None, None, None),
        ("A/8", "GENDER//M", None, None, None, None, None),
    ]
    assert batches[0].codes.rows() == [("LOINC//2160-0", "crea")]


def test_parquet_gives_the_events_of_the_same_csv(tmp_path: Path) -> None:
    pl.DataFrame(VISITS).write_csv(tmp_path / "visits.csv")
    pl.DataFrame(VISITS).write_parquet(tmp_path / "visits.parquet")
    of_csv, of_parquet = (read(WIDE, tmp_path / name)[0].events for name in ("visits.csv", "visits.parquet"))
    assert of_parquet.drop("source").equals(of_csv.drop("source"))


SHEET = """
tables:
  labs:
    {files: "*.xlsx", sheet: Labor, skip_rows: 1, header_rows: 2, decimal: ",", time_zone: Europe/Berlin,
     subject: pid, time: [date, clock],
     events: [{code: LOCAL//crea, value: lab crea, unit: mg/dL}, {code: LOCAL//urea, number: lab urea}]}
"""


def write_sheet(file: Path) -> None:
    """A title, a header of two rows with merged cells, dates, clock times, and numbers among texts."""
    xlsxwriter = pytest.importorskip("xlsxwriter")
    with xlsxwriter.Workbook(file) as book:
        book.add_worksheet("Info").write(0, 0, "nothing")
        sheet = book.add_worksheet("Labor")
        day, clock = (book.add_format({"num_format": form}) for form in ("dd.mm.yyyy", "hh:mm"))
        sheet.write(0, 0, "Laboratory values of ward 1")
        sheet.merge_range(1, 3, 1, 4, "Lab")
        sheet.write_row(2, 0, ["pid", "date", "clock", "crea", "urea"])
        for row, crea in ((3, "<0,5"), (4, 1.5), (6, 2)):
            sheet.write(row, 0, row)
            sheet.write_datetime(row, 1, datetime(2020, 1, row), day)
            sheet.write_datetime(row, 2, datetime(1899, 12, 31, 9, 30), clock)
            sheet.write(row, 3, crea)
            sheet.write(row, 4, row * 2.25)


def test_excel(tmp_path: Path) -> None:
    pytest.importorskip("fastexcel")
    write_sheet(tmp_path / "labs.xlsx")
    batches = read(SHEET, tmp_path / "labs.xlsx")
    assert events(batches, "subject", "time", "code", "numeric_value", "text_value") == [
        (str(row), datetime(2020, 1, row, 8, 30, tzinfo=UTC), f"LOCAL//{code}", number, text)
        for row, crea, sign in ((3, 0.5, "<"), (4, 1.5, None), (6, 2.0, None))
        for code, number, text in (("crea", crea, sign), ("urea", row * 2.25, None))
    ]
    assert not rejects(batches)


BROKEN = [
    ("1;x1;2020-01-01;5", None),
    ("2;x1;2020-01-01", "another number of cells than the header has"),
    ("3;;2020-01-01;5", "who is missing"),
    ("4;x1;2020-13-01;5", "day is no time from 1851 to 2148 in the given format"),
    ("5;x1;;5", "day is missing"),
    ("6;x1;2020-01-01;five", "v is no number"),
    ("7;x1;2020-01-01;NA", None),
    ('8;x1;2020-01-01;"5', "another number of cells than the header has"),
    ('9;"x\n2";2020-01-01;"6"', None),
    ("10;x1;1/1/2020;5", "day is no time from 1851 to 2148 in the given format"),
    ("11;x1;2020-01-01;7", None),
]
STRICT = """
tables:
  t: {files: t.csv*, subject: who, time: day, events: [{code: LOCAL//v, number: v}]}
"""


def test_broken_rows_are_rejects_with_their_line_and_the_rest_goes_in(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("no;who;day;v\n" + "\n".join(row for row, _ in BROKEN) + "\n")
    batches = read(STRICT, tmp_path / "t.csv")
    found = {reject.place: reject.reason for reject in rejects(batches)}
    lines = [2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13]
    assert found == {f"t.csv line {n}": why for n, (_, why) in zip(lines, BROKEN, strict=True) if why}
    assert [value for (value,) in events(batches, "numeric_value")] == [5.0, 6.0, 7.0]
    assert next(reject.raw for reject in rejects(batches) if "missing" in reject.reason).startswith('{"no":"3"')
    assert dict(batches[0].skipped) == {"t: no event in the row": 1}


def test_cut_off_gz_keeps_what_was_whole(tmp_path: Path) -> None:
    text = "who;day;v\n" + "".join(f"{i};2020-01-01;{i * 7919 % 1000}\n" for i in range(200_000))
    packed = gzip.compress(text.encode())
    (tmp_path / "t.csv.gz").write_bytes(packed[: len(packed) // 2])
    batches = read(STRICT, tmp_path / "t.csv.gz")
    values = [value for (value,) in events(batches, "numeric_value")]
    assert values == [float(i * 7919 % 1000) for i in range(len(values))]
    assert 50_000 < len(values) < 150_000
    assert [reject.reason for reject in rejects(batches)] == ["file ends early"]


def test_mixed_encodings_in_one_file(tmp_path: Path) -> None:
    lines = [b"PatNr;Datum;Uhrzeit;Test;Wert;Einheit", "1;05.01.2020;9:00;Größe;1;".encode()]
    (tmp_path / "lab.csv").write_bytes(b"\n".join([*lines, "2;05.01.2020;9:00;Größe;1;".encode("cp1252")]))
    assert events(read(LONG, tmp_path), "code") == [("LOCAL//größe",)] * 2


def test_two_tables_in_two_time_zones_and_a_time_with_its_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("p,t\n1,2020-01-01 12:00\n1,2020-01-01T12:00:00+05:30\n")
    table = "{files: %s.csv, subject: p, time: t, time_zone: %s, events: [{code: LOCAL//x}]}"
    mapping = f"tables:\n  a: {table % ('a', 'Europe/Berlin')}\n  b: {table % ('b', 'America/New_York')}\n"
    hours = [time.hour + time.minute / 60 for (time,) in events(read(mapping, tmp_path), "time")]
    assert hours == [11, 6.5, 17, 6.5]


KEYED = """
tables:
  r:
    files: "*.csv"
    subject: p
    time: t
    key: id
    version: changed
    deleted: {column: state, values: [deleted]}
    skip: {state: "void*"}
    only: {kind: [lab, ""]}
    events: [{code: LOCAL//x, value: v}]
"""


def test_keys_versions_withdrawn_and_excluded_rows(tmp_path: Path) -> None:
    rows = [
        "1,a,2020-01-01,lab,ok,5,2020-01-02",
        "1,a,2020-01-01,lab,ok,6,2020-01-03",
        "2,a,2020-01-01,lab,deleted,5,2020-01-04",
        "3,a,2020-01-01,lab,voided,5,2020-01-05",
        "4,a,2020-01-01,other,ok,5,2020-01-06",
        "5,a,2020-01-01,,ok,,2020-01-07",
        ",a,2020-01-01,lab,deleted,5,2020-01-04",
    ]
    (tmp_path / "r.csv").write_text("id,p,t,kind,state,v,changed\n" + "\n".join(rows) + "\n")
    (batch,) = read(KEYED, tmp_path)
    day = [datetime(2020, 1, n, tzinfo=UTC) for n in range(1, 9)]
    assert events([batch], "source", "numeric_value", "source_time") == [
        ("TABLE//r//1", 5.0, day[1]),
        ("TABLE//r//1", 6.0, day[2]),
    ]
    assert batch.withdrawn.rows() == [("TABLE//r//2", day[3]), ("TABLE//r//3", day[4]), ("TABLE//r//5", day[6])]
    assert (batch.rows_kept, [reject.reason for reject in batch.rejected]) == (3, ["key is missing in a deleted row"])
    assert dict(batch.skipped) == {"r: no event in the row": 1, "r: left out by the mapping's only or skip": 2}


def test_rows_that_share_a_key_are_told_apart_and_equal_rows_are_one(tmp_path: Path) -> None:
    mapping = "tables:\n  r: {files: r.csv, subject: p, key: id, time: static, events: [{code: LOCAL//x, value: v}]}\n"
    (tmp_path / "r.csv").write_text("id,p,v,w\n1,a,5,1\n1,a,6,1\n2,a,7,1\n2,a,7,2\n")
    (batch,) = read(mapping, tmp_path / "r.csv")
    sources = batch.events["source"].to_list()
    assert len(set(sources)) == len(sources) == 3
    assert sources[2] == "TABLE//r//2"
    assert batch.withdrawn["source"].to_list() == ["TABLE//r//1"]
    assert batch.rows_kept == 4


def test_without_a_key_a_row_is_known_by_what_the_mapping_reads_of_it(tmp_path: Path) -> None:
    mapping = (
        "tables:\n  r: {files: r.csv, subject: p, origin: trial, time: static, events: [{code: LOCAL//x, value: v}]}\n"
    )
    (tmp_path / "r.csv").write_text("p,v\n1,5\n1,6\n")
    first = read(mapping, tmp_path / "r.csv")[0].events
    (tmp_path / "r.csv").write_text("more,v,p\nx,6,1\ny,7,1\n")
    second = read(mapping, tmp_path / "r.csv")[0].events
    assert set(first["source"]) & set(second["source"]) == {first["source"][1]}
    assert first["source"][0].startswith("TABLE//trial//r/")
    assert set(first["subject"]) == {"trial:1"}


@settings(max_examples=25, deadline=None)
@given(st.randoms(use_true_random=False), st.booleans())
def test_the_order_of_rows_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, rng: random.Random, keyed: bool
) -> None:
    folder = tmp_path_factory.mktemp("order")
    rows = [f"{i % 7},{i % 3},2020-01-{1 + i % 5:02},{i % 4}" for i in range(40)]
    mapping = (
        "tables:\n  r:\n    {files: r.csv, subject: p, time: t, events: [{code: LOCAL//x, value: v}]"
        + (", key: id" if keyed else "")
        + "}\n"
    )

    def found() -> pl.DataFrame:
        (folder / "r.csv").write_text("id,p,t,v\n" + "\n".join(rows))
        all_of_it = pl.concat([batch.events.drop("row") for batch in read(mapping, folder / "r.csv")])
        return all_of_it.sort(pl.all())

    before = found()
    rng.shuffle(rows)
    assert found().equals(before)


def test_a_file_without_a_column_of_the_mapping_is_one_reject(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("who;date;v\n1;2020-01-01;5\n")
    (reject,) = rejects(read(STRICT, tmp_path / "t.csv"))
    assert (reject.place, reject.reason) == ("t.csv header", "the file has no column day, which the mapping names")


def test_files_without_a_table_are_refused_where_they_were_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("who;day;v\n1;2020-01-01;5\n")
    (tmp_path / "other.csv").write_text("a\n1\n")
    assert len(read(STRICT, tmp_path)) == 1
    with pytest.raises(InputError, match=r"no table's files pattern fits other\.csv"):
        read(STRICT, tmp_path / "t.csv", tmp_path / "other.csv")
    with pytest.raises(InputError, match="no such file or folder"):
        read(STRICT, tmp_path / "missing.csv")
    (tmp_path / "note.pdf").write_text("x")
    with pytest.raises(InputError, match="no table here"):
        read(STRICT, tmp_path / "note.pdf")


ALL_KEYS = """
tables:
  t:
    files: ["*"]
    subject: [a, b]
    key: b
    version: c
    deleted: d
    skip: {a: "*x*"}
    time: [c, d]
    known_time: {column: c, format: [excel, "%d.%m.%Y", month-first]}
    events:
      - {code_column: [a, d], vocabulary_column: b, value: b, unit_column: d, text: c, description_column: a}
      - {code: LOCAL//x, number: d, time: {column: c, format: epoch}}
"""
PLAIN = """
tables:
  t: {files: ["*"], columns: [a, b, c], subject: a, time: static, decimal: ",", thousands: ".",
      events: [{code_column: c, value: b}]}
"""


@settings(max_examples=120, deadline=None)
@given(
    content=st.binary(max_size=200)
    | st.text(st.sampled_from('abcd,;"\n 0123456789.-/:<é'), max_size=200).map(lambda t: ("a;b;c;d\n" + t).encode()),
    name=st.sampled_from(["x.csv", "x.csv.gz", "x.tsv", "x.parquet", "x.xlsx", "x.ods"]),
    mapping=st.sampled_from([ALL_KEYS, PLAIN]),
    block=st.sampled_from([20, 1 << 20]),
)
def test_any_bytes_are_events_or_rejects(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str, mapping: str, block: int
) -> None:
    file = tmp_path_factory.mktemp("bytes") / name
    file.write_bytes(content)
    patch = pytest.MonkeyPatch()
    patch.setattr(delimited, "BLOCK_BYTES", block)
    read(mapping, file)
    patch.undo()
