"""Brain mask of a T1 head that no network saw: careloop trained on simulated heads, beside deepbet.

The head is `ch2` of Debian's mricron-data (27 scans of one person averaged; Holmes et al. 1998). The reference is
`ch2bet` of the same package, BET's own output on it: not the truth, and drawn by nobody. Both are read once, after
training.

The network is trained on SIMULATED heads alone, each made anew (in the way of SynthSeg, Billot et al. 2023, and
SynthStrip, Hoopes et al. 2022): tissue maps of the MNI152 template (nilearn's package) and the face and neck of
pydeface's average head, bent by smooth random fields, with layers of fluid, bone and scalp of random thickness, random
intensities (most like T1), bias field, blur and noise. Neither template has the tested head in it.

    python -m venv TEMPLATES && TEMPLATES/bin/pip install nilearn pydeface
    python -m venv PEER && PEER/bin/pip install torch deepbet
    python benchmarks/brain_mask.py --templates TEMPLATES --folder DIR [--deepbet PEER/bin/python] [--heads 100]

Printed for each tool: Dice with the reference, volume, seconds from file to mask. A training in DIR that was finished
is used again. `--heads 4 --minutes 1` shows that it runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from careloop.evaluate.segmentation import dice
from careloop.imaging.phantom.anatomy.shapes import smooth_step
from careloop.imaging.phantom.anatomy.smooth_fields import smooth_field

Image = NDArray[np.float32]
HEAD = Path("/usr/share/mricron/templates/ch2.nii.gz")
REFERENCE = Path("/usr/share/mricron/templates/ch2bet.nii.gz")
SHAPE, SPACING = (96, 112, 88), 2.0  # voxels (inferior to superior, posterior to anterior, left to right) and mm
MIDDLE = (-4.0, -18.0, 0.0)  # of the grid in the template's (z, y, x)
FAR_MM = 100.0  # from the brain, where the bent grid ends
CLOSING_MM = 6.0  # over which the brain's surface spans its furrows
# From the MNI152 template to pydeface's average head, mm in RAS: correlation of both images, the height then set by eye
# because the average's cortex is too blurred to match.
TO_HEAD = np.array(
    [
        [0.878, 0.022, 0.000, -5.0],
        [0.000, 0.891, -0.084, 15.5],
        [0.000, 0.082, 0.870, 0.8],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
PEER_CODE = """
import sys, time
import torch
torch.set_num_threads(2)
from deepbet import run_bet
start = time.perf_counter()
run_bet([sys.argv[1]], mask_paths=[sys.argv[2]], threshold=0.5, n_dilate=0, no_gpu=True)
print(time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Anatomy:
    """What is bent into heads, on one grid: grey and white matter (0 to 1), mm from the brain, the average head."""

    grey: Image
    white: Image
    distance: Image
    face: Image


def read_anatomy(templates: Path) -> Anatomy:
    """The template's maps and the average head, in the template's place, on the grid of the simulated heads."""
    packages = next(templates.glob("lib/python3*/site-packages"))
    mni = packages / "nilearn" / "datasets" / "data"
    grey, white = (on_grid(mni / f"mni_icbm152_{t}_tal_nlin_sym_09a_converted.nii.gz") / 255 for t in ("gm", "wm"))
    face = on_grid(packages / "pydeface" / "data" / "mean_reg2mean.nii.gz", TO_HEAD)
    radius = round(CLOSING_MM / SPACING)
    ball = np.linalg.norm(np.indices((2 * radius + 1,) * 3) - radius, axis=0) <= radius
    inner = (slice(radius, -radius),) * 3
    brain = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(grey + white > 0.5, radius), ball)[inner])
    outside, inside = (ndimage.distance_transform_edt(m, sampling=SPACING) for m in (~brain, brain))
    return Anatomy(grey, white, (outside - inside).astype(np.float32), face / np.percentile(face, 99.5))


def axes_mm() -> list[NDArray[np.float64]]:
    """Coordinates z, y, x of the grid in the template's space."""
    return [(np.arange(n) - (n - 1) / 2) * SPACING + m for n, m in zip(SHAPE, MIDDLE, strict=True)]


