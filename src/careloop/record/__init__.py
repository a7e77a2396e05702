"""The event table: schema, append, versions, one subject's timeline, and `history`, the one as-of gate."""

from careloop.record.history import history
from careloop.record.schema import BIRTH, CARELOOP, DEATH, EVENTS, code_matches, conform, read_events
from careloop.record.store import Record
from careloop.record.subjects import subject_ids

__all__ = [
    "BIRTH",
    "CARELOOP",
    "DEATH",
    "EVENTS",
    "Record",
    "code_matches",
    "conform",
    "history",
    "read_events",
    "subject_ids",
]
