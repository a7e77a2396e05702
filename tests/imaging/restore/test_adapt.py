"""Adapting a network to one image: the estimated error against the true one, and what comes of following it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from small_denoiser import small_model
from torch import nn
from torch.nn import functional

from careloop import InputError
from careloop.imaging.finding import RefusedSeriesError
from careloop.imaging.restore import adapt
from careloop.imaging.restore.adapt import AdaptationWork, adapted, estimated_error
from careloop.imaging.restore.apply import RestorationTask, restore
from careloop.imaging.restore.run import PlaneRestorer
from careloop.imaging.restore.white_noise import NoisyPlane
from careloop.imaging.volume import Volume

LEVEL = 0.1


def stripes(rows: int = 64, columns: int = 96) -> np.ndarray:
    """Fine and coarse waves from 0.2 to 0.8."""
    row, column = np.indices((rows, columns))
    return (0.5 + 0.2 * np.sin(row / 3) + 0.1 * np.sin(column / 7)).astype(np.float32)


def noisy_stripes(seed: int = 0) -> NoisyPlane:
    noise = np.random.default_rng(seed).standard_normal((64, 96), dtype=np.float32)
    return NoisyPlane(stripes() + np.float32(LEVEL) * noise, LEVEL)


def error_of(restorer: PlaneRestorer, noisy: NoisyPlane) -> float:
    return float(np.mean((restorer.averaged(noisy.plane, noisy.level).plane - stripes()) ** 2))


class Smoothing(nn.Module):
    """Soft thresholds of the plane and its local mean: neither linear nor an identity."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        plane = x[:, :1]
        mean = functional.avg_pool2d(plane, 3, 1, 1)
        return mean + functional.softshrink(plane - mean, 0.05)


@given(level=st.floats(0.02, 0.3), seed=st.integers(0, 100))
@settings(deadline=None, max_examples=10)
def test_the_estimated_error_is_the_true_one_on_average(level: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    clean = np.broadcast_to(stripes(), (64, 1, 64, 96))
    noisy = clean + level * random.standard_normal(clean.shape)
    probe = random.standard_normal(clean.shape)
    sigma = torch.full((64, 1, 1, 1), level, dtype=torch.float64)
    given_planes = torch.from_numpy(noisy)
    found = float(estimated_error(Smoothing(), given_planes, sigma, torch.from_numpy(probe)))
    restored = Smoothing()(torch.cat([given_planes, sigma.expand_as(given_planes)], 1))
    true = float(((restored - torch.from_numpy(np.array(clean))) ** 2).mean()) / level**2
    assert found == pytest.approx(true, abs=0.02)  # 400,000 pixels: a standard deviation of 0.004 or less


def test_an_adapted_network_is_nearer_to_the_clean_plane_and_the_given_one_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(adapt, "LEARNING_RATE", 3e-3)  # the small network begins with random weights
    restorer, noisy = PlaneRestorer(small_model(tmp_path), device="cpu", threads=1), noisy_stripes()
    before, heard = error_of(restorer, noisy), []
    better = adapted(restorer, [noisy], progress=lambda *said: heard.append(said))
    assert error_of(better, noisy) < 0.6 * before
    assert error_of(restorer, noisy) == before
    assert heard[-1] == ("adapting the network to the image", adapt.STEPS, adapt.STEPS)
    again = adapted(restorer, [noisy])
    assert error_of(again, noisy) == error_of(better, noisy)


def test_an_adapted_network_averages_all_ways_at_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapt, "STEPS", 1)
    monkeypatch.setattr("careloop.imaging.restore.run.ways_of", lambda pixels: 1)
    noisy = noisy_stripes()
    restorer = adapted(PlaneRestorer(small_model(tmp_path), device="cpu", threads=1), [noisy])
    upright = restorer.averaged(noisy.plane, LEVEL).plane
    assert np.allclose(upright, restorer.averaged(noisy.plane.T[::-1], LEVEL).plane[::-1].T, atol=1e-6)
    assert not np.allclose(upright, restorer(noisy.plane, LEVEL).plane, atol=1e-6)


def test_planes_are_drawn_by_their_size_and_patches_lie_within_the_smallest() -> None:
    planes = [NoisyPlane(np.zeros((33, 90), np.float32), LEVEL), NoisyPlane(np.zeros((200, 297), np.float32), LEVEL)]
    work = AdaptationWork(planes, multiple=8)
    assert work.edge == 32
    assert work.growth == pytest.approx(np.sqrt((33 * 90 + 200 * 297) / 60_000))
    assert AdaptationWork(planes[:1], multiple=8).growth == 1.0
    assert AdaptationWork(planes * 99, multiple=8).growth == 2.5
    drawn = np.concatenate(work.epoch_batches(0))
    assert (drawn == 0).mean() == pytest.approx(33 * 90 / (33 * 90 + 200 * 297), abs=0.04)


def test_what_was_not_adapted_does_not_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The only slice that is learnt from has no noise, the other one is restored by the network as it was."""
    monkeypatch.setattr("careloop.imaging.restore.apply.MOST_ADAPTED_TO", 1)
    volume = Volume(1000 * np.stack([stripes(), noisy_stripes().plane]), np.eye(4), modality="MR", placed=False)
    made = restore(volume, RestorationTask("denoise", noise="gaussian", adapt=True), device="cpu", threads=1)
    assert "adapted" not in made.description
    assert np.abs(made.volume.voxels[1] - volume.voxels[1]).max() > 0


def test_a_volume_is_adapted_to_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapt, "STEPS", 2)
    voxels = np.stack([1000 * noisy_stripes(seed).plane for seed in range(3)])
    volume = Volume(voxels, np.eye(4), modality="MR", placed=False)
    plain = restore(volume, RestorationTask("denoise", noise="gaussian"), device="cpu", threads=1)
    made = restore(volume, RestorationTask("denoise", noise="gaussian", adapt=True), device="cpu", threads=1)
    assert made.description == f"{plain.description}, adapted to the image"
    assert made.levels == plain.levels
    assert np.abs(made.volume.voxels - plain.volume.voxels).max() > 0


def test_noise_unlike_training_is_refused_before_anything_is_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("careloop.imaging.restore.apply.adapted", lambda *_, **__: pytest.fail("it was adapted"))
    noise = gaussian_filter(np.random.default_rng(0).standard_normal((3, 64, 96)), (0, 1.2, 1.2))
    volume = Volume(1000 * (stripes() + LEVEL * noise / noise.std()), np.eye(4), modality="MR", placed=False)
    task = RestorationTask("denoise", noise="gaussian", level=1000 * LEVEL, adapt=True)
    with pytest.raises(RefusedSeriesError, match="noise unlike training"):
        restore(volume, task, device="cpu", threads=1)


@pytest.mark.parametrize("task", ["low-dose", "auto", "upsample"])
def test_only_white_noise_can_be_adapted_to(task) -> None:
    volume = Volume(1000 * noisy_stripes().plane[None], np.eye(4), modality="CT", placed=False)
    with pytest.raises(InputError, match="Only denoising can be adapted"):
        restore(volume, RestorationTask(task, factor=2, adapt=True))
