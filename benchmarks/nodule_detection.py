"""FROC of the detector on SIMULATED chest radiographs, beside the ideal observer's posterior map on the same images.

Half of the images have a nodule of unknown place, size and contrast. The reference is no network: it knows the chest,
the noise and the prior, and marks the highest places of its exact likelihood ratio map. Everything is simulated.

    python benchmarks/nodule_detection.py --folder /tmp/nodules                 # 8,000 training images, 60 epochs
    python benchmarks/nodule_detection.py --folder /tmp/nodules --images 40000 --epochs 240     # an hour of one core
    python benchmarks/nodule_detection.py --folder /tmp/nodules --small         # a minute or two; no measurement
    python benchmarks/nodule_detection.py --folder /tmp/nodules --ct            # nodules in simulated chest CT instead

A run that was killed goes on when it is started again with the same folder. The measured setting needs about 1 GB.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from scipy.special import expit

from careloop.evaluate import compare as paired
from careloop.evaluate.censoring import Outcomes
from careloop.evaluate.detection import (
    FALSE_POSITIVES_PER_IMAGE,
    Boxes,
    DetectionEvaluation,
    Hit,
    evaluate_detection,
    image_ratings,
)
from careloop.evaluate.discrimination import Threshold
from careloop.evaluate.estimate import Estimate
from careloop.imaging.detect import DetectionSettings, DetectorSummary, train_detector
from careloop.imaging.detect.assess import IOU, compare, evaluation
from careloop.imaging.detect.boxes import suppressed
from careloop.imaging.detect.dataset import open_table
from careloop.imaging.phantom.chest import Grid
from careloop.imaging.phantom.nodule_files import TABLE, write_nodule_table
from careloop.imaging.phantom.nodule_radiographs import NoduleSet, NoduleSetting, ideal_auroc, log_ratio_map, nodule_set
from careloop.imaging.phantom.nodule_scans import write_nodule_scans

SEEDS = {"train": 101, "tuning": 102, "held_out": 103}
MARKS = 9  # of the ideal observer an image
WITHIN = 0.03  # of the ideal observer's AUROC


def ideal_observer(found: NoduleSet) -> DetectionEvaluation:
    """FROC of marks at the highest places of the likelihood ratio map, each as large as the middle nodule."""
    side = float(np.median(found.setting.diameters_mm)) / found.setting.pixel_mm
    boxes, scores, images = [], [], []
    for start in range(0, len(found), 256):
        for i, log_ratio in enumerate(log_ratio_map(found.images[start : start + 256], found.setting), start=start):
            places = np.argsort(-log_ratio, axis=None)[:400]
            middle = np.stack(np.unravel_index(places, log_ratio.shape), axis=1) + 0.5
            flat = np.hstack([middle - side / 2, middle + side / 2])
            solid = np.insert(flat, [0, 2], [0.0, 1.0], axis=1)
            kept = suppressed(solid, log_ratio.ravel()[places], iou=0.0)[:MARKS]
            boxes.append(flat[kept])
            scores.append(log_ratio.ravel()[places][kept])
            images.append(np.full(len(kept), i))
    has = np.flatnonzero(found.labels)
    marks = Boxes(np.concatenate(images), np.concatenate(boxes), score=np.concatenate(scores))
    return evaluate_detection(marks, Boxes(has, found.boxes[has]), found.subject_id, hit=Hit(iou=IOU))


def radiographs(folder: Path, counts: dict[str, int], setting: NoduleSetting) -> tuple[Path, NoduleSet]:
    """The table of images, written once, and the held-out set."""
    held_out = nodule_set(counts["held_out"], seed=SEEDS["held_out"], setting=setting)
    if not (folder / TABLE).exists():
        rest = {split: nodule_set(counts[split], seed=SEEDS[split], setting=setting) for split in ("train", "tuning")}
        write_nodule_table(folder, rest | {"held_out": held_out})
    return folder / TABLE, held_out


def words(e: Estimate) -> str:
    """A figure with its interval."""
    if e.value is None:
        return str(e.reason)
    return f"{e.value:.3f}" + ("" if e.low is None else f" ({e.low:.3f}-{e.high:.3f})")


def show(name: str, figures: DetectionEvaluation) -> None:
    """A row of the table."""
    froc = figures.froc
    points = [words(Estimate(*p)) for p in zip(froc.value, froc.low, froc.high, strict=True)]
    print(f"{name:16}" + "".join(f"{point:>21}" for point in points))
    rest = {
        "CPM": figures.cpm,
        "JAFROC": figures.jafroc,
        "AUROC by image": figures.image_auroc,
        f"AP at IoU {figures.iou}": figures.average_precision_coco,
    }
    print(" " * 16 + ", ".join(f"{key} {words(value)}" for key, value in rest.items()))


def heard(what: str, done: int, total: int) -> None:
    """Progress on standard error."""
    print(f"\r{what[:70]:70} {done} of {total}", end="", file=sys.stderr)


def trained(table: Path, out: Path, settings: DetectionSettings) -> tuple[DetectorSummary, DetectionEvaluation]:
    """The detector, and its figures on held-out images (found again where the folder held a finished training)."""
    dataset = open_table(table, modality="" if settings.window is None else "CT")
    made = train_detector(dataset, out, settings=settings, progress=heard)
    figures = made.evaluation
    if not figures:
        said, network = made.detector.said, made.detector.network
        figures = evaluation(compare(dataset.of("held_out"), dataset, said, network, progress=heard), said.labels)
    return made, figures[made.detector.said.labels[0]]


def beside_the_ideal(made: DetectorSummary, table: Path, held_out: NoduleSet) -> None:
    """How well images with and without a nodule are told apart by their surest finding, and ideally."""
    dataset, said = open_table(table), made.detector.said
    compared = compare(dataset.of("held_out"), dataset, said, made.detector.network, progress=heard)[0]
    rating, has = image_ratings(compared.found, compared.truth, len(held_out))
    assert (has == held_out.labels).all()
    outcomes = Outcomes(held_out.subject_id, np.ones(len(has)), held_out.labels.astype(np.int8), 1.0)
    ideal, network = expit(held_out.log_likelihood_ratio), expit(rating)
    short = paired(ideal, network, outcomes, threshold=Threshold(0.5, "even")).differences["auroc"]
    assert short.value is not None
    verdict = "met" if short.value <= WITHIN else "MISSED"
    print(f"AUROC by image: ideal observer {words(ideal_auroc(held_out))}, less detector {words(short)}")
    print(f"target at most {WITHIN} less: {verdict}")


def main() -> None:
    """Simulate, train, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for images and model")
    parser.add_argument("--images", type=int, default=8000, help="to train on; of CT scans, an eightieth")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--size", type=int, default=64, help="rows and columns of a radiograph")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--small", action="store_true", help="few images, few epochs; no measurement")
    parser.add_argument("--ct", action="store_true", help="simulated CT instead of radiographs")
    given = parser.parse_args()
    start = time.perf_counter()
    images, epochs, steps = (240, 4, 15) if given.small else (given.images, given.epochs, 100)
    usual = DetectionSettings(
        epochs=epochs,
        steps=steps,
        patience=epochs,
        features=6 if given.small else 16,
        threads=given.threads,
        name="nodules",
    )
    name = f"{'ct' if given.ct else 'radiographs'}{'-small' if given.small else ''}"
    folder, out = given.folder / name, given.folder / f"{name}-model"
    held_out: NoduleSet | None = None
    if given.ct:
        counts = {"train": max(4, images // 80), "tuning": max(2, images // 400), "held_out": max(3, images // 320)}
        grid = Grid((30, 72, 72), (8.0, 4.8, 4.8)) if given.small else Grid((128, 220, 220), (2.0, 1.6, 1.6))
        table = folder / TABLE
        if not table.exists():
            table = write_nodule_scans(folder, counts, grid=grid, progress=heard)
        settings = usual.model_copy(update={"window": (-1000.0, 400.0)})
    else:
        counts = {"train": images, "tuning": min(1000, images // 8), "held_out": 200 if given.small else 2000}
        table, held_out = radiographs(folder, counts, NoduleSetting(size=given.size))
        settings = usual.model_copy(update={"mirror": False})  # a chest's sides are not alike
    made, figures = trained(table, out, settings)
    print(f"\nSIMULATED {name}: {counts}, {made.seconds:.0f} s of training, {time.perf_counter() - start:.0f} s in all")
    print(
        "sensitivity at" + "".join(f"{rate:>21g}" for rate in FALSE_POSITIVES_PER_IMAGE) + " false positives an image"
    )
    show("detector", figures)
    if held_out is not None:
        show("ideal observer", ideal_observer(held_out))
        beside_the_ideal(made, table, held_out)


if __name__ == "__main__":
    main()
