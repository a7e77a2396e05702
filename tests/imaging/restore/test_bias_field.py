"""N4 on a simulated MR volume with a known bias field."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from careloop import InputError
from careloop.imaging.restore.bias_field import correct_bias_field
from careloop.imaging.volume import Volume

pytest.importorskip("SimpleITK")
SHAPE = (24, 48, 40)


def tissue() -> np.ndarray:
    z, y, x = (np.linspace(-1, 1, n) for n in SHAPE)
    return np.hypot(np.hypot(z[:, None, None], y[None, :, None]), x[None, None, :]) < 0.85


def known_field() -> np.ndarray:
    z, y, x = (np.linspace(-1, 1, n) for n in SHAPE)
    return np.exp(0.35 * x[None, None, :] - 0.25 * y[None, :, None] ** 2 + 0.1 * z[:, None, None])


def volume(*, shape: slice | int = slice(None)) -> tuple[Volume, np.ndarray]:
    """Two tissues in a field, with noise, and how bright each would be without the field."""
    rng = np.random.default_rng(0)
    kinds = np.where(gaussian_filter(rng.standard_normal(SHAPE), 3) > 0, 300.0, 500.0) * tissue()
    seen = kinds * known_field() + 6 * rng.standard_normal(SHAPE)
    voxels = np.maximum(seen, 0).astype(np.float32)[shape]
    return Volume(voxels, np.diag([3.0, 1.0, 1.0, 1.0]), "MR"), kinds[shape]


def spread(voxels: np.ndarray, kinds: np.ndarray) -> float:
    """Coefficient of variation within one tissue."""
    values = voxels[kinds == 300]
    return float(values.std() / values.mean())


@pytest.mark.parametrize("masked", [True, False], ids=["mask", "otsu"])
def test_the_known_field_is_found_and_divided_out(masked: bool) -> None:
    seen, kinds = volume()
    found = correct_bias_field(seen, mask=tissue() if masked else None, shrink=2)
    assert found.field.shape == SHAPE
    ratio = np.log(found.field / known_field())[tissue()]
    assert ratio.std() < 0.35 * np.log(known_field())[tissue()].std()
    assert spread(found.volume.voxels, kinds) < 0.5 * spread(seen.voxels, kinds)
    np.testing.assert_allclose(found.volume.voxels * found.field, seen.voxels, rtol=1e-4, atol=1e-3)
    assert found.volume.findings[-1].check == "bias field"
    assert (found.volume.affine == seen.affine).all()


def test_one_slice_is_corrected_in_its_plane() -> None:
    seen, kinds = volume(shape=slice(12, 13))
    found = correct_bias_field(seen)
    assert found.field.shape == (1, *SHAPE[1:])
    assert spread(found.volume.voxels, kinds) < 0.6 * spread(seen.voxels, kinds)


def test_what_has_no_bias_field_is_refused() -> None:
    seen, _ = volume()
    with pytest.raises(InputError, match="MR volume"):
        correct_bias_field(Volume(seen.voxels, seen.affine, "CT"))
    with pytest.raises(InputError, match="shrink"):
        correct_bias_field(seen, shrink=0)
    with pytest.raises(InputError, match="mask of tissue"):
        correct_bias_field(seen, mask=np.zeros(SHAPE, np.bool_))
