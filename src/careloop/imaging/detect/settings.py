"""How a detector is trained, as a user writes it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class DetectionSettings(BaseModel):
    """How a detector is trained; `patch` and `spacing_mm` have two axes for pictures and three for volumes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    patch: tuple[int, ...] | None = Field(
        default=None, description="Voxels that the network sees at once; the median image, at most 256^2 or 64^3."
    )
    spacing_mm: tuple[float, ...] | None = Field(
        default=None, description="Spacing that images are resampled to; the median of training images."
    )
    window: tuple[float, float] | None = Field(
        default=None,
        description="Values cut off below and above, such as -1000 and 400 HU; else the image's own spread.",
    )
    features: int = Field(
        default=16, ge=4, description="Features of the network's finest stage; they double downwards."
    )
    epochs: int = Field(default=40, ge=1, description="Epochs at most.")
    steps: int = Field(default=50, ge=1, description="Batches an epoch.")
    batch_size: int | None = Field(default=None, ge=1, description="Patches a batch; 16 pictures or 2 blocks.")
    patience: int = Field(default=10, ge=1, description="Epochs without a better tuning loss that end training.")
    learning_rate: float = Field(default=1e-2, gt=0, description="Highest learning rate of AdamW.")
    mirror: bool = Field(default=True, description="Mirror training patches along every axis at random.")
    seed: int = Field(default=0, ge=0, description="Seed of everything random.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="cpu, cuda, or auto.")
    precision: str | None = Field(
        default=None, description="As Lightning Fabric names it; bf16-mixed where the processor computes in it."
    )
    threads: int = Field(default=1, ge=1, description="CPU threads.")
    name: str = Field(default="detector", description="The model's name.")
