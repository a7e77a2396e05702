"""Charts of a run as SVG text, drawn from the plain results of the other rooms."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, told apart by people with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999")
GREY = "#8a8f98"
DAYS_PER_YEAR = 365.25
# Identical input gives identical SVG: fixed salt for identifiers, no date, text kept as text.
STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a code or unit may have dollar signs in it
    "svg.hashsalt": "careloop",
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "legend.frameon": False,
    "legend.fontsize": 9,
}
Json = Mapping[str, Any]


def roc(models: Json) -> str:
    """Receiver operating characteristic of each model, with its AUROC."""
    figure, axes = _figure(4.6, 4.4)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    for colour, (name, model) in zip(COLOURS, models.items(), strict=False):
        label = f"{name} {_number(model['figures']['auroc'])}"
        axes.plot(model["roc"]["x"], model["roc"]["y"], color=colour, linewidth=1.4, label=label)
    axes.set(xlabel="1 - specificity", ylabel="recall (sensitivity)", title="ROC curve, AUROC", aspect="equal")
    axes.legend(loc="lower right")
    return _svg(figure)


def precision_recall(models: Json, prevalence: float) -> str:
    """Precision against recall of each model, with the prevalence that chance would reach."""
    figure, axes = _figure(4.6, 4.4)
    axes.axhline(prevalence, color=GREY, linewidth=1, linestyle=":", label=f"chance {prevalence:.2f}")
    for colour, (name, model) in zip(COLOURS, models.items(), strict=False):
        label = f"{name} {_number(model['figures']['auprc'])}"
        axes.plot(model["pr"]["x"], model["pr"]["y"], color=colour, linewidth=1.4, label=label)
    axes.set(xlabel="recall (sensitivity)", ylabel="precision", title="Precision-recall curve, AUPRC", ylim=(0, 1.02))
    axes.legend(loc="best")
    return _svg(figure)


def calibration(model: Json, name: str, *, predicted: str = "risk", counted: str = "patients") -> str:
    """Observed against predicted risk: smooth curve with its band, tenths of the rows, and where predictions lie.

    `predicted` and `counted` are the words for what is predicted and for the rows.
    """
    curve, deciles, histogram = (model["calibration"][part] for part in ("curve", "deciles", "histogram"))
    figure, (axes, bars) = _figure(4.6, 4.8, rows=(4, 1))
    top = _axis_limit([d["mean_predicted"] for d in deciles] + [d["observed"]["high"] or 0 for d in deciles])
    axes.plot([0, top], [0, top], color=GREY, linewidth=1, linestyle=":", label="ideal")
    _draw_band(axes, curve, COLOURS[0], "smoothed, 95 % band")
    for decile in deciles:
        observed = decile["observed"]
        if observed["value"] is None:
            continue
        low, high = observed["low"], observed["high"]
        if low is not None and high is not None:
            axes.plot([decile["mean_predicted"]] * 2, [low, high], color=COLOURS[1], linewidth=1)
        axes.plot(decile["mean_predicted"], observed["value"], "o", color=COLOURS[1], markersize=4)
    axes.plot([], [], "o", color=COLOURS[1], markersize=4, label=f"tenths of the {counted}")
    axes.set(ylabel=f"observed {predicted}", title=f"Calibration, {name}", xlim=(0, top), ylim=(0, top))
    axes.tick_params(labelbottom=False)
    axes.legend(loc="upper left")
    edges = np.array(histogram["edges"])
    bars.bar(edges[:-1], histogram["n"], width=np.diff(edges), align="edge", color=COLOURS[0], alpha=0.5)
    bars.set(xlabel=f"predicted {predicted}", ylabel=counted, xlim=(0, top))
    return _svg(figure)


def decision_curve(models: Json) -> str:
    """Net benefit of acting on each model's predictions, against treating everybody and nobody."""
    figure, axes = _figure(5.6, 4.4)
    treat_all = next(iter(models.values()))["net_benefit"]["treat_all"]
    peak = max(v for m in models.values() for v in m["net_benefit"]["model"]["value"] if v is not None)
    axes.axhline(0, color="black", linewidth=1, label="act on nobody")
    axes.plot(*_points(treat_all), color=GREY, linewidth=1.4, label="act on everybody")
    for colour, (name, model) in zip(COLOURS, models.items(), strict=False):
        axes.plot(*_points(model["net_benefit"]["model"]), color=colour, linewidth=1.4, label=name)
    shown = [x for x, v in zip(treat_all["x"], treat_all["value"], strict=True) if v is not None and v > -peak / 2]
    last = min(0.99, 2.5 * max(shown, default=0.4))
    axes.set(xlabel="risk from which one would act", ylabel="net benefit", title="Decision curve")
    axes.set(xlim=(0, last), ylim=(-0.3 * peak, 1.1 * peak))
    axes.legend(loc="upper right")
    return _svg(figure)


