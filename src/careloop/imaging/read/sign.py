"""Signed or unsigned: which of the two a JPEG 2000 image means whose header and codestream contradict each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from careloop.imaging.finding import Finding

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHECK = "sign mismatch in JPEG 2000"
CLEARLY = 1.05  # the rougher reading must be rougher by this factor; wrapped values make it several times as rough


def settled_sign(frames: Iterable[tuple[NDArray[Any], NDArray[Any]]], *, header: bool) -> tuple[bool, Finding]:
    """Return whether values are signed, from some frames read both ways (unsigned, signed), and the finding.

    Both sides occur: encoders that take signed data for unsigned, and headers that were not changed with the data. The
    wrong reading breaks an image apart at zero or at half of the range, by the whole range of its values, so that its
    neighbouring voxels differ by far more: the smoother reading is the right one. Where both are the same numbers,
    the header is right as well. `header` is what the header says.
    """
    steps = np.zeros(2)
    same = True
    for unsigned, signed in frames:
        same = same and bool((unsigned.astype(np.int64) == signed).all())
        steps += [_steps(unsigned), _steps(signed)]
    said = f"the header says {_word(header)}, the codestream {_word(not header)}"
    if same:
        return header, Finding(CHECK, "handled", f"{said}; both give the same values")
    smoother = bool(steps[1] < steps[0])
    if max(steps) <= CLEARLY * min(steps):
        return header, Finding(CHECK, "refused", f"{said}, and the values do not show which is right")
    message = f"{said}; read as {_word(smoother)}, by which neighbouring voxels differ less"
    return smoother, Finding(CHECK, "handled", message)


def _steps(values: NDArray[Any]) -> float:
    """Sum of absolute differences between neighbours along rows and columns."""
    wide = values.astype(np.float64)
    return float(np.abs(np.diff(wide, axis=0)).sum() + np.abs(np.diff(wide, axis=1)).sum())


def _word(signed: bool) -> str:
    return "signed" if signed else "unsigned"
