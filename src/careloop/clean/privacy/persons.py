"""What is known about the people of a shard: birth, death and sex, each with the time from which it was known."""

from __future__ import annotations

import polars as pl

from careloop.record import BIRTH, DEATH

ALWAYS = pl.datetime(1, 1, 1, time_unit="us", time_zone="UTC")  # a static fact was known before anything else
SEX = {"GENDER//F": "F", "GENDER//M": "M"}
DAYS_PER_YEAR = 365.25


def with_persons(rows: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Return `rows` with columns birth, death and sex of their subject, each followed by when that became known.

    Where a fact came several times, the one known first counts, so that what comes later changes nothing before it.
    """
    for name, facts in (("birth", _births(events)), ("death", _deaths(events)), ("sex", _sexes(events))):
        first = facts.sort("subject_id", f"{name}_known", name).unique("subject_id", keep="first", maintain_order=True)
        rows = rows.join(first, on="subject_id", how="left", maintain_order="left")
    return rows


def known_by_then(name: str) -> pl.Expr:
    """True where the fact was known when the event became known."""
    return pl.col(f"{name}_known") <= pl.col("known_time")


def age_years() -> pl.Expr:
    """Age at the event; null without a birth."""
    return (pl.col("time") - pl.col("birth")).dt.total_seconds() / (DAYS_PER_YEAR * 86400)


def _births(events: pl.DataFrame) -> pl.DataFrame:
    rows = events.filter((pl.col("code") == BIRTH) & pl.col("time").is_not_null())
    return rows.select("subject_id", birth="time", birth_known="known_time")


def _deaths(events: pl.DataFrame) -> pl.DataFrame:
    rows = events.filter((pl.col("code") == DEATH) & pl.col("time").is_not_null())
    return rows.select("subject_id", death="time", death_known="known_time")


def _sexes(events: pl.DataFrame) -> pl.DataFrame:
    rows = events.filter(pl.col("code").is_in(list(SEX)))
    known = pl.coalesce("known_time", ALWAYS).cast(events.schema["known_time"])
    return rows.select("subject_id", sex=pl.col("code").replace_strict(SEX, return_dtype=pl.String), sex_known=known)
