"""The chest's wall and what fills it: body outline, ribs, spine, sternum, lungs, diaphragm and the organs below it."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from careloop.imaging.phantom.anatomy.shapes import (
    Space,
    ellipsoid,
    intersection,
    smooth_step,
    superellipse,
    tube,
    tube_axis,
    union,
)

if TYPE_CHECKING:
    from careloop.imaging.phantom.anatomy.patient import Patient
    from careloop.imaging.phantom.anatomy.shapes import Field, Point


DOME_LENGTH = 100.0  # from the lungs' apex down to where the chest is at its widest
WALL = 9.0  # from the pleura to the outside of the ribs
LEFT, RIGHT = 1, -1  # sides, as signs of x


def dome_cylinder(u: Field, v: Field, z: Field, *, power: float, top_radius: float) -> Field:
    """A superellipse |u|^p + |v|^p = 1 below z = 0, closed above it by a dome of this height; k - 1, not in mm."""
    flat = (np.abs(u) ** power + np.abs(v) ** power) ** np.float32(1 / power)
    return np.sqrt(flat**2 + (np.maximum(z, 0) / top_radius) ** 2) - 1


def wall(space: Space, p: Patient) -> Field:
    """The inner surface of the bony chest: the ribs lie on it, the diaphragm and the lungs within."""
    z = space.z - np.float32(p.apex_z + 4 - DOME_LENGTH)
    a, b = p.cavity_half_width + 1.0, p.cavity_half_depth + 2.0
    k = dome_cylinder(space.x / a, space.y / b, z, power=2.3, top_radius=DOME_LENGTH)
    return k * np.float32(0.5 * (a + b)) * _slope(space, a, b)


def _slope(space: Space, a: float, b: float) -> Field:
    """Corrects k - 1, in mean radii, to millimetres: the radius in the direction of the point."""
    angle = np.arctan2(space.y / b, space.x / a)
    return np.sqrt((a * np.cos(angle)) ** 2 + (b * np.sin(angle)) ** 2) / np.float32(0.5 * (a + b))


def body(space: Space, p: Patient) -> Field:
    """The skin: wider at the shoulders, whose arms are raised, flatter in front, with breasts where there are any."""
    raised = smooth_step(space.z, 60.0, 150.0)
    side = p.cavity_half_width + WALL + 11 * p.muscle + p.fat
    front = p.cavity_half_depth + WALL + 6 * p.muscle + 0.8 * p.fat
    back = p.cavity_half_depth + WALL + 20 * p.muscle + 0.7 * p.fat
    half_width = np.minimum(side + 18 * raised, 182.0)
    middle, half_depth = (back - front) / 2, (back + front) / 2
    f = superellipse(space.x, space.y - np.float32(middle), half_width, half_depth * (1 - 0.06 * raised), 2.5)
    if p.breast > 0:
        for side_x in (LEFT, RIGHT):
            centre = (side_x * 0.55 * p.cavity_half_width, -front + 4.0, -10.0)
            radii = (52.0 * p.breast**0.3, 14 + 30.0 * p.breast, 50.0 * p.breast**0.3)
            f = union(f, ellipsoid(space, centre, radii), blend_mm=18.0)
    return f


def glands(space: Space, p: Patient, skin: Field) -> Field:
    """Glandular tissue of the breasts, behind the nipple."""
    front = -(p.cavity_half_depth + WALL + 8 * p.muscle)
    across = np.maximum(np.abs(np.abs(space.x) - 0.55 * p.cavity_half_width), np.abs(space.z + 10)) - 30
    return np.maximum(np.maximum(skin + 12, across), space.y - np.float32(front)) + 3


def muscles(space: Space, p: Patient, skin: Field, chest: Field) -> Field:
    """Muscle around the ribs: pectoral, lateral, and beside the spine; all of the shoulders."""
    x, y = np.abs(space.x) / p.cavity_half_width, space.y / p.cavity_half_depth
    upper = smooth_step(space.z, -50.0, 60.0)
    pectoral = np.exp(-(((x - 0.5) / 0.35) ** 2)) * (y < 0) * upper
    lateral = np.exp(-(((y - 0.25) / 0.45) ** 2)) * smooth_step(x, 0.55, 0.95) * (0.3 + 0.7 * upper)
    thick = WALL + 3.0 + p.muscle * (10.0 * pectoral + 13.0 * lateral)
    f = chest - thick
    for side in (LEFT, RIGHT):
        centre = (side * 27.0, spine_y(p) + 36.0)
        f = union(f, superellipse(space.x - centre[0], space.y - centre[1], 26.0 * p.muscle, 17.0, 2.2), blend_mm=6)
    shoulder = intersection(skin + np.float32(p.fat * 0.8 + 3), np.float32(p.apex_z - 22) - space.z, blend_mm=20)
    return intersection(union(f, shoulder, blend_mm=15), skin + np.float32(2.5 + 0.3 * p.fat))


def ribs(space: Space, p: Patient, chest: Field) -> tuple[Field, Field]:
    """Ribs and their cartilages: rings on the chest's wall that run down towards the front."""
    level = space.z + np.float32(p.rib_slope) * (p.cavity_half_depth - space.y)
    off = level - np.float32(p.rib_pitch) * np.round(level / np.float32(p.rib_pitch))
    section = (np.sqrt(((chest - 4.5) / 3.6) ** 2 + (off / 6.2) ** 2) - 1) * 4.4
    shorter = smooth_step(-space.z, 40.0, 170.0)  # the lower ribs end further back
    front = p.cavity_half_depth * (-0.62 + 1.1 * shorter)
    bone = np.maximum(section, front - space.y)
    cartilage = np.maximum(np.maximum(section, space.y - front), -np.float32(55.0) - space.z)
    return bone, cartilage


