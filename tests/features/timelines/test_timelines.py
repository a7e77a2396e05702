"""Views, static columns, and the folder: mapped, checked, replaced whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.features.timelines import Timelines, storage
from careloop.models.sequence.arrays import EVENT_ARRAYS, SequenceParts, Sequences

ROWS = 7


def some_sequences(rows: int, seed: int) -> Sequences:
    random = np.random.default_rng(seed)
    lengths = random.integers(0, 5, rows)
    events = int(lengths.sum())
    return Sequences(
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        code=random.integers(1, 99, events, dtype=np.int32),
        quantile=random.integers(0, 10, events, dtype=np.uint8),
        value=np.where(random.random(events) < 0.5, np.nan, 1.5).astype(np.float32),
        time=random.random(events),
        at=random.random(rows),
        static=random.random((rows, 2)).astype(np.float32),
    )


@pytest.fixture
def timelines() -> Timelines:
    """Seven rows in two parts, in mixed order."""
    keys = pl.DataFrame({"subject_id": range(ROWS), "prediction_time": [0] * ROWS})
    keys = keys.with_columns(pl.col("prediction_time").cast(pl.Datetime("us", "UTC")))
    parts = (some_sequences(4, 1), some_sequences(3, 2))
    return Timelines(keys, SequenceParts(parts, np.array([1, 0, 1, 0, 0, 1, 0]), np.array([2, 3, 0, 1, 0, 1, 2])))


def row(timelines: Timelines, number: int) -> list[list[float]]:
    one = timelines.sequences.take(np.array([number]))
    return [getattr(one, name).tolist() for name in (*EVENT_ARRAYS, "at", "static")]


def assert_rows(timelines: Timelines, original: Timelines, rows: list[int]) -> None:
    assert timelines.keys["subject_id"].to_list() == rows
    for place, number in enumerate(rows):
        np.testing.assert_equal(row(timelines, place), row(original, number))


def test_filter_and_take_are_views(timelines: Timelines) -> None:
    assert_rows(timelines.take(np.array([5, 0, 5])), timelines, [5, 0, 5])
    mask = np.array([True, False, False, True, True, False, False])
    some = timelines.filter(pl.Series(mask))
    assert_rows(some, timelines, [0, 3, 4])
    assert_rows(some.take(np.array([2])), timelines, [4])
    assert isinstance(some.sequences, SequenceParts)
    assert isinstance(timelines.sequences, SequenceParts)
    assert some.sequences.parts is timelines.sequences.parts
    whole = Timelines(timelines.keys, timelines.sequences.take(np.arange(ROWS)))
    assert_rows(whole.take(np.array([6, 1])), timelines, [6, 1])
    with pytest.raises(InputError, match="one entry for each of 7 rows, got 2"):
        timelines.filter(np.array([True, False]))


def test_keys_and_sequences_must_match(timelines: Timelines) -> None:
    with pytest.raises(InputError, match="same rows, got 3 and 7"):
        Timelines(timelines.keys[:3], timelines.sequences)


def test_static_columns_follow_the_rows(timelines: Timelines) -> None:
    static = np.arange(ROWS * 3, dtype=np.float64).reshape(ROWS, 3)
    found = timelines.with_static(static)
    assert found.sequences.take(np.arange(ROWS)).static.tolist() == static.tolist()
    assert found.filter(np.arange(ROWS) % 2 == 0).sequences.take(np.arange(4)).static.tolist() == static[::2].tolist()
    again = timelines.take(np.array([1, 1]))
    assert again.with_static(np.ones((2, 1))).sequences.take(np.arange(2)).static.tolist() == [[1], [1]]
    with pytest.raises(InputError, match="must be the same"):
        again.with_static(np.array([[1.0], [2.0]]))
    with pytest.raises(InputError, match="not be NaN"):
        timelines.with_static(np.full((ROWS, 1), np.nan))
    with pytest.raises(InputError, match=r"with 7 rows, got \(2, 1\)"):
        timelines.with_static(np.ones((2, 1)))


def test_a_folder_gives_back_the_same_mapped_and_read_only(timelines: Timelines, tmp_path: Path) -> None:
    for rows in ([0, 1, 2, 3, 4, 5, 6], [5, 0, 5], [1], []):
        some = timelines.take(np.array(rows, dtype=int))
        some.save(tmp_path / "timelines")
        opened = Timelines.open(tmp_path / "timelines")
        assert opened.keys.schema == timelines.keys.schema
        assert_rows(opened, timelines, rows)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["timelines"]
    timelines.save(tmp_path / "timelines")
    parts = Timelines.open(tmp_path / "timelines").sequences
    assert isinstance(parts, SequenceParts)
    assert not any(getattr(part, name).flags.writeable for part in parts.parts for name in EVENT_ARRAYS)
    events = pl.read_ipc(tmp_path / "timelines" / "00000.events.arrow")  # plain Arrow, for anyone to read
    assert events.columns == list(EVENT_ARRAYS)


def test_a_folder_that_was_cut_off_is_refused(timelines: Timelines, tmp_path: Path) -> None:
    folder = tmp_path / "timelines"
    with pytest.raises(InputError, match="no timelines"):
        Timelines.open(folder)
    timelines.save(folder)
    events = folder / "00001.events.arrow"
    content = events.read_bytes()
    events.write_bytes(content[:-1])
    with pytest.raises(InputError, match=r"00001.events.arrow: missing or cut off"):
        Timelines.open(folder)
    events.write_bytes(content)
    index = json.loads((folder / storage.INDEX).read_text())
    (folder / storage.INDEX).write_text(json.dumps({**index, "format": 2}))
    with pytest.raises(InputError, match="format 1, got 2; install a newer careloop"):
        Timelines.open(folder)
    (folder / storage.INDEX).write_text("{")
    with pytest.raises(InputError, match="unreadable; extract the timelines again"):
        Timelines.open(folder)


def test_a_write_that_fails_leaves_what_was_there(
    timelines: Timelines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "timelines"
    timelines.save(folder)
    monkeypatch.setattr("careloop.features.timelines.timelines.write_index", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        timelines.take(np.array([1])).save(folder)
    assert_rows(Timelines.open(folder), timelines, list(range(ROWS)))
    assert [file.name for file in tmp_path.iterdir()] == ["timelines"]


def test_a_folder_of_something_else_is_not_replaced(timelines: Timelines, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else than timelines"):
        timelines.save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
