"""HL7 v2 messages as events: admissions, results, orders, drugs, vaccinations, diagnoses and allergies."""

from careloop.ingest.hl7v2.read import hl7v2_sources

__all__ = ["hl7v2_sources"]
