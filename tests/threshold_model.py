"""A model whose labels are known: a MONAI bundle with a TorchScript network that calls a voxel bright above 0 HU."""

from __future__ import annotations

import json
from pathlib import Path

import torch

PATCH = (16, 32, 32)


class Threshold(torch.nn.Module):
    """Scores of background and bright, from intensities scaled to 0 to 1; a half is the threshold."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.5 - image, image - 0.5], dim=1)


def write_threshold_model(folder: Path, *, name: str = "bright", modality: str = "CT") -> Path:
    """Write the bundle; half of the scaled range from -1000 to 1000 HU is 0 HU."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    metadata = {
        "version": "1.0.0",
        "network_data_format": {
            "inputs": {"image": {"modality": modality, "channel_def": {"0": "image"}}},
            "outputs": {"pred": {"num_channels": 2, "channel_def": {"0": "background", "1": name}}},
        },
    }
    scale = {"_target_": "ScaleIntensityRanged", "a_min": -1000, "a_max": 1000, "b_min": 0, "b_max": 1, "clip": True}
    inference = {
        "preprocessing": {"transforms": [{"_target_": "LoadImaged"}, scale]},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": list(PATCH[::-1]), "overlap": 0.25},
        "postprocessing": {"transforms": [{"_target_": "AsDiscreted", "argmax": True}]},
    }
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    (folder / "configs" / "inference.json").write_text(json.dumps(inference))
    torch.jit.script(Threshold()).save(folder / "models" / "model.ts")
    return folder
