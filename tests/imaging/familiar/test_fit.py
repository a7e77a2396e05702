"""The check for unlike images: its false refusals, what it refuses, what it says, and how it is stored.

Real images are the head CT and the T1 brain of Debian's packages, faces of scikit-image's subset of LFW and the
photographs that scikit-image and scikit-learn carry; radiographs are simulated.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import skimage
import sklearn.datasets
from dicom_series import HEAD_CT, head_ct
from numpy.typing import NDArray
from skimage.transform import resize

from careloop import InputError
from careloop.imaging.classify.model import InputFormat
from careloop.imaging.classify.prepare import prepare_array
from careloop.imaging.familiar import Familiar, fit_familiar
from careloop.imaging.phantom.nodule_radiographs import NoduleSetting, nodule_set

Images = NDArray[np.float32]
SIZE = 32
T1 = Path("/usr/share/mricron/templates/ch2better.nii.gz")  # Debian: mricron-data
DATA = Path(skimage.__file__).parent / "data"
PHOTOGRAPHS = ("brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png", "gravel.png",
               "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png", "page.png", "retina.jpg",
               "rocket.jpg", "text.png", "color.png")  # fmt: skip
TAKEN = InputFormat((SIZE, SIZE))


def prepared(pictures: list[NDArray[np.generic]]) -> Images:
    return np.stack([prepare_array(picture, TAKEN) for picture in pictures])


@lru_cache(maxsize=1)
def photographs() -> Images:
    """Each as a whole and two parts of it, grey."""
    from PIL import Image

    pictures = [np.asarray(Image.open(DATA / name).convert("RGB")) for name in PHOTOGRAPHS if (DATA / name).exists()]
    pictures += sklearn.datasets.load_sample_images().images
    parts = [p[: p.shape[0] // 2, : p.shape[1] // 2] for p in pictures]
    others = [p[p.shape[0] // 3 :, p.shape[1] // 3 :] for p in pictures]
    return prepared(pictures + parts + others)


@lru_cache(maxsize=1)
def radiographs() -> Images:
    made = nodule_set(300, seed=0, setting=NoduleSetting(size=SIZE))
    return prepared(list(made.images))


@lru_cache(maxsize=1)
def heads() -> Images:
    voxels, _ = head_ct()
    return prepared(list(voxels[5:]))


@lru_cache(maxsize=1)
def brains() -> Images:
    nibabel = pytest.importorskip("nibabel")
    voxels = np.asarray(nibabel.load(T1).dataobj)
    return prepared([np.rot90(voxels[:, :, z]) for z in range(60, 240, 2)])


@lru_cache(maxsize=1)
def faces() -> Images:
    return prepared(list(np.load(DATA / "lfw_subset.npy")[:100]))


def noise(kind: str) -> Images:
    random = np.random.default_rng(5)
    made = random.normal(size=(60, SIZE, SIZE))
    if kind == "uniform":
        made = random.uniform(size=made.shape)
    if kind == "1/f":
        axis = np.fft.fftfreq(SIZE)
        frequency = np.hypot(axis[:, None], axis)
        frequency[0, 0] = 1
        made = np.fft.ifft2(np.fft.fft2(made) / frequency).real
    return prepared(list(made))


needs_head = pytest.mark.skipif(not HEAD_CT.exists(), reason="needs Debian's invesalius-examples")
needs_brain = pytest.mark.skipif(not T1.exists(), reason="needs Debian's mricron-data")
FAMILIAR = [
    pytest.param(radiographs, id="simulated radiographs"),
    pytest.param(heads, id="head CT", marks=needs_head),
    pytest.param(brains, id="T1 brain", marks=needs_brain),
    pytest.param(faces, id="faces"),
]


@pytest.mark.parametrize("known", FAMILIAR)
def test_refuses_other_organs_noise_inverted_images_and_photographs(known: Callable[[], Images]) -> None:
    """By image statistics alone, at 5 % false refusals; each kind of unlike image on its own."""
    images = np.random.default_rng(2).permutation(known())
    held_out, fitted = images[: len(images) // 4], images[len(images) // 4 :]
    check = fit_familiar(None, fitted)
    unlike = {f"noise, {kind}": noise(kind) for kind in ("white", "uniform", "1/f")}
    unlike |= {"inverted": fitted.max() + fitted.min() - held_out, "photographs": photographs()}
    others = [radiographs, *([heads] if HEAD_CT.exists() else []), *([brains] if T1.exists() else [])]
    unlike |= {other.__name__: other() for other in others if other is not known}
    share = {name: float(check.refused(None, some).mean()) for name, some in unlike.items()}
    assert min(share.values()) >= (0.8 if known is faces else 0.95), share  # 37 faces, each in another light
    assert check.refused(None, held_out).mean() < 0.25


def test_false_refusals_are_as_stated_whatever_the_images() -> None:
    """Over draws of what is fitted and of new images; exact for split conformal: floor(0.1 * 21) / 21 = 0.095."""
    random, refused = np.random.default_rng(3), []
    for seed in range(60):
        rows = random.standard_t(3, size=(80, 4))  # heavy tails, few rows
        images = random.random((1, 1, 8, 8)) + random.normal(0, 0.1, (80, 1, 8, 8))
        check = fit_familiar(rows[:40], images[:40], false_refusals=0.1, seed=seed)
        refused.append(check.refused(rows[40:], images[40:]).mean())
    assert len(check.reference) == 20
    assert abs(np.mean(refused) - np.floor(0.1 * 21) / 21) < 4 * np.std(refused) / np.sqrt(60)


def test_p_values_follow_from_the_reference() -> None:
    check = fit_familiar(None, radiographs())
    assert len(check.reference) == 150
    np.testing.assert_allclose(check.p_value(np.array([-np.inf, np.inf])), [1, 1 / 151])
    np.testing.assert_allclose(check.p_value(check.reference), np.arange(151, 1, -1) / 151)
    found = check.assess(None, np.concatenate([radiographs()[:20], noise("white")[:5]]))
    assert [one.refused for one in found] == [one.p_value <= 0.05 for one in found]
    assert all(one.refused == bool(one.reason) for one in found)


def test_the_reason_names_what_is_unlike() -> None:
    images = radiographs()
    check = fit_familiar(None, images)
    assert "grey values" in check.assess(None, images[:1] * 3 - 2)[0].reason
    assert "layout" in check.assess(None, images[:1, :, ::-1])[0].reason
    assert "inverted" in check.assess(None, 1 - images[:1])[0].reason
    blurred = resize(images[0], (1, 6, 6), anti_aliasing=True)
    found = check.assess(None, resize(blurred, (1, SIZE, SIZE))[None])[0].reason
    assert "texture" in found or "edges" in found


def test_an_embedding_is_looked_at_too() -> None:
    random = np.random.default_rng(4)
    images, rows = radiographs(), random.normal(size=(300, 40)) + 2
    check = fit_familiar(rows, images)
    assert check.refused(rows, images).mean() < 0.15
    found = check.assess(-rows[:20], images[:20])
    assert all(one.refused and "network" in one.reason for one in found)
    assert set(check.parts(rows[:2], images[:2])) >= {"texture", "network features", "nearest training image"}


def test_it_comes_back_from_its_arrays() -> None:
    images = radiographs()
    rows = np.random.default_rng(4).normal(size=(300, 8))
    check, file = fit_familiar(rows, images), io.BytesIO()
    np.savez(file, **check.to_arrays())
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        again = Familiar.from_arrays(dict(arrays))
    assert (again.threshold, again.false_refusals) == (check.threshold, 0.05)
    np.testing.assert_array_equal(again.score(rows[:30], images[:30]), check.score(rows[:30], images[:30]))
    assert again.assess(rows[:3], noise("1/f")[:3]) == check.assess(rows[:3], noise("1/f")[:3])
    with pytest.raises(InputError, match="lacks"):
        Familiar.from_arrays({name: value for name, value in check.to_arrays().items() if name != "reference"})


def test_images_of_a_patient_are_on_one_side_and_count_once_for_the_threshold() -> None:
    images = radiographs()
    patients = np.repeat(np.arange(100), 3)
    assert len(fit_familiar(None, images, patients=patients).reference) == 50
    rows = np.arange(300) < 90
    assert len(fit_familiar(None, images, patients=patients, threshold_rows=rows).reference) == 30
    with pytest.raises(InputError, match="on both sides"):
        fit_familiar(None, images, patients=patients, threshold_rows=np.arange(300) < 91)


def test_images_of_several_sizes_without_embeddings() -> None:
    images = [*radiographs()[:60], *(image[:, 2:, 1:-1] for image in radiographs()[60:120])]
    check = fit_familiar(None, images)
    assert check.refused(None, [image[:, 1:] for image in radiographs()[150:200]]).mean() < 0.25


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"false_refusals": 0.0}, "between 0 and 1"),
        ({"false_refusals": 0.01}, "needs 99 rows"),
        ({"patients": [1, 2]}, "patient for each image"),
    ],
)
def test_refuses_to_be_fitted_to_too_little(change: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        fit_familiar(None, radiographs()[:60], **change)  # type: ignore[arg-type]


def test_refuses_other_inputs_than_it_was_fitted_to() -> None:
    images, rows = radiographs(), np.random.default_rng(0).normal(size=(300, 4))
    check = fit_familiar(rows, images)
    with pytest.raises(InputError, match="give one for each image"):
        check.score(None, images[:3])
    with pytest.raises(InputError, match="Embeddings must be"):
        check.score(rows[:3, :2], images[:3])
    with pytest.raises(InputError, match="as many channels"):
        check.score(rows[:1], np.ones((1, 3, SIZE, SIZE)))
    with pytest.raises(InputError, match="as many embeddings"):
        fit_familiar(rows[:10], images)
