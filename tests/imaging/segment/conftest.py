"""Shared by the tests of segmentation: nnU-Net's cases, what nnunetv2 made of them, and their model folders."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from careloop.imaging.volume import Volume


@pytest.fixture(scope="session")
def nnunet() -> ModuleType:
    """Small nnU-Net models and images (nnunet_cases.py)."""
    spec = importlib.util.spec_from_file_location("nnunet_cases", Path(__file__).with_name("nnunet_cases.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def reference(nnunet: ModuleType) -> Any:
    """What nnunetv2 made of them, by `case/what`."""
    with np.load(nnunet.REFERENCE) as file:
        return dict(file)


@pytest.fixture(scope="session")
def volumes_of(nnunet: ModuleType) -> Callable[[Any], list[Volume]]:
    """A case's image as volumes, one a channel."""

    def make(case: Any) -> list[Volume]:
        affine = np.diag([*case.spacing_mm, 1.0])
        affine = affine[[2, 1, 0, 3]]  # slices run along the patient's z, columns along x
        return [Volume(channel, affine) for channel in nnunet.image_of(case)]

    return make


@pytest.fixture(scope="session")
def model_folder(nnunet: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], Path]:
    """A case's trained folder, with weights drawn by the parameters' names."""
    from careloop.imaging.unet import build_unet

    made: dict[str, Path] = {}

    def make(case: Any) -> Path:
        if case.name not in made:
            network = build_unet(nnunet.architecture(case), channels=len(case.schemes), outputs=case.outputs)
            folder = tmp_path_factory.mktemp("model")
            made[case.name] = nnunet.write_folder(case, folder, nnunet.drawn_weights(network.state_dict()))
        return made[case.name]

    return make
