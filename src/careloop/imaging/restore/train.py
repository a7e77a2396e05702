"""From planes to a restoration model folder: examples, training that can be taken up again, validation, package."""

from __future__ import annotations

import hashlib
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from careloop import InputError, __version__
from careloop.imaging.restore.lesions import LesionRule
from careloop.imaging.restore.local_level import LEVEL_STEPS, local_levels
from careloop.imaging.restore.low_dose import any_scanner, low_dose, project
from careloop.imaging.restore.material import Material
from careloop.imaging.restore.model import (
    DESCRIPTION,
    Degradation,
    RestorationFile,
    RestorationModel,
    read_restoration,
    shipped,
    write_restoration,
)
from careloop.imaging.restore.noise_level import noise_sigma
from careloop.imaging.restore.work import (
    CONTRAST_SHARE,
    CleanTask,
    Example,
    NoisyTask,
    PairTask,
    RestorationWork,
    Task,
    with_some_lesions,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from careloop.imaging.restore.network import Denoiser
    from careloop.models.sequence.training.loop import Step

    Plane = NDArray[np.float32]
    Progress = Callable[[str, int, int], None]

WORK = "training"  # what is needed while training lasts; removed at its end
PATCH, BATCH_PIXELS, STEPS = 64, 16 * 64**2, 250  # edge of a patch, pixels of a batch, batches an epoch
LESIONS = LesionRule(diameter_px=(3.0, 20.0), contrast=(0.03, 0.4))
HIGHEST_LEVEL = 55 / 255
PHOTONS = (3e3, 1e6)  # a ray, drawn on a logarithmic scale
SCANS = 3  # simulated of each plane
FINEST = 2.0  # pixels along one that a scanner resolves, at most
CT_HU = (-1000.0, 2000.0)  # a plane's 0 in HU, and its 1 above that
VALIDATED_LEVELS = (15 / 255, 25 / 255, 50 / 255)
MOST_VALIDATED, VALIDATED_EDGE = 24, 128  # planes, and pixels of their middle


class RestorationSettings(BaseModel):
    """How a restoration network is trained; whatever is left out follows from the task."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    degradation: Degradation = Field(default="gaussian noise", description="What the network is to take out.")
    targets: Literal["clean", "none"] = Field(
        default="clean", description="none: the images are noisy themselves, and no clean ones are needed."
    )
    noise_level: float | None = Field(
        default=None, gt=0, description="Of noisy images, as a part of their range; estimated from each where left out."
    )
    start: Literal["shipped", "new"] = Field(
        default="shipped", description="Begin with careloop's own weights, or with random ones."
    )
    minutes: float = Field(default=20.0, gt=0, description="Time for training.")
    epochs: int | None = Field(default=None, ge=1, description="Epochs of 250 batches, instead of minutes.")
    learning_rate: float | None = Field(default=None, gt=0, description="2e-3 for new weights, 3e-4 for shipped ones.")
    seed: int = Field(default=0, ge=0, description="Seed of everything random.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="cpu, cuda, or auto.")
    threads: int = Field(default=1, ge=1, description="CPU threads; small patches are quickest with one.")


@dataclass(frozen=True)
class Examples:
    """What a network learns from: a task over `count` planes with the weight of each, and whole validation examples."""

    task: Task
    count: int
    weight: NDArray[np.float64] | None
    validation: tuple[Example, ...]


def train_restoration(
    material: Material, out: Path, *, name: str, settings: RestorationSettings, progress: Progress, **facts: Any
) -> RestorationModel:
    """Train a network on the planes of `material` and write it to the model folder `out`.

    `facts` go into model.json as they are (licence, intended_use, training notes). A training that was killed goes on
    where it was; a finished one is returned as it is. Without clean targets nothing is validated, as that would need
    them: all epochs are run and the last weights taken.

    Raises:
        InputError: the planes do not do for the task; `out` holds another training; training diverged.
    """
    asked = hashlib.sha256(f"{settings.model_dump_json()} {material.digest}".encode()).hexdigest()[:16]
    if (out / DESCRIPTION).exists():
        return _finished(out, asked)
    examples = make_examples(material, settings, progress=progress)
    training = {
        "planes": len(material.planes),
        "subjects": len(set(material.subjects)),
        "left out": len(material.left),
        "asked": asked,
        **facts.pop("training", {}),
    }
    facts = {"modalities": material.modalities} | facts
    return train_on(examples, out, name=name, settings=settings, progress=progress, training=training, **facts)


def train_on(
    examples: Examples,
    out: Path,
    *,
    name: str,
    settings: RestorationSettings,
    progress: Progress,
    training: dict[str, Any],
    **facts: Any,
) -> RestorationModel:
    """Train a network on examples as they are and write it to the model folder `out`; as `train_restoration`."""
    network = _begin(settings)
    start = time.monotonic()
    losses, epochs = _fit(network, examples, settings, out=out, progress=progress)
    took: dict[str, Any] = {
        "epochs": epochs,
        "seconds": round(time.monotonic() - start),
        "seed": settings.seed,
        "start": "new weights" if settings.start == "new" else shipped(settings.degradation).made_by,
    }
    if isinstance(examples.task, CleanTask) and examples.task.lesions is not None:
        took["contrast share"] = CONTRAST_SHARE
    said = RestorationFile(
        name=name,
        degradation=settings.degradation,
        features=network.sizes.features,
        deepest_blocks=network.sizes.deepest_blocks,
        level_maps=network.sizes.level_maps,
        levels=(0.0, HIGHEST_LEVEL),
        weights="",
        targets=settings.targets,
        training=training | took,
        validation={"squared error in decibels": round(min(losses), 3)} if examples.validation else {},
        libraries={"careloop": __version__} | {name: version(name) for name in ("torch", "numpy", "safetensors")},
        **{"intended_use": f"Takes {settings.degradation} out of images like those it was trained on."} | facts,
    )
    model = write_restoration(network, said, out)
    shutil.rmtree(out / WORK, ignore_errors=True)
    return model


def _finished(out: Path, asked: str) -> RestorationModel:
    """The model that is in a folder already, if it answers to the same settings and planes."""
    model = read_restoration(out)
    if model.said.training.get("asked") != asked:
        raise InputError(f"{out} holds a model of other settings or other images; give another folder")
    shutil.rmtree(out / WORK, ignore_errors=True)  # left where a run was killed between its last two steps
    return model


def make_examples(material: Material, settings: RestorationSettings, *, progress: Progress) -> Examples:
    """The task that the settings ask for, over the planes of the material."""
    training, held = material.split(settings.seed)
    if settings.degradation == "low-dose CT":
        return _low_dose_examples(material, training, held, settings=settings, progress=progress)
    planes = [material.planes[k] for k in training]
    if settings.targets == "none":
        everything = list(material.planes)
        levels = [settings.noise_level or noise_sigma(plane) for plane in everything]
        return Examples(NoisyTask(everything, levels, PATCH), len(everything), _by_size(everything), ())
    task = CleanTask(planes, (0.0, HIGHEST_LEVEL), PATCH, LESIONS)
    random = np.random.default_rng([settings.seed, 1])
    validation = [
        _noisy_middle(material.planes[k], VALIDATED_LEVELS[i % len(VALIDATED_LEVELS)], random)
        for i, k in enumerate(_spread(held))
    ]
    return Examples(task, len(planes), _by_size(planes), tuple(validation))


def _low_dose_examples(
    material: Material,
    training: Sequence[int],
    held: Sequence[int],
    *,
    settings: RestorationSettings,
    progress: Progress,
) -> Examples:
    """Simulated scans of the planes, each with several doses; the truth is the same scanner without noise."""
    random = np.random.default_rng([settings.seed, 2])
    pairs: dict[int, list[Example]] = {}
    wanted = [*training, *held]
    for number, k in enumerate(wanted, start=1):
        progress("simulating low-dose scans", number, len(wanted))
        made = with_some_lesions(material.planes[k], LESIONS, random)
        plane = material.planes[k] if made is None else made.image.astype(np.float32)
        pairs[k] = low_dose_pairs(plane, material.pixel_mm[k], random)
    trained = [pair for k in training for pair in pairs[k]]
    validation = tuple(middle(pairs[k][0]) for k in _spread(held))
    return Examples(PairTask(trained, PATCH), len(trained), None, validation)


def low_dose_pairs(plane: Plane, pixel_mm: float, random: np.random.Generator) -> list[Example]:
    """Scans of a plane (0 to 1) with their local noise levels, beside the noiseless image.

    Scanner, doses and the size of pixels that are shown of what it resolves are drawn at random: the grain of real CT
    is of every size.
    """
    low, width = CT_HU
    projected = project((plane * width + low)[None].astype(np.float32), pixel_mm, any_scanner(random))
    shown = _enlarged_part(plane.shape, random.uniform(1, FINEST), random)

    def unit(hu: np.ndarray) -> Plane:
        return ((shown(hu) - low) / width).astype(np.float32)

    clean, pairs = unit(projected.full_dose[0]), []
    for _ in range(SCANS):
        photons = float(np.exp(random.uniform(*np.log(PHOTONS))))
        noisy = unit(low_dose(projected, random, photons=photons)[0])
        pairs.append(Example(noisy, local_levels(noisy), clean))
    return pairs


def _enlarged_part(
    shape: tuple[int, ...], factor: float, random: np.random.Generator
) -> Callable[[np.ndarray], np.ndarray]:
    """A part of an image that fills its shape when every pixel is enlarged by `factor`, with linear interpolation."""
    from scipy.ndimage import zoom

    part = [math.ceil(n / factor) for n in shape]
    first = [int(random.integers(n - m + 1)) for n, m in zip(shape, part, strict=True)]
    where = tuple(slice(start, start + length) for start, length in zip(first, part, strict=True))
    return lambda image: zoom(image[where], [n / m for n, m in zip(shape, part, strict=True)], order=1)


def _by_size(planes: Sequence[Plane]) -> NDArray[np.float64]:
    return np.array([plane.size for plane in planes], dtype=np.float64)


def _spread(held: Sequence[int]) -> list[int]:
    """At most `MOST_VALIDATED` of the indices, at equal distances."""
    count = min(len(held), MOST_VALIDATED)
    return [held[int(k)] for k in np.linspace(0, len(held) - 1, count)] if count else []


def _noisy_middle(plane: Plane, level: float, random: np.random.Generator) -> Example:
    noise = random.standard_normal(plane.shape, dtype=np.float32) * np.float32(level)
    return middle(Example(plane + noise, np.full_like(plane, level), plane))


def middle(example: Example, multiple: int = 32) -> Example:
    """The middle of the planes, its edges a multiple of what the network takes."""
    where = []
    for length in example.target.shape:
        edge = min(VALIDATED_EDGE, length // multiple * multiple)
        where.append(slice((length - edge) // 2, (length - edge) // 2 + edge))
    rows, columns = where
    parts = (example.noisy, example.level, example.target)
    return Example(*(np.ascontiguousarray(part[..., rows, columns]) for part in parts))


def _begin(settings: RestorationSettings) -> Denoiser:
    from careloop.imaging.restore.network import Denoiser, DenoiserSizes, initialize

    if settings.start == "shipped":
        return shipped(settings.degradation).build().train()
    maps = len(LEVEL_STEPS) if settings.degradation == "low-dose CT" else 1
    network = Denoiser(DenoiserSizes(level_maps=maps))
    initialize(network, settings.seed)
    return network


def _fit(
    network: Denoiser, examples: Examples, settings: RestorationSettings, *, out: Path, progress: Progress
) -> tuple[list[float], int]:
    """Train; returns the loss after each epoch, and the number of epochs."""
    import torch

    from careloop.imaging.learn.course import precision_on
    from careloop.models.sequence.training.loop import Checkpoint, LoopSettings, train
    from careloop.models.sequence.training.pace import step_seconds

    device: Literal["cpu", "cuda"] = "cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu"
    if settings.device == "cuda" and device == "cpu":
        raise InputError("The device cuda must be one that torch sees, got none; set the device to cpu")
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    work = RestorationWork(
        examples.task, examples.count, examples.validation,
        steps=STEPS, batch_size=BATCH_PIXELS // examples.task.size**2, seed=settings.seed, weight=examples.weight,
    )  # fmt: skip
    plan = LoopSettings(
        learning_rate=settings.learning_rate or (2e-3 if settings.start == "new" else 3e-4),
        weight_decay=0.0,
        patience=10**6,
        seed=settings.seed,
        device=device,
        precision=precision_on(device),
        threads=settings.threads,
    )
    epochs = settings.epochs or _planned_epochs(out, settings, lambda: step_seconds(network, work, plan))

    def hear(step: Step) -> None:
        known = f", squared error {step.validation_loss:.2f} dB" if step.validation_loss is not None else ""
        progress(f"training, epoch {step.epoch + 1} of {epochs}{known}", step.step, step.steps)

    checkpoint = Checkpoint(out / WORK / "checkpoint.pt")
    return train(network, work, replace(plan, max_epochs=epochs), checkpoint=checkpoint, listener=hear), epochs


def _planned_epochs(out: Path, settings: RestorationSettings, timed: Callable[[], float]) -> int:
    """How many epochs fit into the minutes, timed once and kept for a training that is taken up again."""
    kept = out / WORK / "epochs.txt"
    if kept.exists():
        return int(kept.read_text())
    epochs = max(1, int(settings.minutes * 60 / (timed() * STEPS)))
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(f"{epochs}\n")
    return epochs
