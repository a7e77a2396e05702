"""Ingest: source files to events of a record; so far MEDS, events as they are, and two published data sets."""

from careloop.ingest.examples import actg175_events, example_record, nafld_events
from careloop.ingest.paths import ingest_paths

__all__ = ["actg175_events", "example_record", "ingest_paths", "nafld_events"]
