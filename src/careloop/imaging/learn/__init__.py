"""Learning: a segmentation network from a folder of images and labels."""

from __future__ import annotations

from careloop.imaging.learn.course import TrainingSettings
from careloop.imaging.learn.train import TrainedSummary, train_segmentation

__all__ = ["TrainedSummary", "TrainingSettings", "train_segmentation"]
