"""A restoration network on planes of any size: OpenVINO against torch, and tiles against the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_denoiser import small_model

from careloop.imaging.restore import run
from careloop.imaging.restore.run import PlaneRestorer, tiles
from careloop.imaging.segment.runtime import TorchNetwork


def by_torch(model, plane: np.ndarray, level: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model.build()(torch.from_numpy(np.stack([plane, level])[None]))[0].numpy()


def test_openvino_gives_what_torch_gives_and_odd_sizes_are_mirrored_at_the_edge(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    model = small_model(tmp_path)
    plane = np.random.default_rng(0).random((37, 50), dtype=np.float32)
    found = PlaneRestorer(model, device="cpu", threads=1)(plane, 0.1)
    padded = np.pad(plane, ((0, 27), (0, 14)), mode="symmetric")
    truth = by_torch(model, padded, np.full_like(padded, 0.1))[:, :37, :50]
    assert np.allclose(found.plane, truth[0], atol=1e-5)
    assert np.allclose(found.expected_error, truth[1], atol=1e-5)


@pytest.mark.parametrize(("ways", "maps"), [(2, 1), (4, 1), (8, 1), (4, 3)])
def test_averaged_planes_turn_with_the_plane(
    ways: int, maps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turned or mirrored, a plane with its maps of levels gives the same result turned; once is not enough for it."""
    monkeypatch.setattr(run, "open_network", lambda source, **how: TorchNetwork(source.build(), 1, "torch"))
    monkeypatch.setattr(run, "ways_of", lambda pixels: ways)
    restorer = PlaneRestorer(small_model(tmp_path, level_maps=maps), device="cpu", threads=1)
    plane, *levels = np.random.default_rng(0).random((1 + maps, 64, 96), dtype=np.float32)
    level = np.stack(levels)
    upright, once = restorer.averaged(plane, level), []
    for way in run.WAYS[:ways]:
        turned = restorer.averaged(turn(plane, *way), turn(level, *way))
        assert np.allclose(upright.plane, turn_back(turned.plane, *way), atol=1e-6)
        assert np.allclose(upright.expected_error, turn_back(turned.expected_error, *way), atol=1e-6)
        once.append(turn_back(restorer(turn(plane, *way), turn(level, *way)).plane, *way))
    assert not np.allclose(once[0], once[1], atol=1e-3)
    assert np.allclose(upright.plane, np.mean(once, axis=0), atol=1e-6)


def turn(plane: np.ndarray, swapped: bool, down: int, right: int) -> np.ndarray:
    return (np.swapaxes(plane, -2, -1) if swapped else plane)[..., ::down, ::right]


def turn_back(plane: np.ndarray, swapped: bool, down: int, right: int) -> np.ndarray:
    return plane[::down, ::right].T if swapped else plane[::down, ::right]


def test_small_planes_are_restored_in_more_ways() -> None:
    assert [run.ways_of(n * n) for n in (64, 384, 385, 512)] == [4, 4, 2, 2]
    assert len(set(run.WAYS)) == 8


def test_tiles_give_what_the_whole_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small network sees fewer than 16 pixels, so an overlap of 32 leaves no seam."""
    monkeypatch.setattr(run, "open_network", lambda source, **how: TorchNetwork(source.build(), 1, "torch"))
    model = small_model(tmp_path)
    plane = np.random.default_rng(0).random((160, 224), dtype=np.float32)
    whole = PlaneRestorer(model, device="cpu", threads=1)(plane, 0.1)
    monkeypatch.setattr(run, "LARGEST", 128)
    monkeypatch.setattr(run, "OVERLAP", 32)
    tiled = PlaneRestorer(model, device="cpu", threads=1)(plane, 0.1)
    assert np.allclose(tiled.plane, whole.plane, atol=1e-5)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(rows=st.integers(1, 2500), columns=st.integers(1, 2500))
def test_tiles_cover_each_pixel_once(rows: int, columns: int) -> None:
    seen = np.zeros((rows, columns), np.uint8)
    for inner, outer in tiles((rows, columns)):
        seen[inner] += 1
        assert all(o.stop - o.start <= run.LARGEST for o in outer)
        assert all(o.start <= i.start and i.stop <= o.stop for i, o in zip(inner, outer, strict=True))
    assert (seen == 1).all()
