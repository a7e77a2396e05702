"""The tissues of a simulated chest painted over each other, from the skin inwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from careloop.imaging.phantom.anatomy import lung_tree, mediastinum, thorax
from careloop.imaging.phantom.anatomy.shapes import Space, intersection, layer_occupancy, occupancy, smooth_step
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
    from careloop.imaging.phantom.anatomy.plan import Plan
    from careloop.imaging.phantom.anatomy.shapes import Field, Point


ORGANS = ("heart", "lung_left", "lung_right", "spine", "aorta", "nodule")  # labels 1 to 6
HEART, LUNG_LEFT, LUNG_RIGHT, SPINE, AORTA, NODULE = range(1, 7)
NONE = 0
SKIN_MM = 2.0
FAR_MM = 1000.0


@dataclass(frozen=True)
class Scene:
    """What is painted: the canvas, its points (full arrays), the plan, and the plan's random fields on these points."""

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
    """Paint all tissues of a chest; organs only in the box that they can reach."""
    low = scene.plan.patient.right_dome_z
    _paint_wall(scene)
    for paint, nearest, furthest in (
        (_paint_abdomen, (-FAR_MM, -FAR_MM, -FAR_MM), (FAR_MM, FAR_MM, low + 20)),
        (_paint_lungs, (-FAR_MM, -FAR_MM, -FAR_MM), (FAR_MM, FAR_MM, FAR_MM)),
        (_paint_spine, (-60.0, 0.0, -FAR_MM), (60.0, FAR_MM, FAR_MM)),
        (_paint_mediastinum, (-75.0, -80.0, -FAR_MM), (75.0, 90.0, FAR_MM)),
        (_paint_heart, (-110.0, -FAR_MM, -FAR_MM), (130.0, 80.0, low + 150)),
    ):
        part = scene.part(nearest, furthest)
        if part is not None:
            paint(part)
    _paint_nodules(scene)


def _paint_wall(scene: Scene) -> None:
    """Skin, fat, muscles and the bones around the chest; fat fills what the organs leave."""
    canvas, space, p, fine = scene.canvas, scene.space, scene.plan.patient, scene.fields["fine"]
    skin, chest = thorax.body(space, p), thorax.wall(space, p)
    soft_fat = FAT + 6 * fine + 6 * scene.fields["soft"]
    canvas.paint(skin, SKIN)
    canvas.paint(skin + np.float32(SKIN_MM), soft_fat)
    if p.breast > 0:
        canvas.paint(thorax.glands(space, p, skin) + 8 * scene.fields["soft"], 25 + 10 * fine)
    streak = smooth_step(np.abs(scene.fields["muscle"]), 0.03, 0.16)  # fat between the bellies of muscles
    canvas.paint(thorax.muscles(space, p, skin, chest), FAT + streak * (MUSCLE - FAT + 6 * fine))
    canvas.paint(chest - 1.0, soft_fat)
    marrow = p.marrow_hu * 0.7 + 30 * fine
    ribs, cartilage = thorax.ribs(space, p, chest)
    canvas.paint(cartilage, CARTILAGE + 12 * fine)
    for bone in (thorax.shoulder_bones(space, p, chest, skin), thorax.sternum(space, p, chest), ribs):
        canvas.paint(bone, with_cortex(bone, 1.2, marrow, space.width_mm))


def _paint_abdomen(scene: Scene) -> None:
    """Diaphragm and the organs below it."""
    canvas, space, p, t = scene.canvas, scene.space, scene.plan.patient, scene.plan.tissues
    fine, soft = scene.fields["fine"], scene.fields["soft"]
    dome = thorax.diaphragm(space, p) + 2 * scene.fields["organ"]
    inside, organs = thorax.below_diaphragm(space, p, dome)
    rough = np.float32(scene.plan.rough_mm["organ"]) * scene.fields["organ"]
    canvas.paint(inside, MUSCLE)
    canvas.paint(inside + 2.5, FAT + 6 * soft)
    canvas.paint(organs["kidneys"] + rough, 32 + 0.6 * (t.spleen - 48) + 4 * fine)
    canvas.paint(organs["spleen"] + rough, t.spleen + 4 * fine)
    canvas.paint(organs["stomach"], MUSCLE - 10)
    canvas.paint(organs["stomach"] + 4, WATER + 10 + 14 * soft)
    canvas.paint(organs["gas"], GAS)
    vessel = smooth_step(-np.abs(scene.fields["muscle"]), -0.1, -0.03)
    canvas.paint(organs["liver"] + rough, t.liver + 4 * fine + vessel * (t.liver_vessels - t.liver) * 0.8)


