"""Waveform files (WFDB, EDF, EDF+, BDF) to events, from their headers alone."""

from careloop.ingest.waveforms.files import waveform_sources

__all__ = ["waveform_sources"]
