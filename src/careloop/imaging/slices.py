"""What the headers of a DICOM series say about each slice: one row a classic file or a frame of a multi-frame file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from careloop.imaging.finding import Finding

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """One slice before its pixels are decoded; None or empty is what the header does not say.

    `file` is a path, or `ZIP!MEMBER`; `frame` counts from 0. `position` is the centre of the first voxel and
    `orientation` the directions of a row and of a column, in mm and LPS; `pixel_spacing_mm` is (between rows, between
    columns). `stacks` are the values by which one series may hold several volumes, by name (`EchoTime`, `b-value`,
    `TemporalPositionIdentifier`, `AcquisitionNumber`, ...). `in_stack_position` is (0020,9057), from 1, and
    `slices_in_volume` how many the header counts (PET's (0054,0081)). `findings` are those of reading it.
    """

    file: str
    frame: int
    instance: str
    rows: int
    columns: int
    position: Vector | None = None
    orientation: tuple[Vector, Vector] | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    slice_thickness_mm: float | None = None
    gantry_tilt_deg: float | None = None
    instance_number: int | None = None
    slope: float = 1.0
    intercept: float = 0.0
    rescale_type: str = ""
    signed: bool = False
    bits_stored: int = 16
    photometric: str = "MONOCHROME2"
    transfer_syntax: str = ""
    image_type: tuple[str, ...] = ()
    stacks: dict[str, str] = field(default_factory=dict)
    in_stack_position: int | None = None
    slices_in_volume: int | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Stack:
    """Slices of one volume in their order along the normal, its affine (see `Volume`), and what the gate found.

    `varies` says by which values this stack differs from the others of its series (empty for a series of one volume).
    """

    slices: tuple[SliceHeader, ...]
    affine: NDArray[np.float64]
    placed: bool
    varies: dict[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
