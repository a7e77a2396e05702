"""Whether an option is safe for this patient: rules as data, each with its source, and what must be asked first."""

from __future__ import annotations

from careloop.plan.safety.apply import finding_table, unchecked, withhold
from careloop.plan.safety.check import check_option, ingredients_of, safety_findings
from careloop.plan.safety.definition import OptionDrug, SafetySection
from careloop.plan.safety.finding import Finding
from careloop.plan.safety.patient.facts import PatientFacts, patient_facts
from careloop.plan.safety.rules import RuleBook, read_rules

__all__ = [
    "Finding",
    "OptionDrug",
    "PatientFacts",
    "RuleBook",
    "SafetySection",
    "check_option",
    "finding_table",
    "ingredients_of",
    "patient_facts",
    "read_rules",
    "safety_findings",
    "unchecked",
    "withhold",
]
