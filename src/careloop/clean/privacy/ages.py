"""Nobody older than 90 in what is shared, decided from what was known at the time, so that no age tells the future.

45 CFR 164.514(b)(2)(i)(C) makes one class of all ages over 89. Moving the birth until the age at a patient's last event
is 90 would do that, and would leak: the age shown at any earlier moment would tell how long the patient is still
followed. Moving all births before one date of the record would not leak, but make everybody old younger. So:

- Who is first known at 90 or older is shown as 90 at that moment, however old: the birth moves, no event does.
  Events from before the moved birth are dropped.
- Who is first known younger keeps the birth, and is followed to a day or two before the 90th birthday: later events (by
  time, or by when they became known) are dropped, as administrative censoring would. Analyses of the oldest need the
  hospital's own record.
- Ages stated as values above 89 become 90.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import polars as pl

from careloop.record import BIRTH, CARELOOP, code_matches

OLDEST_YEARS = 90
# Ninety calendar years have 32,871 to 32,873 days, and after shifting others than before. Days are the same before and
# after: nobody is followed to the 90th birthday, and those shown as 90 are so in any calendar.
_FOLLOWED_DAYS, _SHOWN_DAYS = 32_871, 32_873
AGE_CODES = ("AGE", "AGE//*", "LOINC//30525-0", "LOINC//21612-7", "LOINC//29553-5", "SNOMED//397669002")
_YEARS = ("a", "y", "yr", "yrs", "year", "years", "{years}")


def cap_stated_ages(events: pl.DataFrame) -> pl.DataFrame:
    """Stated ages over 89 years as 90, without their text; a unit that is absent counts as years."""
    is_age = code_matches(AGE_CODES)
    in_years = pl.col("unit").is_null() | pl.col("unit").str.to_lowercase().is_in(_YEARS)
    capped = pl.col("numeric_value").clip(upper_bound=OLDEST_YEARS)
    value = pl.when(in_years).then(
        pl.when(pl.col("numeric_value") > OLDEST_YEARS - 1).then(capped.ceil()).otherwise(capped)
    )
    return events.with_columns(
        numeric_value=pl.when(is_age).then(value).otherwise("numeric_value"),
        text_value=pl.when(~is_age).then("text_value"),
    )


def without_old_ages(events: pl.DataFrame, removed: Counter[str], changed: Counter[str]) -> pl.DataFrame:
    """Apply the rule above to one shard's events (all of each patient), counting events removed and births moved."""
    is_birth = pl.col("code") == BIRTH
    is_fact = ~is_birth & ~pl.col("code").str.starts_with(CARELOOP)
    people = events.group_by("subject_id").agg(
        birth=pl.col("time").filter(is_birth).min(), entry=pl.col("known_time").filter(is_fact).min()
    )
    ninety = pl.col("birth") + timedelta(days=_FOLLOWED_DAYS)
    people = people.with_columns(ninety=ninety, is_old=(pl.col("entry") >= ninety).fill_null(False))
    # A birth that stands twice is in doubt: the earliest decides.
    people = people.with_columns(
        shown=pl.when("is_old").then(pl.col("entry") - timedelta(days=_SHOWN_DAYS)).otherwise("birth")
    )
    events = events.join(people, on="subject_id", how="left", maintain_order="left")
    last = pl.max_horizontal("time", "known_time")
    late = (~is_birth & ~pl.col("is_old") & (last >= pl.col("ninety"))).fill_null(False)
    early = (~is_birth & pl.col("is_old") & (pl.col("time") < pl.col("shown"))).fill_null(False)
    removed["after the 90th birthday"] += events.filter(late).height
    removed["before the moved birth of a patient first known at 90 or older"] += events.filter(early).height
    moved = is_birth & pl.col("is_old")
    changed["birth moved, first known at 90 or older"] += events.filter(moved).height
    return (
        events.filter(~late & ~early)
        .with_columns(
            time=pl.when(moved).then("shown").otherwise("time"),
            known_time=pl.when(moved & (pl.col("known_time") == pl.col("time")))
            .then("shown")
            .otherwise(pl.when(moved).then(pl.max_horizontal("known_time", "shown")).otherwise("known_time")),
        )
        .drop("birth", "entry", "ninety", "is_old", "shown")
    )
