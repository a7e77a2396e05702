"""MONAI bundles: read as data, and run to the labels that MONAI's own transforms and sliding window give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai import transforms
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet

from careloop import InputError
from careloop.imaging.read.nifti import read_nifti
from careloop.imaging.segment.formats.monai import read_monai
from careloop.imaging.segment.run import segment

NETWORK = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "channels": [4, 8, 8],
    "strides": [2, 2],
    "num_res_units": 1,
    "norm": "batch",
}
METADATA = {
    "version": "0.2.0",
    "description": "random weights, for a test",
    "network_data_format": {
        "inputs": {"image": {"modality": "CT", "num_channels": 1, "channel_def": {"0": "image"}}},
        "outputs": {
            "pred": {"num_channels": 3, "channel_def": {"0": "background", "1": "spleen", "2": "spleen tumour"}}
        },
    },
}
PREPROCESSING: list[dict[str, Any]] = [
    {"_target_": "LoadImaged", "keys": "image"},
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
    {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
    {"_target_": "Spacingd", "keys": "image", "pixdim": "@spacing", "mode": "bilinear"},
    {
        "_target_": "monai.transforms.ScaleIntensityRanged",
        "keys": "image",
        "a_min": -57,
        "a_max": 164,
        "b_min": 0,
        "b_max": 1,
        "clip": True,
    },
    {"_target_": "EnsureTyped", "keys": "image"},
]
SPACING = [2.0, 2.0, 2.5]


def bundle(folder: Path, **changes: Any) -> Path:
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    config = {
        "device": "$torch.device('cpu')",
        "spacing": SPACING,
        "network_def": NETWORK,
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": PREPROCESSING},
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": [16, 16, 16],
            "sw_batch_size": 4,
            "overlap": 0.5,
            "mode": "gaussian",
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            ],
        },
    } | changes
    (folder / "configs" / "inference.json").write_text(json.dumps(config))
    (folder / "configs" / "metadata.json").write_text(json.dumps(METADATA))
    torch.manual_seed(0)
    network = UNet(**{k: v for k, v in NETWORK.items() if k != "_target_"})
    torch.save({"model": network.state_dict()}, folder / "models" / "model.pt")
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    random = np.random.default_rng(3)
    low = random.normal(40, 80, (9, 8, 7))
    voxels = np.kron(low, np.ones((4, 5, 4)))[:34, :38, :25] + random.normal(0, 10, (34, 38, 25))
    affine = np.array([[0.0, 1.5, 0, -30], [-1.6, 0, 0, 40], [0, 0, 2.8, 5], [0, 0, 0, 1]])  # not RAS as stored
    nibabel.save(nibabel.Nifti1Image(voxels.astype(np.int16), affine), tmp_path / "image.nii.gz")
    return tmp_path / "image.nii.gz"


def monai_labels(image: Path, folder: Path) -> np.ndarray:
    """What MONAI makes of the bundle, step by step."""
    steps = transforms.Compose(
        [
            transforms.LoadImaged("image"),
            transforms.EnsureChannelFirstd("image"),
            transforms.Orientationd("image", axcodes="RAS"),
            transforms.Spacingd("image", pixdim=SPACING, mode="bilinear"),
            transforms.ScaleIntensityRanged("image", a_min=-57, a_max=164, b_min=0, b_max=1, clip=True),
        ]
    )
    network = UNet(**{k: v for k, v in NETWORK.items() if k != "_target_"})
    network.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True)["model"])
    made = steps({"image": str(image)})
    with torch.no_grad():
        scores = SlidingWindowInferer((16, 16, 16), overlap=0.5, mode="gaussian")(made["image"][None], network.eval())
    made["pred"] = scores[0].softmax(0)
    undo = transforms.Invertd("pred", transform=steps, orig_keys="image", nearest_interp=False, to_tensor=True)
    return undo(made)["pred"].argmax(0).numpy()


def test_labels_are_monais(tmp_path: Path, image: Path) -> None:
    folder = bundle(tmp_path / "spleen")
    model = read_monai(folder)
    assert [(s.number, s.name) for s in model.segments] == [(1, "spleen"), (2, "spleen tumour")]
    assert model.modalities == ("CT",)
    ours = segment([read_nifti(image, modality="CT")], model).label_map.labels.transpose(2, 1, 0)
    theirs = monai_labels(image, folder)
    assert len(np.unique(theirs)) > 1
    # Random weights decide by a hair almost everywhere, and scores are resampled before, not after, the softmax.
    assert np.mean(ours == theirs) > 0.97


def test_torchscript_runs_without_naming_the_network(tmp_path: Path, image: Path) -> None:
    folder = bundle(tmp_path / "spleen")
    volume = read_nifti(image, modality="CT")
    plain = segment([volume], read_monai(folder)).label_map.labels
    network = UNet(**{k: v for k, v in NETWORK.items() if k != "_target_"})
    network.load_state_dict(torch.load(folder / "models" / "model.pt", weights_only=True)["model"])
    torch.jit.trace(network.eval(), torch.zeros(1, 1, 16, 16, 16)).save(folder / "models" / "model.ts")
    (folder / "models" / "model.pt").unlink()
    assert np.mean(segment([volume], read_monai(folder)).label_map.labels == plain) > 0.9999


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"spacing": "$[1.5, 1.5, 2.0]"}, "must be plain data"),
        ({"spacing": "@spacing"}, "must be plain data"),
        ({"inferer": {"_target_": "SimpleInferer"}}, "SlidingWindowInferer"),
        ({"preprocessing": {"transforms": [{"_target_": "RandFlipd", "keys": "image"}]}}, "RandFlip is not known"),
        ({"preprocessing": "@nowhere"}, "no entry 'nowhere'"),
        ({"preprocessing": {"transforms": ["$something"]}}, "must be a transform"),
    ],
)
def test_what_would_need_python_or_is_not_known_is_refused(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_monai(bundle(tmp_path / "b", **changes))


def test_weights_that_are_more_than_weights_are_refused(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "b")
    torch.save({"model": Path("anything")}, folder / "models" / "model.pt")
    with pytest.raises(InputError, match="without running code"):
        read_monai(folder).networks[0].build()  # type: ignore[misc]
    (folder / "models" / "model.pt").unlink()
    with pytest.raises(InputError, match=r"must hold model.pt or model.ts"):
        read_monai(folder)


def test_a_network_by_another_name_is_refused(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "b", network_def={"_target_": "os.system", "command": "true"})
    with pytest.raises(InputError, match="networks must be one of"):
        read_monai(folder).networks[0].build()  # type: ignore[misc]