def risk_groups(groups: Sequence[Json], name: str) -> str:
    """Observed incidence over time in groups of predicted risk, with pointwise bands."""
    figure, axes = _figure(5.6, 4.2)
    for colour, group in zip(COLOURS, groups, strict=False):
        label = f"{group['name']}: predicted {group['lowest']:.0%} to {group['highest']:.0%}, n = {group['n']}"
        _draw_band(axes, group["incidence"], colour, label, step=True)
    axes.set(xlabel="days", ylabel="observed incidence", title=f"Outcome by predicted risk, {name}", ylim=(0, None))
    axes.legend(loc="upper left")
    return _svg(figure)


def incidence(outcome: Json) -> str:
    """Observed cumulative incidence of the outcome in the evaluated patients."""
    figure, axes = _figure(5.6, 3.6)
    _draw_band(axes, outcome["incidence"], COLOURS[0], "95 % band", step=True)
    axes.set(xlabel="days", ylabel="observed incidence", title="Outcome, all held-out patients", ylim=(0, None))
    return _svg(figure)


def forest(rows: Sequence[tuple[str, Json]], *, title: str, unit: str, reference: float | None = 0.0) -> str:
    """A row for each (label, estimate) with its interval and figures; rows without a value say why."""
    figure, axes = _figure(7.6, 0.9 + 0.3 * len(rows))
    for position, (_, estimate) in enumerate(rows):
        if estimate["value"] is None:
            continue
        if estimate["low"] is not None:
            axes.plot([estimate["low"], estimate["high"]], [position] * 2, color=COLOURS[0], linewidth=1.4)
        axes.plot(estimate["value"], position, "s", color=COLOURS[0], markersize=5)
    if reference is not None:
        axes.axvline(reference, color=GREY, linewidth=1, linestyle=":")
    axes.set_yticks(range(len(rows)), [label for label, _ in rows])
    axes.set(title=title, xlabel=unit, ylim=(len(rows) - 0.4, -0.6))
    for position, (_, estimate) in enumerate(rows):
        axes.annotate(
            _with_interval(estimate), (1.02, position), xycoords=("axes fraction", "data"), va="center", fontsize=9
        )
    return _svg(figure)


def love_plot(differences: Sequence[tuple[str, float, float]], notable: float = 0.1) -> str:
    """Largest standardised mean difference between arms of each covariate: (name, as they are, weighted)."""
    shown = sorted(differences, key=lambda row: -abs(row[1]))[:30][::-1]
    figure, axes = _figure(7.6, 0.9 + 0.26 * len(shown))
    places = range(len(shown))
    axes.plot([abs(before) for _, before, _ in shown], places, "o", color=COLOURS[1], markersize=6, label="as they are")
    axes.plot([abs(after) for _, _, after in shown], places, "o", color=COLOURS[0], markersize=4, label="weighted")
    axes.axvline(notable, color=GREY, linewidth=1, linestyle=":")
    axes.set_yticks(places, [name for name, _, _ in shown])
    axes.set(xlabel="standardised mean difference, largest", title="Balance of the arms", xlim=(0, None))
    axes.legend(loc="lower right")
    return _svg(figure)


