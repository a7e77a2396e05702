"""Contrast kept, lesions erased and structures invented, on images where each is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from careloop import InputError
from careloop.evaluate.lesion_fidelity import (
    Invented,
    contrast_templates,
    ideal_misses,
    invented,
    lesion_fidelity,
    lesion_summary,
)

PLACES = ((30, 30), (30, 90), (90, 30))


def disc(row: float, column: float, diameter: float = 10) -> np.ndarray:
    y, x = np.mgrid[:120, :120]
    return np.hypot(y - row, x - column) <= diameter / 2


def lesions(contrasts: tuple[float, ...] = (40, -40, 60)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tissue without lesions, tissue with them, and their masks."""
    tissue = 100 + 5 * gaussian_filter(np.random.default_rng(0).standard_normal((120, 120)), 6)
    masks = np.stack([disc(*place) for place in PLACES])
    return tissue, tissue + np.tensordot(contrasts, masks, axes=1), masks


def test_a_perfect_image_keeps_everything() -> None:
    _, clean, masks = lesions()
    found = lesion_fidelity(clean, clean, masks)
    assert found.clean_contrast == pytest.approx((40, -40, 60), abs=2)
    assert found.kept == (1, 1, 1)
    assert (found.erased, found.invented) == (0, 0)


def test_a_fainter_lesion_keeps_a_part_and_a_lost_one_is_erased() -> None:
    tissue, clean, masks = lesions()
    restored = tissue + np.tensordot((36, -40, 0), masks, axes=1)
    found = lesion_fidelity(clean, restored, masks)
    assert found.kept == pytest.approx((0.9, 1, 0), abs=0.03)
    assert (found.erased, found.invented) == (1, 0)


def test_beside_images_without_them_lesions_are_told_from_the_anatomy_below() -> None:
    tissue, _, masks = lesions()
    hollow = tissue - 38.0 * masks[0]  # where a lesion of 40 comes to lie and can hardly be seen
    clean, restored = (hollow + np.tensordot(contrasts, masks, axes=1) for contrasts in ((40, -40, 60), (36, -40, 15)))
    alone = lesion_fidelity(clean, restored, masks)
    assert abs(alone.clean_contrast[0]) < 5
    assert abs(alone.kept[0] - 0.9) > 0.2
    beside = lesion_fidelity(clean, restored - 7, masks, without=(hollow, hollow - 7))
    assert beside.clean_contrast == pytest.approx((40, -40, 60))
    assert beside.kept == pytest.approx((0.9, 1, 0.25))
    assert beside.erased == 1


def test_a_new_spot_is_invented_and_what_was_there_is_not() -> None:
    tissue, clean, masks = lesions()
    spot = disc(90, 90)
    assert lesion_fidelity(clean, clean + 30 * spot, masks).invented == 1
    assert lesion_fidelity(clean, clean - 30 * spot, masks).invented == 1
    assert lesion_fidelity(clean, clean + 10 * spot, masks).invented == 0
    assert lesion_fidelity(clean + 60 * spot, clean + 70 * spot, masks).invented == 0
    assert lesion_fidelity(clean + 60 * spot, clean, masks).invented == 0, "a lost structure is not a new one"
    assert invented(tissue, tissue + 30 * (spot | disc(20, 20)), diameter_px=10, contrast=40) == Invented(2, 2)
    turned = lesion_fidelity(clean + 30 * spot, clean - 30 * spot, masks)
    assert turned.invented == 1, "a dark spot where there was a bright one"


def test_a_spot_beside_an_edge_is_not_in_even_tissue() -> None:
    y, _ = np.mgrid[:120, :120]
    clean = 100.0 + 200 * (y > 60)
    restored = clean + 30 * (disc(30, 30) | disc(68, 80))
    assert invented(clean, restored, diameter_px=10, contrast=40) == Invented(2, 1)


def test_detectability_is_that_of_the_matched_filter() -> None:
    """D' = (mean of the matched filter with the lesion - without) / its standard deviation, simulated."""
    tissue, _, masks = lesions()
    profile = np.stack([gaussian_filter(mask.astype(float), 1) for mask in masks])
    clean = tissue + np.tensordot((40.0, -10.0, 2.0), profile, axes=1)
    found = lesion_fidelity(clean, clean, masks, without=(tissue, tissue), noise_level=20.0)
    noise = 20 * np.random.default_rng(2).standard_normal((4000, 120 * 120))
    for contrast, one, value in zip((40, -10, 2), profile, found.detectability, strict=True):
        response = noise @ one.ravel()
        assert value == pytest.approx(abs(contrast) * (one**2).sum() / response.std(), rel=0.05)