def on_grid(path: Path, transform: NDArray[np.float64] | None = None) -> Image:
    """An image of the template's space (or of one that `transform` leads to, both RAS) on the heads' grid."""
    import nibabel

    image = nibabel.load(path)
    values = ndimage.gaussian_filter(image.get_fdata(dtype=np.float32), 0.4)
    z, y, x = np.meshgrid(*axes_mm(), indexing="ij")
    points = np.stack([x, y, z, np.ones_like(x)]).reshape(4, -1)
    at = np.linalg.inv(image.affine) @ (np.eye(4) if transform is None else transform) @ points
    return ndimage.map_coordinates(values, at[:3], order=1).reshape(SHAPE)


@dataclass(frozen=True)
class Noise:
    """Smooth random fields on the heads' grid."""

    rng: np.random.Generator

    def field(self, knot_mm: float) -> Image:
        """A new field of standard deviation 1 with features of this size."""
        z, y, x = ((np.arange(n) - (n - 1) / 2) * SPACING for n in SHAPE)
        low, high = (float(z[0]), float(y[0]), float(x[0])), (float(z[-1]), float(y[-1]), float(x[-1]))
        return smooth_field(self.rng, knot_mm, low=low, high=high).on_grid(z, y, x)


def bent(anatomy: Anatomy, rng: np.random.Generator, noise: Noise) -> Anatomy:
    """The anatomy turned, scaled, and bent by smooth random fields."""
    angles = np.deg2rad(rng.normal(0, 7, 3))
    turn = np.eye(3)
    for (i, j), angle in zip(((0, 1), (0, 2), (1, 2)), angles, strict=True):
        plane = np.eye(3)
        plane[[i, j], [i, j]], plane[i, j], plane[j, i] = np.cos(angle), -np.sin(angle), np.sin(angle)
        turn = turn @ plane
    scale = rng.uniform(0.93, 1.22) * rng.uniform(0.94, 1.06, 3)  # the template is larger than most people's brains
    middle = (np.array(SHAPE)[:, None] - 1) / 2
    points = np.indices(SHAPE).reshape(3, -1) - middle
    at = turn @ (scale[:, None] * points) + middle + rng.normal(0, 5 / SPACING, (3, 1))
    for knot_mm, sd_mm in ((70.0, rng.uniform(2, 6)), (25.0, rng.uniform(0.5, 1.8))):
        at += np.stack([noise.field(knot_mm).ravel() for _ in range(3)]) * sd_mm / SPACING
    beyond = ((anatomy.grey, 0.0), (anatomy.white, 0.0), (anatomy.distance, FAR_MM), (anatomy.face, 0.0))
    return Anatomy(*(ndimage.map_coordinates(v, at, order=1, cval=c).reshape(SHAPE) for v, c in beyond))


def simulate_head(anatomy: Anatomy, seed: int) -> tuple[Image, NDArray[np.uint8]]:
    """A simulated T1 image (z, y, x), 0 to about 1000, and its exact brain mask."""
    rng = np.random.default_rng([seed, 71])
    noise = Noise(rng)
    own = bent(anatomy, rng, noise)
    level = draw_intensities(rng)
    outside = layers(own, level, rng, noise)
    image = np.where(own.distance < 0, brain(own, level, noise), outside)
    return seen(image, rng, noise), (own.distance < 0).astype(np.uint8)


def draw_intensities(rng: np.random.Generator) -> dict[str, float]:
    """Intensities of the tissues: in four heads of five ordered as in T1, else any."""
    names = ("csf", "bone", "grey", "muscle", "marrow", "white", "fat")
    if rng.uniform() < 0.2:
        return dict(zip(names, rng.uniform(0.02, 1, len(names)).tolist(), strict=True))
    grey = rng.uniform(0.38, 0.7)
    return {
        "csf": rng.uniform(0.08, 0.32),
        "bone": rng.uniform(0.02, 0.18),
        "grey": grey,
        "muscle": rng.uniform(0.3, 0.65),
        "marrow": rng.uniform(0.2, 0.8),
        "white": grey + rng.uniform(0.1, 0.32),
        "fat": rng.uniform(0.6, 1.3),
    }


