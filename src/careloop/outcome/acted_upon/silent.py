"""The silent trial: predictions that were recorded but not shown, beside those that were.

What nobody saw nobody acted upon, so that such predictions can be held against what happened as they are. Source:
Kwong, Erdman, Khondker et al., Front Digit Health 2022;4:929508 (silent trials of predictions).
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from careloop import InputError
from careloop.outcome.accuracy import PredictionVerdict, judge_group


@dataclass(frozen=True)
class SilentTrial:
    """One model's predictions that were recorded but not shown, beside those that were; None where there are none."""

    model: str
    model_version: str
    silent: PredictionVerdict | None
    shown: PredictionVerdict | None
    words: str


def judge_silent(rows: pl.DataFrame, *, horizon_days: float, who: str = "later") -> tuple[SilentTrial, ...]:
    """Silent and shown predictions of each model and version that has silent ones.

    `rows`: prediction columns joined with follow_up_days and event, and `shown` Boolean (null counts as shown).
    Raises InputError without that column.
    """
    if "shown" not in rows.columns:
        raise InputError(
            "a silent trial needs to know which predictions were shown: got no column 'shown'; record predictions "
            "with it"
        )
    silent = ~pl.col("shown").fill_null(True)
    groups = rows.with_columns(pl.col("model_version").fill_null("")).partition_by(
        "model", "model_version", as_dict=True
    )
    found = []
    for model, version in sorted(groups):
        parts = groups[model, version].filter(silent), groups[model, version].filter(~silent)
        if parts[0].height:
            hidden, shown = (judge_group(p, horizon_days=horizon_days, who=who) if p.height else None for p in parts)
            found.append(SilentTrial(str(model), str(version), hidden, shown, _silent_words(hidden, shown)))
    return tuple(found)


def _silent_words(hidden: PredictionVerdict | None, shown: PredictionVerdict | None) -> str:
    sentences = [f"Predictions that nobody saw: {hidden.words}"] if hidden else []
    if shown:
        sentences.append(f"Predictions that were shown, so that care may have changed what happened: {shown.words}")
    return " ".join(sentences)
