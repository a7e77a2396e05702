"""RT structure sets onto the grid of images: areas against closed forms, membership against a ray cast by hand."""

from __future__ import annotations

from pathlib import Path

import dicom_series as made
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset

from careloop import InputError
from careloop.imaging.read.contours import inside, read_contours
from careloop.imaging.volume import Source, Volume

Ring = list[tuple[float, float]]  # (row, column) in voxels
Drawn = dict[str, list[tuple[float, Ring]]]  # of each structure: slice and ring


def _volume(**placed: float) -> Volume:
    affine = made.affine_of((2.5, 0.8, 0.7), **placed)
    return Volume(np.zeros((6, 40, 50), np.int16), affine, source=Source(frame_of_reference="1.2.3"))


def _write(path: Path, volume: Volume, drawn: Drawn, *, frame_of_reference: str = "1.2.3") -> Path:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = pydicom.uid.RTStructureSetStorage, pydicom.uid.generate_uid()
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, (name, rings) in enumerate(drawn.items(), start=1):
        region, contours = Dataset(), Dataset()
        region.ROINumber, region.ROIName, region.ReferencedFrameOfReferenceUID = number, name, frame_of_reference
        contours.ReferencedROINumber, contours.ROIDisplayColor, contours.ContourSequence = number, [255, 0, number], []
        for slice_, ring in rings:
            index = np.array([(slice_, row, column, 1.0) for row, column in ring])
            contour = Dataset()
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.ContourData = [f"{n:.10g}"[:16] for n in (index @ volume.affine.T)[:, :3].ravel()]
            contour.NumberOfContourPoints = len(ring)
            contours.ContourSequence.append(contour)
        dataset.StructureSetROISequence.append(region)
        dataset.ROIContourSequence.append(contours)
    dataset.save_as(path, enforce_file_format=True)
    return path


def _box(top: float, left: float, bottom: float, right: float) -> Ring:
    return [(top, left), (top, right), (bottom, right), (bottom, left)]


@pytest.mark.parametrize("placed", [{}, {"turn_deg": 31.0}, {"tilt_deg": 14.0}], ids=["upright", "turned", "tilted"])
def test_boxes_on_voxel_edges_are_exact(tmp_path: Path, placed: dict[str, float]) -> None:
    volume = _volume(**placed)
    drawn = {
        "a": [(z, _box(4.5, 9.5, 14.5, 29.5)) for z in (1, 2)],
        "b": [(z, _box(14.5, 9.5, 19.5, 29.5)) for z in (2, 3)],
    }
    back = read_contours(_write(tmp_path / "rt.dcm", volume, drawn), volume)
    expected = np.zeros((6, 40, 50), np.uint8)
    expected[1:3, 5:15, 10:30], expected[2:4, 15:20, 10:30] = 1, 2
    np.testing.assert_array_equal(back.labels, expected)
    assert [(s.number, s.name, s.colour) for s in back.segments] == [(1, "a", (255, 0, 1)), (2, "b", (255, 0, 2))]
    np.testing.assert_array_equal(back.affine, volume.affine)


def test_contours_through_voxel_centres_share_them_out(tmp_path: Path) -> None:
    volume = _volume(turn_deg=31.0)
    drawn = {
        "a": [(1, _box(5, 10, 15, 20)), (2, _box(5, 10, 15, 20))],
        "b": [(1, _box(5, 20, 15, 30)), (2, _box(5, 20, 15, 30))],
    }
    labels = read_contours(_write(tmp_path / "rt.dcm", volume, drawn), volume).labels
    assert (labels == 1).sum() == (labels == 2).sum() == 2 * 10 * 10
    assert (labels[1, 5:15, 10:30] > 0).all()


def test_hole_and_keyhole_are_empty(tmp_path: Path) -> None:
    outer, inner = _box(2.5, 2.5, 32.5, 42.5), _box(10.5, 12.5, 20.5, 22.5)
    keyhole = [*outer, outer[0], *inner, inner[0]]  # out along a line, round the hole, and back along the same line
    volume = _volume()
    back = read_contours(_write(tmp_path / "a.dcm", volume, {"a": [(2, outer), (2, inner)]}), volume)
    again = read_contours(_write(tmp_path / "b.dcm", volume, {"a": [(2, keyhole)]}), volume)
    assert back.labels.sum() == 30 * 40 - 10 * 10
    assert not back.labels[2, 11:21, 13:23].any()
    np.testing.assert_array_equal(again.labels, back.labels)


@pytest.mark.parametrize("radius", [30.0, 80.2])
def test_area_of_a_circle(radius: float) -> None:
    turn = np.linspace(0, 2 * np.pi, 3000, endpoint=False)
    ring = np.column_stack([100.3 + radius * np.sin(turn), 99.1 + radius * np.cos(turn)])
    # Gauss's circle problem: far below the circumference times a voxel.
    assert inside([ring], (200, 200)).sum() == pytest.approx(np.pi * radius**2, abs=4 * radius ** (2 / 3))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 25), st.floats(-5, 27)), min_size=3, max_size=12))
