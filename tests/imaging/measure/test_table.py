"""The table of measurements: published values, closed forms, and what is told of structures that are not whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.imaging.measure import measure
from careloop.imaging.measure.quantities import MEASUREMENTS, PLACES, QUANTITIES
from careloop.imaging.measure.texture.grid import TextureSettings, settings_for
from careloop.imaging.volume import LabelMap, Segment, Volume

HU = "[hnsf'U]"
MM3_OR_MM2 = {"volume": 1000.0, "voxel_volume": 1000.0, "surface_area": 100.0}
Values = dict[tuple[str, str], float]


def values_of(table: pl.DataFrame) -> Values:
    return {(name, quantity): value for name, quantity, value in table.select("name", "quantity", "value").iter_rows()}


def notes_of(table: pl.DataFrame, quantity: str) -> list[str]:
    return table.filter(quantity=quantity)["note"].to_list()


def balls(*centres: tuple[int, int, int], radius: int = 5, shape: tuple[int, ...] = (24, 40, 50)) -> np.ndarray:
    z, y, x = np.indices(shape)
    return np.any([(z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2 <= radius**2 for a, b, c in centres], axis=0)


def test_every_published_value_of_the_digital_phantom(phantom: Any, is_reference: Callable[..., bool]) -> None:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    label_map = LabelMap(phantom.mask.astype(np.uint8), affine, (Segment(1, "roi"),))
    how = TextureSettings(spacing_mm=None, bin_size=1, low=1)
    found = values_of(measure(label_map, Volume(phantom.voxels, affine, unit="g/mL"), texture=how))
    wrong = [
        (name, found["roi", name], value)
        for name, value, tolerance in phantom.reference.select("quantity", "phantom", "phantom_tolerance").iter_rows()
        if not is_reference(found["roi", name] * MM3_OR_MM2.get(name, 1), value, tolerance)
    ]
    assert not wrong
    assert len(phantom.reference) == 113


def test_one_row_a_segment_and_quantity_with_unit_and_concept(make_image: Any) -> None:
    labels = balls((12, 20, 20)).astype(np.uint8)
    labels[balls((12, 20, 40), radius=3)] = 2
    table = measure(*make_image(labels, np.random.default_rng(0).normal(40, 9, labels.shape).astype(np.float32)))
    assert table.schema == MEASUREMENTS
    assert not table.select("segment", "quantity").is_duplicated().any()
    assert table["segment"].unique(maintain_order=True).to_list() == [1, 2, 3]
    row = table.row(0, named=True)
    assert (row["name"], row["quantity"], row["unit"]) == ("heart", "volume", "mL")
    assert row["concept"] == {"scheme": "IBSI", "value": "RNU0", "meaning": "Volume of Mesh"}
    assert row["structure"] == {"scheme": "SCT", "value": "80891009", "meaning": "Heart"}
    units = dict(table.select("quantity", "unit").iter_rows())
    assert units["intensity_mean"] == HU
    assert units["intensity_variance"] == "[hnsf'U]2"
    assert units["intensity_entropy"] == "bit"
    assert values_of(table)["heart", "intensity_mean"] == pytest.approx(40, abs=1.5)


def test_codes_are_those_of_dicom() -> None:
    from pydicom.sr.codedict import codes

    named = {code.value: code.meaning for name in codes.IBSI.dir() for code in [getattr(codes.IBSI, name)]}
    ours = {q.value: q.meaning for q in QUANTITIES.values() if q.scheme == "IBSI" and q.value in named}
    assert ours == {value: named[value] for value in ours}
    assert len(ours) > 95
    named = {code.value: code.meaning for name in codes.SCT.dir() for code in [getattr(codes.SCT, name)]}
    ours = {q.value: q.meaning for q in QUANTITIES.values() if q.scheme == "SCT"}
    assert ours == {value: named[value] for value in ours}


def test_shape_of_a_ball_in_space(make_image: Any) -> None:
    z, y, x = np.indices((24, 40, 50))
    ball = ((z - 12) * 2) ** 2 + (y - 20) ** 2 + (x - 21) ** 2 <= 15**2
    found = {quantity: value for (_, quantity), value in values_of(measure(*make_image(ball.astype(np.uint8)))).items()}
    assert found["volume"] == pytest.approx(4 / 3 * np.pi * 1.5**3, rel=0.01)
    assert found["longest_diameter"] == pytest.approx(31, abs=1)  # 30 mm, and up to a voxel of 2 mm more
    assert found["long_axis"] == pytest.approx(31, abs=0.5)
    assert found["short_axis"] == pytest.approx(31, abs=0.5)
    assert 0.85 < found["sphericity"] < 1
    assert [found[f"centre_{axis}"] for axis in "xyz"] == pytest.approx([21 - 20, 20 - 30, 12 * 2 + 100])
    assert [found[f"box_{axis}_low"] for axis in "xyz"] == pytest.approx([6 - 20.5, 5 - 30.5, 5 * 2 + 99])
    assert [found[f"box_{axis}_high"] for axis in "xyz"] == pytest.approx([36 - 19.5, 35 - 29.5, 19 * 2 + 101])


def test_parts_are_listed_by_size_up_to_a_limit(make_image: Any) -> None:
    labels = np.zeros((24, 40, 50), dtype=np.uint8)
    for number, radius in enumerate((2, 5, 1, 3)):
        labels[balls((12, 20, 6 + 12 * number), radius=radius)] = 2
    table = measure(*make_image(labels), max_parts=3).filter(name="lung nodule")
    found = values_of(table)
    assert found["lung nodule", "components"] == 4
    assert notes_of(table, "components") == ["the largest 3 are listed"]
    volumes = [found["lung nodule", f"component_{n}_volume"] for n in (1, 2, 3)]
    assert volumes == sorted(volumes, reverse=True)
    assert found["lung nodule", "component_1_longest_diameter"] == pytest.approx(2 * (2 * 5 + 1))
    assert found["lung nodule", "long_axis"] == found["lung nodule", "component_1_long_axis"] == pytest.approx(11)
    assert ("lung nodule", "component_4_volume") not in found
    assert table.filter(quantity="component_2_volume")["concept"].to_list() == [
        {"scheme": "IBSI", "value": "RNU0", "meaning": "Volume of Mesh (connected part 2)"}
    ]


def test_corners_connect_and_more_parts_than_16_bits_are_counted(make_image: Any) -> None:
    z, y, x = np.indices((2, 2, 2))
    touching = np.pad((z == y) & (y == x), 1).astype(np.uint8)
    assert values_of(measure(*make_image(touching)))["heart", "components"] == 1
    dust = np.zeros((60, 120, 120), dtype=np.uint8)
    dust[1:-1:2, 1:-1:2, 1:-1:2] = 1
    assert values_of(measure(*make_image(dust), max_parts=1))["heart", "components"] == dust.sum() > 2**16


def test_a_structure_at_the_edge_of_the_image_is_told(make_image: Any) -> None:
    labels = np.zeros((10, 12, 14), dtype=np.uint8)
    labels[:4, 3:6, 9:] = 1
    labels[5:8, 3:6, 2:4] = 2
    table = measure(*make_image(labels))
    cut = "reaches the image's first slice, last column: what lies beyond is not measured"
    assert notes_of(table.filter(name="heart"), "volume") == [cut]
    assert notes_of(table.filter(name="heart"), "long_axis") == [f"{cut}; in axial slices"]
    assert notes_of(table.filter(name="lung nodule"), "volume") == [""]
    assert notes_of(table.filter(name="lung nodule"), "long_axis") == ["in axial slices"]


def test_a_structure_that_is_not_there_has_no_volume(make_image: Any) -> None:
    labels = balls((12, 20, 20)).astype(np.uint8) * 3
    table = measure(*make_image(labels)).filter(name="heart")
    assert table.select("quantity", "value", "note").rows() == [("components", 0.0, "no voxels with this label")]


def test_a_picture_has_an_area_and_no_volume(make_image: Any) -> None:
    labels = np.zeros((1, 30, 30), dtype=np.uint8)
    labels[0, 5:15, 5:25], labels[0, 20:22, 3:5] = 1, 1
    table = measure(*make_image(labels), texture=settings_for(HU))
    found = values_of(table)
    assert found["heart", "area"] == pytest.approx(2.04)
    assert found["heart", "component_1_area"] == pytest.approx(2.0)
    assert found["heart", "long_axis"] == pytest.approx(np.hypot(20, 9))
    assert not {"volume", "surface_area", "longest_diameter"} & {quantity for _, quantity in found}
    assert notes_of(table, "area") == [""]


def test_voxels_without_a_value_are_left_out_and_told(make_image: Any) -> None:
    labels = balls((12, 20, 20)).astype(np.uint8)
    voxels = np.full(labels.shape, 7.0, dtype=np.float32)
    voxels[12, 20, 18:21] = np.nan
    table = measure(*make_image(labels, voxels))
    assert values_of(table)["heart", "intensity_mean"] == 7
    assert notes_of(table, "intensity_mean") == ["3 voxels without a value left out"]
    nothing = measure(*make_image(labels, np.full(labels.shape, np.inf)))
    assert not nothing["quantity"].str.starts_with("intensity").any()


def test_texture_follows_where_it_is_asked_for(make_image: Any) -> None:
    labels = balls((12, 20, 20)).astype(np.uint8)
    image = make_image(labels, np.random.default_rng(1).normal(40, 30, labels.shape).astype(np.float32))
    plain, full = measure(*image), measure(*image, texture=settings_for(HU))
    assert full.height - plain.height == 94
    assert full.filter(quantity="glcm_contrast")["note"].to_list() == ["resampled to 2 mm, bin size 25 from -1000"]
    assert full.filter(pl.col("quantity").is_in(plain["quantity"])).equals(plain)


def test_suv_has_a_peak(make_image: Any) -> None:
    labels = balls((12, 20, 20)).astype(np.uint8)
    voxels = np.where(balls((12, 20, 20), radius=9), 4.0, 0.5)
    found = values_of(measure(*make_image(labels, voxels, unit="g/mL")))
    assert found["heart", "intensity_peak"] == pytest.approx(4.0)
    assert ("heart", "intensity_peak") not in values_of(measure(*make_image(labels, voxels)))


def test_progress_is_told_for_every_segment(make_image: Any) -> None:
    told: list[tuple[str, int, int]] = []
    measure(*make_image(balls((12, 20, 20)).astype(np.uint8)), progress=lambda *what: told.append(what))
    assert told == [("measuring", 0, 3), ("measuring", 1, 3), ("measuring", 2, 3)]


def test_images_that_cannot_be_measured_are_refused(make_image: Any) -> None:
    label_map, volume = make_image(balls((12, 20, 20)).astype(np.uint8))
    elsewhere = Volume(volume.voxels, volume.affine + np.diag([0.1, 0, 0, 0]))
    with pytest.raises(InputError, match="labels and image must lie on one grid"):
        measure(label_map, elsewhere)
    with pytest.raises(InputError, match="colour image"):
        measure(label_map, Volume(np.zeros((*label_map.labels.shape, 3), dtype=np.uint8), volume.affine))
    with pytest.raises(InputError, match="max_parts must be at least 1, got 0"):
        measure(label_map, volume, max_parts=0)


def test_places_are_quantities() -> None:
    assert len(PLACES) == 9
