"""Findings of genomes as events, and as FHIR resources."""
