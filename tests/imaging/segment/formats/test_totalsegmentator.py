"""TotalSegmentator's folders: two parts of a task run one after the other, on its own grid, into its own numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from careloop import InputError
from careloop.imaging.segment.formats.read import read_models
from careloop.imaging.segment.formats.totalsegmentator import read_totalsegmentator, total_numbers
from careloop.imaging.segment.merge import merge_labels
from careloop.imaging.segment.run import segment
from careloop.imaging.unet import build_unet
from careloop.imaging.volume import Volume

ORGANS = {"background": 0, "spleen": 1, "kidney_right": 2}
CARDIAC = {"background": 0, "heart": 1, "aorta": 2}


def write_part(nnunet: ModuleType, parent: Path, name: str, labels: dict[str, int], mm: float = 1.5) -> Path:
    case = replace(nnunet.CASES["thick slices"], name=name, labels=labels, target_mm=(mm, mm, mm), mirror=None)
    network = build_unet(nnunet.architecture(case), channels=1, outputs=3)
    folder = parent / name
    folder.mkdir(parents=True)
    nnunet.write_folder(case, folder, nnunet.drawn_weights(network.state_dict()))
    return folder


@pytest.fixture
def task(nnunet: ModuleType, tmp_path: Path) -> Path:
    write_part(nnunet, tmp_path, "Dataset291_TotalSegmentator_part1_organs_1559subj", ORGANS)
    write_part(nnunet, tmp_path, "Dataset293_TotalSegmentator_part3_cardiac_1559subj", CARDIAC)
    return tmp_path


def test_all_parts_are_read_with_its_grid_and_steps(task: Path) -> None:
    models = read_models(task)
    assert [model.kind for model in models] == ["totalsegmentator"] * 2
    for model in models:
        assert model.preparation.orientation == "SAR"
        assert model.preparation.grid == "corners"
        assert (model.preparation.score_order, model.preparation.normalize_first) == (0, False)
        assert model.tiling.step == 0.8
    one = read_models(task / "Dataset293_TotalSegmentator_part3_cardiac_1559subj")
    assert [s.name for s in one[0].segments] == ["heart", "aorta"]


def test_labels_get_the_numbers_of_the_whole_task(
    task: Path, nnunet: ModuleType, volumes_of: Callable[[Any], list[Volume]]
) -> None:
    volumes = volumes_of(nnunet.CASES["thick slices"])
    merged = merge_labels((segment(volumes, model).label_map for model in read_models(task)), total_numbers())
    assert [(s.number, s.name) for s in merged.segments] == [
        (1, "spleen"), (2, "kidney_right"), (51, "heart"), (52, "aorta"),
    ]  # fmt: skip
    assert set(np.unique(merged.labels)) <= {0, 1, 2, 51, 52}
    assert merged.labels.shape == volumes[0].voxels.shape
    assert len(np.unique(merged.labels)) > 2


def test_a_turned_image_gives_the_same_labels(
    task: Path, nnunet: ModuleType, volumes_of: Callable[[Any], list[Volume]]
) -> None:
    (volume,) = volumes_of(nnunet.CASES["thick slices"])
    model = read_models(task)[0]
    flipped = volume.affine.copy()
    flipped[:3, 3] += flipped[:3, 2] * (volume.voxels.shape[2] - 1)
    flipped[:3, 2] *= -1
    turned = replace(volume, voxels=np.ascontiguousarray(volume.voxels[:, :, ::-1]), affine=flipped)
    labels = segment([volume], model).label_map.labels
    np.testing.assert_array_equal(segment([turned], model).label_map.labels[:, :, ::-1], labels)


def test_parts_of_two_resolutions_are_no_task(task: Path, nnunet: ModuleType) -> None:
    write_part(
        nnunet, task, "Dataset297_TotalSegmentator_total_3mm_1559subj", {"background": 0, "colon": 1, "liver": 2}, 3.0
    )
    with pytest.raises(InputError, match="2 resolutions"):
        read_totalsegmentator(task)


def test_its_117_structures_are_numbered_without_a_gap() -> None:
    numbers = total_numbers()
    assert sorted(numbers.values()) == list(range(1, 118))
    assert (numbers["spleen"], numbers["heart"], numbers["skull"], numbers["costal_cartilages"]) == (1, 51, 91, 117)
