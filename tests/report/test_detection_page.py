"""The page of a detector's findings: rectangles lie where the findings are, however the image was stored."""

from __future__ import annotations

import io
import re
from base64 import b64decode
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("PIL")
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from careloop.imaging.detect import Detection
from careloop.imaging.volume import Volume
from careloop.report import detection_page as page_module
from careloop.report.detection_page import BOX_COLOUR, DetectionFacts, detection_page
from careloop.report.image_windows import HU, Window
from careloop.report.model_card import ModelCard

SHAPE = (9, 40, 60)
BOX = (3.0, 6.0, 30.0, 6.0, 14.0, 42.0)  # slices 3 to 5, rows 6 to 13, columns 30 to 41


def found(box: tuple[float, ...] = BOX, probability: float = 0.8) -> Detection:
    return Detection("nodule", probability, box, (0.0,) * 6, (1.0, 2.0, 3.0), 9.5, 1.2)


def facts(volume: Volume, *those: Detection, **more: object) -> DetectionFacts:
    evaluation = {"nodule": {"froc": {"x": [0.5, 1.0], "value": [0.5, 0.75], "low": [0.4, 0.7], "high": [0.6, 0.8]},
                             "lesions": 1200}}  # fmt: skip
    usual = DetectionFacts(volume, those, ("nodule",), ModelCard("lungs", "abc"), evaluation, 0.05, True)
    return replace(usual, **more)  # type: ignore[arg-type]


def pictures(html: str) -> list[np.ndarray]:
    coded = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(b64decode(one))).convert("RGB")) for one in coded]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    order=st.permutations([0, 1, 2]),
    signs=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    steps=st.tuples(*[st.sampled_from([0.5, 1.0, 2.5])] * 3),
    placed=st.booleans(),
)
def test_a_box_is_where_its_voxels_are_shown(
    order: list[int], signs: tuple[float, ...], steps: tuple[float, ...], placed: bool
) -> None:
    voxels = np.zeros(SHAPE, np.float32)
    voxels[3:6, 6:14, 30:42] = 1
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign, step) in enumerate(zip(order, signs, steps, strict=True)):
        affine[world, axis] = sign * step
    volume = Volume(voxels, affine, modality="CT", placed=placed)
    frame = page_module._frame(volume, Window("", 0, 1), 4, 600)
    bright = np.argwhere(frame.picture > 127)
    left, top, right, bottom = frame.place(BOX)
    assert bright.min(axis=0) == pytest.approx((top, left), abs=2)
    assert bright.max(axis=0) + 1 == pytest.approx((bottom, right), abs=2)


def test_a_picture_has_a_rectangle_around_each_finding_and_the_numbers_of_the_table() -> None:
    volume = Volume(np.full((1, 40, 60), 100, np.uint8), np.eye(4), modality="DX", placed=False)
    html = detection_page(facts(volume, found((0, 6, 30, 1, 14, 42)), found((0, 20, 5, 1, 30, 12), 0.3)))
    assert "2 findings" in html
    assert re.search(r'<th scope="row">2</th><td>nodule</td>.*30 %</td><td>9.5 pixels', html)
    assert "of 1,200 in held-out images 75 % were found (95 % interval 70 to 80 %)" in html
    assert "Slice of" not in html
    (picture,) = pictures(html)
    scale = picture.shape[1] / 60
    coloured = (picture == BOX_COLOUR).all(axis=2)
    for top, left, bottom, right in ((6, 30, 14, 42), (20, 5, 30, 12)):
        middle_row, middle_column = round((top + bottom) / 2 * scale), round((left + right) / 2 * scale)
        for edge in (top * scale - 1, bottom * scale + 1):
            assert coloured[round(edge) - 1 : round(edge) + 2, middle_column].any()
        for edge in (left * scale - 1, right * scale + 1):
            assert coloured[middle_row, round(edge) - 1 : round(edge) + 2].any()
        assert not coloured[middle_row, middle_column]


def test_of_a_volume_each_finding_is_shown_in_its_slice_and_from_near() -> None:
    volume = Volume(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32), np.eye(4), modality="CT")
    html = detection_page(facts(volume, found(), found((0.0, 0, 0, 2, 5, 5), 0.2)))
    assert len(pictures(html)) == 4
    assert "slice 5;" in html
    assert "<td>5</td><td>1, 2, 3 mm</td>" in html
    many = detection_page(facts(volume, *[found()] * 26))
    assert "2 further findings are in the table only" in many


def test_a_finding_is_shown_in_the_window_of_what_surrounds_it() -> None:
    voxels = np.full((20, 60, 60), -850, np.int16)
    voxels[:, 30:] = 40
    volume = Volume(voxels, np.eye(4), modality="CT", unit=HU)
    html = detection_page(facts(volume, found((8, 10, 10, 12, 16, 16)), found((8, 44, 10, 12, 50, 16))))
    assert [re.findall("(lung|soft tissue) window", one)[0] for one in html.split("<figcaption>")[1:]] == [
        "lung",
        "soft tissue",
    ]


def test_nothing_found_is_not_said_to_be_nothing_there() -> None:
    volume = Volume(np.zeros(SHAPE, np.float32), np.eye(4), modality="CT")
    html = detection_page(facts(volume, chosen=False, threshold=0.5, evaluation={}))
    assert "Nothing found" in html
    assert "does not mean that nothing is there" in html
    assert "at least 50 %, as was asked for" in html
    assert len(pictures(html)) == page_module.WITHOUT_FINDINGS
    assert "at least 0.31 %" in detection_page(facts(volume, threshold=0.0031))


def test_the_page_names_nobody_and_loads_nothing() -> None:
    volume = Volume(np.zeros(SHAPE, np.float32), np.eye(4), modality="CT")
    html = detection_page(facts(volume, found()))
    assert "default-src 'none'" in html
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "")
