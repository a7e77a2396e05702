"""Random changes of training patches: turned, scaled, mirrored, noisier, blurred, brighter, coarser, as nnU-Net does.

Ranges and chances are those of nnU-Net v2's default trainer (batchgeneratorsv2; Isensee et al. 2021, Nature Methods 18,
supplementary note 4). All follow from one seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

ROTATION, ROTATION_DEG, FLAT_ROTATION_DEG = 0.2, 30.0, 180.0
SCALING, SCALES = 0.2, (0.7, 1.4)
NOISE, NOISE_VARIANCE = 0.1, 0.1
BLUR, BLUR_CHANNEL, BLUR_SIGMA = 0.2, 0.5, (0.5, 1.0)
BRIGHTNESS, BRIGHTNESS_FACTOR = 0.15, (0.75, 1.25)
CONTRAST, CONTRAST_FACTOR = 0.15, (0.75, 1.25)
COARSE, COARSE_CHANNEL, COARSE_SCALE = 0.25, 0.5, (0.5, 1.0)
INVERTED_GAMMA, GAMMA, GAMMA_EXPONENT = 0.1, 0.3, (0.7, 1.5)
MIRROR = 0.5  # an axis
FLAT_PATCH = 3.0  # a patch whose axes differ more is turned in its plane only
SMALLEST_RANGE = 1e-7


@dataclass(frozen=True)
class Geometry:
    """The patch's size (two axes, or three), and along which of its axes it may be flipped."""

    patch: tuple[int, ...]
    mirror_axes: tuple[int, ...]

    @property
    def turns_in_plane(self) -> bool:
        """Two axes, or three of which the first is so short that turning out of the plane would lose the patch."""
        return len(self.patch) == 2 or max(self.patch) / self.patch[0] > FLAT_PATCH


def random_affine(geometry: Geometry, random: np.random.Generator) -> NDArray[np.float64] | None:
    """A matrix (d, d) from a patch's offsets in voxels to those in the image; None where nothing changes."""
    dims = len(geometry.patch)
    turned, scaled = random.random() < ROTATION, random.random() < SCALING
    if not (turned or scaled):
        return None
    matrix = np.eye(dims)
    if turned and geometry.turns_in_plane:
        matrix[-2:, -2:] = _rotation(random.uniform(-FLAT_ROTATION_DEG, FLAT_ROTATION_DEG))
    elif turned:
        for axis in range(3):
            other = [i for i in range(3) if i != axis]
            step = np.eye(3)
            step[np.ix_(other, other)] = _rotation(random.uniform(-ROTATION_DEG, ROTATION_DEG))
            matrix = matrix @ step
    if scaled:
        scale = _either_side(SCALES, random)
        factors = np.full(dims, scale)
        if dims == 3 and geometry.turns_in_plane:
            factors[0] = 1.0
        matrix = matrix * factors
    return matrix


def mirrored_axes(geometry: Geometry, random: np.random.Generator) -> tuple[int, ...]:
    """The axes of the patch that this one is flipped along."""
    return tuple(axis for axis in geometry.mirror_axes if random.random() < MIRROR)


def change_intensities(image: torch.Tensor, random: np.random.Generator, noise: torch.Generator) -> torch.Tensor:
    """A patch (channels, *patch) with other noise, sharpness, brightness and contrast; the input is not changed.

    `noise` is a generator of the image's device.
    """
    import torch

    if random.random() < NOISE:
        drawn = torch.randn(image.shape, generator=noise, device=image.device)
        image = image + drawn * math.sqrt(random.uniform(0, NOISE_VARIANCE))
    if random.random() < BLUR:
        image = _channelwise(image, BLUR_CHANNEL, random, lambda c: _blurred(c, random.uniform(*BLUR_SIGMA)))
    if random.random() < BRIGHTNESS:
        image = image * _factors(image, BRIGHTNESS_FACTOR, random)
    if random.random() < CONTRAST:
        image = _contrasted(image, _factors(image, CONTRAST_FACTOR, random))
    if random.random() < COARSE:
        image = _channelwise(image, COARSE_CHANNEL, random, lambda c: _coarsened(c, random.uniform(*COARSE_SCALE)))
    if random.random() < INVERTED_GAMMA:
        image = -_gamma(-image, random)
    if random.random() < GAMMA:
        image = _gamma(image, random)
    return image


