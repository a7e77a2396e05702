"""Predictions against outcomes by calendar month of the prediction.

A month is that of the prediction, not that in which the outcome became known: only so is it a group of patients who
all had the same chance to have the outcome. Sorted by when they became known, this month's outcomes would be early ones
of recent patients, beside late all-clears of patients from a horizon ago. The price is patience: a month is `known`
when the horizon of its last day has passed, and until then no figure is given. Where most months have fewer than 20
predictions, which say nothing by themselves, quarters or years take their place.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from careloop.evaluate import horizon_weights, to_json
from careloop.outcome.accuracy import FIGURES, PredictionVerdict, judge_group, risk_of, used_rows

# Observed : expected beyond these quantiles of its distribution under right predictions is a surprise once in twenty.
LIMITS = (0.025, 0.975)
FEWEST_PREDICTIONS = 20  # in the median period
PERIODS = ("1mo", "1q", "1y")


@dataclass(frozen=True)
class Month:
    """One model's predictions of a calendar month (`2024-03`), quarter (`2024-Q1`) or year, and figures where known.

    `known_from` is the date on which the horizon of the month's last day has passed. `limits` are those of
    observed : expected in 95 % of months with these patients if every predicted risk were right; None while not known.
    """

    month: str
    known: bool
    known_from: str
    verdict: PredictionVerdict
    limits: tuple[float, float] | None


@dataclass(frozen=True)
class ModelMonths:
    """All months of one model and version, in order of time."""

    model: str
    model_version: str
    months: tuple[Month, ...]


def judge_months(rows: pl.DataFrame, *, horizon_days: float, as_of: datetime) -> tuple[ModelMonths, ...]:
    """Months of each model and version, in order of their names.

    `rows`: prediction columns joined with follow_up_days and event; `as_of`: up to when the record tells of outcomes.
    """
    every = _period(rows)
    start = pl.col("prediction_time").dt.truncate(every)
    months = rows.with_columns(pl.col("model_version").fill_null(""), start=start, end=start.dt.offset_by(every))
    groups = months.partition_by("model", "model_version", "start", "end", as_dict=True)
    found: dict[tuple[str, str], list[Month]] = {}
    for key in sorted(groups):
        model, version, first, end = key
        name = _name(first, every)
        of_month = _month(name, groups[key], end=end, horizon_days=horizon_days, as_of=as_of)
        found.setdefault((str(model), str(version)), []).append(of_month)
    return tuple(ModelMonths(*names, tuple(each)) for names, each in found.items())


def _period(rows: pl.DataFrame) -> str:
    """The shortest period whose median has predictions enough, else a year."""
    made = rows.select("subject_id", "prediction_time").unique()["prediction_time"]
    for every in PERIODS[:-1]:
        counts = made.dt.truncate(every).value_counts(name="predictions")["predictions"]
        if float(counts.median() or 0) >= FEWEST_PREDICTIONS:  # type: ignore[arg-type]
            return every
    return PERIODS[-1]


def _name(start: datetime, every: str) -> str:
    quarter = f"{start.year:04}-Q{(start.month + 2) // 3}"
    return {"1mo": f"{start:%Y-%m}", "1q": quarter, "1y": f"{start.year:04}"}[every]


def _month(month: str, rows: pl.DataFrame, *, end: datetime, horizon_days: float, as_of: datetime) -> Month:
    known_from = end + timedelta(days=horizon_days)
    known = as_of >= known_from
    reason = "" if known else f"the outcomes of {month} are known from {known_from:%Y-%m-%d}"
    verdict = judge_group(rows, horizon_days=horizon_days, who="later", too_early=reason)
    limits = _limits(rows, horizon_days) if known and verdict.observed_expected.value is not None else None
    return Month(month, known, f"{known_from:%Y-%m-%d}", verdict, limits)


def _limits(rows: pl.DataFrame, horizon_days: float) -> tuple[float, float]:
    """Quantiles of observed : expected under right predictions.

    The number of outcomes is a sum of unequal coin tosses (Poisson binomial, exact by convolution); lost patients
    widen the limits as weights make fewer of those that are left.
    """
    kept = used_rows(rows)
    probability = risk_of(kept)
    weight = horizon_weights(kept["follow_up_days"].to_numpy(), kept["event"].to_numpy(), horizon_days)
    mass = np.ones(1)
    for p in probability:
        mass = np.convolve(mass, (1 - p, p))
    counts = np.searchsorted(np.cumsum(mass), LIMITS)
    widened = np.sqrt(len(weight) * (weight**2).sum()) / weight.sum()
    low, high = 1 + (counts / probability.sum() - 1) * widened
    return max(float(low), 0.0), float(high)


def months_table(models: tuple[ModelMonths, ...]) -> pl.DataFrame:
    """One row a model, version and month: counts, then value, `_low` and `_high` of each figure, null where not given.

    Columns model, model_version, month, known, patients, rows, abstained, events, censored, predicted, observed,
    observed_expected, intercept, slope, auroc, brier (each with its limits) and note, why figures are missing.
    """
    rows = [_table_row(each, month) for each in models for month in each.months]
    return pl.DataFrame(rows, infer_schema_length=None)


def _table_row(each: ModelMonths, month: Month) -> dict[str, Any]:
    verdict = month.verdict
    row: dict[str, Any] = {"model": each.model, "model_version": each.model_version, "month": month.month}
    row["known"] = month.known
    row |= {name: getattr(verdict, name) for name in ("patients", "rows", "abstained", "events", "censored")}
    row["predicted"] = verdict.predicted
    for name in ("observed", *FIGURES):
        found = getattr(verdict, name)
        row |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
    return row | {"note": verdict.observed.reason or verdict.observed_expected.reason}


def months_json(models: tuple[ModelMonths, ...]) -> list[dict[str, Any]]:
    """Plain values for outcome.json and the chart, with E = {"value", "low", "high", "reason"}.

    [{"model", "model_version", "months": [{"month": "2024-03", "known", "known_from": date, "limits": [low, high] |
    null, "patients", "rows", "abstained", "events", "censored", "predicted", "observed": E, "observed_expected": E,
    "intercept": E, "slope": E, "auroc": E, "brier": E}]}]
    """
    return [
        {"model": each.model, "model_version": each.model_version, "months": [_month_json(m) for m in each.months]}
        for each in models
    ]


def _month_json(month: Month) -> dict[str, Any]:
    counts = {n: v for n, v in to_json(month.verdict).items() if n not in ("model", "model_version", "words")}
    return {
        "month": month.month,
        "known": month.known,
        "known_from": month.known_from,
        "limits": to_json(month.limits),
        **counts,
    }
