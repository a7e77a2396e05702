"""Take a series apart into its volumes: by orientation, then by the header values that explain where slices lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from careloop.imaging.finding import Finding
from careloop.imaging.gate.line import SAME_PLACE_MM, Line, line_up, refusals, thickness_mm
from careloop.imaging.slices import SliceHeader

SAME_ORIENTATION = 2e-4  # per component: headers written with four digits; over 512 columns a tenth of a voxel
MOST_ORIENTATIONS = 3  # a localizer has three; more are projections or radial slices, which are no stacks
OVERLAP = 1.9  # slices this many times thicker than their spacing may be two volumes, one between the other
# Values that may also change within one volume (a step of the table, a PET's bed, a breath): they split only where
# they must.
WEAK = (
    "AcquisitionNumber", "AcquisitionTime", "AcquisitionDateTime", "ContentTime", "TriggerTime",
    "NominalCardiacTriggerDelayTime", "SliceLocation", "InstanceCreationTime", "FrameReferenceTime",
    "ActualFrameDuration", "InStackPositionNumber",
)  # fmt: skip
IMAGE_TYPE = "ImageType"
Values = dict[str, str]


@dataclass(frozen=True)
class Part:
    """A line of slices that is thought to be one volume, and the values by which it differs from its siblings."""

    line: Line
    varies: Values


def drop_copies(slices: Sequence[SliceHeader]) -> tuple[list[SliceHeader], list[Finding]]:
    """Every slice once: copies have one SOPInstanceUID, or in all else the same header with its instance number.

    Two different headers under one SOPInstanceUID and frame are refused: the UID is unique (PS3.5 section 9).
    """
    kept: dict[object, SliceHeader] = {}
    clashes = copies = 0
    for index, header in enumerate(slices):
        said = _said(header)
        identity: object = (header.instance, header.frame) if header.instance else ("", index)
        unnamed = said if header.instance_number is not None else ("", index)
        if identity in kept:
            clashes += _said(kept[identity]) != said
            copies += 1
        elif unnamed in kept:
            copies += 1
        else:
            kept[identity] = kept[unnamed] = header
    unique = list({id(header): header for header in kept.values()}.values())
    if clashes:
        message = f"{clashes} slices have the SOPInstanceUID of another slice and a different header"
        return unique, [Finding("duplicate positions", "refused", message)]
    if copies:
        message = f"{copies} slices were copies of others (same SOPInstanceUID, or same header throughout): left out"
        return unique, [Finding("duplicate positions", "handled", message)]
    return unique, []


def _said(header: SliceHeader) -> tuple[object, ...]:
    """All that tells one slice from another but its file and UID."""
    plain = replace(header, file="", instance="", findings=(), stacks={})
    return (*(getattr(plain, name) for name in plain.__slots__ if name != "stacks"), *sorted(header.stacks.items()))


def split(slices: Sequence[SliceHeader]) -> tuple[list[Part], list[Finding]]:
    """The volumes of a series of placed slices, and what was found in telling them apart."""
    groups = _by_orientation(slices)
    if len(groups) > MOST_ORIENTATIONS:
        message = f"slices have {len(groups)} orientations (projections or radial slices), which make no volume"
        return [], [Finding("mixed orientations", "refused", message)]
    names = _plane_names(groups)
    parts, findings = [], []
    for group, name in zip(groups, names, strict=True):
        of_group, found = _explain(group)
        findings += found
        plane = {"orientation": name} if len(groups) > 1 else {}
        parts += [Part(part.line, plane | part.varies) for part in of_group]
    if len(groups) > 1:
        message = f"slices lie in {len(groups)} orientations ({', '.join(names)}): one volume each"
        findings.append(Finding("mixed orientations", "handled", message))
    return parts, findings


def _by_orientation(slices: Sequence[SliceHeader]) -> list[list[SliceHeader]]:
    left = np.arange(len(slices))
    all_axes = np.array([s.orientation for s in slices], dtype=np.float64)
    groups = []
    while len(left):
        same = np.abs(all_axes[left] - all_axes[left[0]]).max(axis=(1, 2)) <= SAME_ORIENTATION
        groups.append([slices[i] for i in left[same]])
        left = left[~same]
    return groups


def _plane_names(groups: Sequence[Sequence[SliceHeader]]) -> list[str]:
    """`sagittal`, `coronal` or `axial` by the largest component of the normal; numbered where one occurs twice."""
    names: list[str] = []
    for group in groups:
        assert group[0].orientation is not None
        normal = np.cross(*group[0].orientation)
        name = ("sagittal", "coronal", "axial")[int(np.abs(normal).argmax())]
        taken = sum(n.split()[0] == name for n in names)
        names.append(f"{name} {taken + 1}" if taken else name)
    return names


def _explain(group: Sequence[SliceHeader]) -> tuple[list[Part], list[Finding]]:
    """The partition by header values that makes every part a volume; the refusals of the likeliest where none does."""
    refusal: tuple[list[Part], list[Finding]] | None = None
    for names in _candidates(group):
        parts = _partition(group, names)
        refused = [finding for part in parts for finding in refusals(part.line)] + _sibling_refusals(parts)
        refused += [_TWO_IN_ONE] if _is_two_in_one(parts) else []
        if not refused and _is_explained(parts, names):
            return parts, _split_findings(parts, names) if names else _mixed(group)
        if refused and (refusal is None or (_hold_duplicates(refusal[1]) and not _hold_duplicates(refused))):
            refusal = parts, list(dict.fromkeys(refused))
    assert refusal is not None  # the whole group is a candidate: one volume, or refused
    return refusal


def _hold_duplicates(findings: Sequence[Finding]) -> bool:
    return any(finding.check == "duplicate positions" for finding in findings)


def _mixed(group: Sequence[SliceHeader]) -> list[Finding]:
    """That values differ which tell volumes apart elsewhere, though the slices make one even row only together."""
    names = _varying(group)[0]
    if not names:
        return []
    return [Finding("mixed values", "noted", f"{' and '.join(names)} change between the slices of one volume")]


_TWO_IN_ONE = Finding(
    "interleaved series",
    "refused",
    "instance numbers run through the volume twice and slices overlap by half: two volumes lie one between the other, "
    "and no header value tells them apart; give one volume a series",
)


def _candidates(group: Sequence[SliceHeader]) -> Iterator[tuple[str, ...]]:
    """Sets of names to split by, the likeliest first: all that tell contrasts apart, none, then the weaker ones."""
    strong, weak = _varying(group)
    yield strong
    if strong:
        yield ()
    for name in weak:
        yield (*strong, name)
    if strong:
        for name in (*strong, *weak):
            yield (name,)
    if len(weak) > 1:
        yield (*strong, *weak)


def _varying(group: Sequence[SliceHeader]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names whose values are not the same throughout: those that tell contrasts apart, and the weak ones."""
    names = sorted({name for s in group for name in s.stacks} | {IMAGE_TYPE})
    varying = [name for name in names if len({_value(s, name) for s in group}) > 1]
    return tuple(n for n in varying if n not in WEAK), tuple(n for n in WEAK if n in varying)


