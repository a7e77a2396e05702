"""Boxes on both grids, in the patient, around structures, and of two that are one."""

from __future__ import annotations

import numpy as np
import pytest
from detection_blobs import affine
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.imaging.detect.boxes import (
    boxes_of_mask,
    detection,
    diameters_mm,
    spheres_in_voxels,
    suppressed,
    to_prepared,
    to_volume,
)
from careloop.imaging.segment.model import Normalization, Preparation
from careloop.imaging.segment.prepare import prepare
from careloop.imaging.volume import Volume

ORIENTATIONS = st.sampled_from(["SPL", "IAR", "LSP", "RPI", None])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    orientation=ORIENTATIONS, spacing=st.tuples(*[st.floats(0.5, 3.0)] * 3), low=st.tuples(*[st.floats(0.0, 9.0)] * 3)
)
def test_boxes_go_to_the_prepared_grid_and_back(orientation: str | None, spacing: tuple, low: tuple) -> None:
    preparation = Preparation((Normalization("none"),), spacing, orientation=orientation)
    placing = prepare([Volume(np.zeros((12, 16, 14), np.float32), affine(), "CT")], preparation).placing
    box = np.array([[*low, *np.add(low, (1.5, 2.0, 3.0))]])
    there = to_prepared(box, placing)
    assert (there[:, 3:] > there[:, :3]).all()
    assert to_volume(there, placing) == pytest.approx(box, abs=1e-9)


def test_a_prepared_box_lies_where_the_prepared_image_shows_it() -> None:
    image = np.zeros((20, 24, 28), np.float32)
    image[4:10, 6:12, 15:21] = 1
    preparation = Preparation((Normalization("none"),), (1.0, 2.0, 1.0), orientation="RIP", image_order=1)
    made = prepare([Volume(image, affine(), "CT")], preparation)
    shown = boxes_of_mask(made.image[0] > 0.5)
    assert to_prepared(np.array([[4.0, 6, 15, 10, 12, 21]]), made.placing) == pytest.approx(shown, abs=0.51)


def test_place_in_the_patient() -> None:
    found = detection("ball", np.array([0.0, 2, 3, 4, 6, 9]), affine(), probability=0.5, score=0.4)
    # Column 3 begins half a pixel before its middle, at -20 + 2.5 mm; slices are 2 mm.
    assert found.box_mm == pytest.approx((-17.5, 31.5, 99.0, -11.5, 35.5, 107.0))
    assert found.centre_mm == pytest.approx((-14.5, 33.5, 103.0))
    assert found.diameter_mm == pytest.approx((8 + 4 + 6) / 3)
    assert diameters_mm(np.array([[0.0, 2, 3, 1, 6, 9]]), affine()) == pytest.approx([5.0])
    boxes = spheres_in_voxels(np.array([found.centre_mm]), np.array([6.0]), affine())
    assert boxes == pytest.approx(np.array([[0.5, 1, 3, 3.5, 7, 9]]))


def test_boxes_around_joined_voxels() -> None:
    mask = np.zeros((4, 8, 8), bool)
    mask[0, 1:3, 1:3] = mask[1, 3, 3] = True  # joined by a corner
    mask[3, 6, 5:8] = True
    assert boxes_of_mask(mask).tolist() == [[0, 1, 1, 2, 4, 4], [3, 6, 5, 4, 7, 8]]
    assert boxes_of_mask(np.zeros((1, 2, 2), bool)).shape == (0, 6)


def test_the_surer_of_two_that_are_one_stays() -> None:
    boxes = np.array([[0, 0, 0, 1, 4, 4], [0, 1, 1, 1, 5, 5], [0, 0, 0, 1, 40, 40], [0, 9, 9, 1, 12, 12.0]])
    kept = suppressed(boxes, np.array([0.6, 0.9, 0.1, 0.3]), iou=0.2)
    assert kept.tolist() == [1, 3, 2]
    assert suppressed(boxes[:0], np.zeros(0), iou=0.2).tolist() == []
