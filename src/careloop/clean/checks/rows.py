"""Checks that an event answers beside its patient's birth, death and sex: which rows are asked, which violate."""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from careloop.clean.checks.codes import code_facts
from careloop.clean.faults.times import ORDER
from careloop.record import BIRTH, CARELOOP, DEATH
from careloop.record.schema import TIME

LATE = timedelta(days=365)
# Clocks of devices and servers differ, and a zone may be wrongly taken for UTC.
CLOCKS = timedelta(days=1)
WEIGHT, HEIGHT, BMI, AGE = "LOINC//29463-7", "LOINC//8302-2", "LOINC//39156-5", "LOINC//30525-0"
KILOGRAMS = {"kg": 1.0, "g": 0.001, "[lb_av]": 0.45359237}
METRES = {"m": 1.0, "cm": 0.01, "[in_i]": 0.0254}
# Weights are rounded to 0.1 kg and heights to 1 cm, which in a small person moves the index by 2 to 3 %.
BMI_TOLERANCE = 0.05
# A height stays valid for a year in adults; weights of another visit do not.
HEIGHT_AGE, WEIGHT_AGE = timedelta(days=365), timedelta(days=1)
ADULT_YEARS = 18
AGE_TOLERANCE_YEARS = 1.01
YEAR_DAYS = 365.25
NUMBER = r"^\s*[<>]?=?\s*[-+]?\d+([.,]\d+)?\s*$"
SHOWN = ("code", "time", "known_time", "numeric_value", "unit", "text_value", "source")
DAY_US = 86_400_000_000


def facts_only(events: pl.DataFrame) -> pl.DataFrame:
    """Return the events that are not careloop's own (predictions, plans, notes of cleaning)."""
    return events.filter(~pl.col("code").str.starts_with(CARELOOP))


def with_kinds(events: pl.DataFrame) -> pl.DataFrame:
    """Return the events with what their codes say (`FACTS`), and `order`, a hash that chooses examples.

    A local code's numbers count as measurements.
    """
    facts = code_facts(events["code"].unique())
    rows = events.join(facts, on="code", how="left", maintain_order="left")
    local_number = (pl.col("kind") == "other") & pl.col("numeric_value").is_not_null()
    kind = pl.when(local_number).then(pl.lit("measurements")).otherwise("kind")
    return rows.with_columns(kind=kind, order=pl.struct(*SHOWN).hash(seed=0))


