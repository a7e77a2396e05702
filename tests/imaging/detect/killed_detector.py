"""Trains a detector and kills its own process, as by kill -9, when the second epoch has ended."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from careloop.imaging.detect import DetectionSettings, train_detector
from careloop.imaging.detect.dataset import open_table


def progress(what: str, done: int, total: int) -> None:
    if what.startswith("training, epoch 3 "):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    settings = DetectionSettings.model_validate_json(sys.argv[3])
    train_detector(open_table(Path(sys.argv[1])), Path(sys.argv[2]), settings=settings, progress=progress)
