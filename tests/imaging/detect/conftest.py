"""One detector of pictures, trained once for all tests."""

from __future__ import annotations

import pytest
from detection_blobs import write_blobs

from careloop.imaging.detect import DetectionSettings, DetectorSummary, train_detector
from careloop.imaging.detect.dataset import DetectionDataset, open_table

QUICK = DetectionSettings(epochs=5, steps=25, batch_size=8, features=8, patch=(32, 32), device="cpu", name="balls")


@pytest.fixture(scope="session")
def flat_data(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    return open_table(write_blobs(tmp_path_factory.mktemp("flat"), (60, 30, 45), (40, 48)))


@pytest.fixture(scope="session")
def quick() -> DetectionSettings:
    return QUICK


@pytest.fixture(scope="session")
def trained(flat_data: DetectionDataset, tmp_path_factory: pytest.TempPathFactory) -> DetectorSummary:
    return train_detector(flat_data, tmp_path_factory.mktemp("detector"), settings=QUICK)
