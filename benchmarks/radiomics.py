"""Measure simulated structures: time, peak memory and values beside pyradiomics, on the same masks in the same run.

    python benchmarks/radiomics.py                                      careloop alone
    python benchmarks/radiomics.py --peer PYTHON_WITH_PYRADIOMICS       and pyradiomics beside it
    python benchmarks/radiomics.py --cases nodule --repeats 1           a smaller setting
    python benchmarks/radiomics.py --ibsi FOLDER                        the IBSI's CT against its published values

PYTHON_WITH_PYRADIOMICS is the python of an environment with pyradiomics 3.0.1 (3.1.0 of PyPI does not build: its
archive names itself 3.0.1a1): pip install "numpy<2" SimpleITK pywavelets pykwalify six "setuptools<70" cython wheel
versioneer, then pip install --no-build-isolation --no-deps pyradiomics==3.0.1. FOLDER is ibsi_1_ct_radiomics_phantom
of github.com/theibsi/data_sets (CC BY-NC 3.0).

Both compute shape, first-order statistics and all texture matrices at the spacing as acquired with bins of 25 HU: 125
quantities here, 107 there (no connected parts, no axes within slices, no distance zones). Each runs in a process of its
own with one thread; seconds (by the clock, and of the processor) are those of measuring, imports and the making of
images aside, medians of repeats; peak memory is that of the process (Linux). Compared are quantities that both define
alike: pyradiomics takes the mean of GLCM and GLRLM features over directions where the IBSI's merged matrices are used
here, so those are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

BIN = 25.0
SPACING = (1.5, 0.8, 0.8)  # slices, rows, columns, mm
SEED = 7
# Radii in mm of ellipsoids along slices, rows and columns, and the number of structures.
CASES = {
    "nodule": ((9, 8, 7), 1),
    "liver": ((70, 60, 90), 1),
    "lungs": ((120, 90, 110), 1),
    "117 organs": ((18, 14, 15), 117),
}
# pyradiomics' name, the factor from its unit to that of careloop's quantity, and what is added.
ALIKE = {
    "volume": ("shape_MeshVolume", 1e-3, 0), "voxel_volume": ("shape_VoxelVolume", 1e-3, 0),
    "surface_area": ("shape_SurfaceArea", 1e-2, 0), "sphericity": ("shape_Sphericity", 1, 0),
    "longest_diameter": ("shape_Maximum3DDiameter", 1, 0),
    "intensity_mean": ("firstorder_Mean", 1, 0), "intensity_median": ("firstorder_Median", 1, 0),
    "intensity_variance": ("firstorder_Variance", 1, 0), "intensity_skewness": ("firstorder_Skewness", 1, 0),
    "intensity_kurtosis": ("firstorder_Kurtosis", 1, -3), "intensity_minimum": ("firstorder_Minimum", 1, 0),
    "intensity_p10": ("firstorder_10Percentile", 1, 0), "intensity_p90": ("firstorder_90Percentile", 1, 0),
    "intensity_maximum": ("firstorder_Maximum", 1, 0), "intensity_iqr": ("firstorder_InterquartileRange", 1, 0),
    "intensity_range": ("firstorder_Range", 1, 0), "intensity_energy": ("firstorder_Energy", 1, 0),
    "intensity_entropy": ("firstorder_Entropy", 1, 0),
    "glszm_small_zone_emphasis": ("glszm_SmallAreaEmphasis", 1, 0),
    "glszm_large_zone_emphasis": ("glszm_LargeAreaEmphasis", 1, 0),
    "glszm_low_grey_level_zone_emphasis": ("glszm_LowGrayLevelZoneEmphasis", 1, 0),
    "glszm_high_grey_level_zone_emphasis": ("glszm_HighGrayLevelZoneEmphasis", 1, 0),
    "glszm_grey_level_non_uniformity": ("glszm_GrayLevelNonUniformity", 1, 0),
    "glszm_zone_size_non_uniformity": ("glszm_SizeZoneNonUniformity", 1, 0),
    "glszm_zone_percentage": ("glszm_ZonePercentage", 1, 0), "glszm_zone_size_entropy": ("glszm_ZoneEntropy", 1, 0),
    "glszm_zone_size_variance": ("glszm_ZoneVariance", 1, 0),
    "ngtdm_coarseness": ("ngtdm_Coarseness", 1, 0), "ngtdm_contrast": ("ngtdm_Contrast", 1, 0),
    "ngtdm_busyness": ("ngtdm_Busyness", 1, 0), "ngtdm_complexity": ("ngtdm_Complexity", 1, 0),
    "ngtdm_strength": ("ngtdm_Strength", 1, 0),
    "ngldm_low_dependence_emphasis": ("gldm_SmallDependenceEmphasis", 1, 0),
    "ngldm_high_dependence_emphasis": ("gldm_LargeDependenceEmphasis", 1, 0),
    "ngldm_dependence_count_entropy": ("gldm_DependenceEntropy", 1, 0),
    "ngldm_dependence_count_variance": ("gldm_DependenceVariance", 1, 0),
}  # fmt: skip


def simulated(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels (uint8) and HU (int16): ellipsoids on a lattice, smooth texture and noise."""
    from scipy.ndimage import gaussian_filter

    radii, many = CASES[case]
    side = int(np.ceil(many ** (1 / 3)))
    cell = [int(2 * radius / step) + 6 for radius, step in zip(radii, SPACING, strict=True)]
    labels = np.zeros([side * length for length in cell] if many > 1 else cell, dtype=np.uint8)
    grid = np.indices(cell).astype(np.float32)
    distance = sum(
        ((axis - length / 2) * step / radius) ** 2
        for axis, length, step, radius in zip(grid, cell, SPACING, radii, strict=True)
    )
    for number in range(many):
        place = np.unravel_index(number, (side,) * 3)
        box = tuple(slice(at * length, (at + 1) * length) for at, length in zip(place, cell, strict=True))
        labels[box][distance <= 1] = number + 1
    random = np.random.default_rng(SEED)
    smooth = gaussian_filter(random.normal(0, 1, labels.shape).astype(np.float32), 2)
    voxels = 40 + 60 * smooth / smooth.std() + random.normal(0, 12, labels.shape)
    return labels, np.rint(voxels).astype(np.int16)


