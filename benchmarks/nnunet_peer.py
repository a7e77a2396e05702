"""nnU-Net v2 model folders run by careloop beside nnU-Net's own predictor: agreement, time and memory on one CPU.

The peer makes real model folders from generated (simulated) images with its own planner and trainer: random weights
and briefly trained ones, two and three dimensions, 3 and 60 classes, plain and residual encoders. Both then segment the
same NIfTI file with mirroring on, as nnU-Net does by default, each in a process of its own, one after the other. Time
is from the model folder and the image on disk to the label file on disk, imports not counted; memory is the peak RSS of
the process plus that of its largest child. careloop runs twice: with an empty cache (`first`, the network is converted)
and with the network in it.

    python -m venv PEER && PEER/bin/pip install nnunetv2
    python benchmarks/nnunet_peer.py --peer PEER/bin/python [--folder DIR] [--repeats 1] [--cases NAME ...] [--small]

`--small` is no measurement of speed. Making the folders (planning, brief training) takes several minutes, once.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SEED = 20251127
TRAINING_IMAGES = 5


@dataclass(frozen=True)
class Dataset:
    """Simulated images that a model is planned for: (slices, rows, columns), mm, and the number of classes."""

    number: int
    name: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    classes: int


@dataclass(frozen=True)
class Case:
    """One model and one image: `iterations` of training (0: random weights), the image's shape and spacing."""

    name: str
    dataset: str
    configuration: str
    planner: str
    plans: str
    iterations: int
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]


RESENC, RESENC_PLANS = "nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans"
PLAIN, PLAIN_PLANS = "ExperimentPlanner", "nnUNetPlans"
ISO, FINE, THICK = (1.0, 1.0, 1.0), (0.8, 0.8, 0.8), (4.0, 1.0, 1.0)


def datasets(small: bool) -> list[Dataset]:
    """What models are planned and trained on."""
    edge, plane = (32, 64) if small else (96, 256)
    return [
        Dataset(901, "three", (edge,) * 3, ISO, 3),
        Dataset(902, "sixty", (edge,) * 3, ISO, 60),
        Dataset(903, "slices", (12 if small else 24, plane, plane), THICK, 3),
    ]


def cases(small: bool) -> list[Case]:
    """What is compared."""
    cube = (50, 50, 50) if small else (160, 160, 160)
    one = (32, 32, 32) if small else (96, 96, 96)
    flat = (6, 80, 80) if small else (20, 320, 320)
    few = 4 if small else 60
    return [
        Case("3d-3-trained", "three", "3d_fullres", PLAIN, PLAIN_PLANS, few, cube, FINE),
        Case("3d-3-random", "three", "3d_fullres", PLAIN, PLAIN_PLANS, 0, one, ISO),
        Case("3d-60-random", "sixty", "3d_fullres", PLAIN, PLAIN_PLANS, 0, cube, FINE),
        Case("resenc-3-trained", "three", "3d_fullres", RESENC, RESENC_PLANS, few, one, FINE),
        Case("2d-3-trained", "slices", "2d", PLAIN, PLAIN_PLANS, few, flat, (4.0, 0.8, 0.8)),
        Case("2d-60-random", "sixty", "2d", PLAIN, PLAIN_PLANS, 0, one, FINE),
    ]


# What both sides need