def sternum(space: Space, p: Patient, chest: Field) -> Field:
    """Breastbone: a plate on the front of the chest, broader above."""
    half_width = 13 + 9 * smooth_step(space.z, p.apex_z - 75, p.apex_z - 35)
    top, bottom = p.apex_z - 22, max(p.right_dome_z + 12, -60.0)
    plate = intersection(np.abs(chest - 4.5) - 5.0, np.abs(space.x) - half_width, blend_mm=5)
    ends = np.maximum(space.z - top, bottom - space.z)
    return np.maximum(intersection(plate, ends, blend_mm=5), space.y + 10)


def shoulder_bones(space: Space, p: Patient, chest: Field, skin: Field) -> Field:
    """Shoulder blades, collar bones and the heads of the raised arms."""
    plate = np.abs(chest - np.float32(WALL + 13 * p.muscle)) - 2.6
    edge = np.maximum(np.float32(0.45 * p.cavity_half_width) - np.abs(space.x), 18 - space.y)
    edge = np.maximum(edge, np.maximum(space.z - (p.apex_z - 5), p.apex_z - 115 - space.z))
    f = np.maximum(np.maximum(plate, edge), skin + 6)
    for side in (LEFT, RIGHT):
        inner = (side * 20.0, -0.52 * p.cavity_half_depth, p.apex_z - 14)
        outer = (side * 118.0, 4.0, p.apex_z + 14)
        f = union(f, tube(space, (inner, (side * 62.0, -0.5 * p.cavity_half_depth, p.apex_z), outer), (7.0, 5.5, 6.5)))
        f = union(f, ellipsoid(space, (side * 146.0, 8.0, p.apex_z + 22), (20.0, 22.0, 24.0)))
    return np.maximum(f, skin + 4)


def spine_y(p: Patient) -> float:
    """Where the vertebral bodies' centres lie, without the spine's curve."""
    return p.cavity_half_depth - 27.0


