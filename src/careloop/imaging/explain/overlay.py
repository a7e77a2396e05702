"""Pictures of a map over its image, with a colour bar, the model's name, and that it is not for clinical use."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop.imaging.explain.maps import WORDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from careloop.imaging.explain.explain import Explanation

# Told apart by people with any colour vision: orange and purple for and against, and yellow on dark blue for amounts.
SIGNED_COLOURS, POSITIVE_COLOURS = "PuOr_r", "cividis"
STRONGEST = 0.75  # opacity of a map's largest value; its zero is clear
TOP = 99.5  # percentile of the map's size at which the colours end: one voxel must not fade all others
GREY = (0.5, 99.5)  # percentiles of the image between which grey goes from black to white
NOT_CLINICAL = "NOT FOR CLINICAL USE"
DPI = 100


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice of an image and its map, both (rows, columns), and which slice of how many (0 of 1 for a picture)."""

    image: NDArray[np.float32]
    map: NDArray[np.float32]
    number: int
    of: int


def overlay_png(explanation: Explanation) -> bytes:
    """The image beside itself under the map, as a PNG; of a volume the slice that holds most of the map."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = overlay_figure(explanation)
    written = io.BytesIO()
    FigureCanvasAgg(figure).print_png(written, metadata={"Software": None})
    return written.getvalue()


def overlay_figure(explanation: Explanation) -> Figure:
    """The picture as a figure of matplotlib that belongs to no window."""
    from matplotlib.figure import Figure

    plane = most_telling(explanation)
    figure = Figure(figsize=(8.4, 4.9), dpi=DPI, layout="constrained")
    plain, covered = figure.subplots(1, 2)
    grey = _grey(plane.image)
    limit = float(np.percentile(np.abs(explanation.map), TOP)) or float(np.abs(explanation.map).max()) or 1.0
    drawn = _draw_map(covered, plane, grey, limit, signed=explanation.signed)
    plain.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    for axes, title in ((plain, _title(plane)), (covered, WORDS[explanation.method])):
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    bar = figure.colorbar(drawn, ax=covered, shrink=0.85)
    bar.set_label(_bar_words(explanation), fontsize=9, parse_math=False)
    heading = f"{explanation.label}: probability {explanation.probability:.0%}"
    figure.suptitle(heading, fontsize=11, fontweight="bold", parse_math=False)
    text = f"{NOT_CLINICAL} · {explanation.made_by} · what the model uses, not what is true"
    figure.supxlabel(text, fontsize=9, parse_math=False)
    return figure


def most_telling(explanation: Explanation) -> Plane:
    """The picture itself, or of a volume the slice over which the map's size adds up to most."""
    image = explanation.image.mean(axis=0)
    if image.ndim == 2:
        return Plane(image, explanation.map, 0, 1)
    number = int(np.abs(explanation.map).sum(axis=(1, 2)).argmax())
    return Plane(image[number], explanation.map[number], number, len(image))


def _draw_map(axes: Any, plane: Plane, grey: NDArray[np.float32], limit: float, *, signed: bool) -> Any:
    """The image, and the map over it: the larger a value, the less it lets through."""
    axes.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    alpha = STRONGEST * np.clip(np.abs(plane.map) / limit, 0, 1)
    colours = SIGNED_COLOURS if signed else POSITIVE_COLOURS
    low = -limit if signed else 0.0
    return axes.imshow(plane.map, cmap=colours, vmin=low, vmax=limit, alpha=alpha, interpolation="nearest")


def _grey(image: NDArray[np.float32]) -> NDArray[np.float32]:
    low, high = np.percentile(image, GREY)
    return np.asarray(np.clip((image - low) / max(float(high - low), 1e-6), 0, 1), dtype=np.float32)


def _title(plane: Plane) -> str:
    return "image" if plane.of == 1 else f"image, slice {plane.number + 1} of {plane.of}"


def _bar_words(explanation: Explanation) -> str:
    return (
        f"speaks against  ←  {explanation.label}  →  speaks for"
        if explanation.signed
        else "speaks for it: little to much"
    )