def brain(own: Anatomy, level: dict[str, float], noise: Noise) -> Image:
    """Grey and white matter and the fluid between them, with edges sharper than the template's."""
    rough = 0.14 * noise.field(9.0), 0.14 * noise.field(9.0)
    parts = np.stack([own.grey + rough[0], own.white + rough[1], 0.9 - own.grey - own.white])
    parts = np.exp(parts / 0.09 - (parts / 0.09).max(axis=0))
    parts /= parts.sum(axis=0)
    values = level["grey"] * parts[0] + level["white"] * parts[1] + level["csf"] * parts[2]
    return values * (1 + 0.03 * noise.field(7.0))


def layers(own: Anatomy, level: dict[str, float], rng: np.random.Generator, noise: Noise) -> Image:
    """All that is not brain: fluid, bone and scalp above the skull's base; the average face and neck below it."""
    d = own.distance
    fluid = np.maximum(rng.uniform(0.3, 4.5) + rng.uniform(0.2, 1.2) * noise.field(25.0), 0.2)
    bone = np.maximum(rng.uniform(4, 9) + 1.2 * noise.field(30.0), 2)
    scalp = np.maximum(rng.uniform(3, 9) + noise.field(40.0), 2)
    from_bone, from_skull = d - fluid, d - fluid - bone
    dura = rng.uniform(0, 0.9) * level["muscle"] * smooth_step(noise.field(12.0), -0.5, 1.5)
    above = np.where(from_bone < 0, level["csf"] + dura * smooth_step(d / fluid, 0.5, 1.0), level["bone"])
    spongy = (from_bone > 1.5) & (from_skull < -1.5) & (bone > 4)
    above = np.where(spongy, level["marrow"] * (0.7 + 0.2 * noise.field(8.0)), above)
    inner = rng.uniform(0, 0.5)
    skin = np.where(from_skull < inner * scalp, level["muscle"], level["fat"] * (1 + 0.1 * noise.field(10.0)))
    above = np.where(from_skull > 0, np.where(from_skull < scalp, skin, 0.01), above)
    soft = np.clip(own.face * (1 + 0.35 * noise.field(6.0)), 0, 1.3)
    mixed = 0.5 * (level["muscle"] + level["fat"])
    tissue = [0.01, level["bone"], level["muscle"], mixed, level["fat"]]
    below = np.interp(soft, [0.0, 0.12, 0.45, 0.8, 1.3], tissue)
    below = np.where(d < fluid * 0.7, level["csf"], below)
    z, y = axes_mm()[0][:, None, None], axes_mm()[1][None, :, None]
    base = smooth_step(z + 28 - 0.28 * y + 6 * noise.field(50.0), -8.0, 8.0)
    return (base * above + (1 - base) * below).astype(np.float32)


def seen(image: Image, rng: np.random.Generator, noise: Noise) -> Image:
    """The image as a scanner shows it: bias field, blur, noise, and often without what lies low."""
    image = np.maximum(image, 0) * np.exp(rng.uniform(0, 0.35) * noise.field(80.0))
    image = ndimage.gaussian_filter(image, rng.uniform(0, 0.7, 3))
    axis, blur = int(rng.integers(3)), rng.uniform(0, 1.2)
    image = ndimage.gaussian_filter1d(image, max(blur - 0.5, 1e-3), axis=axis)
    sd = rng.uniform(0.002, 0.06)
    image = np.hypot(image + sd * rng.standard_normal(SHAPE), sd * rng.standard_normal(SHAPE))  # Rician
    image = image ** rng.uniform(0.75, 1.3)
    if rng.uniform() < 0.6:
        image[: int(rng.integers(0, 24))] = 0
    return (image * 600).astype(np.float32)