def overlap(options: Sequence[Json], floor: float) -> str:
    """Propensity of each option among those given it (up) and the others (down); under `floor` nobody is comparable."""
    figure, drawn = _figure(7.6, 0.6 + 1.5 * len(options), rows=(1,) * len(options))
    for axes, option in zip(np.atleast_1d(drawn), options, strict=True):
        given, others = np.array(option["given"]), np.array(option["others"])
        edges = np.linspace(0, 1, len(given) + 1)[:-1]
        axes.bar(edges, given, width=1 / len(given), align="edge", color=COLOURS[0], label="given it")
        axes.bar(edges, -others, width=1 / len(given), align="edge", color=COLOURS[1], label="given another")
        axes.axhline(0, color="black", linewidth=0.8)
        axes.axvline(floor, color=GREY, linewidth=1, linestyle=":")
        axes.set(xlim=(0, 1), ylabel="patients")
        axes.set_title(option["option"], loc="left", fontsize=10)
        axes.yaxis.set_major_formatter(lambda count, _: f"{abs(count):g}")
    np.atleast_1d(drawn)[0].legend(loc="upper right")
    np.atleast_1d(drawn)[-1].set_xlabel("propensity: how often patients like this one are given the option")
    return _svg(figure)


def contributions(factors: Sequence[tuple[str, float]], *, unit: str) -> str:
    """What raised (right) and lowered (left) one patient's prediction."""
    figure, axes = _figure(7.6, 0.8 + 0.3 * len(factors))
    values = [value for _, value in factors]
    axes.barh(range(len(factors)), values, color=[COLOURS[1] if v > 0 else COLOURS[0] for v in values], height=0.65)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.spines["left"].set_visible(False)
    axes.set_yticks(range(len(factors)), [name for name, _ in factors])
    axes.set(xlabel=unit, ylim=(len(factors) - 0.4, -0.6))
    return _svg(figure)


def strategies(curves: Sequence[tuple[str, Json]]) -> str:
    """Risk of the outcome over time had everybody followed each option, with pointwise bands; empty without any."""
    if not curves:
        return ""
    figure, axes = _figure(5.6, 4.2)
    for colour, (name, band) in zip(COLOURS, curves, strict=False):
        _draw_band(axes, band, colour, name)
    axes.set(xlabel="days from time zero", ylabel="risk of the outcome", title="If everybody followed", ylim=(0, None))
    axes.legend(loc="upper left")
    return _svg(figure)


def missingness(shares: Sequence[tuple[str, float]]) -> str:
    """Share of training rows without a value, a bar for each feature."""
    figure, axes = _figure(7.6, 0.9 + 0.26 * len(shares))
    axes.barh(range(len(shares)), [share for _, share in shares], color=COLOURS[0], height=0.65)
    axes.set_yticks(range(len(shares)), [name for name, _ in shares])
    axes.set(xlabel="share of training rows without a value", xlim=(0, 1), ylim=(len(shares) - 0.4, -0.6))
    return _svg(figure)


def style() -> AbstractContextManager[None]:
    """The context in which charts are drawn; outside of it matplotlib's settings stay as the user has them."""
    return mpl.rc_context(STYLE)


def _figure(width: float, height: float, *, rows: tuple[int, ...] = (1,)) -> tuple[Figure, Any]:
    """A figure of width x height inches, and its axes: one, or one above the other with these heights."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(len(rows), 1, height_ratios=rows)


def _svg(figure: Figure) -> str:
    """The figure as an <svg> element that scales with the page."""
    target = io.StringIO()
    figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
    text = target.getvalue()
    return text[text.index("<svg") :]


def _draw_band(axes: Axes, band: Json, colour: str, label: str, *, step: bool = False) -> None:
    x, value = _points(band)
    low, high = (np.array(band[side], dtype=float) for side in ("low", "high"))
    axes.fill_between(band["x"], low, high, color=colour, alpha=0.15, linewidth=0, step="post" if step else None)
    axes.plot(x, value, color=colour, linewidth=1.5, label=label, drawstyle="steps-post" if step else "default")


def _points(band: Json) -> tuple[np.ndarray, np.ndarray]:
    return np.array(band["x"], dtype=float), np.array(band["value"], dtype=float)


def _axis_limit(values: Sequence[float]) -> float:
    return min(1.0, 1.1 * max(values, default=1.0))


def _number(estimate: Json) -> str:
    return "not defined" if estimate["value"] is None else f"{estimate['value']:.2f}"


def _with_interval(estimate: Json) -> str:
    if estimate["value"] is None:
        return "not estimable"
    if estimate["low"] is None:
        return f"{estimate['value']:.3g}"
    return f"{estimate['value']:.3g} ({estimate['low']:.3g} to {estimate['high']:.3g})"
