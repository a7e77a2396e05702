"""Small nnU-Net models and images, and what nnunetv2 makes of them: nnunet_reference.npz, written by running this file.

    PEER/bin/python tests/imaging/segment/nnunet_cases.py        # PEER: an environment with nnunetv2 (2.8.1 was used)

Weights are drawn from each parameter's name, so that equal outputs mean equal names and equal arithmetic.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

REFERENCE = Path(__file__).with_name("nnunet_reference.npz")
THREE = {"background": 0, "organ": 1, "lesion": 2}
REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}


@dataclass(frozen=True)
class Case:
    """A model and an image (channels, slices, rows, columns)."""

    name: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    target_mm: tuple[float, ...]
    schemes: tuple[str, ...]
    masked: tuple[bool, ...]
    labels: dict[str, Any]
    patch: tuple[int, ...] = (16, 16, 16)
    transpose: tuple[int, int, int] = (0, 1, 2)
    mirror: tuple[int, ...] | None = None
    network: str = "PlainConvUNet"

    @property
    def outputs(self) -> int:
        """Scores a voxel."""
        return 3


CASES = {
    case.name: case
    for case in (
        Case("thick slices", (10, 20, 18), (3.5, 1.0, 1.0), (3.0, 0.8, 0.9), ("CTNormalization",), (False,), THREE,
             mirror=(0, 1, 2)),
        Case("two channels", (14, 15, 16), (1.2, 1.0, 0.9), (1.0, 1.1, 1.0),
             ("ZScoreNormalization", "RescaleTo01Normalization"), (True, False), THREE, transpose=(2, 0, 1),
             network="ResidualEncoderUNet"),
        Case("regions", (12, 22, 17), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), ("NoNormalization",), (False,), REGIONS,
             mirror=(1,)),
        Case("2d", (5, 30, 26), (4.0, 1.0, 1.0), (1.2, 0.9), ("ZScoreNormalization",), (False,), THREE,
             patch=(16, 24), mirror=(0, 1)),
        Case("coarse rows", (12, 8, 18), (1.0, 2.0, 1.0), (1.0, 4.0, 0.9), ("ZScoreNormalization",), (False,), THREE),
    )
}  # fmt: skip


def image_of(case: Case) -> np.ndarray:
    """Blobs with noise, zero at the margin and in a hole; float32, as a reader gives it."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    image = 400 * gaussian_filter(rng.normal(size=(len(case.schemes), *case.shape)), (0, 2, 2, 2)) * 3
    image = np.rint(image + rng.normal(0, 20, image.shape)).astype(np.float32)
    image[:, :2] = 0
    image[:, :, :, -3:] = 0
    image[:, 5:7, 6:8, 6:8] = 0
    return image


def scores_of(case: Case, shape: tuple[int, ...]) -> np.ndarray:
    """Scores (K, *shape) in half precision, as the sliding window leaves them."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(zlib.crc32(case.name.encode()) + 1)
    return (8 * gaussian_filter(rng.normal(size=(case.outputs, *shape)), (0, 1, 1, 1))).astype(np.float16)


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter's values, from its name."""
    name = (
        name.replace("all_modules.0.", "conv.").replace("all_modules.1.", "norm.").replace("decoder.encoder", "encoder")
    )
    values = np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape)
    if name.endswith("running_var"):
        return (1 + 0.1 * np.abs(values)).astype(np.float32)
    if ".norm." in name:
        return (1 + 0.3 * values if name.endswith("weight") else 0.3 * values).astype(np.float32)
    return (values * np.sqrt(2 / max(np.prod(shape[1:]), 1))).astype(np.float32)


