"""U-Nets with a plain or a residual encoder in two and three dimensions, parameter for parameter those of nnU-Net.

The arithmetic and the names of parameters are those of dynamic_network_architectures 0.4 (Isensee et al., German
Cancer Research Center, Apache-2.0), so that weights trained by nnU-Net v2 load here and the other way round.
Sources: Isensee et al. 2021, nnU-Net (Nature Methods 18); Isensee et al. 2024, nnU-Net Revisited (MICCAI), for the
residual encoder, whose blocks are ResNet-D's (He et al. 2019, Bag of Tricks, section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import nn

from careloop import InputError

LEAK = 0.01  # slope of the leaky ReLU for which initial weights are scaled

# What a plans file may name. Nothing else is ever looked up, and no class path from a file is imported.
CONVOLUTIONS: dict[str, type[nn.Conv2d] | type[nn.Conv3d]] = {"Conv2d": nn.Conv2d, "Conv3d": nn.Conv3d}
NORMS: dict[str, type[nn.Module]] = {
    "InstanceNorm2d": nn.InstanceNorm2d,
    "InstanceNorm3d": nn.InstanceNorm3d,
    "BatchNorm2d": nn.BatchNorm2d,
    "BatchNorm3d": nn.BatchNorm3d,
}
DROPOUTS: dict[str, type[nn.Module]] = {"Dropout": nn.Dropout, "Dropout2d": nn.Dropout2d, "Dropout3d": nn.Dropout3d}
NONLINEARITIES: dict[str, type[nn.Module]] = {
    "LeakyReLU": nn.LeakyReLU,
    "ReLU": nn.ReLU,
    "PReLU": nn.PReLU,
    "ELU": nn.ELU,
    "GELU": nn.GELU,
    "SiLU": nn.SiLU,
    "Mish": nn.Mish,
}
TRANSPOSED = {nn.Conv2d: nn.ConvTranspose2d, nn.Conv3d: nn.ConvTranspose3d}
POOLS = {nn.Conv2d: nn.AvgPool2d, nn.Conv3d: nn.AvgPool3d}


@dataclass(frozen=True)
class Layers:
    """What every block is made of: the convolution's class, and makers of the layers that follow it, None for none."""

    conv: type[nn.Conv2d] | type[nn.Conv3d]
    bias: bool
    norm: Callable[[int], nn.Module] | None
    dropout: Callable[[], nn.Module] | None
    nonlin: Callable[[], nn.Module] | None
    nonlin_first: bool = False

    @property
    def dims(self) -> int:
        """2 or 3."""
        return 2 if self.conv is nn.Conv2d else 3

    @property
    def linear(self) -> Layers:
        """Convolution and normalisation only, as at the end of a residual path."""
        return replace(self, dropout=None, nonlin=None)


@dataclass(frozen=True)
class Stages:
    """Sizes by resolution, the finest first: features, kernels and strides (an axis each), convolutions or blocks."""

    features: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    depths: tuple[int, ...]
    decoder_depths: tuple[int, ...]


class ConvBlock(nn.Module):
    """Convolution, dropout, normalisation, nonlinearity, each but the first where `layers` has it."""

    def __init__(
        self, layers: Layers, inputs: int, outputs: int, *, kernel: Sequence[int], stride: Sequence[int]
    ) -> None:
        super().__init__()
        padding = [(k - 1) // 2 for k in kernel]
        self.conv = layers.conv(inputs, outputs, tuple(kernel), tuple(stride), tuple(padding), bias=layers.bias)  # type: ignore[arg-type]
        steps: list[nn.Module] = [self.conv]
        if layers.dropout is not None:
            self.dropout = layers.dropout()
            steps.append(self.dropout)
        if layers.norm is not None:
            self.norm = layers.norm(outputs)
            steps.append(self.norm)
        if layers.nonlin is not None:
            self.nonlin = layers.nonlin()
            steps.append(self.nonlin)
        if layers.nonlin_first and layers.norm is not None and layers.nonlin is not None:
            steps[-2], steps[-1] = steps[-1], steps[-2]
        self.all_modules = nn.Sequential(*steps)  # nnU-Net saves every parameter under this name too

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, inputs, *size) to (n, outputs, *size / stride)."""
        return cast("torch.Tensor", self.all_modules(x))


class ConvBlocks(nn.Module):
    """`depth` blocks one after the other, the first with the stride."""

    def __init__(
        self, layers: Layers, inputs: int, outputs: int, *, depth: int, kernel: Sequence[int], stride: Sequence[int]
    ) -> None:
        super().__init__()
        ones = (1,) * layers.dims
        self.convs = nn.Sequential(
            ConvBlock(layers, inputs, outputs, kernel=kernel, stride=stride),
            *[ConvBlock(layers, outputs, outputs, kernel=kernel, stride=ones) for _ in range(depth - 1)],
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, inputs, *size) to (n, outputs, *size / stride)."""
        return cast("torch.Tensor", self.convs(x))


