"""Whole runs: nnU-Net's labels from its folder and image, on the image's own grid, with stages and findings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from careloop import InputError
from careloop.imaging.finding import RefusedSeriesError
from careloop.imaging.segment.formats.nnunet import read_nnunet
from careloop.imaging.segment.model import NetworkSource
from careloop.imaging.segment.run import RunSettings, segment
from careloop.imaging.segment.runtime import TorchNetwork
from careloop.imaging.volume import Volume

NAMES = ("thick slices", "two channels", "regions", "2d", "coarse rows")
ONE_THREAD = RunSettings(device="cpu", threads=1)
STOPPED_AT = 10  # call of the network: within the third tile, with four flips a tile


@pytest.fixture
def on_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks as torch modules: converting one takes longer than all else here, and is tested where it is done."""

    def opened(source: NetworkSource, **_: Any) -> TorchNetwork:
        assert source.build is not None
        return TorchNetwork(source.build(), 1, "torch")

    monkeypatch.setattr("careloop.imaging.segment.run.open_network", opened)


@pytest.fixture
def case_and_model(nnunet: ModuleType, model_folder: Callable[[Any], Path]) -> Callable[[str], tuple[Any, Any]]:
    """A case and its model."""
    return lambda name: (nnunet.CASES[name], read_nnunet(model_folder(nnunet.CASES[name])))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("on_torch")
def test_labels_are_those_of_nnunets_predictor(
    name: str, case_and_model: Any, reference: Any, volumes_of: Callable[[Any], list[Volume]]
) -> None:
    case, model = case_and_model(name)
    seen: list[tuple[int, int]] = []
    result = segment(volumes_of(case), model, settings=ONE_THREAD, progress=lambda _, done, of: seen.append((done, of)))
    np.testing.assert_array_equal(result.label_map.labels, reference[f"{name}/labels"])
    assert result.label_map.segments == model.segments
    assert seen[-1][0] == seen[-1][1]
    assert [stage.name for stage in result.stages] == ["prepare", "open networks", "networks", "labels"]


def test_openvino_gives_the_same_labels(
    case_and_model: Any, reference: Any, volumes_of: Callable[[Any], list[Volume]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("CARELOOP_CACHE", str(tmp_path))
    case, model = case_and_model("thick slices")
    result = segment(volumes_of(case), model, settings=ONE_THREAD)
    assert "OpenVINO" in result.backend
    assert np.mean(result.label_map.labels == reference["thick slices/labels"]) >= 0.9999


@pytest.mark.usefixtures("on_torch")
def test_tilted_volume_comes_back_on_its_own_grid(
    case_and_model: Any, reference: Any, volumes_of: Callable[[Any], list[Volume]]
) -> None:
    case, model = case_and_model("thick slices")
    (volume,) = volumes_of(case)
    tilted_affine = volume.affine.copy()
    tilted_affine[1, 0] = 1.0  # each slice lies a row further
    result = segment([replace(volume, affine=tilted_affine)], model, settings=ONE_THREAD)
    assert result.label_map.labels.shape == volume.voxels.shape
    np.testing.assert_array_equal(result.label_map.affine, tilted_affine)
    assert any(f.check == "gantry tilt" and f.verdict == "handled" for f in result.findings)


@pytest.mark.usefixtures("on_torch")
def test_settings_leave_flips_and_networks_out(case_and_model: Any, volumes_of: Callable[[Any], list[Volume]]) -> None:
    case, model = case_and_model("2d")
    model = replace(model, networks=model.networks * 2)
    volumes = volumes_of(case)
    one = segment(volumes, model, settings=replace(ONE_THREAD, network=1))
    both = segment(volumes, model, settings=ONE_THREAD)
    np.testing.assert_array_equal(one.label_map.labels, both.label_map.labels)  # the same network twice
    plain = segment(volumes, model, settings=replace(ONE_THREAD, mirroring="off", network=0))
    assert (plain.label_map.labels != one.label_map.labels).any()
    with pytest.raises(InputError, match="network must be from 0 to 1"):
        segment(volumes, model, settings=replace(ONE_THREAD, network=2))


@pytest.mark.usefixtures("on_torch")
def test_stopped_run_goes_on_and_ends_alike(
    case_and_model: Any, reference: Any, volumes_of: Callable[[Any], list[Volume]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    case, model = case_and_model("2d")
    settings = replace(ONE_THREAD, resume_in=tmp_path)
    calls: list[int] = []
    run = TorchNetwork.__call__

    def interrupted(self: TorchNetwork, tiles: Any) -> Any:
        calls.append(1)
        if len(calls) == STOPPED_AT:
            raise KeyboardInterrupt
        return run(self, tiles)

    with monkeypatch.context() as patched:
        patched.setattr(TorchNetwork, "__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            segment(volumes_of(case), model, settings=settings)
    done: list[int] = []
    result = segment(volumes_of(case), model, settings=settings, progress=lambda _, n, of: done.append(n))
    assert done[0] > 1
    np.testing.assert_array_equal(result.label_map.labels, reference["2d/labels"])
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("on_torch")
def test_another_modality_is_refused(case_and_model: Any, volumes_of: Callable[[Any], list[Volume]]) -> None:
    case, model = case_and_model("thick slices")
    (volume,) = volumes_of(case)
    with pytest.raises(RefusedSeriesError, match="cannot be used"):
        segment([replace(volume, modality="MR")], replace(model, modalities=("CT",)), settings=ONE_THREAD)
