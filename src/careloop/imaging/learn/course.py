"""What one training follows from its first to its last minute, on disk, so that a killed one goes on with the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from careloop.imaging.learn.configure import Plan, SizeName
from careloop.imaging.learn.dataset import Dataset, Rejected
from careloop.imaging.learn.fingerprint import Fingerprint
from careloop.imaging.model_folder import begun
from careloop.record.whole_file import write_whole

if TYPE_CHECKING:
    from careloop.models.sequence.training.loop import LoopSettings

Device = Literal["cpu", "cuda"]

COURSE = "plan.json"
DEFAULT_MINUTES = {"cpu": 20.0, "cuda": 120.0}
DEFAULT_SIZE: dict[str, SizeName] = {"cpu": "small", "cuda": "large"}
DEFAULT_STEPS = {"cpu": 50, "cuda": 250}  # an epoch
SHORTEST_PATIENCE = 10  # epochs


class TrainingSettings(BaseModel):
    """How a segmentation network is trained; whatever is left out follows from the data and the machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: SizeName | None = Field(
        default=None, description="small, medium or large patches and network; small on a CPU, large on a GPU."
    )
    minutes: float | None = Field(
        default=None, gt=0, description="Time for all of it, from reading to validation: 20 on a CPU, 120 on a GPU."
    )
    epochs: int | None = Field(default=None, ge=1, description="Epochs, instead of as many as fit into the minutes.")
    steps: int | None = Field(default=None, ge=1, description="Batches an epoch: 50 on a CPU, 250 on a GPU.")
    spacing_mm: tuple[float, ...] | None = Field(
        default=None, description="Voxels' spacing that the network works at (slice, row, column)."
    )
    learning_rate: float = Field(default=1e-2, gt=0, description="Highest learning rate of AdamW.")
    patience: int | None = Field(
        default=None, ge=1, description="Epochs without better validation Dice that end training; a third of all."
    )
    seed: int = Field(default=0, ge=0, description="Seed of everything random.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="cpu, cuda, or auto.")
    precision: str | None = Field(default=None, description="As Lightning Fabric names it, such as bf16-mixed.")
    threads: int | None = Field(default=None, ge=1, description="CPU threads; one or all, whichever is faster.")


@dataclass(frozen=True)
class Course:
    """A training as it was decided on when it began; the same file makes a killed one go on with the same result.

    `asked` are the settings and the data set's digest that it answers to. `training`, `validation` and `rejected` name
    cases as their files do; running the model needs none of it, so the file can be left out of a copy.
    """

    asked: dict[str, Any]
    plan: Plan
    seen: Fingerprint
    training: tuple[str, ...]
    validation: tuple[str, ...]
    rejected: tuple[Rejected, ...]
    device: Device
    precision: str
    steps: int
    threads: int = 1
    epochs: int = 1
    patience: int = 1

    def loop_settings(self, settings: TrainingSettings) -> LoopSettings:
        """As the training loop takes them."""
        from careloop.models.sequence.training.loop import LoopSettings

        return LoopSettings(
            learning_rate=settings.learning_rate,
            max_epochs=self.epochs,
            patience=self.patience,
            seed=settings.seed,
            device=self.device,
            precision=self.precision,
            threads=self.threads,
        )


def asked(settings: TrainingSettings, dataset: Dataset) -> dict[str, Any]:
    """What a course answers to."""
    return {"settings": settings.model_dump(mode="json"), "data": dataset.digest}


def write_course(course: Course, out: Path) -> None:
    """Write it as plan.json, whole or not at all."""
    write_whole(out / COURSE, json.dumps(asdict(course), indent=1) + "\n")


def begun_course(out: Path, wanted: dict[str, Any]) -> Course | None:
    """The course that was begun in a folder; None where there is none. InputError as `begun`."""
    return begun(Course, out / COURSE, wanted)


def device_of(stated: Literal["auto", "cpu", "cuda"]) -> Device:
    """Where a network is trained; `auto` is a CUDA GPU if there is one."""
    import torch

    if stated == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return stated


def precision_on(device: Device) -> str:
    """Half precision (bfloat16) where the processor computes in it; elsewhere it is many times slower than single."""
    import torch

    computes_in_half = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # torch has no public name for it
    return "bf16-mixed" if device == "cuda" or computes_in_half() else "32-true"


def table(course: Course) -> list[tuple[str, str]]:
    """The course in a few rows of words."""
    plan = course.plan
    return [
        ("cases", f"{len(course.training)} to train on, {len(course.validation)} to validate on"),
        ("rejected", str(len(course.rejected))),
        ("spacing", f"{_numbers(_median(course.seen.spacings_mm))} mm in the data (median), {_spacing(plan)} mm used"),
        ("image, patch", f"{_numbers(plan.median_shape)} voxels, {_numbers(plan.tiling.patch)} voxels"),
        ("network", _network(plan)),
        ("intensities", ", ".join(how.scheme for how in plan.preparation.normalizations)),
        (
            "training",
            f"{course.epochs} epochs of {course.steps} batches of {plan.batch_size}, {course.threads} threads",
        ),
    ]


def _network(plan: Plan) -> str:
    kwargs = plan.architecture["arch_kwargs"]
    features = ", ".join(map(str, kwargs["features_per_stage"]))
    return f"{plan.size}: residual-encoder U-Net, {kwargs['n_stages']} stages, features {features}"


def _spacing(plan: Plan) -> str:
    return _numbers(plan.preparation.spacing_mm or ())


def _median(rows: Sequence[Sequence[float]]) -> list[float]:
    from statistics import median

    return [median(column) for column in zip(*rows, strict=True)]


def _numbers(values: Sequence[float]) -> str:
    return " x ".join(f"{value:.3g}" for value in values)
