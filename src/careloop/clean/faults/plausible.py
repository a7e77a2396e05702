"""Plausibility: values that no living person has, values that hardly anyone has, and codes of the other sex."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import polars as pl

from careloop.clean.faults.units import TABLES, analytes, conversion
from careloop.clean.findings import findings, together
from careloop.clean.privacy.persons import age_years, known_by_then, with_persons
from careloop.clean.sketch import is_measured

IMPOSSIBLE, IMPLAUSIBLE, SEX = "impossible", "implausible", "sex"
LIMITS = pl.Schema(
    {
        "code": pl.String(),
        "sex": pl.String(),
        "age_from": pl.Float64(),
        "age_to": pl.Float64(),
        "low": pl.Float64(),
        "high": pl.Float64(),
        "unit": pl.String(),
        "kind": pl.String(),
        "source": pl.String(),
    }
)
# A limit is met, not passed, by the value that says so: 32-bit values are rounded in their seventh digit.
ROUNDING = 1e-6


@lru_cache(maxsize=1)
def shipped_limits() -> pl.DataFrame:
    """The limits that come with careloop (columns `LIMITS`), ages in years from (included) to (excluded)."""
    return pl.read_csv(TABLES / "plausible.csv", schema_overrides=LIMITS)


@lru_cache(maxsize=1)
def sex_codes() -> pl.DataFrame:
    """Codes (or `PREFIX*`) that only one sex has: code, sex, source."""
    return pl.read_csv(TABLES / "sex.csv")


def limits(canonical: Mapping[str, str], metadata: pl.DataFrame | None = None) -> pl.DataFrame:
    """Return the limits in each code's canonical unit; a code's own (codes table) replace the implausible ones.

    Limits in a unit that does not convert to the canonical one are left out.
    """
    table = shipped_limits()
    own = _own(metadata, canonical)
    table = pl.concat([table.join(own.filter(kind=IMPLAUSIBLE), on=["code", "kind"], how="anti"), own])
    rows = []
    for row in table.iter_rows(named=True):
        into = canonical.get(row["code"], row["unit"])
        found = (
            None if row["unit"] is None or into is None else conversion(row["unit"], into, analytes().get(row["code"]))
        )
        if found is None and row["unit"] != into:
            continue
        if found is not None:
            row |= {
                name: None if row[name] is None else found.scale * row[name] + found.offset for name in ("low", "high")
            }
        rows.append(row | {"unit": into})
    return pl.DataFrame(rows, schema=LIMITS)


def find_implausible(events: pl.DataFrame, table: pl.DataFrame) -> pl.DataFrame:
    """Return findings of rules `impossible` (removed) and `implausible` (flagged) by `limits`.

    Limits by age or sex are used where birth or sex was known when the event became known. Values in another unit than
    the limit's are left alone; those without a unit are taken to be in it.
    """
    codes = table["code"].unique().implode()
    rows = events.filter(pl.col("code").is_in(codes) & is_measured())
    rows = rows.select("row", "subject_id", "time", "known_time", "code", "unit", value=pl.col("numeric_value"))
    rows = with_persons(rows, events).with_columns(
        age=pl.when(known_by_then("birth")).then(age_years()), sex=pl.when(known_by_then("sex")).then("sex")
    )
    limit = table.rename({"unit": "of_unit", "sex": "of_sex"})
    rows = rows.select("row", "code", "unit", "value", "age", "sex").join(limit, on="code", how="inner")
    applies = (
        (pl.col("unit").is_null() | pl.col("of_unit").is_null() | (pl.col("unit") == pl.col("of_unit")))
        & (pl.col("of_sex").is_null() | (pl.col("of_sex") == pl.col("sex")).fill_null(False))
        & (pl.col("age_from").is_null() | (pl.col("age") >= pl.col("age_from")).fill_null(False))
        & (pl.col("age_to").is_null() | (pl.col("age") < pl.col("age_to")).fill_null(False))
    )
    low = pl.col("value") < pl.col("low") - ROUNDING * pl.col("low").abs()
    high = pl.col("value") > pl.col("high") + ROUNDING * pl.col("high").abs()
    beyond = rows.filter(applies & (low.fill_null(False) | high.fill_null(False)))
    impossible = beyond.filter(kind=IMPOSSIBLE).select("row").unique(maintain_order=True)
    implausible = beyond.filter(kind=IMPLAUSIBLE).select("row").unique(maintain_order=True)
    return together(
        [
            findings(impossible, IMPOSSIBLE, "removed"),
            findings(implausible.join(impossible, on="row", how="anti"), IMPLAUSIBLE, "flagged"),
        ]
    )


def find_other_sex(events: pl.DataFrame) -> pl.DataFrame:
    """Return findings of rule `sex`: codes of the other sex, flagged from when both are known."""
    codes = events.select(pl.col("code").unique())
    pattern = sex_codes().with_columns(
        prefix=pl.col("code").str.strip_suffix("*"), any=pl.col("code").str.ends_with("*")
    )
    of = codes.join(pattern.select("prefix", "any", of_sex="sex"), how="cross").filter(
        (pl.col("code") == pl.col("prefix")) | (pl.col("any") & pl.col("code").str.starts_with(pl.col("prefix")))
    )
    rows = events.join(of.select("code", "of_sex").unique("code"), on="code", how="inner")
    rows = with_persons(rows.select("row", "subject_id", "of_sex"), events).filter(pl.col("sex") != pl.col("of_sex"))
    known = pl.when(pl.col("sex_known").dt.year() > 1).then("sex_known")
    return findings(rows.select("row", evident_time=known), SEX, "flagged")


def _own(metadata: pl.DataFrame | None, canonical: Mapping[str, str]) -> pl.DataFrame:
    """The codes table's limits, in the code's unit there (the canonical one)."""
    if metadata is None:
        return LIMITS.to_frame()
    rows = metadata.filter(pl.col("plausible_low").is_not_null() | pl.col("plausible_high").is_not_null())
    nothing = [pl.lit(None, dtype=LIMITS[name]).alias(name) for name in ("sex", "age_from", "age_to")]
    unit = pl.coalesce("unit", pl.col("code").replace_strict(canonical, default=None, return_dtype=pl.String()))
    return rows.select(
        "code", *nothing, low="plausible_low", high="plausible_high", unit=unit,
        kind=pl.lit(IMPLAUSIBLE), source=pl.lit("codes table"),
    ).select(LIMITS.names())  # fmt: skip