def with_persons(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with their patient's birth, death and sex; sex is null where both are said."""
    code, time = pl.col("code"), pl.col("time")
    said = rows.filter(pl.col("kind") == "persons").with_columns(said=sex_said())
    persons = said.group_by("subject_id").agg(
        birth=time.filter(code == BIRTH).min(),
        births=time.filter(code == BIRTH).n_unique(),
        death=time.filter(code == DEATH).min(),
        deaths=time.filter(code == DEATH).n_unique(),
        female=(pl.col("said") == "F").any(),
        male=(pl.col("said") == "M").any(),
    )
    sex = pl.when("female").then(pl.lit("F")).otherwise(pl.lit("M"))
    persons = persons.with_columns(sex=pl.when(pl.col("female") != pl.col("male")).then(sex))
    return rows.join(persons, on="subject_id", how="left", maintain_order="left")


def sex_said() -> pl.Expr:
    """The recorded sex, F or M: `GENDER//F`, `GENDER//female`, or code `SEX` with the text `female`; null otherwise."""
    is_sex = pl.col("code").str.contains(r"^(GENDER|SEX)(//|$)")
    said = pl.coalesce(pl.col("code").str.extract(r"//(.+)$"), pl.col("text_value")).str.to_uppercase()
    meant = pl.when(said.is_in(["F", "FEMALE"])).then(pl.lit("F")).when(said.is_in(["M", "MALE"])).then(pl.lit("M"))
    return pl.when(is_sex).then(meant)


def row_checks(written: datetime) -> dict[str, tuple[pl.Expr, pl.Expr]]:
    """Return, by check, the rows that are asked and those that violate it, over `annotated` columns.

    `written`: when the record was written; what lies later is in its future.
    """
    col = pl.col
    timed, valued = col("time").is_not_null(), col("numeric_value").is_not_null()
    person = col("kind") == "persons"
    clinical = ~person & timed
    asks = col("code").str.starts_with(ORDER)  # a test that was ordered has no result
    measured = ~asks & ((col("vocabulary") == "LOINC") | (valued & (col("kind") != "medications")))
    result = measured & timed & ~person & (col("kind") != "visits")
    recorded = result | ((col("kind") == "conditions") & timed)
    at_midnight = (col("time").dt.epoch("us") % DAY_US) == 0
    new_year = col("time").dt.ordinal_day() == 1
    end = pl.lit(written + CLOCKS, dtype=TIME)
    shape = {
        check: (col("shape_check") == check, (col("shape_check") == check) & ~col("well_formed"))
        for check in ("loinc_check_digit", "snomed_check_digit", "icd10cm_shape", "rxnorm_digits", "other_code_shape")
    }
    worded = measured & ~valued & col("text_value").is_not_null()
    empty = ~valued & col("text_value").is_null() & col("asset").is_null()
    asked = {
        "unit_is_ucum": (col("unit").is_not_null(), ~col("valid_unit")),
        "vocabulary_known": (pl.lit(True), ~col("known_vocabulary")),
        "number_as_text": (valued | worded, worded & col("text_value").str.contains(NUMBER)),
        "known_time_recorded": (recorded, recorded & (col("known_time") == col("time"))),
        "known_time_plausible": (recorded, recorded & (col("known_time") - col("time") > LATE)),
        "time_present": (~person & col("standard").is_not_null(), ~person & col("standard").fill_null(False) & ~timed),
        "value_present": (~asks & (col("vocabulary") == "LOINC"), ~asks & (col("vocabulary") == "LOINC") & empty),
        "code_is_standard": (col("standard").is_not_null(), ~col("standard").fill_null(True)),
        "source_present": (pl.lit(True), col("source").is_null()),
        "in_future": (timed, timed & (col("time") > end)),
        "midnight": (clinical, clinical & at_midnight),
        "first_of_january": (clinical, clinical & new_year),
    }
    return shape | asked


def bmi_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the body mass indices that can be compared: `row`, `violated`.

    Compared is the index in kg/m2 with the nearest weight within a day and the last height within a year, in people of
    18 years or more (a child grows out of its height).
    """
    parts = {}
    for name, code, factors in (
        ("bmi", BMI, {"kg/m2": 1.0}),
        ("weight", WEIGHT, KILOGRAMS),
        ("height", HEIGHT, METRES),
    ):
        scale = pl.col("unit").replace_strict(factors, default=None, return_dtype=pl.Float64)
        part = rows.filter((pl.col("code") == code) & pl.col("time").is_not_null() & (pl.col("numeric_value") > 0))
        part = part.with_columns((pl.col("numeric_value").cast(pl.Float64) * scale).alias(name)).drop_nulls(name)
        keep = ["subject_id", "time", name, *(["row", "birth"] if name == "bmi" else [])]
        parts[name] = part.select(keep).sort("time", "subject_id", name)
    joined = parts["bmi"].filter(
        ((pl.col("time") - pl.col("birth")).dt.total_days() >= ADULT_YEARS * YEAR_DAYS).fill_null(True)
    )
    joined = joined.join_asof(
        parts["weight"], on="time", by="subject_id", strategy="nearest", tolerance=WEIGHT_AGE, check_sortedness=False
    )
    joined = joined.join_asof(
        parts["height"], on="time", by="subject_id", strategy="backward", tolerance=HEIGHT_AGE, check_sortedness=False
    )
    computed = pl.col("weight") / pl.col("height") ** 2
    compared = joined.filter(computed.is_not_null())
    return compared.select("row", violated=(computed / pl.col("bmi") - 1).abs() > BMI_TOLERANCE)


def age_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """Return recorded ages in years beside a birth: `row`, `violated`."""
    ages = rows.filter((pl.col("code") == AGE) & pl.col("numeric_value").is_not_null())
    ages = ages.filter(
        pl.col("unit").is_in(["a", "a_g", "a_j"]), pl.col("birth").is_not_null(), pl.col("time").is_not_null()
    )
    years = (pl.col("time") - pl.col("birth")).dt.total_seconds() / (86400 * YEAR_DAYS)
    # A published age is mostly in whole years, so anything within the year of life fits.
    return ages.select("row", violated=(years - pl.col("numeric_value")).abs() > AGE_TOLERANCE_YEARS)


def visit_rows(rows: pl.DataFrame) -> pl.DataFrame:
    """Return ends of visits whose start came from the same source row: `row`, `violated`."""
    visits = rows.filter((pl.col("kind") == "visits") & pl.col("time").is_not_null() & pl.col("source").is_not_null())
    start = visits.filter(pl.col("code").str.starts_with("VISIT_START"))
    start = start.group_by("subject_id", "source").agg(start=pl.col("time").min())
    ends = visits.filter(pl.col("code").str.starts_with("VISIT_END")).join(start, on=["subject_id", "source"])
    return ends.select("row", violated=pl.col("time") < pl.col("start"))
