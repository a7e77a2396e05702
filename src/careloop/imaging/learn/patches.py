"""Cases prepared as the network sees them, kept on disk, and patches drawn from them at random places."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop.imaging.learn.augment import Geometry, change_intensities, mirrored_axes, random_affine
from careloop.imaging.learn.dataset import Case, Dataset, Labels
from careloop.imaging.learn.fingerprint import read_case
from careloop.imaging.segment.model import Preparation
from careloop.imaging.segment.prepare import Placing, prepare
from careloop.imaging.segment.resample import Resampling, resample
from careloop.record.whole_file import whole_file

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

FOREGROUND = 0.33  # of the patches of a batch lie around a voxel of a structure, as in nnU-Net
KEPT_VOXELS = 10_000  # places of each structure that patches may be drawn around


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """`image` (channels, Z, Y, X) float32 and `numbers` (Z, Y, X) as prepared, memory-mapped.

    `places` has for each structure (in the order of `Labels.names`) voxels (n, 3) that belong to it, n may be 0.
    """

    name: str
    image: NDArray[np.float32]
    numbers: NDArray[np.integer[Any]]
    places: tuple[NDArray[np.int32], ...]


def prepare_case(case: Case, dataset: Dataset, preparation: Preparation, folder: Path) -> PreparedCase:
    """Prepare a case, or open what was prepared before; the files appear in `folder` whole or not at all."""
    stem = folder / hashlib.sha256(case.name.encode()).hexdigest()[:16]
    done = stem.with_suffix(".npz")
    if not done.exists():
        read = read_case(case, dataset)
        made = prepare(read.channels, preparation)
        numbers = _prepared_labels(read.labels.labels, made.placing)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(stem.with_suffix(".image.npy"), made.image)
        np.save(stem.with_suffix(".labels.npy"), numbers)
        found = _places(numbers, dataset.labels, seed=int.from_bytes(hashlib.sha256(case.name.encode()).digest()[:4]))
        with whole_file(done) as draft:
            np.savez(draft, allow_pickle=False, **{str(i): place for i, place in enumerate(found)})
    with np.load(done) as places:
        return PreparedCase(
            case.name,
            np.load(stem.with_suffix(".image.npy"), mmap_mode="r"),
            np.load(stem.with_suffix(".labels.npy"), mmap_mode="r"),
            tuple(places[str(i)] for i in range(len(dataset.labels.names))),
        )


@dataclass(frozen=True, eq=False)
class Batch:
    """Patches: `images` (n, channels, *patch) float32 and `numbers` (n, *patch) int64, labels as in the files."""

    images: torch.Tensor
    numbers: torch.Tensor


def draw_batch(
    cases: Sequence[PreparedCase], geometry: Geometry, *, seed: int, device: torch.device | str = "cpu"
) -> Batch:
    """One augmented patch of each case; the last third (of one alone, every third) lies around a structure.

    The same seed gives the same batch (on one kind of device).
    """
    import torch

    drawn, noise = [], torch.Generator(device).manual_seed(seed)
    for i, case in enumerate(cases):
        random = np.random.default_rng([seed, i])
        around = i >= round(len(cases) * (1 - FOREGROUND)) or (len(cases) == 1 and random.random() < FOREGROUND)
        centre = _structure_voxel(case, random) if around else None
        if centre is None:
            centre = _any_centre(case.numbers.shape, geometry.patch, random)
        image, numbers = cut_patch(case, centre, geometry, random_affine(geometry, random), device=device)
        flips = mirrored_axes(geometry, random)
        if flips:
            image, numbers = image.flip([axis + 1 for axis in flips]), numbers.flip(flips)
        drawn.append((change_intensities(image, random, noise), numbers))
    return Batch(torch.stack([image for image, _ in drawn]), torch.stack([numbers for _, numbers in drawn]))


def cut_patch(
    case: PreparedCase,
    centre: Sequence[int],
    geometry: Geometry,
    matrix: NDArray[np.float64] | None,
    *,
    device: torch.device | str = "cpu",
) -> tuple[torch.Tensor, torch.Tensor]:
    """The patch around voxel `centre` (z, y, x): image (channels, *patch) and labels (*patch).

    `matrix` takes offsets from the patch's centre to offsets in the image: image linear, labels nearest, both in one
    step. What lies outside the image is 0. A patch of two axes is cut from slice `centre[0]`.
    """
    dims = len(geometry.patch)
    patch = (1,) * (3 - dims) + geometry.patch
    if matrix is None:
        image, numbers = _box(case, [c - p // 2 for c, p in zip(centre, patch, strict=True)], patch)
        shape = geometry.patch
        return image.to(device).reshape(-1, *shape), numbers.to(device).long().reshape(shape)
    whole = np.eye(3)
    whole[-dims:, -dims:] = matrix
    half = np.abs(whole) @ ((np.array(patch) - 1) / 2)
    middle = np.array([c - p // 2 + (p - 1) / 2 for c, p in zip(centre, patch, strict=True)])
    start = np.floor(middle - half).astype(int)
    size = np.ceil(middle + half).astype(int) - start + 1
    image, numbers = (part.to(device) for part in _box(case, start.tolist(), size.tolist()))
    grid = _sampling_grid(whole, middle - start, size, patch).to(device)
    sampled = _sampled(image, grid, "bilinear")
    nearest = _sampled(numbers[None].to(image), grid, "nearest")
    return sampled.reshape(-1, *geometry.patch), nearest.round().long().reshape(geometry.patch)


def _sampled(values: torch.Tensor, grid: torch.Tensor, mode: str) -> torch.Tensor:
    from torch.nn import functional

    return functional.grid_sample(values[None], grid, mode=mode, padding_mode="zeros", align_corners=True)[0]


def _sampling_grid(
    matrix: NDArray[np.float64], middle: NDArray[np.float64], size: NDArray[np.int_], patch: Sequence[int]
) -> torch.Tensor:
    """Where in a box of `size` each voxel of the patch lies, (1, *patch, 3) in grid_sample's x, y, z from -1 to 1."""
    import torch

    scale = 2.0 / np.maximum(size - 1, 1)
    total = torch.zeros((*patch, 3))
    for axis in range(3):
        offsets = torch.arange(patch[axis], dtype=torch.float32) - (patch[axis] - 1) / 2
        column = torch.from_numpy((matrix[:, axis] * scale)[::-1].astype(np.float32).copy())
        shape = [1, 1, 1, 1]
        shape[axis] = -1
        total = total + offsets.reshape(shape) * column
    return (total + torch.from_numpy((middle * scale - 1.0)[::-1].astype(np.float32).copy()))[None]


