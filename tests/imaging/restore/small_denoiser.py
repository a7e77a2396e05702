"""A tiny restoration model in a folder, which tests of restoration share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from careloop.imaging.restore.model import RestorationFile, RestorationModel, write_restoration


def small_model(folder: Path, **facts: Any) -> RestorationModel:
    """Random weights of a small network."""
    from careloop.imaging.restore.network import Denoiser, DenoiserSizes, initialize

    sizes = DenoiserSizes((4, 8), 1, facts.get("level_maps", 1))
    network = Denoiser(sizes)
    initialize(network, 0)
    said: dict[str, Any] = {
        "name": "small", "degradation": "gaussian noise", "features": sizes.features, "deepest_blocks": 1,
        "levels": (0.0, 0.2), "weights": "", "intended_use": "tests",
    }  # fmt: skip
    return write_restoration(network, RestorationFile(**(said | facts)), folder)
