"""Distances beside scikit-learn's covariance and neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors

from careloop import InputError
from careloop.imaging.familiar.distances import Covariance, Nearest, Template, check_rows

RANDOM = np.random.default_rng(1)


@pytest.mark.parametrize(("n", "d"), [(300, 12), (40, 90)])
def test_covariance_is_mahalanobis_with_ledoit_and_wolfs_shrinkage(n: int, d: int) -> None:
    rows = RANDOM.normal(size=(n, d)) @ RANDOM.normal(size=(d, d))
    others = RANDOM.normal(size=(20, d)) * 3
    spread = rows.std(axis=0)
    peer = LedoitWolf(assume_centered=True).fit((rows - rows.mean(axis=0)) / spread)
    wanted = np.sqrt(peer.mahalanobis((others - rows.mean(axis=0)) / spread) / d)
    np.testing.assert_allclose(Covariance.of(rows).distance(others), wanted, rtol=1e-3)


def test_covariance_counts_what_lies_outside_of_the_kept_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = RANDOM.normal(size=(60, 30))
    monkeypatch.setattr("careloop.imaging.familiar.distances.MOST_DIRECTIONS", 5)
    few = Covariance.of(rows)
    assert few.directions.shape == (30, 5)
    assert few.distance(rows).mean() == pytest.approx(1, abs=0.2)
    assert (few.distance(rows + 5) > few.distance(rows)).all()


def test_nearest_is_the_kth_neighbour_of_unit_vectors() -> None:
    rows, others = RANDOM.normal(size=(100, 7)), RANDOM.normal(size=(300, 7))
    unit, unit_others = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rows, others))
    wanted = NearestNeighbors(n_neighbors=10).fit(unit).kneighbors(unit_others)[0][:, -1]
    np.testing.assert_allclose(Nearest.of(rows).distance(others), wanted, atol=1e-3)


def test_template_is_far_for_the_negative() -> None:
    shape = RANDOM.normal(size=20)
    rows = shape + RANDOM.normal(size=(50, 20)) * 0.5
    template = Template.of(rows)
    assert np.log(template.distance(rows)).mean() == pytest.approx(0, abs=1e-9)
    assert np.log(template.distance(rows)).std() == pytest.approx(1)
    assert template.distance(-rows).min() > template.distance(rows).max()


@pytest.mark.parametrize("rows", [np.ones(3), np.ones((2, 4)), np.full((2, 3), np.inf)])
def test_rows_must_be_finite_and_as_wide(rows: np.ndarray) -> None:
    with pytest.raises(InputError, match="Embeddings must"):
        check_rows(rows, 3)
