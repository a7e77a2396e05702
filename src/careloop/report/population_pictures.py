"""Pictures of principal components as SVG: reference groups, the people of a file, and one person's place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from careloop.report.charts import COLOURS, GREY, _figure, _svg, style

MOST_COLOURED = 7  # groups with a colour of their own; the others are grey
MOST_POINTS = 5_000  # drawn; the rest is left out evenly, so that a page stays small


@dataclass(frozen=True)
class Cloud:
    """People of one group: `points` (people, components), and the group's `name`."""

    name: str
    points: NDArray[np.float64]


def components_picture(
    clouds: Sequence[Cloud],
    people: NDArray[np.float64] | None,
    *,
    axes_shown: tuple[int, int] = (0, 1),
    person: NDArray[np.float64] | None = None,
    share: Sequence[float] = (),
) -> str:
    """Two components (numbers from 0): groups as coloured points, `people` as rings, `person` as a star.

    `share` are the shares of the variance that components have, shown where they are given. NaN are not drawn.
    """
    x, y = axes_shown
    with style():
        figure, axes = _figure(6.2, 4.6)
        largest = sorted(clouds, key=lambda cloud: -len(cloud.points))
        coloured = {cloud.name: COLOURS[number] for number, cloud in enumerate(largest[:MOST_COLOURED])}
        for cloud in clouds:
            points = _thinned(cloud.points, MOST_POINTS // len(clouds))
            colour = coloured.get(cloud.name, GREY)
            marks = {"linestyle": "", "markersize": 3, "alpha": 0.5, "markeredgewidth": 0}
            axes.plot(points[:, x], points[:, y], "o", color=colour, label=cloud.name, **marks)
        if people is not None:
            points = _thinned(people, MOST_POINTS)
            ring = {"markerfacecolor": "none", "markeredgecolor": "black", "markersize": 4, "markeredgewidth": 0.4}
            ring |= {"alpha": 0.35}
            axes.plot(points[:, x], points[:, y], "o", linestyle="", label="people of the file", **ring)
        if person is not None and np.isfinite(person[[x, y]]).all():
            star = {"color": COLOURS[1], "markersize": 16, "markeredgecolor": "black", "markeredgewidth": 0.8}
            axes.plot(person[x], person[y], "*", linestyle="", label="this person", zorder=5, **star)
        axes.set(xlabel=_label(x, share), ylabel=_label(y, share))
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=1.2)
        return _svg(figure)


def _thinned(points: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    return points[:: max(1, -(-len(points) // max(most, 1)))]


def _label(axis: int, share: Sequence[float]) -> str:
    name = f"principal component {axis + 1}"
    return f"{name} ({100 * share[axis]:.1f} % of the variance)" if axis < len(share) else name
