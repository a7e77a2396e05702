"""Suggested mappings: tables that nobody described are read with them; what is doubtful is said, not guessed."""

from __future__ import annotations

import csv
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.ingest import load
from careloop.ingest.delivery import Batch
from careloop.ingest.tabular import suggest_mapping, tabular_sources
from careloop.ingest.tabular.header_words import role_of
from careloop.ingest.tabular.look import guess_encoding
from careloop.ingest.tabular.mapping_file import parse_mapping
from careloop.record import Record


def suggested(*paths: Path, **edits: str) -> tuple[str, list[Batch]]:
    """The suggested mapping, and all that is read with it after the edits (old=new words)."""
    text = suggest_mapping(paths)
    assert suggest_mapping(paths) == text
    for old, new in edits.items():
        assert old in text
        text = text.replace(old, new)
    mapping = paths[0].parent / "mapping.yaml"
    mapping.write_text(text, encoding="utf-8")
    batches = [batch for source in tabular_sources(paths, mapping) for batch in source.read()]
    assert not [reject for batch in batches for reject in batch.rejected]
    return text, batches


def counts(batches: list[Batch]) -> Counter[str]:
    return Counter(code for batch in batches for code in batch.events["code"])


def rows(batches: list[Batch], *names: str) -> list[tuple[object, ...]]:
    return [row for batch in batches for row in batch.events.select(names).rows()]


def test_actg175_without_an_edit(tmp_path: Path) -> None:
    """A real trial: 2,139 people; what happened after randomisation is not taken for a baseline fact."""
    datasets = pytest.importorskip("lifelines.datasets")
    original = Path(datasets.__file__).parent / "ACTG175.csv"
    file = tmp_path / "ACTG175.csv"
    file.write_bytes(original.read_bytes())
    text, batches = suggested(file)
    with original.open(newline="") as opened:
        people = list(csv.DictReader(opened))
    found = counts(batches)
    assert found["LOCAL//age"] == found["LOCAL//cd40"] == len(people) == 2139
    assert found["LOCAL//cd496"] == sum(row["cd496"] not in {"", "NA"} for row in people)
    weights = {row["pidnum"]: float(row["wtkg"]) for row in people}
    read = pl.concat([batch.events for batch in batches]).filter(code="LOCAL//wtkg")
    assert dict(read.select("subject", "numeric_value").rows()) == pytest.approx(weights, rel=1e-6)
    assert not {"LOCAL//days", "LOCAL//cens", "LOCAL//offtrt"} & set(found)
    assert "left out: days: may be an outcome" in text
    assert "time: static  # check: no column with a date was found" in text


LONG = """SubjectID,collected_at,result_time,loinc,test_name,result,units,order_id,Patient Name,ward
1,2020-01-01 08:00,2020-01-01 10:00,2160-0,Creatinine,1.1,mg/dL,101,A B,x
1,2020-01-02 08:00,2020-01-02 10:00,2823-3,Potassium,<3.5,mmol/L,102,A B,x
2,2020-01-03 08:00,2020-01-03 10:00,2160-0,Creatinine,see note,mg/dL,103,C D,y
"""


def test_long_table(tmp_path: Path) -> None:
    (tmp_path / "labs.csv").write_text(LONG)
    text, batches = suggested(tmp_path / "labs.csv")
    assert rows(batches, "subject", "code", "numeric_value", "unit", "text_value", "source") == [
        ("1", "LOINC//2160-0", pytest.approx(1.1), "mg/dL", None, "TABLE//labs//101"),
        ("1", "LOINC//2823-3", 3.5, "mmol/L", "<", "TABLE//labs//102"),
        ("2", "LOINC//2160-0", None, None, "see note", "TABLE//labs//103"),
    ]
    times = (datetime(2020, 1, 1, 8, tzinfo=UTC), datetime(2020, 1, 1, 10, tzinfo=UTC))
    assert rows(batches, "time", "known_time")[0] == times
    assert batches[0].codes.rows() == [("LOINC//2160-0", "Creatinine"), ("LOINC//2823-3", "Potassium")]
    assert "left out: Patient Name: may identify a person" in text


