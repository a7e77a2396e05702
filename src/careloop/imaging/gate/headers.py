"""Headers that contradict themselves: what no slice may say, whatever the others say."""

from __future__ import annotations

import math
from collections.abc import Sequence

from careloop.imaging.finding import Finding
from careloop.imaging.slices import SliceHeader

ORIENTATION_TOLERANCE = 1e-3  # off unit length or a right angle; over 512 columns half a voxel. As highdicom's
LONGEST = 34  # characters of a header's text in a message; short and code strings have 16
MOST_MM = 1e4  # no table is 10 m long
SPACING_MM = (1e-6, 1e3)  # from a fifth of the wavelength of light per pixel to a metre


def said(text: str) -> str:
    """A header's text in a message: one line, quoted, and no more than names a unit or a part of the body."""
    printed = repr(text)
    return printed if len(printed) <= LONGEST else f"{printed[:LONGEST]}..."


def header_refusals(slices: Sequence[SliceHeader]) -> list[Finding]:
    """Findings for values that cannot be, each with the number of slices that have it."""
    counts: dict[tuple[str, str], int] = {}
    for header in slices:
        for fault in _faults(header):
            counts[fault] = counts.get(fault, 0) + 1
    total = len(slices)
    return [
        Finding(check, "refused", f"{message} ({count} of {total} slices)")
        for (check, message), count in counts.items()
    ]


def _faults(header: SliceHeader) -> list[tuple[str, str]]:
    faults = []
    if header.rows < 1 or header.columns < 1:
        faults.append(("header", "rows and columns must be 1 or more"))
    if header.position is not None and not all(abs(x) <= MOST_MM for x in header.position):  # NaN is no less than it
        faults.append(("header", "positions must be numbers within 10 m"))
    if header.orientation is not None and not _is_rotation(*header.orientation):
        faults.append(("header", "rows and columns must have directions of unit length at a right angle"))
    spacing = header.pixel_spacing_mm
    if spacing is not None and not all(SPACING_MM[0] <= x <= SPACING_MM[1] for x in spacing):
        faults.append(("header", "pixel spacing must be positive and below a metre"))
    if spacing is None and header.position is not None and header.orientation is not None:
        faults.append(("header", "slices with a position must say their pixel spacing"))
    if not (math.isfinite(header.slope) and header.slope != 0 and math.isfinite(header.intercept)):
        faults.append(("per-slice rescale", "rescale slope and intercept must be numbers, the slope not 0"))
    return faults


def _is_rotation(row: tuple[float, ...], column: tuple[float, ...]) -> bool:
    numbers = (math.hypot(*row) - 1, math.hypot(*column) - 1, sum(a * b for a, b in zip(row, column, strict=True)))
    return all(abs(x) <= ORIENTATION_TOLERANCE for x in numbers)
