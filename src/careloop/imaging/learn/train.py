"""From a folder of images and labels to a model folder: checked, planned, trained, validated, packaged."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from careloop.imaging.learn.configure import Plan, make_plan
from careloop.imaging.learn.course import (
    DEFAULT_MINUTES,
    DEFAULT_SIZE,
    DEFAULT_STEPS,
    SHORTEST_PATIENCE,
    Course,
    TrainingSettings,
    asked,
    begun_course,
    device_of,
    precision_on,
    write_course,
)
from careloop.imaging.learn.dataset import Dataset, Progress, open_dataset, split_cases
from careloop.imaging.learn.fingerprint import check_cases, fingerprint
from careloop.imaging.learn.fit import EpochScore, PatchWork, measure_pace, validated_cases
from careloop.imaging.learn.package import write_model
from careloop.imaging.learn.patches import prepare_case
from careloop.imaging.model_folder import DESCRIPTION
from careloop.imaging.segment.formats.trained import TrainedFile, read_description
from careloop.record.whole_file import write_whole

if TYPE_CHECKING:
    from careloop.imaging.unet import UNet
    from careloop.models.sequence.training.loop import Step

WORK = "training"  # what is needed while training lasts; removed at its end
CURVE = "learning_curve.json"
FOR_TRAINING = 0.85  # of the time left when the network starts to learn; the rest is validation and a margin


@dataclass(frozen=True)
class TrainedSummary:
    """What came of a training: its course, what model.json says, the Dice after each epoch, and the time it took."""

    folder: Path
    course: Course
    model: TrainedFile
    curve: tuple[EpochScore, ...]
    seconds: float


def train_segmentation(
    dataset: Path, out: Path, *, settings: TrainingSettings | None = None, progress: Progress | None = None
) -> TrainedSummary:
    """Train a network on a data set (see `open_dataset`) and write it to the model folder `out`.

    A training that was killed goes on where it was when the same call is made again, to the same weights (on a CPU);
    a finished one is returned as it is. Cases that cannot be used are left out and named in plan.json.

    Raises:
        InputError: the data set cannot be used; `out` holds another training; training diverged.
    """
    start = time.monotonic()
    task = _Task(open_dataset(dataset), out, settings or TrainingSettings(), progress or _silent)
    course = begun_course(out, asked(task.settings, task.dataset))
    if course is None:
        course = _begin(task, start)
    elif (out / DESCRIPTION).exists():
        shutil.rmtree(out / WORK, ignore_errors=True)  # left where a run was killed between its last two steps
        return TrainedSummary(out, course, read_description(out), read_curve(out), 0.0)
    work = _work(task, course)
    network = _network(task, course.plan)
    _fit(task, course, network, work)
    model = write_model(network, task.dataset, course, out, progress=task.progress)
    shutil.rmtree(out / WORK)
    return TrainedSummary(out, course, model, read_curve(out), time.monotonic() - start)


@dataclass(frozen=True)
class _Task:
    """What was asked for."""

    dataset: Dataset
    out: Path
    settings: TrainingSettings
    progress: Progress


def _begin(task: _Task, start: float) -> Course:
    """Check the cases, plan, prepare, time a few steps, and write down what training will follow."""
    settings, device = task.settings, device_of(task.settings.device)
    checked, facts = check_cases(task.dataset, seed=settings.seed, progress=task.progress)
    training, validation = (tuple(c.name for c in part) for part in split_cases(checked.cases, seed=settings.seed))
    seen = fingerprint(tuple(fact for fact in facts if fact.case in set(training)))
    course = Course(
        asked=asked(settings, task.dataset),
        plan=make_plan(seen, task.dataset, size=settings.size or DEFAULT_SIZE[device], spacing_mm=settings.spacing_mm),
        seen=seen,
        training=training,
        validation=validation,
        rejected=checked.rejected,
        device=device,
        precision=settings.precision or precision_on(device),
        steps=settings.steps or DEFAULT_STEPS[device],
    )
    work, network = _work(task, course), _network(task, course.plan)
    pace = measure_pace(network, work, course.loop_settings(settings), threads=settings.threads)
    left = (settings.minutes or DEFAULT_MINUTES[device]) * 60 - (time.monotonic() - start)
    epochs = settings.epochs or pace.epochs_in(left * FOR_TRAINING, steps=course.steps)
    patience = settings.patience or max(SHORTEST_PATIENCE, epochs // 3)
    course = replace(course, threads=pace.threads, epochs=epochs, patience=patience)
    write_course(course, task.out)
    return course


def _work(task: _Task, course: Course) -> PatchWork:
    """The cases prepared (or opened, where they were), as the training loop takes them."""
    by_name = {case.name: case for case in task.dataset.cases}
    content = hashlib.sha256(f"{task.dataset.digest} {course.plan.preparation}".encode()).hexdigest()[:16]
    prepared = {}
    for number, name in enumerate((*course.training, *course.validation), start=1):
        prepared[name] = prepare_case(by_name[name], task.dataset, course.plan.preparation, task.out / WORK / content)
        task.progress("preparing cases", number, len(course.training) + len(course.validation))
    validation = validated_cases([prepared[name] for name in course.validation], course.plan, steps=course.steps)
    training = [prepared[name] for name in course.training]
    cases = (training, validation)
    return PatchWork(course.plan, task.dataset.labels, cases, steps=course.steps, seed=task.settings.seed)


def _network(task: _Task, plan: Plan) -> UNet:
    """The untrained network, the same for the same seed."""
    import torch

    from careloop.imaging.unet import build_unet, initialize

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(task.settings.seed)
        network = build_unet(
            plan.architecture, channels=len(task.dataset.channels), outputs=task.dataset.labels.outputs
        )
        initialize(network)
    network.decoder.deep_supervision = True
    if len(plan.tiling.patch) == 3:  # the layout that convolutions on a CPU are quickest in
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network


def _fit(task: _Task, course: Course, network: UNet, work: PatchWork) -> None:
    """Train the network; after each epoch its Dice goes into the learning curve."""
    from careloop.models.sequence.training.loop import Checkpoint, train

    before = read_curve(task.out)

    def hear(step: Step) -> None:
        known = f", validation Dice {1 - step.validation_loss:.3f}" if step.validation_loss is not None else ""
        task.progress(f"training, epoch {step.epoch + 1} of {course.epochs}{known}", step.step, step.steps)
        if work.scores and work.scores[-1].epoch == step.epoch:
            earlier = [score for score in before if score.epoch < work.scores[0].epoch]
            _write_curve(task.out, (*earlier, *work.scores))

    settings = course.loop_settings(task.settings)
    train(network, work, settings, checkpoint=Checkpoint(task.out / WORK / "checkpoint.pt"), listener=hear)


def read_curve(out: Path) -> tuple[EpochScore, ...]:
    """The Dice after each epoch; empty before the first."""
    path = out / CURVE
    if not path.exists():
        return ()
    return tuple(EpochScore(s["epoch"], s["training_loss"], tuple(s["dice"])) for s in json.loads(path.read_text()))


def _write_curve(out: Path, scores: Sequence[EpochScore]) -> None:
    write_whole(out / CURVE, json.dumps([asdict(score) for score in scores], indent=1) + "\n")


def _silent(what: str, done: int, total: int) -> None:
    """Progress that nobody hears."""