def simulated(shape: tuple[int, ...], classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A CT-like image (int16) and its labels: overlapping ellipsoids of different density, blurred, with noise."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    axes = [np.linspace(-1, 1, n) for n in shape]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    labels = np.zeros(shape, np.uint8)
    for label in range(1, classes):
        for _ in range(2):
            centre, radius = rng.uniform(-0.7, 0.7, 3), rng.uniform(0.15, 0.5, 3) * (0.5 if classes > 3 else 1)
            inside = sum(((a - c) / r) ** 2 for a, c, r in zip((z, y, x), centre, radius, strict=True)) < 1
            labels[inside] = label
    density = np.concatenate([[-100.0], np.linspace(50, 400, classes - 1)])
    image = gaussian_filter(density[labels].astype(np.float32), 0.8) + rng.normal(0, 40, shape)
    image[: shape[0] // 16] = 0  # a margin of zeros, to be cropped
    return image.astype(np.int16), labels


def save_nifti(array: np.ndarray, spacing_mm: tuple[float, ...], path: Path) -> None:
    """An array (slices, rows, columns) as NIfTI."""
    import nibabel

    affine = np.diag([*spacing_mm[::-1], 1.0])
    nibabel.save(nibabel.Nifti1Image(array.transpose(2, 1, 0), affine), path)


def image_of(case: Case, folder: Path) -> Path:
    """The image of a case."""
    return folder / "images" / f"{case.name}_0000.nii.gz"


def model_of(case: Case, folder: Path) -> Path:
    """The model folder of a case."""
    return folder / "models" / case.name / f"nnUNetTrainer__{case.plans}__{case.configuration}"


def report(seconds: float, **more: Any) -> None:
    """One JSON line, the last of standard output."""
    peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak, **more}))


# Steps in the peer's environment


def peer_make(folder: Path, small: bool, names: list[str]) -> None:
    """Datasets, plans, model folders and images that are not there yet."""
    wanted = [case for case in cases(small) if case.name in names]
    for dataset in datasets(small):
        if any(case.dataset == dataset.name for case in wanted):
            _simulate(dataset, folder)
    for case in wanted:
        _plan(case, next(d for d in datasets(small) if d.name == case.dataset), folder)
    for case in wanted:
        dataset = next(d for d in datasets(small) if d.name == case.dataset)
        if not image_of(case, folder).exists():
            image_of(case, folder).parent.mkdir(parents=True, exist_ok=True)
            save_nifti(simulated(case.shape, dataset.classes, SEED)[0], case.spacing_mm, image_of(case, folder))
        if not (model_of(case, folder) / "fold_0" / "checkpoint_final.pth").exists():
            _train(case, dataset, folder)


def _simulate(dataset: Dataset, folder: Path) -> None:
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    raw = folder / "raw" / f"Dataset{dataset.number}_{dataset.name}"
    if not raw.exists():
        (raw / "imagesTr").mkdir(parents=True)
        (raw / "labelsTr").mkdir()
        for i in range(TRAINING_IMAGES):
            image, labels = simulated(dataset.shape, dataset.classes, i)
            save_nifti(image, dataset.spacing_mm, raw / "imagesTr" / f"case{i}_0000.nii.gz")
            save_nifti(labels, dataset.spacing_mm, raw / "labelsTr" / f"case{i}.nii.gz")
        names = {"background": 0, **{f"structure {i}": i for i in range(1, dataset.classes)}}
        about = {
            "channel_names": {"0": "CT"},
            "labels": names,
            "numTraining": TRAINING_IMAGES,
            "file_ending": ".nii.gz",
        }
        (raw / "dataset.json").write_text(json.dumps(about))
        api.extract_fingerprints([dataset.number], num_processes=1)


def _plan(case: Case, dataset: Dataset, folder: Path) -> None:
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    done = folder / "preprocessed" / f"Dataset{dataset.number}_{dataset.name}"
    if not (done / f"{case.plans}.json").exists():
        api.plan_experiments([dataset.number], experiment_planner_class_name=case.planner)
    data = json.loads((done / f"{case.plans}.json").read_text())["configurations"][case.configuration]
    if not (done / data["data_identifier"]).exists():
        api.preprocess([dataset.number], case.plans, (case.configuration,), num_processes=[1])


