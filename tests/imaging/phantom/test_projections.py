"""The simulated scanner against closed forms: line integrals of a disc, HU in uniform regions, and FBP's noise."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from careloop import InputError
from careloop.imaging.phantom.projections import WATER_PER_MM, Scanner, reconstruct, scan, sinogram
from careloop.imaging.volume import Volume

PIXEL_MM, SIDE, VIEWS = 2.0, 96, 144
SILENT = Scanner(VIEWS, photons=math.inf, kernel="soft")


def points() -> tuple[np.ndarray, np.ndarray]:
    at = (np.arange(SIDE) - (SIDE - 1) / 2) * PIXEL_MM
    return at[None, :], at[:, None]


def disc(x_mm: float, y_mm: float, radius_mm: float) -> np.ndarray:
    """Part of each pixel that a disc fills."""
    x, y = points()
    return np.clip(0.5 - (np.hypot(x - x_mm, y - y_mm) - radius_mm) / PIXEL_MM, 0, 1).astype(np.float32)


def volume(hu: np.ndarray, slices: int = 2) -> Volume:
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, :3] = [[0, 0, PIXEL_MM], [0, PIXEL_MM, 0], [4.0, 0, 0]]
    return Volume(np.repeat(np.rint(hu)[None], slices, axis=0).astype(np.int16), affine, "CT", "[hnsf'U]", "CHEST")


def body(*, insert_hu: float = 60.0) -> np.ndarray:
    """A disc of water in air, with a disc of lung and one of another tissue."""
    hu = -1000 + 1000 * disc(0, 0, 80)
    hu = hu + disc(-35, 0, 25) * -850
    return hu + disc(38, 10, 22) * insert_hu


def test_line_integrals_of_a_disc_are_its_chords() -> None:
    lines = sinogram(disc(20, -12, 40)[None] * np.float32(0.02), PIXEL_MM, VIEWS)[0]
    angles = -np.pi / 4 + np.arange(VIEWS) * np.pi / VIEWS
    t = (np.arange(lines.shape[1]) - (lines.shape[1] - 1) / 2) * PIXEL_MM
    off = t[None, :] - (20 * np.cos(angles) - 12 * np.sin(angles))[:, None]
    chords = 0.02 * 2 * np.sqrt(np.maximum(40**2 - off**2, 0))
    inside = np.abs(off) < 36  # near the rim a pixel is no point
    assert np.abs(lines - chords)[inside].max() < 0.02 * 2 * PIXEL_MM
    assert np.abs(lines - chords)[inside].mean() < 0.02 * 0.15 * PIXEL_MM
    assert not lines[np.abs(off) > 45].any()


def test_without_noise_uniform_regions_keep_their_hu() -> None:
    seen = scan(volume(body()), SILENT).voxels[0]
    for x, y, radius, hu in ((0, -50, 18, 0), (38, 10, 14, 60), (-35, 0, 16, -850), (0, 45, 18, 0)):
        inside = disc(x, y, radius) == 1
        assert abs(seen[inside].mean() - hu) < 2
    assert abs(seen[disc(0, 0, 88) == 0].mean() + 1000) < 5


@pytest.mark.parametrize("shape", [(SIDE, SIDE), (60, 91), (91, 60)])
def test_the_image_comes_back_in_its_place_whatever_its_shape(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    image = np.zeros((3, *shape), np.float32)
    for one in image:
        row, column = (int(rng.integers(12, n - 12)) for n in shape)
        one[row - 4 : row + 5, column - 6 : column + 7] = 0.02
    back = reconstruct(sinogram(image, PIXEL_MM, VIEWS), PIXEL_MM, "sharp", shape=shape)
    assert back.shape == image.shape
    for one, again in zip(image, back, strict=True):
        middles = [np.argwhere(v > 0.01).mean(axis=0) for v in (one, again)]
        assert np.allclose(*middles, atol=0.25)
        assert abs(again[binary_erosion(one > 0, iterations=2)].mean() / 0.02 - 1) < 0.03


def noise_images(photons: float, kernel: str, *, slices: int = 24) -> np.ndarray:
    """Noise alone in a disc of water, (slices, rows, columns)."""
    water = volume(-1000 + 1000 * disc(0, 0, 80), slices)
    scanner = Scanner(VIEWS, photons, electronic_sd=0.0, kernel=kernel)
    return scan(water, scanner, seed=3).voxels - scan(water, replace(scanner, photons=math.inf)).voxels.astype(float)


def test_variance_goes_as_one_over_dose() -> None:
    middle = disc(0, 0, 40) == 1
    low, high = (noise_images(photons, "sharp")[:, middle].var() for photons in (1e5, 8e5))
    assert low / high == pytest.approx(8, rel=0.12)


def test_variance_in_the_middle_of_a_disc_is_the_known_one() -> None:
    """Ram-Lak: var = pi^2 / (12 views pixel^2) x var of a line integral (Kak, Slaney 1988, section 5.1.2)."""
    photons, radius = 4e5, 80.0
    image = volume(-1000 + 1000 * disc(0, 0, radius), 60)
    scanner = Scanner(VIEWS, photons, electronic_sd=0.0, blur_mm=0.0, kernel="sharp")
    seen = scan(image, scanner, seed=8).voxels - scan(image, replace(scanner, photons=math.inf)).voxels.astype(float)
    one_line = math.exp(2 * radius * WATER_PER_MM) / photons
    at_pixels = math.pi**2 / (12 * VIEWS * PIXEL_MM**2) * one_line * (1000 / WATER_PER_MM) ** 2
    found = seen[:, disc(0, 0, 8) == 1].var()
    # A pixel between two detectors takes the mean of both, which lowers the variance by a third at most.
    assert 0.45 * at_pixels < found < 1.05 * at_pixels


def test_noise_has_the_spectrum_of_a_ramp_not_of_white_noise() -> None:
    noise = noise_images(2e5, "sharp")[:, 28:68, 28:68]
    power = (np.abs(np.fft.fft2(noise - noise.mean(axis=(1, 2), keepdims=True))) ** 2).mean(axis=0)
    f = np.fft.fftfreq(40)
    radius = np.hypot(f[:, None], f[None, :])
    rings = [power[(radius > a) & (radius <= a + 0.05)].mean() for a in (0.025, 0.075, 0.125, 0.175)]
    assert rings == sorted(rings)
    assert rings[3] / rings[0] > 2.2


def test_soft_kernel_is_quieter_and_smoother() -> None:
    soft, medium, sharp = (
        noise_images(2e5, k, slices=8)[:, disc(0, 0, 40) == 1].std() for k in ("soft", "medium", "sharp")
    )
    assert soft < 0.8 * medium < 0.8 * sharp


def test_same_seed_same_scan() -> None:
    scanner = Scanner(VIEWS, 1e5)
    first, again, other = (scan(volume(body()), scanner, seed=s).voxels for s in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_scan_says_that_it_is_simulated() -> None:
    seen = scan(volume(body()), Scanner(VIEWS, 1e5))
    assert "Simulated" in seen.findings[-1].message
    assert (seen.modality, seen.unit, seen.voxels.dtype) == ("CT", "[hnsf'U]", np.int16)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"views": 7}, "even number"), ({"photons": 0.0}, "photons above 0"), ({"kernel": "bone"}, "kernel")],
)
def test_a_scanner_that_cannot_be_is_refused(change: dict[str, object], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Scanner(**change)


def test_other_units_and_oblong_pixels_are_refused() -> None:
    with pytest.raises(InputError, match="Hounsfield"):
        scan(replace(volume(body()), unit=""), SILENT)
    with pytest.raises(InputError, match="square pixels"):
        scan(replace(volume(body()), affine=np.diag([4.0, 2.0, 2.5, 1.0])), SILENT)
