"""Timelines: what was known of each patient by each prediction time, as a ragged sequence of coded events."""

from __future__ import annotations

from careloop.features.timelines.definition import TimelinesSection
from careloop.features.timelines.extract import extract_timelines
from careloop.features.timelines.recipe import TimelineRecipe, Token
from careloop.features.timelines.timelines import Timelines
from careloop.features.timelines.vocabulary import fit_timelines

__all__ = ["TimelineRecipe", "Timelines", "TimelinesSection", "Token", "extract_timelines", "fit_timelines"]
