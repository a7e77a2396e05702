"""The page of a segmentation: whole in itself, without the patient, with the figures of the table."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from html_page import Page
from PIL import Image

from careloop.imaging.finding import Finding
from careloop.imaging.measure import measure
from careloop.imaging.measure.texture.grid import settings_for
from careloop.imaging.segment.stages import Stage
from careloop.imaging.volume import LabelMap, Segment, Source, Volume
from careloop.report import image_montage
from careloop.report.image_page import ImageFacts, image_page, write_image_page

HU = "[hnsf'U]"
SOURCE = Source(
    files=("/data/Meier^Anna/1.dcm",), study="1.2.840.77", series="1.2.840.77.1", patient_id="PAT-4711",
    acquired=datetime(2021, 5, 6, tzinfo=UTC),
)  # fmt: skip


def facts(names: tuple[str, ...] = ("heart", "lung_left"), unit: str = HU) -> ImageFacts:
    labels = np.zeros((12, 30, 30), dtype=np.uint8)
    labels[2:10, 5:15, 5:15], labels[:4, 18:28, 18:28] = 1, 2
    affine = np.array([[0, 0, 2.0, 0], [0, 2.0, 0, 0], [3.0, 0, 0, 0], [0, 0, 0, 1]])
    voxels = np.random.default_rng(0).normal(50, 20, labels.shape).astype(np.float32)
    volume = Volume(voxels, affine, "CT", unit, "CHEST", source=SOURCE)
    segments = tuple(Segment(n, name) for n, name in enumerate(names, start=1))
    label_map = LabelMap(labels, affine, segments, "chest 1.0", SOURCE)
    return ImageFacts(volume, label_map, measure(label_map, volume))


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures have tests of their own."""
    monkeypatch.setattr(image_montage, "CELL", 60)


@pytest.fixture(scope="module")
def usual() -> ImageFacts:
    return facts()


def test_it_is_whole_in_itself(usual: ImageFacts, tmp_path: Path) -> None:
    write_image_page(usual, tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    (picture,) = page.loads
    assert picture.startswith("data:image/png;base64,")
    shown = Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2])))
    assert shown.width > 300


def test_it_names_model_and_purpose_and_no_patient(usual: ImageFacts) -> None:
    html = image_page(usual)
    text = Page(html).text
    assert text.count("Research software. Not for clinical use.") == 2
    assert "chest 1.0" in text
    for secret in ("Meier", "PAT-4711", "1.2.840.77", "2021"):
        assert secret not in html


def test_measurements_are_those_of_the_table(usual: ImageFacts) -> None:
    text = Page(image_page(usual)).text
    values = dict(usual.table.filter(name="heart").select("quantity", "value").iter_rows())
    assert f"heart {values['volume']:.4g} {values['longest_diameter']:.4g}" in text
    assert f"{values['long_axis']:.4g} × {values['short_axis']:.4g}" in text
    assert f"{values['intensity_mean']:.4g} ± {values['intensity_sd']:.4g}" in text
    assert "reaches the image's first slice: what lies beyond is not measured" in text
    assert "All measurements of lung left" in text
    assert "Volume of Mesh IBSI RNU0" in text
    assert "Mean ± SD, HU" in text


def test_findings_are_in_plain_words(usual: ImageFacts) -> None:
    assert "Nothing was found" in Page(image_page(usual)).text
    noted = Finding("gantry tilt", "handled", "slices were moved onto an upright grid")
    simulated = Finding("simulated", "noted", "This is a simulated chest; it shows no patient.")
    given = replace(usual, volume=replace(usual.volume, findings=(simulated,)), findings=(noted, simulated))
    text = Page(image_page(given)).text
    assert "put right gantry tilt slices were moved onto an upright grid" in text
    assert text.count("This is a simulated chest") == 1
    assert "Simulated images: they show no patient." in text
    assert "Simulated images" not in Page(image_page(usual)).text


def test_stages_are_shown_with_time_and_memory(usual: ImageFacts) -> None:
    stages = (Stage("prepare", 1.26, 300 * 2**20), Stage("networks", 120.0, 1500 * 2**20))
    text = Page(image_page(replace(usual, stages=stages, backend="OpenVINO"))).text
    assert "prepare 1.3 s 300 MB networks 2.0 min 1,500 MB together 2.0 min" in text
    assert "on OpenVINO" in text
    assert "How it was computed" not in Page(image_page(usual)).text


def test_names_are_escaped_and_what_is_not_found_is_said() -> None:
    html = image_page(facts(names=("<b>heart</b>", "lung", "spleen_cyst")))
    assert "<b>heart" not in html
    assert "&lt;b&gt;heart&lt;/b&gt;" in html
    assert "Not found in this image: spleen cyst." in Page(html).text


def test_a_picture_without_place_and_unit_has_an_area() -> None:
    labels = np.zeros((1, 40, 40), dtype=np.uint8)
    labels[0, 5:25, 5:25] = 1
    volume = Volume(np.ones(labels.shape, dtype=np.uint8), np.eye(4), "CR", placed=False)
    label_map = LabelMap(labels, np.eye(4), (Segment(1, "heart"),))
    text = Page(image_page(ImageFacts(volume, label_map, measure(label_map, volume)))).text
    assert "heart 4 cm²" in text
    assert "sides are not marked" in text
    assert "1 to 1 (arbitrary unit)" in text


def test_many_structures_have_their_main_figures_only() -> None:
    labels = np.zeros((4, 40, 40), dtype=np.uint8)
    for number in range(31):
        labels[1:3, 5 * (number // 7) : 5 * (number // 7) + 3, 5 * (number % 7) : 5 * (number % 7) + 3] = number + 1
    volume = Volume(np.zeros(labels.shape, dtype=np.int16), np.eye(4), "CT", HU)
    label_map = LabelMap(labels, np.eye(4), tuple(Segment(n, f"part_{n}") for n in range(1, 32)))
    page = Page(image_page(ImageFacts(volume, label_map, measure(label_map, volume))))
    assert "details" not in page.tags
    assert "part 31" in page.text


def test_texture_is_among_the_details(usual: ImageFacts) -> None:
    table = measure(usual.label_map, usual.volume, texture=settings_for(HU))
    assert "glcm contrast" in Page(image_page(replace(usual, table=table))).text