def straightened(space: Space, p: Patient) -> tuple[Field, Field]:
    """Coordinates x and y from the middle of the vertebral bodies, whose line is curved to the side and to the back."""
    x = space.x - np.float32(p.scoliosis) * np.sin(space.z / np.float32(70.0))
    back = np.float32(p.kyphosis) * (0.35 - ((space.z - 10) / np.float32(130.0)) ** 2)
    return x, space.y - np.float32(spine_y(p)) - back


def spine(space: Space, p: Patient) -> tuple[Field, Field, Field]:
    """Vertebrae with their arches and processes, the discs between the bodies, and the canal."""
    x, y = straightened(space, p)
    pitch = np.float32(p.vertebra_pitch)
    off = space.z - pitch * np.round(space.z / pitch)
    waist = 1.5 * (1 - (2 * off / pitch) ** 2)
    grown = 1 + 0.12 * smooth_step(-space.z, -60.0, 120.0)  # vertebrae are larger further down
    a, b = p.vertebra_half_width * grown - waist, (p.vertebra_half_width * 0.84) * grown - waist
    column = superellipse(x, y, a, b, 2.4)
    gap = np.abs(off) - (pitch / 2 - np.float32(2.6))  # above 0 in the discs
    canal_y = np.float32(p.vertebra_half_width * 0.9 + 7.5)
    canal = superellipse(x, y - canal_y, 9.5, 8.0, 2.0)
    arch = np.maximum(np.abs(canal - 2.6) - 2.8, np.abs(off + 2) - 8.0)
    spinous = np.maximum(np.abs(x) - 2.6, np.abs(y - canal_y - 22) - 15)
    spinous = np.maximum(spinous, np.abs(off + (y - canal_y) * 0.25 + 2) - 5.0)
    across = np.sqrt(((y - canal_y - 2 - 0.25 * (np.abs(x) - 12)) / 5.0) ** 2 + ((off - 1) / 5.5) ** 2) * 5 - 5
    across = np.maximum(across, np.abs(np.abs(x) - 19) - 13)
    processes = union(union(arch, spinous, blend_mm=3), across, blend_mm=3)
    vertebrae = np.maximum(union(intersection(column, gap, blend_mm=2), processes, blend_mm=2), -canal)
    return vertebrae, np.maximum(column + 0.8, -gap), canal


def diaphragm(space: Space, p: Patient) -> Field:
    """Height of the diaphragm above each (x, y) in mm: two domes that fall off towards the ribs, most at the back."""
    domes = []
    for side, top in ((RIGHT, p.right_dome_z), (LEFT, p.right_dome_z - p.left_dome_lower)):
        u = (space.x - side * 0.5 * p.cavity_half_width) / (0.56 * p.cavity_half_width)
        v = (space.y + 0.12 * p.cavity_half_depth) / p.cavity_half_depth
        fall = p.dome_height * (0.75 * u**2 + np.where(v > 0, 1.25, 0.7) * v**2)
        domes.append(top - np.minimum(fall, 150))
    return -union(-domes[0], -domes[1], blend_mm=18.0)


def lung(space: Space, p: Patient, side: int, dome: Field) -> Field:
    """One lung without what presses into it: between the ribs, beside the mediastinum, above the diaphragm."""
    middle = 0.4 * p.cavity_half_width
    half_width = p.cavity_half_width - middle
    z = space.z - np.float32(p.apex_z - DOME_LENGTH)
    u, v = (side * space.x - middle) / half_width, space.y / p.cavity_half_depth
    k = dome_cylinder(u, v, z, power=2.35, top_radius=DOME_LENGTH)
    angle = np.arctan2(v, u)
    scale = np.sqrt((half_width * np.cos(angle)) ** 2 + (p.cavity_half_depth * np.sin(angle)) ** 2)
    upper = smooth_step(space.z, 30.0, p.apex_z)
    middle_bump = np.exp(-(((space.y - 5) / 38) ** 2))
    inner = 4.5 + (p.mediastinum_half_width + 7 * upper) * middle_bump
    f = intersection(k * scale, inner - side * space.x, blend_mm=10)
    return intersection(f, (dome - space.z) * np.float32(0.8), blend_mm=8)