def _box(case: PreparedCase, start: Sequence[int], size: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """A copy of part of the image and labels, 0 where it reaches beyond."""
    import torch

    inside, within = [], []
    for first, length, limit in zip(start, size, case.numbers.shape, strict=True):
        low, high = min(max(first, 0), limit), max(min(first + length, limit), 0)
        inside.append(slice(low, max(low, high)))
        within.append(slice(low - first, low - first + max(0, high - low)))
    image = np.zeros((len(case.image), *size), np.float32)
    numbers = np.zeros(tuple(size), np.int32)
    image[(slice(None), *within)] = case.image[(slice(None), *inside)]
    numbers[tuple(within)] = case.numbers[tuple(inside)]
    return torch.from_numpy(image), torch.from_numpy(numbers)


def _any_centre(shape: Sequence[int], patch: Sequence[int], random: np.random.Generator) -> list[int]:
    """A centre whose patch lies inside the image; the image's middle along axes that are shorter than the patch."""
    centre = []
    for length, extent in zip(shape, (1,) * (3 - len(patch)) + tuple(patch), strict=True):
        first = int(random.integers(0, length - extent + 1)) if length > extent else -((extent - length) // 2)
        centre.append(first + extent // 2)
    return centre


def _structure_voxel(case: PreparedCase, random: np.random.Generator) -> list[int] | None:
    """A voxel of a structure; every structure that the case has is as likely as the others."""
    present = [places for places in case.places if len(places)]
    if not present:
        return None
    places = present[random.integers(len(present))]
    return [int(c) for c in places[random.integers(len(places))]]


def _prepared_labels(labels: NDArray[np.unsignedinteger[Any]], placing: Placing) -> NDArray[np.unsignedinteger[Any]]:
    """Labels on the prepared grid: the largest linear share wins, of two equal ones the higher label, as in nnU-Net."""
    turned = placing.turn.apply(labels)[placing.box]
    z, y, x = (replace(axis, order=min(axis.order, 1)) for axis in placing.image.axes)
    how = Resampling((z, y, x), placing.image.apart)
    if z.is_identity and y.is_identity and x.is_identity:
        return np.ascontiguousarray(turned)
    best = np.full(how.new, -1.0, np.float32)
    result = np.zeros(how.new, labels.dtype)
    for number in np.flatnonzero(np.bincount(turned.ravel())):
        share = resample((turned == number).astype(np.float32), how)
        wins = share >= best
        best[wins], result[wins] = share[wins], number
    return result


def _places(numbers: NDArray[np.integer[Any]], labels: Labels, *, seed: int) -> list[NDArray[np.int32]]:
    random = np.random.default_rng(seed)
    found = []
    for group in labels.numbers:
        inside = np.flatnonzero(np.isin(numbers, group))
        chosen = random.choice(inside, min(KEPT_VOXELS, len(inside)), replace=False) if len(inside) else inside
        found.append(np.stack(np.unravel_index(chosen, numbers.shape), axis=1).astype(np.int32))
    return found