def _paint_lungs(scene: Scene) -> None:
    """Lungs with vessels, bronchi and fissures, denser towards the back, on which the patient lies."""
    canvas, space, plan, p = scene.canvas, scene.space, scene.plan, scene.plan.patient
    dome = thorax.diaphragm(space, p) + 2 * scene.fields["organ"]
    clear = np.maximum(np.float32(p.heart_fat) - rough_heart(scene), -thorax.beside_spine(space, p))
    clear = intersection(clear, np.float32(1.5) - mediastinum.aorta(space, p), blend_mm=4)
    depth = (space.y + p.cavity_half_depth) / (2 * p.cavity_half_depth)
    tissue = p.lung_hu + p.lung_gradient_hu * depth + 10 * scene.fields["lung tissue"] + 9 * scene.fields["fine"]
    tissue -= layer_occupancy(thorax.fissures(space, p), 0.8, space.width_mm) * (tissue + 200)
    for side, label in ((thorax.LEFT, LUNG_LEFT), (thorax.RIGHT, LUNG_RIGHT)):
        f = thorax.lung(space, p, side, dome) + np.float32(plan.rough_mm["lung"]) * scene.fields["lung"]
        canvas.paint(intersection(f, clear, blend_mm=5), tissue, label=label)
    inside = canvas.filled[LUNG_LEFT - 1] + canvas.filled[LUNG_RIGHT - 1]
    walls, lumens = ([b.widened(by) for b in plan.bronchi] for by in (1.1, 0.0))
    canvas.cover(lung_tree.branch_occupancy(space, plan.vessels) * inside, plan.tissues.pulmonary)
    canvas.cover(lung_tree.branch_occupancy(space, walls) * inside, MUSCLE - 40)
    canvas.cover(lung_tree.branch_occupancy(space, lumens) * inside, GAS)


def _paint_spine(scene: Scene) -> None:
    """Vertebrae with marrow and dense shells, discs, and the cord in its canal."""
    canvas, p = scene.canvas, scene.plan.patient
    vertebrae, discs, canal = thorax.spine(scene.space, p)
    canvas.paint(discs, DISC + 8 * scene.fields["fine"], label=SPINE)
    marrow = p.marrow_hu + 28 * scene.fields["fine"] + 12 * scene.fields["soft"]
    canvas.paint(vertebrae, with_cortex(vertebrae, 1.5, marrow, scene.space.width_mm), label=SPINE)
    canvas.paint(canal, WATER, label=NONE)
    canvas.paint(canal + 3.5, CORD)


def _paint_mediastinum(scene: Scene) -> None:
    """Gullet, airways and great vessels; the aorta's label has its wall in it."""
    canvas, space, p, t = scene.canvas, scene.space, scene.plan.patient, scene.plan.tissues
    wall, gas = thorax.oesophagus(space, p)
    canvas.paint(wall, MUSCLE - 14, label=NONE)
    canvas.paint(gas, GAS)
    canvas.paint(mediastinum.caval_veins(space, p), 0.5 * (t.right_heart + t.pulmonary), label=NONE)
    canvas.paint(mediastinum.neck_arteries(space, p), t.aorta, label=NONE)
    canvas.paint(mediastinum.pulmonary_veins(space, p), t.left_heart, label=NONE)
    canvas.paint(mediastinum.pulmonary_arteries(space, p), t.pulmonary, label=NONE)
    lumen = thorax.airway(space, p)
    canvas.paint(lumen - 1.8, MUSCLE - 20, label=NONE)
    canvas.paint(lumen, GAS)
    aorta = mediastinum.aorta(space, p)
    canvas.paint(aorta, MUSCLE - 8, label=AORTA)
    canvas.paint(aorta + 1.6, t.aorta)


def rough_heart(scene: Scene) -> Field:
    """The heart's surface with this patient's random unevenness."""
    outside = mediastinum.heart(scene.space, scene.plan.patient)
    return outside + np.float32(scene.plan.rough_mm["heart"]) * scene.fields["heart"]


def _paint_heart(scene: Scene) -> None:
    """Muscle with four cavities of blood, and the fat in the groove between atria and ventricles."""
    canvas, space, p, t = scene.canvas, scene.space, scene.plan.patient, scene.plan.tissues
    outside = rough_heart(scene)
    canvas.paint(outside, t.myocardium + 4 * scene.fields["fine"], label=HEART)
    fat = np.maximum(mediastinum.groove(space, p, outside), outside)
    canvas.paint(fat, FAT + 20)
    for name, cavity in mediastinum.cavities(space, p).items():
        blood = t.left_heart if name.startswith("left") else t.right_heart
        canvas.paint(np.maximum(cavity, outside + 1.5), blood + 3 * scene.fields["fine"])


def _paint_nodules(scene: Scene) -> None:
    """Nodules, only where there is lung."""
    for nodule in scene.plan.nodules:
        centre, reach = np.array(nodule.centre), nodule.diameter_mm + scene.space.width_mm
        part = scene.part(tuple(centre - reach), tuple(centre + reach))
        if part is None:
            continue
        canvas, width = part.canvas, part.space.width_mm
        lungs = canvas.filled[LUNG_LEFT - 1] + canvas.filled[LUNG_RIGHT - 1]
        canvas.cover(occupancy(lung_tree.nodule_surface(part.space, nodule), width) * lungs, nodule.hu, label=NODULE)
        if nodule.kind == "part solid":
            canvas.cover(lung_tree.solid_core(part.space, nodule) * lungs, MUSCLE - 30)
