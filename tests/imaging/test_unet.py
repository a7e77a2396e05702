"""U-Nets have the parameters and the scores of dynamic_network_architectures, and refuse what is not known."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from careloop import InputError
from careloop.imaging.unet import build_unet, initialize

CASES = Path(__file__).parent / "segment" / "nnunet_cases.py"
NAMES = ("thick slices", "two channels", "regions", "2d", "coarse rows")


@pytest.fixture(scope="module")
def nnunet() -> ModuleType:
    spec = importlib.util.spec_from_file_location("nnunet_cases", CASES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_scores_are_those_of_dynamic_network_architectures(name: str, nnunet: ModuleType) -> None:
    case = nnunet.CASES[name]
    with np.load(nnunet.REFERENCE) as file:
        names, expected = file[f"{name}/names"], file[f"{name}/scores"]
    network = build_unet(nnunet.architecture(case), channels=len(case.schemes), outputs=case.outputs).eval()
    assert sorted(network.state_dict()) == list(names)
    network.load_state_dict(nnunet.drawn_weights(network.state_dict()))
    patch = torch.from_numpy(nnunet.drawn("patch", (1, len(case.schemes), *case.patch)))
    with torch.no_grad():
        scores = network(patch).numpy()
    np.testing.assert_allclose(scores[..., ::2, ::2], expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_deep_supervision_gives_every_resolution_in_training_only(nnunet: ModuleType) -> None:
    case = nnunet.CASES["two channels"]
    network = build_unet(nnunet.architecture(case, deep_supervision=True), channels=2, outputs=3)
    patch = torch.zeros(1, 2, 16, 16, 16)
    shapes = [tuple(scores.shape[2:]) for scores in network.train()(patch)]
    assert shapes == [(16, 16, 16), (16, 8, 8)]
    assert network.eval()(patch).shape == (1, 3, 16, 16, 16)


def test_older_plans_describe_the_same_network(nnunet: ModuleType) -> None:
    case = nnunet.CASES["thick slices"]
    older = {
        "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 4, "unet_max_num_features": 12,
        "n_conv_per_stage_encoder": [1, 2, 1], "n_conv_per_stage_decoder": [1, 1],
        "conv_kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        "pool_op_kernel_sizes": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    }  # fmt: skip
    newer = nnunet.architecture(case, features_per_stage=[4, 8, 12])
    a, b = (build_unet(plans, channels=1, outputs=2).state_dict() for plans in (older, newer))
    assert {key: value.shape for key, value in a.items()} == {key: value.shape for key, value in b.items()}


def test_first_weights_leave_residual_paths_silent(nnunet: ModuleType) -> None:
    network = build_unet(nnunet.architecture(nnunet.CASES["two channels"]), channels=2, outputs=3)
    initialize(network)
    for name, parameter in network.encoder.stages.named_parameters():
        if ".conv2.norm." in name:
            assert not parameter.any()
    first = network.encoder.stem.convs[0].conv
    assert isinstance(first, nn.Conv3d)
    assert not first.bias.any()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"conv_op": "os.system"}, "conv_op must be one of"),
        ({"norm_op": "torch.nn.modules.evil.Conv3d"}, "norm_op must be one of"),
        ({"nonlin": "builtins.eval"}, "nonlin must be one of"),
        ({"strides": [[1, 1, 1]]}, "strides must have 3 entries"),
        ({"squeeze_excitation": True}, "not known here: squeeze_excitation"),
    ],
)
def test_what_is_not_known_is_refused(changed: dict[str, Any], message: str, nnunet: ModuleType) -> None:
    with pytest.raises(InputError, match=message):
        build_unet(nnunet.architecture(nnunet.CASES["thick slices"], **changed), channels=1, outputs=2)


def test_unknown_class_is_refused_without_an_import() -> None:
    with pytest.raises(InputError, match="network_class_name"):
        build_unet({"network_class_name": "somewhere.Else", "arch_kwargs": {}}, channels=1, outputs=2)
    assert "somewhere" not in sys.modules
