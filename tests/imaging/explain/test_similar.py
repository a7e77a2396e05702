"""Similar past images beside scikit-learn's cosine distances."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_distances

from careloop import InputError
from careloop.imaging.explain import PastImages

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(60, 8)) + 1
PATIENTS = [f"p{i // 2}" for i in range(60)]
PAST = PastImages.of(
    ROWS, images=[f"image {i}" for i in range(60)], patients=PATIENTS, known={"label": ["a", "b"] * 30}
)


def test_the_nearest_of_other_patients_one_of_each() -> None:
    found = PAST.similar(ROWS[10], k=4, patient="p5")
    distance = cosine_distances(ROWS[10:11], ROWS)[0].reshape(30, 2).min(axis=1)
    distance[5] = np.inf
    assert found.table["patient"].to_list() == [f"p{i}" for i in np.argsort(distance)[:4]]
    np.testing.assert_allclose(found.table["distance"], np.sort(distance)[:4], atol=1e-6)
    assert found.table.columns == ["image", "patient", "distance", "label"]
    assert found.nearest == pytest.approx(distance.min(), abs=1e-6)
    assert not found.reason


def test_the_image_itself_is_at_distance_0_where_its_patient_is_not_left_out() -> None:
    found = PAST.similar(ROWS[10] * 3, k=1)
    assert found.table["image"].to_list() == ["image 10"]
    assert found.table["distance"][0] == pytest.approx(0, abs=1e-6)


def test_the_limit_is_that_of_images_of_different_patients() -> None:
    distance = cosine_distances(ROWS)
    distance[np.array(PATIENTS)[:, None] == np.array(PATIENTS)] = np.inf
    assert PAST.limit == pytest.approx(np.quantile(distance.min(axis=1), 0.95), abs=1e-6)


def test_nothing_near_is_said() -> None:
    found = PAST.similar(-ROWS[0])
    assert found.table.is_empty()
    assert "no past image is near" in found.reason
    assert found.nearest > found.limit
    pair = PastImages.of(ROWS[:2], images=["a", "b"], patients=[1, 2])
    assert pair.similar(ROWS[1], patient=2).table["patient"].to_list() in ([], ["1"])


@pytest.mark.parametrize(
    ("rows", "patients"), [(ROWS[:3], [1, 2]), (ROWS[:2], [1, 1]), (np.full((2, 3), np.nan), [1, 2])]
)
def test_refuses_past_images_that_cannot_be_searched(rows: np.ndarray, patients: list[int]) -> None:
    with pytest.raises(InputError, match="Past images need"):
        PastImages.of(rows, images=["x"] * len(rows), patients=patients)


def test_refuses_other_embeddings() -> None:
    with pytest.raises(InputError, match="are sought with"):
        PAST.similar(np.ones(3))
