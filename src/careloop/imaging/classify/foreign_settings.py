"""What folders of other libraries say about a network beside its weights: its architecture, and how images go in."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

from careloop import InputError
from careloop.imaging.classify.architecture import OF_NO_NETWORK
from careloop.imaging.classify.model import InputFormat, Intensities

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
EIGHT_BITS = Intensities("range", 0.0, 255.0)
# torchxrayvision's utils.normalize: 0 to 255 becomes -1024 to 1024.
TORCHXRAYVISION = InputFormat((224, 224), 1, EIGHT_BITS, mean=(0.5,), std=(1 / 2048,))

# timm's names of ConvNeXt (features of the first stage, blocks of the third) and of ViT.
CONVNEXT = {"atto": (40, 6), "femto": (48, 6), "pico": (64, 6), "nano": (80, 8), "tiny": (96, 9), "small": (96, 27),
            "base": (128, 27), "large": (192, 27)}  # fmt: skip
VIT = re.compile(r"(?:vit|deit)_(tiny|small|base)_patch(\d+)_(\d+)")
NAMED = re.compile(r"(resnet18|resnet34|resnet50|densenet121)")


def library_of(folder: Path) -> Literal["transformers", "timm", "torchxrayvision", ""]:
    """Which library a folder is of, by its config.json; empty where there is none or it says something else."""
    if not (folder / CONFIG).is_file():
        return ""
    stated = read_config(folder)
    if any("torchxrayvision" in str(stated.get(key, "")) for key in ("library", "library_name", "model_type")):
        return "torchxrayvision"
    if "model_type" in stated:
        return "transformers"
    return "timm" if "architecture" in stated else ""


def read_config(folder: Path, name: str = CONFIG) -> dict[str, Any]:
    """What a JSON file of the folder says; InputError where it cannot be read."""
    try:
        return dict(json.loads((folder / name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{folder / name} cannot be read as a JSON object; fetch the folder again") from error


def architecture_of(path: Path) -> dict[str, Any] | None:
    """The architecture (see `shape_of`) that a folder states; None where it states none.

    A vision transformer keeps deciding by its class token where its head did; with `pooling: average` in place of
    `token` it can be explained by Grad-CAM.
    """
    from careloop.imaging.classify.model import is_classifier, read_classifier

    if is_classifier(path):
        return dict(read_classifier(path).said.architecture)
    library = library_of(path)
    if library == "transformers":
        stated = {key: value for key, value in read_config(path).items() if key not in OF_NO_NETWORK}
        tokens = str(stated["model_type"]) in ("vit", "dinov2")
        return {"family": "transformers", "config": stated, "pooling": "token" if tokens else "average"}
    if library == "timm":
        return _of_timm(read_config(path))
    return {"name": "densenet121"} if library == "torchxrayvision" else None


def _of_timm(stated: dict[str, Any]) -> dict[str, Any]:
    name = str(stated["architecture"])
    if NAMED.fullmatch(name):
        return {"name": name}
    convnext = name.removeprefix("convnext_")
    if name.startswith("convnext_") and convnext in CONVNEXT:
        width, blocks = CONVNEXT[convnext]
        depths = [2, 2, blocks, 2] if blocks < 9 else [3, 3, blocks, 3]
        config = {"hidden_sizes": [width, 2 * width, 4 * width, 8 * width], "depths": depths}
        return {"name": "convnext-tiny", "config": config}
    vit = VIT.fullmatch(name)
    if vit:
        pooling = "token" if stated.get("global_pool", "token") == "token" else "average"
        return {
            "name": f"vit-{vit[1]}",
            "config": {"patch_size": int(vit[2]), "image_size": int(vit[3])},
            "pooling": pooling,
        }
    raise InputError(f"timm's {name} is not known here; take a resnet18, 34 or 50, densenet121, convnext or vit")


def input_format_of(path: Path) -> InputFormat | None:
    """How images go into the network of a folder; None where it does not say."""
    from careloop.imaging.classify.model import is_classifier, read_classifier

    if is_classifier(path):
        return read_classifier(path).said.input
    library = library_of(path)
    if library == "torchxrayvision":
        return TORCHXRAYVISION
    if library == "timm":
        stated = read_config(path)
        stated = stated.get("pretrained_cfg") or stated
        channels, *size = stated.get("input_size", (3, 224, 224))
        return _of_pictures(channels, size, stated.get("mean"), stated.get("std"))
    if library == "transformers" and (path / PREPROCESSOR).is_file():
        stated = read_config(path, PREPROCESSOR)
        size = stated.get("crop_size") if stated.get("do_center_crop") else stated.get("size")
        if stated.get("do_normalize", True):
            return _of_pictures(3, _lengths(size or 224), stated.get("image_mean"), stated.get("image_std"))
        return _of_pictures(3, _lengths(size or 224), None, None)
    return None


def _lengths(size: Any) -> list[int]:
    """Rows and columns of a size as the library's versions write it."""
    if isinstance(size, dict):
        edge = int(size.get("shortest_edge") or 224)
        return [int(size.get(side) or edge) for side in ("height", "width")]
    return [int(size), int(size)] if isinstance(size, int) else [int(length) for length in size]


def _of_pictures(channels: int, size: list[int], mean: Any, std: Any) -> InputFormat:
    scale = [tuple(float(v) for v in values) if values else (d,) for values, d in ((mean, 0.0), (std, 1.0))]
    return InputFormat(tuple(size), channels, EIGHT_BITS, mean=scale[0], std=scale[1])
