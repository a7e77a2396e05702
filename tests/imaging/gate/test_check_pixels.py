"""Values that cannot be are refused, and values that are unusual but possible pass."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from careloop.imaging.finding import RefusedSeriesError
from careloop.imaging.gate import check_pixels
from careloop.imaging.slices import SliceHeader


def headers(n: int, intercept: float = 0.0, rescale_type: str = "") -> list[SliceHeader]:
    return [
        SliceHeader("f", 0, "1", 16, 16, intercept=intercept, rescale_type=rescale_type, bits_stored=16)
        for _ in range(n)
    ]


def head() -> NDArray[np.int16]:
    """Six slices of numbers between air and bone."""
    return np.random.default_rng(1).integers(-1024, 3000, (6, 16, 16)).astype(np.int16)


def verdicts(voxels: NDArray[np.generic], modality: str = "CT", intercept: float = 0.0) -> dict[str, str]:
    try:
        found = check_pixels(voxels, headers(len(voxels), intercept), where="the series", modality=modality)
    except RefusedSeriesError as error:
        found = error.findings
    return {finding.check: finding.verdict for finding in found}


def test_a_head_in_hounsfield_units_passes() -> None:
    assert verdicts(head()) == {}
    metal = head()
    metal[2, 3, 3], metal[0, 0, 0] = 30_000, -32_768  # an extended scale, and padding
    assert verdicts(metal) == {}


def test_signed_numbers_read_as_unsigned_are_refused_in_a_ct_and_noted_elsewhere() -> None:
    wrapped = head().view(np.uint16).astype(np.int32)
    assert verdicts(wrapped) == {"sign mismatch": "refused"}
    assert verdicts(wrapped - 1024, intercept=-1024.0) == {"sign mismatch": "refused"}
    assert verdicts(wrapped, modality="MR") == {"sign mismatch": "noted"}
    saturated = np.abs(head()).astype(np.uint16)
    saturated[1, :3] = 65_535  # one value only: saturation
    assert verdicts(saturated, modality="MR") == {}
    assert verdicts(np.arange(6 * 256, dtype=np.uint16).reshape(6, 16, 16) * 42, modality="MR") == {}


def test_a_ct_in_other_units_may_have_any_value() -> None:
    electron_density = head().astype(np.float32) * 100
    found = check_pixels(electron_density, headers(6, rescale_type="ED"), where="the series", modality="CT")
    assert found == ()


def test_slices_without_content_are_found() -> None:
    lost = head()
    lost[3] = 0
    assert verdicts(lost) == {"empty slices": "refused"}
    assert verdicts(lost, modality="MR") == {"empty slices": "noted"}
    beyond = head()
    beyond[:2] = beyond[5] = -1024
    assert verdicts(beyond) == {"empty slices": "noted"}
    assert verdicts(np.zeros((4, 16, 16), np.int16)) == {"empty slices": "noted"}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    values = head().astype(np.float32)
    values[2, 1, 1] = bad
    assert verdicts(values, modality="MR")["values"] == "refused"


def test_colour_is_looked_at_like_grey() -> None:
    assert verdicts(np.random.default_rng(0).integers(0, 255, (3, 8, 8, 3)).astype(np.uint8), modality="US") == {}
