"""PNG and JPEG pictures as volumes of one slice, without a place in the patient."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from careloop import InputError
from careloop.imaging.finding import Finding
from careloop.imaging.read.limits import check_size
from careloop.imaging.volume import Source, Volume

SUFFIXES = (".png", ".jpg", ".jpeg")
GREY = {"1": "L", "L": "L", "LA": "L", "I;16": "I;16", "I;16B": "I;16", "I": "I"}


def read_picture(path: Path, *, modality: str = "") -> Volume:
    """A picture as (1, rows, columns) uint8 or uint16, or (1, rows, columns, 3) uint8 for colour; `placed` is False.

    Transparency is dropped, and the rotation that a camera's EXIF asks for is applied.

    Raises:
        InputError: the file cannot be read as a picture, or is larger than the limit.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise InputError('Pictures need pillow: pip install "careloop[imaging]"') from error
    try:
        with Image.open(path) as image:
            check_size(str(path), image.width * image.height * len(image.getbands()) * 2)
            upright = ImageOps.exif_transpose(image)
            pixels = np.asarray(upright.convert(GREY.get(upright.mode, "RGB")))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as a picture: {error}") from error
    if pixels.dtype == np.int32:
        pixels = _sixteen_bits(pixels, path)
    return Volume(
        voxels=np.array(pixels[np.newaxis], dtype=pixels.dtype.newbyteorder("=")),
        affine=np.eye(4),
        modality=modality,
        placed=False,
        source=Source(files=(str(path),)),
        findings=(
            Finding("no geometry", "noted", "a picture says nothing about place or size: 1 pixel counts as 1 mm"),
        ),
    )


def _sixteen_bits(pixels: np.ndarray, path: Path) -> np.ndarray:
    if pixels.min() < 0 or pixels.max() > 65_535:
        raise InputError(f"{path}: grey values must lie within 0 to 65,535, got {pixels.min()} to {pixels.max()}")
    return pixels.astype(np.uint16)
