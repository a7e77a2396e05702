"""Division of subjects into train, tuning and held_out: by a seeded hash, by site, or by calendar."""

from __future__ import annotations

from datetime import UTC, datetime, time

import numpy as np
import polars as pl

from careloop.cohort.definition import Split
from careloop.cohort.labels import KEY, Facts
from careloop.record import history
from careloop.record.schema import code_matches

GOLDEN_GAMMA = 0x9E3779B97F4A7C15


def assign_split(rows: pl.DataFrame, split: Split) -> pl.DataFrame:
    """Add column `split`, decided for each row by itself; `keep_first_split` then makes it one split a subject.

    Args:
        rows: subject_id, prediction_time and, for `by: site`, site.
        split: the study's rule.

    """
    if split.by == "calendar":
        return rows.with_columns(split=_by_calendar(split))
    position = pl.lit(subject_fraction(rows["subject_id"], split.seed))
    if split.by == "site":
        among_others = split.train / (split.train + split.tuning)
        rest = pl.when(position < among_others).then(pl.lit("train")).otherwise(pl.lit("tuning"))
        held_out = pl.col("site").is_in(list(split.held_out_sites))
        return rows.with_columns(split=pl.when(held_out).then(pl.lit("held_out")).otherwise(rest))
    by_subject = (
        pl.when(position < split.train)
        .then(pl.lit("train"))
        .when(position < split.train + split.tuning)
        .then(pl.lit("tuning"))
        .otherwise(pl.lit("held_out"))
    )
    return rows.with_columns(split=by_subject)


def keep_first_split(rows: pl.DataFrame) -> pl.DataFrame:
    """Drop rows that lie in another split than the subject's first prediction time, so that no subject is in two."""
    first = pl.col("split").sort_by("prediction_time").first().over("subject_id")
    return rows.filter(pl.col("split") == first)


def sites(facts: Facts, keys: pl.DataFrame, site_code: str) -> pl.DataFrame:
    """Site of each row as (subject_id, prediction_time, site): the latest known by then, else a static fact."""
    named = pl.col("code").str.slice(len(site_code) - 1) if site_code.endswith("*") else pl.col("text_value")
    stated = facts.events.lazy().filter(code_matches((site_code,))).with_columns(site=named)
    known = history(stated.filter(pl.col("site").is_not_null()), keys)
    latest_first = known.sort("known_time", "time", "site", descending=[True, True, False], nulls_last=True)
    return latest_first.unique(KEY, keep="first", maintain_order=True).select(*KEY, "site").collect()


def subject_fraction(subject_ids: pl.Series, seed: int) -> pl.Series:
    """A number in [0, 1) for each subject that depends on nothing but subject_id and seed (SplitMix64).

    Source: Steele, Lea, Flood: Fast splittable pseudorandom number generators. OOPSLA 2014, figure 17.
    """
    offset = np.uint64(splitmix64(np.array([seed], np.uint64))[0])
    mixed = splitmix64(subject_ids.to_numpy().astype(np.int64).view(np.uint64) ^ offset)
    return pl.Series("fraction", (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def splitmix64(state: np.ndarray) -> np.ndarray:
    """SplitMix64's output for each uint64 state; a bijection, so no two subjects collide before scaling."""
    mixed = state + np.uint64(GOLDEN_GAMMA)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _by_calendar(split: Split) -> pl.Expr:
    assert split.boundaries is not None  # the section's own check
    tuning_from, held_out_from = (datetime.combine(day, time(), UTC) for day in split.boundaries)
    when = pl.col("prediction_time")
    return (
        pl.when(when < tuning_from)
        .then(pl.lit("train"))
        .when(when < held_out_from)
        .then(pl.lit("tuning"))
        .otherwise(pl.lit("held_out"))
    )
