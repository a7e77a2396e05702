"""A training that a test kills and starts again: python resumed_training.py FOLDER; weights.npz when it has ended."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from careloop.models.sequence.arrays import FIRST_CODE, TokenSpace
from careloop.models.sequence.estimators import SequenceClassifier
from careloop.models.sequence.training.loop import Checkpoint
from conftest import simulated_sequences


def trained(folder: Path) -> SequenceClassifier:
    """A small Transformer with dropout, on batches that are drawn anew each epoch."""
    sequences = simulated_sequences(200, seed=3)
    label = np.random.default_rng(4).integers(0, 2, 200)
    space = TokenSpace(FIRST_CODE + 8, 5, np.zeros((FIRST_CODE + 8, 0), dtype=np.int32))
    rows, held = np.arange(150), np.arange(150, 200)
    model = SequenceClassifier(
        width=16, layers=1, heads=2, tokens=128, max_epochs=6, patience=6, members=2, device="cpu"
    )
    return model.fit(
        sequences.take(rows),
        label[rows],
        space=space,
        validation=(sequences.take(held), label[held]),
        checkpoint=Checkpoint(folder / "checkpoint.pt", every_seconds=0.0),
        listener=lambda step: None,
    )


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    _, arrays = trained(folder).get_state()
    np.savez(folder / "weights.npz", **arrays)
