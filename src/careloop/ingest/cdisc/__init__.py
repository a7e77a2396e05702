"""CDISC SDTM and ADaM datasets, from SAS transport, SAS7BDAT, Dataset-JSON, CSV and parquet."""

from careloop.ingest.cdisc.reader import cdisc_sources

__all__ = ["cdisc_sources"]
