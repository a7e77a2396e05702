"""What torchvision, timm, torchxrayvision and MONAI compute with weights that a rule gives.

Run `python peer_logits.py torchvision timm torchxrayvision monai` in environments that have them. The weights of a
layer depend on its name and shape alone, so that the tests make the same ones without these libraries.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

RESULTS = Path(__file__).with_suffix(".json")
Models = dict[str, tuple[torch.nn.Module, torch.Tensor]]


def fill(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Give every weight a value by its name; returns the state dict."""
    state = module.state_dict()
    for name, value in state.items():
        if value.is_floating_point():
            state[name] = by_name(name, tuple(value.shape))
    module.load_state_dict(state)
    return state


def by_name(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Uniform numbers of variance 1 seeded by the name, scaled as layers of its kind are."""
    drawn = (np.random.default_rng(zlib.crc32(name.encode())).random(shape, dtype=np.float32) - 0.5) * 12**0.5
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        return torch.from_numpy(1 + 0.1 * np.abs(drawn))
    return torch.from_numpy(np.float32(drawn * ((2 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.1)))


def picture(channels: int, size: int = 64) -> torch.Tensor:
    """Two pictures of noise."""
    drawn = np.random.default_rng(8).standard_normal((2, channels, size, size))
    return torch.from_numpy(drawn.astype(np.float32))


def volume(size: int = 32) -> torch.Tensor:
    """A volume of noise."""
    return torch.from_numpy(np.random.default_rng(8).standard_normal((1, 1, *(size,) * 3)).astype(np.float32))


def described(module: torch.nn.Module, x: torch.Tensor) -> dict[str, Any]:
    """Names and shapes (in full where they are not those of the networks here), and the first five logits of x."""
    shapes = {name: list(value.shape) for name, value in fill(module).items()}
    with torch.inference_mode():
        logits = module.eval()(x)[:, :5]
    ours = "conv1.weight" in shapes or "features.conv0.weight" in shapes
    result = {"digest": digest(shapes), "logits": logits.double().numpy().round(6).tolist()}
    return result if ours else result | {"shapes": shapes}


def digest(shapes: dict[str, list[int]]) -> int:
    """One number for names and shapes."""
    return zlib.crc32(json.dumps(sorted(shapes.items())).encode())


def of_torchvision() -> Models:
    """Its networks."""
    from torchvision import models

    made = {name: getattr(models, name)(num_classes=5) for name in ("resnet18", "resnet50", "densenet121")}
    return {name: (module, picture(3)) for name, module in made.items()}


def of_timm() -> Models:
    """Its networks."""
    import timm

    made = {name: timm.create_model(name, num_classes=5) for name in ("resnet18", "densenet121", "convnext_atto")}
    made["vit_tiny_patch16_224"] = timm.create_model("vit_tiny_patch16_224", num_classes=5, img_size=64)
    return {name: (module, picture(3)) for name, module in made.items()}


def of_torchxrayvision() -> Models:
    """Its DenseNet of chest radiographs."""
    import torchxrayvision

    return {"densenet121": (torchxrayvision.models.DenseNet(num_classes=18, in_channels=1), picture(1))}


def of_monai() -> Models:
    """Its networks in space."""
    from monai.networks.nets import DenseNet121, resnet18

    space = {"spatial_dims": 3, "conv1_t_stride": 2, "bias_downsample": False}
    return {
        "densenet121": (DenseNet121(spatial_dims=3, in_channels=1, out_channels=5), volume()),
        "resnet18": (resnet18(n_input_channels=1, num_classes=5, **space), volume()),
    }


def main() -> None:
    """Put the results of the libraries that are named on the command line into peer_logits.json."""
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for library in sys.argv[1:]:
        models = globals()[f"of_{library}"]()
        found[f"{library} version"] = importlib.metadata.version(library)
        found |= {f"{library} {name}": described(module, x) for name, (module, x) in models.items()}
    RESULTS.write_text(json.dumps(found, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