def _rotation(degrees: float) -> NDArray[np.float64]:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s], [s, c]])


def _either_side(bounds: tuple[float, float], random: np.random.Generator) -> float:
    """A factor below 1 or above 1, equally often."""
    low, high = (bounds[0], 1.0) if random.random() < 0.5 else (1.0, bounds[1])
    return float(random.uniform(low, high))


def _factors(image: torch.Tensor, bounds: tuple[float, float], random: np.random.Generator) -> torch.Tensor:
    """A factor for each channel, shaped so that it multiplies the patch."""
    factors = [_either_side(bounds, random) for _ in image]
    return image.new_tensor(factors).reshape(-1, *[1] * (image.ndim - 1))


def _channelwise(
    image: torch.Tensor, share: float, random: np.random.Generator, change: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """`change` done to each channel with the chance `share`."""
    import torch

    return torch.stack([change(channel) if random.random() < share else channel for channel in image])


def _blurred(channel: torch.Tensor, sigma: float) -> torch.Tensor:
    """Convolved with a Gaussian, an axis at a time; edges are mirrored."""
    import torch
    from torch.nn import functional

    radius = math.ceil(2.5 * sigma)
    offsets = torch.arange(-radius, radius + 1, device=channel.device, dtype=channel.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = kernel / kernel.sum()
    for axis in range(channel.ndim):
        if channel.shape[axis] <= radius:
            continue
        lines = channel.movedim(axis, -1)
        padded = functional.pad(lines.reshape(-1, 1, lines.shape[-1]), (radius, radius), mode="reflect")
        smooth = sum(kernel[i] * padded[..., i : i + lines.shape[-1]] for i in range(2 * radius + 1))
        assert isinstance(smooth, torch.Tensor)
        channel = smooth.reshape(lines.shape).movedim(-1, axis)
    return channel


def _contrasted(image: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Each channel stretched about its mean and kept inside its range."""
    axes = tuple(range(1, image.ndim))
    mean, low, high = image.mean(axes, keepdim=True), image.amin(axes, keepdim=True), image.amax(axes, keepdim=True)
    return ((image - mean) * factors + mean).clamp(low, high)


def _coarsened(channel: torch.Tensor, scale: float) -> torch.Tensor:
    """As if acquired with larger voxels: nearest down, linear up."""
    from torch.nn import functional

    small = tuple(max(1, round(n * scale)) for n in channel.shape)
    down = functional.interpolate(channel[None, None], size=small, mode="nearest-exact")
    mode = "bilinear" if channel.ndim == 2 else "trilinear"
    return functional.interpolate(down, size=channel.shape, mode=mode, align_corners=False)[0, 0]


def _gamma(image: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Each channel's range raised to a power, then its mean and standard deviation restored."""
    axes = tuple(range(1, image.ndim))
    exponents = image.new_tensor([_either_side(GAMMA_EXPONENT, random) for _ in image])
    exponents = exponents.reshape(-1, *[1] * len(axes))
    mean, sd = image.mean(axes, keepdim=True), image.std(axes, keepdim=True)
    low = image.amin(axes, keepdim=True)
    span = (image.amax(axes, keepdim=True) - low).clamp_min(SMALLEST_RANGE)
    changed = ((image - low) / span).clamp(0, 1) ** exponents * span + low
    centred = changed - changed.mean(axes, keepdim=True)
    return centred / centred.std(axes, keepdim=True).clamp_min(SMALLEST_RANGE) * sd + mean
