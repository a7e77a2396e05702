"""What one shard contributes to the report: small tables that add up over shards, whatever their number and order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import lru_cache

import polars as pl

from careloop.clean.checks.rows import (
    SHOWN,
    YEAR_DAYS,
    age_rows,
    bmi_rows,
    row_checks,
    visit_rows,
    with_kinds,
    with_persons,
)
from careloop.clean.faults.units import PARSING
from careloop.record import EVENTS

Asked = dict[str, tuple[pl.Expr, pl.Expr]]  # by check: which rows are asked, which violate it

EXAMPLES = 5
# Examples are kept for so many codes a check at most, the first in order of code, so that memory stays bounded.
CODES_WITH_EXAMPLES = 1000
MAX_FEEDS = 200  # of which more are no feeds but names of rows
ALL_FEEDS = "all sources"
OLDEST_YEARS = 120
AGE_BAND_YEARS = 10
COUNTS = ["check", "code", "kind", "checked", "violated", "patients"]


@dataclass(frozen=True)
class Tally:
    """Counts of one shard or of several.

    `counts`: check, code, kind, rows checked, rows violated, patients of those. `patients`: check and patients with any
    violation (a patient lies in one shard). `examples`: violating rows, the `EXAMPLES` with the lowest hash a check and
    code. `subjects`: patients checked and violated by check. `volume`: events by feed, vocabulary and month. `years`:
    events and patients by vocabulary and year. `clock`: dated clinical events by kind, weekday and minute of the day.
    `values`: per code what its numbers are like. `units`: numeric values by code, kind and unit. `ages`: patients by
    sex and ten years of age at their last event. `totals`: events, patients and first and last time.
    """

    counts: pl.DataFrame
    patients: pl.DataFrame
    examples: pl.DataFrame
    subjects: pl.DataFrame
    volume: pl.DataFrame
    years: pl.DataFrame
    clock: pl.DataFrame
    values: pl.DataFrame
    units: pl.DataFrame
    ages: pl.DataFrame
    totals: pl.DataFrame


_KEYS: Mapping[str, list[str]] = {
    "counts": ["check", "code", "kind"],
    "patients": ["check"],
    "subjects": ["check"],
    "volume": ["feed", "vocabulary", "month"],
    "years": ["vocabulary", "year"],
    "clock": ["kind", "weekday", "minute"],
    "values": ["code", "kind"],
    "units": ["code", "kind", "unit"],
    "ages": ["sex", "age"],
}


def tally(events: pl.DataFrame, *, written: datetime, known_subjects: pl.Series | None = None) -> Tally:
    """Tally one shard's events (columns of `EVENTS` and `row`, careloop's own left out)."""
    rows = with_persons(with_kinds(events))
    rows = rows.with_columns(valid_unit=valid_units(rows["unit"]))
    asked = row_checks(written) | _subject_known(known_subjects)
    compared = {
        "bmi_from_weight_and_height": bmi_rows(rows),
        "age_from_birth": age_rows(rows),
        "end_after_start": visit_rows(rows),
    }
    parts = [count_asked(rows, asked)]
    parts += [counted(rows, name, found) for name, found in compared.items()]
    subjects, at_subjects = _subjects(rows)
    counts, patients, examples = (pl.concat(part) for part in zip(*parts, strict=True))
    return Tally(
        counts=counts,
        patients=patients,
        examples=pl.concat([examples, at_subjects]),
        subjects=subjects,
        **_overview(rows),
    )


def merged(tallies: Sequence[Tally]) -> Tally:
    """Add tallies up."""
    whole: dict[str, pl.DataFrame] = {}
    for field in fields(Tally):
        frame = pl.concat([getattr(tally, field.name) for tally in tallies])
        if field.name == "examples":
            whole[field.name] = few_examples(frame)
        elif field.name == "totals":
            first, last = pl.col("first").min(), pl.col("last").max()
            whole[field.name] = frame.select(pl.col("events", "patients").sum(), first, last)
        else:
            keys = _KEYS[field.name]
            whole[field.name] = frame.group_by(keys).agg(pl.all().sum()).sort(keys)
    volume = whole["volume"]
    if volume["feed"].n_unique() > MAX_FEEDS or volume["feed"].is_in([ALL_FEEDS]).any():
        volume = volume.with_columns(feed=pl.lit(ALL_FEEDS))
        whole["volume"] = volume.group_by(_KEYS["volume"]).agg(pl.all().sum()).sort(_KEYS["volume"])
    return Tally(**whole)


def counted(rows: pl.DataFrame, check: str, found: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Return counts, patients and examples of one check, of which `found` (row, violated) lists the rows checked."""
    asked = rows.join(found, on="row", how="inner", maintain_order="left")
    counts = asked.group_by("code", "kind").agg(
        check=pl.lit(check), checked=pl.len().cast(pl.Int64()), violated=pl.col("violated").sum().cast(pl.Int64())
    )
    return _with_places(counts, {check: asked.filter("violated")})


