"""The gate: a series' slices make a volume with a known place, or the series is refused with its reasons."""

from careloop.imaging.gate.check import check_slices
from careloop.imaging.gate.expected import check_expected
from careloop.imaging.gate.pixels import check_pixels

__all__ = ["check_expected", "check_pixels", "check_slices"]
