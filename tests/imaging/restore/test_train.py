"""Training of restoration networks: better than the noisy image, also without clean targets; the same when taken up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from careloop import InputError
from careloop.imaging.restore import train as training
from careloop.imaging.restore.material import Material
from careloop.imaging.restore.network import Denoiser, DenoiserSizes, initialize
from careloop.imaging.restore.train import RestorationSettings, train_restoration


def planes(count: int, noise: float = 0.0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        smooth = gaussian_filter(rng.standard_normal((64, 64)), 5)
        plane = 0.3 + 0.4 * (smooth > 0) + noise * rng.standard_normal(smooth.shape)
        made.append(plane.astype(np.float32))
    return tuple(made)


def material(noise: float = 0.0) -> Material:
    return Material(planes(12, noise), tuple(range(12)), (1.0,) * 12, ("CT",))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small network and small batches, so that an epoch takes a second."""

    def begin(settings: RestorationSettings) -> Denoiser:
        network = Denoiser(DenoiserSizes((12, 24), 1, level_maps=3 if settings.degradation == "low-dose CT" else 1))
        initialize(network, settings.seed)
        return network

    monkeypatch.setattr(training, "_begin", begin)
    monkeypatch.setattr(training, "STEPS", 40)
    monkeypatch.setattr(training, "BATCH_PIXELS", 8 * 32**2)
    monkeypatch.setattr(training, "PATCH", 32)


def silent(what: str, done: int, total: int) -> None:
    """Progress that nobody hears."""


def settings_of(**given: object) -> RestorationSettings:
    return RestorationSettings.model_validate({"start": "new", "epochs": 4, "device": "cpu"} | given)


def error_ratio(network: Denoiser, level: float) -> float:
    """Mean squared error of unseen planes after restoration over that before."""
    rng = np.random.default_rng(9)
    clean = np.stack([np.roll(plane, 13, 1)[::-1] for plane in planes(4)])
    noisy = clean + level * rng.standard_normal(clean.shape)
    fed = torch.from_numpy(np.stack([noisy, np.full_like(noisy, level)], 1).astype(np.float32))
    with torch.no_grad():
        found = network(fed)[:, 0].numpy()
    return float(np.mean((found - clean) ** 2) / np.mean((noisy - clean) ** 2))


def test_training_takes_noise_out(tmp_path: Path) -> None:
    model = train_restoration(material(), tmp_path / "m", name="test", settings=settings_of(), progress=silent)
    assert error_ratio(model.build(), 25 / 255) < 0.35
    assert model.said.modalities == ("CT",)
    assert model.said.training["planes"] == 12
    assert model.said.validation["squared error in decibels"] < -20


def test_training_without_clean_targets_takes_noise_out(tmp_path: Path) -> None:
    level = 25 / 255
    settings = settings_of(targets="none", noise_level=level)
    model = train_restoration(material(level), tmp_path / "m", name="test", settings=settings, progress=silent)
    assert error_ratio(model.build(), level) < 0.4
    assert model.said.targets == "none"
    assert model.said.validation == {}


def test_low_dose_training_learns_from_simulated_scans(tmp_path: Path) -> None:
    settings = settings_of(degradation="low-dose CT", epochs=1)
    model = train_restoration(material(), tmp_path / "m", name="test", settings=settings, progress=silent)
    assert model.said.degradation == "low-dose CT"
    assert model.said.level_maps == 3


def test_low_dose_scans_differ_in_grain_but_each_is_its_truth_with_noise() -> None:
    random = np.random.default_rng(0)
    plane = np.kron(planes(1)[0], np.ones((2, 2), np.float32))
    grains = []
    for _ in range(12):
        pairs = training.low_dose_pairs(plane, 1.0, random)
        assert len({id(pair.target) for pair in pairs}) == 1
        for pair in pairs:
            assert pair.noisy.shape == pair.target.shape == plane.shape
            assert pair.level.shape == (3, *plane.shape)
            noise = pair.noisy - pair.target
            assert abs(noise.mean()) < 0.3 * noise.std()
            grains.append(float(np.median(pair.level[0]) / noise.std()))
    assert max(grains) > 5 * min(grains)


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class KilledError(Exception):
        pass

    def kill(what: str, done: int, total: int) -> None:
        if what.startswith("training, epoch 2"):
            raise KilledError

    whole = train_restoration(material(), tmp_path / "a", name="t", settings=settings_of(epochs=3), progress=silent)
    with pytest.raises(KilledError):
        train_restoration(material(), tmp_path / "b", name="t", settings=settings_of(epochs=3), progress=kill)
    assert (tmp_path / "b" / training.WORK / "checkpoint.pt").exists()
    taken_up = train_restoration(material(), tmp_path / "b", name="t", settings=settings_of(epochs=3), progress=silent)
    assert taken_up.said.weights == whole.said.weights
    assert not (tmp_path / "b" / training.WORK).exists()


def test_a_finished_training_is_returned_as_it_is(tmp_path: Path) -> None:
    first = train_restoration(material(), tmp_path, name="t", settings=settings_of(epochs=1), progress=silent)

    def fail(what: str, done: int, total: int) -> None:
        raise AssertionError(what)

    again = train_restoration(material(), tmp_path, name="t", settings=settings_of(epochs=1), progress=fail)
    assert again.said == first.said
    with pytest.raises(InputError, match="other settings or other images"):
        train_restoration(material(0.1), tmp_path, name="t", settings=settings_of(epochs=1), progress=silent)
