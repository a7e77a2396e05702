"""The gate: a series' headers, checked before any pixel is computed with, to volumes with a place or a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from careloop.imaging.finding import Finding, RefusedSeriesError
from careloop.imaging.gate.headers import header_refusals, said
from careloop.imaging.gate.line import Line, notes, thickness_mm
from careloop.imaging.gate.split import Part, drop_copies, split
from careloop.imaging.slices import SliceHeader, Stack

VOLUME_MODALITIES = ("CT", "MR", "PT")  # pictures of these without a place are a volume whose place was lost


def check_slices(slices: Sequence[SliceHeader], *, where: str, modality: str = "") -> tuple[Stack, ...]:
    """Sort the slices of a series into volumes, each with its affine and findings; refuse what is no volume.

    Order and spacing come from ImagePositionPatient along the normal of ImageOrientationPatient (PS3.3 C.7.6.2.1.1),
    never from instance numbers, file names, SliceThickness or SpacingBetweenSlices. Slices without a place (pictures,
    ultrasound) make one unplaced stack an instance. `where` names the series in the error, `modality` is
    (0008,0060). Raises RefusedSeriesError, which holds every finding.
    """
    if not slices:
        raise RefusedSeriesError(where, [Finding("no slices", "refused", "there is no image in it")])
    found = list(dict.fromkeys(finding for header in slices for finding in header.findings))
    found += header_refusals(slices)
    _stop(where, found)
    placed = [s for s in slices if s.position is not None and s.orientation is not None]
    if len(placed) < len(slices):
        found += _lost_places(slices, len(slices) - len(placed), modality)
        _stop(where, found)
        return _pictures(slices, found, where)
    kept, copies = drop_copies(placed)
    parts, splits = split(kept)
    found += copies + splits
    if len(parts) == 1:
        found += _numbers(parts[0].line)
    _stop(where, found)
    of_parts = [notes(part.line) + _counts(part.line) + grey_values(part.line.slices) for part in parts]
    _stop(where, [*found, *(finding for findings in of_parts for finding in findings)])
    return tuple(_stack(part, [*found, *findings]) for part, findings in zip(parts, of_parts, strict=True))


def _stop(where: str, findings: Sequence[Finding]) -> None:
    if any(finding.verdict == "refused" for finding in findings):
        raise RefusedSeriesError(where, dict.fromkeys(findings))


def _stack(part: Part, findings: Sequence[Finding]) -> Stack:
    return Stack(part.line.slices, part.line.affine, placed=True, varies=part.varies, findings=tuple(findings))


def _lost_places(slices: Sequence[SliceHeader], lost: int, modality: str) -> list[Finding]:
    if lost < len(slices):
        message = f"{lost} of {len(slices)} slices have no position or orientation"
        return [Finding("no geometry", "refused", f"{message}; fetch the series again")]
    if modality in VOLUME_MODALITIES and lost > 1:
        message = f"none of its {lost} slices has a position and an orientation; their order and distance are unknown"
        return [Finding("no geometry", "refused", message)]
    return [Finding("no geometry", "noted", "the header gives no place in the patient; only spacing is known")]


def _pictures(slices: Sequence[SliceHeader], found: Sequence[Finding], where: str) -> tuple[Stack, ...]:
    """One unplaced stack an instance, its frames in their order (which may be that of time)."""
    instances: dict[str, dict[int, SliceHeader]] = {}
    for index, header in enumerate(slices):
        instances.setdefault(header.instance or header.file or str(index), {}).setdefault(header.frame, header)
    stacks = []
    for number, frames in enumerate(instances.values(), start=1):
        ordered = tuple(frames[frame] for frame in sorted(frames))
        first = ordered[0]
        if len({(s.rows, s.columns, s.pixel_spacing_mm) for s in ordered}) > 1:
            message = "frames of one instance have different sizes or spacings"
            _stop(where, [*found, Finding("changing spacing", "refused", message)])
        thickness = thickness_mm(first) if len(ordered) == 1 else None
        affine = np.diag([thickness or 1.0, *(first.pixel_spacing_mm or (1.0, 1.0)), 1.0])
        varies = {"picture": str(number)} if len(instances) > 1 else {}
        stacks.append(Stack(ordered, affine, False, varies, (*found, *grey_values(ordered))))
    return tuple(stacks)


def _numbers(line: Line) -> list[Finding]:
    """Slices that are missing evenly or at the ends, which no position shows, from what the header counts."""
    numbers = [s.instance_number for s in line.slices if s.instance_number is not None]
    if len(numbers) < len(line.slices) or len(numbers) < 2:
        return []
    steps = {b - a for a, b in pairwise(numbers)}
    step = steps.pop() if len(steps) == 1 else 0
    thickness, spacing = thickness_mm(line.slices[0]), float(np.diff(line.along).mean())
    if abs(step) > 1 and thickness and abs(spacing / thickness - abs(step)) < 0.1:
        message = (
            f"instance numbers go up by {abs(step)} and slices lie {abs(step)} thicknesses apart: only one in "
            f"{abs(step)} is there; fetch the series again"
        )
        return [Finding("missing slices", "refused", message)]
    if abs(step) == 1 and min(numbers) > 1:
        message = (
            f"instance numbers begin at {min(numbers)}: slices may be missing at that end, which no position shows"
        )
        return [Finding("missing slices", "noted", message)]
    return []


def _counts(line: Line) -> list[Finding]:
    """Slices missing at the ends, where the header counts those of the volume (PS3.3 C.7.6.16.2.2 and C.8.9.1)."""
    first, n = line.slices[0], len(line.slices)
    places = [s.in_stack_position for s in line.slices]
    known = [place for place in places if place is not None]
    if len(known) == n and min(known) > 1 and len(set(known)) == n:
        message = f"in-stack positions begin at {min(known)}, so slices are missing at that end; fetch the series again"
        return [Finding("missing slices", "refused", message)]
    if first.slices_in_volume is not None and first.slices_in_volume > n:
        message = f"the header counts {first.slices_in_volume} slices and there are {n}; fetch the series again"
        return [Finding("missing slices", "refused", message)]
    return []


def grey_values(slices: Sequence[SliceHeader]) -> list[Finding]:
    """What headers say of grey values and the reader puts right: MONOCHROME1, rescaling that changes; mixed units."""
    findings = []
    inverse = sum(s.photometric == "MONOCHROME1" for s in slices)
    if inverse:
        message = f"low values are bright in {inverse} of {len(slices)} slices: turned round where values have no unit"
        findings.append(Finding("MONOCHROME1", "handled", message))
    slopes = {(s.slope, s.intercept) for s in slices}
    if len(slopes) > 1:
        message = f"{len(slopes)} different rescale slopes and intercepts: each slice has its own applied"
        findings.append(Finding("per-slice rescale", "handled", message))
    units = sorted({s.rescale_type for s in slices})
    if len(units) > 1:
        message = (
            f"slices are in different units ({', '.join(said(unit) if unit else 'unspecified' for unit in units)})"
        )
        findings.append(Finding("per-slice rescale", "refused", message))
    return findings
