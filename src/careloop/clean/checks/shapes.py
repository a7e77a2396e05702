"""Distributions of the codes that fail by their values, with limits and suspected mix-ups, from the record's sketch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from careloop.clean.apply import Constants
from careloop.clean.checks.results import CheckResult, Component, Distribution
from careloop.clean.faults.mixups import Mixture
from careloop.clean.faults.plausible import IMPOSSIBLE
from careloop.clean.faults.units import Conversion
from careloop.clean.sketch import BIN

MOST = 12
BINS = 60
BY_VALUE = (
    "unit_mixup", "sentinel_values", "value_possible", "value_plausible", "one_unit_per_code", "unit_fits_code",
)  # fmt: skip


def distributions(
    checks: Sequence[CheckResult], fixed: Constants, descriptions: Mapping[str, str]
) -> tuple[Distribution, ...]:
    """Return the histograms of codes that fail by their values, most violations first, in their canonical unit."""
    failed: dict[str, dict[str, int]] = {}
    for result in checks:
        for part in result.parts:
            if result.check.id in BY_VALUE and part.status == "fail":
                failed.setdefault(part.name, {})[result.check.id] = part.violated
    order = sorted(failed, key=lambda code: (-max(failed[code].values()), code))
    drawn = (_distribution(code, tuple(failed[code]), fixed, descriptions.get(code)) for code in order)
    return tuple(shape for shape in drawn if shape is not None)[:MOST]


def _distribution(code: str, failed: tuple[str, ...], fixed: Constants, description: str | None) -> Distribution | None:
    levels = fixed.whole.levels.filter(pl.col("code") == code)
    if levels.is_empty():
        return None
    conversions = fixed.units.filter(pl.col("code") == code, pl.col("scale").is_not_null())
    levels = levels.join(conversions.select("unit", "scale", "offset"), on="unit", how="left")
    scale, offset = pl.col("scale").fill_null(1.0), pl.col("offset").fill_null(0.0)
    size = 10.0 ** ((pl.col("bin") + 0.5) * BIN)
    levels = levels.with_columns(value=pl.col("sign") * size * scale + offset)
    positive = levels.filter((pl.col("value") > 0) & (pl.col("sign") != 0))
    not_positive = int(levels["count"].sum()) - int(positive["count"].sum())
    edges, counts = _histogram(positive["value"].to_numpy(), positive["count"].to_numpy())
    low, high = _limits(code, fixed)
    return Distribution(
        code=code,
        description=description,
        unit=fixed.canonical.get(code),
        edges=edges,
        counts=counts,
        not_positive=not_positive,
        low=low,
        high=high,
        components=_components([mixture for mixture in fixed.mixtures if mixture.code == code], edges),
        sentinels=_sentinels(code, fixed),
        failed=failed,
    )


def _histogram(values: np.ndarray, weights: np.ndarray) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Even bins of the logarithm, not finer than the sketch's."""
    if not len(values):
        return (), ()
    logs = np.log10(values)
    first, last = math.floor(logs.min() / BIN), math.floor(logs.max() / BIN) + 1
    step = max(1, math.ceil((last - first) / BINS))
    edges = np.arange(first, last + step, step) * BIN
    counts, _ = np.histogram(logs, bins=edges, weights=weights)
    return tuple(float(f"{edge:.6g}") for edge in 10.0**edges), tuple(int(count) for count in counts)


def _limits(code: str, fixed: Constants) -> tuple[float | None, float | None]:
    """The widest possible limits over ages and sexes."""
    rows = fixed.limits.filter(pl.col("code") == code)
    possible = rows.filter(kind=IMPOSSIBLE)
    rows = possible if possible.height else rows
    low, high = rows["low"].min(), rows["high"].max()
    return (None if low is None else float(str(low))), (None if high is None else float(str(high)))


def _components(mixtures: Sequence[Mixture], edges: tuple[float, ...]) -> tuple[Component, ...]:
    found = []
    for mixture in mixtures:
        for part in mixture.parts:
            overlaps = math.isnan(part.border)
            if overlaps:
                low, high = _most(mixture, part.alternative.to_recorded)
            else:
                border = 10.0**part.border
                low, high = (border, edges[-1]) if part.high_side else (edges[0], border)
            found.append(Component(part.alternative.name, low, high, part.share, overlaps))
    return tuple(found)


def _most(mixture: Mixture, conversion: Conversion) -> tuple[float, float]:
    """Where four fifths of the true values would be, were they recorded in the other unit."""
    below = mixture.base.counts.cumsum()
    ends = np.interp(np.array([0.1, 0.9]) * below[-1], below, mixture.base.at)
    low, high = sorted(float(value) for value in conversion(10.0**ends))
    return low, high


def _sentinels(code: str, fixed: Constants) -> tuple[float, ...]:
    """The sentinels of a code above zero, in its canonical unit as the counts are."""
    rows = fixed.sentinels.filter(pl.col("code") == code, pl.col("value") > 0)
    rows = rows.join(fixed.units.select("code", "unit", "scale", "offset"), on=["code", "unit"], how="left")
    value = pl.col("value") * pl.col("scale").fill_null(1.0) + pl.col("offset").fill_null(0.0)
    return tuple(rows.select(value.unique().sort()).to_series().to_list())
