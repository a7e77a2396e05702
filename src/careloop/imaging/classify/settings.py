"""How an image classifier is trained; whatever is left out follows from the data and the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from careloop.imaging.classify.data.table import Columns

DEFAULT_MINUTES = {"cpu": 20.0, "cuda": 60.0}
MOST_EPOCHS = 100  # however quick an epoch is
SHORTEST_PATIENCE = 5  # epochs


class ClassifierSettings(BaseModel):
    """What a user writes to train a classifier."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    labels: tuple[str, ...] = Field(default=(), description="Columns of 0 and 1 that are labels; all others if empty.")
    groups: tuple[str, ...] = Field(default=(), description="Columns that divide the held-out rows for evaluation.")
    split_by: Literal["subject", "file"] = Field(
        default="subject", description="What is never in two splits; `file` where nobody knows whose the images are."
    )
    duplicates: Literal["refuse", "leave out"] = Field(
        default="refuse", description="What is done where stated splits share an image."
    )
    names: tuple[str, ...] | None = Field(default=None, description="Names of a MedMNIST file's labels, in order.")
    modality: str = Field(default="", description="DICOM's modality of a MedMNIST file's images, such as CT or DX.")
    body_parts: tuple[str, ...] = Field(default=(), description="Body parts that images show, where files do not say.")
    size: tuple[int, ...] | None = Field(
        default=None, description="Rows and columns (or slices, rows, columns) that images are brought to."
    )
    architecture: str | dict[str, Any] | None = Field(
        default=None,
        description="A network's name, or all of its shape; that of the pretrained weights' folder, or resnet-small.",
    )
    pretrained: Path | None = Field(default=None, description="File or folder of weights to start from.")
    frozen_epochs: int = Field(
        default=3, ge=0, description="Epochs in which only the head learns, before all of a pretrained network does."
    )
    augmentation: Literal["small", "none"] = Field(
        default="small", description="Small shifts, rotations, scales and intensities of training images, or none."
    )
    mirror: Literal["never", "left-right"] = Field(
        default="never", description="`left-right` only where the image's sides mean nothing."
    )
    mean_image: bool = Field(
        default=False,
        description="The mean training image is taken off each: for images with the same things in the same places.",
    )
    minutes: float | None = Field(
        default=None, gt=0, description="Time to train the network: 20 on a CPU, 60 on a GPU."
    )
    epochs: int | None = Field(default=None, ge=1, description="Epochs, instead of as many as fit into the minutes.")
    batch_size: int = Field(default=64, ge=2, description="Images of a batch.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Highest learning rate of AdamW.")
    weight_decay: float = Field(default=0.01, ge=0, description="Of AdamW.")
    patience: int | None = Field(
        default=None, ge=1, description="Epochs without a better tuning loss that end training; a third of all."
    )
    conformal_level: float = Field(default=0.9, ge=0.5, lt=1, description="How often a label set is to hold the truth.")
    false_refusals: float = Field(
        default=0.05, gt=0, lt=1, description="Part of images like those trained on that may be refused as unlike."
    )
    resamples: int = Field(default=1000, ge=100, le=100_000, description="Bootstrap resamples of subjects.")
    seed: int = Field(default=0, ge=0, description="Seed of everything random.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="cpu, cuda, or auto.")
    precision: str | None = Field(
        default=None, description="As Lightning Fabric names it; bf16-mixed where the processor computes in it."
    )
    threads: int | None = Field(default=None, ge=1, description="CPU threads; one or all, whichever is faster.")

    @property
    def columns(self) -> Columns:
        """What of a table is used."""
        return Columns(self.labels, self.groups, self.split_by)