class Clock:
    """Seconds by the clock and of the processor since it was made; other work disturbs the latter less."""

    def __init__(self) -> None:
        self.started = time.perf_counter(), time.process_time()

    def stop(self) -> dict[str, float]:
        """Both times."""
        return {"seconds": time.perf_counter() - self.started[0], "cpu": time.process_time() - self.started[1]}


def run_careloop(labels: np.ndarray, voxels: np.ndarray) -> dict[str, Any]:
    """All of careloop's measurements, texture included."""
    from careloop.imaging.measure import measure
    from careloop.imaging.measure.texture.grid import TextureSettings
    from careloop.imaging.volume import LabelMap, Segment, Volume

    affine = np.diag([*SPACING, 1.0])
    segments = tuple(Segment(n, str(n)) for n in range(1, int(labels.max()) + 1))
    label_map, volume = LabelMap(labels, affine, segments), Volume(voxels, affine, modality="CT", unit="[hnsf'U]")
    # pyradiomics' bins begin at the first multiple of 25 HU below a structure's least value.
    low = float(np.floor(voxels[labels == 1].min() / BIN) * BIN)
    settings = TextureSettings(spacing_mm=None, bin_size=BIN, low=low if len(segments) == 1 else -1000.0)
    corner = (slice(None), slice(3), slice(3))
    tiny = LabelMap(np.ones_like(labels[corner]), affine, segments[:1])
    measure(tiny, Volume(voxels[corner], affine, unit="[hnsf'U]"), texture=settings)  # loads the parts of scipy
    clock = Clock()
    table = measure(label_map, volume, texture=settings)
    times = clock.stop()
    values = dict(table.filter(segment=1).select("quantity", "value").iter_rows())
    return {**times, "values": values}


def run_pyradiomics(labels: np.ndarray, voxels: np.ndarray) -> dict[str, Any]:
    """All feature classes of pyradiomics, a structure at a time as its extractor works."""
    import radiomics
    import SimpleITK as sitk  # noqa: N813
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    radiomics.setVerbosity(60)
    image, mask = sitk.GetImageFromArray(voxels), sitk.GetImageFromArray(labels)
    image.SetSpacing(SPACING[::-1])
    mask.SetSpacing(SPACING[::-1])
    extractor = RadiomicsFeatureExtractor(binWidth=BIN, additionalInfo=False)
    extractor.enableAllFeatures()
    clock = Clock()
    found = [extractor.execute(image, mask, label=number) for number in range(1, int(labels.max()) + 1)]
    times = clock.stop()
    values = {key.removeprefix("original_"): float(value) for key, value in found[0].items()}
    return {**times, "values": values}