def _value(header: SliceHeader, name: str) -> str:
    return header.stacks.get(name, "") or ("\\".join(header.image_type) if name == IMAGE_TYPE else "")


def _partition(group: Sequence[SliceHeader], names: Sequence[str]) -> list[Part]:
    parts: dict[tuple[str, ...], list[SliceHeader]] = {}
    for header in group:
        parts.setdefault(tuple(_value(header, name) for name in names), []).append(header)
    ordered = sorted(parts.items(), key=lambda item: [_as_number(value) for value in item[0]])
    return [Part(line_up(slices), dict(zip(names, values, strict=True))) for values, slices in ordered]


def _as_number(value: str) -> tuple[float, str]:
    try:
        return float(value), ""
    except ValueError:
        return float("inf"), value


def _is_explained(parts: Sequence[Part], names: Sequence[str]) -> bool:
    """False where values only cut a row of slices into pieces: at every slice, or weak ones, which would hide a gap."""
    in_a_row = not all(_overlap(a.line, b.line) for a, b in pairwise(parts))
    scattered = len(parts) > 2 and all(len(part.line.slices) == 1 for part in parts)
    return not (in_a_row and (scattered or any(name in WEAK for name in names)))


def _is_two_in_one(parts: Sequence[Part]) -> bool:
    """True for a single line of two volumes, the slices of one halfway between those of the other.

    Both must say so: slices twice as thick as their spacing (which alone is an overlapping reconstruction of a CT),
    and instance numbers that go up in every other slice only (which alone is an interleaved acquisition of an MR).
    """
    if len(parts) != 1:
        return False
    line = parts[0].line
    thickness = thickness_mm(line.slices[0])
    numbers = [s.instance_number for s in line.slices if s.instance_number is not None]
    if thickness is None or len(numbers) < len(line.slices) or len(numbers) < 4:
        return False
    rises = [b > a for a, b in pairwise(numbers)]
    to_and_fro = all(a != b for a, b in pairwise(rises))
    two_runs = all(len({b > a for a, b in pairwise(numbers[k::2])}) == 1 for k in (0, 1))
    spacing = float(line.along[-1] - line.along[0]) / (len(numbers) - 1)
    return to_and_fro and two_runs and thickness >= OVERLAP * spacing


def _sibling_refusals(parts: Sequence[Part]) -> list[Finding]:
    """Slices missing where the volumes of one series have spacings that are whole multiples of the least."""
    spacings = [float(np.diff(p.line.along).mean()) for p in parts if len(p.line.slices) > 1]
    least = min(spacings, default=0.0)
    if least < SAME_PLACE_MM:
        return []  # refused for that
    times = [round(spacing / least) for spacing in spacings]
    uneven = [s for s, k in zip(spacings, times, strict=True) if k > 1 and abs(s / least - k) < 0.05 * k]
    if not uneven:
        return []
    message = (
        f"volumes of this series have slices {least:.6g} and {max(uneven):.6g} mm apart, a whole multiple: "
        "slices between them are not there; fetch the series again"
    )
    return [Finding("missing slices", "refused", message)]


def _split_findings(parts: Sequence[Part], names: Sequence[str]) -> list[Finding]:
    if len(parts) == 1:
        return []
    findings = []
    crossed = any(_overlap(a.line, b.line) for a, b in pairwise(parts))
    check = "interleaved series" if crossed else "several volumes"
    message = f"{len(parts)} volumes, told apart by {' and '.join(names)}"
    findings.append(Finding(check, "handled", message))
    counts = {len(part.line.slices) for part in parts}
    if crossed and len(counts) > 1:
        message = f"its volumes have {min(counts)} to {max(counts)} slices: at the ends of some, slices may be missing"
        findings.append(Finding("missing slices", "noted", message))
    return findings


def _overlap(a: Line, b: Line) -> bool:
    return bool(a.along[0] <= b.along[-1] and b.along[0] <= a.along[-1])
