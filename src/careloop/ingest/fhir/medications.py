"""Drugs ordered, dispensed, administered and reported as events of the drug's code."""

from __future__ import annotations

from careloop.ingest.concepts import SkipError
from careloop.ingest.fhir.datatypes import Period, Quantity
from careloop.ingest.fhir.elements import Row, closed_end, has_code, refuse_status, start_of, when, with_dose
from careloop.ingest.fhir.reading import Reading
from careloop.ingest.fhir.shapes import (
    Dosage,
    MedicationAdministration,
    MedicationDispense,
    MedicationRequest,
    MedicationStatement,
)

_TAKEN_BACK = ("cancelled", "entered-in-error")
_NO_ORDERS = ("proposal", "plan", "option")
_NOT_TAKEN = ("not-taking", "not-on-medication", "not-taking-not-prescribed")


def medication_request(resource: MedicationRequest, reading: Reading) -> list[Row]:
    """An order when it was written, and its stop where that is dated (R5)."""
    refuse_status(resource, withdrawn=_TAKEN_BACK, skipped=("draft",))
    if resource.intent in _NO_ORDERS:
        raise SkipError(f"MedicationRequest: {resource.intent}, not an order")
    if resource.do_not_perform:
        raise SkipError("MedicationRequest: an order not to give")
    drug = reading.drug_of(resource, "MedicationRequest")
    order = Row(drug, when(resource, resource.authored_on), text="ordered")
    rows = [with_dose(order, _dose(resource.dosage_instruction))]
    stopped = resource.status_changed if resource.status in {"stopped", "ended"} else None
    return rows + ([Row(f"STOPPED//{drug}", stopped, text="ordered")] if stopped else [])


def medication_administration(resource: MedicationAdministration, reading: Reading) -> list[Row]:
    """A drug when it was given, and the end of an infusion."""
    refuse_status(resource, withdrawn=_TAKEN_BACK, skipped=("not-done", "on-hold", "unknown"))
    drug = reading.drug_of(resource, "MedicationAdministration")
    period = resource.effective_period or resource.occurence_period or resource.occurrence_period
    moments = (resource.effective_date_time, resource.occurence_date_time, resource.occurrence_date_time)
    time = when(resource, *moments, start_of(period), resource.recorded)
    given = Row(drug, time, resource.recorded, text="administered")
    rows = [with_dose(given, resource.dosage.dose if resource.dosage else None)]
    return rows + _stopped(drug, "administered", period, resource.recorded)


def medication_statement(resource: MedicationStatement, reading: Reading) -> list[Row]:
    """A drug that the patient was said to take, known when it was said."""
    refuse_status(resource, withdrawn=_TAKEN_BACK, skipped=("not-taken", "intended", "draft", "unknown"))
    if resource.adherence is not None and has_code(resource.adherence.code, *_NOT_TAKEN):
        raise SkipError("MedicationStatement: not-taken")
    drug = reading.drug_of(resource, "MedicationStatement")
    period = resource.effective_period
    time = when(resource, resource.effective_date_time, start_of(period), resource.date_asserted)
    rows = [with_dose(Row(drug, time, resource.date_asserted, text="reported"), _dose(resource.dosage))]
    return rows + _stopped(drug, "reported", period, resource.date_asserted)


def medication_dispense(resource: MedicationDispense, reading: Reading) -> list[Row]:
    """A drug when it was handed over, else when it was made ready."""
    refuse_status(resource, withdrawn=_TAKEN_BACK, skipped=("preparation", "declined", "on-hold", "unknown"))
    drug = reading.drug_of(resource, "MedicationDispense")
    time = when(resource, resource.when_handed_over, resource.when_prepared, resource.recorded)
    return [with_dose(Row(drug, time, resource.recorded, text="dispensed"), _dose(resource.dosage_instruction))]


def _dose(instructions: list[Dosage] | None) -> Quantity | None:
    given = (dose for dosage in instructions or () for dose in dosage.dose_and_rate or ())
    return next((dose.dose_quantity for dose in given if dose.dose_quantity is not None), None)


def _stopped(drug: str, how: str, period: Period | None, known: str | None) -> list[Row]:
    end = closed_end(period)
    if end is None or period is None or period.start in {None, end}:
        return []
    return [Row(f"STOPPED//{drug}", end, known, text=how, ends=True)]
