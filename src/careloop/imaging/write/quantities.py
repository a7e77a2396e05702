"""Codes of measured quantities (IBSI, DICOM, SNOMED CT) and of their units (UCUM)."""

from __future__ import annotations

from careloop.imaging.terms import Code, private_code

# IBSI: Image Biomarker Standardisation Initiative (arXiv:1612.07003; a coding scheme of DICOM PS3.16 table 8-1).
_CODES: dict[str, Code] = {
    "volume": ("SCT", "118565006", "Volume"),
    "volume_mesh": ("IBSI", "RNU0", "Volume of Mesh"),
    "volume_voxels": ("IBSI", "YEKZ", "Volume from Voxel Summation"),
    "surface_area": ("IBSI", "C0JK", "Surface Area of Mesh"),
    "surface_to_volume": ("IBSI", "2PR5", "Surface to Volume Ratio"),
    "sphericity": ("IBSI", "QCFX", "Sphericity"),
    "diameter_3d": ("IBSI", "L0JK", "Maximum 3D Diameter of a Mesh"),
    "long_axis": ("SCT", "103339001", "Long axis"),
    "short_axis": ("SCT", "103340004", "Short axis"),
    "intensity_mean": ("IBSI", "Q4LE", "Mean intensity"),
    "intensity_variance": ("IBSI", "ECT4", "Intensity variance"),
    "intensity_skewness": ("IBSI", "KE2M", "Intensity skewness"),
    "intensity_kurtosis": ("IBSI", "IPH6", "Intensity kurtosis (excess)"),
    "intensity_median": ("IBSI", "Y12H", "Median intensity"),
    "intensity_minimum": ("IBSI", "1GSF", "Minimum intensity"),
    "intensity_p10": ("IBSI", "QG58", "10th intensity percentile"),
    "intensity_p90": ("IBSI", "8DWT", "90th intensity percentile"),
    "intensity_maximum": ("IBSI", "84IY", "Maximum intensity"),
    "intensity_iqr": ("IBSI", "SALO", "Intensity interquartile range"),
    "intensity_range": ("IBSI", "2OJQ", "Intensity range"),
    "intensity_energy": ("IBSI", "N8CA", "Intensity energy"),
    "intensity_sd": ("SCT", "386136009", "Standard Deviation"),
}
_UNITS = {
    "1": "no units", "mm": "millimeter", "cm": "centimeter", "mm2": "square millimeter", "cm2": "square centimeter",
    "mm3": "cubic millimeter", "cm3": "cubic centimeter", "mL": "milliliter", "[hnsf'U]": "Hounsfield unit",
    "g/mL": "standardized uptake value by body weight", "%": "percent",
}  # fmt: skip


def quantity_code(quantity: str) -> Code:
    """The code of a quantity by the name that `careloop.imaging.measure` gives it; a private one for any other."""
    return _CODES.get(quantity) or private_code(quantity)


def unit_code(unit: str) -> Code:
    """The UCUM code of a unit; empty is `1`, no units."""
    value = unit or "1"
    return "UCUM", value, _UNITS.get(value, value)[:64]
