"""Parts of one task laid over each other."""

from __future__ import annotations

import numpy as np
import pytest

from careloop import InputError
from careloop.imaging.segment.merge import merge_labels
from careloop.imaging.volume import LabelMap, Segment


def part(values: list[int], names: dict[int, str], affine: np.ndarray | None = None) -> LabelMap:
    labels = np.array(values, np.uint8).reshape(1, 1, -1)
    segments = tuple(Segment(number, name) for number, name in names.items())
    return LabelMap(labels, np.eye(4) if affine is None else affine, segments, made_by=f"m{values[0]}")


FIRST = part([0, 1, 1, 2, 0], {1: "spleen", 2: "liver"})
SECOND = part([0, 0, 1, 0, 2], {1: "aorta", 2: "heart"})


def test_the_later_part_lies_on_top() -> None:
    merged = merge_labels([FIRST, SECOND])
    np.testing.assert_array_equal(merged.labels.ravel(), [0, 1, 3, 2, 4])
    assert [(s.number, s.name) for s in merged.segments] == [(1, "spleen"), (2, "liver"), (3, "aorta"), (4, "heart")]


def test_numbers_of_a_table_count_where_it_knows_all_names() -> None:
    numbers = {"spleen": 1, "liver": 5, "aorta": 52, "heart": 300}
    merged = merge_labels(iter([FIRST, SECOND]), numbers)
    np.testing.assert_array_equal(merged.labels.ravel(), [0, 1, 52, 5, 300])
    assert merged.labels.dtype == np.uint16
    assert [s.number for s in merged.segments] == [1, 5, 52, 300]
    np.testing.assert_array_equal(merge_labels([FIRST], {"spleen": 9}).labels, FIRST.labels)


def test_what_cannot_be_laid_over_each_other() -> None:
    with pytest.raises(InputError, match="no label maps"):
        merge_labels([])
    with pytest.raises(InputError, match="'liver' twice"):
        merge_labels([FIRST, FIRST])
    with pytest.raises(InputError, match="one grid"):
        merge_labels([FIRST, part([0, 1, 1, 2, 0], {1: "a", 2: "b"}, np.diag([1.0, 1, 2, 1]))])
