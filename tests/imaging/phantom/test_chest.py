"""Simulated chests: same seed same chest, organs where they belong, labels that agree with what is seen."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from careloop import InputError
from careloop.imaging.phantom.anatomy.lung_tree import Nodule, nodule_surface
from careloop.imaging.phantom.anatomy.patient import Patient, draw_patient
from careloop.imaging.phantom.anatomy.shapes import Space
from careloop.imaging.phantom.chest import SEGMENTS, ChestPhantom, Grid, chest_phantom

COARSE = Grid((40, 96, 96), (8.0, 4.0, 4.0))
NUMBER = {segment.name: segment.number for segment in SEGMENTS}


@pytest.fixture(scope="module")
def chests() -> list[ChestPhantom]:
    usual = [chest_phantom(seed, grid=COARSE) for seed in (1, 2, 3)]
    return [*usual, chest_phantom(4, shapes="unusual", grid=COARSE)]


def middle_mm(chest: ChestPhantom, name: str) -> np.ndarray:
    voxels = np.argwhere(chest.labels.labels == NUMBER[name])
    return (chest.labels.affine @ [*voxels.mean(axis=0), 1.0])[:3]


def volume_ml(chest: ChestPhantom, name: str) -> float:
    return float((chest.labels.labels == NUMBER[name]).sum() * np.prod(COARSE.spacing_mm) / 1000)


def test_organs_lie_where_they_belong(chests: list[ChestPhantom]) -> None:
    for chest in chests:
        heart, left, right, spine = (middle_mm(chest, n) for n in ("heart", "lung_left", "lung_right", "spine"))
        assert left[0] > 30 > -30 > right[0], "left is at higher x in LPS"
        assert right[0] < heart[0] < left[0]
        assert spine[1] > heart[1] + 40, "the spine is behind the heart"
        tops = [np.argwhere(chest.labels.labels == NUMBER[n])[:, 0].max() for n in ("aorta", "heart")]
        assert tops[0] > tops[1], "the arch is above the heart"
    assert np.mean([middle_mm(chest, "heart")[0] for chest in chests]) > 0, "hearts lie more to the left"


def test_organs_have_the_sizes_of_an_adults(chests: list[ChestPhantom]) -> None:
    for chest in chests:
        assert 200 < volume_ml(chest, "heart") < 1100
        assert 800 < volume_ml(chest, "lung_left") < 4500
        assert 800 < volume_ml(chest, "lung_right") < 4500
        assert 100 < volume_ml(chest, "spine") < 800


def test_labels_agree_with_ct_numbers(chests: list[ChestPhantom]) -> None:
    for chest in chests:
        hu = {name: chest.volume.voxels[chest.labels.labels == number] for name, number in NUMBER.items()}
        assert np.median(hu["lung_left"]) < -700
        assert np.median(hu["lung_right"]) < -700
        assert 15 < np.median(hu["heart"]) < 450
        assert np.median(hu["spine"]) > 60
        assert chest.volume.voxels.min() >= -1000


def test_without_contrast_medium_heart_and_liver_are_nearly_alike() -> None:
    chest = chest_phantom(11, phase="none", grid=COARSE)
    heart = np.median(chest.volume.voxels[chest.labels.labels == NUMBER["heart"]])
    assert abs(heart - chest.patient.blood_hu) < 12
    assert abs(heart - chest.patient.liver_hu) < 40


def test_the_same_seed_gives_the_same_chest_and_another_seed_another() -> None:
    grid = Grid((12, 48, 48), (20.0, 8.0, 8.0))
    first, again, other = (chest_phantom(seed, grid=grid) for seed in (7, 7, 8))
    assert np.array_equal(first.volume.voxels, again.volume.voxels)
    assert np.array_equal(first.labels.labels, again.labels.labels)
    assert not np.array_equal(first.labels.labels, other.labels.labels)


def test_a_finer_grid_shows_the_same_chest() -> None:
    coarse = chest_phantom(5, grid=Grid((32, 64, 64), (10.0, 6.0, 6.0)))
    fine = chest_phantom(5, grid=Grid((32, 96, 96), (10.0, 4.0, 4.0)))
    for name in ("heart", "lung_left", "lung_right"):
        sizes = [(c.labels.labels == NUMBER[name]).sum() * np.prod(c.labels.spacing_mm) / 1000 for c in (coarse, fine)]
        assert sizes[0] == pytest.approx(sizes[1], rel=0.03)


def test_phase_changes_contrast_and_not_shape() -> None:
    grid = Grid((16, 64, 64), (18.0, 6.0, 6.0))
    plain, arterial = (chest_phantom(9, phase=phase, grid=grid) for phase in ("none", "arterial"))
    assert np.array_equal(plain.labels.labels, arterial.labels.labels)
    aorta = plain.labels.labels == NUMBER["aorta"]
    assert np.median(arterial.volume.voxels[aorta]) > np.median(plain.volume.voxels[aorta]) + 120


def test_nodules_lie_in_lungs_and_have_the_sizes_asked_for(chests: list[ChestPhantom]) -> None:
    for chest in chests:
        assert 1 <= len(chest.nodules) <= 6
        assert all(4 <= nodule.diameter_mm <= 20 for nodule in chest.nodules)


def test_a_nodule_has_the_volume_of_its_diameter() -> None:
    axis = np.arange(-14, 14.5, 0.5, dtype=np.float32)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    lobes = np.column_stack([np.random.default_rng(0).standard_normal((5, 3)), np.arange(5.0)])
    nodule = Nodule((0.5, -1.0, 0.0), 16.0, "solid", 30.0, (1.1, 0.9, 1.0), lobes)
    inside = (nodule_surface(Space(x, y, z, 0.5), nodule) < 0).sum() * 0.5**3
    assert inside == pytest.approx(np.pi / 6 * 16**3 * 1.1 * 0.9, rel=0.2)  # the lobes add or take some


def test_unusual_patients_lie_outside_the_usual_ranges_in_half_of_their_measures() -> None:
    rng = np.random.default_rng(0)
    usual, unusual = ([draw_patient(rng, shapes=s) for _ in range(60)] for s in ("usual", "unusual"))
    outside = []
    for patient in unusual:
        outside.append(np.mean([not _within(getattr(patient, f.name), f.metadata["range"]) for f in fields(Patient)]))
    assert all(_within(getattr(p, f.name), f.metadata["range"]) for p in usual for f in fields(Patient))
    assert np.mean(outside) == pytest.approx(0.5, abs=0.05)


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def test_everything_says_simulated(chests: list[ChestPhantom]) -> None:
    chest = chests[0]
    assert "simulated" in chest.volume.findings[0].message
    assert "simulated" in chest.labels.made_by
    assert (chest.volume.body_part, chest.volume.unit) == ("CHEST", "[hnsf'U]")


def test_segments_have_codes() -> None:
    assert {s.name: s.type[1] for s in SEGMENTS if s.name != "nodule"}["heart"] == "80891009"
    assert all(s.category and s.type for s in SEGMENTS)


@pytest.mark.parametrize(
    ("arguments", "reason"), [({"shapes": "odd"}, "shapes must be one of"), ({"phase": "late"}, "phase must be one of")]
)
def test_what_is_not_known_is_refused(arguments: dict[str, str], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        chest_phantom(1, **arguments)


def test_a_grid_without_voxels_is_refused() -> None:
    with pytest.raises(InputError, match="needs voxels"):
        Grid((0, 5, 5))
