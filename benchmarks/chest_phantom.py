"""Heart, lungs, spine, aorta and nodules in SIMULATED chest CT: trained on phantoms, tested on unlike ones.

    python benchmarks/chest_phantom.py --folder DIR [--cases 48] [--tests 10] [--minutes 20]

Simulates `--cases` phantoms (see careloop.imaging.phantom: implicit shapes, photon noise through projections and
filtered back projection), trains `careloop image train`'s network for `--minutes` on the CPU, and segments `--tests`
new phantoms of each of four families with the engine: shapes and noise as in training, shapes outside the ranges
trained on, lower dose and a sharper kernel than trained on, and both. Printed: Dice of each organ (mean over the cases
that have it, 95 % bootstrap interval by case), minutes and peak memory of a process of its own. What is in DIR is
used again. `--cases 4 --tests 1 --minutes 1 --small` shows that it runs.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from careloop.evaluate.segmentation import dice, mean_by_case
from careloop.imaging.phantom.anatomy.layers import ORGANS
from careloop.imaging.phantom.cases import TESTS, write_dataset
from careloop.imaging.phantom.chest import Grid

GRID = Grid((80, 160, 160), (4.0, 2.4, 2.4))
SMALL_GRID = Grid((32, 64, 64), (10.0, 6.0, 6.0))
FIGURES = "figures.json"


def train(folder: Path, minutes: float) -> None:
    """Train, in a process of its own; what it took goes to a file."""
    from careloop.imaging.learn.course import TrainingSettings
    from careloop.imaging.learn.train import train_segmentation

    def show(what: str, done: int, of: int) -> None:
        print(f"\r{what} {done}/{of}   ", end="", file=sys.stderr, flush=True)

    settings = TrainingSettings(minutes=minutes, device="cpu", size="small")
    start, used = time.perf_counter(), time.process_time()
    trained = train_segmentation(folder / "cases", folder / "model", settings=settings, progress=show)
    if trained.seconds:
        figures = {
            "minutes": (time.perf_counter() - start) / 60,
            "processor minutes": (time.process_time() - used) / 60,
            "peak GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
            "epochs": len(trained.curve),
            "cases": len(trained.course.training),
            "cases to choose the epoch by": len(trained.course.validation),
        }
        (folder / FIGURES).write_text(json.dumps(figures, indent=1))


def test(folder: Path) -> dict[str, dict[str, list[float | None]]]:
    """Dice by family and organ of every test case."""
    from careloop.imaging.read.nifti import read_nifti, read_nifti_labels
    from careloop.imaging.segment.formats.trained import read_trained
    from careloop.imaging.segment.run import segment

    model = read_trained(folder / "model")
    found: dict[str, dict[str, list[float | None]]] = {f.name: {organ: [] for organ in ORGANS} for f in TESTS}
    for path in sorted((folder / "cases" / "labelsTs").glob("*.nii.gz")):
        name = path.name.removesuffix(".nii.gz")
        image = folder / "cases" / "imagesTs" / f"{name}_0000.nii.gz"
        labels = segment([read_nifti(image, modality="CT")], model).label_map.labels
        truth = read_nifti_labels(path).labels
        for number, organ in enumerate(ORGANS, start=1):
            value = dice(truth == number, labels == number) if (truth == number).any() else None
            found[name.rsplit("_", 1)[0]][organ].append(value)
    return found


def show(found: dict[str, dict[str, list[float | None]]]) -> None:
    """A row a family, a column an organ."""
    print(f"{'Dice':16}" + "".join(f"{organ:>22}" for organ in ORGANS))
    for family, organs in found.items():
        cells = []
        for values in organs.values():
            e = mean_by_case(values)
            interval = f" ({e.low:.3f}-{e.high:.3f})" if e.low is not None else ""
            cells.append("-" if e.value is None else f"{e.value:.3f}{interval}")
        print(f"{family:16}" + "".join(f"{cell:>22}" for cell in cells))
    heart = [v for organs in found.values() for v in organs["heart"] if v is not None]
    print(f"lowest Dice of a heart: {np.min(heart):.3f}")


def main() -> None:
    """Simulate, train, test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for cases and model")
    parser.add_argument("--cases", type=int, default=48)
    parser.add_argument("--tests", type=int, default=10, help="of each family")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--small", action="store_true", help="coarse phantoms; no measurement")
    parser.add_argument("--step", choices=["train"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        train(given.folder, given.minutes)
        return
    start = time.perf_counter()
    grid = SMALL_GRID if given.small else GRID
    write_dataset(given.folder / "cases", cases=given.cases, test_cases=given.tests, grid=grid)
    print(f"SIMULATED chests, {grid.shape} voxels of {grid.spacing_mm} mm: {time.perf_counter() - start:.0f} s")
    own = ["--folder", str(given.folder), "--minutes", str(given.minutes), "--step", "train"]
    subprocess.run([sys.executable, __file__, *own], check=True)
    print(
        "\ntraining: " + ", ".join(f"{k} {v:.3g}" for k, v in json.loads((given.folder / FIGURES).read_text()).items())
    )
    show(test(given.folder))


if __name__ == "__main__":
    main()
