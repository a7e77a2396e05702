"""Pictures of polygenic scores as SVG: where a person lies among others, and absolute risk by age."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from careloop.genome.risk.absolute_risk import RiskCurve
from careloop.report.charts import COLOURS, GREY, _figure, _svg, style

_BINS = 40
_LABELLED = (5, 50, 95)  # percentiles marked below the distribution


def distribution_picture(others: NDArray[np.float64], value: float | None, *, axis: str) -> str:
    """Scores of `others` (people,) as a histogram, with the person's own place where `value` is one.

    `axis` says what the scores are, with their unit.
    """
    with style():
        figure, axes = _figure(5.6, 3.0)
        edges = np.histogram_bin_edges(np.append(others, [] if value is None else value), _BINS)
        counts, *_ = axes.hist(others, edges, color=COLOURS[4], alpha=0.6, edgecolor="white", linewidth=0.4)
        for percentile in _LABELLED:
            at = float(np.percentile(others, percentile))
            axes.axvline(at, color=GREY, linewidth=0.8, linestyle=":")
            label = {"va": "top", "fontsize": 8, "color": GREY}
            axes.annotate(f"{percentile} %", (at, 1), (2, -2), ("data", "axes fraction"), "offset points", **label)
        if value is not None:
            axes.axvline(value, color=COLOURS[1], linewidth=2, label="this person")
            axes.legend(loc="upper left")
        axes.set(xlabel=axis, ylabel="people", ylim=(0, counts.max() * 1.18))
        return _svg(figure)


def risk_picture(curve: RiskCurve, person: int = 0) -> str:
    """The risk of one of the curve's people by age, its 95 % interval, and the average at that age."""
    with style():
        figure, axes = _figure(5.6, 3.4)
        low, high = 100 * curve.low[person], 100 * curve.high[person]
        if (high > low).any():
            axes.fill_between(curve.ages, low, high, color=COLOURS[1], alpha=0.15, linewidth=0, label="95 % interval")
        axes.plot(curve.ages, 100 * curve.risk[person], color=COLOURS[1], linewidth=1.8, label="this person")
        axes.plot(curve.ages, 100 * curve.average, color=GREY, linewidth=1.4, linestyle="--", label="average")
        axes.set(xlabel="age, years", ylabel="risk up to that age, %", ylim=(0, None), xlim=curve.ages[[0, -1]])
        axes.legend(loc="upper left")
        return _svg(figure)
