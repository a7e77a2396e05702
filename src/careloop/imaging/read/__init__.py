"""Images of every kind read into volumes with checked geometry and physical units."""

from careloop.imaging.read.series import find_series, read_series

__all__ = ["find_series", "read_series"]
