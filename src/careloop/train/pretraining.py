"""Pre-training on whole histories of people in no tuning or held-out row, and the folder that keeps the result."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from careloop import InputError, __version__
from careloop.features.timelines import TimelineRecipe, Timelines, TimelinesSection, extract_timelines, fit_timelines
from careloop.models.sequence.resources import SIZES
from careloop.models.sequence.training.fitting import Recipe, Start
from careloop.models.sequence.training.loop import Checkpoint, Listener, LoopSettings
from careloop.models.sequence.training.spread import spread
from careloop.record import Record
from careloop.record.shards import HERE

if TYPE_CHECKING:
    from careloop.models.sequence.training.pretraining import PretrainingNetwork

FORMAT_VERSION = 1
RECIPE, WEIGHTS = "timeline_recipe.json", "weights.safetensors"
TRUNKS = {"masked": "transformer", "next": "causal_transformer"}
# Of the people of pre-training, those whose histories only tell when to stop.
VALIDATION_SHARE = 0.1


class PretrainingSection(BaseModel):
    """The study file's `pretraining` section: what a Transformer learns from whole histories before fine-tuning."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    objective: Literal["next", "masked"] = Field(
        default="next",
        description="`next` learns the next event and the time to it, and can simulate futures; `masked` hides events "
        "and their numbers from a Transformer that sees both ways.",
    )
    size: Literal["tiny", "small", "medium", "base", "large"] = Field(
        default="tiny", description="Size of the network; `careloop estimate` says what each one needs."
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Share of inner values set to 0 in training.")
    max_epochs: int = Field(default=20, ge=1, description="Most passes through the histories.")
    patience: int = Field(default=3, ge=1, description="Passes without a better validation loss that end training.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Highest learning rate.")
    tokens: int = Field(default=4096, ge=64, description="Events in a batch.")
    seed: int = Field(default=0, ge=0, description="Seed of everything random.")
    device: str = Field(default="auto", description="cpu, cuda, mps, or auto.")
    devices: int = Field(default=1, ge=1, description="How many devices of this machine train together.")
    precision: str = Field(default="32-true", description="As Lightning Fabric names it; bf16-mixed on a GPU.")
    threads: int = Field(default=1, ge=1, description="Threads of the CPU.")

    @property
    def recipe(self) -> Recipe:
        """Network and loop as `careloop.models.sequence` has them."""
        from careloop.models.sequence.network import NetworkShape

        size = SIZES[self.size]
        shape = NetworkShape(TRUNKS[self.objective], size.width, size.layers, size.heads, self.dropout)
        names = ("learning_rate", "tokens", "max_epochs", "patience", "seed", "device", "devices")
        settings = {name: getattr(self, name) for name in (*names, "precision", "threads")}
        return Recipe(shape, LoopSettings(**settings))


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A pre-trained network with the recipe of its timelines and the people whose histories it saw."""

    section: PretrainingSection
    recipe: TimelineRecipe
    weights: dict[str, np.ndarray]
    subjects: np.ndarray
    history: tuple[float, ...]
    record_version: int

    @property
    def start(self) -> Start:
        """What fine-tuning begins from."""
        prefix = "network."
        own = {n.removeprefix(prefix): v for n, v in self.weights.items() if n.startswith(prefix)}
        return Start(self.section.recipe.shape, own)

    def model(self) -> PretrainingNetwork:
        """The whole network, in evaluation mode."""
        import torch

        from careloop.models.sequence.training.pretraining import PretrainingNetwork

        network = PretrainingNetwork(self.recipe.token_space(), self.section.recipe.shape)
        network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in self.weights.items()})
        return network.eval()

    def check_apart(self, subjects: Sequence[int] | np.ndarray | pl.Series) -> None:
        """InputError if any of these people was among those of pre-training."""
        common = np.intersect1d(np.asarray(subjects), self.subjects)
        if len(common):
            raise InputError(
                f"{len(common)} of the study's tuning and held-out people are among those that the network was "
                "pre-trained on, so its evaluation would be too good; pre-train with this study's own split"
            )


def pretrain(
    record: Record,
    section: PretrainingSection,
    timelines: TimelinesSection,
    *,
    keep_out: pl.Series,
    exclude_codes: Sequence[str] = (),
    workspace: Path,
    on: str = HERE,
    listener: Listener | None = None,
) -> Pretrained:
    """Pre-train on the whole history of everybody in the record but `keep_out` (subject ids).

    The vocabulary is built on the same people. `workspace` keeps the timelines and the checkpoint: called again with
    the same arguments, training that was killed goes on where it was. InputError: fewer than two people are left.
    """
    keys = whole_histories(record, keep_out)
    if keys.height < 2:
        raise InputError("pre-training needs the histories of at least two people outside tuning and held-out rows")
    recipe = fit_timelines(record, keys, timelines, exclude_codes, on=on)
    kept_timelines(record, keys, recipe, workspace, on=on)
    if section.devices > 1:
        spread(train_in, section.devices, section.model_dump(mode="json"), workspace)
    else:
        train_in(section.model_dump(mode="json"), workspace, listener)
    weights, history = read_trained(workspace)
    return Pretrained(section, recipe, weights, np.sort(keys["subject_id"].to_numpy()), history, record.version)


def whole_histories(record: Record, keep_out: pl.Series) -> pl.DataFrame:
    """A key for each subject but `keep_out`: when the last fact about it became known."""
    events = record.events().select("subject_id", "known_time").drop_nulls()
    events = events.filter(~pl.col("subject_id").is_in(keep_out.implode()))
    last = events.group_by("subject_id").agg(prediction_time=pl.col("known_time").max())
    return last.sort("subject_id").collect(engine="streaming")


def kept_timelines(record: Record, keys: pl.DataFrame, recipe: TimelineRecipe, workspace: Path, *, on: str) -> None:
    """Extract the timelines into the workspace, unless they are there already, of these keys, record and recipe."""
    note, wanted = workspace / "timelines.txt", fingerprint(record, keys, recipe)
    if note.is_file() and note.read_text(encoding="utf-8") == wanted:
        return
    note.unlink(missing_ok=True)
    workspace.mkdir(parents=True, exist_ok=True)
    extract_timelines(record, keys, recipe, on=on, folder=workspace / "timelines")
    (workspace / RECIPE).write_text(recipe.to_json(), encoding="utf-8")
    note.write_text(wanted, encoding="utf-8")


def fingerprint(record: Record, keys: pl.DataFrame, recipe: TimelineRecipe) -> str:
    """What timelines depend on."""
    digest = hashlib.sha256(recipe.to_json().encode())
    for name in ("subject_id", "prediction_time"):
        digest.update(keys[name].to_physical().to_numpy().tobytes())
    return f"{record.path.resolve()} version {record.version} {digest.hexdigest()}"


def train_in(section: dict[str, Any], workspace: Path, listener: Listener | None = None) -> None:
    """Train on the workspace's timelines, from its checkpoint if there is one, and leave weights and history there.

    It runs in every process of a training on several devices; the first one writes.
    """
    from safetensors.numpy import save

    from careloop.models.sequence.training.pretraining import pretrain_network

    settings = PretrainingSection(**section)
    recipe = TimelineRecipe.from_json((workspace / RECIPE).read_text(encoding="utf-8"))
    found = Timelines.open(workspace / "timelines")
    held = np.random.default_rng(settings.seed).random(len(found)) < VALIDATION_SHARE
    network, history = pretrain_network(
        settings.recipe,
        recipe.token_space(),
        found.filter(~held).sequences,
        found.filter(held).sequences if held.any() else None,
        checkpoint=Checkpoint(workspace / "checkpoint.pt"),
        listener=listener,
    )
    if int(os.environ.get("RANK", "0")) == 0:
        arrays = {name: np.ascontiguousarray(value.numpy()) for name, value in network.state_dict().items()}
        (workspace / WEIGHTS).write_bytes(save(arrays))
        (workspace / "history.json").write_text(json.dumps(history), encoding="utf-8")


def read_trained(workspace: Path) -> tuple[dict[str, np.ndarray], tuple[float, ...]]:
    """Weights by name, and the validation loss of each epoch, that `train_in` left."""
    from safetensors.numpy import load

    history = json.loads((workspace / "history.json").read_text(encoding="utf-8"))
    return load((workspace / WEIGHTS).read_bytes()), tuple(history)


def save_pretrained(pretrained: Pretrained, path: Path) -> None:
    """Write the folder `path`, at once or not at all."""
    from safetensors.numpy import save

    document = {
        "format_version": FORMAT_VERSION,
        "careloop_version": __version__,
        "section": pretrained.section.model_dump(mode="json"),
        "history": list(pretrained.history),
        "record_version": pretrained.record_version,
        "not_for_clinical_use": True,
    }
    unfinished = path.with_name(f".{path.name}.unfinished-{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    (unfinished / "pretrained.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    (unfinished / RECIPE).write_text(pretrained.recipe.to_json(), encoding="utf-8")
    (unfinished / WEIGHTS).write_bytes(save({n: np.ascontiguousarray(v) for n, v in pretrained.weights.items()}))
    pl.DataFrame({"subject_id": pretrained.subjects}).write_parquet(unfinished / "subjects.parquet")
    shutil.rmtree(path, ignore_errors=True)
    unfinished.rename(path)


def open_pretrained(path: Path) -> Pretrained:
    """Open what `save_pretrained` wrote; InputError if it is none, is damaged, or was written by a newer careloop."""
    from safetensors.numpy import load

    file = Path(path) / "pretrained.json"
    if not file.is_file():
        raise InputError(f"{path} holds no pre-trained network (no pretrained.json); give RUN/pretrained")
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        if document["format_version"] > FORMAT_VERSION:
            raise InputError(f"{path} was written by careloop {document['careloop_version']}; upgrade careloop")
        return Pretrained(
            PretrainingSection(**document["section"]),
            TimelineRecipe.from_json((path / RECIPE).read_text(encoding="utf-8")),
            load((path / WEIGHTS).read_bytes()),
            pl.read_parquet(path / "subjects.parquet")["subject_id"].to_numpy(),
            tuple(document["history"]),
            document["record_version"],
        )
    except InputError:
        raise
    except Exception as error:  # whatever a damaged file makes a reader raise, the remedy is the same
        raise InputError(f"{path} is damaged ({type(error).__name__}); pre-train again") from error