def test_lesions_that_noise_hides_can_be_counted_apart() -> None:
    tissue, clean, masks = lesions((40, -40, 4))
    restored = tissue + np.tensordot((40, -36, 0), masks, axes=1)
    case = lesion_fidelity(clean, restored, masks, without=(tissue, tissue), noise_level=20.0)
    seen = lesion_summary([case], detectability=(5, np.inf))
    assert (seen.lesions, seen.erased, seen.contrast_kept.value) == (2, 0, pytest.approx(0.95))
    hidden = lesion_summary([case], detectability=(0, 5))
    assert (hidden.lesions, hidden.erased) == (1, 1)
    with pytest.raises(InputError, match="noise level"):
        lesion_summary([lesion_fidelity(clean, restored, masks)], detectability=(0, 5))
    with pytest.raises(InputError, match="without them"):
        lesion_fidelity(clean, restored, masks, noise_level=20.0)


def test_noise_of_one_pixel_is_no_structure() -> None:
    _, clean, masks = lesions()
    noisy = clean + 15 * np.random.default_rng(1).standard_normal(clean.shape)
    assert lesion_fidelity(clean, noisy, masks).invented == 0
    blotchy = clean + 40 * gaussian_filter(np.random.default_rng(1).standard_normal(clean.shape), 4) * 12
    assert lesion_fidelity(clean, blotchy, masks).invented > 3


def test_a_template_sums_to_the_contrast() -> None:
    _, clean, masks = lesions()
    templates = contrast_templates(masks)
    assert templates.sum(axis=(1, 2)) == pytest.approx(0, abs=1e-12)
    assert np.tensordot(templates, clean) == pytest.approx(lesion_fidelity(clean, clean, masks).clean_contrast)


def test_neighbours_do_not_count_as_surround() -> None:
    masks = np.stack([disc(50, 50), disc(50, 64)])
    clean = np.tensordot((40.0, 80.0), masks, axes=1)
    assert lesion_fidelity(clean, clean, masks).clean_contrast == pytest.approx((40, 80))


def test_summary_counts_lesions_and_gives_intervals() -> None:
    tissue, clean, masks = lesions()
    cases = [
        lesion_fidelity(clean, tissue + np.tensordot((40 * part, -40, 60), masks, axes=1), masks)
        for part in (1.0, 0.98, 0.9, 0.3, 1.0, 1.1)
    ]
    cases.append(lesion_fidelity(clean, clean, masks[:0], diameter_px=10, contrast=40))
    found = lesion_summary(cases)
    assert (found.lesions, found.images, found.erased, found.invented) == (18, 7, 1, 0)
    assert found.contrast_kept.value == pytest.approx(1 - (0.02 + 0.1 + 0.7 - 0.1) / 18, abs=0.01)
    assert found.kept_within.value == pytest.approx(15 / 18)
    assert found.contrast_kept.low is not None


def test_wrong_input_is_refused() -> None:
    tissue, clean, masks = lesions()
    with pytest.raises(InputError, match="without lesions"):
        lesion_fidelity(clean, clean, masks, without=(tissue, tissue[:60]))
    with pytest.raises(InputError, match="one shape"):
        lesion_fidelity(clean, clean, masks[:, :10])
    with pytest.raises(InputError, match="without lesions"):
        lesion_fidelity(clean, clean, masks[:0])
    with pytest.raises(InputError, match="empty"):
        lesion_fidelity(clean, clean, masks & False)
    with pytest.raises(InputError, match="around it"):
        lesion_fidelity(clean, clean, np.ones_like(masks))
    with pytest.raises(InputError, match="contrast"):
        lesion_fidelity(np.ones_like(clean), clean, masks)


@pytest.mark.parametrize("false_alarms", [3, 60])
def test_the_ideal_observer_misses_what_a_matched_filter_misses(false_alarms: int) -> None:
    """A bound that noise alone passes at so few places, against lesions of three strengths in the same noise."""
    rng, places, repeats = np.random.default_rng(0), 20_000, 60
    strengths = np.repeat([2.0, 4.0, 6.0], 200)
    missed = []
    for _ in range(repeats):
        bound = np.sort(rng.standard_normal(places))[-false_alarms - 1 : -false_alarms + 1].mean()
        missed.append((strengths + rng.standard_normal(600) < bound).sum())
    expected = ideal_misses(list(strengths), places=places, false_alarms=false_alarms)
    assert np.mean(missed) == pytest.approx(expected, rel=0.03)


def test_an_ideal_observer_needs_a_share_of_false_alarms() -> None:
    for false_alarms in (0, 10):
        with pytest.raises(InputError, match="fewer than the places"):
            ideal_misses([5.0], places=10, false_alarms=false_alarms)
