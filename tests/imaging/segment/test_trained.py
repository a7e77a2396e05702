"""Model folders of the trainer: what is written is read back, and a damaged or exchanged part is refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from careloop import InputError
from careloop.imaging.segment.formats.trained import TrainedFile, is_trained, read_trained
from careloop.imaging.segment.model import Normalization, Preparation, Tiling
from careloop.imaging.unet import build_unet
from careloop.imaging.volume import Segment

ARCHITECTURE = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
    "arch_kwargs": {
        "n_stages": 2,
        "features_per_stage": [4, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [2, 2, 2]],
        "n_blocks_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model folder with random weights."""
    torch.manual_seed(0)
    network = build_unet(ARCHITECTURE, channels=1, outputs=2)
    weights = {name: value for name, value in network.state_dict().items() if "all_modules" not in name}
    own = {name: value for name, value in weights.items() if not name.startswith("decoder.encoder.")}
    save_file(own, tmp_path / "weights.safetensors")
    (tmp_path / "model.json").write_text(described(tmp_path).to_json())
    return tmp_path


def described(folder: Path) -> TrainedFile:
    return TrainedFile(
        name="heart",
        channels=("CT",),
        segments=(Segment(1, "heart", ("SCT", "123037004", "Anatomical Structure"), colour=(1, 2, 3)),),
        outputs=2,
        architecture=ARCHITECTURE,
        preparation=Preparation((Normalization("ct", -900.0, 300.0, 40.0, 100.0),), (3.0, 2.0, 2.0), orientation="SPL"),
        tiling=Tiling((16, 16, 16)),
        weights=hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest(),
        intended_use="Outlines heart.",
        modalities=("CT",),
        training={"data": "simulated", "cases": 4, "epochs": 2, "size": "small"},
        validation={"dice": {"heart": {"value": 0.9, "low": 0.85, "high": 0.95, "reason": None}}},
    )


def test_what_was_written_is_read(folder) -> None:
    model = read_trained(folder)
    said = described(folder)
    assert is_trained(folder)
    assert (model.name, model.kind, model.channels, model.modalities) == ("heart", "careloop", ("CT",), ("CT",))
    assert (model.preparation, model.tiling, model.segments) == (said.preparation, said.tiling, said.segments)
    assert len(model.version) == 12
    assert model.notes["validation Dice of heart"] == "0.900 (95 % interval 0.850 to 0.950)"
    assert model.notes["warning"].startswith("Not for clinical use")
    torch.manual_seed(0)
    network = build_unet(ARCHITECTURE, channels=1, outputs=2).eval()
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        assert torch.equal(model.networks[0].build()(x), network(x))


def test_the_version_follows_from_what_is_said(folder) -> None:
    said = described(folder)
    versions = [json.loads(text)["version"] for text in (said.to_json(), replace(said, outputs=3).to_json())]
    assert versions[0] == read_trained(folder).version
    assert versions[0] != versions[1]
    assert json.loads(replace(said, version="other").to_json())["version"] == versions[0]


def test_other_weights_are_refused(folder) -> None:
    (folder / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(InputError, match=r"is not the file that model.json was written with"):
        read_trained(folder)
    (folder / "weights.safetensors").unlink()
    assert not is_trained(folder)
    with pytest.raises(InputError, match=r"weights.safetensors cannot be read"):
        read_trained(folder)


def test_weights_of_another_network_are_refused(folder) -> None:
    said = replace(described(folder), outputs=5)
    (folder / "model.json").write_text(said.to_json())
    build = read_trained(folder).networks[0].build
    assert build is not None
    with pytest.raises(InputError, match=r"does not fit the network of model.json"):
        build()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outputs": "many"}, r"model.json: outputs: "),
        ({"format_version": 2}, r"format_version: .* train the model again"),
        ({"preparation": {"normalizations": [{"scheme": "magic"}], "spacing_mm": None}}, r"scheme: "),
    ],
)
def test_a_damaged_description_is_named(folder, change, message) -> None:
    document = json.loads((folder / "model.json").read_text()) | change
    (folder / "model.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=message):
        read_trained(folder)


def test_a_folder_of_something_else(tmp_path) -> None:
    assert not is_trained(tmp_path)
    with pytest.raises(InputError, match=r"has no model.json"):
        read_trained(tmp_path)
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(InputError, match=r"model.json: the file: "):
        read_trained(tmp_path)
