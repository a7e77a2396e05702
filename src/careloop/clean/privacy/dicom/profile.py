"""Which action PS3.15 Table E.1-1 asks for on each attribute, under the options chosen."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from careloop import InputError

Action = Literal["remove", "empty", "dummy", "uid", "shift", "clean", "keep", "inside"]
EDITION = "2026c"  # of the table as carried by dicom-anonymizer; its 2024b lists agree with the 2024e table row by row
# What the standard leaves open ("X unless Z is required by the object") is decided for the object: it stays valid, and
# neither an empty nor a dummy value tells anything.
_ACTIONS: dict[str, Action] = {
    "D_TAGS": "dummy", "Z_TAGS": "empty", "X_TAGS": "remove", "U_TAGS": "uid", "Z_D_TAGS": "dummy", "X_Z_TAGS": "empty",
    "X_D_TAGS": "dummy", "X_Z_D_TAGS": "dummy", "X_Z_U_STAR_TAGS": "inside",
}  # fmt: skip
_TEMPORAL = {"DA", "DT", "TM"}
_TEXT = {"LO", "LT", "SH", "ST", "UC", "UT"}
# Temporal rows without C under "Retain Longitudinal Temporal Information with Modified Dates".
_NEVER_SHIFTED = {"PatientBirthDate", "PatientBirthTime", "GPSTimeStamp"}
# Rows with K, and with C, under "Retain Patient Characteristics".
_CHARACTERISTICS = {
    "EthnicGroup", "PatientAge", "PatientSex", "PatientSexNeutered", "PatientSize", "PatientWeight", "PregnancyStatus",
    "SmokingStatus", "SelectorASValue",
}  # fmt: skip
_CHARACTERISTIC_TEXTS = {"Allergies", "PatientState", "PreMedication", "SpecialNeeds"}
# Text rows with C under "Clean Descriptors": by name, because the names follow a rule with few exceptions.
_DESCRIPTOR = re.compile(
    r"Description|Comment|Reason|History|Label|ProtocolName|Impressions|InterpretationText|Alerts|Note|Text|"
    r"^(ContrastBolusAgent|Occupation|PositionAcquisitionTemplateName|RequestedContrastAgent|ROIName|"
    r"RTPhysicianIntentNarrative|RTPlanName|StructureSetName|TreatmentSites?)$"
)
_NO_DESCRIPTOR = {
    "ClinicalTrialProtocolName", "ConfidentialityConstraintOnPatientDataDescription", "DeviceDescription",
    "DeviceLabel", "ImagePresentationComments", "ModifiedImageDescription", "TextComments", "TextString",
    "XRayDetectorLabel",
}  # fmt: skip
# Table E.3.10-1: private attributes known to be safe, as (creator, group, element without its block).
SAFE_PRIVATE = {
    ("Philips PET Private Group", 0x7053, 0x00), ("Philips PET Private Group", 0x7053, 0x09),
    ("ELSCINT1", 0x00E1, 0x21), ("ELSCINT1", 0x01E1, 0x26), ("ELSCINT1", 0x01E1, 0x50),
    ("GEMS_ACQU_01", 0x0019, 0x23), ("GEMS_ACQU_01", 0x0019, 0x24), ("GEMS_ACQU_01", 0x0019, 0x27),
    ("GEMS_ACQU_01", 0x0019, 0x9E), ("GEMS_PARM_01", 0x0043, 0x27), ("GEMS_HELIOS_01", 0x0045, 0x01),
    ("GEMS_HELIOS_01", 0x0045, 0x02), ("GEIIS", 0x0903, 0x10), ("SIEMENS MR HEADER", 0x0019, 0x0C),
    ("SIEMENS MR HEADER", 0x0019, 0x0D), ("SIEMENS MR HEADER", 0x0019, 0x0E), ("SIEMENS MR HEADER", 0x0019, 0x27),
    ("Philips Imaging DD 001", 0x2001, 0x03), ("Philips Imaging DD 001", 0x2001, 0x04),
}  # fmt: skip
# CID 7050, De-identification Method.
METHODS = {
    "113100": "Basic Application Confidentiality Profile",
    "113101": "Clean Pixel Data Option",
    "113105": "Clean Descriptors Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
    "113111": "Retain Safe Private Option",
}


@dataclass(frozen=True)
class Rectangle:
    """Part of an image in pixels: columns left to right (exclusive), rows top to bottom (exclusive)."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class DicomOptions:
    """The options of PS3.15 Annex E that are in force beside the basic profile.

    `pseudonym` gives the new id of a PatientID (see `dicom.linked`); without it, it is a hash under the key.
    `shift_days` gives the days that a patient's dates are moved by (Modified Dates); without it dates go.
    `clean_text` returns a description without what identifies (Clean Descriptors); without it descriptions go.

    `pixel_text` says what happens to images that may have text burned in (BurnedInAnnotation YES, ultrasound,
    secondary capture, screen shots, slide labels, photographs): refused, blanked (all but the ultrasound regions, and
    `rectangles`), or kept because somebody looked. Headers decide, no pixels are read for text: where other machines of
    the hospital burn text in without marking it (often CR, DX, XA, RF), name them in `suspect_modalities`.
    """

    pseudonym: Callable[[str], str] | None = None
    shift_days: Callable[[str], int] | None = None
    clean_text: Callable[[str], str] | None = None
    patient_characteristics: Literal["remove", "keep"] = "remove"
    private: Literal["remove", "keep_safe"] = "remove"
    pixel_text: Literal["refuse", "blank", "keep"] = "refuse"
    rectangles: Sequence[Rectangle] = ()
    suspect_modalities: Sequence[str] = ()

    def methods(self) -> list[str]:
        """The codes (CID 7050) of what is applied to every file; blanked pixels add 113101 where it was done."""
        chosen = {
            "113100": True,
            "113105": self.clean_text is not None,
            "113107": self.shift_days is not None,
            "113108": self.patient_characteristics == "keep",
            "113111": self.private == "keep_safe",
        }
        return [code for code, applies in chosen.items() if applies]

    def described(self) -> str:
        """The options as text, so that two runs can be compared (functions by whether there is one)."""
        areas = ",".join(f"{r.left}:{r.top}:{r.right}:{r.bottom}" for r in self.rectangles)
        suspect = ",".join(sorted({modality.upper() for modality in self.suspect_modalities}))
        linked = " linked" if self.pseudonym else ""
        pixels = f"pixel_text={self.pixel_text} rectangles={areas} suspect={suspect}"
        return f"{EDITION} {'+'.join(self.methods())} {pixels}{linked}"