def architecture(case: Case, **changed: Any) -> dict[str, Any]:
    """The plans' architecture of a network small enough for a test."""
    dims = len(case.patch)
    blocks = "n_blocks_per_stage" if case.network == "ResidualEncoderUNet" else "n_conv_per_stage"
    arguments = {
        "n_stages": 3,
        "features_per_stage": [4, 6, 8],
        "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
        "kernel_sizes": [[1] + [3] * (dims - 1), [3] * dims, [3] * dims],
        "strides": [[1] * dims, [1] + [2] * (dims - 1), [2] * dims],
        blocks: [1, 2, 1],
        "n_conv_per_stage_decoder": [1, 1],
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{case.network}",
        "arch_kwargs": arguments | changed,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def plans_of(case: Case) -> dict[str, Any]:
    """plans.json."""
    resampling: dict[str, Any] = {}
    for part, order in (("data", 3), ("seg", 1), ("probabilities", 1)):
        resampling[f"resampling_fn_{part}"] = "resample_data_or_seg_to_shape"
        resampling[f"resampling_fn_{part}_kwargs"] = {
            "is_seg": part == "seg", "order": order, "order_z": 0, "force_separate_z": None,
        }  # fmt: skip
    name = "2d" if len(case.patch) == 2 else "3d_fullres"
    configuration = {
        "data_identifier": f"nnUNetPlans_{name}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(case.patch),
        "spacing": list(case.target_mm),
        "normalization_schemes": list(case.schemes),
        "use_mask_for_norm": list(case.masked),
        "architecture": architecture(case),
        **resampling,
    }
    properties = {"mean": 20.0, "std": 150.0, "percentile_00_5": -300.0, "percentile_99_5": 320.0}
    return {
        "dataset_name": f"Dataset999_{case.name.replace(' ', '_')}",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": list(case.transpose),
        "transpose_backward": [int(i) for i in np.argsort(case.transpose)],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(i): properties for i in range(len(case.schemes))},
        "configurations": {name: configuration},
    }


def dataset_of(case: Case) -> dict[str, Any]:
    """dataset.json."""
    order = {"regions_class_order": [1, 2, 3]} if case.labels is REGIONS else {}
    names = {str(i): f"signal {i}" for i in range(len(case.schemes))}
    return {"channel_names": names, "labels": case.labels, "numTraining": 1, "file_ending": ".nii.gz", **order}


def write_folder(case: Case, folder: Path, weights: dict[str, Any], *, fold: str = "fold_0", **changed: Any) -> Path:
    """A trained model's folder, as nnUNetTrainer leaves it; `changed` are entries of the checkpoint."""
    import torch

    plans = plans_of(case)
    configuration = next(iter(plans["configurations"]))
    folder = folder / f"nnUNetTrainer__nnUNetPlans__{configuration}"
    (folder / fold).mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset_of(case)))
    checkpoint = {
        "network_weights": weights,
        "optimizer_state": {"state": {}},
        "grad_scaler_state": None,
        "logging": {"train_losses": [np.float32(0.5)], "mean_fg_dice": [np.float64(0.25)], "lrs": [1e-2]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 1,
        "init_args": {"configuration": configuration, "fold": 0, "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": case.mirror,
    }
    torch.save(checkpoint | changed, folder / fold / "checkpoint_final.pth")
    return folder


def drawn_weights(expected: dict[str, Any]) -> dict[str, Any]:
    """A state dict of the same names and shapes with drawn values."""
    import torch

    return {
        key: value if key.endswith("num_batches_tracked") else torch.from_numpy(drawn(key, tuple(value.shape)))
        for key, value in expected.items()
    }


def reference(case: Case, folder: Path) -> dict[str, np.ndarray]:
    """What nnunetv2 makes of a case: names of parameters, scores of a patch, the prepared image, and labels."""
    import torch
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    made = architecture(case)
    network = get_network_from_plans(
        made["network_class_name"], made["arch_kwargs"], made["_kw_requires_import"], len(case.schemes), case.outputs,
        deep_supervision=False,
    )  # fmt: skip
    weights = drawn_weights(network.state_dict())
    network.load_state_dict(weights)
    patch = torch.from_numpy(drawn("patch", (1, len(case.schemes), *case.patch)))
    with torch.no_grad():
        scores = network.eval()(patch).numpy()
    model = write_folder(case, folder, weights)
    plans = PlansManager(str(model / "plans.json"))
    configuration = plans.get_configuration(next(iter(plans.plans["configurations"])))
    properties: dict[str, Any] = {"spacing": list(case.spacing_mm)}
    prepared, _, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        image_of(case), None, properties, plans, configuration, dataset_of(case)
    )
    decided = convert_predicted_logits_to_segmentation_with_correct_shape(
        torch.from_numpy(scores_of(case, prepared.shape[1:])), plans, configuration,
        plans.get_label_manager(dataset_of(case)), properties,
    )  # fmt: skip
    predictor = nnUNetPredictor(perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model), use_folds=(0,))
    labels = predictor.predict_single_npy_array(image_of(case), {"spacing": list(case.spacing_mm)})
    return {
        "names": np.array(sorted(weights)),
        "scores": scores[..., ::2, ::2],  # every other row and column, to keep the file small
        "prepared": prepared,
        "decided": np.asarray(decided, np.uint8),
        "labels": np.asarray(labels, np.uint8),
    }


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        found = {
            f"{name}/{key}": value
            for name, case in CASES.items()
            for key, value in reference(case, Path(directory) / name.replace(" ", "_")).items()
        }
    np.savez_compressed(REFERENCE, **found)