def test_wide_table_in_german_with_facts_about_people_in_each_row(tmp_path: Path) -> None:
    lines = [
        "Fallnummer;PatNr;Nachname;Geburtsdatum;Geschlecht;Untersuchungsdatum;Kreatinin (mg/dl);Raucher;Bemerkung",
        "7001;12;Müller;24.12.1950;w;05.01.2020;1,25;ja;",
        "7002;12;Müller;24.12.1950;w;06.02.2020;1.180,5;nein;",
        "7003;13;Weiß;01.02.1960;m;31.03.2020;0,9;ja;",
    ]
    (tmp_path / "Befunde.csv").write_bytes("\r\n".join(lines).encode("cp1252"))
    text, batches = suggested(tmp_path / "Befunde.csv", **{"UTC": "Europe/Berlin"})
    assert rows(batches, "subject", "code", "numeric_value", "unit", "text_value") == [
        ("12", "LOCAL//kreatinin", 1.25, "mg/dl", None),
        ("12", "LOCAL//raucher", None, None, "ja"),
        ("12", "LOCAL//kreatinin", 1180.5, "mg/dl", None),
        ("12", "LOCAL//raucher", None, None, "nein"),
        ("13", "LOCAL//kreatinin", pytest.approx(0.9), "mg/dl", None),
        ("13", "LOCAL//raucher", None, None, "ja"),
        ("12", "MEDS_BIRTH", None, None, None),
        ("12", "GENDER//F", None, None, None),
        ("13", "MEDS_BIRTH", None, None, None),
        ("13", "GENDER//M", None, None, None),
    ]
    assert rows(batches, "time")[0] == (datetime(2020, 1, 4, 23, tzinfo=UTC),)
    assert "dates: day-first" in text
    assert "Müller" not in text
    assert "left out: Nachname: may identify a person" in text


def test_parquet_excel_and_parts_of_a_table(tmp_path: Path) -> None:
    vitals = pl.DataFrame(
        {"mrn": ["a", "b"], "charttime": [datetime(2020, 1, 1, 9), datetime(2020, 1, 2)], "hr": [80, 81]}
    )
    for part in (1, 2):
        vitals.write_parquet(tmp_path / f"vitals_{part}.parquet")
    text, batches = suggested(tmp_path)
    assert 'files: "vitals_*.parquet"' in text
    assert counts(batches) == {"LOCAL//hr": 4}
    xlsxwriter = pytest.importorskip("xlsxwriter")
    pytest.importorskip("fastexcel")
    with xlsxwriter.Workbook(tmp_path / "book.xlsx") as book:
        sheet, day = book.add_worksheet("Labs"), book.add_format({"num_format": "yyyy-mm-dd"})
        sheet.write(0, 0, "All values of 2020")
        sheet.write_row(2, 0, ["Patient ID", "Date", "Sodium [mmol/L]"])
        for row in range(3, 6):
            sheet.write(row, 0, row)
            sheet.write_datetime(row, 1, datetime(2020, 1, row), day)
            sheet.write(row, 2, 130 + row)
    text, batches = suggested(tmp_path / "book.xlsx")
    assert "skip_rows: 2" in text
    assert rows(batches, "subject", "time", "code", "numeric_value", "unit") == [
        (str(n), datetime(2020, 1, n, tzinfo=UTC), "LOCAL//sodium", 130.0 + n, "mmol/L") for n in range(3, 6)
    ]


def test_chinese_table_in_its_old_encoding(tmp_path: Path) -> None:
    lines = [
        "患者编号,姓名,检验项目,结果,单位,报告时间,采集时间",
        "1,张三,血红蛋白,130,g/L,2020-01-02 10:00,2020年1月2日 08:00",
        "2,李四,白细胞,<60,g/L,2020-01-02 10:00,2020年1月2日 08:00",
    ]
    (tmp_path / "lab.csv").write_bytes("\n".join(lines).encode("gb18030"))
    text, batches = suggested(tmp_path / "lab.csv")
    assert "encoding: gb18030" in text
    assert "张三" not in text
    assert rows(batches, "subject", "code", "numeric_value", "text_value") == [
        ("1", "LOCAL//血红蛋白", 130.0, None),
        ("2", "LOCAL//白细胞", 60.0, "<"),
    ]


