"""Sentinels: one exact number, repeated, alone and far from everything else a code measures (999, -1)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import polars as pl

from careloop.clean.findings import findings, together
from careloop.clean.sketch import is_measured

RULE = "sentinel"
SENTINELS = pl.Schema(
    {"code": pl.String(), "unit": pl.String(), "value": pl.Float64(), "action": pl.String(), "count": pl.Int64()}
)
LEAST = 100  # values of a code and unit below which nothing is said
REPEATED, NEGATIVE = 5, 2  # times that one exact value must stand there; one below zero is odd enough twice
SHARE = 0.25  # of a code's values above which one is an answer (never smoked: 0), no sentinel
LEVELS = 5  # different values that the others must have: with fewer there is no distribution to lie outside of
# At most this part of its number may lie within 40 % of it, or on its side of zero: for numbers that people write for
# "not measured" (`is_usual`), and for any other number, which is only pointed out.
ALONE_USUAL, ALONE_OTHER = 0.5, 0.2
NEIGHBOURHOOD = 0.15  # decades, or half the way to the median where that is nearer
# Distance from the bulk in its own standard deviations (of logarithms where all are positive). Ill patients and values
# in another unit make these wide, so of a usual number it says more that hardly anything lies around it. Zero seems
# farther off than it is where values are skewed, since it is judged on the plain scale.
FAR_USUAL, FAR_ZERO, FAR_OTHER = 2.0, 4.0, 6.0
TAIL = 0.01
NORMAL_TAIL = 2.326  # standard deviations of a normal's 1 % and 99 %


def is_usual(value: float) -> bool:
    """True for what people write instead of a value: 9, 99, 99.9, 999, -1, -9, 888, 0 and the like."""
    digits = f"{abs(value):.7g}".replace(".", "").strip("0")
    if value in {0.0, -1.0, -9.0, 9.0}:
        return True
    return len(set(digits)) == 1 and (len(digits) >= 3 or (len(digits) == 2 and digits[0] in "98"))


def find_sentinel_values(levels: pl.DataFrame) -> pl.DataFrame:
    """Return the sentinels of each code and unit as written (columns `SENTINELS`) from a sketch's levels.

    Usual ones are to be removed, any other is to be flagged.
    """
    rows = levels.group_by("code", "unit", "sign", "bin").agg(
        pl.col("count").sum(), pl.col("low").min(), pl.col("high").max()
    )
    found = [
        {"code": code, "unit": unit, **sentinel}
        for (code, unit), part in rows.sort("code", "unit", "low")
        .partition_by("code", "unit", as_dict=True, maintain_order=True)
        .items()
        if part["count"].sum() >= LEAST
        for sentinel in _of(part)
    ]
    return pl.DataFrame(found, schema=SENTINELS)


def find_sentinels(events: pl.DataFrame, values: pl.DataFrame) -> pl.DataFrame:
    """Return findings of rule `sentinel` for events that have one of the values."""
    if values.is_empty():
        return together([])
    table = values.select("code", "unit", "action", numeric_value=pl.col("value").cast(pl.Float32()))
    key = ["code", "unit", "numeric_value"]
    rows = events.filter(is_measured()).join(table, on=key, how="inner", nulls_equal=True)
    return together([findings(rows.filter(action=a).select("row"), RULE, a) for a in ("removed", "flagged")])


def _of(rows: pl.DataFrame) -> Iterator[dict[str, object]]:
    """The sentinels among one code's levels, sorted by value."""
    value, count = rows["low"].to_numpy(), rows["count"].to_numpy().astype(float)
    point = (rows["low"] == rows["high"]).to_numpy() & (count >= np.where(value < 0, NEGATIVE, REPEATED))
    middle = (value + rows["high"].to_numpy()) / 2
    usual = point & np.array([is_usual(v) for v in value])
    for i in map(int, np.flatnonzero(point)):
        # The bulk is what is left without this value and every number that looks like a sentinel.
        rest = ~usual
        rest[i] = False
        if count[i] > SHARE * count.sum() or rest.sum() < LEVELS or count[rest].sum() < LEAST / 2:
            continue
        if not _is_alone(i, middle, count, usual):
            continue
        far = FAR_ZERO if value[i] == 0 else FAR_USUAL if usual[i] else FAR_OTHER
        if _distance(value[i], middle[rest], count[rest]) > far:
            yield {"value": float(value[i]), "action": "removed" if usual[i] else "flagged", "count": int(count[i])}


def _is_alone(i: int, middle: np.ndarray, count: np.ndarray, usual: np.ndarray) -> bool:
    """True where hardly any other value lies around it, or beyond it as seen from the bulk."""
    others = ~usual
    others[i] = False
    v = middle[i]
    if v <= 0:
        near = middle < 0 if v < 0 else np.abs(middle) < 1e-12
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.where(middle > 0, np.log10(np.abs(middle)), np.nan)
        inside = others & (middle > 0)
        if not count[inside].sum():
            return True
        median = _quantiles(logs[inside], count[inside], (0.5,))[0]
        near = np.abs(logs - math.log10(v)) < min(NEIGHBOURHOOD, abs(math.log10(v) - median) / 2)
    return bool(count[others & near].sum() <= (ALONE_USUAL if usual[i] else ALONE_OTHER) * count[i])


def _distance(value: float, middle: np.ndarray, count: np.ndarray) -> float:
    """How many standard deviations the value is beyond the bulk, of its own side; infinite below a positive bulk.

    A positive bulk is measured in logarithms, and nothing negative belongs to it; zero is judged on the plain scale,
    because for counts and small concentrations it is what rounding gives.
    """
    positive = count[middle > 0].sum() >= (1 - TAIL / 10) * count.sum()
    if positive and value < 0:
        return math.inf
    if positive and value > 0:
        inside = middle > 0
        middle, count, value = np.log10(middle[inside]), count[inside], math.log10(value)
    low, median, high = _quantiles(middle, count, (TAIL, 0.5, 1 - TAIL))
    spread = (high - median if value > median else median - low) / NORMAL_TAIL
    return abs(value - median) / max(spread, 1e-9)


def _quantiles(middle: np.ndarray, count: np.ndarray, at: tuple[float, ...]) -> list[float]:
    order = np.argsort(middle)
    cumulated = count[order].cumsum()
    return [float(middle[order][np.searchsorted(cumulated, q * cumulated[-1])]) for q in at]
