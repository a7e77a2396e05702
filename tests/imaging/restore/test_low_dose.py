"""Simulated low-dose CT against scikit-image's reconstruction, the noise that counts must have, and closed forms."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from scipy.ndimage import gaussian_filter

from careloop import InputError
from careloop.evaluate.restoration import psnr
from careloop.imaging.phantom.projections import WATER_PER_MM, Kernel, Scanner
from careloop.imaging.read.units import HOUNSFIELD
from careloop.imaging.restore.apply import RestorationTask, restore
from careloop.imaging.restore.classics import total_variation
from careloop.imaging.restore.low_dose import (
    LOW_DOSE,
    MOST_BLUR_MM,
    any_scanner,
    denoised_lines,
    low_dose,
    measured_lines,
    project,
    reconstructed,
)
from careloop.imaging.volume import Volume

OFFERED = np.geomspace(0.004, 0.5, 12)  # noise levels, as parts of 2,000 HU
SIDE, PIXEL_MM = 96, 2.0
SCANNER = replace(LOW_DOSE, views=180, photons=2e4)


def body() -> np.ndarray:
    """A disc of water with a denser and a lighter insert, edges blurred, HU (1, 96, 96)."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    hu = np.where(np.hypot(x, y) < 38, 0, -1000) + 0.0
    hu[np.hypot(x - 15, y) < 8] = 200
    hu[np.hypot(x + 15, y - 6) < 8] = -800
    return gaussian_filter(hu, 1)[None].astype(np.float32)


def inside(radius: float = 6, row: float = -18) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    return np.hypot(x, y - row) < radius


def test_without_noise_the_image_comes_back() -> None:
    found = project(body(), PIXEL_MM, SCANNER)
    assert found.full_dose.shape == (1, SIDE, SIDE)
    for place in (inside(), inside(row=18)):
        assert found.full_dose[0][place].mean() == pytest.approx(0, abs=3)
    silent = low_dose(found, np.random.default_rng(0), photons=math.inf)
    np.testing.assert_allclose(silent, found.full_dose, atol=1e-3)


def test_lines_and_image_are_those_of_scikit_image() -> None:
    transform = pytest.importorskip("skimage.transform")
    found = project(body(), PIXEL_MM, replace(SCANNER, kernel="sharp"))
    attenuation = (body()[0].astype(float) / 1000 + 1).clip(0) * WATER_PER_MM * PIXEL_MM
    # View k looks along -45 degrees + k; scikit-image counts angles from the columns, anticlockwise.
    angles = -(-45 + np.arange(180))
    theirs = transform.radon(attenuation, theta=angles, circle=True).T
    ours = found.lines[0]
    middle = (ours.shape[1] - SIDE) // 2
    ours = ours[:, middle : middle + SIDE]
    shifts = [np.corrcoef(np.roll(theirs, s, axis=1).ravel(), ours.ravel())[0, 1] for s in (-1, 0, 1)]
    mirrored = np.corrcoef(theirs[:, ::-1].ravel(), ours.ravel())[0, 1]
    assert max(*shifts, mirrored) > 0.9985
    back = transform.iradon(theirs.T, theta=angles, filter_name="ramp", circle=True) / PIXEL_MM
    hu = (back / WATER_PER_MM - 1) * 1000
    deep = inside(radius=30, row=0)
    assert np.sqrt(((hu - found.full_dose[0])[deep] ** 2).mean()) < 15


def test_noise_grows_as_the_dose_falls() -> None:
    found = project(body(), PIXEL_MM, replace(SCANNER, electronic_sd=0.0))
    rng = np.random.default_rng(1)
    noise = {p: np.stack([low_dose(found, rng, photons=p)[0] - found.full_dose[0] for _ in range(12)])
             for p in (1e5, 2.5e4)}  # fmt: skip
    ratio = noise[2.5e4][:, inside(30, 0)].std() / noise[1e5][:, inside(30, 0)].std()
    assert ratio == pytest.approx(2, rel=0.05)
    assert abs(noise[1e5][:, inside()].mean()) < 2


