"""nnU-Net v2 folders: what is read of them, which folds and configurations, and what is refused by name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from careloop import InputError
from careloop.imaging.segment.formats.nnunet import is_nnunet, read_nnunet
from careloop.imaging.segment.formats.nnunet_checkpoint import read_checkpoint
from careloop.imaging.segment.model import Normalization


@pytest.fixture
def folder(nnunet: ModuleType, model_folder: Callable[[Any], Path], tmp_path: Path) -> Path:
    """A copy of the folder of `thick slices` that a test may change."""
    made = model_folder(nnunet.CASES["thick slices"])
    return Path(shutil.copytree(made, tmp_path / made.name))


def change(path: Path, *keys: str, to: Any) -> None:
    content = json.loads(path.read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    path.write_text(json.dumps(content))


def test_model_is_described_as_its_files_say(folder: Path) -> None:
    model = read_nnunet(folder)
    assert (model.name, model.kind, model.outputs, model.decision) == ("Dataset999_thick_slices", "nnunet", 3, "argmax")
    assert model.tiling.patch == (16, 16, 16)
    assert model.tiling.mirror_axes == (0, 1, 2)
    assert model.preparation.spacing_mm == (3.0, 0.8, 0.9)
    assert model.preparation.normalizations == (Normalization("ct", low=-300, high=320, mean=20, sd=150),)
    assert [(s.number, s.name) for s in model.segments] == [(1, "organ"), (2, "lesion")]
    assert model.notes["trainer"] == "nnUNetTrainer"
    network = model.networks[0].build
    assert network is not None
    assert not network().training


def test_regions_channels_and_axes(nnunet: ModuleType, model_folder: Callable[[Any], Path]) -> None:
    regions = read_nnunet(model_folder(nnunet.CASES["regions"]))
    assert (regions.decision, regions.region_labels, regions.outputs) == ("regions", (1, 2, 3), 3)
    two = read_nnunet(model_folder(nnunet.CASES["two channels"]))
    assert [n.scheme for n in two.preparation.normalizations] == ["zscore_foreground", "own_range"]
    assert two.preparation.axes == (2, 0, 1)
    assert two.tiling.mirror_axes == ()
    assert len(read_nnunet(model_folder(nnunet.CASES["2d"])).tiling.patch) == 2


def test_ignore_label_is_no_structure_and_channels_tell_modalities(folder: Path) -> None:
    change(folder / "dataset.json", "labels", to={"background": 0, "organ": 1, "lesion": 2, "ignore": 3})
    change(folder / "dataset.json", "channel_names", to={"0": "CT"})
    model = read_nnunet(folder)
    assert [s.name for s in model.segments] == ["organ", "lesion"]
    assert model.modalities == ("CT",)
    change(folder / "dataset.json", "channel_names", to={"0": "noNorm"})
    assert read_nnunet(folder).modalities == ()


def test_folds_are_an_ensemble_unless_named(folder: Path) -> None:
    shutil.copytree(folder / "fold_0", folder / "fold_3")
    shutil.copytree(folder / "fold_0", folder / "fold_all")
    assert len(read_nnunet(folder).networks) == 2
    assert len(read_nnunet(folder, folds=["all"]).networks) == 1
    with pytest.raises(InputError, match="missing in: fold_1"):
        read_nnunet(folder, folds=[1])


def test_best_checkpoint_stands_in_for_the_final_one(folder: Path) -> None:
    (folder / "fold_0" / "checkpoint_final.pth").rename(folder / "fold_0" / "checkpoint_best.pth")
    assert read_nnunet(folder).notes["checkpoints"] == "fold_0/checkpoint_best.pth"
    (folder / "fold_0" / "checkpoint_best.pth").unlink()
    with pytest.raises(InputError, match=r"checkpoint_final\.pth"):
        read_nnunet(folder)


def test_configuration_tells_models_of_a_data_set_apart(folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "nnUNetTrainer__nnUNetPlans__3d_lowres")
    assert is_nnunet(folder.parent)
    with pytest.raises(InputError, match="several models"):
        read_nnunet(folder.parent)
    assert read_nnunet(folder.parent, configuration="3d_fullres").outputs == 3
    with pytest.raises(InputError, match="none was found"):
        read_nnunet(folder.parent, configuration="2d")


def test_version_follows_the_weights(folder: Path) -> None:
    first = read_nnunet(folder)
    with (folder / "fold_0" / "checkpoint_final.pth").open("ab") as file:
        file.write(b"\0")
    assert read_nnunet(folder).version != first.version


def test_batch_normalisation_of_the_trainer_is_seen_in_the_weights(nnunet: ModuleType, tmp_path: Path) -> None:
    from careloop.imaging.unet import build_unet

    case = nnunet.CASES["regions"]
    norm = "torch.nn.modules.batchnorm.BatchNorm3d"
    network = build_unet(nnunet.architecture(case, norm_op=norm), channels=1, outputs=3)
    made = nnunet.write_folder(case, tmp_path, network.state_dict(), trainer_name="nnUNetTrainerBN")
    build = read_nnunet(made).networks[0].build
    assert build is not None
    assert any(isinstance(module, torch.nn.BatchNorm3d) for module in build().modules())


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("configurations", "3d_fullres", "previous_stage"), "3d_lowres", "second stage of a cascade"),
        (("configurations", "3d_fullres", "resampling_fn_data"), "resample_torch_fornnunet", "resampling_fn_data"),
        (("configurations", "3d_fullres", "normalization_schemes"), ["MyNormalization"], "normalization_schemes"),
        (("configurations", "3d_fullres", "preprocessor_name"), "MyPreprocessor", "preprocessor_name"),
        (("configurations", "3d_fullres", "inherits_from"), "3d_fullres", "must hold the configuration"),
        (("image_reader_writer",), "MyReader", "image_reader_writer"),
        (("label_manager",), "MyLabels", "label_manager"),
    ],
)
def test_what_is_not_known_is_refused_by_name(keys: tuple[str, ...], value: Any, message: str, folder: Path) -> None:
    change(folder / "plans.json", *keys, to=value)
    with pytest.raises(InputError, match=message):
        read_nnunet(folder)


def test_gap_in_labels_is_refused(folder: Path) -> None:
    change(folder / "dataset.json", "labels", to={"background": 0, "organ": 1, "lesion": 3})
    with pytest.raises(InputError, match="without gaps"):
        read_nnunet(folder)


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    arguments = ("configurations", "3d_fullres", "architecture", "arch_kwargs")
    change(folder / "plans.json", *arguments, "features_per_stage", to=[4, 6, 10])
    build = read_nnunet(folder).networks[0].build
    assert build is not None
    with pytest.raises(InputError, match="belongs to another network"):
        build()


class Harmful:
    """Makes a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = str(place)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.place,)


def test_checkpoint_with_code_is_refused_and_not_run(nnunet: ModuleType, tmp_path: Path) -> None:
    made = nnunet.write_folder(nnunet.CASES["2d"], tmp_path, {}, extra=Harmful(tmp_path / "harm"))
    with pytest.raises(InputError, match="more than weights and numbers"):
        read_nnunet(made)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_damaged_checkpoint_is_refused(content: bytes, folder: Path) -> None:
    (folder / "fold_0" / "checkpoint_final.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"no checkpoint of nnU-Net v2, or damaged"):
        read_nnunet(folder)


def test_weights_are_mapped_and_equal_to_the_files(folder: Path, nnunet: ModuleType) -> None:
    file = folder / "fold_0" / "checkpoint_final.pth"
    assert "encoder.stages.0.0.convs.0.conv.weight" in read_checkpoint(file).parameters
    build = read_nnunet(folder).networks[0].build
    assert build is not None
    for name, parameter in build().state_dict().items():
        np.testing.assert_array_equal(parameter.numpy(), nnunet.drawn(name, tuple(parameter.shape)))
