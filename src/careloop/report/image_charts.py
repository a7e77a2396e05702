"""Charts of the pages of restored images and of trained image models as SVG text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from careloop.report.charts import COLOURS, _draw_band, _figure, _svg

Json = Mapping[str, Any]


def noise_levels(levels: Sequence[float], unit: str) -> str:
    """Standard deviation of the noise that each slice was found to have, against the slice's number."""
    figure, axes = _figure(7.6, 2.6)
    numbers = range(1, len(levels) + 1)
    marker = "o" if len(levels) <= 60 else ""
    axes.plot(numbers, levels, color=COLOURS[0], linewidth=1.3, marker=marker, markersize=4)
    axes.set(xlabel="slice", ylabel=f"noise level, {unit}", title="Noise level of each slice", ylim=(0, None))
    axes.xaxis.get_major_locator().set_params(integer=True)
    return _svg(figure)


def froc(detections: Mapping[str, Json]) -> str:
    """Sensitivity by lesion against false positives an image (in doublings) of each detector, with 95 % bands."""
    figure, axes = _figure(5.6, 4.4)
    for colour, (name, detection) in zip(COLOURS, detections.items(), strict=False):
        cpm = detection["cpm"]["value"]
        _draw_band(axes, detection["froc"], colour, name if cpm is None else f"{name} {cpm:.2f}")
    rates = np.unique(np.concatenate([detection["froc"]["x"] for detection in detections.values()]))
    axes.set_xscale("log", base=2)
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.set(xlabel="false positives an image", ylabel="sensitivity by lesion", title="FROC curve, mean sensitivity")
    axes.set_ylim(0, 1.02)
    axes.legend(loc="lower right")
    return _svg(figure)
