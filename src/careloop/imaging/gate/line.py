"""The slices of one volume in their order along the normal: their affine, and whether they lie at equal distances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from careloop.imaging.finding import Finding
from careloop.imaging.slices import SliceHeader
from careloop.imaging.volume import spacing_mm

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAME_PLACE_MM = 1e-2  # two slices closer than this are at one place: scanners move their table by 0.1 mm at least
ROUNDING_MM = 0.1  # positions written to a tenth of a millimetre, as some scanners do, are off the grid by up to this
ROUNDING_PART = 0.05  # thick slices may be off by this part of their spacing: a partial volume nobody sees
ROUNDING_PART_MOST = 0.25  # and none by more: what is left must stay far from a missing slice (1.0)
SAME_SPACING = 1e-4  # relative; over 512 columns a twentieth of a voxel
TILT_DEG = 0.05  # as `is_upright`: below it the shear of 500 mm is less than half a millimetre
MOST_TILT_DEG = 45.0  # no gantry tilts by more than 30 degrees: beyond, position and orientation contradict each other
MOST_MISSING = 0.5  # with more gaps than neighbours the spacing itself is unknown
COARSER = 3  # so many equal gaps one after the other are a coarser part of the scan, not slices lost
THIN_PART = 1.5  # slices further apart than this many thicknesses leave tissue out; gaps of a tenth are usual in MR
GREY = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True, eq=False)
class Line:
    """Slices of one orientation sorted by place: their `positions` (n, 3) in mm LPS and their common axes.

    `row` and `column` are the unit directions of a row and of a column, `normal` is row x column, and `along` (n,)
    each slice's distance along the normal.
    """

    slices: tuple[SliceHeader, ...]
    positions: NDArray[np.float64]
    row: NDArray[np.float64]
    column: NDArray[np.float64]
    normal: NDArray[np.float64]
    along: NDArray[np.float64]

    @property
    def step(self) -> NDArray[np.float64]:
        """From one slice to the next in mm, by the ends of the line; along the normal for a single slice."""
        n = len(self.slices)
        if n > 1:
            step: NDArray[np.float64] = (self.positions[-1] - self.positions[0]) / (n - 1)
            return step
        return self.normal * (thickness_mm(self.slices[0]) or 1.0)

    @property
    def affine(self) -> NDArray[np.float64]:
        """Takes (slice, row, column, 1) to mm in LPS (PS3.3 C.7.6.2.1.1, with the slice axis from the positions)."""
        between_rows, between_columns = self.slices[0].pixel_spacing_mm or (1.0, 1.0)
        affine = np.eye(4)
        affine[:3, 0] = self.step
        affine[:3, 1] = self.column * between_rows
        affine[:3, 2] = self.row * between_columns
        affine[:3, 3] = self.positions[0]
        return affine

    @property
    def tilt_deg(self) -> float:
        """Angle between the line of the slices and their normal."""
        step = self.step
        return math.degrees(math.atan2(float(np.linalg.norm(np.cross(step, self.normal))), float(step @ self.normal)))

    @property
    def off_grid_mm(self) -> float:
        """How far the slice that is worst off lies from where the affine puts it."""
        grid = self.positions[0] + np.arange(len(self.slices))[:, None] * self.step
        return float(np.linalg.norm(self.positions - grid, axis=1).max())

    def place(self, index: int) -> str:
        """A slice in words: its distance along the normal and its instance number."""
        number = self.slices[index].instance_number
        return f"{self.along[index]:.2f} mm" + (f" (instance {number})" if number is not None else "")


def line_up(slices: Sequence[SliceHeader]) -> Line:
    """Sort placed slices of one orientation along the normal; file name and instance number have no say."""
    first = slices[0].orientation
    assert first is not None
    row, column = (np.array(axis) / np.linalg.norm(axis) for axis in first)
    column = column - row * (row @ column)  # what rounding of the header left of a skew
    column /= np.linalg.norm(column)
    normal = np.cross(row, column)
    positions = np.array([s.position for s in slices], dtype=np.float64)
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    return Line(tuple(slices[i] for i in order), positions[order], row, column, normal, along[order])


def thickness_mm(header: SliceHeader) -> float | None:
    """The thickness of a slice where the header says one that can be."""
    thickness = header.slice_thickness_mm
    return thickness if thickness and math.isfinite(thickness) and thickness > 0 else None


def tolerance_mm(spacing: float) -> float:
    """How far a slice may lie from the regular grid of this spacing, in mm."""
    return min(max(ROUNDING_MM, ROUNDING_PART * spacing), ROUNDING_PART_MOST * spacing)


def refusals(line: Line) -> list[Finding]:
    """Why the slices of a line are no volume; empty where they are one."""
    in_plane = _in_plane(line)
    if in_plane or len(line.slices) == 1:
        return in_plane
    steps = np.diff(line.along)
    if (steps < SAME_PLACE_MM).any():
        return [_duplicates(line, steps)]
    spacing = _spacing(steps)
    tolerance = tolerance_mm(spacing)
    if line.tilt_deg > MOST_TILT_DEG:
        message = f"the slices move {line.tilt_deg:.0f} degrees off their normal; position and orientation contradict"
        return [Finding("gantry tilt", "refused", f"{message} each other")]
    if line.off_grid_mm <= tolerance:
        return []
    return [_gaps(line, steps, spacing) or _uneven(line, steps, tolerance)]


def _spacing(steps: NDArray[np.float64]) -> float:
    """The distance of neighbours between which none is missing: the median of the steps that are about the least."""
    least = steps[np.rint(steps / steps.min()) == 1]
    return float(np.median(least))


def _in_plane(line: Line) -> list[Finding]:
    first, findings = line.slices[0], []
    sizes = sorted({(s.rows, s.columns) for s in line.slices})
    if len(sizes) > 1:
        listed = ", ".join(f"{rows} x {columns}" for rows, columns in sizes[:3])
        findings.append(Finding("changing spacing", "refused", f"slices have different numbers of voxels ({listed})"))
    spacings = np.array([s.pixel_spacing_mm for s in line.slices], dtype=np.float64)
    off = np.abs(spacings / np.array(first.pixel_spacing_mm) - 1).max()
    if off > SAME_SPACING:
        lowest, highest = spacings.min(axis=0), spacings.max(axis=0)
        message = f"pixel spacing changes between slices, from {_by(lowest)} to {_by(highest)} mm"
        findings.append(Finding("changing spacing", "refused", message))
    if len({s.photometric in GREY for s in line.slices}) > 1:
        findings.append(Finding("mixed pixels", "refused", "some slices are grey and some are colour"))
    return findings


def _by(pair: NDArray[np.float64]) -> str:
    return f"{pair[0]:.6g} x {pair[1]:.6g}"


def _duplicates(line: Line, steps: NDArray[np.float64]) -> Finding:
    together = np.flatnonzero(steps < SAME_PLACE_MM)
    message = (
        f"at {len(np.unique(line.along[together].round(1)))} places there are several different slices (first at "
        f"{line.place(int(together[0]))}), and no header value tells their volumes apart; give one volume a series"
    )
    return Finding("duplicate positions", "refused", message)


def _gaps(line: Line, steps: NDArray[np.float64], spacing: float) -> Finding | None:
    """The finding where all uneven steps are whole multiples of the spacing, here and there; else None."""
    times = np.rint(steps / spacing).astype(int)
    whole = np.abs(steps - times * spacing) <= 2 * tolerance_mm(spacing)  # two rounded positions a step
    gaps = np.flatnonzero(times > 1)
    if not (whole.all() and len(gaps) and len(gaps) <= MOST_MISSING * len(steps)):
        return None
    if len(gaps) >= COARSER and (np.diff(gaps) == 1).all() and (times[gaps] == times[gaps[0]]).all():
        return None  # one part of the scan is coarser
    listed = [f"{times[i] - 1} between {line.place(int(i))} and {line.place(int(i) + 1)}" for i in gaps[:3]]
    more = f" and at {len(gaps) - 3} more places" if len(gaps) > 3 else ""
    message = (
        f"{int((times[gaps] - 1).sum())} of {int(times.sum()) + 1} slices at {spacing:.6g} mm spacing are not there: "
        f"{'; '.join(listed)}{more}; fetch the series again"
    )
    return Finding("missing slices", "refused", message)


def _uneven(line: Line, steps: NDArray[np.float64], tolerance: float) -> Finding:
    least, most = int(steps.argmin()), int(steps.argmax())
    if steps[most] - steps[least] <= 2 * tolerance:
        return Finding(
            "changing spacing", "refused", f"slices lie up to {line.off_grid_mm:.3g} mm off a straight, even row"
        )
    message = (
        f"slices are between {steps[least]:.6g} mm apart (at {line.place(least)}) and {steps[most]:.6g} mm apart "
        f"(at {line.place(most)}); use a reconstruction at one spacing"
    )
    return Finding("changing spacing", "refused", message)


def notes(line: Line) -> list[Finding]:
    """What is worth saying of the place of a volume's slices, and was handled."""
    if len(line.slices) == 1:
        return [_single(line)]
    findings = []
    spacing = spacing_mm(line.affine)[0] * math.cos(math.radians(line.tilt_deg))
    header_deg = line.slices[0].gantry_tilt_deg
    if line.tilt_deg > TILT_DEG:
        message = f"the slices are sheared by {line.tilt_deg:.2f} degrees; the affine holds the shear"
        findings.append(Finding("gantry tilt", "handled", message))
    elif header_deg is not None and abs(header_deg) > TILT_DEG:
        message = f"the header says {header_deg:g} degrees, but the slices lie along their normal: positions are used"
        findings.append(Finding("gantry tilt", "noted", message))
    if line.off_grid_mm > SAME_PLACE_MM:
        message = f"slices lie up to {line.off_grid_mm:.2g} mm off an even row, which rounding explains"
        findings.append(Finding("changing spacing", "noted", message))
    thickness = thickness_mm(line.slices[0])
    if thickness and spacing > THIN_PART * thickness:
        message = f"slices are {thickness:g} mm thick and {spacing:.6g} mm apart: what lies between was not imaged"
        findings.append(Finding("gaps between slices", "noted", message))
    return findings


def _single(line: Line) -> Finding:
    thickness = thickness_mm(line.slices[0])
    said = f"its thickness, {thickness:g} mm" if thickness else "unknown and taken as 1 mm"
    return Finding("single slice", "noted", f"one slice; its extent along the normal is {said}")
