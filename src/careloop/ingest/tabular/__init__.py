"""A hospital's own tables (CSV, parquet, Excel), read by a mapping file that says what their columns mean."""

from careloop.ingest.tabular.mapping import Event, Mapping, Table
from careloop.ingest.tabular.mapping_file import read_mapping
from careloop.ingest.tabular.reader import tabular_sources
from careloop.ingest.tabular.suggest import suggest_mapping

__all__ = ["Event", "Mapping", "Table", "read_mapping", "suggest_mapping", "tabular_sources"]
