"""What one training of a classifier follows from its first to its last minute, so that a killed one goes on alike."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from careloop.imaging.classify.data.dataset import ImageDataset
from careloop.imaging.classify.model import InputFormat
from careloop.imaging.classify.settings import ClassifierSettings
from careloop.imaging.model_folder import begun
from careloop.record.whole_file import write_whole

if TYPE_CHECKING:
    from careloop.models.sequence.training.loop import LoopSettings

COURSE = "plan.json"


@dataclass(frozen=True)
class Course:
    """A training as it was decided on when it began; `asked` are the settings and the data's digest it answers to.

    `pretrained` says what was taken of the weights that training starts from.
    """

    asked: dict[str, Any]
    architecture: dict[str, Any]
    input: InputFormat
    device: str
    precision: str
    threads: int = 1
    epochs: int = 0  # 0 until the pace is known
    patience: int = 1
    pretrained: str = ""

    def loop_settings(self, settings: ClassifierSettings) -> LoopSettings:
        """As the training loop takes them."""
        from careloop.models.sequence.training.loop import LoopSettings

        return LoopSettings(
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            max_epochs=self.epochs,
            patience=self.patience,
            seed=settings.seed,
            device=self.device,
            precision=self.precision,
            threads=self.threads,
        )


def asked(settings: ClassifierSettings, dataset: ImageDataset) -> dict[str, Any]:
    """What a course answers to."""
    return {"settings": settings.model_dump(mode="json"), "data": dataset.digest}


def write_course(course: Course, out: Path) -> None:
    """Write it as plan.json, whole or not at all."""
    write_whole(out / COURSE, json.dumps(asdict(course), indent=1) + "\n")


def begun_course(out: Path, wanted: dict[str, Any]) -> Course | None:
    """The course that was begun in a folder; None where there is none. InputError as `begun`."""
    return begun(Course, out / COURSE, wanted)
