"""The heart with its four chambers, and the great vessels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from careloop.imaging.phantom.anatomy.shapes import Space, tube, turned_ellipsoid, union
from careloop.imaging.phantom.anatomy.thorax import LEFT, RIGHT, spine_y

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from careloop.imaging.phantom.anatomy.patient import Patient
    from careloop.imaging.phantom.anatomy.shapes import Field, Point


BLEND = 16.0  # how far the seams between chambers are rounded


@dataclass(frozen=True)
class HeartFrame:
    """The heart's centre and axes: `long` from base to apex, `septal` from the left to the right ventricle, `up`."""

    centre: NDArray[np.float64]
    long: NDArray[np.float64]
    septal: NDArray[np.float64]
    up: NDArray[np.float64]
    size: float

    @property
    def axes(self) -> NDArray[np.float64]:
        """The three axes as rows."""
        return np.array([self.long, self.septal, self.up])

    def at(self, long: float, septal: float, up: float) -> Point:
        """A point of the patient from the heart's own coordinates, in mm of a heart of size 1."""
        x, y, z = self.centre + self.size * (long * self.long + septal * self.septal + up * self.up)
        return float(x), float(y), float(z)


@dataclass(frozen=True)
class Chamber:
    """One chamber: its centre in the heart's coordinates, the outer radii, and the thickness of its wall."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    wall: float

    def surface(self, space: Space, frame: HeartFrame, *, inset: float) -> Field:
        """The outer surface, or the cavity's where inset is the wall's thickness."""
        a, b, c = (frame.size * r - inset for r in self.radii)
        return turned_ellipsoid(space, frame.at(*self.centre), (a, b, c), frame.axes)


def heart_frame(p: Patient) -> HeartFrame:
    """Where this patient's heart lies: on the diaphragm, its apex to the left, to the front and down."""
    turn, tip = np.deg2rad(p.heart_turn_deg), np.deg2rad(p.heart_tip_deg)
    long = np.array([np.sin(turn) * np.cos(tip), -np.cos(turn) * np.cos(tip), -np.sin(tip)])
    up = np.array([0.0, 0.0, 1.0]) - long[2] * long
    up /= np.linalg.norm(up)
    low = p.right_dome_z - 0.6 * p.left_dome_lower
    centre = np.array([p.heart_x, -0.27 * p.cavity_half_depth, low + 36 * p.heart_size])
    return HeartFrame(centre, long, -np.cross(up, long), up, p.heart_size)


def chambers(p: Patient) -> dict[str, Chamber]:
    """The four chambers' sizes and places (mm of a heart of size 1; adults' echocardiographic dimensions, rounded)."""
    e, lv, rv, at = p.heart_elongation, p.left_ventricle, p.right_ventricle, p.atria
    return {
        "left ventricle": Chamber((15.0, -9.0, 0.0), (46 * e, 32 * lv, 33 * lv), p.wall),
        "right ventricle": Chamber((9.0, 24.0, -3.0), (43 * e, 23 * rv, 34 * rv), 4.0),
        "left atrium": Chamber((-36.0, -8.0, 10.0), (21 * at, 31 * at, 25 * at), 2.5),
        "right atrium": Chamber((-27.0, 34.0, -2.0), (23 * at, 22 * at, 31 * at), 2.5),
    }


def heart(space: Space, p: Patient) -> Field:
    """The heart's outer surface, its chambers joined."""
    frame = heart_frame(p)
    surfaces = [c.surface(space, frame, inset=0.0) for c in chambers(p).values()]
    outside = surfaces[0]
    for surface in surfaces[1:]:
        outside = union(outside, surface, blend_mm=BLEND)
    return outside


def cavities(space: Space, p: Patient) -> dict[str, Field]:
    """The space within each chamber's walls."""
    frame = heart_frame(p)
    return {name: c.surface(space, frame, inset=c.wall) for name, c in chambers(p).items()}


def groove(space: Space, p: Patient, outside: Field) -> Field:
    """The groove between atria and ventricles, near the heart's surface, which fat fills."""
    frame = heart_frame(p)
    d = [v - np.float32(c) for v, c in zip((space.x, space.y, space.z), frame.at(-17, 0, 0), strict=True)]
    along = sum(np.float32(a) * v for a, v in zip(frame.long, d, strict=True))
    return np.maximum(np.abs(along) - np.float32(1.2 + 0.5 * p.heart_fat), -np.float32(6.0) - outside)