@cache
def basic_profile() -> dict[int, Action]:
    """Return the basic profile's action by tag (repeating groups and private attributes are not in it).

    Raises InputError where dicom-anonymizer is not installed, which carries the table.
    """
    try:
        from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table
    except ImportError:
        raise InputError(
            "DICOM de-identification needs dicom-anonymizer 2.1: pip install 'careloop[imaging]'"
        ) from None
    return {
        tag[0] << 16 | tag[1]: action
        for name, action in _ACTIONS.items()
        for tag in getattr(table, name)
        if len(tag) == 2
    }


def action_on(tag: int, keyword: str, vr: str, options: DicomOptions) -> Action:
    """Return what happens to a standard attribute; the table decides, then, where it has no row, the kind of value.

    Attributes without a row are kept, but never a person's name, a date, an application's name or a value of unknown
    kind, and UIDs are replaced. Everything in the repeating groups 50xx and 60xx is removed (curves, overlays).
    """
    if tag >> 24 in {0x50, 0x60}:
        return "remove"
    listed = basic_profile().get(tag)
    if options.patient_characteristics == "keep":
        if keyword in _CHARACTERISTICS:
            return "keep"
        if keyword in _CHARACTERISTIC_TEXTS and options.clean_text:
            return "clean"
    if vr in _TEMPORAL and options.shift_days and keyword not in _NEVER_SHIFTED:
        return "shift"
    if listed and vr in _TEXT and options.clean_text and _is_descriptor(keyword):
        return "clean"
    if listed:
        return "uid" if vr == "UI" and listed == "dummy" else listed
    if vr == "UI":
        return "uid"
    if vr == "UN":
        return "remove"
    return "empty" if vr in {"PN", "AE", *_TEMPORAL} else "keep"


def _is_descriptor(keyword: str) -> bool:
    return keyword not in _NO_DESCRIPTOR and _DESCRIPTOR.search(keyword) is not None
