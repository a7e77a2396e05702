"""From labelled images to a model folder: split, prepared, trained, calibrated, evaluated once, written."""

from __future__ import annotations

import csv
import io
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop.imaging.classify.augment import Changes
from careloop.imaging.classify.course import Course, asked, begun_course, write_course
from careloop.imaging.classify.data import open_images
from careloop.imaging.classify.data.dataset import ImageDataset, Progress
from careloop.imaging.classify.data.ready import ReadyImages, ready_images
from careloop.imaging.classify.data.split import with_splits
from careloop.imaging.classify.fit import EpochLoss, ImageWork, epochs_in, freeze_body, mean_image, release_body
from careloop.imaging.classify.model import ClassifierFile, read_classifier
from careloop.imaging.classify.package import write_model
from careloop.imaging.classify.settings import DEFAULT_MINUTES, MOST_EPOCHS, SHORTEST_PATIENCE, ClassifierSettings
from careloop.imaging.classify.start import start_of
from careloop.imaging.learn.course import device_of, precision_on
from careloop.imaging.model_folder import DESCRIPTION
from careloop.record.whole_file import write_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from careloop.imaging.classify.image_classifier import ImageClassifier
    from careloop.imaging.classify.model import Classifier
    from careloop.models.sequence.training.loop import Step

    Check = Callable[[Classifier, NDArray[np.float32], NDArray[np.float32]], object]

WORK = "training"  # what is needed while training lasts; removed at its end
MOST_CHECKED = 60  # images; a check may look at each through many altered networks
CURVE, REJECTED = "learning_curve.json", "rejected.csv"


@dataclass(frozen=True)
class ClassifierSummary:
    """What came of a training: what model.json says, the losses after each epoch, rows left out, and the time taken."""

    folder: Path
    model: ClassifierFile
    curve: tuple[EpochLoss, ...]
    rejected: int
    seconds: float


@dataclass(frozen=True)
class Task:
    """What was asked for."""

    out: Path
    settings: ClassifierSettings
    progress: Progress


def train_classifier(
    dataset: Path,
    out: Path,
    *,
    settings: ClassifierSettings | None = None,
    check: Check | None = None,
    progress: Progress | None = None,
) -> ClassifierSummary:
    """Train a classifier on a table or MedMNIST file (see `open_images`) and write it to the model folder `out`.

    A training that was killed goes on where it was when the same call is made again, to the same weights (on a CPU);
    a finished one is returned as it is. `check` sees the finished model with some images that no weight, calibration
    or threshold of decision was fitted to, prepared (n, channels, *size), and what is true of them (n, labels). Rows
    that cannot be used are left out and listed in rejected.csv.

    Raises:
        InputError: the data cannot be used; `out` holds another training; training diverged.
    """
    start = time.monotonic()
    task = Task(out, settings or ClassifierSettings(), progress or _silent)
    chosen = task.settings
    opened = open_images(dataset, chosen.columns, names=chosen.names, modality=chosen.modality)
    course = begun_course(out, asked(chosen, opened))
    if course is not None and (out / DESCRIPTION).exists():
        shutil.rmtree(out / WORK, ignore_errors=True)  # left where a run was killed between its last two steps
        return _summary(out, 0.0)
    split = with_splits(opened, seed=chosen.seed)
    course = course or _begun(task, split.dataset)
    ready = ready_images(
        split, course.input, out / WORK, duplicates=chosen.duplicates, seed=chosen.seed, progress=task.progress
    )
    _write_rejected(ready.dataset, out)
    network, pretrained = _network(task, ready, course)
    course = _timed(task, ready, replace(course, pretrained=pretrained), network)
    _fit(task, ready, course, network)
    write_model(network, ready, course, settings=chosen, out=out, progress=task.progress)
    if check is not None:
        rows = ready.conformal[:MOST_CHECKED]
        check(read_classifier(out), ready.images[rows], ready.target[rows])
    shutil.rmtree(out / WORK)
    return _summary(out, time.monotonic() - start)


def _begun(task: Task, dataset: ImageDataset) -> Course:
    """What is decided before images are prepared; epochs follow when their pace is known."""
    settings = task.settings
    device, start = device_of(settings.device), start_of(settings, dataset)
    return Course(
        asked=asked(settings, dataset),
        architecture=start.architecture,
        input=start.input,
        device=device,
        precision=settings.precision or precision_on(device),
    )


