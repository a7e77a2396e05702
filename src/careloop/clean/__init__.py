"""Clean: what is wrong with a record, and fixes that are a note beside the event and can be undone."""

from careloop.clean.apply import CleaningSummary, Found, clean_record, find, undo
from careloop.clean.check import check_record
from careloop.clean.checks.results import QualityReport
from careloop.clean.faults.mapping import CodeMapping, read_mapping

__all__ = [
    "CleaningSummary",
    "CodeMapping",
    "Found",
    "QualityReport",
    "check_record",
    "clean_record",
    "find",
    "read_mapping",
    "undo",
]
