"""Simulated nodule radiographs: the ideal observer against closed forms and brute force, noise, truth and files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from careloop import InputError
from careloop.imaging.finding import SIMULATED
from careloop.imaging.phantom.nodule_files import write_nodule_npz, write_nodule_table
from careloop.imaging.phantom.nodule_radiographs import (
    USUAL,
    NoduleSetting,
    auroc_of,
    ideal_auroc,
    ideal_log_likelihood_ratio,
    log_ratio_map,
    nodule_set,
    prepared_task,
)
from careloop.imaging.read.nifti import read_nifti
from careloop.imaging.read.picture import read_picture

ONE = NoduleSetting(
    size=32, anatomy=None, diameters_mm=(40.0,), detectabilities=(1.5,), places=((14, 9),), anatomical_share=0.5
)


def covariance(setting: NoduleSetting) -> np.ndarray:
    """The dense covariance of the pixels, from the power spectrum by its definition and not through the FFT."""
    n, power = setting.size, prepared_task(setting).power
    row, column = np.divmod(np.arange(n * n), n)
    k = np.exp(2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n)
    whole = np.concatenate([power, power[:, 1 : n - power.shape[1] + 1][:, ::-1]], axis=1)
    acf = (k @ whole @ k.T).real / n**2
    return acf[(row[:, None] - row[None]) % n, (column[:, None] - column[None]) % n]


def signal(setting: NoduleSetting, k: int, place: tuple[int, int]) -> np.ndarray:
    return np.roll(prepared_task(setting).shapes[k], place, axis=(0, 1)).ravel()


@pytest.mark.parametrize("size", [32, 33])
def test_one_place_and_size_has_the_closed_forms_auroc(size: int) -> None:
    setting = replace(ONE, size=size)
    task, s = prepared_task(setting), signal(setting, 0, (14, 9))
    d = float(np.sqrt(s @ np.linalg.solve(covariance(setting), s)))
    assert task.norm[0] == pytest.approx(d, rel=1e-9)
    found = ideal_auroc(nodule_set(6000, seed=3, setting=setting))
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    half_width = (found.high - found.low) / 2
    assert abs(found.value - norm.cdf(1.5 / np.sqrt(2))) < 2 * half_width  # four standard errors
    assert half_width < 0.015


def test_likelihood_ratio_is_that_of_the_densities() -> None:
    setting = NoduleSetting(
        size=16, anatomy=None, diameters_mm=(60.0, 80.0), detectabilities=(1.0, 2.5), places=((5, 4), (9, 11), (8, 8))
    )
    task, found = prepared_task(setting), nodule_set(6, seed=1, setting=setting)
    noise = multivariate_normal(task.background.ravel(), covariance(setting))
    ratios = []
    for image in found.images.astype(float).reshape(6, -1):
        log_none = noise.logpdf(image)
        parts = [
            np.exp(noise.logpdf(image - strength / task.norm[k] * signal(setting, k, place)) - log_none)
            for k in range(2)
            for strength in setting.detectabilities
            for place in setting.places
        ]
        ratios.append(np.log(np.mean(parts)))
    assert found.log_likelihood_ratio == pytest.approx(ratios, abs=1e-6)


def test_mean_likelihood_ratio_is_1_without_and_its_inverse_1_with_a_nodule() -> None:
    setting = NoduleSetting(size=32, anatomy=None, detectabilities=(0.5, 1.0))
    found = nodule_set(4000, seed=2, setting=setting)
    ratio, has = np.exp(found.log_likelihood_ratio), found.labels == 1
    for values in (ratio[~has], 1 / ratio[has]):
        assert abs(values.mean() - 1) < 4 * values.std() / np.sqrt(len(values))


def test_noise_has_the_stated_power_spectrum() -> None:
    setting = NoduleSetting(size=32, anatomy=None)
    task, found = prepared_task(setting), nodule_set(2000, seed=5, setting=setting)
    noise = found.images[found.labels == 0] - task.background
    measured = (np.abs(np.fft.rfft2(noise)) ** 2).mean(axis=0) / 32**2
    # The mean of 1000 exponential variables lies within 5 standard errors; self-conjugate ones vary more.
    assert np.abs(measured / task.power - 1).max() < 5 * np.sqrt(2 / 1000)
    assert noise.std() == pytest.approx(setting.noise_sd, rel=0.01)


def test_usual_setting_is_in_the_stated_range_and_the_truth_lies_in_the_lungs() -> None:
    found, task = nodule_set(2000, seed=7), prepared_task(USUAL)
    estimate = ideal_auroc(found)
    assert estimate.value is not None
    assert 0.85 < estimate.value < 0.90
    has = found.labels == 1
    assert has.sum() == 1000
    assert np.isnan(found.boxes[~has]).all()
    boxes = found.boxes[has]
    assert (boxes >= 0).all()
    assert (boxes <= USUAL.size).all()
    assert np.allclose((boxes[:, 2] - boxes[:, 0]) * USUAL.pixel_mm, found.diameter_mm[has], atol=1e-4)
    centres = np.floor((boxes[:, :2] + boxes[:, 2:]) / 2).astype(int)
    assert task.places[0][tuple(centres.T)].all()
    residual = found.images[has] - task.background
    inside = [r[c[0], c[1]] for r, c in zip(residual, centres, strict=True)]
    assert np.mean(inside) > 0.08
    assert found.images.min() > 0
    assert len(set(found.subject_id)) == 2000


def test_the_most_likely_place_is_often_the_true_one() -> None:
    setting = replace(USUAL, detectabilities=(8.0,))
    found = nodule_set(60, seed=1, setting=setting)
    has = found.labels == 1
    places = log_ratio_map(found.images[has], setting).reshape(has.sum(), -1).argmax(axis=1)
    at = np.stack(np.divmod(places, setting.size), axis=1) + 0.5
    boxes = found.boxes[has]
    assert np.mean(((at > boxes[:, :2]) & (at < boxes[:, 2:])).all(axis=1)) > 0.9


def test_no_other_observer_is_better_and_the_same_seed_gives_the_same_set() -> None:
    found = nodule_set(1000, seed=11)
    brightest = auroc_of(found.images.max(axis=(1, 2)), found.labels, found.subject_id)
    ideal = ideal_auroc(found)
    assert brightest.value is not None
    assert ideal.low is not None
    assert brightest.value < ideal.low
    again, other = nodule_set(1000, seed=11), nodule_set(1000, seed=12)
    assert np.array_equal(found.images, again.images)
    assert not set(found.subject_id) & set(other.subject_id)
    assert np.allclose(ideal_log_likelihood_ratio(found.images), found.log_likelihood_ratio)


def test_npz_is_medmnists_and_says_simulated(tmp_path: Path) -> None:
    path = tmp_path / "nodules.npz"
    made = write_nodule_npz(path, images={"train": 30, "val": 10, "test": 20})
    with np.load(path) as file:
        assert file["train_images"].shape == (30, 64, 64)
        assert file["test_labels"].shape == (20, 1)
        assert file["val_images"].dtype == np.uint8
        assert "SIMULATED" in str(file["about"])
        assert np.abs(file["test_images"] / 255 - made["test"].images).max() <= 0.5 / 255 + 1e-6
        ids = [set(file[f"{part}_subject_id"]) for part in ("train", "val", "test")]
        assert len(set.union(*ids)) == 60
    assert "SIMULATED" in json.loads((tmp_path / "nodules.npz.json").read_text())["about"]
    with pytest.raises(InputError, match="parts train, val, test"):
        write_nodule_npz(path, images={"train": 2})


@pytest.mark.parametrize("kind", ["png", "nifti"])
def test_table_of_files(tmp_path: Path, kind: str) -> None:
    from PIL import Image

    found = nodule_set(4, seed=1)
    table = write_nodule_table(tmp_path, {"train": found}, kind=kind)  # type: ignore[arg-type]
    lines = table.read_text().splitlines()
    assert lines[0] == "image,subject_id,split,label,row_low,column_low,row_high,column_high"
    assert len(lines) == 5
    first = lines[1].split(",")
    assert first[3] == ("nodule" if found.labels[0] else "normal")
    if kind == "png":
        assert "SIMULATED" in Image.open(tmp_path / first[0]).text["Description"]
        pixels = read_picture(tmp_path / first[0]).voxels / 255
        assert np.abs(pixels[0] - found.images[0]).max() < 0.51 / 255
    else:
        volume = read_nifti(tmp_path / first[0])
        assert SIMULATED in volume.findings
        assert volume.spacing_mm[1:] == pytest.approx((4.5, 4.5))
        # Rows of a NIfTI run towards the back and up, whatever they did when it was written.
        assert np.sort(volume.voxels.ravel()) == pytest.approx(np.sort(found.images[0].ravel()))


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(InputError, match="at least 16 pixels"):
        NoduleSetting(size=8)
    with pytest.raises(InputError, match="noise_sd"):
        NoduleSetting(noise_sd=0)
    with pytest.raises(InputError, match="No place"):
        nodule_set(2, seed=0, setting=NoduleSetting(anatomy=None, diameters_mm=(150.0,)))
    with pytest.raises(InputError, match="at least 2"):
        nodule_set(1, seed=0)
