"""What a classification network is made of, in words that model.json can hold, and the published sizes by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from careloop import InputError


@dataclass(frozen=True)
class ResNetShape:
    """A residual network: blocks a stage (`depths`), features of each stage's 3x3 convolutions, and the stem.

    He et al. 2016 (CVPR), table 1. `bottleneck` blocks end in four times the features. The first stage keeps the stem's
    resolution, each later one halves it. `pool`: the stem ends in max pooling by two. `mean_image` (of every family):
    the size of the images whose mean is taken off, empty where none is (`ImageClassifier`).
    """

    family: Literal["resnet"]
    dimensions: int
    block: Literal["basic", "bottleneck"]
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    stem_kernel: int = 7
    stem_stride: int = 2
    pool: bool = True
    mean_image: tuple[int, ...] = ()


@dataclass(frozen=True)
class DenseNetShape:
    """A densely connected network: layers a block, features that each layer adds, and the stem.

    Huang et al. 2017 (CVPR), table 1: bottleneck of 4 times the growth, compression by half.
    """

    family: Literal["densenet"]
    dimensions: int
    depths: tuple[int, ...]
    growth: int
    stem_width: int
    stem_kernel: int = 7
    stem_stride: int = 2
    pool: bool = True
    mean_image: tuple[int, ...] = ()


@dataclass(frozen=True)
class TransformersShape:
    """A network of the library transformers: `config` is what its config.json says, `model_type` among it.

    `pooling`: the embedding is the `average` of the patches or that of the class `token`, from which Grad-CAM can
    compute nothing, as no place in the last maps acts on it.
    """

    family: Literal["transformers"]
    dimensions: int
    config: dict[str, Any]
    pooling: Literal["average", "token"] = "average"
    mean_image: tuple[int, ...] = ()


# Keys of a config.json of transformers that are not the network's shape; `auto_map` would name code to be run.
OF_NO_NETWORK = ("auto_map", "transformers_version", "architectures", "torch_dtype", "dtype", "_name_or_path",
                 "id2label", "label2id", "num_labels")  # fmt: skip

Shape = ResNetShape | DenseNetShape | TransformersShape
FAMILIES: dict[str, type[Shape]] = {"resnet": ResNetShape, "densenet": DenseNetShape, "transformers": TransformersShape}

_RESNET = {"family": "resnet", "widths": (64, 128, 256, 512)}
_CONVNEXT = {"model_type": "convnext", "patch_size": 4, "layer_norm_eps": 1e-6}
_VIT = {"model_type": "vit", "image_size": 224, "patch_size": 16, "num_hidden_layers": 12, "layer_norm_eps": 1e-6}
_SMALL_STEM = {"stem_kernel": 3, "stem_stride": 1, "pool": False}
DEFAULT = "resnet-small"
ARCHITECTURES: dict[str, dict[str, Any]] = {
    # For images of 28 to 64 voxels an axis: not made smaller before the first block (He et al., section 4.2)
    "resnet-small": {"family": "resnet", "block": "basic", "depths": (2, 2, 2), "widths": (32, 64, 128)} | _SMALL_STEM,
    "resnet18": _RESNET | {"block": "basic", "depths": (2, 2, 2, 2)},
    "resnet34": _RESNET | {"block": "basic", "depths": (3, 4, 6, 3)},
    "resnet50": _RESNET | {"block": "bottleneck", "depths": (3, 4, 6, 3)},
    "densenet-small": {"family": "densenet", "depths": (6, 6, 6), "growth": 16, "stem_width": 32} | _SMALL_STEM,
    "densenet121": {"family": "densenet", "depths": (6, 12, 24, 16), "growth": 32, "stem_width": 64},
    # Liu et al. 2022 (CVPR); atto is timm's smallest
    "convnext-atto": {
        "family": "transformers",
        "config": _CONVNEXT | {"hidden_sizes": [40, 80, 160, 320], "depths": [2, 2, 6, 2]},
    },
    "convnext-tiny": {
        "family": "transformers",
        "config": _CONVNEXT | {"hidden_sizes": [96, 192, 384, 768], "depths": [3, 3, 9, 3]},
    },
    # Dosovitskiy et al. 2021 (ICLR); tiny and small are those of Touvron et al. 2021 (ICML)
    "vit-tiny": {
        "family": "transformers",
        "config": _VIT | {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768},
    },
    "vit-small": {
        "family": "transformers",
        "config": _VIT | {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536},
    },
    "vit-base": {
        "family": "transformers",
        "config": _VIT | {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
    },
}
# Three times as many weights in a kernel: narrower, so that the small networks stay below a million in space too.
_IN_SPACE: dict[str, dict[str, Any]] = {
    "resnet-small": {"widths": (16, 32, 64)},
    "densenet-small": {"growth": 12, "stem_width": 24},
}


def shape_of(architecture: Mapping[str, Any]) -> Shape:
    """The whole shape that an architecture names.

    `{"name": "resnet18", "dimensions": 3}` is one of `ARCHITECTURES` in 2 (default) or 3 dimensions; further keys
    change its shape (`{"name": "resnet-small", "stem_stride": 2}`), and those of `config` single values of it. Without
    a name, `family` and all else is stated.

    Raises:
        InputError: no such name or key, a value of another type, or a transformers network in 3 dimensions.
    """
    from pydantic import TypeAdapter, ValidationError

    stated = dict(architecture)
    name, dimensions = str(stated.pop("name", "")), stated.get("dimensions", 2)
    if name and name not in ARCHITECTURES:
        raise InputError(f"A network must be one of {', '.join(ARCHITECTURES)}, got '{name}'")
    if dimensions not in (2, 3):
        raise InputError(f"A network must have 2 or 3 dimensions, got {dimensions!r}")
    named = ARCHITECTURES.get(name, {}) | (_IN_SPACE.get(name, {}) if dimensions == 3 else {})
    merged = {"dimensions": dimensions} | named | stated
    if name and "config" in stated:  # of a named network's config some values are changed, the others stay
        merged["config"] = named.get("config", {}) | stated["config"]
    family = FAMILIES.get(str(merged.get("family")))
    if family is None:
        raise InputError(f"A network must have a name or a family ({', '.join(FAMILIES)}), got {sorted(stated)}")
    unknown = sorted(set(merged) - {field.name for field in fields(family)})
    if unknown:
        raise InputError(f"A network of family {merged['family']} has no {', '.join(unknown)}; leave it out")
    try:
        shape: Shape = TypeAdapter(family).validate_python(merged)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"The network's {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if shape.mean_image and len(shape.mean_image) != dimensions:
        raise InputError(f"The network's mean_image must have {dimensions} axes, got {shape.mean_image}")
    if isinstance(shape, TransformersShape) and dimensions == 3:
        raise InputError(f"{name or 'The network'} takes pictures only; in 3 dimensions use ResNet or DenseNet")
    return shape
