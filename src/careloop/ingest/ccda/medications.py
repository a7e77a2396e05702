"""Drugs ordered, reported, administered and dispensed, and vaccinations, as events of the drug's code."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from careloop.ingest.ccda.codes import codings_of, quantity_of
from careloop.ingest.ccda.elements import at, is_true, refuse_status
from careloop.ingest.ccda.facts import Around, Row
from careloop.ingest.concepts import SkipError

_TAKEN_BACK = ("nullified", "cancelled")
_ADMINISTERED = {"29549-3", "10221-0"}  # sections: medications administered, medications during an operation


def medication(statement: Element, around: Around) -> list[Row]:
    """A drug that was ordered (mood INT, RQO), or that the patient takes or was given (EVN), and when that ended."""
    refuse_status(statement, "Medication", withdrawn=_TAKEN_BACK, skipped=("new", "held"))
    if is_true(statement, "negationInd"):
        raise SkipError("Medication: not taken")
    drug = _drug(at(statement, "consumable"), around, "Medication")
    is_order = (statement.get("moodCode") or "EVN") != "EVN"
    how = "ordered" if is_order else "administered" if around.section in _ADMINISTERED else "reported"
    authored, interval = around.authored_in(statement), around.interval(statement)
    start = around.start("Medication", interval.start, authored=authored)
    rows = [_with_dose(Row(drug, start, authored, text=how), statement, around)]
    is_over = around.has_come(interval.high) and interval.low not in {None, interval.high}
    if is_over and not is_order:
        rows.append(Row(f"STOPPED//{drug}", interval.high, authored, text=how, ends=True))
    return rows


def immunization(statement: Element, around: Around) -> list[Row]:
    """A vaccination that was given."""
    refuse_status(statement, "Immunization", withdrawn=_TAKEN_BACK, skipped=("new", "held", "aborted"))
    if is_true(statement, "negationInd"):
        raise SkipError("Immunization: not done")
    vaccine = _drug(at(statement, "consumable"), around, "Immunization")
    authored = around.authored_in(statement)
    time = around.start("Immunization", around.interval(statement).start, authored=authored)
    return [_with_dose(Row(vaccine, time, authored), statement, around)]


def dispense(statement: Element, around: Around, order: Element | None) -> list[Row]:
    """A drug that was handed over; which, the order around it says where the dispense does not."""
    refuse_status(statement, "Dispense", withdrawn=_TAKEN_BACK, skipped=("new", "held", "aborted"))
    if is_true(statement, "negationInd"):
        raise SkipError("Dispense: not done")
    own = at(statement, "product")
    product = own if own is not None and _has_drug(own, around) else at(order, "consumable")
    authored = around.authored_in(statement)
    time = around.start("Dispense", around.interval(statement).start, authored=authored)
    return [Row(_drug(product, around, "Dispense"), time, authored, text="dispensed")]


def _has_drug(product: Element, around: Around) -> bool:
    material = at(product, "manufacturedProduct", "manufacturedMaterial")
    code = at(material, "code")
    return bool(
        codings_of(code) or around.codes.of_element(code, around.narrative) or around.narrative.of(at(material, "name"))
    )


def _drug(product: Element | None, around: Around, kind: str) -> str:
    material = at(product, "manufacturedProduct", "manufacturedMaterial")
    code = around.codes.of_element(at(material, "code"), around.narrative)
    code = code or around.codes.local(around.narrative.of(at(material, "name")))
    if code is None:
        raise SkipError(f"{kind}: no code")
    return code


def _with_dose(row: Row, statement: Element, around: Around) -> Row:
    element = at(statement, "doseQuantity")
    dose = quantity_of(element, around.narrative)
    if dose is None:  # an interval: its centre, or one end where both are the same
        ends = [quantity_of(at(element, name), around.narrative) for name in ("low", "high")]
        dose = quantity_of(at(element, "center"), around.narrative) or (ends[0] if ends[0] == ends[1] else None)
    return row if dose is None else row._replace(number=dose.number, unit=dose.unit)