def aorta(space: Space, p: Patient) -> Field:
    """From the left ventricle up, over in an arch to the left and the back, and down in front of the spine."""
    frame, r = heart_frame(p), p.aorta_radius
    side = p.vertebra_half_width + 0.5 * r
    front = spine_y(p) - 0.62 * p.vertebra_half_width
    top = p.arch_z
    rise = (frame.at(-16, 6, 16), frame.at(-24, 14, 40), (-18.0, -16.0, top - 22), (-10.0, -14.0, top - 6))
    arch = ((0.0, -6.0, top), (13.0, 10.0, top), (side, front - 16, top - 8), (side + 2, front - 4, top - 26))
    fall = ((side, front, top - 70), (side - 5, front, -70.0), (6.0, front - 8, -175.0))
    path = (*rise, *arch, *fall)
    radii = (1.05, 1.15, 1.12, 1.05, 0.98, 0.95, 0.9, 0.86, 0.84, 0.8, 0.72)
    return tube(space, path, [r * k for k in radii])


def pulmonary_arteries(space: Space, p: Patient) -> Field:
    """The trunk from the right ventricle, and a branch to each lung's hilum."""
    frame, z = heart_frame(p), p.arch_z - 34
    fork = (10.0, -20.0, z)
    trunk = tube(space, (frame.at(0, 20, 24), frame.at(-12, 12, 44), fork), (13.5, 13.0, 12.0))
    left = tube(space, (fork, (28.0, -2.0, z + 5), hilum(p, LEFT)), (11.0, 10.0, 8.0))
    right = tube(space, (fork, (-14.0, -1.0, z - 2), hilum(p, RIGHT)), (10.5, 9.5, 8.0))
    return union(union(trunk, left, blend_mm=5), right, blend_mm=5)


def pulmonary_veins(space: Space, p: Patient) -> Field:
    """Two veins from each lung into the left atrium."""
    frame = heart_frame(p)
    ends = [(frame.at(-40, -22, d), v) for d, v in zip((14, 2), vein_roots(p, LEFT), strict=True)]
    ends += [(frame.at(-46, 4, d), v) for d, v in zip((14, 2), vein_roots(p, RIGHT), strict=True)]
    return np.minimum.reduce([tube(space, (a, b), (7.0, 5.5)) for a, b in ends])


def caval_veins(space: Space, p: Patient) -> Field:
    """Upper and lower caval vein and the veins of the upper chest, which join the right atrium."""
    frame = heart_frame(p)
    join = (-22.0, -22.0, p.arch_z + 14)
    upper = tube(space, (frame.at(-28, 30, 20), (-26.0, -10.0, p.arch_z - 20), join), (10.0, 9.0, 8.5))
    lower = tube(space, (frame.at(-30, 28, -22), (-20.0, 8.0, p.right_dome_z - 8), (-18.0, 18.0, -175.0)), (11, 11, 11))
    right = tube(space, (join, (-32.0, -20.0, p.arch_z + 46), (-52.0, -14.0, 175.0)), (7.5, 7.0, 7.0))
    left = tube(
        space, (join, (4.0, -32.0, p.arch_z + 22), (30.0, -24.0, p.arch_z + 44), (50, -14, 175)), (7, 7, 6.5, 6.5)
    )
    return np.minimum.reduce([upper, lower, right, left])


def neck_arteries(space: Space, p: Patient) -> Field:
    """The three arteries that leave the arch."""
    z = p.arch_z
    starts = ((-4.0, -8.0, z + 4), (8.0, 2.0, z + 5), (16.0, 12.0, z + 3))
    ends = ((-24.0, -4.0, 175.0), (18.0, 4.0, 175.0), (34.0, 10.0, 175.0))
    bends = ((-14.0, -8.0, z + 34), (13.0, 0.0, z + 40), (23.0, 14.0, z + 36))
    paths = zip(starts, bends, ends, (6.5, 4.2, 5.2), strict=True)
    return np.minimum.reduce([tube(space, (a, b, c), (r, r, r)) for a, b, c, r in paths])


def hilum(p: Patient, side: int) -> Point:
    """Where the pulmonary artery enters a lung."""
    return side * (p.mediastinum_half_width + 24.0), 6.0, p.arch_z - (32 if side == LEFT else 44)


def vein_roots(p: Patient, side: int) -> tuple[Point, Point]:
    """Where the upper and the lower pulmonary vein leave a lung."""
    x, y, z = hilum(p, side)
    return (x, y - 12, z - 10), (x - side * 4, y + 8, z - 26)
