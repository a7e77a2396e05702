"""Names of weights as other libraries write them, turned into those of the networks here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from careloop.imaging.classify.image_classifier import ImageClassifier

if TYPE_CHECKING:
    import torch

    Weights = dict[str, torch.Tensor]

# Pattern and replacement, in their order; the marks say of which library's names they are.
DENSENET = (
    (r"(denselayer\d+)\.layers\.", r"\1."),  # MONAI
    (r"^class_layers\.out\.", "classifier."),  # MONAI
    (r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),  # torchvision's and timm's first files
)
TIMM_CONVNEXT = (
    (r"^stem\.0\.", "embeddings.patch_embeddings."),
    (r"^stem\.1\.", "embeddings.layernorm."),
    (r"^stages\.(\d+)\.downsample\.", r"encoder.stages.\1.downsampling_layer."),
    (r"^stages\.(\d+)\.blocks\.", r"encoder.stages.\1.layers."),
    (r"\.conv_dw\.", ".dwconv."),
    (r"(layers\.\d+)\.norm\.", r"\1.layernorm."),
    (r"\.mlp\.fc([12])\.", r".pwconv\1."),
    (r"\.mlp\.grn\.", ".grn."),
    (r"\.gamma$", ".layer_scale_parameter"),
    (r"^head\.norm\.", "layernorm."),
    (r"^head\.fc\.", "classifier."),
)
TIMM_VIT = (
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^blocks\.", "layers."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"^(?:fc_)?norm\.", "layernorm."),
    (r"^head\.", "classifier."),
)
FUSED = re.compile(r"(.*)\.attn\.qkv\.(weight|bias)")  # timm's query, key and value in one
FIRST_OF_TIMM = {"stem.0": TIMM_CONVNEXT, "patch_embed.proj": TIMM_VIT}


def renamed(weights: Weights, network: ImageClassifier) -> Weights:
    """The weights under the network's names as far as a rule is known; what no rule is known for keeps its name.

    A prefix that a wrapper put before the first layer (`module.`, `model.`, `vit.`) is taken off all names.
    """
    first, inner = network.first_name, "body." if network.first_name.startswith("body.") else ""
    prefix, found_first = _prefix(weights, [first.removeprefix(inner), *(FIRST_OF_TIMM if inner else ())])
    plain = {name.removeprefix(prefix): value for name, value in weights.items()}
    rules = FIRST_OF_TIMM.get(found_first, DENSENET if network.head_name == "classifier" and not inner else ())
    out: Weights = {}
    for name, value in plain.items():
        fused = FUSED.fullmatch(name)
        parts = {name: value}
        if fused and len(value) % 3 == 0:
            layer = fused[1].replace("blocks.", "layers.", 1)
            names = [f"{layer}.attention.{part}_proj.{fused[2]}" for part in "qkv"]
            parts = dict(zip(names, value.chunk(3), strict=True))
        for part, tensor in parts.items():
            for pattern, replacement in rules:
                part = re.sub(pattern, replacement, part)
            of_body = not part.startswith((f"{network.head_name}.", "body."))
            out[f"{inner}{part}" if of_body else part] = tensor
    return out


def _prefix(weights: Weights, firsts: list[str]) -> tuple[str, str]:
    """What stands before the first layer's name, and which of its names it has; empty where none is there."""
    for first in firsts:
        ending = f"{first}.weight"
        fitting = [n.removesuffix(ending) for n in weights if n == ending or n.endswith(f".{ending}")]
        if fitting:
            return min(fitting, key=len), first
    return "", ""