class ResidualBlock(nn.Module):
    """Two convolutions added to their input, which is pooled and projected where sizes differ (ResNet-D)."""

    def __init__(
        self, layers: Layers, inputs: int, outputs: int, *, kernel: Sequence[int], stride: Sequence[int]
    ) -> None:
        super().__init__()
        ones = (1,) * layers.dims
        self.conv1 = ConvBlock(layers, inputs, outputs, kernel=kernel, stride=stride)
        self.conv2 = ConvBlock(layers.linear, outputs, outputs, kernel=kernel, stride=ones)
        self.nonlin2 = layers.nonlin() if layers.nonlin is not None else nn.Identity()
        skip: list[nn.Module] = []
        if any(s != 1 for s in stride):
            skip.append(POOLS[layers.conv](tuple(stride), tuple(stride)))  # type: ignore[arg-type]
        if inputs != outputs:
            skip.append(ConvBlock(replace(layers.linear, bias=False), inputs, outputs, kernel=ones, stride=ones))
        self.skip = nn.Sequential(*skip)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, inputs, *size) to (n, outputs, *size / stride)."""
        return cast("torch.Tensor", self.nonlin2(self.conv2(self.conv1(x)) + self.skip(x)))


class ResidualBlocks(nn.Module):
    """`depth` residual blocks one after the other, the first with the stride."""

    def __init__(
        self, layers: Layers, inputs: int, outputs: int, *, depth: int, kernel: Sequence[int], stride: Sequence[int]
    ) -> None:
        super().__init__()
        ones = (1,) * layers.dims
        self.blocks = nn.Sequential(
            ResidualBlock(layers, inputs, outputs, kernel=kernel, stride=stride),
            *[ResidualBlock(layers, outputs, outputs, kernel=kernel, stride=ones) for _ in range(depth - 1)],
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, inputs, *size) to (n, outputs, *size / stride)."""
        return cast("torch.Tensor", self.blocks(x))


class PlainEncoder(nn.Module):
    """Stacks of convolutions, each after the first with a stride; returns the features of every stage."""

    def __init__(self, layers: Layers, sizes: Stages, channels: int) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        inputs = channels
        for outputs, kernel, stride, depth in zip(
            sizes.features, sizes.kernels, sizes.strides, sizes.depths, strict=True
        ):
            blocks = ConvBlocks(layers, inputs, outputs, depth=depth, kernel=kernel, stride=stride)
            stages.append(nn.Sequential(blocks))
            inputs = outputs
        self.stages = nn.Sequential(*stages)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Features of every stage, the finest first."""
        skips = []
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        return skips


class ResidualEncoder(nn.Module):
    """A stem of one convolution, then stacks of residual blocks; returns the features of every stage."""

    def __init__(self, layers: Layers, sizes: Stages, channels: int, stem: int) -> None:
        super().__init__()
        ones = (1,) * layers.dims
        self.stem = ConvBlocks(layers, channels, stem, depth=1, kernel=sizes.kernels[0], stride=ones)
        stages: list[nn.Module] = []
        inputs = stem
        for outputs, kernel, stride, depth in zip(
            sizes.features, sizes.kernels, sizes.strides, sizes.depths, strict=True
        ):
            stages.append(ResidualBlocks(layers, inputs, outputs, depth=depth, kernel=kernel, stride=stride))
            inputs = outputs
        self.stages = nn.Sequential(*stages)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Features of every stage, the finest first."""
        x = self.stem(x)
        skips = []
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        return skips


