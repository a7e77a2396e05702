"""From a table of images and boxes to a detector's folder: planned, trained, calibrated, evaluated, written."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop import InputError, __version__
from careloop.evaluate.detection import DetectionEvaluation
from careloop.imaging.detect.assess import as_json, calibrated, compare, evaluation
from careloop.imaging.detect.dataset import DetectionDataset
from careloop.imaging.detect.fit import DetectionWork, PreparedCase, prepare_case
from careloop.imaging.detect.model import (
    Detector,
    DetectorFile,
    architecture_for,
    build_network,
    read_detector,
    write_description,
    write_weights,
)
from careloop.imaging.detect.settings import DetectionSettings
from careloop.imaging.finding import SIMULATED
from careloop.imaging.model_folder import DESCRIPTION, begun
from careloop.imaging.phantom.nodule_files import SIMULATION
from careloop.imaging.segment.model import Normalization, Preparation
from careloop.imaging.volume import Volume
from careloop.record.whole_file import write_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from careloop.imaging.unet import UNet
    from careloop.models.sequence.training.loop import Step

Progress = Callable[[str, int, int], None]

WORK, ASKED = "training", "asked.json"
LOOKED_AT = 50  # training images from which spacing, patch and intensities follow
SAMPLED_VOXELS = 20_000  # of each of them
PERCENTILES = (0.5, 99.5)
LONGEST_PATCH = {2: 256, 3: 64}
PATCH_STEP = 16  # a patch is a multiple of this, so that its axes can be halved
BATCH = {2: 16, 3: 2}
HOUNSFIELD = "[hnsf'U]"


@dataclass(frozen=True)
class Asked:
    """What a training answers to: its settings and the data's digest."""

    asked: dict[str, Any]


@dataclass(frozen=True)
class DetectorSummary:
    """What came of a training: the detector, the tuning loss after each epoch, held-out figures by label, seconds.

    `evaluation` is empty where the table has no held-out images, or the folder held a finished training.
    """

    detector: Detector
    history: tuple[float, ...]
    evaluation: dict[str, DetectionEvaluation]
    seconds: float


def train_detector(
    dataset: DetectionDataset,
    out: Path,
    *,
    settings: DetectionSettings | None = None,
    progress: Progress | None = None,
) -> DetectorSummary:
    """Train on the images of split `train`, choose the epoch and calibrate on `tuning`, evaluate on `held_out`.

    A training that was killed goes on where it was when the same call is made again; a finished one is returned.

    Raises:
        InputError: no training or tuning images; images of different kinds; `out` holds another training; training
            diverged.
    """
    start, settings, hear = time.monotonic(), settings or DetectionSettings(), progress or _silent
    _same_as_asked(out, {"settings": settings.model_dump(mode="json"), "data": dataset.digest})
    if (out / DESCRIPTION).exists():
        shutil.rmtree(out / WORK, ignore_errors=True)
        return DetectorSummary(read_detector(out), (), {}, 0.0)
    for split in ("train", "tuning"):
        if not dataset.of(split):
            raise InputError(f"{dataset.table} has no images of split '{split}'; a detector needs some")
    said = plan(dataset, settings)
    network, history = _fit(dataset, said, out, settings, hear)
    said = replace(said, weights=write_weights(network, out))
    said = calibrated(said, compare(dataset.of("tuning"), dataset, said, network, progress=hear))
    held_out = dataset.of("held_out")
    figures = {}
    if held_out:
        figures = evaluation(compare(held_out, dataset, said, network, progress=hear), said.labels)
        said = replace(said, evaluation=as_json(figures))
    detector = write_description(said, out)
    shutil.rmtree(out / WORK)
    return DetectorSummary(detector, tuple(history), figures, time.monotonic() - start)


def plan(dataset: DetectionDataset, settings: DetectionSettings) -> DetectorFile:
    """What the detector does to images, its network and its patch, from the first training images; no weights yet."""
    volumes = [dataset.read(case)[0] for case in dataset.of("train")[:LOOKED_AT]]
    shapes = {(v.voxels.shape[0] == 1, v.voxels.ndim, v.unit) for v in volumes}
    if len(shapes) > 1:
        raise InputError(
            f"{dataset.table}: images must all be pictures or all volumes, in one unit and colour; sort them"
        )
    dims = 2 if volumes[0].voxels.shape[0] == 1 else 3
    preparation = _preparation(volumes, settings, dims)
    patch = settings.patch or _patch(volumes, preparation, dims)
    if len(patch) != dims:
        raise InputError(f"patch must have {dims} axes for these images, got {patch}")
    modalities = {volume.modality for volume in volumes}
    return DetectorFile(
        name=settings.name,
        labels=dataset.labels,
        channels=len(preparation.normalizations),
        architecture=architecture_for(patch, features=settings.features),
        preparation=preparation,
        patch=patch,
        weights="",
        intended_use=f"Marks {', '.join(dataset.labels)} in images like those it was trained on, for research.",
        modality=modalities.pop() if len(modalities) == 1 else "",
        training=_facts(dataset, settings, volumes),
        libraries={"careloop": __version__} | {name: version(name) for name in ("torch", "numpy", "safetensors")},
    )


