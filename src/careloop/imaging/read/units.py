"""Which physical unit a stack's values have, and what slope and intercept bring each slice to it."""

from __future__ import annotations

from collections.abc import Sequence

from careloop.imaging.finding import Finding
from careloop.imaging.read.headers import FileHeader
from careloop.imaging.read.pixels import Scale
from careloop.imaging.read.suv import suv_factor
from careloop.imaging.slices import SliceHeader

HOUNSFIELD = "[hnsf'U]"  # UCUM
_OF_RESCALE_TYPE = {"HU": HOUNSFIELD, "BQML": "Bq/mL"}


def physical_scale(
    slices: Sequence[SliceHeader], headers: Sequence[FileHeader], *, modality: str
) -> tuple[list[Scale], str, list[Finding]]:
    """Return each slice's scale, the unit (UCUM, empty for arbitrary intensities), and findings.

    `headers` are those of the slices' files, slice by slice. CT is in Hounsfield units where its file states a rescale
    (PS3.3 C.8.2.1.1.2), other than a localizer; PET in SUV by body weight where that can be had; RT dose in Gy.
    """
    scales = [Scale(s.slope, s.intercept) for s in slices]
    if modality == "PT" and headers[0].pet is not None:
        factor, unit, finding = suv_factor([h.pet for h in headers if h.pet is not None])
        if factor != 1.0:
            scales = [Scale(scale.slope * factor, scale.intercept * factor) for scale in scales]
        return scales, unit, [finding]
    if modality == "RTDOSE":
        return scales, "Gy" if headers[0].dose_unit == "GY" else "", []
    stated = slices[0].rescale_type
    if stated:
        return scales, _OF_RESCALE_TYPE.get(stated, ""), []
    if modality != "CT" or "LOCALIZER" in slices[0].image_type:
        return scales, "", []
    if not all(_is_rescaled(s, h) for s, h in zip(slices, headers, strict=True)):
        message = "the header states no rescale slope and intercept: values are as stored, not in Hounsfield units"
        return scales, "", [Finding("Hounsfield units", "noted", message)]
    return scales, HOUNSFIELD, []


def _is_rescaled(header: SliceHeader, file: FileHeader) -> bool:
    """True where slope and intercept are stated for the file, or for the frame (other than 1 and 0, as if unstated)."""
    stated = file.layout is not None and file.layout.rescaled
    return stated or (header.slope, header.intercept) != (1.0, 0.0)


def padding_findings(slices: Sequence[SliceHeader], headers: Sequence[FileHeader]) -> list[Finding]:
    """Note that voxels outside of the field of view keep the padding value, as in SimpleITK and dcm2niix."""
    padding = {h.layout.padding for h in headers if h.layout is not None}
    known = sorted(value for value in padding if value is not None)
    if not known:
        return []
    first = slices[0]
    value = (
        known[0] - (1 << first.bits_stored) if first.signed and known[0] >= 1 << (first.bits_stored - 1) else known[0]
    )
    physical = value * first.slope + first.intercept
    message = (
        f"voxels outside of the field of view may hold the padding value {value} ({physical:g} rescaled): it is kept"
    )
    return [Finding("pixel padding", "noted", message)]
