"""Train the restoration networks that come with careloop, and one without clean targets for the benchmark.

    python scripts/restoration_weights.py gaussian --out src/careloop/imaging/restore/weights/gaussian_noise
    python scripts/restoration_weights.py gaussian --start shipped --scans SCANS --epochs 115 --out FOLDER
    python scripts/restoration_weights.py low-dose --start shipped --scans SCANS --epochs 26 --out FOLDER
    python scripts/restoration_weights.py self-supervised --scans SCANS --epochs 75 --out FOLDER

SCANS are real CT and MR from public repositories (see restoration_scans.py). The shipped weights against white noise
come from the first two lines, the second run several times, and a mean (restoration_mean.py), those against the noise
of low-dose CT from the third, run twice (the second time with --epochs 13 --seed 1 --learning-rate 6e-4), which began
with weights for one kernel; model.json says how. Each takes 25 to 65 minutes on one core of a processor that computes
in bfloat16 (about twice that on others). A training that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from restoration_planes import Group, Plane, groups
from restoration_scans import SOURCES, scans

from careloop.imaging.restore.lesions import LesionRule, insert_lesions
from careloop.imaging.restore.local_level import local_level
from careloop.imaging.restore.model import shipped
from careloop.imaging.restore.run import PlaneRestorer
from careloop.imaging.restore.train import (
    LESIONS,
    SCANS,
    Examples,
    RestorationSettings,
    low_dose_pairs,
    middle,
    train_on,
)
from careloop.imaging.restore.work import CleanTask, Example, NoisyTask, PairTask

HIGHEST_LEVEL, LEVELS = 55 / 255, (15 / 255, 25 / 255, 50 / 255)
PATCH, EDGE = 96, 256
VALIDATED_OF_A_GROUP = 6
LEARNING_RATE = {"new": 2e-3, "shipped": 1e-3}
EPOCHS = {"gaussian": 80, "self-supervised": 70, "low-dose": 50}
SCANNED = {"T1 MR of a brain (real)": 50, "T1 MR of macaques (real)": 15, "photographs and microscopy (real)": 40,
           "overlapping ellipses (simulated)": 50, "chest phantoms (simulated)": 100, "CT of trunks (real)": 120,
           "CT of trunks, resampled (real)": 40, "CT of a head (real)": 50}  # fmt: skip
QUIET_STEP = 2  # pixels, at which the noise of real CT is measured that is taken out before it is scanned again
PIXEL_MM = (0.7, 1.5)
LICENCE = (
    "Apache-2.0. Trained on: T1 MR of Debian's mricron-data (BSD-3-Clause); pictures inside scikit-image (public "
    "domain, CC0) and scikit-learn (CC BY 2.0: china.jpg by danielbuechele, flower.jpg by dany13); simulated shapes "
    "and chests."
)

SCANS_LICENCE = " CT and MR slices of public repositories: " + ", ".join(
    f"{source.repository} ({source.licence})" for source in SOURCES
) + "."  # fmt: skip


def parted(material: list[Group]) -> tuple[list[Plane], np.ndarray, list[Plane]]:
    """Planes to train on with their weights, and some of each group to validate on.

    Validation only watches training; neighbouring planes of one brain may be in both parts.
    """
    planes: list[Plane] = []
    weights: list[float] = []
    validated: list[Plane] = []
    for group in material:
        held = group.held or tuple(range(5, len(group.planes), max(10, len(group.planes) // 6)))
        kept = [plane for k, plane in enumerate(group.planes) if k not in set(held)]
        validated += [group.planes[k] for k in held[:: -(-len(held) // VALIDATED_OF_A_GROUP)]]
        planes += kept
        weights += [group.share / len(kept)] * len(kept)
    return planes, np.array(weights), validated


def gaussian_examples(material: list[Group]) -> Examples:
    """White noise of every level on clean planes."""
    planes, weights, validated = parted(material)
    random = np.random.default_rng(99)
    watched = []
    for k, plane in enumerate(validated):
        clean = _middle(plane)
        level = LEVELS[k % len(LEVELS)]
        noise = random.standard_normal(clean.shape, dtype=np.float32) * np.float32(level)
        watched.append(Example(clean + noise, np.full_like(clean, level), clean))
    task = CleanTask(planes, (0.0, HIGHEST_LEVEL), PATCH, LESIONS)
    return Examples(task, len(planes), weights, tuple(watched))


def _middle(plane: Plane, edge: int = 128) -> Plane:
    plane = plane[: plane.shape[0] // 8 * 8, : plane.shape[1] // 8 * 8]
    top, left = (max(0, n - edge) // 2 for n in plane.shape)
    return np.ascontiguousarray(plane[top : top + edge, left : left + edge])


def self_supervised_examples(material: list[Group]) -> Examples:
    """The same planes, each with one noise of a known level for good; the clean ones are never seen."""
    planes, weights, _ = parted(material)
    random = np.random.default_rng(7)
    levels = random.uniform(5, 55, len(planes)) / 255
    noisy = [
        plane + random.standard_normal(plane.shape, dtype=np.float32) * np.float32(level)
        for plane, level in zip(planes, levels, strict=True)
    ]
    return Examples(NoisyTask(noisy, list(levels), PATCH), len(planes), weights, ())


def low_dose_examples(material: list[Group], seed: int = 0) -> Examples:
    """Simulated scans of the planes, seen as bodies, at several doses; others for another seed."""
    random = np.random.default_rng([5, seed])
    pairs: list[Example] = []
    denoiser = PlaneRestorer(shipped("gaussian noise"), device="cpu", threads=1)
    for group in material:
        for number in range(SCANNED.get(group.name, 0)):
            body = _body(group, number, random)
            if group.name.startswith("CT"):
                body = _quiet(body, denoiser)
            if random.uniform() < 0.5:
                rule = LesionRule((3.0, 16.0), (0.02, 0.2))
                body = insert_lesions(body, int(random.integers(1, 8)), random, rule=rule).image
            pairs += low_dose_pairs(body, random.uniform(*PIXEL_MM), random)
    watched = set(range(4, len(pairs) // SCANS, 9))
    trained = [pair for k, pair in enumerate(pairs) if k // SCANS not in watched]
    validation = tuple(middle(pairs[SCANS * k]) for k in sorted(watched))[:24]
    return Examples(PairTask(trained, PATCH), len(trained), None, validation)


def _body(group: Group, number: int, random: np.random.Generator) -> Plane:
    """A square of a plane with densities of a body: brains between water and bone, photographs in a disc."""
    chest = group.name.startswith("chest")
    trained = sorted(set(range(len(group.planes))) - set(group.held))
    plane = group.planes[number if chest else trained[int(random.integers(len(trained)))]]
    plane = np.pad(plane, [(max(0, (EDGE - n + 1) // 2),) * 2 for n in plane.shape])
    top, left = (int(random.integers(n - EDGE + 1)) for n in plane.shape)
    plane = plane[top : top + EDGE, left : left + EDGE]
    if chest or group.name.startswith("CT"):
        return plane
    if "MR" in group.name:
        return np.where(plane > 0.05, 0.42 + 0.16 * plane, 0).astype(np.float32) if number % 2 else plane * 0.8
    rows, columns = np.mgrid[:EDGE, :EDGE] - (EDGE - 1) / 2
    return np.where(np.hypot(rows, columns) < 125, plane * random.uniform(0.5, 1), 0).astype(np.float32)


def _quiet(body: Plane, denoiser: PlaneRestorer) -> Plane:
    """Real CT with its own noise taken out, so that it is not learnt as anatomy."""
    shown = body > 0.3
    if not shown.any():
        return body
    level = float(np.median(local_level(body, QUIET_STEP)[shown]))
    return np.clip(denoiser.averaged(body, level).plane, 0, 1)


def patches_data(material: list[Group]) -> dict[str, str]:
    """What model.json says of the groups, where patches are drawn by their share."""
    return {group.name: f"{len(group.planes)} planes, {group.share:.0%} of patches" for group in material}


def scanned_data(material: list[Group]) -> dict[str, str]:
    """The same where planes are scanned once and for all."""
    used = [group.name for group in material if group.name in SCANNED]
    return {name: f"{SCANNED[name]} planes, {SCANS} simulated scans each" for name in used}


KINDS = {"gaussian": gaussian_examples, "self-supervised": self_supervised_examples}


def main() -> None:
    """Train one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=list(EPOCHS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--learning-rate", type=float, help="highest; default: 2e-3 for new weights, 1e-3 for shipped")
    parser.add_argument("--start", choices=["new", "shipped"], default="new", help="shipped: from the weights here")
    parser.add_argument("--scans", type=Path, help="folder with the repositories of restoration_scans.py")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    material = groups()
    if given.scans is not None:
        real = scans(given.scans)
        rest = 1 - sum(group.share for group in real)
        material = [replace(group, share=rest * group.share) for group in material] + real
    low_dose = given.kind == "low-dose"
    examples = low_dose_examples(material, given.seed) if low_dose else KINDS[given.kind](material)
    settings = RestorationSettings(
        degradation="low-dose CT" if low_dose else "gaussian noise",
        targets="none" if given.kind == "self-supervised" else "clean",
        start=given.start,
        learning_rate=given.learning_rate or LEARNING_RATE[given.start],
        epochs=given.epochs or EPOCHS[given.kind],
        seed=given.seed,
        device="cpu",
    )
    made = train_on(
        examples,
        given.out,
        name=f"careloop {settings.degradation} {settings.targets}".removesuffix(" clean").replace(
            " none", " without targets"
        ),
        settings=settings,
        progress=lambda what, done, total: print(f"{what}: {done} of {total}", flush=True),
        training={
            "data": (scanned_data if low_dose else patches_data)(material),
            "script": "scripts/restoration_weights.py",
        },
        licence=LICENCE + (SCANS_LICENCE if given.scans is not None else ""),
        modalities=("CT",) if low_dose else (),
    )
    print(f"{given.out}: {made.made_by}")


if __name__ == "__main__":
    main()
