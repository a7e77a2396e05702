"""Events to tokens: each event's token, its number as a quantile and standardised, in one order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from careloop.features.timelines.recipe import TimelineRecipe
from careloop.features.timelines.vocabulary import has_number, is_wanted, note_text, result_text
from careloop.models.sequence.arrays import FIRST_CODE
from careloop.record.schema import BIRTH

# Events of one time are ordered by all that a network sees of them, so that the order of rows in files cannot matter.
IN_ORDER = ("subject_id", "time", "known_time", "token", "value", "quantile")
MOST_DEVIATIONS = 5.0
CODES = {"code": pl.String, "token": pl.Int32, "token_unit": pl.String, "is_measured": pl.Boolean}
TEXTS = {"code": pl.String, "text": pl.String, "text_token": pl.Int32}


@dataclass(frozen=True, eq=False)
class Facts:
    """Tokenised events of some subjects, uncut: columns `IN_ORDER` of timed and of static facts; births as recorded.

    `timed` is sorted by `IN_ORDER`; an event's place there is its `order`. Where the recipe has an encoder of notes,
    both have a last column `note`: the place of the event's note in `notes`, which are distinct and in order, or -1.
    """

    timed: pl.DataFrame
    static: pl.DataFrame
    births: pl.DataFrame
    notes: pl.Series | None = None


def tokenised(events: pl.LazyFrame, recipe: TimelineRecipe) -> Facts:
    """The events (columns of `EVENTS`) that the recipe's section wants, as tokens."""
    columns = ("subject_id", "time", "known_time", "code", "numeric_value", "unit")
    texts = {"text": result_text()} if recipe.encoder is None else {"text": result_text(), "note": note_text()}
    wanted, births = pl.collect_all(
        [
            events.filter(is_wanted(recipe.section)).select(*columns, **texts),
            events.filter(pl.col("code") == BIRTH).select("subject_id", "time", "known_time"),
        ]
    )
    notes = None
    if recipe.encoder is not None:
        notes = wanted["note"].drop_nulls().unique().sort()
        wanted = wanted.with_columns(note=pl.col("note").rank("dense").cast(pl.Int32).fill_null(0) - 1)
    order = IN_ORDER if notes is None else (*IN_ORDER, "note")
    facts = _with_numbers(_with_tokens(wanted, recipe), recipe).select(order)
    timed = pl.col("time").is_not_null()
    return Facts(facts.filter(timed).sort(order), facts.filter(~timed), births, notes)


def _with_tokens(events: pl.DataFrame, recipe: TimelineRecipe) -> pl.DataFrame:
    """Add `token`, and `number`: the event's number where the token is its very code and in the token's unit."""
    rows = []
    for code in events["code"].unique():
        token = recipe.number_of(code)
        own = recipe.tokens[token - FIRST_CODE] if (code, None) in recipe.numbers else None
        rows.append((code, token, own.unit if own else None, bool(own and own.edges)))
    found = events.lazy().join(pl.LazyFrame(rows, schema=CODES, orient="row"), on="code", how="left")
    texts = [(code, text, number) for (code, text), number in recipe.numbers.items() if text is not None]
    if texts:
        known = pl.LazyFrame(texts, schema=TEXTS, orient="row")
        found = found.join(known, on=("code", "text"), how="left")
        found = found.with_columns(token=pl.coalesce("text_token", "token"))
    fits = has_number() & pl.col("is_measured") & pl.col("unit").eq_missing(pl.col("token_unit"))
    return found.with_columns(number=pl.when(fits).then(pl.col("numeric_value").cast(pl.Float64))).collect()


def _with_numbers(events: pl.DataFrame, recipe: TimelineRecipe) -> pl.DataFrame:
    """Add `quantile`, 0 for no number, and `value`, standardised and cut, NaN for no number."""
    number = events["number"].to_numpy()
    at = np.flatnonzero(~np.isnan(number))
    token, measured = events["token"].to_numpy()[at] - FIRST_CODE, number[at]
    mean = np.array([one.mean for one in recipe.tokens])
    # A code whose training numbers are all the same has no scale of its own.
    deviation = np.array([one.standard_deviation or 1.0 for one in recipe.tokens])
    edges = np.full((recipe.section.quantiles - 1, len(recipe.tokens)), np.nan)
    for place, one in enumerate(recipe.tokens):
        if one.edges:
            edges[:, place] = one.edges
    quantile, value = np.zeros(len(number), dtype=np.uint8), np.full(len(number), np.nan, dtype=np.float32)
    within = np.ones(len(at), dtype=np.uint8)
    for edge in edges:  # edge by edge, because all at once would be a matrix of events and quantiles
        within += edge[token] < measured
    quantile[at] = within
    value[at] = np.clip((measured - mean[token]) / deviation[token], -MOST_DEVIATIONS, MOST_DEVIATIONS)
    return events.with_columns(quantile=pl.Series(quantile), value=pl.Series(value))
