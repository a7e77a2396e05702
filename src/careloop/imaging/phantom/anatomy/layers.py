"""The tissues of a simulated chest painted over each other, from the skin inwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from careloop.imaging.phantom.anatomy import lung_tree, mediastinum, thorax
from careloop.imaging.phantom.anatomy.shapes import Space, intersection, layer_occupancy, smooth_step
from careloop.imaging.phantom.anatomy.tissue import (
    CARTILAGE,
    CORD,
    DISC,
    FAT,
    GAS,
    MUSCLE,
    SKIN,
    WATER,
    Canvas,
    with_cortex,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from careloop.imaging.phantom.anatomy.plan import Plan

    Field = NDArray[np.float32]

ORGANS = ("heart", "lung_left", "lung_right", "spine", "aorta", "nodule")  # labels 1 to 6
HEART, LUNG_LEFT, LUNG_RIGHT, SPINE, AORTA, NODULE = range(1, 7)
NONE = 0
SKIN_MM = 2.0


@dataclass(frozen=True)
class Scene:
    """What is being painted: the canvas, its points (full arrays), the plan, and its random fields on these points."""

    canvas: Canvas
    space: Space
    plan: Plan
    fields: dict[str, Field]

    def part(self, low: Point, high: Point) -> Scene | None:
        """The voxels between two corners (LPS, mm), None where there are none."""
        box = self.space.boxes(np.array([low]), np.array([high]))[0]
        if box is None:
            return None
        fields = {name: f[box] for name, f in self.fields.items()}
        return Scene(self.canvas.part(box), self.space.part(box), self.plan, fields)


def paint_chest(scene: Scene) -> None:
    """Paint all tissues of a chest."""
    p, far = scene.plan.patient, FAR_MM
    _wall(scene)
    below = scene.part((-far, -far, -far), (far, far, p.right_dome_z + 20))
    _lungs(scene)
    spine = scene.part((-60.0, -10.0, -far), (60.0, far, far))
    middle = scene.part((-100.0, -far, -far), (100.0, far, far))
    heart = scene.part((-110.0, -far, -far), (130.0, 80.0, p.right_dome_z + 150))
    for paint, part in ((_abdomen, below), (_spine, spine), (_mediastinum, middle), (_heart, heart)):
        if part is not None:
            paint(part)
    _nodules(scene)


def _wall(canvas: Canvas, space: Space, plan: Plan, fields: dict[str, Field], chest: Field) -> None:
    """Skin, fat, muscles and the bones around the chest; fat fills what the organs leave."""
    p, fine = plan.patient, fields["fine"]
    skin = thorax.body(space, p)
    canvas.paint(skin, SKIN)
    canvas.paint(skin + np.float32(SKIN_MM), FAT + 7 * fine + 6 * fields["soft"])
    _glands(canvas, plan, fields, space, skin)
    muscle = thorax.muscles(space, p, skin, chest)
    streak = smooth_step(np.abs(fields["muscle"]), 0.03, 0.16)  # fat between the bellies of muscles
    canvas.paint(muscle, FAT + streak * (MUSCLE - FAT + 6 * fine))
    canvas.paint(chest - 1.0, FAT + 6 * fields["soft"])
    width, marrow = space.width_mm, p.marrow_hu * 0.7 + 30 * fine
    for bone in (thorax.shoulder_bones(space, p, chest, skin), thorax.sternum(space, p, chest)):
        canvas.paint(bone, with_cortex(bone, 1.3, marrow, width))
    bone, cartilage = thorax.ribs(space, p, chest)
    canvas.paint(cartilage, CARTILAGE + 12 * fine)
    canvas.paint(bone, with_cortex(bone, 1.2, marrow, width))


def _glands(canvas: Canvas, plan: Plan, fields: dict[str, Field], space: Space, skin: Field) -> None:
    """Glandular tissue in breasts."""
    p = plan.patient
    if p.breast > 0:
        front = -(p.cavity_half_depth + thorax.WALL + 8 * p.muscle)
        deep = np.maximum(skin + 9, np.abs(np.abs(space.x) - 0.55 * p.cavity_half_width) - 30)
        deep = np.maximum(np.maximum(deep, space.y - np.float32(front)), np.abs(space.z + 10) - 30)
        canvas.paint(deep + 7 * fields["soft"] + 3, 25 + 10 * fields["fine"])


def _abdomen(canvas: Canvas, space: Space, plan: Plan, fields: dict[str, Field], dome: Field) -> None:
    """Diaphragm and the organs below it."""
    p, t, fine = plan.patient, plan.tissues, fields["fine"]
    organs = thorax.below_diaphragm(space, p, dome)
    rough = np.float32(plan.rough_mm["organ"]) * fields["organ"]
    canvas.paint(space.z - dome, MUSCLE) if False else None
    canvas.paint(organs["kidneys"] + rough, 32 + 0.6 * (t.spleen - 48) + 4 * fine)
    canvas.paint(organs["spleen"] + rough, t.spleen + 4 * fine)
    canvas.paint(organs["stomach"], 40.0)
    canvas.paint(organs["stomach"] + 4, 18 + 14 * fields["soft"])
    canvas.paint(organs["gas"], GAS)
    vessel = smooth_step(-np.abs(fields["muscle"]), -0.1, -0.03)
    canvas.paint(organs["liver"] + rough, t.liver + 4 * fine + vessel * (t.liver_vessels - t.liver) * 0.8)


def _lungs(
    canvas: Canvas, space: Space, plan: Plan, fields: dict[str, Field], borders: tuple[Field, Field]
) -> None:
    """Lungs with vessels and fissures, denser towards the back, where the patient lies."""
    p = plan.patient
    heart, dome = borders
    clear = np.maximum(np.float32(p.heart_fat) - heart, -thorax.beside_spine(space, p))
    clear = intersection(clear, np.float32(1.5) - mediastinum.aorta(space, p), blend_mm=4)
    depth = (space.y + p.cavity_half_depth) / (2 * p.cavity_half_depth)
    tissue = p.lung_hu + p.lung_gradient_hu * depth + 10 * fields["lung tissue"] + 9 * fields["fine"]
    for side, label in ((thorax.LEFT, LUNG_LEFT), (thorax.RIGHT, LUNG_RIGHT)):
        f = thorax.lung(space, p, side, dome)
        f = intersection(f + np.float32(plan.rough_mm["lung"]) * fields["lung"], clear, blend_mm=5)
        pleura = layer_occupancy(thorax.fissures(space, p), 0.8, space.width_mm)
        canvas.paint(f, tissue + pleura * (-200 - tissue), label=label)
    vessels = lung_tree.branch_occupancy(space, plan.vessels)
    inside = np.clip(canvas.filled[LUNG_LEFT - 1] + canvas.filled[LUNG_RIGHT - 1], 0, 1)
    canvas.cover(vessels * inside, plan.tissues.pulmonary)


def _spine(canvas: Canvas, space: Space, plan: Plan, fields: dict[str, Field]) -> None:
    """Vertebrae with marrow and dense shells, discs, and the cord in its canal."""
    p = plan.patient
    vertebrae, discs, canal = thorax.spine(space, p)
    canvas.paint(discs, DISC + 8 * fields["fine"], label=SPINE)
    marrow = p.marrow_hu + 28 * fields["fine"] + 12 * fields["soft"]
    canvas.paint(vertebrae, with_cortex(vertebrae, 1.5, marrow, space.width_mm), label=SPINE)
    canvas.paint(canal, CORD - 20, label=NONE)
    canvas.paint(canal + 3.5, CORD, label=NONE)


def _mediastinum(canvas: Canvas, space: Space, plan: Plan) -> None:
    """Gullet, airways and great vessels; the aorta's wall is its own."""
    p, t = plan.patient, plan.tissues
    wall, gas = thorax.oesophagus(space, p)
    canvas.paint(wall, MUSCLE - 14, label=NONE)
    canvas.paint(gas, GAS, label=NONE)
    right, arteries = 0.5 * (t.right_heart + t.pulmonary), mediastinum.pulmonary_arteries(space, p)
    canvas.paint(mediastinum.caval_veins(space, p), right, label=NONE)
    canvas.paint(mediastinum.neck_arteries(space, p), t.aorta, label=NONE)
    canvas.paint(mediastinum.pulmonary_veins(space, p), t.left_heart, label=NONE)
    canvas.paint(arteries, t.pulmonary, label=NONE)
    aorta = mediastinum.aorta(space, p)
    canvas.paint(aorta, MUSCLE - 8, label=AORTA)
    canvas.paint(aorta + 1.6, t.aorta)
    lumen = thorax.airway(space, p)
    canvas.paint(lumen - 1.8, MUSCLE - 20, label=NONE)
    canvas.paint(lumen, GAS)