def _preparation(volumes: list[Volume], settings: DetectionSettings, dims: int) -> Preparation:
    placed = all(volume.placed for volume in volumes)
    spacing = settings.spacing_mm
    if spacing is None and placed:
        spacing = tuple(np.median([volume.spacing_mm for volume in volumes], axis=0)[-dims:].tolist())
    if spacing is not None and len(spacing) != dims:
        raise InputError(f"spacing_mm must have {dims} axes for these images, got {spacing}")
    colours = volumes[0].voxels.shape[3] if volumes[0].voxels.ndim == 4 else 1
    return Preparation(
        normalizations=(_normalization(volumes, settings),) * colours,
        spacing_mm=spacing,
        orientation="SPL" if placed and dims == 3 else None,
        image_order=1,
    )


def _normalization(volumes: list[Volume], settings: DetectionSettings) -> Normalization:
    """The window that was asked for; of Hounsfield units the range of training images; else each image's own spread."""
    if settings.window is not None:
        low, high = settings.window
        return Normalization("range", low, high, scaled_low=-1.0, scaled_high=1.0)
    if volumes[0].unit != HOUNSFIELD:
        return Normalization("zscore")
    random = np.random.default_rng(settings.seed)
    values = np.concatenate([random.choice(volume.voxels.ravel(), SAMPLED_VOXELS) for volume in volumes])
    low, high = np.percentile(values, PERCENTILES)
    inside = np.clip(values, low, high)
    return Normalization("ct", float(low), float(high), float(inside.mean()), float(inside.std()))


def _patch(volumes: list[Volume], preparation: Preparation, dims: int) -> tuple[int, ...]:
    """The median image after resampling, in steps of `PATCH_STEP`, at most `LONGEST_PATCH` along an axis."""
    sizes = []
    for volume in volumes:
        new = (
            volume.spacing_mm
            if preparation.spacing_mm is None
            else (*volume.spacing_mm[:-dims], *preparation.spacing_mm)
        )
        sizes.append(np.multiply(volume.voxels.shape[:3], volume.spacing_mm) / new)
    median = np.median(sizes, axis=0)[-dims:]
    steps = np.clip(np.ceil(median / PATCH_STEP - 0.25), 1, LONGEST_PATCH[dims] // PATCH_STEP)
    return tuple((steps * PATCH_STEP).astype(int).tolist())


def _facts(dataset: DetectionDataset, settings: DetectionSettings, volumes: list[Volume]) -> dict[str, Any]:
    """On what and how the network is trained; files and subjects are counted, not named."""
    simulated = any(finding.check == SIMULATED.check for volume in volumes for finding in volume.findings)
    simulated = simulated or (dataset.table.parent / SIMULATION).exists()
    return {
        "images": {split: len(dataset.of(split)) for split in ("train", "tuning", "held_out")},
        "subjects": {
            split: len({case.subject for case in dataset.of(split)}) for split in ("train", "tuning", "held_out")
        },
        "boxes in training images": sum(len(case.edges) for case in dataset.of("train")),
        "simulated": "yes" if simulated else "the images do not say so",
        "settings": settings.model_dump(mode="json"),
    }


def _fit(
    dataset: DetectionDataset, said: DetectorFile, out: Path, settings: DetectionSettings, hear: Progress
) -> tuple[UNet, list[float]]:
    """The trained network and its tuning losses."""
    import torch

    from careloop.imaging.detect.heatmap import start_at
    from careloop.imaging.learn.course import device_of, precision_on
    from careloop.imaging.unet import initialize
    from careloop.models.sequence.training.loop import Checkpoint, LoopSettings, train

    cases = tuple(
        [prepare_case(case, dataset, said.preparation, out / WORK / "cases") for case in dataset.of(split)]
        for split in ("train", "tuning")
    )
    dims = len(said.patch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = build_network(said)
        initialize(network)
        start_at(network, len(said.labels), _log_sides(cases[0], dims))
    work = DetectionWork(
        (cases[0], cases[1]),
        said.patch,
        names=len(said.labels),
        batches=(settings.steps, settings.batch_size or BATCH[dims]),
        mirror_axes=tuple(range(dims)) if settings.mirror else (),
        seed=settings.seed,
    )

    def listen(step: Step) -> None:
        known = f", tuning loss {step.validation_loss:.3f}" if step.validation_loss is not None else ""
        hear(f"training, epoch {step.epoch + 1} of {settings.epochs}{known}", step.step, step.steps)

    loop = LoopSettings(
        learning_rate=settings.learning_rate,
        max_epochs=settings.epochs,
        patience=settings.patience,
        seed=settings.seed,
        device=settings.device,
        precision=settings.precision or precision_on(device_of(settings.device)),
        threads=settings.threads,
    )
    history = train(network, work, loop, checkpoint=Checkpoint(out / WORK / "checkpoint.pt"), listener=listen)
    return network, history


def _log_sides(cases: Sequence[PreparedCase], dims: int) -> NDArray[np.float64]:
    """The mean logarithm of the boxes' sides along each axis of the network, in voxels."""
    boxes = np.concatenate([case.boxes for case in cases])
    if not len(boxes):
        raise InputError("no training image has a box; a detector is trained on some")
    return np.asarray(np.log(boxes[:, 6 - dims :] - boxes[:, 3 - dims : 3]).mean(axis=0))


def _same_as_asked(out: Path, asked: dict[str, Any]) -> None:
    """Write down what the folder answers to, or refuse a folder that answers to something else."""
    if begun(Asked, out / ASKED, asked) is None:
        write_whole(out / ASKED, json.dumps({"asked": asked}, indent=1) + "\n")


def _silent(what: str, done: int, total: int) -> None:
    """Progress that nobody hears."""