def fissures(space: Space, p: Patient) -> Field:
    """Distance to the oblique fissures' planes (a pleural layer about 1 mm thick)."""
    bent = 6 * np.sin(space.x / np.float32(28.0))
    return (space.z + 0.85 * (space.y + 0.15 * p.cavity_half_depth) * -1 - 5 + bent) * np.float32(0.76)


def below_diaphragm(space: Space, p: Patient, dome: Field) -> tuple[Field, dict[str, Field]]:
    """The space below the diaphragm, and in it liver, spleen, stomach (and its gas) and kidneys."""
    a, b = p.cavity_half_width, p.cavity_half_depth
    inside = intersection(space.z - dome, superellipse(space.x, space.y, a, b, 2.3), blend_mm=6)
    room = inside + 3
    tapered = space.x - np.float32(52.0) + 0.45 * np.maximum(space.y + 10, 0) - 0.25 * (space.z - p.right_dome_z)
    behind = 0.8 * (space.x + 10) + 0.6 * space.y - 8
    liver = intersection(intersection(room, tapered * 0.8, blend_mm=15), behind, blend_mm=15)
    low = p.right_dome_z - p.left_dome_lower
    spleen = intersection(room, ellipsoid(space, (0.72 * a, 0.42 * b, low - 42), (34, 44, 48)), blend_mm=5)
    stomach = intersection(room, ellipsoid(space, (0.5 * a, -0.2 * b, low - 32), (40, 46, 44)), blend_mm=5)
    gas = np.maximum(stomach + 5, space.y + np.float32(0.3 * b))
    right = ellipsoid(space, (-58.0, 0.42 * b, p.right_dome_z - 105), (26, 24, 50))
    left = ellipsoid(space, (60.0, 0.4 * b, low - 92), (26, 24, 50))
    return inside, {"liver": liver, "spleen": spleen, "stomach": stomach, "gas": gas, "kidneys": union(right, left)}


def beside_spine(space: Space, p: Patient) -> Field:
    """Distance to the front of the vertebral column, which the lungs stay clear of."""
    x, y = straightened(space, p)
    return superellipse(x, y, p.vertebra_half_width + 4.0, p.vertebra_half_width * 0.84 + 4.0, 2.4)


def airway(space: Space, p: Patient) -> Field:
    """Windpipe and main bronchi as one lumen (the wall lies around it)."""
    carina = p.arch_z - 16
    top = (1.0, -2.0, 175.0)
    fork = (0.0, 16.0, carina)
    f = tube(space, (top, (1.0, 6.0, carina + 60), fork), (8.5, 8.5, 8.0))
    f = union(f, tube(space, (fork, (-20.0, 18.0, carina - 16), bronchus_end(p, RIGHT)), (7.0, 6.5, 5.2)))
    return union(f, tube(space, (fork, (22.0, 20.0, carina - 20), bronchus_end(p, LEFT)), (6.5, 6.0, 5.0)))


def bronchus_end(p: Patient, side: int) -> Point:
    """Where a main bronchus branches in its lung."""
    return side * (p.mediastinum_half_width + 26.0), 18.0, p.arch_z - (46 if side == LEFT else 44)


def oesophagus(space: Space, p: Patient) -> tuple[Field, Field]:
    """The gullet's wall and the gas in it, of which there is little and not everywhere."""
    carina = p.arch_z - 16
    front = spine_y(p) - p.vertebra_half_width * 0.84 - 9
    above, below = ((4.0, front - 2, 170.0), (5.0, front, carina)), (8.0, front - 6, p.right_dome_z + 20)
    path: tuple[Point, ...] = (*above, below, (22.0, front - 16, p.right_dome_z - 25))
    distance = np.minimum.reduce([tube_axis(space, a, b)[0] for a, b in pairwise(path)])
    return distance - 7.5, np.maximum(distance - 2.5, -np.sin(space.z / np.float32(17.0)) * 6)
