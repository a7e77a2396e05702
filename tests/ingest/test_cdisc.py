"""CDISC: what the rows of SDTM and ADaM mean, and that none is lost without a reason."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.ingest.cdisc import cdisc_sources
from careloop.ingest.cdisc.dates import iso_spans, study_day
from careloop.ingest.delivery import ARRIVING, CODES, WITHDRAWN, Batch

EXAMPLE = Path(__file__).parent / "cdisc_example"
DAY_END = timedelta(days=1, seconds=-1)
DM = {
    "STUDYID": "S1", "DOMAIN": "DM", "USUBJID": "S1-01", "RFSTDTC": "2014-01-02", "RFPENDTC": "2014-07-02T11:45",
    "RFXSTDTC": "2014-01-02T08:00", "RFICDTC": "2013-12-20", "DTHDTC": "", "SITEID": "701", "BRTHDTC": "", "AGE": 63,
    "AGEU": "YEARS", "SEX": "F", "RACE": "WHITE", "ETHNIC": "HISPANIC OR LATINO", "ARMCD": "Pbo", "ARM": "Placebo",
    "ACTARMCD": "Pbo", "ACTARM": "Placebo", "COUNTRY": "USA",
}  # fmt: skip


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def end_of(text: str) -> datetime:
    return at(text) + DAY_END


def write(folder: Path, **datasets: list[dict[str, Any]]) -> Path:
    """Datasets as CSV, under their names."""
    for name, rows in datasets.items():
        pl.DataFrame(rows, infer_schema_length=None).write_csv(folder / f"{name}.csv")
    return folder


def read(path: Path, **choices: Any) -> dict[str, Batch]:
    """All batches of each source as one; what each says of its rows adds up."""
    whole = {}
    for source in cdisc_sources(path, **choices):
        batches = list(source.read())
        for batch in batches:
            assert batch.rows_read == batch.rows_kept + len(batch.rejected) + sum(batch.skipped.values())
            assert batch.events.schema == {name: ARRIVING[name] for name in batch.events.columns}
            assert batch.withdrawn.schema == WITHDRAWN
            assert batch.codes.schema == CODES
            assert not batch.events["code"].null_count()
            assert not (batch.events["known_time"] < batch.events["time"]).any()
        whole[Path(source.name).name.partition(".")[0]] = Batch(
            pl.concat([ARRIVING.to_frame(), *(batch.events for batch in batches)], how="diagonal"),
            sum(batch.rows_read for batch in batches),
            sum(batch.rows_kept for batch in batches),
            [reject for batch in batches for reject in batch.rejected],
            dict(sum((Counter(batch.skipped) for batch in batches), Counter())),
            pl.concat([WITHDRAWN.to_frame(), *(batch.withdrawn for batch in batches)]),
            (),
            pl.concat([CODES.to_frame(), *(batch.codes for batch in batches)]).unique(maintain_order=True),
        )
    return whole


def rows(batch: Batch, *columns: str) -> list[tuple[Any, ...]]:
    return batch.events.select(columns).rows()


def row_of(domain: str, sequence: int = 1, **cells: Any) -> dict[str, Any]:
    plain = {"STUDYID": "S1", "DOMAIN": domain, "USUBJID": "S1-01", f"{domain}SEQ": sequence}
    return plain | {(name if len(name) > 8 else domain + name): value for name, value in cells.items()}


def test_demographics_say_who_and_in_which_arm(tmp_path: Path) -> None:
    batch = read(write(tmp_path, dm=[DM]))["dm"]
    start, treated = at("2014-01-02"), at("2014-01-02T08:00")
    assert rows(batch, "code", "time", "known_time") == [
        ("MEDS_BIRTH", at("1951-01-02"), at("1951-01-02")),
        ("GENDER//F", None, None),
        ("RACE//white", None, None),
        ("ETHNICITY//hispanic or latino", None, None),
        ("COUNTRY//USA", None, None),
        ("SITE//701", None, None),
        ("OBSERVATION_PERIOD//START", at("2013-12-20"), end_of("2013-12-20")),
        ("CDISC//ARM//Pbo", start, end_of("2014-01-02")),
        ("CDISC//ACTARM//Pbo", treated, treated),
        ("OBSERVATION_PERIOD//END", at("2014-07-02T11:45"), at("2014-07-02T11:45")),
    ]
    assert set(batch.events["source"]) == {"CDISC//S1/S1-01/DM"}
    assert set(batch.events["subject"]) == {"S1-01"}
    assert ("CDISC//ARM//Pbo", "Placebo") in batch.codes.rows()


def test_birth_age_and_death_in_other_words(tmp_path: Path) -> None:
    people = [
        DM | {"USUBJID": "a", "BRTHDTC": "1950-12", "DTHDTC": "2014-03"},
        DM | {"USUBJID": "b", "AGE": 18, "AGEU": "MONTHS", "SEX": "U", "RACE": "UNKNOWN"},
        DM | {"USUBJID": "c", "AGE": 20, "RFSTDTC": "", "RFXSTDTC": "", "ARMCD": "Scrnfail", "ACTARMCD": "Scrnfail"},
    ]
    batch = read(write(tmp_path, dm=people))["dm"]
    facts = batch.events.filter(pl.col("code").is_in(["MEDS_BIRTH", "MEDS_DEATH"]))
    assert facts.select("subject", "code", "time", "known_time").rows() == [
        ("a", "MEDS_BIRTH", at("1950-12-01"), end_of("1950-12-31")),
        ("a", "MEDS_DEATH", at("2014-03-01"), end_of("2014-03-31")),
        ("b", "MEDS_BIRTH", at("2012-07-02"), at("2012-07-02")),
        ("c", "MEDS_BIRTH", at("1993-12-20"), at("1993-12-20")),
    ]
    assert "GENDER//unknown" in batch.events["code"]
    assert batch.events.filter(pl.col("subject") == "b", pl.col("code").str.starts_with("RACE")).is_empty()
    assert batch.events.filter(pl.col("subject") == "c", pl.col("code").str.contains("ARM//")).is_empty()


def test_findings_prefer_the_standard_result(tmp_path: Path) -> None:
    labs = [
        row_of("LB", 1, TESTCD="ALT", TEST="Alanine", ORRES="0.3", ORRESU="ukat/L", STRESC="18", STRESN=18,
               STRESU="U/L", DTC="2014-01-16T09:00", BLFL="Y"),
        row_of("LB", 2, TESTCD="PLAT", ORRES="250", ORRESU="10^9/L", DTC="2014-01-16T09:00"),
        row_of("LB", 3, TESTCD="CRP", STRESC="<0.5", STRESU="mg/L", DTC="2014-01-16"),
        row_of("LB", 4, TESTCD="GLUC", SPEC="URINE", STRESC="NEGATIVE", DTC="2014-01-16"),
        row_of("LB", 5, TESTCD="CREAT", LOINC="2160-0", STRESN=1.1, STRESC="1.1", STRESU="mg/dL", DTC="2014-01-16",
               ENDTC="2014-01-17"),
        row_of("LB", 6, TESTCD="K", STAT="NOT DONE", DTC="2014-01-16"),
        row_of("LB", 7, TESTCD="NA", ORRES="", DTC="2014-01-16"),
        row_of("LB", 8, TESTCD="AST", STRESN="many", DTC="2014-01-16"),
    ]  # fmt: skip
    batch = read(write(tmp_path, lb=labs, dm=[DM | {"RFSTDTC": "2014-01-20"}]))["lb"]
    taken, day = at("2014-01-16T09:00"), at("2014-01-16")
    assert rows(batch, "code", "numeric_value", "unit", "text_value", "time", "known_time") == [
        ("CDISC//LB//ALT", 18.0, "U/L", None, taken, end_of("2014-01-16")),
        ("BASELINE//CDISC//LB//ALT", 18.0, "U/L", None, taken, at("2014-01-20")),
        ("CDISC//LB//PLAT", 250.0, "10*9/L", None, taken, end_of("2014-01-16")),
        ("CDISC//LB//CRP", 0.5, "mg/L", "<", day, end_of("2014-01-16")),
        ("CDISC//LB//GLUC//URINE", None, None, "NEGATIVE", day, end_of("2014-01-16")),
        ("LOINC//2160-0", pytest.approx(1.1), "mg/dL", None, day, end_of("2014-01-17")),
    ]
    assert batch.skipped == {"LB: NOT DONE": 1, "LB: no result": 1}
    assert [(reject.place, reject.reason) for reject in batch.rejected] == [("lb.csv line 9", "LBSTRESN is no number")]
    # A result that is not there any more takes back what an earlier delivery said.
    assert batch.withdrawn["source"].to_list() == ["CDISC//S1/S1-01/LB/6", "CDISC//S1/S1-01/LB/7"]
    assert ("CDISC//LB//ALT", "Alanine") in batch.codes.rows()


def test_bedside_findings_are_known_at_once(tmp_path: Path) -> None:
    signs = [
        row_of("VS", 1, TESTCD="TEMP", STRESN=36.6, STRESU="C", DTC="2014-01-16T09:00"),
        row_of("QS", 1, TESTCD="PHQ0101", STRESN=2, STRESC="2", ORRES="MORE THAN HALF THE DAYS", DTC="2014-01-16"),
    ]
    found = read(write(tmp_path, vs=signs[:1], qsph=signs[1:]))
    assert rows(found["vs"], "code", "unit", "known_time") == [("CDISC//VS//TEMP", "Cel", at("2014-01-16T09:00"))]
    assert rows(found["qsph"], "code", "source") == [("CDISC//QS//PHQ0101", "CDISC//S1/S1-01/QS/1")]


def test_adverse_events_have_a_course(tmp_path: Path) -> None:
    events = [
        row_of("AE", 1, TERM="itching", DECOD="Pruritus", PTCD=10037087, SEV="MODERATE", SER="Y", OUT="RECOVERED",
               STDTC="2014-01-05", ENDTC="2014-01", DTC="2014-01-10"),
        row_of("AE", 2, TERM="cough ", DECOD="", SEV="MILD", SER="N", STDTC="2014-02-01"),
        row_of("AE", 3, TERM="rash", STDTC="--02-01"),
        row_of("AE", 4, TERM="fall", STDTC="2014-13-01"),
    ]  # fmt: skip
    batch = read(write(tmp_path, ae=events, dm=[DM]))["ae"]
    first, second = at("2014-01-05"), at("2014-02-01")
    assert rows(batch, "code", "time", "known_time", "text_value") == [
        ("MEDDRA//10037087", first, end_of("2014-01-10"), None),
        ("SEVERITY//MEDDRA//10037087", first, end_of("2014-01-31"), "MODERATE"),
        ("SERIOUS//MEDDRA//10037087", first, end_of("2014-01-31"), None),
        ("RESOLVED//MEDDRA//10037087", first, end_of("2014-01-31"), "RECOVERED"),
        ("CDISC//AE//COUGH", second, end_of("2014-02-01"), None),
        ("SEVERITY//CDISC//AE//COUGH", second, end_of("2014-07-02"), "MILD"),
    ]
    assert batch.skipped == {"AE: no date": 1}
    assert [reject.reason for reject in batch.rejected] == ["AESTDTC is no date or time"]
    assert ("MEDDRA//10037087", "Pruritus") in batch.codes.rows()


def test_history_without_a_date_counts_from_enrolment(tmp_path: Path) -> None:
    history = [row_of("MH", 1, TERM="ASTHMA"), row_of("MH", 2, TERM="GOUT", OCCUR="N")]
    batch = read(write(tmp_path, mh=history, dm=[DM]))["mh"]
    assert rows(batch, "code", "time") == [("CDISC//MH//ASTHMA", at("2013-12-20"))]
    assert batch.skipped == {"MH: did not occur": 1}


def test_disposition_tells_a_death_that_demographics_do_not(tmp_path: Path) -> None:
    ends = [
        row_of("DS", 1, TERM="DIED", DECOD="DEATH", STDTC="2014-03-01"),
        row_of("DS", 2, DECOD="DEATH", STDTC="2014-03-02", TERM="DIED") | {"USUBJID": "told"},
    ]
    people = [DM, DM | {"USUBJID": "told", "DTHDTC": "2014-03-02"}]
    found = read(write(tmp_path, ds=ends, dm=people))
    deaths = pl.concat([batch.events for batch in found.values()]).filter(pl.col("code") == "MEDS_DEATH")
    assert sorted(deaths.select("subject", "source").rows()) == [
        ("S1-01", "CDISC//S1/S1-01/DS/1"),
        ("told", "CDISC//S1/told/DM"),
    ]


def test_drugs_have_dose_and_end(tmp_path: Path) -> None:
    given = [
        row_of("EX", 1, TRT="Xanomeline", DOSE=54, DOSU="mg", STDTC="2014-01-02", ENDTC="2014-01-16"),
        row_of("EX", 2, TRT="Xanomeline", DOSE=81, DOSU="mg", STDTC="2014-01-17", ENDTC="2014-01-17"),
        row_of("EX", 3, TRT="Xanomeline", DOSE=81, DOSU="mg", STDTC="2014-01-18", ENDTC="", DUR="P3DT12H"),
    ]
    taken = [
        row_of("CM", 1, TRT="baby aspirin", DECOD="ASPIRIN", STRF="BEFORE", STDTC=""),
        row_of("CM", 2, TRT="herbs", DECOD="UNCODED", STRF="", STDTC="2014-02"),
    ]
    collected = [row_of("EC", 1, TRT="TABLET A", STDTC="2014-01-02")]
    found = read(write(tmp_path, ex=given, cm=taken, ec=collected, dm=[DM]))
    assert rows(found["ex"], "code", "time", "numeric_value", "unit", "text_value") == [
        ("CDISC//EX//XANOMELINE", at("2014-01-02"), 54.0, "mg", "administered"),
        ("STOPPED//CDISC//EX//XANOMELINE", at("2014-01-16"), None, None, "administered"),
        ("CDISC//EX//XANOMELINE", at("2014-01-17"), 81.0, "mg", "administered"),
        ("CDISC//EX//XANOMELINE", at("2014-01-18"), 81.0, "mg", "administered"),
        ("STOPPED//CDISC//EX//XANOMELINE", at("2014-01-21T12:00"), None, None, "administered"),
    ]
    assert rows(found["cm"], "code", "time", "known_time", "text_value") == [
        ("CDISC//CM//ASPIRIN", at("2013-12-20"), at("2013-12-20"), "reported"),
        ("CDISC//CM//HERBS", at("2014-02-01"), end_of("2014-02-28"), "reported"),
    ]
    assert found["ec"].skipped == {"EC: exposure as collected, beside EX": 1}


def test_a_study_day_stands_in_for_a_date(tmp_path: Path) -> None:
    labs = [row_of("LB", n, TESTCD="ALT", STRESN=1, DTC="", DY=day) for n, day in enumerate((1, 15, -1, 0), start=1)]
    found = read(write(tmp_path, lb=labs, dm=[DM]))["lb"]
    assert found.events["time"].to_list() == [at("2014-01-02"), at("2014-01-16"), at("2014-01-01")]
    assert found.skipped == {"LB: no date": 1}


@given(st.dates(date(1900, 1, 1), date(2100, 1, 1)), st.integers(-3000, 3000).filter(bool))
def test_study_days_count_as_the_standard_says(reference: date, day: int) -> None:
    start = pl.Series([datetime(reference.year, reference.month, reference.day, tzinfo=UTC)], dtype=ARRIVING["time"])
    moment = study_day(start, pl.Series([float(day)]), "UTC").item()
    difference = (moment.date() - reference).days
    assert day == (difference + 1 if moment.date() >= reference else difference)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2003-12-15T13:14:17", "2003-12-15T13:14:17", "2003-12-15T13:14:17"),
        ("2003-12-15T13:14:17.123+02:00", "2003-12-15T11:14:17.123", "2003-12-15T11:14:17.123"),
        ("2003-12-15T13:14Z", "2003-12-15T13:14:00", "2003-12-15T13:14:00"),
        ("2003-12-15T13", "2003-12-15T13:00:00", "2003-12-15T13:59:59"),
        ("2003-12-15T13:-:17", "2003-12-15T13:00:00", "2003-12-15T13:59:59"),
        ("2003-12-15T-:15", "2003-12-15", "2003-12-15T23:59:59"),
        ("2003-12-15", "2003-12-15", "2003-12-15T23:59:59"),
        ("2003-12", "2003-12-01", "2003-12-31T23:59:59"),
        ("2004-02", "2004-02-01", "2004-02-29T23:59:59"),
        ("2003", "2003-01-01", "2003-12-31T23:59:59"),
        ("2003---15", "2003-01-15", "2003-12-15T23:59:59"),
        ("2003-12-15T10:00/2003-12-15T10:30", "2003-12-15T10:00", "2003-12-15T10:30"),
        ("2003-12-15T10:00/PT30M", "2003-12-15T10:00", "2003-12-15T10:30"),
        ("2003-12-01/P1M", "2003-12-01", "2004-01-31T23:59:59"),
        ("P2W/2003-12-15", "2003-12-01", "2003-12-15T23:59:59"),
        ("2015-06-30T23:59:60", "2015-06-30T23:59:59.999999", "2015-06-30T23:59:59.999999"),
    ],
)
def test_partial_dates_are_the_span_they_may_mean(text: str, start: str, end: str) -> None:
    span = iso_spans(pl.Series([text]), "UTC").row(0)
    if "P1M" in text:  # the end of the first day and a month
        end = "2004-01-01T23:59:59"
    assert span == (at(start), at(end), False)


def test_dates_without_a_year_are_unknown_and_nonsense_is_wrong() -> None:
    text = [
        "--12-15",
        "-----T07:15",
        None,
        "2003-02-30",
        "yesterday",
        "0003-01-01",
        "2003-12-15T25:00",
        "P1D/",
        "9999-12-31",
    ]
    spans = iso_spans(pl.Series(text), "UTC")
    assert spans["start"].null_count() == len(text)
    assert spans["is_wrong"].to_list() == [False, False, False, *[True] * 6]


def test_times_without_zone_are_local(tmp_path: Path) -> None:
    signs = [
        row_of("VS", 1, TESTCD="PULSE", STRESN=60, DTC="2014-07-16T09:00"),
        row_of("VS", 2, TESTCD="PULSE", STRESN=60, DTC="2014-07-16T09:00Z"),
        row_of("VS", 3, TESTCD="PULSE", STRESN=60, DTC="", DY=2),
    ]
    batch = read(write(tmp_path, vs=signs, dm=[DM]), time_zone="Europe/Berlin")["vs"]
    assert batch.events["time"].to_list() == [at("2014-07-16T07:00"), at("2014-07-16T09:00"), at("2014-01-02T23:00")]


def test_supplemental_qualifiers_are_joined_or_counted(tmp_path: Path) -> None:
    labs = [row_of("LB", n, TESTCD="CREAT", STRESN=n, DTC="2014-01-16") for n in (1, 2)]
    plain = {"STUDYID": "S1", "RDOMAIN": "LB", "USUBJID": "S1-01", "IDVAR": "LBSEQ"}
    more = [
        plain | {"IDVARVAL": "2", "QNAM": "LBLOINC", "QVAL": "2160-0"},
        plain | {"IDVARVAL": "2", "QNAM": "LBCLSIG", "QVAL": "N"},
    ]
    found = read(write(tmp_path, lb=labs, supplb=more))
    assert rows(found["lb"], "code") == [("CDISC//LB//CREAT",), ("LOINC//2160-0",)]
    assert found["supplb"].skipped == {"SUPPLB: joined to its row": 1, "SUPPLB: qualifier has no place": 1}


def bds(**cells: Any) -> dict[str, Any]:
    plain = {"STUDYID": "S1", "USUBJID": "S1-01", "TRTSDT": 19725, "PARAMCD": "ALT", "PARAM": "Alanine (U/L)"}
    return plain | {"AVAL": 18.0, "ADT": 19739, "LBSEQ": 1, "DTYPE": "", "ABLFL": "", "ADTF": ""} | cells


def test_analysis_parameters_leave_derived_records_out(tmp_path: Path) -> None:
    table = [
        bds(AVISIT="Week 4", DTYPE="LOCF"),
        bds(AVISIT="Week 2"),
        bds(AVISIT="End of Treatment"),
        bds(AVISIT="Week 4", DTYPE="something of a patient"),
        bds(LBSEQ=2, ADT=19740, ADTF="D", ABLFL="Y", AVAL=20.0),
        bds(LBSEQ=3, AVAL=None),
        bds(LBSEQ=4, ADT=None, ADY=3),
        bds(LBSEQ=5, ADT=None, ADY=None),
    ]
    batch = read(write(tmp_path, adlbc=table))["adlbc"]
    assert rows(batch, "code", "time", "known_time", "numeric_value", "unit") == [
        ("CDISC//LB//ALT", at("2014-01-16"), end_of("2014-01-16"), 18.0, "U/L"),
        ("CDISC//LB//ALT", at("2014-01-01"), end_of("2014-01-31"), 20.0, "U/L"),
        ("BASELINE//CDISC//LB//ALT", at("2014-01-01"), end_of("2014-01-31"), 20.0, "U/L"),
        ("CDISC//LB//ALT", at("2014-01-04"), end_of("2014-01-04"), 18.0, "U/L"),
    ]
    assert batch.skipped == {
        "ADLBC: derived record (DTYPE LOCF)": 1,
        "ADLBC: derived record (DTYPE other)": 1,
        "ADLBC: no date": 1,
        "ADLBC: no value": 1,
        "ADLBC: second analysis record of one observation": 1,
    }
    assert batch.withdrawn.is_empty()


def test_times_to_event_end_in_event_or_censoring(tmp_path: Path) -> None:
    plain = {"STUDYID": "S1", "PARAMCD": "OS", "PARAM": "Overall survival", "STARTDT": "2014-01-02", "AVALU": "DAYS"}
    table: list[dict[str, Any]] = [
        plain | {"USUBJID": "a", "AVAL": 31, "ADT": "2014-02-01", "CNSR": 0, "EVNTDESC": "Death"},
        plain | {"USUBJID": "b", "AVAL": 11, "ADT": "12JAN2014", "CNSR": 2, "EVNTDESC": "Lost to follow-up"},
        plain | {"USUBJID": "c", "AVAL": 11, "ADT": None, "CNSR": 1, "EVNTDESC": None},
        plain | {"USUBJID": "d", "AVAL": 11, "ADT": None, "CNSR": None, "EVNTDESC": None},
    ]
    batch = read(write(tmp_path, adtte=table))["adtte"]
    assert rows(batch, "subject", "code", "time", "numeric_value", "unit", "text_value") == [
        ("a", "CDISC//ADTTE//OS//START", at("2014-01-02"), None, None, None),
        ("a", "CDISC//ADTTE//OS//EVENT", at("2014-02-01"), 31.0, "d", "Death"),
        ("b", "CDISC//ADTTE//OS//START", at("2014-01-02"), None, None, None),
        ("b", "CDISC//ADTTE//OS//CENSORED", at("2014-01-12"), 11.0, "d", "Lost to follow-up"),
        ("c", "CDISC//ADTTE//OS//START", at("2014-01-02"), None, None, None),
        ("c", "CDISC//ADTTE//OS//CENSORED", at("2014-01-12"), 11.0, "d", None),
    ]
    assert batch.skipped == {"ADTTE: neither event nor censored (CNSR)": 1}


def test_analysis_data_alone_are_read_whole(tmp_path: Path) -> None:
    person = {"STUDYID": "S1", "USUBJID": "S1-01", "AGE": 63, "SEX": "F", "TRT01P": "Placebo", "TRT01A": "Placebo",
              "TRTSDT": 19725, "EOSDT": 19905, "DTHDT": None, "RFICDT": None, "DCDECOD": "COMPLETED"}  # fmt: skip
    event = {"STUDYID": "S1", "USUBJID": "S1-01", "AESEQ": 1, "AEDECOD": "PRURITUS", "AESER": "N", "AESEV": "MILD",
             "ASTDT": 19730, "ASTDTF": "", "AENDT": 19733, "TRTA": "Placebo"}  # fmt: skip
    found = read(write(tmp_path, adsl=[person], adae=[event]))
    assert [code for (code,) in rows(found["adsl"], "code")] == [
        "MEDS_BIRTH", "GENDER//F", "OBSERVATION_PERIOD//START", "CDISC//ARM//Placebo", "CDISC//ACTARM//Placebo",
        "OBSERVATION_PERIOD//END",
    ]  # fmt: skip
    assert rows(found["adae"], "code", "time", "source")[0] == (
        "CDISC//AE//PRURITUS", at("2014-01-07"), "CDISC//S1/S1-01/ADAE/1",
    )  # fmt: skip
    assert "RESOLVED//CDISC//AE//PRURITUS" in found["adae"].events["code"]


@pytest.mark.parametrize(
    ("facts", "kept"), [("auto", {"lb"}), ("sdtm", {"lb"}), ("adam", {"adlb"}), ("both", {"lb", "adlb"})]
)
def test_a_fact_in_both_models_is_stored_once(tmp_path: Path, facts: str, kept: set[str]) -> None:
    lab = row_of("LB", 1, TESTCD="ALT", STRESN=18, STRESU="U/L", DTC="2014-01-16")
    found = read(write(tmp_path, lb=[lab], adlb=[bds()]), facts=facts)
    assert {name for name, batch in found.items() if batch.rows_kept} == kept
    other = write(tmp_path, adlb=[bds(STUDYID="S2")])
    assert read(other, facts="auto")["adlb"].rows_kept == 1


def test_rows_of_one_number_are_told_apart_and_mended(tmp_path: Path) -> None:
    labs = [row_of("LB", 1, TESTCD=code, STRESN=1, DTC="2014-01-16") for code in ("ALT", "AST")]
    labs.append(row_of("LB", 2, TESTCD="ALP", STRESN=1, DTC="2014-01-16"))
    batch = read(write(tmp_path, lb=labs))["lb"]
    sources = batch.events["source"].to_list()
    assert len(set(sources)) == 3
    assert sources[2] == "CDISC//S1/S1-01/LB/2"
    assert batch.withdrawn["source"].to_list() == ["CDISC//S1/S1-01/LB/1"]
    named = read(tmp_path, study="OTHER", origin="trial")["lb"].events
    assert named["source"][2] == "CDISC//trial//OTHER/S1-01/LB/2"
    assert named["subject"][2] == "trial:S1-01"


def test_a_row_without_subject_is_rejected(tmp_path: Path) -> None:
    batch = read(write(tmp_path, lb=[row_of("LB", 1, TESTCD="ALT", STRESN=1, DTC="2014") | {"USUBJID": ""}]))["lb"]
    assert [reject.reason for reject in batch.rejected] == ["USUBJID is missing"]
    assert json.loads(batch.rejected[0].raw)["LBTESTCD"] == "ALT"


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"facts": "all"}, "facts must be one of auto, sdtm, adam, both, got all"),
        ({"time_zone": "Mars"}, "no IANA time zone"),
        ({"encoding": "klingon"}, "encoding: 'klingon' is not known"),
    ],
)
def test_what_cannot_be_chosen_is_named(choices: dict[str, str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        cdisc_sources(EXAMPLE, **choices)  # type: ignore[arg-type]


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        cdisc_sources(tmp_path / "none")
    with pytest.raises(InputError, match="no CDISC dataset"):
        cdisc_sources(tmp_path)


CELLS = st.one_of(
    st.none(), st.text(max_size=12), st.sampled_from(("2014-01", "2014-01-02", "-5", "1e400", "NaN", "Y", "P1D"))
)
COLUMNS = {
    "dm": tuple(DM),
    "lb": ("LBSEQ", "LBTESTCD", "LBSTRESN", "LBSTRESC", "LBORRES", "LBDTC", "LBDY", "LBBLFL", "LBLOINC", "LBSPEC"),
    "ae": (
        "AESEQ",
        "AETERM",
        "AEDECOD",
        "AEPTCD",
        "AESTDTC",
        "AEENDTC",
        "AEDUR",
        "AESTDY",
        "AESEV",
        "AESER",
        "AETOXGR",
    ),
    "ex": ("EXSEQ", "EXTRT", "EXDOSE", "EXDOSU", "EXSTDTC", "EXENDTC", "EXDUR"),
    "sv": ("VISITNUM", "VISIT", "SVSTDTC", "SVENDTC", "SVSTDY"),
    "adlb": ("PARAMCD", "PARAM", "AVAL", "AVALC", "ADT", "ADTM", "ADTF", "ATMF", "ADY", "ABLFL", "DTYPE", "TRTSDT"),
    "adtte": ("PARAMCD", "PARAM", "AVAL", "AVALU", "CNSR", "STARTDT", "ADT", "EVNTDESC"),
    "adae": ("AESEQ", "AEDECOD", "AETERM", "ASTDT", "AENDT", "ASTDTF", "AESEV"),
}


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(COLUMNS)), st.data())
def test_any_cells_give_events_or_reasons(tmp_path: Path, name: str, data: st.DataObject) -> None:
    columns = COLUMNS[name]
    domain = {} if name.startswith("ad") else {"DOMAIN": name.upper()}
    plain = {"STUDYID": "S1", "USUBJID": "S1-01", **domain}
    cells = data.draw(st.lists(st.tuples(*[CELLS] * len(columns)), min_size=1, max_size=4))
    table = [dict(zip(columns, row, strict=True)) | plain for row in cells]
    file = tmp_path / f"{name}.parquet"
    pl.DataFrame(table, schema=dict.fromkeys(table[0], pl.String())).write_parquet(file)
    batch = read(tmp_path)[name]
    assert batch.rows_read == len(table)
    file.unlink()
