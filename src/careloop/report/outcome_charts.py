"""Charts of predictions and outcomes as these arrive: observed to expected by month, evidence against the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from careloop.report.charts import COLOURS, GREY, _figure, _svg

Json = Mapping[str, Any]
MOST_PATHS = 6
# Labels on the axis of months, at most.
MOST_LABELS = 12
LARGEST_RATIO = 4.0
# Evidence is drawn from a hundredth (below, there is none) to this far above the alarm line (beyond, all is said).
LEAST_LOG10, FARTHEST_ABOVE = -2.0, 3.0
NAMES = {"level": "more or fewer outcomes than predicted", "spread": "risks too far apart or too close"}


def observed_expected_by_month(months: Sequence[Json], name: str) -> str:
    """Outcomes for each one predicted, month by month, with intervals and the limits of right predictions.

    `months` as in outcome.json (`months_json`); months whose outcomes are not yet known are shaded. Empty without any.
    """
    if not months:
        return ""
    figure, axes = _figure(7.6, 3.8)
    shown = [(place, month) for place, month in enumerate(months) if month["observed_expected"]["value"] is not None]
    limited = [(place, month["limits"]) for place, month in shown if month["limits"]]
    for place, (low, high) in limited:
        axes.fill_between([place - 0.5, place + 0.5], low, high, color=GREY, alpha=0.25, linewidth=0)
    axes.axhline(1, color=GREY, linewidth=1, linestyle=":")
    for place, month in shown:
        ratio = month["observed_expected"]
        if ratio["low"] is not None:
            axes.plot([place] * 2, [ratio["low"], ratio["high"]], color=COLOURS[0], linewidth=1.4)
        outside = bool(month["limits"]) and not month["limits"][0] <= ratio["value"] <= month["limits"][1]
        axes.plot(place, ratio["value"], "o", color=COLOURS[1] if outside else COLOURS[0], markersize=5)
    waiting = [place for place, month in enumerate(months) if not month["known"]]
    if waiting:
        axes.axvspan(min(waiting) - 0.5, max(waiting) + 0.5, color=COLOURS[5], alpha=0.15, linewidth=0)
        axes.plot([], [], "s", color=COLOURS[5], alpha=0.4, label="outcomes not yet known")
    axes.fill_between([], [], [], color=GREY, alpha=0.25, label="95 % of them if predictions are right")
    axes.plot([], [], "o", color=COLOURS[1], label="outside")
    step = -(-len(months) // MOST_LABELS)
    axes.set_xticks(range(0, len(months), step), [month["month"] for month in months[::step]], rotation=45, ha="right")
    highest = [month["observed_expected"]["high"] or month["observed_expected"]["value"] for _, month in shown]
    top = min(LARGEST_RATIO, 1.1 * max([1.5, *highest, *(high for _, (_, high) in limited)]))
    axes.set(ylabel="outcomes for each one predicted", title=f"Observed : expected by time of prediction, {name}")
    axes.set(xlim=(-0.6, len(months) - 0.4), ylim=(0, top))
    axes.legend(loc="upper left")
    return _svg(figure)


def evidence_paths(stream: Json, name: str) -> str:
    """Evidence against a model after each patient, on a logarithmic scale, with the line at which it is an alarm.

    `stream` as in outcome.json (`StreamVerdict.to_json`); paths with the most evidence are drawn, each relative to its
    own line, so that 0 is the alarm for all of them. Empty without any path.
    """
    paths = sorted((e for e in stream["evidence"] if e["rows"]), key=lambda e: e["line"] - e["highest"])[:MOST_PATHS]
    if not paths:
        return ""
    figure, axes = _figure(7.6, 3.8)
    for colour, path in zip(COLOURS, paths, strict=False):
        times = [datetime.fromisoformat(time) for time in path["times"]]
        height = [min(max(value, LEAST_LOG10) - path["line"], FARTHEST_ABOVE) for value in path["log10"]]
        axes.plot(times, height, color=colour, linewidth=1.3, drawstyle="steps-post", label=_path_name(path))
        if path["alarm"]:
            alarm = path["points"].index(path["alarm_row"])
            axes.plot(times[alarm], height[alarm], "o", color=colour, markersize=6)
    axes.axhline(0, color="black", linewidth=1)
    axes.annotate("alarm", (0.995, 0), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=9)
    axes.set(ylabel="evidence, log10, from the alarm line", title=f"Evidence that predictions no longer hold, {name}")
    axes.tick_params(axis="x", rotation=30)
    axes.legend(loc="upper left")
    return _svg(figure)


def _path_name(path: Json) -> str:
    return f"input {path['feature']}" if path["kind"] == "input" else NAMES[path["kind"]]