def _network(task: Task, ready: ReadyImages, course: Course) -> tuple[ImageClassifier, str]:
    """The network before training, the same for the same seed, and what was taken of the user's weights."""
    import torch

    from careloop.imaging.classify.networks import build_classifier
    from careloop.imaging.classify.pretrained import load_pretrained

    weights, outputs = task.settings.pretrained, len(ready.dataset.labels.names)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.settings.seed)
        network = build_classifier(course.architecture, channels=course.input.channels, outputs=outputs)
        taken = "" if weights is None else load_pretrained(network, weights).in_words()
    if network.mean_image is not None:
        network.mean_image.copy_(torch.from_numpy(mean_image(ready.images, ready.train)))
    return network, taken.replace(str(weights), weights.name) if weights is not None else ""


def _timed(task: Task, ready: ReadyImages, course: Course, network: ImageClassifier) -> Course:
    """The course with as many epochs as fit into the time, written down; as it is where that was done before."""
    if course.epochs:
        return course
    settings = task.settings
    task.progress("timing a few steps", 0, 1)
    minutes = settings.minutes or DEFAULT_MINUTES[course.device]
    loop = replace(course, epochs=1).loop_settings(settings)
    fitting, threads = epochs_in(minutes * 60, network, _work(task, ready), loop, threads=settings.threads)
    epochs = settings.epochs or min(fitting, MOST_EPOCHS)
    patience = settings.patience or max(SHORTEST_PATIENCE, epochs // 3)
    course = replace(course, threads=threads, epochs=epochs, patience=patience)
    write_course(course, task.out)
    return course


def _work(task: Task, ready: ReadyImages, *, head_only: bool = False) -> ImageWork:
    settings = task.settings
    changes = Changes(
        strength=1.0 if settings.augmentation == "small" else 0.0,
        mirrored=0.5 if settings.mirror == "left-right" else 0.0,
    )
    return ImageWork(ready, batch_size=settings.batch_size, seed=settings.seed, changes=changes, head_only=head_only)


def _fit(task: Task, ready: ReadyImages, course: Course, network: ImageClassifier) -> None:
    """Train the head of a pretrained network, then all of it; each taken up where it was."""
    from careloop.models.sequence.training.loop import Checkpoint, train

    settings = course.loop_settings(task.settings)
    if task.settings.pretrained is not None and task.settings.frozen_epochs:
        freeze_body(network)
        first = replace(settings, max_epochs=task.settings.frozen_epochs)
        work = _work(task, ready, head_only=True)
        train(network, work, first, checkpoint=Checkpoint(task.out / WORK / "head.pt"), listener=_heard(task, "head"))
        release_body(network)
    work, before = _work(task, ready), read_curve(task.out)
    hear = _heard(task, "network")

    def listener(step: Step) -> None:
        hear(step)
        if work.losses and work.losses[-1].epoch == step.epoch:
            earlier = [loss for loss in before if loss.epoch < work.losses[0].epoch]
            _write_curve(task.out, (*earlier, *work.losses))

    train(network, work, settings, checkpoint=Checkpoint(task.out / WORK / "checkpoint.pt"), listener=listener)


def _heard(task: Task, what: str) -> Any:
    def hear(step: Step) -> None:
        known = f", tuning loss {step.validation_loss:.3f}" if step.validation_loss is not None else ""
        task.progress(f"training the {what}, epoch {step.epoch + 1}{known}", step.step, step.steps)

    return hear


def read_curve(out: Path) -> tuple[EpochLoss, ...]:
    """The losses after each epoch; empty before the first."""
    path = out / CURVE
    return tuple(EpochLoss(**loss) for loss in json.loads(path.read_text())) if path.exists() else ()


def _write_curve(out: Path, losses: Sequence[EpochLoss]) -> None:
    write_whole(out / CURVE, json.dumps([asdict(loss) for loss in losses], indent=1) + "\n")


def _write_rejected(dataset: ImageDataset, out: Path) -> None:
    """Rows left out and why; empty but for its header where all could be used."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["row", "reason"])
    rows.writerows((row.row, row.reason) for row in sorted(dataset.rejected, key=lambda row: row.row))
    write_whole(out / REJECTED, text.getvalue())


def _summary(out: Path, seconds: float) -> ClassifierSummary:
    model = read_classifier(out).said
    return ClassifierSummary(out, model, read_curve(out), int(model.training["rejected rows"]), seconds)


def _silent(what: str, done: int, total: int) -> None:
    """Progress that nobody hears."""
