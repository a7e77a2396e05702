"""Trains on a data set and kills its own process, as by kill -9, when the second epoch has ended."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from careloop.imaging.learn import TrainingSettings, train_segmentation


def progress(what: str, done: int, total: int) -> None:
    if what.startswith("training, epoch 2 ") and done == total // 2:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    settings = TrainingSettings.model_validate_json(sys.argv[3])
    train_segmentation(Path(sys.argv[1]), Path(sys.argv[2]), settings=settings, progress=progress)
