"""Size and time of a label map as DICOM segmentation (label map, binary) and as NIfTI.

    python benchmarks/dicom_seg.py [--repeats 3] [--slices 108]

Needs Debian's invesalius-examples (CT of a head, 108 slices of 256 by 256) and `careloop[imaging]`. Labels are bone by
threshold (2 segments: the largest connected part, and the rest) and 60 simulated segments: the head cut into the cells
nearest to 60 random points. Every file is read back and compared with the labels before it counts. Times are
seconds of processor time (all runs in one thread), the medians of the repeats after a first round that is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import highdicom
import numpy as np
from scipy.ndimage import label
from scipy.spatial import cKDTree

from careloop.imaging.read.nifti import read_nifti_labels
from careloop.imaging.read.segmentations import read_segmentation
from careloop.imaging.volume import LabelMap, Segment, Volume
from careloop.imaging.write.nifti import write_nifti
from careloop.imaging.write.segmentation import write_segmentation

BONE_HU, SKIN_HU = 250, -300
SEGMENTS = 60
Write = Callable[[Path], object]
Read = Callable[[Path], np.ndarray]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--slices", type=int, default=108)
    arguments = parser.parse_args()
    series = _module(Path(__file__).parents[1] / "tests" / "imaging" / "dicom_series.py")
    if not series.HEAD_CT.exists():
        sys.exit("needs Debian's invesalius-examples")
    voxels, affine = series.head_ct()
    with tempfile.TemporaryDirectory() as folder:
        volume = series.write_series(Path(folder) / "ct", voxels[: arguments.slices], affine)
        print(f"{'labels':<26} {'form':<22} {'MB':>7} {'write s':>8} {'read s':>7} {'read by highdicom s':>20}")
        for name, label_map in (("bone, 2 segments", _bone(volume)), ("simulated, 60 segments", _cells(volume))):
            for form, write, read in _forms(label_map, volume):
                file = Path(folder) / ("labels.nii.gz" if form.startswith("NIfTI") else "labels.dcm")
                _compare(name, form, file, write=write, read=read, expected=label_map.labels, repeats=arguments.repeats)


def _module(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _bone(volume: Volume) -> LabelMap:
    parts, _ = label(volume.voxels > BONE_HU)
    largest = np.bincount(parts.ravel())[1:].argmax() + 1
    labels = np.where(parts == largest, 1, np.where(parts > 0, 2, 0)).astype(np.uint8)
    return LabelMap(labels, volume.affine, (Segment(1, "skull"), Segment(2, "other bone")), made_by="threshold 1")


def _cells(volume: Volume) -> LabelMap:
    inside = np.argwhere(volume.voxels > SKIN_HU)
    points = inside[np.random.default_rng(0).choice(len(inside), SEGMENTS, replace=False)]
    nearest = cKDTree(points * volume.spacing_mm).query(inside * volume.spacing_mm)[1]
    labels = np.zeros(volume.voxels.shape, np.uint8)
    labels[tuple(inside.T)] = nearest + 1
    segments = tuple(Segment(number, f"cell {number}") for number in range(1, SEGMENTS + 1))
    return LabelMap(labels, volume.affine, segments, made_by="simulated 1")


def _forms(label_map: LabelMap, volume: Volume) -> list[tuple[str, Write, Read]]:
    def dicom(encoding: str, compression: str) -> Write:
        return lambda path: write_segmentation(
            label_map,
            volume,
            path,
            encoding=encoding,  # type: ignore[arg-type]
            compression=compression,  # type: ignore[arg-type]
        )

    def read(path: Path) -> np.ndarray:
        return read_segmentation(path, volume=volume).labels

    return [
        ("SEG label map, RLE", dicom("labelmap", "rle"), read),
        ("SEG label map, JPEG-LS", dicom("labelmap", "jpeg-ls"), read),
        ("SEG label map, plain", dicom("labelmap", "none"), read),
        ("SEG binary", dicom("binary", "none"), read),
        ("NIfTI, gzip", lambda path: write_nifti(label_map, path), lambda path: read_nifti_labels(path).labels),
    ]


def _compare(name: str, form: str, file: Path, *, write: Write, read: Read, expected: np.ndarray, repeats: int) -> None:
    write_s, read_s, peer_s = [], [], []
    for _ in range(repeats + 1):
        write_s.append(_seconds(lambda: write(file)))
        read_s.append(_seconds(lambda: np.testing.assert_array_equal(read(file), expected)))
        if file.suffix == ".dcm":
            peer_s.append(_seconds(lambda: _by_highdicom(file)))
    size = file.stat().st_size / 1e6
    times = [f"{statistics.median(seconds[1:]):.2f}" if seconds else "" for seconds in (write_s, read_s, peer_s)]
    print(f"{name:<26} {form:<22} {size:>7.2f} {times[0]:>8} {times[1]:>7} {times[2]:>20}", flush=True)


def _by_highdicom(file: Path) -> np.ndarray:
    return highdicom.seg.segread(file).get_volume(combine_segments=True).array


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
