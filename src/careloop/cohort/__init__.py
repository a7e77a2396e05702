"""Who enters a study and when, what happened to them afterwards, their treatment arm and their split."""

from __future__ import annotations

from careloop.cohort.definition import CohortSection

__all__ = ["CohortSection"]