def test_diagnoses_of_stays_with_an_end(tmp_path: Path) -> None:
    (tmp_path / "dx.csv").write_text(
        "pid,code,start_date,end_date\n1,I50.9,2020-01-01,2020-02-01\n1,E11.9,2020-01-01,\n2,J18.9,2020-03-01,9999-12-31\n"
    )
    _, batches = suggested(tmp_path / "dx.csv")
    assert counts(batches) == {f"ICD10//{c}": 1 for c in ("I50.9", "E11.9", "J18.9")} | {"RESOLVED//ICD10//I50.9": 1}


def test_drugs_keep_those_without_a_dose(tmp_path: Path) -> None:
    (tmp_path / "drugs.txt").write_text(
        "pat_id|drug|atc_code|start_date|end_date|dose|dose_unit\n"
        "1|Metformin|A10BA02|2020-01-01||500|mg\n2|ASS|B01AC06|2020-01-01|2020-02-01||\n"
    )
    _, batches = suggested(tmp_path / "drugs.txt")
    assert rows(batches, "subject", "code", "numeric_value", "unit") == [
        ("1", "ATC//A10BA02", 500.0, "mg"),
        ("2", "ATC//B01AC06", None, None),
        ("2", "STOPPED//ATC//B01AC06", None, None),
    ]


def test_years_of_two_digits(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("pid,date,hb\n1,13/04/20,13\n2,05/06/20,14\n")
    text, batches = suggested(tmp_path / "a.csv")
    assert rows(batches, "time")[0] == (datetime(2020, 4, 13, tzinfo=UTC),)
    assert "years have two digits" in text
    (tmp_path / "a.csv").write_text("pid,date,hb\n1,03/04/20,13\n2,05/06/20,14\n")
    with pytest.raises(InputError, match="is no format of times"):
        parse_mapping(suggest_mapping([tmp_path / "a.csv"]))


def test_a_column_called_id_may_be_the_patient(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("ID,date,hb\n1,2020-01-01,13\n1,2020-01-02,14\n")
    text, batches = suggested(tmp_path / "a.csv")
    assert "subject: ID  # check: is this the patient's number?" in text
    assert counts(batches) == {"LOCAL//hb": 2}
    (tmp_path / "a.csv").write_text("ward,hb\nx,13\n")
    with pytest.raises(InputError, match="tables: there is none; describe one"):
        parse_mapping(suggest_mapping([tmp_path / "a.csv"]))


AMBIGUOUS = "pid,date,hb\n1,03/04/2020,13\n2,05/06/2020,14\n"


def test_the_order_of_day_and_month_is_never_guessed(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text(AMBIGUOUS)
    text = suggest_mapping([file])
    assert "dates: TODO  # check: dates such as 03/04/2020 only: write day-first or month-first" in text
    with pytest.raises(InputError, match="dates: is no format of times; give one of iso, day-first, month-first"):
        parse_mapping(text)
    for order, month in (("day-first", 4), ("month-first", 3)):
        _, batches = suggested(file, TODO=order)
        assert rows(batches, "time")[0] == (datetime(2020, month, 7 - month, tzinfo=UTC),)
    file.write_text(AMBIGUOUS + "3,05/13/2020,14\n")
    assert "dates: month-first\n" in suggest_mapping([file])


def test_numbers_that_may_mean_two_things_are_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('pid;day;platelets\n1;2020-01-01;"1,234"\n2;2020-01-02;"2,345"\n')
    assert "# check: 1,234 may be 1234 (thousands: ',') or 1.234" in suggest_mapping([tmp_path])


def test_a_table_without_a_patient_is_a_comment_and_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "wards.csv").write_text("ward,beds\nx,10\ny,12\n")
    (tmp_path / "labs.csv").write_text(LONG)
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    text, _ = suggested(tmp_path)
    assert list(parse_mapping(text).tables) == ["labs"]
    assert "# check: no column names the patient" in text
    assert "left out: broken.parquet: no rows that can be read" in text


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("PATIENT_ID", "subject"), ("PatNr", "subject"), ("usubjid", "subject"), ("N° IPP", "subject"),
        ("DateOfBirth", "birth"), ("Geburtsdatum", "birth"), ("Fecha de nacimiento", "birth"),
        ("date de décès", "death"), ("Geschlecht", "sex"), ("sexo", "sex"), ("charttime", "time"),
        ("fecha toma", "time"), ("Abnahmezeitpunkt", None), ("Einheit", "unit"), ("valueuom", "unit"),
        ("Messwert", "value"), ("résultat", "value"), ("检验结果", "value"), ("first_name", "private"),
        ("Telefon", "private"), ("survival time", "outcome"), ("Kreatinin", None),
        ("stress test", None), ("care unit", None), ("dose unit", "unit"), ("smoking status", None),
    ],
)  # fmt: skip
def test_words_of_headers(name: str, role: str | None) -> None:
    found = role_of(name)
    assert (found.role if found else None) == role


