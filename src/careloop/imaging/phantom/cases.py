"""Data sets of simulated chest scans in nnU-Net v2's raw layout: training cases, and tests unlike them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from careloop import InputError, __version__
from careloop.imaging.phantom.anatomy.layers import ORGANS
from careloop.imaging.phantom.anatomy.patient import Shapes
from careloop.imaging.phantom.chest import ChestPhantom, Grid, chest_phantom
from careloop.imaging.phantom.projections import Kernel, Scanner, scan
from careloop.imaging.volume import Volume
from careloop.imaging.write.nifti import write_nifti
from careloop.record.whole_file import write_whole

Progress = Callable[[str, int, int], None]  # what is being done, how much of it is done, of how much
SEEDS_A_FAMILY = 1_000_000  # the seeds of a family's cases lie within this many
DESCRIPTION = (
    "SIMULATED chest CT: implicit shapes through simulated projections and filtered back projection. Shows no patient."
)


@dataclass(frozen=True)
class Family:
    """Simulated cases of one sort: their shapes, the range of photons a ray, and the kernels."""

    name: str
    shapes: Shapes
    photons: tuple[float, float]
    kernels: tuple[Kernel, ...]


TRAINING = Family("chest", "usual", (2e5, 1.6e6), ("soft", "medium"))
TESTS = (
    Family("usual", "usual", TRAINING.photons, TRAINING.kernels),
    Family("unseen_shapes", "unusual", TRAINING.photons, TRAINING.kernels),
    Family("unseen_noise", "usual", (2.5e4, 1e5), ("sharp",)),
    Family("unseen_both", "unusual", (2.5e4, 1e5), ("sharp",)),
)


@dataclass(frozen=True)
class SimulatedCase:
    """One simulated scan: the phantom, the scanner, and what the scanner shows of it."""

    name: str
    phantom: ChestPhantom
    scanner: Scanner
    image: Volume


def simulate_case(family: Family, number: int, *, seed: int = 0, grid: Grid | None = None) -> SimulatedCase:
    """The case of this number in a family; the same arguments give the same case."""
    place = (TRAINING, *TESTS).index(family) if family in (TRAINING, *TESTS) else len(TESTS) + 1
    own = (seed * (len(TESTS) + 2) + place) * SEEDS_A_FAMILY + number
    phantom = chest_phantom(own, shapes=family.shapes, grid=grid)
    rng = np.random.default_rng([own, 3])
    low, high = family.photons
    photons = float(low * (high / low) ** rng.uniform())
    columns = phantom.volume.voxels.shape[2]
    views = max(60, 2 * round(0.7 * columns))  # about pi/2 views a pixel would be ideal; fewer show only in the air
    scanner = Scanner(views, photons, kernel=family.kernels[int(rng.integers(len(family.kernels)))])
    image = scan(phantom.volume, scanner, seed=own)
    return SimulatedCase(f"{family.name}_{number:04d}", phantom, scanner, image)


def write_dataset(
    folder: Path,
    *,
    cases: int,
    test_cases: int = 0,
    seed: int = 0,
    grid: Grid | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write `cases` training cases, and `test_cases` of each family in `TESTS`, to `folder`; returns it.

    Layout: imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz, imagesTs and labelsTs likewise, dataset.json. Cases that
    are there already are kept, so that a killed run goes on, and a later one can ask for more cases.

    Raises:
        InputError: the folder holds another data set, or cases of another seed or grid.
    """
    grid = grid or Grid()
    if cases < 1 or test_cases < 0:
        raise InputError(f"A data set needs at least 1 case and no fewer than 0 test cases, got {cases}, {test_cases}")
    _check_same(folder, _made_with(seed, grid))
    wanted = [("Tr", TRAINING, n) for n in range(cases)]
    wanted += [("Ts", family, n) for family in TESTS for n in range(test_cases)]
    for done, (part, family, number) in enumerate(wanted):
        if progress is not None:
            progress("simulating chests", done, len(wanted))
        name = f"{family.name}_{number:04d}"
        image, labels = folder / f"images{part}" / f"{name}_0000.nii.gz", folder / f"labels{part}" / f"{name}.nii.gz"
        if not (image.exists() and labels.exists()):
            case = simulate_case(family, number, seed=seed, grid=grid)
            write_nifti(case.phantom.labels, labels)
            write_nifti(case.image, image)
    _describe(folder, cases, _made_with(seed, grid))
    if progress is not None:
        progress("simulating chests", len(wanted), len(wanted))
    return folder


def _made_with(seed: int, grid: Grid) -> dict[str, object]:
    settings = {"seed": seed, "grid": asdict(grid), "training": asdict(TRAINING), "tests": [asdict(t) for t in TESTS]}
    made: dict[str, object] = json.loads(json.dumps(settings))
    return made


def _check_same(folder: Path, made_with: dict[str, object]) -> None:
    """Write down what the folder is to hold before any case is, or refuse a folder that holds something else."""
    path = folder / "simulation.json"
    if not path.exists():
        if (folder / "dataset.json").exists():
            raise InputError(f"{folder} holds another data set; give a new folder for simulated cases")
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(made_with, indent=1) + "\n", encoding="utf-8")
    elif json.loads(path.read_text(encoding="utf-8")) != made_with:
        raise InputError(f"{folder} holds cases simulated with other settings ({path.name}); give a new folder")


def _describe(folder: Path, cases: int, made_with: dict[str, object]) -> None:
    """dataset.json, as nnU-Net v2 wants it."""
    document = {
        "name": "SimulatedChest",
        "description": DESCRIPTION,
        "reference": f"careloop {__version__}",
        "licence": "Apache-2.0",
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{name: number for number, name in enumerate(ORGANS, start=1)}},
        "numTraining": len(list((folder / "labelsTr").glob("*.nii.gz"))) or cases,
        "file_ending": ".nii.gz",
        "simulation": made_with,
    }
    write_whole(folder / "dataset.json", json.dumps(document, indent=1) + "\n")