@lru_cache(maxsize=100_000)
def is_ucum(unit: str) -> bool:
    """True where `unit` parses as UCUM, case-sensitive symbols."""
    try:
        with PARSING:
            _parser().parse(unit)
    except Exception:  # the parser raises several of its own errors for what is not UCUM
        return False
    return True


def valid_units(units: pl.Series) -> pl.Series:
    """True where the unit parses as UCUM; null where there is none."""
    distinct = units.drop_nulls().unique()
    return units.replace_strict(distinct, [is_ucum(unit) for unit in distinct], default=None, return_dtype=pl.Boolean())


@lru_cache(maxsize=1)
def _parser():  # type: ignore[no-untyped-def]
    from ucumvert import get_ucum_parser  # on first use: it takes a second to load

    return get_ucum_parser()


def _subject_known(known: pl.Series | None) -> Asked:
    return {} if known is None else {"subject_known": (pl.lit(True), ~pl.col("subject_id").is_in(known.implode()))}


def count_asked(rows: pl.DataFrame, asked: Asked) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Return counts, patients and examples of checks that are asked of every row."""
    names = list(asked)
    flagged = rows.with_columns(
        [checked.fill_null(False).alias(f"checked:{name}") for name, (checked, _) in asked.items()]
        + [violated.fill_null(False).alias(f"violated:{name}") for name, (_, violated) in asked.items()]
    )
    sums = [pl.col(f"{side}:{name}").sum().cast(pl.Int64()) for name in names for side in ("checked", "violated")]
    wide = flagged.group_by("code", "kind").agg(sums)
    counts = pl.concat(
        [
            wide.select(
                "code",
                "kind",
                pl.lit(name).alias("check"),
                pl.col(f"checked:{name}").alias("checked"),
                pl.col(f"violated:{name}").alias("violated"),
            )
            for name in names
        ]
    ).filter(pl.col("checked") > 0)
    bad = {
        name: flagged.filter(pl.col(f"violated:{name}"))
        for name in counts.filter(pl.col("violated") > 0)["check"].unique().sort()
    }
    return _with_places(counts, bad)


def _with_places(
    counts: pl.DataFrame, bad: Mapping[str, pl.DataFrame]
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Add the patients of each check and code; return these counts, the patients of each check, and examples."""
    by_code = [
        rows.group_by("code", "kind").agg(
            check=pl.lit(check), patients=pl.col("subject_id").n_unique().cast(pl.Int64())
        )
        for check, rows in bad.items()
    ]
    schema = {"code": pl.String(), "kind": pl.String(), "check": pl.String(), "patients": pl.Int64()}
    counts = counts.join(
        pl.concat([pl.DataFrame(schema=schema), *by_code]), on=["check", "code", "kind"], how="left"
    ).with_columns(pl.col("patients").fill_null(0))
    patients = pl.DataFrame(
        {"check": list(bad), "patients": [rows["subject_id"].n_unique() for rows in bad.values()]},
        schema={"check": pl.String(), "patients": pl.Int64()},
    )
    return (
        counts.select(COUNTS),
        patients,
        few_examples(pl.concat([_no_examples(), *(_examples(c, r) for c, r in bad.items())])),
    )


def _no_examples() -> pl.DataFrame:
    return pl.DataFrame(schema={"check": pl.String(), **{name: EVENTS[name] for name in SHOWN}, "order": pl.UInt64()})


def _examples(check: str, rows: pl.DataFrame) -> pl.DataFrame:
    lowest = rows.select("code", "order", "row").sort("order").group_by("code", maintain_order=True).head(EXAMPLES)
    return rows.join(lowest.select("row"), on="row", how="semi").select(pl.lit(check).alias("check"), *SHOWN, "order")


def few_examples(examples: pl.DataFrame) -> pl.DataFrame:
    """The examples with the lowest hashes, so that which rows are shown does not depend on shards or their order."""
    kept = examples.sort("check", "code", "order").group_by("check", "code", maintain_order=True).head(EXAMPLES)
    rank = pl.col("code").rle_id().over("check")
    return kept.filter(rank < CODES_WITH_EXAMPLES).select(examples.columns)


