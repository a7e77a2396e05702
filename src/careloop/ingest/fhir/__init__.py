"""FHIR R4 and R5 as events: bundles, single resources and Bulk Data."""

from careloop.ingest.fhir.read import fhir_sources

__all__ = ["fhir_sources"]
