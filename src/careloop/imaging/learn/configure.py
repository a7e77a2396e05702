"""From what a data set is like to a plan: spacing, patch, network and intensities, by the rules of nnU-Net v2.

Sources: Isensee et al. 2021, nnU-Net (Nature Methods 18), online methods and supplementary note 2 (spacing, patch,
pooling, intensities); Isensee et al. 2024, nnU-Net Revisited (MICCAI; residual encoder). nnU-Net fits the patch into a
GPU's memory; here a size says how many voxels a patch may have, and how large the network is, so that a CPU is used
well too: the small size coarsens the grid until a patch sees a fair part of the image, as nnU-Net's 3d_lowres does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import numpy as np

from careloop import InputError
from careloop.imaging.learn.dataset import Dataset, Labels
from careloop.imaging.learn.fingerprint import ORIENTATION, Fingerprint, Intensities
from careloop.imaging.segment.model import Normalization, Preparation, Tiling

SizeName = Literal["small", "medium", "large"]

ANISOTROPY = 3.0  # an axis is coarse where its spacing is above this many times the others'
COARSE_PERCENTILE = 10  # of the spacings along a coarse axis
FIRST_PATCH = {2: 2048, 3: 256}  # voxels an axis from which the patch shrinks
SMALLEST_MAP = 4  # voxels an axis at the coarsest resolution
COARSENING = 1.02
MASKED_NORM_BELOW = 0.75  # images of which cropping keeps less are scaled by their non-zero voxels only


@dataclass(frozen=True)
class Size:
    """How large patches and the network are.

    A patch has at most `patch_voxels` (of three axes) or `patch_pixels` (of two); spacing grows until it covers the
    part `covered` of the median image (0: never). `features` are those of the finest stage; they double up to
    `most_features`. `depths` are residual blocks a stage. A batch has `batch_size` patches of
    three axes, or as many `pictures`. `mirrors`: a short training is not spent on mirrored
    anatomy; a long one is, and only the large model averages over flips when it is run.
    """

    patch_voxels: int
    patch_pixels: int
    covered: float
    features: int
    most_features: int
    depths: tuple[int, ...]
    batch_size: int
    pictures: int
    image_order: int
    mirrors: Literal["never", "training", "always"]


SIZES: dict[SizeName, Size] = {
    "small": Size(80**3, 256**2, 0.2, 8, 96, (1, 1, 2, 2, 2, 2, 2, 2), 1, 4, 1, "never"),
    "medium": Size(96**3, 384**2, 0.1, 24, 256, (1, 2, 3, 4, 4, 4, 4, 4), 2, 8, 3, "training"),
    "large": Size(128**3, 512**2, 0.0, 32, 320, (1, 3, 4, 6, 6, 6, 6, 6), 2, 12, 3, "always"),
}


@dataclass(frozen=True)
class Plan:
    """Everything that training and inference follow; `architecture` is in the words of nnU-Net's plans.

    `patch` and `spacing_mm` have two or three axes. `median_shape` is that of images after preparation.
    """

    size: SizeName
    preparation: Preparation
    tiling: Tiling
    architecture: dict[str, Any]
    batch_size: int
    mirror_axes: tuple[int, ...]
    median_shape: tuple[int, ...]


def make_plan(seen: Fingerprint, dataset: Dataset, *, size: SizeName, spacing_mm: tuple[float, ...] | None) -> Plan:
    """The plan for a data set; `spacing_mm` (slice, row, column; or row, column) replaces the computed one.

    Raises:
        InputError: `spacing_mm` has another number of axes than the images, or is not above 0.
    """
    chosen, dims = SIZES[size], 2 if seen.is_flat else 3
    if spacing_mm is not None and (len(spacing_mm) != dims or min(spacing_mm) <= 0):
        raise InputError(f"spacing_mm must be {dims} numbers above 0 for these images, got {spacing_mm}")
    spacings = np.array(seen.spacings_mm)[:, -dims:]
    shapes = np.array(seen.shapes)[:, -dims:]
    target = target_spacing(spacings, shapes) if spacing_mm is None else np.array(spacing_mm)
    limit = chosen.patch_voxels if dims == 3 else chosen.patch_pixels
    median = np.median(shapes * spacings / target, axis=0).round().astype(int)
    patch, stages = fitted_patch(target, median, limit=limit)
    while spacing_mm is None and prod(patch) / prod(median.tolist()) < chosen.covered:
        finer = target < target.max() / 2
        target = np.where(finer if finer.any() else True, target * COARSENING, target)
        median = np.median(shapes * spacings / target, axis=0).round().astype(int)
        patch, stages = fitted_patch(target, median, limit=limit)
    mirror = () if chosen.mirrors == "never" else _mirror_axes(dataset.labels, dims)
    return Plan(
        size=size,
        preparation=_preparation(seen, dataset, spacing_mm=tuple(target.tolist()), order=chosen.image_order),
        tiling=Tiling(patch, mirror_axes=mirror if chosen.mirrors == "always" else ()),
        architecture=architecture(stages, chosen, dims),
        batch_size=chosen.batch_size if dims == 3 else chosen.pictures,
        mirror_axes=mirror,
        median_shape=tuple(median.tolist()),
    )


def target_spacing(spacings_mm: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """The median spacing of each axis; along a coarse axis a low percentile, so that few images lose slices."""
    target = np.median(spacings_mm, axis=0)
    size = np.median(shapes * spacings_mm / target, axis=0)
    worst = int(np.argmax(target))
    others = [axis for axis in range(len(target)) if axis != worst]
    finest = max(target[axis] for axis in others)
    if target[worst] > ANISOTROPY * finest and size[worst] * ANISOTROPY < min(size[axis] for axis in others):
        found = float(np.percentile(spacings_mm[:, worst], COARSE_PERCENTILE))
        target[worst] = max(found, finest + 1e-5)
    return target


@dataclass(frozen=True)
class Stage:
    """One resolution of the network: its kernel, and the stride by which it is reached."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]


