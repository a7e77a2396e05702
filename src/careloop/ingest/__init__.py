"""Ingest: source files of every format to events of a record, with rejects and counts; two published data sets."""

from careloop.ingest.examples import actg175_events, example_record, nafld_events
from careloop.ingest.formats import FORMATS
from careloop.ingest.loading import load
from careloop.ingest.paths import ingest_paths
from careloop.ingest.summary import IngestSummary

__all__ = ["FORMATS", "IngestSummary", "actg175_events", "example_record", "ingest_paths", "load", "nafld_events"]
