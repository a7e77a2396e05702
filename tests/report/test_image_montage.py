"""Pictures of labelled images: sides, proportions, windows, and what is said on them."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from careloop import InputError
from careloop.imaging.finding import Finding
from careloop.imaging.volume import LabelMap, Segment, Volume
from careloop.report import image_montage
from careloop.report.image_montage import CELL, COLUMNS, GAP, montage, panels, shown_segments
from careloop.report.image_windows import BONE, BRAIN, LUNG, SOFT, windows_of

HU = "[hnsf'U]"
RED = (255, 0, 0)
# Slices towards the head, rows towards the back, columns towards the left: (slice, row, column, 1) to LPS mm.
AXIAL = np.array([[0, 0, 2.0, 0], [0, 2.0, 0, 0], [3.0, 0, 0, 0], [0, 0, 0, 1]])
Image = tuple[Volume, LabelMap]


def image(labels: NDArray[np.unsignedinteger], voxels: NDArray[np.generic], *names: str, **changes: object) -> Image:
    segments = tuple(Segment(n, name, colour=RED) for n, name in enumerate(names, start=1))
    volume = replace(Volume(voxels, AXIAL, "CT", HU), **changes)  # type: ignore[arg-type]
    return volume, LabelMap(labels, volume.affine, segments, made_by="chest 1.0")


@pytest.fixture(scope="module")
def body() -> Image:
    """An ellipsoid of the liver's density with a bright marker to the patient's left, in front, near the head."""
    z, y, x = np.indices((40, 60, 60)) - np.array([20, 30, 30])[:, None, None, None]
    labels = ((z * 3 / 45) ** 2 + (y * 2 / 40) ** 2 + (x * 2 / 50) ** 2 <= 1).astype(np.uint8)
    voxels = np.where(labels, 60, -900).astype(np.int16)
    voxels[28:34, 15:20, 40:46] = 230
    return image(labels, voxels, "liver")


def turned(made: Image, order: tuple[int, ...], flips: tuple[bool, ...]) -> Image:
    """The same image stored with exchanged and reversed axes."""
    volume, label_map = made
    lengths = np.array(volume.voxels.shape)
    affine = volume.affine.copy()
    for axis, flip in enumerate(flips):
        if flip:
            affine[:, 3] += affine[:, axis] * (lengths[axis] - 1)
            affine[:, axis] *= -1
    affine[:, :3] = affine[:, list(order)]
    axes = [axis for axis, flip in enumerate(flips) if flip]
    voxels, labels = (np.flip(array, axes).transpose(order) for array in (volume.voxels, label_map.labels))
    return replace(volume, voxels=voxels, affine=affine), replace(label_map, labels=labels, affine=affine)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("flips", [(False, False, False), (True, False, True), (False, True, True), (True, True, True)])
def test_sides_are_the_patients_however_the_image_is_stored(
    body: Image, order: tuple[int, ...], flips: tuple[bool, ...]
) -> None:
    volume, label_map = turned(body, order, flips)
    assert np.array_equal(panels(volume, label_map), panels(*body))


def test_the_patients_left_is_on_the_right_and_the_head_on_top(body: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_montage, "_mark", lambda *_: None)
    monkeypatch.setattr(image_montage, "FILL", 0.0)
    picture = panels(*body).astype(int)
    white = (picture.min(axis=2) > 240) & (np.ptp(picture, axis=2) == 0)
    assert white.any()
    axial = picture.shape[1] // COLUMNS
    rows, columns = np.nonzero(white[:CELL])
    assert (columns % axial > axial / 2).all()  # left of the patient, right of the picture
    assert rows.max() < picture[:CELL].any(axis=2).any(axis=1).nonzero()[0].mean()  # in front: above the middle
    coronal = white[CELL + GAP :, : picture.shape[1] // 4]
    rows, columns = np.nonzero(coronal)
    assert rows.size == 0 or rows.max() < coronal.shape[0] / 2


def test_proportions_follow_the_spacing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_montage, "_mark", lambda *_: None)
    z, y, x = np.indices((30, 80, 40))
    affine = np.diag([4.0, 1.0, 2.0, 1.0])[[2, 1, 0, 3]][:, [0, 1, 2, 3]]
    ball = (((z - 15) * 4) ** 2 + (y - 40) ** 2 + ((x - 20) * 2) ** 2 <= 30**2).astype(np.uint8)
    picture = panels(*image(ball, np.zeros(ball.shape, dtype=np.int16), "ball", affine=affine))
    red = (picture == RED).all(axis=2)
    middle = (GAP + CELL) * 2 + GAP
    rows, columns = np.nonzero(red[: CELL + GAP, middle : middle + CELL])
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), rel=0.06)
    rows, columns = np.nonzero(red[CELL + 2 * GAP :, : picture.shape[1] // 4])
    assert np.ptp(rows) == pytest.approx(np.ptp(columns), rel=0.12)  # slices are 4 mm apart


def test_windows_suit_what_is_labelled() -> None:
    labels = np.repeat(np.arange(6, dtype=np.uint8), 20)[None, :, None] * np.ones((4, 1, 30), dtype=np.uint8)
    voxels = np.select([labels == n for n in (1, 2, 3, 4)], [-800, 60, 300, 300], 1200).astype(np.int16)
    volume, label_map = image(labels, voxels, "lung_left", "liver", "vertebrae_L1", "aorta", "implant")
    assert set(windows_of(volume, label_map)) == {LUNG, SOFT, BONE}
    only = replace(label_map, segments=label_map.segments[3:4])
    assert windows_of(volume, only) == (SOFT,)  # contrast medium, no bone
    assert windows_of(volume, replace(label_map, segments=())) == (SOFT,)
    grey_matter = image(np.ones((4, 9, 9), dtype=np.uint8), np.full((4, 9, 9), 35, dtype=np.int16), "left part")
    assert windows_of(replace(grey_matter[0], body_part="HEAD"), grey_matter[1]) == (BRAIN,)


def test_images_without_hounsfield_units_are_shown_by_their_percentiles() -> None:
    voxels = np.linspace(0, 500, 4000).reshape(10, 20, 20)
    made = image(np.ones(voxels.shape, dtype=np.uint8), voxels, "brain", unit="", modality="MR")
    (window,) = windows_of(*made)
    assert (window.low, window.high) == pytest.approx((5, 495), abs=1)
    flat = replace(made[0], voxels=np.zeros(voxels.shape))
    assert windows_of(flat, made[1])[0].high > windows_of(flat, made[1])[0].low
    assert panels(flat, made[1]).any()


def test_a_small_structure_is_looked_at_closely(body: Image) -> None:
    volume, label_map = body
    labels = label_map.labels.copy()
    labels[3, 30, 30] = 2
    small = replace(label_map, labels=labels, segments=(*label_map.segments, Segment(2, "nodule", colour=(0, 255, 0))))
    before, after = panels(*body), panels(volume, small)
    assert after.shape[0] == before.shape[0] + CELL + GAP
    green = (after == (0, 255, 0)).all(axis=2)
    assert green.any()
    assert [s.name for s in shown_segments(small)] == ["liver", "nodule"]


def test_an_image_of_one_slice_is_shown_alone_whatever_its_plane() -> None:
    labels = np.zeros((1, 50, 40), dtype=np.uint8)
    labels[0, 10:30, 10:20] = 1
    made = image(labels, np.zeros(labels.shape, dtype=np.uint8), "heart", unit="", modality="CR", placed=False)
    alone = panels(*made)
    assert max(alone.shape[:2]) == CELL * COLUMNS // 2
    assert not ((alone[..., 0] > 200) & (alone[..., 2] == 120)).any()  # no letters of sides: none are known
    sagittal = image(labels, np.zeros(labels.shape, dtype=np.uint8), "heart", affine=AXIAL[:, [2, 1, 0, 3]])
    assert max(panels(*sagittal).shape[:2]) == CELL * COLUMNS // 2


def test_colour_and_wide_labels_and_values_that_are_missing_are_shown() -> None:
    labels = np.zeros((3, 30, 30), dtype=np.uint16)
    labels[:, 5:20, 5:20] = 1
    colour = np.random.default_rng(0).integers(0, 255, (3, 30, 30, 3)).astype(np.uint8)
    assert panels(*image(labels, colour, "skin", unit="")).any()
    missing = np.full(labels.shape, np.nan)
    missing[:, 8:15] = 3.0
    assert panels(*image(labels, missing, "skin", unit="")).any()


def test_nothing_labelled_shows_the_whole_image(body: Image) -> None:
    volume, label_map = body
    empty = replace(label_map, labels=np.zeros_like(label_map.labels))
    assert panels(volume, empty).any()
    assert shown_segments(empty) == []
    assert montage(volume, empty).any()


def test_a_montage_has_a_legend_and_says_what_it_is(body: Image) -> None:
    volume, label_map = body
    plain = montage(volume, label_map)
    assert plain.dtype == np.uint8
    assert plain.shape[2] == 3
    assert (plain[panels(*body).shape[0] :] == RED).all(axis=2).any()
    simulated = montage(replace(volume, findings=(Finding("simulated", "noted", "a phantom"),)), label_map)
    assert simulated.shape == plain.shape
    assert not np.array_equal(simulated, plain)  # it says so


def test_labels_on_another_grid_are_refused(body: Image) -> None:
    volume, label_map = body
    with pytest.raises(InputError, match="labels and image must lie on one grid"):
        montage(volume, replace(label_map, affine=label_map.affine + np.diag([0, 0, 1.0, 0])))
