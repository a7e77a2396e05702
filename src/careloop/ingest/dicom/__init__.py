"""DICOM files to events, from their headers alone: series, studies, patient facts, structured reports, documents."""

from careloop.ingest.dicom.tree import dicom_sources

__all__ = ["dicom_sources"]
