"""The checks of a record's quality: what each asks, from what share of violations on it fails, and what to do then.

Categories, subcategories and contexts are those of Kahn et al. 2016 (eGEMs 4:1244): verification compares with rules of
the record itself, validation with knowledge from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Category = Literal["conformance", "completeness", "plausibility"]
Subcategory = Literal["value", "relational", "computational", "", "uniqueness", "atemporal", "temporal"]
Context = Literal["verification", "validation"]
Unit = Literal["events", "patients", "months"]


@dataclass(frozen=True)
class Check:
    """One question to the record; it fails where more than the share `threshold` of what was checked violates it.

    `by` says at which level it passes or fails: each code, each kind of facts, or the record as a whole. `urgency`: 1
    makes figures wrong, 2 loses information, 3 is worth knowing.
    """

    id: str
    category: Category
    subcategory: Subcategory
    context: Context
    threshold: float
    urgency: Literal[1, 2, 3]
    by: Literal["code", "kind", "feed", "record"]
    asks: str
    fault: str
    remedy: str
    counted: Unit = "events"


CHECKS = (
    Check(
        "unit_is_ucum", "conformance", "value", "validation", 0.01, 2, "code",
        "Is every unit written in UCUM?",
        "units are not UCUM",
        "Run `careloop clean` (it knows common spellings), or map the unit in the mapping file.",
    ),
    Check(
        "one_unit_per_code", "conformance", "value", "verification", 0.01, 1, "code",
        "Are all values of a code in one unit?",
        "values are in another unit than most values of the code",
        "Run `careloop clean`: it converts every value to the code's canonical unit.",
    ),
    Check(
        "unit_fits_code", "conformance", "value", "validation", 0.0, 1, "code",
        "Can every unit be converted to the unit of its code?",
        "values have a unit that their code cannot have",
        "Look for exchanged columns or codes: a glucose in kilograms is no glucose.",
    ),
    Check(
        "vocabulary_known", "conformance", "value", "verification", 0.0, 2, "record",
        "Does every code name its vocabulary, in the spelling used here (VOCABULARY//CODE)?",
        "codes have no vocabulary, or one spelt otherwise",
        "Correct the vocabulary in the mapping file (for example ICD10CM, not ICD-10-CM), and ingest again.",
    ),
    Check(
        "loinc_check_digit", "conformance", "value", "validation", 0.0, 2, "code",
        "Do LOINC codes have the right form and check digit (modulo 10)?",
        "LOINC codes have a wrong form or check digit",
        "Look for a mistyped or cut-off code in the source's code table, correct it and ingest again.",
    ),
    Check(
        "snomed_check_digit", "conformance", "value", "validation", 0.0, 2, "code",
        "Are SNOMED CT codes concept identifiers with the right check digit (Verhoeff)?",
        "SNOMED CT codes are no concepts or have a wrong check digit",
        "Identifiers above 15 digits are often damaged by spreadsheets: export them as text and ingest again.",
    ),
    Check(
        "icd10cm_shape", "conformance", "value", "validation", 0.0, 2, "code",
        "Do ICD-10-CM codes have the right form?",
        "ICD-10-CM codes have a wrong form",
        "Export diagnosis codes as text without padding, or name the right vocabulary in the mapping file.",
    ),
    Check(
        "rxnorm_digits", "conformance", "value", "validation", 0.0, 2, "code",
        "Are RxNorm codes numbers?",
        "RxNorm codes are not numbers",
        "Map the local drug codes to RxNorm, or name their own vocabulary in the mapping file.",
    ),
    Check(
        "other_code_shape", "conformance", "value", "validation", 0.0, 2, "code",
        "Do codes of other standard vocabularies (ATC, NDC, CPT, ICD-9 ...) have the right form?",
        "codes do not have the form of their vocabulary",
        "Name the vocabulary that the codes really are of in the mapping file, and ingest again.",
    ),
    Check(
        "number_as_text", "conformance", "value", "verification", 0.05, 2, "code",
        "Are numbers stored as numbers, not as text?",
        "results are numbers stored as text",
        "Map the column to numeric_value (set the decimal sign where it is a comma), and ingest again.",
    ),
    Check(
        "birth_present", "conformance", "relational", "verification", 0.01, 1, "record",
        "Has every patient a date of birth?",
        "patients have no date of birth",
        "Deliver the patient table too: without a birth there is no age, and no check by age.",
        counted="patients",
    ),
    Check(
        "subject_known", "conformance", "relational", "verification", 0.0, 1, "record",
        "Is every event's patient in the record's table of patients?",
        "events belong to unknown patients",
        "Ingest the patient table of the same export, or find out where these events came from.",
    ),
    Check(
        "bmi_from_weight_and_height", "conformance", "computational", "verification", 0.05, 1, "record",
        "Is the recorded body mass index the weight over the squared height of that time?",
        "body mass indices do not follow from weight and height",
        "Look at weights and heights first: pounds, inches and exchanged fields are the usual causes.",
    ),
    Check(
        "age_from_birth", "conformance", "computational", "verification", 0.01, 1, "record",
        "Is a recorded age the time since birth?",
        "recorded ages do not follow from the date of birth",
        "Compare the dates of birth with the source; a date of birth at the wrong patient shows here.",
    ),
    Check(
        "known_time_recorded", "completeness", "", "verification", 0.9, 2, "kind",
        "Do measurements and conditions say when they became known?",
        "events say nothing of when they became known",
        "Map the time of the result or of recording to known_time; until then a model may see results too early.",
    ),
    Check(
        "known_time_plausible", "completeness", "", "verification", 0.05, 2, "kind",
        "Did events become known within a year?",
        "events became known over a year after they happened",
        "Check that known_time is the time of recording, not of the export or a migration.",
    ),
    Check(
        "time_present", "completeness", "", "verification", 0.01, 1, "kind",
        "Has every clinical event a time?",
        "clinical events have no time",
        "Map the event's date; an event without time counts as known from birth.",
    ),
    Check(
        "unit_present", "completeness", "", "verification", 0.05, 1, "code",
        "Has every numeric measurement a unit?",
        "numeric values have no unit",
        "Give the unit in the mapping file, or in the codes table where the whole code has one.",
    ),
    Check(
        "value_present", "completeness", "", "verification", 0.5, 2, "code",
        "Do laboratory codes mostly have a value?",
        "measurements have neither number, text nor file",
        "Check that the result column is mapped; an order without result is better coded as an order.",
    ),
    Check(
        "sex_present", "completeness", "", "verification", 0.05, 2, "record",
        "Is the sex of every patient known?",
        "patients have no recorded sex",
        "Deliver the patient table with sex; checks by sex leave these patients out.",
        counted="patients",
    ),
    Check(
        "events_per_patient", "completeness", "", "verification", 0.2, 3, "record",
        "Has every patient clinical events?",
        "patients have no event but birth, sex and the like",
        "Check that all tables of the export arrived and that patient identifiers agree between them.",
        counted="patients",
    ),
    Check(
        "monthly_volume", "completeness", "", "verification", 0.0, 1, "feed",
        "Does every feed deliver each month about as much as in the months before?",
        "months have less than half of the usual events",
        "Ask for the missing months' delivery; else end or start the study outside them.",
        counted="months",
    ),
    Check(
        "code_is_standard", "completeness", "", "validation", 0.2, 2, "kind",
        "Are codes of a standard vocabulary?",
        "events have a local code",
        "Map local codes with your OMOP vocabulary files, the most frequent first.",
    ),
    Check(
        "code_described", "completeness", "", "verification", 0.5, 3, "record",
        "Are codes described in words?",
        "events have a code without description",
        "Add descriptions to the codes table (`Record.describe_codes`); reports and models then name them.",
    ),
    Check(
        "source_present", "completeness", "", "verification", 0.01, 2, "record",
        "Does every event say where it came from?",
        "events have no source",
        "Ingest with `careloop ingest`, which names sources: without it a corrected delivery adds, not replaces.",
    ),
    Check(
        "duplicate_events", "plausibility", "uniqueness", "verification", 0.005, 1, "code",
        "Is every fact there once?",
        "events repeat another one",
        "`careloop clean` keeps the one known first; check whether two feeds deliver the same facts.",
    ),
    Check(
        "near_duplicates", "plausibility", "uniqueness", "verification", 0.01, 2, "code",
        "Is a value there once, not again some seconds later?",
        "events repeat one of some seconds before",
        "Find out which of two interfaces sends them again; leave one out.",
    ),
    Check(
        "copied_forward", "plausibility", "uniqueness", "verification", 0.01, 2, "code",
        "Are panels and notes new, not copied from the day before?",
        "events repeat a whole earlier panel or a long text",
        "Do not count them as new measurements; ask how the source fills in forms.",
    ),
    Check(
        "one_birth", "plausibility", "uniqueness", "verification", 0.0, 1, "record",
        "Has every patient one date of birth?",
        "patients have different dates of birth",
        "Look for wrongly merged patients, and correct the birth in the source.",
        counted="patients",
    ),
    Check(
        "one_death", "plausibility", "uniqueness", "verification", 0.0, 1, "record",
        "Does every patient die once?",
        "patients have different dates of death",
        "Look for wrongly merged patients, and correct the date of death in the source.",
        counted="patients",
    ),
    Check(
        "one_sex", "plausibility", "uniqueness", "verification", 0.01, 2, "record",
        "Has every patient one recorded sex?",
        "patients are recorded as female and as male",
        "Look for wrongly merged patients; a change of the recorded sex is possible.",
        counted="patients",
    ),
    Check(
        "value_possible", "plausibility", "atemporal", "validation", 0.0, 1, "code",
        "Are values possible in a living person (sentinels and unit mix-ups apart)?",
        "values are impossible in a living person",
        "`careloop clean` removes them; look at the distribution below for where they come from.",
    ),
    Check(
        "value_plausible", "plausibility", "atemporal", "validation", 0.005, 2, "code",
        "Are values such as patients of this age and sex have (sentinels and unit mix-ups apart)?",
        "values are hardly ever seen at this age and sex",
        "A few are very ill patients; a group of them is a wrong unit, code or patient group.",
    ),
    Check(
        "sentinel_values", "plausibility", "atemporal", "verification", 0.001, 1, "code",
        "Are there values like 999 or -1 that stand for something else?",
        "values are a code for 'missing' (such as 999 or -1)",
        "Name these values as missing in the mapping file, or run `careloop clean`.",
    ),
    Check(
        "unit_mixup", "plausibility", "atemporal", "verification", 0.001, 1, "code",
        "Do values look as if a part were in another unit?",
        "values look like another unit than the one they are labelled with",
        "Ask the laboratory which instrument or site reports in that unit; `careloop clean` can convert them.",
    ),
    Check(
        "sex_specific_codes", "plausibility", "atemporal", "validation", 0.02, 2, "code",
        "Do codes that only one sex can have fit the patient's sex?",
        "events do not fit the patient's sex",
        "Look for exchanged patients, and for codes of a mother at her newborn.",
    ),
    Check(
        "digit_preference", "plausibility", "atemporal", "verification", 0.2, 3, "code",
        "Are values read exactly rather than rounded to tens?",
        "values seem rounded to tens (beyond the tenth that end in 0 anyway)",
        "Prefer device readings; do not set decision thresholds at multiples of ten.",
    ),
    Check(
        "before_birth", "plausibility", "temporal", "verification", 0.001, 1, "kind",
        "Does nothing happen before birth?",
        "events happened more than a day before the patient's birth",
        "Check dates of birth, two-digit years, and events of a mother at her child.",
    ),
    Check(
        "after_death", "plausibility", "temporal", "verification", 0.001, 1, "kind",
        "Is nobody measured, treated or admitted after death?",
        "events happened more than a day after the patient's death",
        "Check the dates of death, and whether two patients were merged.",
    ),
    Check(
        "in_future", "plausibility", "temporal", "verification", 0.0, 1, "kind",
        "Did everything happen before the record was written?",
        "events lie in the future of the record",
        "Check day and month for exchange; planned visits belong in an own code; shifted dates are no fault.",
    ),
    Check(
        "off_calendar", "plausibility", "temporal", "verification", 0.0, 2, "kind",
        "Does everything happen in the years the record is about?",
        "events lie years away from all others",
        "Look for slips of the century and default dates (1900-01-01, 2099-12-31).",
    ),
    Check(
        "known_before_it_happened", "plausibility", "temporal", "verification", 0.001, 1, "code",
        "Is no result known before it was measured?",
        "results were known before they were measured",
        "Check which columns are time and known_time: such results leak the future into a model.",
    ),
    Check(
        "result_before_order", "plausibility", "temporal", "verification", 0.01, 2, "code",
        "Do results and doses come after their order?",
        "results or doses are more than a day before their order",
        "Check which columns are the times of ordering and of the result; look for exchanged day and month.",
    ),
    Check(
        "age_plausible", "plausibility", "temporal", "validation", 0.001, 1, "record",
        "Is nobody older than 120 years?",
        "patients are older than 120 years at an event",
        "Look for default dates of birth such as 1900-01-01.",
        counted="patients",
    ),
    Check(
        "end_after_start", "plausibility", "temporal", "verification", 0.001, 2, "record",
        "Do visits end after they start?",
        "visits end before they start",
        "Check time zones and the day/month order of admission and discharge.",
    ),
    Check(
        "midnight", "plausibility", "temporal", "verification", 0.5, 3, "kind",
        "Do events have a time of day?",
        "events are at midnight exactly, so only their day is known",
        "Export times, not dates; else the order within a day is unknown, and known_time should be the day's end.",
    ),
    Check(
        "first_of_january", "plausibility", "temporal", "verification", 0.05, 2, "kind",
        "Are events spread over the year?",
        "events are on 1 January",
        "A date known to the year only is often written so: deliver the precision, or leave these events out.",
    ),
    Check(
        "one_clock_time", "plausibility", "temporal", "verification", 0.25, 3, "kind",
        "Are times of day spread?",
        "events share one time of day (other than midnight)",
        "Find out whether the source fills in a default time (such as 12:00).",
    ),
)  # fmt: skip
BY_ID = {check.id: check for check in CHECKS}