class Decoder(nn.Module):
    """From the coarsest features upwards: transposed convolution, the encoder's features beside it, convolutions.

    Every stage has its own scores; with `deep_supervision`, training gets all of them, the finest first.
    """

    def __init__(self, encoder: nn.Module, layers: Layers, sizes: Stages, outputs: int) -> None:
        super().__init__()
        self.deep_supervision = False
        self.encoder = encoder  # nnU-Net saves the encoder's parameters under the decoder too
        ones = (1,) * layers.dims
        stages, ups, scores = [], [], []
        for i, depth in enumerate(sizes.decoder_depths, start=1):
            below, beside = sizes.features[-i], sizes.features[-i - 1]
            stride, kernel = sizes.strides[-i], sizes.kernels[-i - 1]
            ups.append(TRANSPOSED[layers.conv](below, beside, stride, stride, bias=layers.bias))  # type: ignore[arg-type]
            stages.append(ConvBlocks(layers, 2 * beside, beside, depth=depth, kernel=kernel, stride=ones))
            scores.append(layers.conv(beside, outputs, 1, 1, 0, bias=True))
        self.stages = nn.ModuleList(stages)
        self.transpconvs = nn.ModuleList(ups)
        self.seg_layers = nn.ModuleList(scores)

    def forward(self, skips: list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
        """Scores from the features of every stage."""
        x = skips[-1]
        scores: list[torch.Tensor] = []
        wants_all = self.deep_supervision and self.training
        for i, stage in enumerate(self.stages):
            x = stage(torch.cat((self.transpconvs[i](x), skips[-i - 2]), 1))
            if wants_all:
                scores.append(self.seg_layers[i](x))
        return scores[::-1] if wants_all else cast("torch.Tensor", self.seg_layers[-1](x))


class UNet(nn.Module):
    """An encoder and a decoder; (n, channels, *patch) becomes (n, outputs, *patch) scores before any softmax.

    In training with `decoder.deep_supervision`, a list of scores: the patch's own resolution, then each coarser one.
    """

    def __init__(self, encoder: nn.Module, layers: Layers, sizes: Stages, outputs: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = Decoder(encoder, layers, sizes, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Scores of patches."""
        return cast("torch.Tensor | list[torch.Tensor]", self.decoder(self.encoder(x)))


class PlainConvUNet(UNet):
    """nnU-Net's U-Net of 2021."""

    def __init__(self, layers: Layers, sizes: Stages, *, channels: int, outputs: int) -> None:
        super().__init__(PlainEncoder(layers, sizes, channels), layers, sizes, outputs)


class ResidualEncoderUNet(UNet):
    """nnU-Net's U-Net with a residual encoder (ResEnc); `stem` is the number of features before its first stage."""

    def __init__(self, layers: Layers, sizes: Stages, *, channels: int, outputs: int, stem: int | None = None) -> None:
        super().__init__(ResidualEncoder(layers, sizes, channels, stem or sizes.features[0]), layers, sizes, outputs)


def initialize(network: nn.Module) -> None:
    """Set weights as nnU-Net does before training: He et al. 2015 for a leaky ReLU, residual paths silent at first."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.kaiming_normal_(module.weight, a=LEAK)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, ResidualBlock) and isinstance(getattr(module.conv2, "norm", None), nn.Module):
            nn.init.zeros_(cast("torch.Tensor", module.conv2.norm.weight))
            nn.init.zeros_(cast("torch.Tensor", module.conv2.norm.bias))


def build_unet(architecture: Mapping[str, Any], *, channels: int, outputs: int) -> UNet:
    """The network that a configuration of nnU-Net's plans describes, with torch's initial weights.

    `architecture` is the plans' `architecture` (`network_class_name`, `arch_kwargs`), or a whole configuration of the
    plans before nnU-Net 2.5 (`UNet_class_name` and its companions). `arch_kwargs` may set `deep_supervision`.
    Raises InputError for a class or a setting that is not known here.
    """
    if "UNet_class_name" in architecture:
        architecture = _from_older_plans(architecture)
    name = str(architecture.get("network_class_name", ""))
    given = dict(architecture.get("arch_kwargs", {}))
    residual = name.endswith(".ResidualEncoderUNet") or name == "ResidualEncoderUNet"
    if not residual and not name.endswith(".PlainConvUNet") and name != "PlainConvUNet":
        raise InputError(f"plans.json: network_class_name must be PlainConvUNet or ResidualEncoderUNet, got {name!r}")
    layers = _layers(given)
    sizes = _stages(given, layers.dims, "n_blocks_per_stage" if residual else "n_conv_per_stage")
    deep_supervision, stem = bool(given.pop("deep_supervision", False)), given.pop("stem_channels", None)
    unknown = sorted(key for key, value in given.items() if value is not None)
    if unknown:
        raise InputError(f"plans.json: arch_kwargs has settings that are not known here: {', '.join(unknown)}")
    network: UNet
    if residual:
        network = ResidualEncoderUNet(layers, sizes, channels=channels, outputs=outputs, stem=stem)
    else:
        network = PlainConvUNet(layers, sizes, channels=channels, outputs=outputs)
    network.decoder.deep_supervision = deep_supervision
    return network


def _layers(given: dict[str, Any]) -> Layers:
    """Take the settings of layers out of `given`."""
    makers = {}
    for key, known in (("norm_op", NORMS), ("dropout_op", DROPOUTS), ("nonlin", NONLINEARITIES)):
        path, settings = given.pop(key, None), given.pop(f"{key}_kwargs", None) or {}
        makers[key] = None if path is None else partial(_known(path, known, key), **settings)
    return Layers(
        conv=_known(given.pop("conv_op", None), CONVOLUTIONS, "conv_op"),
        bias=bool(given.pop("conv_bias", False)),
        norm=makers["norm_op"],
        dropout=makers["dropout_op"],
        nonlin=makers["nonlin"],
        nonlin_first=bool(given.pop("nonlin_first", False)),
    )


def _known(path: Any, known: Mapping[str, Any], key: str) -> Any:
    """The class that a path such as `torch.nn.modules.conv.Conv3d` names, from the list of those allowed."""
    module, _, name = str(path).rpartition(".")
    if not (module == "torch.nn" or module.startswith("torch.nn.modules.")) or name not in known:
        raise InputError(f"plans.json: {key} must be one of torch.nn's {', '.join(known)}, got {str(path)!r}")
    return known[name]


def _stages(given: dict[str, Any], dims: int, depths_key: str) -> Stages:
    """Take the sizes of stages out of `given`; one number stands for all stages, and in a stage for all axes."""
    try:
        count = int(given.pop("n_stages"))
        kernels = _for_each(given.pop("kernel_sizes"), count, "kernel_sizes")
        strides = _for_each(given.pop("strides"), count, "strides")
        return Stages(
            features=tuple(_for_each(given.pop("features_per_stage"), count, "features_per_stage")),
            kernels=tuple(tuple(_for_each(k, dims, "kernel_sizes")) for k in kernels),
            strides=tuple(tuple(_for_each(s, dims, "strides")) for s in strides),
            depths=tuple(_for_each(given.pop(depths_key), count, depths_key)),
            decoder_depths=tuple(
                _for_each(given.pop("n_conv_per_stage_decoder"), count - 1, "n_conv_per_stage_decoder")
            ),
        )
    except KeyError as missing:
        raise InputError(f"plans.json: arch_kwargs lacks {missing}") from None


def _for_each(value: Any, count: int, key: str) -> list[Any]:
    values = list(value) if isinstance(value, Sequence) else [value] * count
    if len(values) != count:
        raise InputError(f"plans.json: {key} must have {count} entries, got {len(values)}")
    return values


def _from_older_plans(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """`architecture` from a configuration of the plans before nnU-Net 2.5 (as its ConfigurationManager rebuilds it)."""
    name = configuration["UNet_class_name"]
    depths = configuration["n_conv_per_stage_encoder"]
    kernels = configuration["conv_kernel_sizes"]
    dims = len(kernels[0])
    first, most = configuration["UNet_base_num_features"], configuration["unet_max_num_features"]
    return {
        "network_class_name": name,
        "arch_kwargs": {
            "n_stages": len(depths),
            "features_per_stage": [min(first * 2**i, most) for i in range(len(depths))],
            "conv_op": f"torch.nn.Conv{dims}d",
            "kernel_sizes": kernels,
            "strides": configuration["pool_op_kernel_sizes"],
            "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage": depths,
            "n_conv_per_stage_decoder": configuration["n_conv_per_stage_decoder"],
            "conv_bias": True,
            "norm_op": f"torch.nn.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
    }