def _subjects(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the checks that each patient answers once, and examples: one row of a patient each."""
    people = rows.group_by("subject_id").agg(
        pl.col("birth", "births", "deaths", "female", "male").first(),
        last=pl.col("time").max(),
        clinical=(pl.col("kind") != "persons").any(),
        row=pl.col("row").sort_by("order").first(),
        order=pl.col("order").min(),
    )
    age = (pl.col("last") - pl.col("birth")).dt.total_days() / YEAR_DAYS
    asked = {
        "birth_present": (pl.lit(True), pl.col("birth").is_null()),
        "sex_present": (pl.lit(True), ~(pl.col("female") | pl.col("male")).fill_null(False)),
        "events_per_patient": (pl.lit(True), ~pl.col("clinical")),
        "one_birth": (pl.col("birth").is_not_null(), pl.col("births") > 1),
        "one_death": ((pl.col("deaths") > 0), pl.col("deaths") > 1),
        "one_sex": ((pl.col("female") | pl.col("male")), pl.col("female") & pl.col("male")),
        "age_plausible": (age.is_not_null(), age > OLDEST_YEARS),
    }
    counts, examples = [], [_no_examples()]
    for check, (checked, violated) in asked.items():
        bad = people.filter(violated.fill_null(False))
        counts.append((check, people.filter(checked.fill_null(False)).height, bad.height))
        first = bad.sort("order").head(EXAMPLES)
        shown = rows.join(first.select("row"), on="row", how="semi")
        # One list a check: which code the patient's row has says nothing here.
        examples.append(shown.select(pl.lit(check).alias("check"), *SHOWN, "order").with_columns(code=pl.lit("")))
    schema = {"check": pl.String(), "checked": pl.Int64(), "violated": pl.Int64()}
    return pl.DataFrame(counts, schema=schema, orient="row"), pl.concat(examples)


def _overview(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    timed = rows.filter(pl.col("time").is_not_null() & (pl.col("kind") != "persons"))
    minute = pl.col("time").dt.epoch("s") // 60 % 1440
    number = pl.col("numeric_value").cast(pl.Float64())
    whole = number.is_not_null() & (number % 1 == 0) & (number.abs() >= 10) & (number.abs() < 1e6)
    integer = pl.when(whole).then(number).cast(pl.Int64())
    valued = rows.filter(pl.col("numeric_value").is_not_null())
    events = pl.len().cast(pl.Int64())
    return {
        "volume": timed.group_by(feed=_feed(), vocabulary="vocabulary", month=pl.col("time").dt.truncate("1mo")).agg(
            events=events
        ),
        "years": timed.group_by(vocabulary="vocabulary", year=pl.col("time").dt.year()).agg(
            events=events, patients=pl.col("subject_id").n_unique().cast(pl.Int64())
        ),
        "clock": timed.group_by(kind="kind", weekday=pl.col("time").dt.weekday(), minute=minute).agg(events=events),
        "values": _values(rows, valued, integer),
        "units": valued.group_by("code", "kind", "unit").agg(events=events),
        "ages": _ages(rows),
        "totals": rows.select(
            events=events,
            patients=pl.col("subject_id").n_unique().cast(pl.Int64()),
            first=timed["time"].min(),
            last=timed["time"].max(),
        ),
    }


def _feed() -> pl.Expr:
    """The table or file of a source: FHIR//Observation, CSV//labs.csv, OMOP//measurement; the system if it has none."""
    system = pl.col("source").str.extract(r"^([^/:=]+)(?://|:)")
    table = pl.col("source").str.extract(r"^[^/:=]+//([A-Za-z][^/:=]*)/")
    return pl.concat_str(system, (pl.lit("//") + table).fill_null("")).fill_null("(no source)")


def _values(rows: pl.DataFrame, valued: pl.DataFrame, integer: pl.Expr) -> pl.DataFrame:
    numbers = valued.group_by("code", "kind").agg(
        numeric=pl.len().cast(pl.Int64()),
        yes_or_no=pl.col("numeric_value").is_in([0.0, 1.0]).sum().cast(pl.Int64()),
        integers=integer.count().cast(pl.Int64()),
        tens=(integer % 10 == 0).sum().cast(pl.Int64()),
        total=integer.sum(),
        squares=(integer * integer).cast(pl.Int128()).sum(),
    )
    every = rows.group_by("code", "kind").agg(
        events=pl.len().cast(pl.Int64()), patients=pl.col("subject_id").n_unique().cast(pl.Int64())
    )
    return every.join(numbers, on=["code", "kind"], how="left").with_columns(
        pl.col("numeric", "yes_or_no", "integers", "tens", "total", "squares").fill_null(0)
    )


def _ages(rows: pl.DataFrame) -> pl.DataFrame:
    people = rows.group_by("subject_id").agg(pl.col("birth", "sex").first(), last=pl.col("time").max())
    years = (pl.col("last") - pl.col("birth")).dt.total_days() / YEAR_DAYS
    band = (years // AGE_BAND_YEARS).clip(0, OLDEST_YEARS // AGE_BAND_YEARS).cast(pl.Int64()) * AGE_BAND_YEARS
    return people.group_by(sex=pl.col("sex").fill_null("unknown"), age=band).agg(patients=pl.len().cast(pl.Int64()))
