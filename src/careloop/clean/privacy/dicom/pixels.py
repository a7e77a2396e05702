"""Which objects may show or say who the patient is in their pixels or content, and how pixels are blanked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from careloop.clean.privacy.dicom.profile import DicomOptions, Rectangle

if TYPE_CHECKING:
    import numpy as np
    from pydicom import Dataset

_REFUSED_CLASSES = {
    "1.2.840.10008.1.3.10": "DICOMDIR: an index that names the original files",
    "1.2.840.10008.5.1.4.1.1.88.": "structured report: what its text says cannot be judged",
    "1.2.840.10008.5.1.4.1.1.104.": "encapsulated document: its content cannot be judged",
    "1.2.840.10008.5.1.4.1.1.66": "raw data: its content cannot be judged",
}
_SEGMENTATION_AND_FIELDS = {f"1.2.840.10008.5.1.4.1.1.66.{n}" for n in range(1, 9)}  # share raw data's root
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_DICOM_ROOT = "1.2.840.10008."
_OVERLAY_BIT_POSITION = 0x0102  # of (60xx,0102): above 0, the overlay shares the pixels' words
_SHOWING = {
    "SCREEN SAVE": "screen shot: text may be burned in",
    "SCREENSHOT": "screen shot: text may be burned in",
    "DOSE INFO": "screen shot: text may be burned in",
    "PATIENT PROTOCOL": "screen shot: text may be burned in",
    "LABEL": "picture of a slide's label",
    "OVERVIEW": "picture of a whole slide with its label",
}
_TAKEN_WITH_TEXT = {
    "US": "ultrasound image: text is usually burned in",
    "IVUS": "ultrasound image: text is usually burned in",
    "ES": "endoscopy image: text is usually burned in",
    "XC": "photograph: a face or a name tag may be in it",
}


class RefusedError(Exception):
    """Why a file cannot be made anonymous, in fixed words."""


def refusal(dataset: Dataset) -> str | None:
    """Return the reason why an object is never written, whatever the options."""
    meta = getattr(dataset, "file_meta", {})
    sop_class = str(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")
    if not sop_class.startswith(_DICOM_ROOT):
        return "private or missing SOP class: its content cannot be judged"
    if sop_class in _SEGMENTATION_AND_FIELDS:
        return None
    return next((reason for root, reason in _REFUSED_CLASSES.items() if sop_class.startswith(root)), None)


def may_show_text(dataset: Dataset, options: DicomOptions) -> str | None:
    """Return why an image may have text burned into its pixels; None where nothing in its header speaks for it.

    BurnedInAnnotation NO does not clear ultrasound, captures, screen shots and `options.suspect_modalities`: it is a
    factory setting there.
    """
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        return None
    if str(dataset.get("BurnedInAnnotation", "")).strip().upper() == "YES":
        return "burned-in annotation"
    modality = str(dataset.get("Modality", "")).strip().upper()
    if reason := _TAKEN_WITH_TEXT.get(modality):
        return reason
    if modality in {name.upper() for name in options.suspect_modalities}:
        return "suspect modality: text may be burned in"
    if str(dataset.get("SOPClassUID", "")).startswith(_SECONDARY_CAPTURE) or "ConversionType" in dataset:
        return "secondary capture: text may be burned in"
    for part in _texts(dataset, "ImageType"):
        if reason := _SHOWING.get(str(part).strip().upper()):
            return reason
    places = [tag for tag in list(dataset.keys()) if tag.group >> 8 == 0x60 and tag.element == _OVERLAY_BIT_POSITION]
    if any(dataset[tag].value for tag in places):
        return "overlay in the unused bits of the pixels: text may be in it"
    return None


def _texts(dataset: Dataset, keyword: str) -> list[str]:
    value = dataset.get(keyword) or ()
    return [value] if isinstance(value, str) else list(value)


def blank(dataset: Dataset, options: DicomOptions) -> None:
    """Set to zero all outside the ultrasound regions (0018,6011), and all inside the given rectangles, in place.

    Compressed pixels are decompressed. Regions that reach beyond the image do not count: it was cropped or scaled
    since. Raises RefusedError where no area is known or pixels cannot be decoded.
    """
    regions = list(_regions(dataset))
    if not all(_is_inside(region, dataset) for region in regions):
        if not options.rectangles:
            raise RefusedError("ultrasound regions reach beyond the image, and no rectangles say what to blank")
        regions = []
    if not regions and not options.rectangles:
        raise RefusedError("no ultrasound regions and no rectangles say what to blank")
    try:
        if dataset.file_meta.TransferSyntaxUID.is_compressed and not dataset.file_meta.TransferSyntaxUID.is_deflated:
            dataset.decompress()
        pixels = dataset.pixel_array.copy()
    except Exception:  # decoders have no common exception
        raise RefusedError("pixels cannot be decoded") from None
    frames = _by_rows_and_columns(pixels, dataset)
    if regions:
        kept = frames.copy()
        frames[:] = 0
        for region in regions:
            frames[_area(region)] = kept[_area(region)]
    for rectangle in options.rectangles:
        frames[_area(rectangle)] = 0
    _store(dataset, pixels)
    dataset.BurnedInAnnotation = "NO"


def _regions(dataset: Dataset) -> Iterable[Rectangle]:
    for region in dataset.get("SequenceOfUltrasoundRegions") or ():
        corners = [region.get(f"RegionLocation{name}") for name in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
        if all(isinstance(corner, int) for corner in corners):
            left, top, right, bottom = (int(corner or 0) for corner in corners)
            yield Rectangle(left, top, right + 1, bottom + 1)


def _is_inside(region: Rectangle, dataset: Dataset) -> bool:
    """Some makers count the last pixel as one more."""
    return region.right <= int(dataset.Columns) + 1 and region.bottom <= int(dataset.Rows) + 1


def _by_rows_and_columns(pixels: np.ndarray, dataset: Dataset) -> np.ndarray:
    """A view of shape (frames, rows, columns, samples), whatever pydicom's shape."""
    samples = int(dataset.get("SamplesPerPixel", 1))
    return pixels.reshape(-1, int(dataset.Rows), int(dataset.Columns), samples)


def _area(rectangle: Rectangle) -> tuple[slice, slice, slice]:
    rows = slice(max(rectangle.top, 0), max(rectangle.bottom, 0))
    return slice(None), rows, slice(max(rectangle.left, 0), max(rectangle.right, 0))


def _store(dataset: Dataset, pixels: np.ndarray) -> None:
    # As decoded: the samples of a pixel side by side (PlanarConfiguration 0), colours as RGB.
    if dataset.get("SamplesPerPixel", 1) > 1:
        dataset.PlanarConfiguration = 0
        dataset.PhotometricInterpretation = "RGB"
    little = dataset.original_encoding[1]
    data = pixels.astype(pixels.dtype.newbyteorder("<" if little else ">")).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated > 8 else "OB"
