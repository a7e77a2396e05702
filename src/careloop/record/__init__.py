"""The event table: schema, append, versions, one subject's timeline, and `history`, the one as-of gate."""

from careloop.record.history import history
from careloop.record.meds import export_meds
from careloop.record.schema import BIRTH, CARELOOP, DEATH, EVENTS, TIME, code_matches, conform, read_events
from careloop.record.store import Record
from careloop.record.subjects import subject_ids

__all__ = [
    "BIRTH",
    "CARELOOP",
    "DEATH",
    "EVENTS",
    "TIME",
    "Record",
    "code_matches",
    "conform",
    "export_meds",
    "history",
    "read_events",
    "subject_ids",
]
