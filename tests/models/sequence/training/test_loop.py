"""Training that is killed at any step and taken up again ends with the weights of one that was not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from careloop import InputError
from careloop.models.sequence.arrays import Sequences, TokenSpace

pytest.importorskip("torch")
HERE = Path(__file__).parent
KILLS = 3  # each start imports PyTorch and Transformers anew


def start(folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    return subprocess.Popen([sys.executable, str(HERE / "resumed_training.py"), str(folder)], env=environment)


def test_killed_training_gives_the_same_weights(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    assert start(whole).wait(timeout=120) == 0
    random, kills = np.random.default_rng(5), 0
    while kills < KILLS:
        process, written = start(killed), stamp(killed)
        while stamp(killed) == written and process.poll() is None:
            time.sleep(0.002)
        time.sleep(random.uniform(0, 0.1))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills >= 2
    assert start(killed).wait(timeout=120) == 0
    one, other = (np.load(folder / "weights.npz") for folder in (whole, killed))
    assert sorted(one.files) == sorted(other.files)
    assert all(np.array_equal(one[name], other[name]) for name in one.files)


def stamp(folder: Path) -> list[int]:
    """When each checkpoint in the folder was last written."""
    return sorted(file.stat().st_mtime_ns for file in folder.glob("checkpoint.pt.?"))


def test_the_rate_rises_and_falls() -> None:
    from careloop.models.sequence.training.loop import LAST_RATE, rate_at

    rates = [rate_at(step, 200) for step in range(200)]
    top = int(np.argmax(rates))
    assert rates[top] == pytest.approx(1.0)
    assert (np.diff(rates[: top + 1]) > 0).all()
    assert (np.diff(rates[top:]) <= 0).all()
    assert rates[-1] == pytest.approx(LAST_RATE, abs=0.001)


def test_a_checkpoint_of_other_settings_or_damaged_is_refused(
    tmp_path: Path, space: TokenSpace, sequences: Sequences
) -> None:
    from careloop.models.sequence.estimators import SequenceClassifier
    from careloop.models.sequence.training.loop import Checkpoint

    label, checkpoint = np.arange(300) % 2, Checkpoint(tmp_path / "state")
    small = {"network": "gru", "width": 8, "layers": 1, "heads": 1, "device": "cpu"}
    SequenceClassifier(**small, max_epochs=1).fit(sequences, label, space=space, checkpoint=checkpoint)
    with pytest.raises(InputError, match=r"state\.0 is of training with other settings; remove it"):
        SequenceClassifier(**small, max_epochs=2).fit(sequences, label, space=space, checkpoint=checkpoint)
    with pytest.raises(InputError, match=r"state\.0 is of another network; remove it"):
        SequenceClassifier(**{**small, "width": 16}, max_epochs=1).fit(
            sequences, label, space=space, checkpoint=checkpoint
        )
    fewer = sequences.take(np.arange(200))
    with pytest.raises(InputError, match=r"state\.0 is of training on other rows; remove it"):
        SequenceClassifier(**small, max_epochs=1).fit(fewer, label[:200], space=space, checkpoint=checkpoint)
    (tmp_path / "state.0").write_bytes(b"no checkpoint")
    with pytest.raises(InputError, match=r"state\.0 is damaged"):
        SequenceClassifier(**small, max_epochs=1).fit(sequences, label, space=space, checkpoint=checkpoint)


def test_several_devices_need_processes_of_their_own(space: TokenSpace, sequences: Sequences) -> None:
    from careloop.models.sequence.training.loop import LoopSettings, make_fabric

    with pytest.raises(InputError, match="several devices"):
        make_fabric(LoopSettings(device="cpu", devices=2))


def test_without_validation_rows_all_epochs_run(space: TokenSpace, sequences: Sequences) -> None:
    """Even where the training loss rises: nothing can be learnt from labels at random with so high a rate."""
    from careloop.models.sequence.estimators import SequenceClassifier

    label = np.random.default_rng(0).integers(0, 2, 300)
    model = SequenceClassifier(network="gru", width=8, layers=1, heads=1, learning_rate=0.5, max_epochs=8, patience=1)
    model.fit(sequences, label, space=space)
    history = model.epochs_[0]
    assert len(history) == 8
    assert (np.diff(history) > 0).any()


def test_early_stopping_keeps_the_best_epoch(space: TokenSpace, sequences: Sequences) -> None:
    """The kept weights give the lowest of the validation losses, which are computed by hand here."""
    from careloop.models.sequence.estimators import SequenceClassifier

    label = np.random.default_rng(0).integers(0, 2, 300)
    training, held = np.arange(100), np.arange(100, 300)
    model = SequenceClassifier(network="gru", width=32, learning_rate=0.02, max_epochs=30, patience=2, dropout=0.0)
    model.fit(sequences.take(training), label[training], space=space, validation=(sequences.take(held), label[held]))
    history = model.epochs_[0]
    assert len(history) == int(np.argmin(history)) + 3 < 30
    risk = model.predict_proba(sequences.take(held))[np.arange(200), label[held]]
    assert -np.log(risk).mean() == pytest.approx(min(history), rel=1e-4)