def fitted_patch(
    spacing_mm: np.ndarray, median_shape: np.ndarray, *, limit: int
) -> tuple[tuple[int, ...], tuple[Stage, ...]]:
    """The patch of at most `limit` voxels with the image's proportions, and the network's stages for it.

    Starts as an isotropic block clipped to the median image; the axis that covers most of it shrinks first.
    """
    dims = len(spacing_mm)
    isotropic = 1 / spacing_mm
    isotropic *= (FIRST_PATCH[dims] ** dims / prod(isotropic.tolist())) ** (1 / dims)
    patch, stages, divisor = pooled(spacing_mm, np.minimum(isotropic.round(), median_shape).astype(int))
    while prod(patch.tolist()) > limit:
        axis = int(np.argmax(patch / median_shape))
        # A shorter axis may be pooled less often and so be divisible by less: the step is that of the shorter one.
        patch[axis] -= pooled(spacing_mm, patch - np.eye(dims, dtype=int)[axis] * divisor)[2][axis]
        patch, stages, divisor = pooled(spacing_mm, patch)
    return tuple(patch.tolist()), stages


def pooled(spacing_mm: np.ndarray, patch: np.ndarray) -> tuple[np.ndarray, tuple[Stage, ...], np.ndarray]:
    """The stages for a patch, the patch padded to be divisible by all strides, and these divisors.

    An axis is pooled while it has at least 2 x `SMALLEST_MAP` voxels and is no more than twice as coarse as the finest
    such axis; its kernel is 3 from the first stage at which it is no longer that much coarser (nnU-Net's
    get_pool_and_conv_props).
    """
    axes = range(len(patch))
    spacing, size = spacing_mm.tolist(), patch.tolist()
    kernel, divisor, stride = [1] * len(patch), [1] * len(patch), [1] * len(patch)
    stages: list[Stage] = []
    while True:
        kernel = [3 if spacing[i] < 2 * min(spacing) else kernel[i] for i in axes]
        long = [i for i in axes if size[i] >= 2 * SMALLEST_MAP]
        pools = [i for i in long if spacing[i] < 2 * min(spacing[j] for j in long)]
        is_last = not pools or (len(pools) == 1 and size[pools[0]] < 3 * SMALLEST_MAP)
        stages.append(Stage((3,) * len(patch) if is_last else tuple(kernel), tuple(stride)))
        if is_last:
            break
        stride = [2 if i in pools else 1 for i in axes]
        for i in pools:
            spacing[i], size[i], divisor[i] = 2 * spacing[i], -(-size[i] // 2), 2 * divisor[i]
    whole = np.array(divisor)
    return -(-patch // whole) * whole, tuple(stages), whole


def architecture(stages: Sequence[Stage], size: Size, dims: int) -> dict[str, Any]:
    """A residual-encoder U-Net as nnU-Net's plans describe it."""
    depths = [size.depths[min(i, len(size.depths) - 1)] for i in range(len(stages))]
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
        "arch_kwargs": {
            "n_stages": len(stages),
            "features_per_stage": [min(size.features * 2**i, size.most_features) for i in range(len(stages))],
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": [list(stage.kernel) for stage in stages],
            "strides": [list(stage.stride) for stage in stages],
            "n_blocks_per_stage": depths,
            "n_conv_per_stage_decoder": [1] * (len(stages) - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def normalization(channel: str, seen: Intensities, kept: float) -> Normalization:
    """How a channel is scaled, by its name in dataset.json, as nnU-Net chooses."""
    name = channel.lower()
    if name == "ct":
        return Normalization("ct", seen.low, seen.high, seen.mean, seen.sd)
    if name in ("nonorm", "no_norm"):
        return Normalization("none")
    if name == "rescale_to_0_1":
        return Normalization("own_range")
    if name == "rgb_to_0_1":
        return Normalization("range", 0.0, 255.0)
    return Normalization("zscore_foreground" if kept < MASKED_NORM_BELOW else "zscore")


def _preparation(seen: Fingerprint, dataset: Dataset, *, spacing_mm: tuple[float, ...], order: int) -> Preparation:
    scaled = tuple(normalization(*pair, seen.kept) for pair in zip(dataset.channels, seen.intensities, strict=True))
    return Preparation(
        normalizations=scaled,
        spacing_mm=spacing_mm,
        orientation=ORIENTATION if seen.is_placed and not seen.is_flat else None,
        crop="none" if all(n.scheme == "ct" for n in scaled) else "nonzero",
        image_order=order,
    )


def _mirror_axes(labels: Labels, dims: int) -> tuple[int, ...]:
    """All axes of the patch, but not from side to side where a structure's name has a side."""
    words = {word for name in labels.names for word in name.lower().replace("-", "_").replace(" ", "_").split("_")}
    return tuple(range(dims - 1 if words & {"left", "right"} else dims))
