"""Image classification end to end on SIMULATED images: what is learned beside what can be known, and what is refused.

Part `shapes`: a file in MedMNIST's format with three kinds of generated images goes through training, calibration and
evaluation. Part `nodules`: chest radiographs, half of them with a nodule of unknown place, size and contrast, on which
the ideal observer's AUROC is known (that observer knows the chest, which is one and the same; the network knows the
mean of its training images); then images of other kinds, of which the model must refuse those that it was not made for:
inverted radiographs, noise, photographs (scikit-image's and scikit-learn's) and slices of a head CT (Debian's
`invesalius-examples`, real; left out where it is not installed).

    python benchmarks/image_classification.py --folder /tmp/classified                # 20,000 training images
    python benchmarks/image_classification.py --folder /tmp/classified --small        # a minute or two; no measurement

A run that was killed goes on when it is started again with the same folder. Nothing is chosen on held-out images.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from restoration_slices import HEAD_CT, head_hu

from careloop.evaluate import compare
from careloop.evaluate.censoring import Outcomes
from careloop.evaluate.discrimination import Threshold
from careloop.imaging.classify.apply import classify
from careloop.imaging.classify.model import read_classifier
from careloop.imaging.classify.settings import ClassifierSettings
from careloop.imaging.classify.train import ClassifierSummary, train_classifier
from careloop.imaging.phantom.nodule_radiographs import NoduleSet, ideal_auroc, nodule_set
from careloop.imaging.volume import Volume

Pictures = list[np.ndarray[Any, np.dtype[np.uint8]]]
SEEDS = {"train": 201, "val": 202, "test": 203}
WITHIN, SLOPES, REFUSED, FALSE_REFUSALS = 0.03, (0.9, 1.1), 0.95, 0.05
PHOTOGRAPHS = (
    "astronaut.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "rocket.jpg",
    "motorcycle_left.png",
)
OTHERS = 200  # images of each other kind
CROP = (64, 200)  # pixels along a side of a part of a photograph
SHAPES = ("nothing", "disc", "square")


def main() -> None:
    """Run the parts and print a line a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where files and models are written")
    parser.add_argument("--parts", nargs="+", default=["shapes", "nodules"], choices=["shapes", "nodules"])
    parser.add_argument("--images", type=int, default=20_000, help="radiographs to train on")
    parser.add_argument("--minutes", type=float, default=60, help="time to train the network on radiographs")
    parser.add_argument("--epochs", type=int, default=None, help="epochs, instead of as many as fit into the minutes")
    parser.add_argument("--augmentation", default="none", choices=["none", "small"])
    parser.add_argument("--small", action="store_true", help="few images and a minute: shows that it runs, no more")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    print("SIMULATED images" + (", a setting too small to measure anything" if given.small else ""))
    if "shapes" in given.parts:
        shapes(given.folder, images=300 if given.small else 3000, epochs=3 if given.small else 20)
    if "nodules" in given.parts:
        settings = ClassifierSettings(
            architecture={"name": "resnet-small", "stem_stride": 2, "depths": (2, 2), "widths": (16, 32)},
            mean_image=True,  # every radiograph is of the same chest
            augmentation=given.augmentation,
            minutes=0.5 if given.small else given.minutes,
            epochs=given.epochs,
            batch_size=32 if given.small else 64,
            learning_rate=2e-3,
            modality="DX",
        )
        nodules(given.folder, images=400 if given.small else given.images, settings=settings)


