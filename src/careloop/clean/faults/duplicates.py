"""Duplicates: the same fact twice, the same value seconds later, and values or texts copied forward."""

from __future__ import annotations

import polars as pl

from careloop.clean.findings import FINDINGS, findings, together
from careloop.clean.sketch import is_measured, site
from careloop.record import CARELOOP, EVENTS

DUPLICATE, NEAR_DUPLICATE, COPY_FORWARD = "duplicate", "near_duplicate", "copy_forward"
FACT = tuple(name for name in EVENTS if name not in {"known_time", "source"})
CONTENT = tuple(name for name in FACT if name != "time")
NEAR_SECONDS = 10
SPARSE_SECONDS = 60  # a monitor that writes every second repeats itself rightly
COPIED_DAYS = 4  # between a panel and the one it is a copy of; weekends included
PANEL = 3  # values a panel has at least
CHANCE = 1e-4  # that a panel repeats by chance, from how often each of its codes repeats, at most
TEXT_CHARACTERS = 200  # shorter texts are phrases


def find_duplicates(events: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """Return findings of the three rules; `pairs` are a sketch's, for how often a code's values repeat."""
    exact = find_exact(events)
    left = events.join(exact.filter(action="removed").select("row"), on="row", how="anti", maintain_order="left")
    return together([exact, find_near(left), find_copied_values(left, pairs), find_copied_texts(left)])


def find_exact(events: pl.DataFrame) -> pl.DataFrame:
    """Events that say what another one, known no later, says: removed; the one known first stays.

    Numbers with a date only that one system gives twice are flagged: two measurements of a day may well be equal.
    """
    rows = events.filter(~pl.col("code").str.starts_with(CARELOOP))
    again = rows.filter(rows.select(FACT).is_duplicated()).sort("known_time", "source", "row")
    again = again.with_columns(site=site(), first=pl.struct(FACT).is_first_distinct())
    by_day = pl.col("numeric_value").is_not_null() & (pl.col("time").dt.time() == pl.time(0))
    repeated = ~pl.struct(*FACT, "site").is_first_distinct() & pl.col("source").is_not_null() & by_day
    again = again.with_columns(repeated=repeated.fill_null(False)).filter(~pl.col("first"))
    return together(
        [
            findings(again.filter(~pl.col("repeated")).select("row"), DUPLICATE, "removed"),
            findings(again.filter("repeated").select("row"), DUPLICATE, "flagged"),
        ]
    )


def find_near(events: pl.DataFrame) -> pl.DataFrame:
    """Events that repeat the one of their code some seconds before, where events do not come so densely: flagged."""
    rows = events.filter(pl.col("time").is_not_null() & ~pl.col("code").str.starts_with(CARELOOP))
    rows = rows.sort("subject_id", "code", "time", "row")
    previous = {name: pl.col(name).shift(1) for name in CONTENT}
    same = pl.all_horizontal(pl.col(name).eq_missing(expr) for name, expr in previous.items())
    gap = (pl.col("time") - pl.col("time").shift(1)).dt.total_seconds(fractional=True)
    dense = (
        (pl.col("subject_id") == pl.col("subject_id").shift(2))
        & (pl.col("code") == pl.col("code").shift(2))
        & ((pl.col("time") - pl.col("time").shift(2)).dt.total_seconds() <= SPARSE_SECONDS)
    ).fill_null(False)
    near = rows.with_columns(evident_time=pl.max_horizontal("known_time", pl.col("known_time").shift(1))).filter(
        same & (gap > 0) & (gap <= NEAR_SECONDS) & ~dense
    )
    return findings(near.select("row", "evident_time"), NEAR_DUPLICATE, "flagged")


def find_copied_values(events: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """Panels of a subject's measured values that repeat the panel before exactly: flagged.

    A panel is what was measured at one time. It is flagged where all of its values are those of an earlier panel, and
    where the chance of that, from how often each code's successive values are equal, is below `CHANCE`.
    """
    chance = pairs.group_by("code").agg(pl.col("equal").sum(), pl.col("count").sum())
    chance = chance.select("code", log_chance=((pl.col("equal") + 1) / (pl.col("count") + 1)).log10())
    rows = events.filter(is_measured()).join(chance, on="code", how="inner")
    if rows.is_empty():
        return FINDINGS.to_frame()
    rows = rows.sort("subject_id", "code", "unit", "time", "row")
    key = ["subject_id", "code", "unit"]
    same_series = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).shift(1)) for name in key)
    apart = pl.col("time") - pl.col("time").shift(1)
    equal = same_series & (pl.col("numeric_value") == pl.col("numeric_value").shift(1))
    recent = (apart > pl.duration(hours=1)) & (apart <= pl.duration(days=COPIED_DAYS))
    rows = rows.with_columns(
        is_copy=(equal & recent).fill_null(False),
        copied_from=pl.col("time").shift(1),
        evident=pl.max_horizontal("known_time", pl.col("known_time").shift(1)),
    )
    panel = rows.group_by("subject_id", "time").agg(
        copies=pl.col("is_copy").sum(),
        size=pl.len(),
        froms=pl.col("copied_from").filter("is_copy").n_unique(),
        log_chance=pl.col("log_chance").sum(),
        evident_time=pl.col("evident").max(),
    )
    whole = (pl.col("copies") == pl.col("size")) & (pl.col("size") >= PANEL) & (pl.col("froms") == 1)
    panel = panel.filter(whole & (pl.col("log_chance") < pl.lit(CHANCE).log10()))
    found = rows.select("row", "subject_id", "time").join(panel, on=["subject_id", "time"], how="inner")
    return findings(found.select("row", "evident_time").sort("row"), COPY_FORWARD, "flagged")


def find_copied_texts(events: pl.DataFrame) -> pl.DataFrame:
    """Long texts that a subject's record has at an earlier time already, word by word: flagged."""
    rows = events.filter(pl.col("text_value").str.len_chars() >= TEXT_CHARACTERS)
    rows = rows.filter(pl.col("time").is_not_null() & ~pl.col("code").str.starts_with(CARELOOP))
    rows = rows.with_columns(pl.col("text_value").hash()).sort("subject_id", "code", "text_value", "known_time", "row")
    key = ["subject_id", "code", "text_value"]
    again = rows.filter(~pl.struct(key).is_first_distinct())
    return findings(again.select("row").sort("row"), COPY_FORWARD, "flagged")
