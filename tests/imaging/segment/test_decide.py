"""Slabs of scores become nnU-Net's labels, whatever the slabs, also after a stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from careloop.imaging.segment.decide import Decision, labels_of
from careloop.imaging.segment.formats.nnunet import read_nnunet
from careloop.imaging.segment.partial import Partial
from careloop.imaging.segment.prepare import prepare
from careloop.imaging.segment.slabs import Slab
from careloop.imaging.volume import Volume

NAMES = ("thick slices", "two channels", "regions", "2d", "coarse rows")


def slabs(scores: np.ndarray, depth: int) -> Iterator[Slab]:
    for start in range(0, scores.shape[1], depth):
        part = scores[:, start : start + depth].astype(np.float32)
        yield Slab(start, start + part.shape[1], part)


@pytest.fixture
def decided(
    nnunet: ModuleType, volumes_of: Callable[[Any], list[Volume]], model_folder: Callable[[Any], Path]
) -> Callable[..., tuple[Any, Any, np.ndarray]]:
    """Placing, model and scores of a case."""

    def make(name: str) -> tuple[Any, Any, np.ndarray]:
        case = nnunet.CASES[name]
        model = read_nnunet(model_folder(case))
        prepared = prepare(volumes_of(case), model.preparation)
        return prepared.placing, model, nnunet.scores_of(case, prepared.image.shape[1:])

    return make


@pytest.mark.parametrize("depth", [1, 4, 99])
@pytest.mark.parametrize("name", NAMES)
def test_labels_are_nnunets_whatever_the_slabs(name: str, depth: int, decided: Any, reference: Any) -> None:
    placing, model, scores = decided(name)
    decision = Decision(placing, model)
    for slab in slabs(scores, depth):
        decision.take(slab)
    assert decision.labels().dtype == np.uint8
    np.testing.assert_array_equal(decision.labels(), reference[f"{name}/decided"])


def test_stopped_decision_goes_on_from_what_was_saved(decided: Any, reference: Any, tmp_path: Path) -> None:
    placing, model, scores = decided("two channels")
    parts = list(slabs(scores, 3))
    first = Partial(tmp_path, key="k")
    stopped = Decision(placing, model, first)
    stopped.take(parts[0])
    first.save({})
    again = Decision(placing, model, Partial(tmp_path, key="k"))
    for slab in parts[1:]:
        again.take(slab)
    np.testing.assert_array_equal(again.labels(), reference["two channels/decided"])


def test_tie_goes_to_the_first_and_regions_to_the_last(decided: Any) -> None:
    _, model, _ = decided("2d")
    scores = np.array([[1, 2, 0], [1, 2, 3], [0, 2, 3]], np.float32)[:, None]
    np.testing.assert_array_equal(labels_of(scores, model), [[0, 0, 1]])
    _, regions, _ = decided("regions")
    overlapping = np.array([[1, 1, 0, -1], [-1, 1, 0, -1], [-1, -1, 0, 1]], np.float32)[:, None]
    np.testing.assert_array_equal(labels_of(overlapping, regions), [[1, 2, 0, 3]])
