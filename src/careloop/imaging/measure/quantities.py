"""What is measured: the name of each quantity, its UCUM unit, and the concept it stands for (IBSI, SNOMED CT)."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from careloop.imaging.measure.texture.features import FAMILIES

CONCEPT = pl.Struct({"scheme": pl.String(), "value": pl.String(), "meaning": pl.String()})
MEASUREMENTS = pl.Schema(
    {
        "segment": pl.Int32(),
        "name": pl.String(),
        "quantity": pl.String(),
        "value": pl.Float64(),
        "unit": pl.String(),
        "concept": CONCEPT,
        "structure": CONCEPT,
        "note": pl.String(),
    }
)
OWN = "99CARELOOP"  # private schemes begin with 99 (DICOM PS3.16 section 8.2)
IMAGE_UNIT, IMAGE_UNIT_SQUARED = "image", "image squared"  # stand for the unit of the image's intensities


class Quantity(NamedTuple):
    """A quantity's unit (UCUM, or `IMAGE_UNIT`) and its concept: coding scheme, code and meaning."""

    unit: str
    scheme: str
    value: str
    meaning: str


QUANTITIES: dict[str, Quantity] = {
    "volume": Quantity("mL", "IBSI", "RNU0", "Volume of Mesh"),
    "voxel_volume": Quantity("mL", "IBSI", "YEKZ", "Volume from Voxel Summation"),
    "surface_area": Quantity("cm2", "IBSI", "C0JK", "Surface Area of Mesh"),
    "sphericity": Quantity("1", "IBSI", "QCFX", "Sphericity"),
    "longest_diameter": Quantity("mm", "IBSI", "L0JK", "Maximum 3D Diameter of a Mesh"),
    "area": Quantity("cm2", "SCT", "42798000", "Area"),
    "long_axis": Quantity("mm", "SCT", "103339001", "Long axis"),
    "short_axis": Quantity("mm", "SCT", "103340004", "Short axis"),
    "components": Quantity("1", OWN, "components", "Number of connected parts"),
    "centre_x": Quantity("mm", OWN, "centre_x", "Centre of mass towards the left"),
    "centre_y": Quantity("mm", OWN, "centre_y", "Centre of mass towards the back"),
    "centre_z": Quantity("mm", OWN, "centre_z", "Centre of mass towards the head"),
    "box_x_low": Quantity("mm", OWN, "box_x_low", "Right end of the bounding box"),
    "box_x_high": Quantity("mm", OWN, "box_x_high", "Left end of the bounding box"),
    "box_y_low": Quantity("mm", OWN, "box_y_low", "Front end of the bounding box"),
    "box_y_high": Quantity("mm", OWN, "box_y_high", "Back end of the bounding box"),
    "box_z_low": Quantity("mm", OWN, "box_z_low", "Foot end of the bounding box"),
    "box_z_high": Quantity("mm", OWN, "box_z_high", "Head end of the bounding box"),
    "intensity_mean": Quantity(IMAGE_UNIT, "IBSI", "Q4LE", "Mean intensity"),
    "intensity_sd": Quantity(IMAGE_UNIT, "SCT", "386136009", "Standard Deviation"),
    "intensity_variance": Quantity(IMAGE_UNIT_SQUARED, "IBSI", "ECT3", "Intensity variance"),
    "intensity_skewness": Quantity("1", "IBSI", "KE2A", "Intensity skewness"),
    "intensity_kurtosis": Quantity("1", "IBSI", "IPH6", "Excess intensity kurtosis"),
    "intensity_median": Quantity(IMAGE_UNIT, "IBSI", "Y12H", "Median intensity"),
    "intensity_minimum": Quantity(IMAGE_UNIT, "IBSI", "1GSF", "Minimum intensity"),
    "intensity_p10": Quantity(IMAGE_UNIT, "IBSI", "QG58", "10th intensity percentile"),
    "intensity_p90": Quantity(IMAGE_UNIT, "IBSI", "8DWT", "90th intensity percentile"),
    "intensity_maximum": Quantity(IMAGE_UNIT, "IBSI", "84IY", "Maximum intensity"),
    "intensity_iqr": Quantity(IMAGE_UNIT, "IBSI", "SALO", "Intensity interquartile range"),
    "intensity_range": Quantity(IMAGE_UNIT, "IBSI", "2OJQ", "Intensity range"),
    "intensity_energy": Quantity(IMAGE_UNIT_SQUARED, "IBSI", "N8CA", "Intensity-based energy"),
    "intensity_entropy": Quantity("bit", "IBSI", "TLU2", "Intensity Histogram Entropy"),
    "intensity_peak": Quantity(IMAGE_UNIT, "IBSI", "0F91", "Global intensity peak"),
    **{
        f"{family}_{name}": Quantity("1", "IBSI", value, meaning)
        for family, features in FAMILIES.items()
        for name, value, meaning in features
    },
}
# Where a structure lies in the scanner: of use beside the image, but nothing to follow a patient by.
PLACES = tuple(name for name in QUANTITIES if name.startswith(("centre_", "box_")))


def quantity_of(name: str) -> Quantity:
    """Return what is known of a quantity; `component_3_volume` is the volume of one connected part."""
    if name in QUANTITIES:
        return QUANTITIES[name]
    _, number, rest = name.split("_", 2)
    whole = QUANTITIES[rest]
    return whole._replace(meaning=f"{whole.meaning} (connected part {number})")
