"""Detection: boxes around findings by a network that marks their centres, trained, applied, evaluated and recorded."""

from __future__ import annotations

from careloop.imaging.detect.boxes import Detection
from careloop.imaging.detect.find import detect
from careloop.imaging.detect.model import Detector, read_detector
from careloop.imaging.detect.settings import DetectionSettings
from careloop.imaging.detect.train import DetectorSummary, train_detector

__all__ = [
    "Detection",
    "DetectionSettings",
    "Detector",
    "DetectorSummary",
    "detect",
    "read_detector",
    "train_detector",
]
