"""Whether images are what a model was made for: modality, part of the body, Hounsfield units, grey values."""

from __future__ import annotations

from collections.abc import Sequence

from careloop import InputError
from careloop.imaging.finding import Finding, RefusedSeriesError
from careloop.imaging.gate.body_parts import regions
from careloop.imaging.gate.headers import said
from careloop.imaging.gate.pixels import has_air
from careloop.imaging.volume import Volume

HOUNSFIELD = "[hnsf'U]"  # UCUM
_MODALITY = {"MRI": "MR", "MRT": "MR", "PET": "PT", "XR": "DX", "XRAY": "DX", "X-RAY": "DX", "ULTRASOUND": "US"}
_ALIKE = {"CR": "DX", "RG": "DX"}  # all of them projection radiographs


def check_expected(
    volumes: Sequence[Volume], *, modalities: Sequence[str], body_parts: Sequence[str], channels: Sequence[str]
) -> tuple[Finding, ...]:
    """What is noted of a model's input, one volume a channel; refused what is another thing than the model takes.

    `modalities` has DICOM's value for each channel, or is empty where any will do (as is an empty value); `body_parts`
    are words of BodyPartExamined, empty for anything. Raises RefusedSeriesError for another modality, another part of
    the body, a CT that is not in Hounsfield units, and colour; InputError for another number of volumes.
    """
    if len(volumes) != len(channels):
        raise InputError(f"the model takes {len(channels)} images ({', '.join(channels)}), got {len(volumes)}")
    wanted = list(modalities) or [""] * len(channels)
    findings: list[Finding] = []
    for volume, modality, channel in zip(volumes, wanted, channels, strict=True):
        found = [*_modality(volume, modality), *_body_part(volume, body_parts), *_grey(volume)]
        if _canonical(modality) == "CT" and not any(f.verdict == "refused" for f in found):
            found += _hounsfield(volume)
        if any(finding.verdict == "refused" for finding in found):
            raise RefusedSeriesError(f"the image for {channel}", found)
        findings += found
    return tuple(dict.fromkeys(findings))


def _canonical(modality: str) -> str:
    plain = modality.strip().upper()
    plain = _MODALITY.get(plain, plain)
    return _ALIKE.get(plain, plain)


def _modality(volume: Volume, wanted: str) -> list[Finding]:
    if not wanted:
        return []
    if not volume.modality:
        message = f"the file names no modality; it is taken for the {wanted} that the model needs"
        return [Finding("wrong modality", "noted", message)]
    if _canonical(volume.modality) != _canonical(wanted):
        message = f"the model was made for {wanted} and this is {said(volume.modality)}"
        return [Finding("wrong modality", "refused", message)]
    return []


def _body_part(volume: Volume, wanted: Sequence[str]) -> list[Finding]:
    if not wanted:
        return []
    listed = " or ".join(wanted)
    if not volume.body_part:
        message = f"the file names no part of the body; it is taken for the {listed} that the model needs"
        return [Finding("wrong body part", "noted", message)]
    shown, needed = regions(volume.body_part), frozenset().union(*(regions(part) for part in wanted))
    if volume.body_part.strip().upper() in {part.strip().upper() for part in wanted} or shown & needed:
        return []
    if not shown or not needed:
        unknown = said(volume.body_part) if not shown else listed
        message = f"{unknown} is no part of the body that is known here; the model needs {listed}"
        return [Finding("wrong body part", "noted", message)]
    message = f"the model was made for {listed} and this is {said(volume.body_part)}"
    return [Finding("wrong body part", "refused", message)]


def _grey(volume: Volume) -> list[Finding]:
    if volume.voxels.ndim == 3:
        return []
    return [Finding("colour", "refused", "the model takes grey values and this image is in colour")]


def _hounsfield(volume: Volume) -> list[Finding]:
    if volume.modality and volume.unit != HOUNSFIELD:
        unit = volume.unit or "no unit"
        message = f"the model needs Hounsfield units and this CT has {unit}"
        return [Finding("Hounsfield units", "refused", message)]
    if not has_air(volume.voxels):
        message = "no voxel is below 0, so these are no Hounsfield units: a rescale intercept of -1024 may be missing"
        return [Finding("Hounsfield units", "refused", message)]
    return []
