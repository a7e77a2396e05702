"""The planes that the shipped restoration weights are trained on: real scans and photographs from packages, and shapes.

Real: T1-weighted MR of a person and of macaques (Debian `mricron-data`, BSD), photographs and microscopy inside the
packages scikit-image (public domain or CC0) and scikit-learn (CC BY 2.0). Simulated: overlapping ellipses ("dead
leaves", Lee, Mumford and Huang 2001) and careloop's chest phantom. Each group says so in its name.

Neither the head CT of Debian's `invesalius-examples` (GPL) nor pydicom's files are among them: on those the result is
measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Plane = np.ndarray[Any, np.dtype[np.float32]]

TEMPLATES = Path("/usr/share/mricron/templates")
PHOTOGRAPHS = (
    "astronaut", "brick", "camera", "cell", "chelsea", "coffee", "coins", "grass", "gravel", "hubble_deep_field",
    "ihc", "moon", "motorcycle_left", "retina", "rocket",
)  # fmt: skip
CT_WINDOW_HU = (-1000.0, 1000.0)
LEAVES, LEAF_SHAPES, LEAF_EDGE = 150, 1500, 512
PHANTOMS = 6


@dataclass(frozen=True)
class Group:
    """Planes of one kind, scaled to about 0 to 1, and the share of training patches that they give.

    Planes `held` are not trained on, they watch the training.
    """

    name: str
    planes: list[Plane]
    share: float
    held: tuple[int, ...] = ()


def groups() -> list[Group]:
    """Everything there is to train on."""
    return [
        Group("T1 MR of a brain (real)", brain_mr(), 0.25, tuple(range(40, 260, 60))),
        Group("T1 MR of macaques (real)", macaque_mr(), 0.05),
        Group("photographs and microscopy (real)", list(photographs()), 0.35),
        Group("overlapping ellipses (simulated)", [dead_leaves(seed) for seed in range(LEAVES)], 0.15),
        Group("chest phantoms (simulated)", chest_phantoms(), 0.2),
    ]


def scaled_ct(hu: np.ndarray) -> Plane:
    """HU to 0 to 1 in the window."""
    low, high = CT_WINDOW_HU
    return ((np.clip(hu, low, high) - low) / (high - low)).astype(np.float32)


def scaled_mr(values: np.ndarray) -> Plane:
    """Arbitrary intensities, 0 to 1 at the 99.5th percentile of the whole volume."""
    return (np.clip(values / np.percentile(values, 99.5), 0, 1)).astype(np.float32)


def brain_mr() -> list[Plane]:
    """Every second plane in three directions of the average of 27 scans of one person."""
    return list(_directions(scaled_mr(nifti(TEMPLATES / "ch2.nii.gz"))))


def macaque_mr() -> list[Plane]:
    """Every second plane in three directions of the average of 19 macaques."""
    return list(_directions(scaled_mr(nifti(TEMPLATES / "inia19-t1-brain.nii.gz"))))


def nifti(path: Path) -> np.ndarray:
    """The values of a NIfTI file, as they are stored."""
    import nibabel

    return np.asarray(nibabel.load(path).dataobj, dtype=np.float32)


def _directions(volume: Plane) -> Iterator[Plane]:
    for axis in range(3):
        for plane in np.moveaxis(volume, axis, 0)[::2]:
            if (plane > 0.1).mean() > 0.1:
                yield np.ascontiguousarray(plane)


def photographs() -> Iterator[Plane]:
    """Each picture once as grey, at full size and at half of it."""
    import skimage
    from PIL import Image
    from sklearn.datasets import load_sample_images

    folder = Path(skimage.__file__).parent / "data"
    files = [next(folder.glob(f"{name}.*")) for name in PHOTOGRAPHS]
    pictures = [Image.open(file) for file in files] + [Image.fromarray(a) for a in load_sample_images().images]
    for picture in pictures:
        grey = picture.convert("L")
        for size in (grey.size, (grey.width // 2, grey.height // 2)):
            yield np.asarray(grey.resize(size, Image.Resampling.LANCZOS), dtype=np.float32) / 255


def dead_leaves(seed: int) -> Plane:
    """Ellipses over ellipses, sizes by a power law, each plain or with a texture of its own; blurred a little."""
    from PIL import Image, ImageDraw
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(seed)
    image = Image.new("F", (2 * LEAF_EDGE, 2 * LEAF_EDGE), float(random.uniform()))
    draw = ImageDraw.Draw(image)
    for _ in range(LEAF_SHAPES):
        radius = 6 * (1 - random.uniform() * (1 - (6 / 400) ** 1.5)) ** (-1 / 1.5)
        x, y = random.uniform(0, 2 * LEAF_EDGE, 2)
        a, b = radius, radius * random.uniform(0.4, 1)
        draw.ellipse((x - a, y - b, x + a, y + b) if random.uniform() < 0.5 else (x - b, y - a, x + b, y + a),
                     fill=float(random.uniform()))  # fmt: skip
    plane = np.asarray(image)
    texture = gaussian_filter(random.standard_normal(plane.shape), random.uniform(1, 4))
    plane = plane + texture / texture.std() * random.choice([0, 0, 0.02, 0.05]) * (plane > random.uniform())
    plane = gaussian_filter(plane, random.uniform(0.6, 1.6))
    return np.clip(plane.reshape(LEAF_EDGE, 2, LEAF_EDGE, 2).mean((1, 3)), 0, 1).astype(np.float32)


def chest_phantoms() -> list[Plane]:
    """Planes of simulated chests without noise, every fourth."""
    from careloop.imaging.phantom import chest_phantom

    planes: list[Plane] = []
    for seed in range(PHANTOMS):
        planes += list(scaled_ct(chest_phantom(seed).volume.voxels[::4]))
    return planes
