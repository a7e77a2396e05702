"""Results, vital signs, social history and other observations: a value under the code of what was observed."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from careloop.ingest.ccda.codes import ACT_CODE, Quantity, quantity_of, words_of
from careloop.ingest.ccda.elements import V3, at, is_true, kind_of_value, refuse_status, words_in
from careloop.ingest.ccda.facts import Around, Row
from careloop.ingest.ccda.times import interval_of, written
from careloop.ingest.concepts import SkipError

_TAKEN_BACK = ("nullified", "cancelled", "aborted")
# Where R1.1 has "assertion" as code, R2.1 and FHIR have these.
_ASSERTED = {
    "2.16.840.1.113883.10.20.22.4.78": "LOINC//72166-2",
    "2.16.840.1.113883.10.20.22.4.85": "LOINC//11367-0",
}
# Null flavors as FHIR's data-absent-reason, by the C-CDA on FHIR guide.
_ABSENT = {
    "UNK": "unknown", "ASKU": "asked-unknown", "NAV": "temp-unknown", "NASK": "not-asked", "MSK": "masked",
    "NA": "not-applicable", "NI": "unknown", "NINF": "negative-infinity", "PINF": "positive-infinity", "OTH": "other",
    "UNC": "other", "TRC": "other",
}  # fmt: skip


def observation(statement: Element, around: Around) -> list[Row]:
    """All values of an observation; of an assertion, what is asserted is the code."""
    refuse_status(statement, "Observation", withdrawn=_TAKEN_BACK)
    if is_true(statement, "negationInd"):
        raise SkipError("Observation: negated")
    if statement.get("nullFlavor"):
        raise SkipError(f"value absent: {_ABSENT.get(statement.get('nullFlavor') or '', 'other')}")
    values = statement.findall(f"{V3}value")
    code, is_assertion = _code(statement, around)
    if is_assertion:
        rows = [Row(said, None) for value in values if (said := around.codes.of_element(value, around.narrative))]
    else:
        rows = [row._replace(code=code + row.code) for value in values for row in _values(value, around)]
    if not rows and not values and not is_assertion:
        said = words_of(at(statement, "interpretationCode"), around.narrative)
        rows = [Row(code, None, text=said)] if said else []
    if not rows:
        raise SkipError(f"value absent: {_why_absent(values)}")
    authored, interval = around.authored_in(statement), around.interval(statement)
    time = around.start("Observation", interval.start, authored=authored)
    return [row._replace(time=time, known=authored) for row in rows]


def _code(statement: Element, around: Around) -> tuple[str, bool]:
    """Return the code of what was observed, and whether that only says that the value is asserted."""
    element = at(statement, "code")
    if element is not None and element.get("code") == "ASSERTION" and element.get("codeSystem") in {ACT_CODE, None}:
        templates = (template.get("root") or "" for template in statement.iterfind(f"{V3}templateId"))
        meant = next((_ASSERTED[template] for template in templates if template in _ASSERTED), None)
        return meant or "", meant is None
    code = around.codes.of_element(element, around.narrative)
    if code is None:
        raise SkipError("Observation: no code")
    return code, False


def _values(value: Element, around: Around) -> Iterator[Row]:
    """Yield rows whose code is what is to be added to the observation's own, and whose time is still to be set."""
    kind = kind_of_value(value)
    if kind in {"IVL_PQ", "IVL_INT", "IVL_REAL", "IVL_MO"}:
        yield from _limits(value, around)
    elif kind in {"PQ", "INT", "REAL", "MO"}:
        yield from _numbers("", quantity_of(value, around.narrative))
    elif kind.startswith("RTO"):
        yield from _ratio(value, around)
    else:
        text = _text(value, kind, around)
        if text is not None:
            yield Row("", None, text=text)


def _numbers(ending: str, quantity: Quantity | None, comparator: str | None = None) -> Iterator[Row]:
    if quantity is not None:
        yield Row(ending, None, number=quantity.number, unit=quantity.unit, text=comparator)


def _limits(value: Element, around: Around) -> Iterator[Row]:
    """Yield one limit as a number with its comparator ("<5" is an interval with only a high end), two as a range."""
    low, high, center = (quantity_of(at(value, name), around.narrative) for name in ("low", "high", "center"))
    if low is not None and high is not None:
        yield from _numbers("//LOW", low)
        yield from _numbers("//HIGH", high)
    elif low is not None:
        yield from _numbers("", low, ">=" if _is_inclusive(value, "low") else ">")
    elif high is not None:
        yield from _numbers("", high, "<=" if _is_inclusive(value, "high") else "<")
    else:
        yield from _numbers("", center or quantity_of(value, around.narrative))


def _is_inclusive(value: Element, end: str) -> bool:
    limit = at(value, end)
    return limit is None or limit.get("inclusive") is None or is_true(limit, "inclusive")


def _ratio(value: Element, around: Around) -> Iterator[Row]:
    """Yield a titre ("1:128") as text, with its quotient as number where both sides are given."""
    above, below = (quantity_of(at(value, name), around.narrative) for name in ("numerator", "denominator"))
    if above is None or below is None or not below.number:
        return
    units = [side.unit or "1" for side in (above, below)]
    unit = None if units == ["1", "1"] else "/".join(units)
    yield Row("", None, number=above.number / below.number, unit=unit, text=f"{above.number:g}:{below.number:g}")


def _text(value: Element, kind: str, around: Around) -> str | None:
    if kind in {"CD", "CE", "CO", "CV", "CS"} or (not kind and value.get("code")):
        return words_of(value, around.narrative)
    if kind == "BL":
        return (value.get("value") or "").strip().lower() or None
    if kind == "TS":
        interval_of(value, around.zone)  # raises where it is no time
        return written(value.get("value"))
    if kind == "IVL_TS":
        ends = [written(end.get("value")) if end is not None else None for end in (at(value, "low"), at(value, "high"))]
        return f"{ends[0] or ''}/{ends[1] or ''}" if any(ends) else written(value.get("value"))
    if kind in {"ED", "ST"}:
        return around.narrative.of(value)
    return words_in(value) or value.get("value")


def _why_absent(values: list[Element]) -> str:
    flavors = [flavor for value in values if (flavor := value.get("nullFlavor"))]
    return _ABSENT.get(flavors[0], "other") if flavors else "not given"
