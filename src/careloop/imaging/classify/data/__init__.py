"""Labelled images from a table or a MedMNIST file: read, checked, split by patient and prepared once."""

from __future__ import annotations

from careloop.imaging.classify.data.dataset import ImageDataset, RejectedRow
from careloop.imaging.classify.data.read import open_images

__all__ = ["ImageDataset", "RejectedRow", "open_images"]