def _train(case: Case, dataset: Dataset, folder: Path) -> None:
    """A model folder as nnU-Net writes it; training takes small patches, which does not change the network."""
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    base = folder / "preprocessed" / f"Dataset{dataset.number}_{dataset.name}"
    plans = json.loads((base / f"{case.plans}.json").read_text())
    about = json.loads((base / "dataset.json").read_text())
    shrunk = json.loads(json.dumps(plans)) | {"continue_training": False}
    configuration = shrunk["configurations"][case.configuration]
    if len(configuration["patch_size"]) == 3 and case.iterations:
        configuration["patch_size"] = [max(n // 2, 32) for n in configuration["patch_size"]]
    os.environ["nnUNet_n_proc_DA"] = "0"  # noqa: SIM112 (augment in this process)
    torch.manual_seed(SEED)
    np.random.seed(SEED)  # noqa: NPY002 (nnU-Net's own generator)
    trainer = nnUNetTrainer(shrunk, case.configuration, 0, about, torch.device("cpu"))
    trainer.initialize()
    trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()  # which axes prediction mirrors
    if case.iterations:
        trainer.on_train_start()
        for _ in range(case.iterations):
            trainer.train_step(next(trainer.dataloader_train))
    output = model_of(case, folder)
    (output / "fold_0").mkdir(parents=True, exist_ok=True)
    (output / "plans.json").write_text(json.dumps(plans))
    (output / "dataset.json").write_text(json.dumps(about))
    trainer.save_checkpoint(str(output / "fold_0" / "checkpoint_final.pth"))


def peer_predict(image: Path, model: Path, out: Path) -> None:
    """nnU-Net's own prediction, with its default settings for a CPU."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    start = time.perf_counter()
    predictor = nnUNetPredictor(perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), use_folds=(0,))
    predictor.predict_from_files_sequential([[str(image)]], [str(out)])
    report(time.perf_counter() - start)


# careloop's step, and the comparison


def careloop_segment(image: Path, model: Path, out: Path) -> None:
    """What `careloop image segment` does with one NIfTI file, and where its time goes."""
    import nibabel  # noqa: F401 (imports are not counted on either side)
    import openvino  # noqa: F401
    import scipy.ndimage  # noqa: F401

    from careloop.imaging.read.nifti import read_nifti
    from careloop.imaging.segment.formats.nnunet import read_nnunet
    from careloop.imaging.segment.run import segment
    from careloop.imaging.write.nifti import write_nifti

    start = time.perf_counter()
    trained = read_nnunet(model)
    volume = read_nifti(image, modality="CT")
    loaded = time.perf_counter() - start
    result = segment([volume], trained)
    write_nifti(result.label_map, out)
    stages = {"load": loaded} | {stage.name: stage.seconds for stage in result.stages}
    report(time.perf_counter() - start, stages=stages, backend=result.backend)


def run_step(python: Path, step: str, arguments: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """One step in a process of its own; its last line of output."""
    command = [str(python), __file__, "--step", step, *arguments]
    start = time.perf_counter()
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    whole = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    lines = done.stdout.strip().splitlines()
    return json.loads(lines[-1]) | {"process_seconds": whole} if step != "make" else {}


def compare(case: Case, arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs of one case, peer and careloop in turn."""
    folder = arguments.folder.resolve()
    runs: dict[str, list[dict[str, Any]]] = {"peer": [], "first": [], "cached": []}
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as cache:
            for kind in runs:
                out = folder / "labels" / f"{case.name}_{kind}{'' if kind == 'peer' else '.nii.gz'}"
                out.parent.mkdir(exist_ok=True)
                paths = {"image": image_of(case, folder), "model": model_of(case, folder), "out": out}
                step, python = ("peer", arguments.peer) if kind == "peer" else ("careloop", Path(sys.executable))
                flags = [text for name, path in paths.items() for text in (f"--{name}", str(path))]
                runs[kind].append(run_step(python, step, flags, peer_folders(folder) | {"CARELOOP_CACHE": cache}))
    return {"case": case.name, **agreement(case, folder), "runs": runs}


def agreement(case: Case, folder: Path) -> dict[str, float]:
    """Share of voxels with the same label, and the share of labelled voxels in the peer's result."""
    import nibabel

    theirs, ours = (
        np.asarray(nibabel.load(folder / "labels" / f"{case.name}_{kind}.nii.gz").dataobj)
        for kind in ("peer", "cached")
    )
    return {"equal": float(np.mean(theirs == ours)), "labelled": float(np.mean(theirs > 0))}


def show(result: dict[str, Any]) -> None:
    """One line of the table, and the shares of careloop's stages."""
    runs = result["runs"]

    def middle(kind: str, figure: str) -> float:
        return statistics.median(run[figure] for run in runs[kind])

    def ratio(kind: str, figure: str) -> float:
        return statistics.median(a[figure] / b[figure] for a, b in zip(runs[kind], runs["peer"], strict=True))

    print(
        f"{result['case']:18} {100 * result['equal']:9.4f} % {100 * result['labelled']:6.1f} % "
        f"{middle('peer', 'seconds'):8.1f} {middle('first', 'seconds'):8.1f} {middle('cached', 'seconds'):8.1f} "
        f"{ratio('first', 'seconds'):7.2f} {ratio('cached', 'seconds'):7.2f} "
        f"{middle('peer', 'peak_mib'):8.0f} {middle('cached', 'peak_mib'):8.0f} {ratio('first', 'peak_mib'):7.2f} "
        f"{ratio('cached', 'peak_mib'):7.2f}"
    )
    last = runs["cached"][-1]
    shares = ", ".join(f"{name} {seconds / last['seconds']:.0%}" for name, seconds in last["stages"].items())
    whole = " / ".join(f"{ratio(kind, 'process_seconds'):.2f}" for kind in ("first", "cached"))
    print(f"{'':18} ratio with imports {whole}; {shares}; {last['backend']}", flush=True)


def peer_folders(folder: Path) -> dict[str, str]:
    """nnU-Net's environment variables."""
    names = {f"nnUNet_{key}": str(folder / key) for key in ("raw", "preprocessed", "results")}
    return names | {"nnUNet_n_proc_DA": "1"}


def main() -> None:
    """Make what is missing, compare case by case, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="Python of the environment with nnunetv2")
    parser.add_argument("--folder", type=Path, default=Path("nnunet_peer"), help="models, images and labels")
    parser.add_argument("--cases", nargs="*", default=[])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--json", type=Path, help="also write all figures here")
    parser.add_argument("--step", choices=["make", "peer", "careloop"], help=argparse.SUPPRESS)
    for name in ("image", "model", "out"):
        parser.add_argument(f"--{name}", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names = arguments.cases or [case.name for case in cases(arguments.small)]
    if arguments.step == "make":
        return peer_make(arguments.folder, arguments.small, names)
    if arguments.step:
        run = peer_predict if arguments.step == "peer" else careloop_segment
        return run(arguments.image, arguments.model, arguments.out)
    folder = arguments.folder.resolve()
    flags = ["--folder", str(folder), *(["--small"] if arguments.small else []), "--cases", *names]
    run_step(arguments.peer, "make", flags, peer_folders(folder))
    print(f"{'case':18} {'equal':>11} {'labelled':>8} {'nnU-Net':>8} {'first':>8} {'cached':>8} {'ratio':>15} "
          f"{'nnU-Net':>8} {'cached':>8} {'ratio':>15}")  # fmt: skip
    print(f"{'':18} {'':11} {'':8} {'s':>8} {'s':>8} {'s':>8} {'first':>7} {'cached':>7} {'MiB':>8} {'MiB':>8} "
          f"{'first':>7} {'cached':>7}")  # fmt: skip
    results = []
    for case in cases(arguments.small):
        if case.name in names:
            results.append(compare(case, arguments))
            show(results[-1])
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))
    return None


if __name__ == "__main__":
    main()
