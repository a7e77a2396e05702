"""Splits: by subject, evenly over labels, and no pixels in two of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.imaging.classify.data.dataset import SPLITS, ImageDataset
from careloop.imaging.classify.data.split import Split, drawn, settle_duplicates, with_splits
from careloop.imaging.classify.model import Labels


def dataset_of(subject: list, split: list | None = None, label: list | None = None) -> ImageDataset:
    n = len(subject)
    target = np.eye(2, dtype=np.float32)[label if label is not None else np.arange(n) % 2]
    return ImageDataset(
        path=Path("t.csv"),
        name="t",
        labels=Labels(("x", "y")),
        images=None,  # type: ignore[arg-type]
        rows=np.arange(1, n + 1),
        places=np.arange(n),
        subject_id=np.array(subject, dtype=str),
        target=target,
        split=np.array(split if split is not None else [""] * n, dtype="<U8"),
        digest="",
    )


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 30), min_size=60, max_size=150), st.integers(0, 1000), st.data())
def test_no_subject_and_no_pixels_are_in_two_drawn_splits(subject, seed, data) -> None:
    subject = [*subject, *range(30)]
    split = with_splits(dataset_of(subject), seed=seed)
    copied = data.draw(st.lists(st.integers(0, len(subject) - 1), max_size=6))
    pixels = [f"image {0 if place in copied else place + 1}" for place in range(len(subject))]
    try:
        settled = settle_duplicates(split, pixels, rule="refuse")
    except InputError:  # so many are joined that a split is left without rows
        assume(False)
    found = settled.dataset
    for keys in (found.subject_id.tolist(), pixels):
        where: dict = {}
        for key, name in zip(keys, found.split.tolist(), strict=True):
            assert where.setdefault(key, name) == name
    rank = {name: at for at, name in enumerate(SPLITS)}
    before = split.dataset.split.tolist()
    assert all(rank[new] <= rank[old] for new, old in zip(found.split.tolist(), before, strict=True))
    assert settled.moved == sum(new != old for new, old in zip(found.split.tolist(), before, strict=True))


def test_a_rare_label_is_shared_out_too() -> None:
    label = [1] * 20 + [0] * 380
    for seed in range(20):
        chosen = drawn(np.arange(400).astype(str), np.eye(2, dtype=np.float32)[label], share=0.2, seed=seed)
        assert chosen[:20].sum() in (3, 4, 5)
        assert 79 <= chosen.sum() <= 81


def test_draws_differ_by_seed_and_not_from_run_to_run() -> None:
    subject, target = np.arange(100).astype(str), np.zeros((100, 1), np.float32)
    first, again, other = (drawn(subject, target, share=0.3, seed=seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_stated_splits_are_kept() -> None:
    dataset = dataset_of(list("abcdef"), ["train", "train", "tuning", "tuning", "held_out", "held_out"])
    split = with_splits(dataset, seed=0)
    assert split.dataset.split.tolist() == dataset.split.tolist()
    assert not split.movable


def test_tuning_rows_are_drawn_from_training_where_none_are_stated() -> None:
    split = with_splits(dataset_of(list(range(30)), ["train"] * 20 + ["held_out"] * 10), seed=0)
    assert (split.dataset.split[20:] == "held_out").all()
    assert (split.dataset.split[:20] == "tuning").sum() == 4
    assert split.movable == {"train", "tuning"}


def test_a_subject_in_two_stated_splits_is_refused() -> None:
    with pytest.raises(InputError, match=r"1 subjects are in more than one split \(rows 1, 3"):
        with_splits(dataset_of(["a", "b", "a"], ["train", "tuning", "held_out"]), seed=0)
    with pytest.raises(InputError, match="stated splits must have train and held_out"):
        with_splits(dataset_of(["a", "b"], ["train", "tuning"]), seed=0)


def test_the_same_pixels_in_stated_splits_are_refused_or_left_out() -> None:
    dataset = dataset_of(list("abcde"), ["train", "tuning", "held_out", "held_out", "train"])
    split, pixels = Split(dataset, frozenset()), ["p", "q", "p", "r", "p"]
    with pytest.raises(InputError, match=r"1 images have the pixels of one in an earlier split \(rows 3 and 1\)"):
        settle_duplicates(split, pixels, rule="refuse")
    settled = settle_duplicates(split, pixels, rule="leave out")
    assert settled.dataset.rows.tolist() == [1, 2, 4, 5]
    assert [row.row for row in settled.dataset.rejected] == [3]


def test_a_split_without_rows_is_refused() -> None:
    with pytest.raises(InputError, match="no row is left for"):
        with_splits(dataset_of(["a"] * 10), seed=0)
    everyone = with_splits(dataset_of(list(range(10))), seed=0)
    with pytest.raises(InputError, match="no row is left for tuning and held_out"):
        settle_duplicates(replace(everyone), ["p"] * 10, rule="refuse")
