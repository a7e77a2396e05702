"""FHIR data types (R4 and R5) as far as events are made of them, as msgspec structs."""

from __future__ import annotations

from careloop.ingest.concepts import Coding, Concept, Element


class Meta(Element):
    """When this version of the resource was made."""

    last_updated: str | None = None


class Identifier(Element):
    """A business identifier, such as a hospital's patient number."""

    system: str | None = None
    value: str | None = None
    use: str | None = None


class Reference(Element):
    """A link to another resource."""

    reference: str | None = None
    type: str | None = None
    identifier: Identifier | None = None
    display: str | None = None


class ConceptOrReference(Element):
    """CodeableReference (R5)."""

    concept: Concept | None = None
    reference: Reference | None = None


class Quantity(Element):
    """A number with comparator and unit."""

    value: float | None = None
    comparator: str | None = None
    unit: str | None = None
    system: str | None = None
    code: str | None = None


class Period(Element):
    """From start to end."""

    start: str | None = None
    end: str | None = None


class Timing(Element):
    """Only the stated times of a schedule."""

    event: list[str] | None = None


class Range(Element):
    """From low to high."""

    low: Quantity | None = None
    high: Quantity | None = None


class Ratio(Element):
    """One quantity to another, such as a titre."""

    numerator: Quantity | None = None
    denominator: Quantity | None = None


class Attachment(Element):
    """Content in place (base64) or elsewhere."""

    content_type: str | None = None
    data: str | None = None
    url: str | None = None
    creation: str | None = None


class Extension(Element):
    """Only the kinds of values that are read: race, ethnicity, time of birth."""

    url: str | None = None
    extension: list[Extension] | None = None
    value_string: str | None = None
    value_date_time: str | None = None
    value_coding: Coding | None = None
    value_codeable_concept: Concept | None = None


class Extended(Element):
    """What stands beside a primitive value (`_birthDate`)."""

    extension: list[Extension] | None = None
