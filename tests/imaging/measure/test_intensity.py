"""Statistics against scipy, and the peak of a sphere against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats

from careloop.imaging.measure import intensity
from careloop.imaging.measure.intensity import PEAK_RADIUS_MM, entropy, peak, peak_margin, statistics
from careloop.imaging.measure.texture.grid import Bins, TextureSettings


@given(arrays(np.int16, st.integers(1, 60), elements=st.integers(-1024, 3071)))
@settings(deadline=None)
def test_scipy_finds_the_same(values: NDArray[np.int16]) -> None:
    found = statistics(values)
    assert found["intensity_mean"] == pytest.approx(values.mean(dtype=float))
    assert found["intensity_variance"] == pytest.approx(values.astype(float).var())
    assert found["intensity_sd"] == pytest.approx(values.astype(float).std())
    assert found["intensity_energy"] == pytest.approx((values.astype(float) ** 2).sum())
    assert found["intensity_iqr"] == pytest.approx(stats.iqr(values))
    assert found["intensity_maximum"] - found["intensity_minimum"] == found["intensity_range"]
    if found["intensity_range"] > 0:
        assert found["intensity_skewness"] == pytest.approx(stats.skew(values.astype(float)), abs=1e-9)
        assert found["intensity_kurtosis"] == pytest.approx(stats.kurtosis(values.astype(float)), abs=1e-9)
    else:
        assert found["intensity_skewness"] == found["intensity_kurtosis"] == found["intensity_variance"] == 0


def test_many_values_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).gamma(2, 30, 5_000).astype(np.float32)
    bins = Bins.of(values, TextureSettings(bin_size=5.0, low=0.0))
    whole, whole_entropy = statistics(values), entropy(values, bins)
    monkeypatch.setattr(intensity, "AT_ONCE", 700)
    assert statistics(values) == pytest.approx(whole)
    assert entropy(values, bins) == pytest.approx(whole_entropy)
    counts = np.unique(np.floor(values / 5), return_counts=True)[1]
    assert whole_entropy == pytest.approx(stats.entropy(counts, base=2))


def test_peak_is_the_highest_mean_of_a_sphere_around_a_voxel() -> None:
    random = np.random.default_rng(2)
    voxels = random.gamma(2, 1, (9, 12, 11)).astype(np.float32)
    mask = random.random(voxels.shape) < 0.1
    steps = np.array([3.0, 2.0, 2.5])
    places = np.argwhere(np.ones(voxels.shape, dtype=bool))
    spheres = [
        voxels[tuple(places[np.linalg.norm((places - centre) * steps, axis=1) <= PEAK_RADIUS_MM].T)].mean()
        for centre in np.argwhere(mask)
    ]
    assert peak(voxels, mask, np.diag(steps)) == pytest.approx(max(spheres), rel=1e-5)
    assert peak_margin(np.diag(steps)) == (2, 3, 2)


def test_voxels_without_a_value_are_no_part_of_a_sphere() -> None:
    voxels = np.full((7, 7, 7), 5.0)
    voxels[:, :, :3] = np.nan
    mask = np.zeros(voxels.shape, dtype=bool)
    mask[3, 3, 3] = True
    assert peak(voxels, mask, np.eye(3) * 3) == pytest.approx(5.0)
