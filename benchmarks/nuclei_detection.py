"""Detection on a REAL image: cell nuclei in the fluorescence micrograph that comes with StarDist, beside a classic.

The image (Caicedo et al. 2019, Nature Methods 16:1247; 512 x 512, 125 nuclei outlined) is cut into 16 tiles in four
columns; each column is held out in turn, the next one tunes, the other two train. The classic is scikit-image's: Otsu's
threshold and a watershed of the distance to the background, the usual recipe for nuclei, with nothing learnt. It is one
image of one dish, so this shows that real images are learnt from, and not how well nuclei are found elsewhere.

    python -m venv PEER && PEER/bin/pip install --no-deps stardist
    python benchmarks/nuclei_detection.py --images PEER/lib/python3.11/site-packages/stardist/data/images --folder OUT
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np
from nodule_detection import trained, words

from careloop.evaluate.detection import Boxes, DetectionEvaluation, Hit, evaluate_detection
from careloop.imaging.detect import DetectionSettings
from careloop.imaging.detect.assess import IOU
from careloop.imaging.detect.dataset import FLAT

TILE, COLUMNS, TABLE = 128, 4, "table.csv"
LEAST_PART = 40  # pixels of a nucleus that a tile cuts: less is not asked for


def tiles(image: np.ndarray) -> list[list[np.ndarray]]:
    """The tiles of each column."""
    starts = range(0, TILE * COLUMNS, TILE)
    return [[image[row : row + TILE, column : column + TILE] for row in starts] for column in starts]


def boxes_of(labels: np.ndarray) -> np.ndarray:
    """Boxes (k, 4) of the numbered regions that are large enough, ends excluded."""
    from skimage.measure import regionprops

    return np.array([r.bbox for r in regionprops(labels) if r.area >= LEAST_PART], dtype=float).reshape(-1, 4)


def write_fold(image: np.ndarray, nuclei: np.ndarray, folder: Path, held_out: int) -> None:
    """The table of one fold, with its tiles."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for column, (pictures, numbered) in enumerate(zip(tiles(image), tiles(nuclei), strict=True)):
        split = {held_out: "held_out", (held_out + 1) % COLUMNS: "tuning"}.get(column, "train")
        for row, (picture, numbers) in enumerate(zip(pictures, numbered, strict=True)):
            name = f"tile_{column}_{row}.png"
            Image.fromarray(picture).save(folder / name)
            rows += [[name, f"{column}{row}", split, "nucleus", *box] for box in boxes_of(numbers)]
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "subject_id", "split", "label", *FLAT])
        writer.writerows(rows)


def classic(pictures: list[np.ndarray], numbered: list[np.ndarray]) -> DetectionEvaluation:
    """Otsu and watershed on the same tiles; a nucleus is surer the brighter it is."""
    from scipy.ndimage import distance_transform_edt
    from skimage.feature import peak_local_max
    from skimage.filters import gaussian, threshold_otsu
    from skimage.segmentation import watershed

    image, box, score, there_image, there_box = [], [], [], [], []
    for number, (picture, numbers) in enumerate(zip(pictures, numbered, strict=True)):
        smooth = gaussian(picture.astype(float), 1)
        inside = smooth > threshold_otsu(np.minimum(smooth, np.percentile(smooth, 98)))  # few are far brighter
        depth = gaussian(distance_transform_edt(inside), 1)
        seeds = np.zeros(picture.shape, int)
        for mark, place in enumerate(peak_local_max(depth, min_distance=5, labels=inside.astype(int)), start=1):
            seeds[tuple(place)] = mark
        regions = watershed(-depth, seeds, mask=inside)
        found, true = boxes_of(regions), boxes_of(numbers)
        image.append(np.full(len(found), number))
        box.append(found)
        score += [float(smooth[int(r0) : int(r1), int(c0) : int(c1)].mean()) for r0, c0, r1, c1 in found]
        there_image.append(np.full(len(true), number))
        there_box.append(true)
    marks = Boxes(np.concatenate(image), np.concatenate(box), score=np.array(score))
    truth = Boxes(np.concatenate(there_image), np.concatenate(there_box))
    return evaluate_detection(marks, truth, np.arange(len(pictures)), hit=Hit(iou=IOU), resamples=1)


def show(name: str, figures: DetectionEvaluation) -> None:
    """A row of the table."""
    froc = dict(zip(figures.froc.x, figures.froc.value, strict=True))
    print(
        f"  {name:10} sensitivity at 1, 2 and 4 false findings a tile {froc[1.0]:.3f} {froc[2.0]:.3f} {froc[4.0]:.3f}, "
        f"CPM {words(figures.cpm)}, average precision at IoU {figures.iou} {words(figures.average_precision_coco)}",
        flush=True,
    )


def main() -> None:
    """Train and compare, column by column."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder with img2d.tif and mask2d.tif")
    parser.add_argument("--folder", type=Path, required=True, help="for tiles and models")
    parser.add_argument("--epochs", type=int, default=30)
    given = parser.parse_args()
    from PIL import Image

    image, nuclei = (np.asarray(Image.open(given.images / f"{name}2d.tif")) for name in ("img", "mask"))
    settings = DetectionSettings(
        patch=(TILE, TILE), epochs=given.epochs, patience=given.epochs, steps=25, learning_rate=3e-3, name="nuclei"
    )
    both: dict[str, list[DetectionEvaluation]] = {"detector": [], "classic": []}
    for held_out in range(COLUMNS):
        start = time.perf_counter()
        fold = given.folder / f"column{held_out}"
        if not (fold / TABLE).exists():  # another date would be another data set
            write_fold(image.astype(np.uint8), nuclei, fold, held_out)
        _, figures = trained(fold / TABLE, given.folder / f"column{held_out}-model", settings)
        print(f"\ncolumn {held_out + 1} held out: {figures.lesions} nuclei, {time.perf_counter() - start:.0f} s")
        both["detector"].append(figures)
        both["classic"].append(classic(tiles(image)[held_out], tiles(nuclei)[held_out]))
        for name, found in both.items():
            show(name, found[-1])
    print(f"\nmean of {COLUMNS} columns, {sum(f.lesions for f in both['detector'])} nuclei")
    for name, found in both.items():
        cpm = np.mean([f.cpm.value for f in found])
        precision = np.mean([f.average_precision_coco.value for f in found])
        print(f"  {name:10} CPM {cpm:.3f}, average precision at IoU {IOU} {precision:.3f}")


if __name__ == "__main__":
    main()