def child(who: str, file: Path) -> None:
    """Measure one case in this process and print the result."""
    sys.path.pop(0)  # this script's folder: the script has the name of the peer's package
    arrays = np.load(file)
    run = {"careloop": run_careloop, "pyradiomics": run_pyradiomics}[who]
    found = run(arrays["labels"], arrays["voxels"])
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found))


def timed(python: str, who: str, file: Path, repeats: int) -> dict[str, Any]:
    """Medians over processes."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"), "1")
    command = [python, __file__, "--child", who, "--file", str(file)]
    runs = []
    for _ in range(repeats):
        done = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{who} failed:\n{done.stderr[-2000:]}")
        runs.append(json.loads(done.stdout.strip().splitlines()[-1]))
    middle = {key: float(np.median([run[key] for run in runs])) for key in ("seconds", "cpu", "peak_mb")}
    return {**middle, "values": runs[0]["values"]}


def compare(ours: dict[str, float], theirs: dict[str, float]) -> tuple[int, list[tuple[str, float, float]]]:
    """How many quantities both define alike, and those further apart than a millionth."""
    apart = []
    for name, (peer, factor, added) in ALIKE.items():
        value = theirs[peer] * factor + added
        if not np.isclose(ours[name], value, rtol=1e-6, atol=1e-9):
            apart.append((name, ours[name], value))
    return len(ALIKE), apart


def check_ibsi(folder: Path) -> None:
    """Print how many texture features of configuration C lie within the IBSI's tolerance."""
    import nibabel
    import polars as pl

    from careloop.imaging.measure.texture.features import texture_features
    from careloop.imaging.measure.texture.grid import TextureSettings, levels_in_space

    image = nibabel.load(folder / "nifti/image/phantom.nii.gz")
    voxels = np.rint(np.asarray(image.dataobj, dtype=np.float32)).transpose(2, 1, 0)
    mask = np.asarray(nibabel.load(folder / "nifti/mask/mask.nii.gz").dataobj).transpose(2, 1, 0) > 0.5
    axes = np.diag(np.array(image.header.get_zooms(), dtype=float)[::-1])
    settings = TextureSettings(spacing_mm=2.0, bin_size=25.0, low=-1000.0, high=400.0, rounded=True)
    found = texture_features(levels_in_space(voxels, mask, axes, settings))
    published = Path(__file__).parents[1] / "tests/imaging/measure/ibsi_reference_values.csv"
    rows = pl.read_csv(published).filter(pl.col("quantity").is_in(list(found)))
    wrong = []
    for name, value, tolerance in rows.select("quantity", "ct", "ct_tolerance").iter_rows():
        half = 0.5005 * 10 ** (np.floor(np.log10(abs(value))) - 2)  # three figures are published
        if abs(found[name] - value) > (tolerance or 0) + half:
            wrong.append((name, found[name], value))
    print(f"IBSI CT, configuration C: {len(rows) - len(wrong)} of {len(rows)} texture features within tolerance")
    for row in wrong:
        print("  outside:", *row)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="python of an environment with pyradiomics")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ibsi", type=Path, help="folder with the IBSI's CT")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, given.file)
        return
    if given.ibsi:
        check_ibsi(given.ibsi)
        return
    print("Simulated structures. Seconds of measuring (median), peak memory of the process in MB.")
    print(f"{'case':12} {'voxels':>9} {'who':12} {'seconds':>8} {'cpu s':>8} {'peak MB':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for case in given.cases:
            labels, voxels = simulated(case)
            file = Path(folder) / "case.npz"
            np.savez(file, labels=labels, voxels=voxels)
            who = {"careloop": sys.executable, **({"pyradiomics": given.peer} if given.peer else {})}
            found = {name: timed(python, name, file, given.repeats) for name, python in who.items()}
            for name, run in found.items():
                inside = int((labels > 0).sum())
                times = f"{run['seconds']:8.2f} {run['cpu']:8.2f}"
                print(f"{case:12} {inside:9} {name:12} {times} {run['peak_mb']:8.0f}", flush=True)
            if given.peer and CASES[case][1] == 1:
                many, apart = compare(found["careloop"]["values"], found["pyradiomics"]["values"])
                print(f"{'':12} {many - len(apart)} of {many} quantities defined alike agree to a millionth")
                for name, ours, theirs in apart:
                    print(f"{'':12}   {name}: {ours:.6g} here, {theirs:.6g} there ({ours / theirs - 1:+.2%})")


if __name__ == "__main__":
    main()
