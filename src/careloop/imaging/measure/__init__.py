"""Labelled structures into numbers: volumes, diameters, intensity statistics, texture; and those into events."""

from careloop.imaging.measure.events import Recording, measurement_events, record_measurements
from careloop.imaging.measure.table import measure

__all__ = ["Recording", "measure", "measurement_events", "record_measurements"]