def shapes(folder: Path, *, images: int, epochs: int) -> None:
    """Three kinds of images in a file of MedMNIST's format, end to end."""
    arrays = {}
    for name, n in {"train": images, "val": images // 2, "test": images // 2}.items():
        arrays |= shape_images(n, name)
    path = folder / "shapes.npz"
    if not path.exists():
        np.savez_compressed(path, **arrays)
    settings = ClassifierSettings(
        architecture={"name": "resnet-small", "widths": (8, 16, 32)}, epochs=epochs, names=SHAPES, learning_rate=3e-3
    )
    done = trained(path, folder / "shapes", settings)
    found = json.loads((done.folder / "evaluation.json").read_text())
    print(f"\nshapes: {images} images to train on, 28 x 28, {len(done.curve)} epochs, {done.seconds:.0f} s")
    for model in ("network", "logistic regression"):
        line("macro AUROC", model, found["together"]["models"][model]["averages"]["macro"]["auroc"])
        line("accuracy", model, found["accuracy"][model])
    line("accuracy", "network less logistic regression", found["accuracy"]["difference"])
    line(f"label sets hold the truth (promised {found['label_sets']['level']:.0%})", "network",
         found["label_sets"]["figures"]["coverage"])  # fmt: skip
    line("held-out images refused", "network", found["refused"])


def shape_images(n: int, name: str) -> dict[str, np.ndarray]:
    """Noise with a faint disc, a faint square of the same area, or nothing."""
    random = np.random.default_rng([n, SEEDS[name]])
    kind = random.integers(0, 3, n)
    images = random.normal(110, 25, (n, 28, 28))
    row, column = np.indices((28, 28))
    for image, which in zip(images, kind, strict=True):
        far = np.abs(np.stack([row - random.uniform(8, 20), column - random.uniform(8, 20)]))
        inside = np.hypot(*far) < 5 if which == 1 else far.max(axis=0) < 4.43
        image += 30 * inside * (which > 0)
    labels = kind[:, None].astype(np.uint8)
    return {f"{name}_images": np.clip(images, 0, 255).astype(np.uint8), f"{name}_labels": labels}


def nodules(folder: Path, *, images: int, settings: ClassifierSettings) -> None:
    """Radiographs with and without a nodule: the network beside the ideal observer, and images of other kinds."""
    held_out = nodule_set(max(400, images // 5), seed=SEEDS["test"])
    path = folder / f"nodules{images}.npz"
    if not path.exists():
        parts = {"train": nodule_set(images, seed=SEEDS["train"]), "test": held_out}
        parts["val"] = nodule_set(max(200, images // 5), seed=SEEDS["val"])
        arrays = {f"{name}_images": bytes_of(part.images) for name, part in parts.items()}
        labels = {f"{name}_labels": part.labels[:, None] for name, part in parts.items()}
        np.savez_compressed(path, **arrays, **labels)
    done = trained(path, folder / f"nodules{images}", settings)
    found = json.loads((done.folder / "evaluation.json").read_text())["labels"]["1"]
    print(f"\nnodules: {images} images to train on, 64 x 64, {len(done.curve)} epochs, {done.seconds:.0f} s")
    network = found["models"]["network"]
    line("AUROC", "network", network["figures"]["auroc"])
    line("AUROC", "logistic regression", found["models"]["logistic regression"]["figures"]["auroc"])
    line("AUROC", "network less logistic regression", found["comparisons"][0]["differences"]["auroc"])
    ideal = ideal_auroc(held_out)
    line("AUROC", "ideal observer (no image can be told better)", vars(ideal))
    beside_the_ideal(done, held_out)
    slope = network["calibration"]["slope"]
    right = slope["value"] is not None and SLOPES[0] <= slope["value"] <= SLOPES[1]
    line("calibration slope", "network", slope, target=right, wanted="0.9 to 1.1")
    line("observed : expected", "network", network["calibration"]["observed_expected"])
    line("label sets hold the truth (promised 90 %)", "network", network["conformal"]["figures"]["coverage"])
    refusals(done, held_out)


def beside_the_ideal(done: ClassifierSummary, held_out: NoduleSet) -> None:
    """The paired difference on the same images; the ideal observer's probability follows from its likelihood ratio."""
    import polars as pl
    from scipy.special import expit

    frame = pl.read_parquet(done.folder / "predictions.parquet")
    rows = frame["row"].to_numpy() - frame["row"].min()  # held-out images are the last in the file
    outcomes = Outcomes(frame["row"].to_numpy(), np.ones(len(frame)), held_out.labels[rows].astype(np.int8), 1.0)
    ideal = expit(held_out.log_likelihood_ratio[rows])
    found = compare(ideal, frame["1 network"].to_numpy(), outcomes, threshold=Threshold(0.5, "even"))
    short = found.differences["auroc"]
    assert short.value is not None
    line("AUROC", "ideal observer less network", vars(short), target=short.value <= WITHIN, wanted="at most 0.03")


def refusals(done: ClassifierSummary, held_out: NoduleSet) -> None:
    """How many images of each kind the model refuses, the kind it was made for among them."""
    whole = done.model.evaluation["refused"]
    if whole is None:
        print("  no check for unlike images: there are too few tuning images for one")
        return
    line("refused", "held-out radiographs", whole, target=whole["low"] <= FALSE_REFUSALS, wanted="5 %, in the interval")
    for name, pictures in other_kinds(bytes_of(held_out.images)).items():
        share = refused_share(done, pictures)
        line(f"refused of {len(pictures)}", name, {"value": share}, target=share >= REFUSED, wanted="at least 95 %")


def refused_share(done: ClassifierSummary, pictures: Pictures) -> float:
    """By the engine that users run; all say that they are radiographs, so that only their pixels can tell."""
    volumes = [Volume(picture[None], np.eye(4), modality="DX", placed=False) for picture in pictures]
    return float(np.mean([answer.refused for answer in classify(volumes, read_classifier(done.folder))]))


def other_kinds(radiographs: np.ndarray) -> dict[str, Pictures]:
    """Images that the model was not made for."""
    random = np.random.default_rng(SEEDS["test"])
    chosen = radiographs[:OTHERS].astype(np.float64)
    phase = np.exp(2j * np.pi * random.random((len(chosen), *chosen.shape[1:])))
    spectral = np.real(np.fft.ifft2(np.abs(np.fft.fft2(chosen - chosen.mean())) * phase)) * np.sqrt(2) + chosen.mean()
    kinds: dict[str, Pictures] = {
        "inverted radiographs": list(255 - radiographs[:OTHERS]),
        "radiographs upside down": list(radiographs[:OTHERS, ::-1]),
        "white noise of the same mean and spread": noise(random, chosen.mean(), chosen.std(), chosen.shape),
        "noise with the radiographs' power spectrum": clipped(spectral),
        "parts of photographs": photographs(random),
    }
    return kinds | ({"slices of a head CT (real)": head_slices()} if HEAD_CT.exists() else {})


def noise(random: np.random.Generator, mean: float, sd: float, shape: Sequence[int]) -> Pictures:
    """Independent Gaussian values."""
    return clipped(random.normal(mean, sd, tuple(shape)))


def clipped(values: np.ndarray) -> Pictures:
    """8-bit pictures of grey values."""
    return list(np.clip(np.round(values), 0, 255).astype(np.uint8))


def bytes_of(images: np.ndarray) -> np.ndarray:
    """0 to 1 as 8 bits; the rounding is a tenth of the noise."""
    return np.clip(np.round(images * 255), 0, 255).astype(np.uint8)


def photographs(random: np.random.Generator) -> Pictures:
    """Squares of random size and place from photographs, in grey."""
    import skimage
    from PIL import Image
    from sklearn.datasets import load_sample_images

    folder = Path(skimage.__file__).parent / "data"
    whole = [Image.open(folder / name) for name in PHOTOGRAPHS if (folder / name).exists()]
    whole += [Image.fromarray(image) for image in load_sample_images().images]
    found = []
    for number in range(OTHERS):
        image = np.asarray(whole[number % len(whole)].convert("L"))
        side = int(random.integers(*CROP))
        row, column = (int(random.integers(0, n - side)) for n in image.shape)
        found.append(image[row : row + side, column : column + side])
    return found


def head_slices() -> Pictures:
    """Slices of a head across each axis, -1000 to 1000 HU."""
    hu = head_hu()
    found = []
    for axis in range(3):
        turned = np.moveaxis(hu, axis, 0)
        places = np.linspace(0.15, 0.85, OTHERS // 3) * len(turned)
        found += [turned[int(place)] for place in places]
    return [np.clip((plane.astype(float) + 1000) / 2000 * 255, 0, 255).astype(np.uint8) for plane in found]


def trained(path: Path, out: Path, settings: ClassifierSettings) -> ClassifierSummary:
    """Train, telling on standard error what is being done."""
    last = [0.0]

    def progress(what: str, done: int, total: int) -> None:
        if time.monotonic() - last[0] > 10:
            last[0] = time.monotonic()
            print(f"  {what} {done}/{total}", file=sys.stderr)

    return train_classifier(path, out, settings=settings, progress=progress)


def line(figure: str, of: str, found: dict[str, Any], *, target: bool | None = None, wanted: str = "") -> None:
    """One figure with its interval and, where there is one, its target."""
    interval = f"({found['low']:.3f} to {found['high']:.3f})" if found.get("low") is not None else ""
    verdict = "" if target is None else f"target {wanted}: {'met' if target else 'MISSED'}"
    value = f"{found['value']:.3f}" if found["value"] is not None else f"none ({found['reason']})"
    print(f"  {figure:42} {of:44} {value} {interval:18} {verdict}")


if __name__ == "__main__":
    main()
