"""How the checks here relate to the check types of the OHDSI DataQualityDashboard, for those who know its reports."""

from __future__ import annotations

from collections.abc import Mapping

# Names as in the DataQualityDashboard's OMOP_CDM_Check_Descriptions.csv (2025, 27 types). A record is events, not an
# OMOP database: its checks of tables and columns are answered by `careloop ingest`, which refuses or counts them.
COVERED: Mapping[str, tuple[str, ...]] = {
    "measurePersonCompleteness": ("events_per_patient",),
    "isForeignKey": ("subject_known",),
    "isPrimaryKey": ("duplicate_events", "one_birth", "one_death"),
    "isRequired": ("birth_present", "sex_present", "time_present", "source_present"),
    "cdmDatatype": ("number_as_text",),
    "isStandardValidConcept": (
        "vocabulary_known", "loinc_check_digit", "snomed_check_digit", "icd10cm_shape", "rxnorm_digits",
        "other_code_shape",
    ),
    "measureValueCompleteness": ("value_present", "unit_present", "known_time_recorded"),
    "standardConceptRecordCompleteness": ("code_is_standard",),
    "sourceConceptRecordCompleteness": ("code_described",),
    "plausibleValueLow": ("value_possible", "value_plausible", "sentinel_values"),
    "plausibleValueHigh": ("value_possible", "value_plausible", "sentinel_values"),
    "plausibleGender": ("sex_specific_codes",),
    "plausibleGenderUseDescendants": ("sex_specific_codes",),
    "plausibleUnitConceptIds": ("unit_fits_code", "one_unit_per_code", "unit_is_ucum"),
    "plausibleTemporalAfter": ("before_birth", "known_before_it_happened", "result_before_order"),
    "plausibleAfterBirth": ("before_birth",),
    "plausibleDuringLife": ("after_death",),
    "plausibleBeforeDeath": ("after_death",),
    "plausibleStartBeforeEnd": ("end_after_start",),
}  # fmt: skip
NOT_COVERED: Mapping[str, str] = {
    "cdmTable": "tables of a delivery are the reader's: `careloop ingest omop` refuses a database without them",
    "cdmField": "columns of a delivery are the reader's: it refuses a table without those it needs",
    "fkDomain": "events have no columns that a code of another domain could be in",
    "fkClass": "as fkDomain; only OMOP's drug tables have it",
    "sourceValueCompleteness": "counted by `careloop ingest` (unmapped codes) and by `careloop clean --map`",
    "measureConditionEraCompleteness": "eras are derived, and no part of a record",
    "measureObservationPeriodOverlap": "observation periods are kept as delivered, and no cohort is counted by them",
    "withinVisitDates": "events do not name their visit",
}


def known_as(check: str) -> tuple[str, ...]:
    """The DataQualityDashboard's names of what a check here asks; empty where it asks nothing of the kind."""
    return tuple(name for name, checks in COVERED.items() if check in checks)
