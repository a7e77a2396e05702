"""Findings of a genome as FHIR, by HL7's Genomics Reporting Implementation Guide."""

from careloop.genome.findings.fhir.bundle import findings_bundle, write_bundle
from careloop.genome.findings.fhir.elements import PatientKey

__all__ = ["PatientKey", "findings_bundle", "write_bundle"]
