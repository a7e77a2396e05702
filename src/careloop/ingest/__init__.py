"""Ingest: source files to events; so far the two published data sets that the examples run on."""

from careloop.ingest.examples import actg175_events, nafld_events

__all__ = ["actg175_events", "nafld_events"]