def test_encodings_that_must_be_named() -> None:
    german = "Größe;Übelkeit;für;Straße\n" * 20
    chinese = "患者编号,血红蛋白,正常\n" * 20
    assert guess_encoding(german.encode("cp1252")) is None
    assert guess_encoding(german.encode()) is None
    assert guess_encoding(chinese.encode()) is None
    assert guess_encoding(chinese.encode("utf-16")) is None
    assert guess_encoding(german.encode("utf-16-le")) == "utf-16-le"
    assert guess_encoding(german.encode("utf-16-be")) == "utf-16-be"
    assert guess_encoding(chinese.encode("gb18030")) == "gb18030"


def test_a_suggested_mapping_goes_into_a_record_and_a_correction_replaces(tmp_path: Path) -> None:
    folder = tmp_path / "delivered"
    folder.mkdir()
    (folder / "labs.csv").write_text(LONG)
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(suggest_mapping([folder]))
    record = Record.create(tmp_path / "record")
    load(record, tabular_sources([folder], mapping))
    again = load(Record.open(tmp_path / "record"), tabular_sources([folder], mapping))
    assert again.events_added == 0
    (folder / "labs.csv").write_text(LONG.replace("1.1,mg/dL", "1.4,mg/dL").replace("see note", ""))
    load(Record.open(tmp_path / "record"), tabular_sources([folder], mapping))
    stored = Record.open(tmp_path / "record").events().collect()
    assert sorted(stored["numeric_value"]) == [pytest.approx(1.4), 3.5]


HEADERS = st.lists(
    st.sampled_from(
        ["patient_id", "date", "dob", "sex", "value", "unit", "code", "name", "dead", "", '"', "x (mg)", "时间"]
    ),
    min_size=1,
    max_size=6,
)
CELLS = st.sampled_from(
    [
        "1",
        "2.5",
        "1,5",
        "NA",
        "",
        "03/04/2020",
        "31.12.2019",
        "2020-01-01",
        "I50.9",
        "m",
        "4.4.20",
        '"',
        "é",
        "9:30",
        "\x85",
    ]
)


@settings(max_examples=120, deadline=None)
@given(
    content=st.binary(max_size=200)
    | st.tuples(HEADERS, st.lists(st.lists(CELLS, max_size=6), max_size=6), st.sampled_from(",;\t|")).map(
        lambda table: "\n".join(table[2].join(row) for row in (table[0], *table[1])).encode()
    ),
    name=st.sampled_from(["x.csv", "x 1.csv.gz", "[x]*.tsv", "x.parquet", "x.xlsx", "'.csv", "ü: #.txt"]),
)
def test_any_bytes_give_a_mapping(tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str) -> None:
    file = tmp_path_factory.mktemp("bytes") / name
    file.write_bytes(content)
    text = suggest_mapping([file])
    try:
        parse_mapping(text)
    except InputError as error:
        assert "# check:" in text
        assert "tables" in str(error)  # noqa: PT017
        return
    mapping = file.parent / "mapping.yaml"
    mapping.write_text(text, encoding="utf-8")
    for source in tabular_sources([file], mapping):
        for batch in source.read():
            assert batch.rows_read == batch.rows_kept + len(batch.rejected) + sum(batch.skipped.values())
