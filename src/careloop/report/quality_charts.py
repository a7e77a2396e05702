"""Charts of a data quality report as SVG text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np

from careloop.clean.checks.results import Distribution
from careloop.clean.checks.volume import Feed
from careloop.report.charts import COLOURS, GREY, _figure, _svg

BLUE, ORANGE = COLOURS[0], COLOURS[1]
ROUNDING = 1.0001  # edges are written with six digits
STRAY = 0.05  # of a usual month's events
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def volume(feeds: Sequence[Feed], *, smallest: int) -> str:
    """Events a month of each feed, one above the other, with sudden drops marked.

    Months with 1 to below `smallest` events are all drawn alike; at the beginning, those with hardly any not at all.
    """
    figure, grid = _figure(10.4, 0.6 + 1.25 * len(feeds), rows=(1,) * len(feeds))
    first = _first_month(feeds)
    last = max(_month(feed.first, len(feed.counts)) for feed in feeds)
    for axes, feed in zip(np.atleast_1d(grid), feeds, strict=True):
        strays = [place for place in range(len(feed.counts)) if _month(feed.first, place) < first]
        months = [_month(feed.first, place) for place in range(len(strays), len(feed.counts) + 1)]
        counts = [max(count, smallest - 1) if count else 0 for count in feed.counts[len(strays) :]]
        if not counts:
            continue
        axes.fill_between(months, [*counts, counts[-1]], step="post", color=BLUE, alpha=0.35, linewidth=0)
        axes.step(months, [*counts, counts[-1]], where="post", color=BLUE, linewidth=1)
        for drop in feed.drops:
            axes.axvspan(drop.first, _month(drop.last, 1), color=ORANGE, alpha=0.3, linewidth=0)
            axes.plot([drop.first, _month(drop.last, 1)], [drop.usual] * 2, color=ORANGE, linewidth=1.4)
        axes.set_title(feed.title, loc="left", fontsize=9, fontweight="normal")
        top = _top(counts)
        axes.set(xlim=(first, last), ylim=(0, top))
        if max(counts) > top:
            peak = months[counts.index(max(counts))]
            axes.text(
                1.0, 1.02, f"peak {max(counts):,} in {peak:%Y-%m}", transform=axes.transAxes, ha="right", fontsize=8
            )
        axes.margins(x=0)
        axes.yaxis.set_major_locator(_few_ticks())
        axes.tick_params(labelsize=8)
    return str(_svg(figure))


def distribution(shape: Distribution, title: str, *, smallest: int) -> str:
    """The values of one code on a logarithmic axis: limits as lines, in another colour what is beyond or mixed up.

    Values in another unit that lie among the others are shaded.
    """
    figure, axes = _figure(3.4, 2.5)
    edges = np.array(shape.edges)
    counts = np.array(shape.counts)
    counts = np.where(counts < smallest, 0, counts)
    middles = np.sqrt(edges[:-1] * edges[1:])
    odd = (middles < (shape.low or 0)) | (middles > (shape.high or np.inf))
    for value in shape.sentinels:
        odd |= (edges[:-1] <= value * ROUNDING) & (value / ROUNDING < edges[1:])
    for part in shape.components:
        if part.overlaps:
            axes.axvspan(part.low, part.high, color=ORANGE, alpha=0.18, linewidth=0)
        else:
            odd |= (middles >= part.low) & (middles <= part.high)
    for chosen, colour in ((~odd, BLUE), (odd, ORANGE)):
        axes.bar(edges[:-1][chosen], counts[chosen], width=np.diff(edges)[chosen], align="edge", color=colour)
    axes.set_xscale("log")
    for limit in (shape.low, shape.high):
        # A limit far from all values would squeeze them into a corner; the text below gives it.
        if limit is not None and limit > 0 and edges[0] / 3 < limit < edges[-1] * 3:
            axes.axvline(limit, color="black", linewidth=1, linestyle="--")
    # Single values far out would not be seen at all on an even scale of counts.
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xlabel(shape.unit or "no unit", fontsize=9)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.tick_params(labelsize=8)
    top = int(counts.max(initial=1))
    axes.yaxis.set_ticks([1, top], ["1", f"{top:,}"], minor=False)
    axes.yaxis.set_ticks([], minor=True)
    return str(_svg(figure))


def pyramid(ages: Sequence[tuple[str, int | None, int | None]]) -> str:
    """Patients by ten years of age, women to the left and men to the right; suppressed groups are hatched stubs."""
    bands = sorted({age for _, age, _ in ages if age is not None})
    figure, axes = _figure(4.8, 0.9 + 0.26 * len(bands))
    top = max([count or 0 for _, _, count in ages], default=1) or 1
    for sex, age, count in ages:
        if age is None or sex not in {"F", "M"}:
            continue
        side = -1 if sex == "F" else 1
        style: dict[str, Any] = {"color": ORANGE if sex == "F" else BLUE}
        if count is None:
            style = {"facecolor": "white", "edgecolor": GREY, "hatch": "////"}
        axes.barh(age, side * (top * 0.03 if count is None else count), height=8.5, **style)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(bands, [f"{band}–{band + 9}" for band in bands])
    axes.set(xlim=(-1.1 * top, 1.1 * top), title="Patients by age at last event")
    axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):,.0f}")
    axes.set_xlabel("women  |  men", fontsize=9)
    axes.tick_params(labelsize=8)
    return str(_svg(figure))


def clock(counts: Sequence[Sequence[int]], *, smallest: int) -> str:
    """Events by weekday and hour (UTC): a working week has its own pattern, an artefact is a single cell."""
    figure, axes = _figure(5.4, 2.2)
    table = np.array(counts, dtype=float)
    table = np.where(table < smallest, 0, table)
    axes.pcolormesh(np.arange(25), np.arange(8), table, cmap="Blues", edgecolors="white", linewidth=0.4, vmin=0)
    axes.set_yticks(np.arange(7) + 0.5, DAYS)
    axes.set(xticks=range(0, 25, 3), ylim=(7, 0), xlabel="hour (UTC)", title="Events by weekday and hour")
    axes.tick_params(labelsize=8, length=0)
    return str(_svg(figure))


def _top(counts: Sequence[int]) -> float:
    """Where the axis ends: at the largest month, or above the usual ones where one month towers over all."""
    usual = 3 * float(np.quantile(counts, 0.95))
    return 1.05 * max(counts) if max(counts) <= 2 * usual or not usual else usual


def _first_month(feeds: Sequence[Feed]) -> date:
    """The month from which there is more than a stray event: slips of years would squeeze all the rest."""
    by_month: dict[date, int] = {}
    for feed in feeds:
        for place, count in enumerate(feed.counts):
            month = _month(feed.first, place)
            by_month[month] = by_month.get(month, 0) + count
    # The count of the month in which the median event lies, whatever number of nearly empty months there are.
    counts = np.sort(list(by_month.values()))
    usual = counts[np.searchsorted(counts.cumsum(), counts.sum() / 2)]
    return min(month for month, count in by_month.items() if count >= STRAY * usual)


def _month(first: date, later: int) -> date:
    months = first.year * 12 + first.month - 1 + later
    return date(months // 12, months % 12 + 1, 1)


def _few_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=3, integer=True)
