"""Simulated nodule radiographs as files: an .npz as MedMNIST has it, or pictures with a table; marked as simulated."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from careloop import InputError, __version__
from careloop.imaging.finding import SIMULATED
from careloop.imaging.phantom.nodule_radiographs import USUAL, NoduleSet, NoduleSetting, ideal_auroc, nodule_set
from careloop.imaging.volume import Volume
from careloop.imaging.write.nifti import write_nifti
from careloop.record.whole_file import whole_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARTS = ("train", "val", "test")  # MedMNIST's names
TABLE = "table.csv"
SIMULATION = "simulation.json"  # beside a table, says that its images are simulated
BOX_COLUMNS = ("row_low", "column_low", "row_high", "column_high")
ABOUT = "SIMULATED chest radiographs, half with a simulated nodule (label 1). They show no patient."


def write_nodule_npz(
    path: Path, *, images: Mapping[str, int], seed: int = 0, setting: NoduleSetting = USUAL
) -> dict[str, NoduleSet]:
    """Write `images` ({"train": n, "val": n, "test": n}) to an .npz as MedMNIST v2's; returns the sets by part.

    Arrays are `train_images` (n, rows, columns) uint8 and `train_labels` (n, 1) uint8 and likewise for `val` and
    `test`; beside them `<part>_boxes`, `<part>_subject_id`, `<part>_ideal_log_likelihood_ratio` (see `NoduleSet`; of
    the images before they were rounded to 256 greys), and `about`, which says that the images are simulated. A file
    PATH.json says the same in words, with the setting and the ideal observer's AUROC.

    Raises:
        InputError: parts that are not train, val and test.
    """
    if set(images) != set(PARTS):
        raise InputError(f"A MedMNIST file has the parts {', '.join(PARTS)}, got {', '.join(map(str, images))}")
    made = {part: nodule_set(images[part], seed=3 * seed + i, setting=setting) for i, part in enumerate(PARTS)}
    arrays: dict[str, NDArray[np.generic]] = {"about": np.array(ABOUT)}
    for part, found in made.items():
        arrays[f"{part}_images"] = greys(found.images)
        arrays[f"{part}_labels"] = found.labels[:, None]
        arrays[f"{part}_boxes"] = found.boxes
        arrays[f"{part}_subject_id"] = found.subject_id
        arrays[f"{part}_ideal_log_likelihood_ratio"] = found.log_likelihood_ratio
    with whole_file(path) as draft, draft.open("wb") as file:  # a path would get a second suffix
        np.savez_compressed(file, allow_pickle=False, **arrays)
    _describe(path.with_name(f"{path.name}.json"), made)
    return made


def write_nodule_table(folder: Path, parts: Mapping[str, NoduleSet], *, kind: Literal["png", "nifti"] = "png") -> Path:
    """Write the images of each split (`train`, `tuning`, `held_out`) as files, and a table of them; returns its path.

    `table.csv` has a row an image: image (relative to the table), subject_id, split, label (`nodule` or `normal`) and
    the box in pixels (`row_low`, `column_low`, `row_high`, `column_high`; pixel i reaches from i to i + 1), empty
    without a nodule. PNG has 256 greys; NIfTI has the values themselves and the spacing.
    """
    rows = []
    for split, found in parts.items():
        for i in range(len(found)):
            name = f"images/{split}_{i:05d}.{'png' if kind == 'png' else 'nii.gz'}"
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if kind == "png":
                _write_png(greys(found.images[i]), target)
            else:
                write_nifti(_volume(found.images[i], found.setting), target)
            box = [f"{edge:g}" for edge in found.boxes[i]] if found.labels[i] else [""] * 4
            rows.append([name, found.subject_id[i], split, "nodule" if found.labels[i] else "normal", *box])
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "subject_id", "split", "label", *BOX_COLUMNS])
        writer.writerows(rows)
    _describe(folder / SIMULATION, parts)
    return folder / TABLE


def greys(images: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Values 0 to 1 as 256 greys."""
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)


def _volume(image: NDArray[np.float32], setting: NoduleSetting) -> Volume:
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    affine[[1, 2, 0], [0, 1, 2]] = 1.0, -setting.pixel_mm, setting.pixel_mm  # rows run towards the feet
    return Volume(image[None], affine, "DX", body_part="CHEST", findings=(SIMULATED,))


def _write_png(image: NDArray[np.uint8], path: Path) -> None:
    try:
        from PIL import Image, PngImagePlugin
    except ImportError as error:
        raise InputError('Pictures need pillow: pip install "careloop[imaging]"') from error
    said = PngImagePlugin.PngInfo()
    said.add_text("Description", ABOUT)
    Image.fromarray(image).save(path, pnginfo=said)


def _describe(path: Path, parts: Mapping[str, NoduleSet]) -> None:
    """What the files are, how they were made, and how well the ideal observer does on each part."""
    document = {"about": ABOUT, "made by": f"careloop {__version__}", "parts": {}}
    for part, found in parts.items():
        document["parts"][part] = {  # type: ignore[index]
            "images": len(found),
            "with a nodule": int(found.labels.sum()),
            "setting": asdict(found.setting),
            "AUROC of the ideal observer": asdict(ideal_auroc(found)),
        }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