def test_membership_is_that_of_a_ray_cast(ring: Ring) -> None:
    polygon = np.array(ring)
    mask = inside([polygon], (20, 22))
    edges = list(zip(polygon, np.roll(polygon, -1, axis=0), strict=True))
    for row in range(20):
        for column in range(22):
            crossed, near = 0, False
            for (y0, x0), (y1, x1) in edges:
                if (y0 > row) != (y1 > row):
                    x = x0 + (row - y0) / (y1 - y0) * (x1 - x0)
                    crossed += x > column
                    near |= abs(x - column) < 1e-4
            if not near:  # on the line itself either side may have it
                assert mask[row, column] == bool(crossed % 2)


def test_triangulation_has_neither_gap_nor_overlap() -> None:
    """Triangles with corners on voxel centres tile a square: every voxel belongs to exactly one."""
    rng = np.random.default_rng(0)
    corners = [np.array(corner, float) for corner in ((0, 0), (0, 30), (30, 30), (30, 0))]
    for _ in range(20):
        middle = rng.integers(1, 30, 2).astype(float)
        parts = [
            inside([np.array([middle, a, b])], (30, 30))
            for a, b in zip(corners, corners[1:] + corners[:1], strict=True)
        ]
        np.testing.assert_array_equal(np.sum(parts, axis=0), np.ones((30, 30)))


def test_structures_are_chosen_by_name_and_overlap_is_refused(tmp_path: Path) -> None:
    volume = _volume()
    drawn = {"body": [(2, _box(1, 1, 30, 40))], "liver": [(2, _box(5, 5, 20, 20))], "marker": []}
    file = _write(tmp_path / "rt.dcm", volume, drawn)
    with pytest.raises(InputError, match="'body' and 'liver' overlap"):
        read_contours(file, volume)
    back = read_contours(file, volume, structures=["liver"])
    assert [s.name for s in back.segments] == ["liver"]
    assert back.labels.sum() == 15 * 15
    with pytest.raises(InputError, match=r"must be among \['body', 'liver'\]"):
        read_contours(file, volume, structures=["marker"])


@pytest.mark.parametrize(
    ("rings", "reason"),
    [
        ([(1.3, _box(2, 2, 9, 9))], "0.3 slices beside"),
        ([(1, _box(2, 2, 9, 9)), (3, _box(2, 2, 9, 9)), (5, _box(2, 2, 9, 9))], "no two neighbouring slices"),
        ([(7, _box(2, 2, 9, 9))], "beyond the 6 slices"),
        ([(1, [(2, 2), (3, 3)])], "closed contour of 2 points"),
    ],
)
def test_contours_that_do_not_fit_are_refused(tmp_path: Path, rings: list[tuple[float, Ring]], reason: str) -> None:
    volume = _volume()
    with pytest.raises(InputError, match=reason):
        read_contours(_write(tmp_path / "rt.dcm", volume, {"a": rings}), volume)


def test_tolerance_and_frame_of_reference(tmp_path: Path) -> None:
    volume = _volume()
    drawn: Drawn = {"a": [(1.05, _box(2.5, 2.5, 9.5, 9.5))]}
    assert read_contours(_write(tmp_path / "rt.dcm", volume, drawn), volume).labels[1].sum() == 49
    with pytest.raises(InputError, match="frame of reference"):
        read_contours(_write(tmp_path / "rt.dcm", volume, drawn, frame_of_reference="9.9"), volume)
    with pytest.raises(InputError, match="no closed contours"):
        read_contours(_write(tmp_path / "rt.dcm", volume, {"a": []}), volume)
    with pytest.raises(InputError, match="must be an RT Structure Set"):
        read_contours(
            Path(made.write_series(tmp_path / "ct", np.zeros((1, 4, 4), np.int16), volume.affine).source.files[0]),
            volume,
        )


def test_packaged_structure_set_is_read() -> None:
    """The outline of a phantom on three slices, and two points, which enclose nothing (pydicom's own)."""
    from pydicom.data import get_testdata_file

    file = Path(str(get_testdata_file("rtstruct.dcm", download=False)))
    outlines = pydicom.dcmread(file, force=True).ROIContourSequence[0].ContourSequence
    affine = made.affine_of((10.0, 1.0, 1.0), (-300.0, -300.0, -200.0))
    back = read_contours(file, Volume(np.zeros((3, 600, 600), np.int16), affine))
    assert [segment.name for segment in back.segments] == ["patient"]
    for slice_, outline in enumerate(outlines):
        x, y, z = np.array(outline.ContourData, float).reshape(-1, 3).T
        assert z[0] == -200 + 10 * slice_
        shoelace = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
        perimeter = np.hypot(np.diff(x, append=x[0]), np.diff(y, append=y[0])).sum()
        assert (back.labels[slice_] == 1).sum() == pytest.approx(shoelace, abs=perimeter / 2)