def test_lines_have_the_variance_of_counts() -> None:
    scanner = replace(SCANNER, photons=5e4, electronic_sd=20.0)
    found = project(body(), PIXEL_MM, scanner)
    rng = np.random.default_rng(2)
    spread = np.stack([measured_lines(found, rng)[0] for _ in range(60)]).std(axis=0)
    counts = 5e4 * np.exp(-found.lines[0])
    wanted = np.sqrt(counts + 400) / counts  # the variance of a logarithm, to first order
    some = counts > 200
    assert np.median(spread[some] / wanted[some]) == pytest.approx(1, abs=0.03)


def test_scanners_differ_in_kernel_and_blur_alone() -> None:
    drawn = [any_scanner(np.random.default_rng(seed)) for seed in range(60)]
    assert {scanner.kernel for scanner in drawn} == {"soft", "medium", "sharp"}
    assert all(0 <= scanner.blur_mm <= MOST_BLUR_MM for scanner in drawn)
    assert {replace(scanner, kernel="medium", blur_mm=0.0) for scanner in drawn} == {LOW_DOSE}


def test_a_scan_follows_from_its_generator() -> None:
    found = project(body(), PIXEL_MM, SCANNER)
    first, again, other = (low_dose(found, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1


def test_projections_denoised_as_counts_give_an_image_with_less_noise() -> None:
    scanner = replace(SCANNER, photons=2e3)
    found = project(body(), PIXEL_MM, scanner)
    noisy = measured_lines(found, np.random.default_rng(3))
    told = []

    def smooth(image: np.ndarray, sigma: float) -> np.ndarray:
        told.append(sigma)
        return gaussian_filter(image, (1.0, 0.8))

    image = reconstructed(denoised_lines(noisy, scanner, smooth), found)
    before, after = (
        np.sqrt(((one - found.full_dose)[0][inside(9, -20)] ** 2).mean())
        for one in (reconstructed(noisy, found), image)
    )
    assert after < 0.7 * before
    assert len(told) == 1
    assert 0 < told[0] < 0.1


def test_denoising_that_changes_nothing_changes_next_to_nothing() -> None:
    found = project(body(), PIXEL_MM, SCANNER)
    noisy = measured_lines(found, np.random.default_rng(4))
    same = denoised_lines(noisy, SCANNER, lambda image, _: image)
    # The unbiased inverse of a single count is not that count, but it is within a quarter of a photon.
    counts, back = (SCANNER.photons * np.exp(-lines.astype(float)) for lines in (noisy, same))
    assert np.abs(counts - back)[counts > 60].max() < 0.35
    silent = Scanner(views=180, photons=math.inf)
    assert denoised_lines(noisy, silent, lambda image, _: image * 0) is noisy


def test_what_cannot_be_scanned_is_refused() -> None:
    with pytest.raises(InputError, match="slices, rows, columns"):
        project(body()[0], PIXEL_MM, SCANNER)
    with pytest.raises(InputError, match="0 mm"):
        project(body(), 0, SCANNER)


@pytest.mark.parametrize("kernel", get_args(Kernel))
def test_the_noise_of_every_kernel_is_told_and_taken_out_better_than_by_the_best_total_variation(
    kernel: Kernel,
) -> None:
    """Of a simulated scan of a real slice of pydicom's that no weight was trained on."""
    path = get_testdata_file("CT_small.dcm", download=False)
    header = dcmread(path)
    hu = np.clip(header.pixel_array.astype(np.float32) - 1024, -1000, 1000)
    scan = project(hu[None], float(header.PixelSpacing[0]), replace(LOW_DOSE, kernel=kernel))
    noisy = low_dose(scan, np.random.default_rng(0), photons=5e3)
    made = restore(Volume(noisy, np.eye(4), "CT", HOUNSFIELD), RestorationTask("low-dose"), threads=1)
    found, truth = made.volume.voxels[0], scan.full_dose[0]
    total = [psnr(truth, 2000 * total_variation(noisy[0] / 2000, float(s)), data_range=2000) for s in OFFERED]
    assert psnr(truth, found, data_range=2000) > max(total) + 0.5
    body = found > -900
    assert made.levels[0] == pytest.approx(np.std((noisy[0] - truth)[body]), rel=0.3)
