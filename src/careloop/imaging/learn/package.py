"""A trained network as a model folder: weights, what runs them, how they came about, and how good they are."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop import __version__
from careloop.imaging.learn.course import Course
from careloop.imaging.learn.dataset import Dataset, Labels, Progress
from careloop.imaging.learn.validate import validate_model
from careloop.imaging.model_folder import DESCRIPTION, WEIGHTS
from careloop.imaging.segment.formats.trained import TrainedFile, model_of, read_description
from careloop.imaging.segment.run import RunSettings
from careloop.imaging.terms import described
from careloop.imaging.volume import Segment
from careloop.record.whole_file import whole_file, write_whole

if TYPE_CHECKING:
    from careloop.imaging.unet import UNet

MODALITIES = {"CT": "CT", "MR": "MR", "MRI": "MR", "T1": "MR", "T1W": "MR", "T1GD": "MR", "T1CE": "MR", "T2": "MR",
              "T2W": "MR", "FLAIR": "MR", "ADC": "MR", "DWI": "MR", "PET": "PT", "PT": "PT", "US": "US"}  # fmt: skip


def write_model(network: UNet, dataset: Dataset, course: Course, out: Path, *, progress: Progress) -> TrainedFile:
    """Write weights.safetensors and model.json to `out`; model.json comes last, so that its being there says done."""
    _write_weights(network, out)
    model = TrainedFile(
        name=dataset.name,
        channels=dataset.channels,
        segments=segments_of(dataset.labels),
        outputs=dataset.labels.outputs,
        architecture=course.plan.architecture,
        preparation=course.plan.preparation,
        tiling=course.plan.tiling,
        weights=hashlib.sha256((out / WEIGHTS).read_bytes()).hexdigest(),
        intended_use=intended_use(dataset),
        modalities=tuple(MODALITIES.get(channel.upper(), "") for channel in dataset.channels),
        decision="regions" if dataset.labels.is_regions else "argmax",
        region_labels=dataset.labels.written,
        training=training_facts(dataset, course),
        libraries={"careloop": __version__} | {name: version(name) for name in ("torch", "numpy", "safetensors")},
    )
    cases = [case for case in dataset.cases if case.name in set(course.validation)]
    settings = RunSettings(device=course.device)
    ready = model_of(model, out / WEIGHTS)
    figures = validate_model(ready, dataset, cases, settings=settings, progress=progress)
    write_whole(out / DESCRIPTION, replace(model, validation=figures).to_json())
    return read_description(out)


def _write_weights(network: UNet, out: Path) -> None:
    """Each weight once, under the first of its names, so that equal weights give equal bytes."""
    from safetensors.torch import save_file

    weights, seen = {}, set()
    for name, value in network.state_dict().items():
        if value.data_ptr() not in seen:
            seen.add(value.data_ptr())
            weights[name] = value.contiguous()
    with whole_file(out / WEIGHTS) as draft:
        save_file(weights, str(draft), metadata={"format": "pt"})


def segments_of(labels: Labels) -> tuple[Segment, ...]:
    """The structures with the numbers that results carry, their codes and colours."""
    numbers = labels.written if labels.is_regions else tuple(group[0] for group in labels.numbers)
    return described(Segment(number, name) for number, name in zip(numbers, labels.names, strict=True))


def intended_use(dataset: Dataset) -> str:
    """What the model is for, in a sentence."""
    return (
        f"Outlines {', '.join(dataset.labels.names)} in images ({', '.join(dataset.channels)}) like those it was "
        "trained on, for research."
    )


def training_facts(dataset: Dataset, course: Course) -> dict[str, Any]:
    """On what and how the network was trained; files and cases are counted, not named."""
    subjects = {case.name: case.subject for case in dataset.cases}
    voxels = course.seen.label_voxels
    return {
        "data": f"{dataset.name}: {dataset.description}".removesuffix(": "),
        "cases": len(course.training),
        "subjects": len({subjects[name] for name in course.training}),
        "rejected cases": len(course.rejected),
        "smallest spacing in mm": np.min(course.seen.spacings_mm, axis=0).tolist(),
        "largest spacing in mm": np.max(course.seen.spacings_mm, axis=0).tolist(),
        "voxels by label": {str(number): count for number, count in sorted(voxels.items())},
        "size": course.plan.size,
        "epochs": course.epochs,
        "batches an epoch": course.steps,
        "batch size": course.plan.batch_size,
        "seed": course.asked["settings"]["seed"],
        "learning rate": course.asked["settings"]["learning_rate"],
        "precision": course.precision,
    }
