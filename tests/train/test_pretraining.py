"""Pre-training sees nobody who is kept out, goes on where it was, and is stored and opened whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.features.timelines import TimelinesSection
from careloop.record import Record
from careloop.train import PretrainingSection
from careloop.train.pretraining import Pretrained, open_pretrained, pretrain, save_pretrained

pytest.importorskip("torch")
TIME = pl.Datetime("us", "UTC")
SMALL = PretrainingSection(size="tiny", max_epochs=1, tokens=512, device="cpu")


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Sixty people with ten events each; the last twenty have a code that the others lack."""
    random = np.random.default_rng(0)
    subject = np.repeat(np.arange(1, 61), 10)
    code = np.array([f"DX//{n}" for n in random.integers(0, 4, 600)], dtype=object)
    code[(subject > 40) & (np.arange(600) % 10 == 3)] = "DX//theirs"
    time = pl.Series(random.integers(0, 10**9, 600) * 10**6).cast(TIME)
    events = pl.DataFrame({"subject_id": subject, "time": time, "known_time": time, "code": code.tolist()})
    folder = tmp_path_factory.mktemp("pretraining") / "record"
    return Record.create(folder, shards=2).append(events, key="simulated")


def test_kept_out_people_are_in_neither_vocabulary_nor_weights(record: Record, tmp_path: Path) -> None:
    out = pl.Series(range(41, 61), dtype=pl.Int64)
    found = pretrain(record, SMALL, TimelinesSection(min_subjects=2), keep_out=out, workspace=tmp_path / "all")
    assert found.subjects.tolist() == list(range(1, 41))
    assert "DX//theirs" not in {token.code for token in found.recipe.tokens}
    without = Record.create(tmp_path / "without", shards=2).append(
        record.events().filter(pl.col("subject_id") <= 40).collect(), key="fewer"
    )
    again = pretrain(without, SMALL, TimelinesSection(min_subjects=2), keep_out=out, workspace=tmp_path / "fewer")
    assert all(np.array_equal(found.weights[name], again.weights[name]) for name in found.weights)
    found.check_apart([41, 60])
    with pytest.raises(InputError, match="2 of the study's tuning and held-out people"):
        found.check_apart([7, 9, 41])


def test_stored_and_opened_whole(record: Record, tmp_path: Path) -> None:
    found = pretrain(record, SMALL, TimelinesSection(), keep_out=pl.Series([1]), workspace=tmp_path / "work")
    save_pretrained(found, tmp_path / "pretrained")
    opened = open_pretrained(tmp_path / "pretrained")
    assert opened.section == found.section
    assert opened.recipe == found.recipe
    assert opened.history == found.history
    assert all(np.array_equal(opened.weights[name], found.weights[name]) for name in found.weights)
    assert sorted(opened.start.weights) == sorted(n.removeprefix("network.") for n in found.weights if "network." in n)
    assert not opened.model().training
    with pytest.raises(InputError, match="no pre-trained network"):
        open_pretrained(tmp_path)
    (tmp_path / "pretrained" / "weights.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match="damaged"):
        open_pretrained(tmp_path / "pretrained")


def test_two_processes_train_together(record: Record, tmp_path: Path) -> None:
    """Distributed over two processes of this machine (gloo), several batches each."""
    section = SMALL.model_copy(update={"devices": 2, "tokens": 128, "max_epochs": 2})
    found = pretrain(record, section, TimelinesSection(), keep_out=pl.Series([1]), workspace=tmp_path / "two")
    assert isinstance(found, Pretrained)
    assert len(found.history) == 2
    assert found.history[1] < found.history[0]
