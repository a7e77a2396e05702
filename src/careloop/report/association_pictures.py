"""Pictures of an association study as SVG: P values along the genome (Manhattan), and against chance (QQ)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop.report.charts import COLOURS, GREY, _figure, _svg, style

GENOME_WIDE, SUGGESTIVE = -np.log10(5e-8), 5.0  # -log10 of P
MOST_NAMED = 8
_WIDTH, _HEIGHT = 1_500, 500  # places of points that can be told apart; of several at one, one is drawn
_GAP = 0.005  # between chromosomes, share of the genome
_ORDER = {name: place for place, name in enumerate([*map(str, range(1, 23)), "X", "Y", "MT"])}
_DPI = 200  # points are one picture inside the SVG: some ten thousand single shapes would be slow to show
_BAND_POINTS = 200


def manhattan_picture(table: pl.DataFrame, *, named: Sequence[int] = ()) -> str:
    """-log10 P of each row of a `STATISTICS` table at its place; rows `named` have their variant's id written beside.

    Rows without a P value or position are left out. Lines are at 5e-8 and 1e-5.
    """
    names, x, centres = _places(table)
    height = table["neg_log_10_p_value"].fill_null(np.nan).to_numpy()
    with style():
        figure, axes = _figure(9.2, 3.6)
        for at, name in enumerate(centres):
            rows = np.flatnonzero((names == name) & np.isfinite(height) & np.isfinite(x))
            rows = rows[_told_apart(x[rows], height[rows], np.nanmax(height, initial=1))]
            colour = COLOURS[0] if at % 2 == 0 else COLOURS[4]
            axes.scatter(x[rows], height[rows], s=4, color=colour, linewidths=0, rasterized=True)
        for line, dash in ((GENOME_WIDE, "-"), (SUGGESTIVE, ":")):
            axes.axhline(line, color=GREY, linewidth=0.8, linestyle=dash)
        for row in list(named)[:MOST_NAMED]:
            label: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 7}
            text = table["variant_id"][row] or ""
            axes.annotate(text, (x[row], height[row]), (0, 3), "data", "offset points", **label)
        axes.set_xticks(list(centres.values()), list(centres), fontsize=8)
        top = max(GENOME_WIDE, float(np.nanmax(height, initial=0))) * 1.12
        axes.set(
            xlabel="chromosome", ylabel="-log10 P", ylim=(0, top), xlim=(-_GAP, x[np.isfinite(x)].max(initial=1) + _GAP)
        )
        return _raster_svg(figure)


def qq_picture(minus_log: NDArray[np.float64], lambda_gc: float | None) -> str:
    """Sorted -log10 P values (tests,) against what they would be by chance, with 95 % limits of each rank."""
    from scipy.special import betaincinv

    observed = np.sort(minus_log[np.isfinite(minus_log)])[::-1]
    count = len(observed)
    ranks = np.arange(1, count + 1)
    expected = -np.log10((ranks - 0.5) / max(count, 1))
    with style():
        figure, axes = _figure(4.4, 4.2)
        if count:
            shown = np.unique(np.geomspace(1, count, _BAND_POINTS).astype(np.int64))
            low, high = (-np.log10(betaincinv(shown, count - shown + 1, share)) for share in (0.975, 0.025))
            chance = expected[shown - 1]
            axes.fill_between(chance, low, high, color=GREY, alpha=0.25, linewidth=0, label="95 % by chance")
            axes.plot(chance[[0, -1]], chance[[0, -1]], color=GREY, linewidth=0.9)
            rows = _told_apart(expected / expected[0], observed, observed[0])
            label = "variants" if lambda_gc is None else f"variants, lambda GC {lambda_gc:.3f}"
            axes.scatter(
                expected[rows], observed[rows], s=7, color=COLOURS[0], linewidths=0, rasterized=True, label=label
            )
            axes.legend(loc="upper left")
        axes.set(xlabel="-log10 P by chance", ylabel="-log10 P found", xlim=(0, None), ylim=(0, None))
        return _raster_svg(figure)


def _places(table: pl.DataFrame) -> tuple[NDArray[Any], NDArray[np.float64], dict[str, float]]:
    """Each row's chromosome, its place from 0 to about 1 along the genome, and each chromosome's middle, in order."""
    names = table["chromosome"].fill_null("?").to_numpy().astype(str)
    position = table["base_pair_location"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    present = sorted(set(names[np.isfinite(position)]), key=lambda name: (_ORDER.get(name, len(_ORDER)), name))
    spans = {name: (np.nanmin(position[names == name]), np.nanmax(position[names == name]) + 1) for name in present}
    whole = sum(end - first for first, end in spans.values()) or 1
    x, centres, start = np.full(len(names), np.nan), {}, 0.0
    for name, (first, end) in spans.items():
        rows = names == name
        x[rows] = start + (position[rows] - first) / whole
        centres[name] = start + (end - first) / whole / 2
        start += (end - first) / whole + _GAP
    return names, x, centres


def _told_apart(x: NDArray[np.float64], y: NDArray[np.float64], top: float) -> NDArray[np.int64]:
    """Places of one point a cell of the picture, x from 0 to 1 and y to `top`."""
    cells = np.round(x * _WIDTH).astype(np.int64) * (2 * _HEIGHT) + np.round(y / max(top, 1) * _HEIGHT).astype(np.int64)
    return np.unique(cells, return_index=True)[1]


def _raster_svg(figure: Any) -> str:
    figure.set_dpi(_DPI)
    return _svg(figure)
