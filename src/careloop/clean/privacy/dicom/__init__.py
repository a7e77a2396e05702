"""De-identification of DICOM files after PS3.15 Annex E, its Basic Application Level Confidentiality Profile."""

from careloop.clean.privacy.dicom.folder import DeidentifiedDicom, deidentify_dicom
from careloop.clean.privacy.dicom.linked import PatientLinks, patient_links
from careloop.clean.privacy.dicom.profile import DicomOptions, Rectangle

__all__ = ["DeidentifiedDicom", "DicomOptions", "PatientLinks", "Rectangle", "deidentify_dicom", "patient_links"]
