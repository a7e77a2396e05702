"""The report's part on what a genome adds: three forms of a model side by side, their differences, who is reclassified.

Everything is made from the content of fusion.json (`careloop.study.genome_stages`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from careloop.report import charts
from careloop.report.charts import COLOURS, GREY, _draw_band, _figure, _svg

Json = Mapping[str, Any]
FORMS = {"clinical": "clinic alone", "genome": "genome alone", "both": "clinic and genome"}
FIGURES = (
    ("AUROC", ("figures", "auroc")),
    ("AUPRC", ("figures", "auprc")),
    ("Brier score", ("figures", "brier")),
    ("calibration slope", ("calibration", "slope")),
    ("observed : expected", ("calibration", "observed_expected")),
    ("recall", ("decision", "recall")),
    ("specificity", ("decision", "specificity")),
    ("net benefit", ("decision", "net_benefit")),
)
COMPARED = ("auroc", "auprc", "brier", "net_benefit")
SIDES = (("events", "with the outcome"), ("event_free", "without the outcome"))
HIGHEST_RISK = 0.5  # beyond it few would wait with acting, and the curve is noise


def genome_section(fusion: Json | None) -> dict[str, Any] | None:
    """What the template shows, tables and charts; None of a run without a genome's columns.

    Drawn inside `charts.style()`.
    """
    if fusion is None:
        return None
    shown: dict[str, Any] = {
        "notes": fusion["notes"],
        "columns": {part: len(names) for part, names in fusion["columns"].items()},
        "genome_columns": fusion["columns"]["genome"],
        "rows": fusion["rows"],
        "threshold": fusion["threshold"],
        "lead": fusion["lead"],
    }
    if fusion["lead"] is None:
        return shown
    lead = fusion["models"][fusion["lead"]]
    evaluation, moved = lead["evaluation"], lead["reclassification"]
    models = {title: evaluation["models"][form] for form, title in FORMS.items()}
    return shown | {
        "words": {name: entry["words"] for name, entry in fusion["models"].items()},
        "forms": list(FORMS.values()),
        "figures": {title: [model[part][name] for model in models.values()] for title, (part, name) in FIGURES},
        "differences": _differences(fusion["models"]),
        "tables": _tables(moved),
        "moved": {name: entry["reclassification"]["figures"] for name, entry in fusion["models"].items()},
        "caveat": moved["caveat"],
        "auroc": auroc_chart(fusion["models"]),
        "gain": gain_chart(evaluation["comparisons"][0]),
        "decision_curve": charts.decision_curve(models),
        "moves": moves_chart(moved),
    }


def auroc_chart(models: Json) -> str:
    """The AUROC of each form of each model, with intervals."""
    rows = [
        (f"{name}, {title}", entry["evaluation"]["models"][form]["figures"]["auroc"])
        for name, entry in models.items()
        for form, title in FORMS.items()
    ]
    return charts.forest(rows, title="Clinic alone, genome alone, both", unit="AUROC, held-out rows", reference=0.5)


def gain_chart(pair: Json) -> str:
    """What both give above the clinic alone in net benefit, over the risk from which one would act, with a band."""
    figure, axes = _figure(4.4, 4.4)
    curve = pair["net_benefit_curve"]
    kept = [place for place, x in enumerate(curve["x"]) if x <= HIGHEST_RISK and curve["value"][place] is not None]
    band = {part: [curve[part][place] for place in kept] for part in curve}
    axes.axhline(0, color=GREY, linewidth=1, linestyle=":")
    _draw_band(axes, band, COLOURS[2], "both less clinic alone, 95 % band")
    axes.axvline(pair["net_benefit_threshold"], color=GREY, linewidth=1, linestyle="--", label="compared at")
    axes.set(xlabel="risk from which one would act", ylabel="gain in net benefit", title="What the genome is worth")
    axes.legend(loc="best")
    return _svg(figure)


def moves_chart(moved: Json) -> str:
    """Shares of patients with and without the outcome that move to a higher (right) and lower (left) category."""
    figure, axes = _figure(5.6, 2.4)
    for place, (side, _) in enumerate(SIDES):
        for way, sign in (("up", 1), ("down", -1)):
            estimate = moved["figures"][f"{way}_{side}"]
            if estimate["value"] is None:
                continue
            is_right = (way == "up") == (side == "events")
            axes.barh(place, sign * estimate["value"], color=COLOURS[0] if is_right else COLOURS[1], height=0.55)
            if estimate["low"] is not None:
                limits = [sign * estimate["low"], sign * estimate["high"]]
                axes.plot(limits, [place] * 2, color="black", linewidth=1)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.plot([], [], "s", color=COLOURS[0], label="the right way")
    axes.plot([], [], "s", color=COLOURS[1], label="the wrong way")
    axes.set_yticks(range(len(SIDES)), [title for _, title in SIDES])
    widest = max(np.abs(axes.get_xlim()))
    axes.set(xlim=(-widest, widest), ylim=(len(SIDES) - 0.4, -0.6), title="Moved to another risk category")
    axes.set_xlabel("share that moves down (left), up (right)")
    axes.xaxis.set_major_formatter(lambda share, _: f"{abs(share):.0%}")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.35), ncols=2)
    return _svg(figure)


def _differences(models: Json) -> list[dict[str, Any]]:
    """Every pair of forms of every model with its paired differences."""
    return [
        {
            "model": name,
            "pair": f"{FORMS[pair['first']]} - {FORMS[pair['second']]}",
            "figures": [pair["differences"][figure] for figure in COMPARED],
        }
        for name, entry in models.items()
        for pair in entry["evaluation"]["comparisons"]
    ]


def _tables(moved: Json) -> list[dict[str, Any]]:
    """The reclassification tables with the names of their categories."""
    names = _categories(moved["limits"])
    return [
        {"title": f"Patients {title}", "names": names, "rows": list(zip(names, moved[side], strict=True))}
        for side, title in SIDES
    ]


def _categories(limits: Sequence[float]) -> list[str]:
    """Each category in words, such as `5 to 10 %`."""
    told = [f"{100 * limit:g}" for limit in limits]
    between = [f"{low} to {high} %" for low, high in pairwise(told)]
    return [f"below {told[0]} %", *between, f"{told[-1]} % or more"]
