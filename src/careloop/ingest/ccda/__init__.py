"""HL7 C-CDA documents (R1.1, R2.1, 3.0) as events."""

from careloop.ingest.ccda.read import ccda_sources

__all__ = ["ccda_sources"]