def write_heads(anatomy: Anatomy, folder: Path, *, heads: int) -> Path:
    """Simulated heads in nnU-Net's raw layout; those that are there are kept."""
    from careloop.imaging.volume import LabelMap, Segment, Volume
    from careloop.imaging.write.nifti import write_nifti

    affine = np.zeros((4, 4))
    affine[[2, 1, 0, 3], [0, 1, 2, 3]] = (SPACING, -SPACING, -SPACING, 1)  # LPS, from RAS axes
    for number in range(heads):
        image, labels = (folder / f"{part}Tr" for part in ("images", "labels"))
        if not (labels / f"head_{number:04d}.nii.gz").exists():
            values, mask = simulate_head(anatomy, number)
            write_nifti(Volume(values, affine, "MR"), image / f"head_{number:04d}_0000.nii.gz")
            write_nifti(LabelMap(mask, affine, (Segment(1, "brain"),)), labels / f"head_{number:04d}.nii.gz")
    document = {
        "name": "SimulatedHeads",
        "description": "SIMULATED T1 heads from the MNI152 template's tissue maps and pydeface's average head.",
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "brain": 1},
        "numTraining": heads,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(document, indent=1))
    return folder


def largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected part, its holes filled."""
    parts, found = ndimage.label(mask)
    if not found:
        return mask
    return ndimage.binary_fill_holes(parts == 1 + np.bincount(parts.ravel())[1:].argmax())


@dataclass(frozen=True)
class Result:
    """One tool's mask of the head on the file's grid, and the seconds it took from file to mask."""

    tool: str
    mask: NDArray[np.bool_]
    seconds: float


def run_careloop(model_folder: Path) -> Result:
    """The trained network by the engine that users run; the largest part with its holes filled, as deepbet does."""
    from careloop.imaging.read.nifti import read_nifti
    from careloop.imaging.segment.formats.trained import read_trained
    from careloop.imaging.segment.run import segment

    model = read_trained(model_folder)
    start = time.perf_counter()
    found = segment([read_nifti(HEAD, modality="MR")], model).label_map.labels
    mask = largest_part(found == 1)
    return Result("careloop", mask, time.perf_counter() - start)


def run_deepbet(python: Path) -> Result:
    """The peer with its own weights, in its own environment."""
    from careloop.imaging.read.nifti import read_nifti

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "mask.nii.gz"
        command = [str(python), "-c", PEER_CODE, str(HEAD), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return Result("deepbet", read_nifti(out).voxels > 0, float(done.stdout.split()[-1]))


def main() -> None:
    """Simulate, train, and compare both tools on the one head."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--templates", type=Path, required=True, help="environment with nilearn and pydeface")
    parser.add_argument("--folder", type=Path, required=True, help="for simulated heads and the model")
    parser.add_argument("--deepbet", type=Path, help="Python with deepbet")
    parser.add_argument("--heads", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=20)
    given = parser.parse_args()
    from careloop.imaging.learn.course import TrainingSettings
    from careloop.imaging.learn.train import train_segmentation
    from careloop.imaging.read.nifti import read_nifti

    heads = write_heads(read_anatomy(given.templates), given.folder / "heads", heads=given.heads)
    settings = TrainingSettings(minutes=given.minutes, device="cpu", size="small", spacing_mm=(SPACING,) * 3)
    trained = train_segmentation(heads, given.folder / "model", settings=settings)
    figures = trained.model.validation["dice"]["brain"]
    print(f"{given.heads} simulated heads; Dice in those not trained on {figures['value']:.3f}")
    reference = read_nifti(REFERENCE).voxels > 0
    results = [run_careloop(given.folder / "model")] + ([run_deepbet(given.deepbet)] if given.deepbet else [])
    print(f"{'':10}{'Dice':>8}{'mL':>8}{'seconds':>9}   (reference: BET's own output, {reference.sum() / 1000:.0f} mL)")
    for result in results:
        volume = result.mask.sum() / 1000  # voxels of 1 mm
        print(f"{result.tool:10}{dice(reference, result.mask):8.3f}{volume:8.0f}{result.seconds:9.1f}")


if __name__ == "__main__":
    main()
