"""A structured report or encapsulated document as events: its text, and each measurement under its own code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from careloop.ingest.dicom.header import Instance, coded, items, number, text

if TYPE_CHECKING:
    from pydicom import Dataset

_STRUCTURED_REPORT = "1.2.840.10008.5.1.4.1.1.88."
_ENCAPSULATED = "1.2.840.10008.5.1.4.1.1.104."
_WRITTEN = {"TEXT": "TextValue", "DATE": "Date", "TIME": "Time", "DATETIME": "DateTime"}
MAX_ITEMS = 100_000  # content items a report: the largest real ones (CAD, dose) have some thousands


def is_report(instance: Instance) -> bool:
    """True for structured reports and encapsulated documents, which become events of their own."""
    return instance.sop_class.startswith((_STRUCTURED_REPORT, _ENCAPSULATED))


def report_events(header: Dataset, instance: Instance, asset: str) -> list[dict[str, Any]]:
    """Return the events of one report: `REPORT//<code>` or `DOCUMENT//<code>`, and a row a measurement.

    A measurement (NUM item, PS3.3 C.17.3) has the code of its concept, its value and UCUM unit; text_value holds what
    the same group says of it, such as finding site and tracking identifier (TID 1411, 1501).
    """
    place = {"time": instance.time, "known_time": instance.known_time, "asset": asset}
    concept = coded(header, "ConceptNameCodeSequence")
    name = concept[0] if concept else f"LOCAL//{instance.modality.lower()}"
    if instance.sop_class.startswith(_ENCAPSULATED):
        title = text(header, "DocumentTitle") or (concept[1] if concept else "")
        return [{**place, "code": f"DOCUMENT//{name}", "text_value": title or None}]
    lines: list[str] = []
    rows: list[dict[str, Any]] = []
    for item, group in _walk(header):
        kind = text(item, "ValueType")
        if kind == "NUM":
            rows += [{**place, **measured} for measured in _measurement(item, group)]
        elif line := _line(item):
            lines.append(line)
    return [{**place, "code": f"REPORT//{name}", "text_value": "\n".join(lines) or None}, *rows]


def described_concepts(header: Dataset) -> Iterator[tuple[str, str]]:
    """Yield (code, meaning) of the report's title and of every measured concept."""
    title = coded(header, "ConceptNameCodeSequence")
    if title and title[1]:
        yield f"REPORT//{title[0]}", title[1]
    for item, _ in _walk(header):
        concept = coded(item, "ConceptNameCodeSequence") if text(item, "ValueType") == "NUM" else None
        if concept and concept[1]:
            yield concept


def _walk(header: Dataset) -> Iterator[tuple[Dataset, Dataset]]:
    """Yield every content item in document order, with the item that contains it."""
    waiting = [(item, header) for item in items(header, "ContentSequence")][::-1]
    for _ in range(MAX_ITEMS):
        if not waiting:
            return
        item, group = waiting.pop()
        if text(item, "RelationshipType") == "HAS OBS CONTEXT":  # who observed, on which patient: no finding
            continue
        yield item, group
        waiting += [(child, item) for child in items(item, "ContentSequence")][::-1]


def _line(item: Dataset) -> str:
    """A text, coded or dated item as `name: value`; nothing for names of people, images and coordinates."""
    kind = text(item, "ValueType")
    name = coded(item, "ConceptNameCodeSequence")
    if kind == "CODE":
        concept = coded(item, "ConceptCodeSequence")
        value = (concept[1] or concept[0]) if concept else ""
    elif kind == "CONTAINER":
        return f"{name[1]}:" if name and name[1] else ""
    else:
        value = text(item, _WRITTEN[kind]) if kind in _WRITTEN else ""
    return f"{name[1]}: {value}" if value and name and name[1] else value


def _measurement(item: Dataset, group: Dataset) -> Iterator[dict[str, Any]]:
    concept = coded(item, "ConceptNameCodeSequence")
    if concept is None:
        return
    about = "; ".join(line for child in items(group, "ContentSequence") if (line := _context(child)))
    for value in items(item, "MeasuredValueSequence"):
        size = number(value, "NumericValue")
        if size is not None:
            unit = next((text(unit, "CodeValue") for unit in items(value, "MeasurementUnitsCodeSequence")), "")
            yield {"code": concept[0], "numeric_value": size, "unit": unit or None, "text_value": about or None}


def _context(child: Dataset) -> str:
    return _line(child) if text(child, "ValueType") in {"TEXT", "CODE"} else ""