def _heart(
    canvas: Canvas, plan: Plan, fields: dict[str, Field], heart: Field, cavities: dict[str, Field]
) -> None:
    """Muscle with four cavities of blood, and a little of the fat that lies in its grooves."""
    t = plan.tissues
    canvas.paint(heart, t.myocardium + 4 * fields["fine"], label=HEART)
    between = np.abs(cavities["left ventricle"] - cavities["right ventricle"])
    del between
    for name, blood in (("right", t.right_heart), ("left", t.left_heart)):
        for chamber in ("atrium", "ventricle"):
            inside = np.maximum(cavities[f"{name} {chamber}"], heart + np.float32(1.5))
            canvas.paint(inside, blood + 3 * fields["fine"])


def _nodules(canvas: Canvas, space: Space, plan: Plan) -> None:
    """Nodules, only where there is lung."""
    lungs = np.clip(canvas.filled[LUNG_LEFT - 1] + canvas.filled[LUNG_RIGHT - 1], 0, 1)
    for nodule in plan.nodules:
        reach = nodule.diameter_mm + space.width_mm
        near = [np.flatnonzero(np.abs(v - c).min(axis=a) < reach) for v, c, a in (
            (space.z, nodule.centre[2], (1, 2)), (space.y, nodule.centre[1], (0, 2)), (space.x, nodule.centre[0], (0, 1)))]
        if not all(len(n) for n in near):
            continue
        box = tuple(slice(int(n[0]), int(n[-1]) + 1) for n in near)
        part = space.part(box)
        surface = lung_tree.nodule_surface(part, nodule)
        local = Canvas(canvas.hu[box], canvas.filled[(slice(None), *box)], canvas.width_mm)
        filled = np.clip(0.5 - surface / np.float32(space.width_mm), 0, 1) * lungs[box]
        local.cover(filled, nodule.hu, label=NODULE)
        if nodule.kind == "part solid":
            local.cover(lung_tree.solid_core(part, nodule) * filled, 25.0)
