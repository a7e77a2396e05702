"""One patient's history as a chart: when each event was, and what it adds to the risk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop.report.charts import COLOURS, GREY, _figure, _svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    Json = Mapping[str, Any]

LOWERS, RAISES = COLOURS[0], COLOURS[1]
MOST_LANES = 8
LEAST_PART = 0.05  # of the largest sum: a code whose sum is smaller gets no lane of its own
FINE_BELOW = 0.1  # sums are written with three decimals where none is as large
LEAST_DAYS = 7.0  # of the time axis
# Areas in square points: the event of the largest share, and one of none.
LARGEST, SMALLEST = 260.0, 9.0
LONGEST_NAME = 42  # letters: two lines would be drawn apart by browsers with other fonts
TICKS = {
    1: "1 day", 7: "1 week", 30.4: "1 month", 91.3: "3 months", 182.6: "6 months", 365.25: "1 year", 730.5: "2 years",
    1826: "5 years", 3652: "10 years", 7305: "20 years", 14610: "40 years",
}  # fmt: skip
TICK_ROOM = 0.15  # of the axis, between two ticks
BEGINNING = -0.06  # of the axis: where events without a date stand, left of all others


def timeline(events: Sequence[Json], *, unit: str) -> str:
    """Events of one patient by date, a lane for each of the codes that add most and one for all others.

    Each event has `name` (its code in words), `text` (with its value), `days_before` the prediction time (None for what
    stands at the beginning) and `share`; `unit` says what shares are. A mark's area is its share's size, its colour the
    share's sign; the event that speaks most for its lane is labelled. Time runs as the square root of days, so that the
    last weeks have room. Without events there is nothing to draw, and the text is empty.
    """
    if not events:
        return ""
    lanes = _lanes(events)
    figure, axes = _figure(7.6, 1.2 + 0.48 * len(lanes))
    longest = max(LEAST_DAYS, *(event["days_before"] or 0.0 for event in events))
    largest = max(abs(event["share"]) for event in events) or 1.0
    decimals = 3 if max(abs(_sum(mine)) for _, mine in lanes) < FINE_BELOW else 2
    for position, (_, mine) in enumerate(lanes):
        axes.axhline(position, color=GREY, linewidth=0.5, alpha=0.5, zorder=0)
        _draw_lane(axes, position, mine, longest=longest, largest=largest)
        axes.annotate(  # 0.0 is added so that no -0.00 is printed
            f"{round(_sum(mine), decimals) + 0.0:+.{decimals}f}",
            (1.02, position),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
        )
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(lanes)), [_shortened(name) for name, _ in lanes])
    axes.set_xticks(*_ticks(longest, has_beginning=any(e["days_before"] is None for e in events)))
    axes.set(ylim=(len(lanes) - 0.4, -0.6), xlim=(BEGINNING - 0.03, 1.02), xlabel=f"time before the prediction\n{unit}")
    axes.annotate("sum", (1.02, 1.01), xycoords="axes fraction", va="bottom", fontsize=9)
    _legend(axes)
    return str(_svg(figure))


def _lanes(events: Sequence[Json]) -> list[tuple[str, list[Json]]]:
    """Events by code, the largest sum of shares first; what is beyond `MOST_LANES` together at the end."""
    together: dict[str, list[Json]] = {}
    for event in events:
        together.setdefault(event["name"], []).append(event)
    ordered = sorted(together.items(), key=lambda lane: (-abs(_sum(lane[1])), lane[0]))
    least = LEAST_PART * abs(_sum(ordered[0][1]))
    own = [lane for lane in ordered[:MOST_LANES] if abs(_sum(lane[1])) >= least]
    rest = ordered[len(own) :]
    return ordered if len(rest) < 2 else [*own, (f"{len(rest)} other codes", [e for _, mine in rest for e in mine])]


def _sum(events: Sequence[Json]) -> float:
    return float(sum(event["share"] for event in events))


def _draw_lane(axes: Axes, position: int, events: Sequence[Json], *, longest: float, largest: float) -> None:
    """Marks of one lane, and the words of the event that speaks most for it."""
    x = [_place(event["days_before"], longest) for event in events]
    shares = np.array([event["share"] for event in events])
    area = SMALLEST + (LARGEST - SMALLEST) * np.abs(shares) / largest
    colours = np.select([shares > 0, shares < 0], [RAISES, LOWERS], GREY)
    axes.scatter(x, [position] * len(x), s=area, c=colours, alpha=0.65, linewidths=0, clip_on=False)
    leading = events[int(np.argmax(shares * np.sign(shares.sum())))]
    alone = all(event["name"] == leading["name"] for event in events)
    words = leading["text"].removeprefix(leading["name"]).strip() if alone else leading["text"]
    place = _place(leading["days_before"], longest)
    radius = np.sqrt((SMALLEST + (LARGEST - SMALLEST) * abs(leading["share"]) / largest) / np.pi)
    axes.annotate(
        _shortened(words),
        (place, position),
        xytext=(0, radius + 1),
        textcoords="offset points",
        ha="left" if place < 0.1 else "right" if place > 0.9 else "center",
        fontsize=8,
    )


def _place(days_before: float | None, longest: float) -> float:
    """Where an event stands between the oldest (0) and the prediction time (1)."""
    return BEGINNING if days_before is None else 1 - float(np.sqrt(max(days_before, 0.0) / longest))


def _ticks(longest: float, *, has_beginning: bool) -> tuple[list[float], list[str]]:
    """Places and words of the times that have room, the latest first."""
    places, words = [1.0], ["now"]
    for days, name in TICKS.items():
        place = _place(days, longest)
        if days <= longest and place < places[-1] - TICK_ROOM:
            places.append(place)
            words.append(name)
    if has_beginning:
        places.append(BEGINNING)
        words.append("start")
    return places, words


def _legend(axes: Axes) -> None:
    for colour, words in ((RAISES, "raises the risk"), (LOWERS, "lowers the risk")):
        axes.scatter([], [], s=60, c=colour, alpha=0.65, linewidths=0, label=words)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)


def _shortened(words: str) -> str:
    return words if len(words) <= LONGEST_NAME else words[: LONGEST_NAME - 1].rstrip() + "…"
