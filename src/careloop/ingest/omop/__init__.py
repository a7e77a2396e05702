"""OMOP CDM 5.3 and 5.4, from parquet, CSV or duckdb."""

from careloop.ingest.omop.reader import omop_sources

__all__ = ["omop_sources"]
