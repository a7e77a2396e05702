"""Observations as events: the usual ones, a number with a unit, column by column; the others one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import compress
from typing import TypeVar

import msgspec
import polars as pl

from careloop.ingest.concepts import SkipError, first, plain_code, words_of
from careloop.ingest.fhir.datatypes import Quantity, Ratio
from careloop.ingest.fhir.elements import UCUM, Row, closed_end, refuse_status, start_of, unit_of, when
from careloop.ingest.fhir.reading import Reading
from careloop.ingest.fhir.shapes import Measured, Observation
from careloop.ingest.fhir.table import ROWS

_TEXTS = ("subject", "id", "updated", "code", "time", "known", "unit")
Key = TypeVar("Key", str, bytes)
_USUAL_STATUS = frozenset({"final", "amended", "appended", "corrected", "preliminary", "registered", "unknown"})
# http://hl7.org/fhir/R5/valueset-data-absent-reason.html; another code may be anything, so it is not repeated.
_ABSENT = {
    "unknown", "asked-unknown", "temp-unknown", "not-asked", "asked-declined", "masked", "not-applicable",
    "unsupported", "as-text", "error", "not-a-number", "negative-infinity", "positive-infinity", "not-performed",
    "not-permitted",
}  # fmt: skip


class Usual:
    """Columns of observations that are one number at one time, collected some hundred at a time.

    Every step goes through all of these at once, because a function call an observation would take longer than all
    else; and through no more than the processor's cache holds, because reading memory again would, too.
    """

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._texts: dict[str, list[str | None]] = {name: [] for name in _TEXTS}
        self._places: list[int] = []
        self._numbers: list[float | None] = []

    def add(self, places: Sequence[int], observations: Sequence[Observation]) -> list[tuple[int, Observation]]:
        """Take in the usual ones, with their places in the batch; return the others."""
        usual = [
            (quantity := each.value_quantity) is not None
            and quantity.value is not None
            and quantity.comparator is None
            and each.component is None
            and each.effective_date_time is not None
            and each.subject is not None
            and each.id
            and each.focus is None
            and each.modifier_extension is None
            and each.status in _USUAL_STATUS
            for each in observations
        ]
        left = []
        if not all(usual):
            left = [
                pair for pair, taken in zip(zip(places, observations, strict=True), usual, strict=True) if not taken
            ]
            places, observations = list(compress(places, usual)), list(compress(observations, usual))
        references = [each.subject.reference or "" for each in observations]  # type: ignore[union-attr]
        subjects = _looked_up(references, self._reading.subjects, self._reading.referred)
        codes = _looked_up(
            [bytes(each.code) for each in observations], self._reading.observed, self._reading.observed_code
        )
        if None in subjects or None in codes:
            found = [subject is not None and code is not None for subject, code in zip(subjects, codes, strict=True)]
            left += [
                pair for pair, taken in zip(zip(places, observations, strict=True), found, strict=True) if not taken
            ]
            places, observations = list(compress(places, found)), list(compress(observations, found))
            subjects, codes = list(compress(subjects, found)), list(compress(codes, found))
        self._keep(places, observations, subjects, codes)
        return left

    def _keep(
        self,
        places: Sequence[int],
        observations: Sequence[Observation],
        subjects: list[str | None],
        codes: list[str | None],
    ) -> None:
        quantities = [each.value_quantity for each in observations]
        texts = self._texts
        self._places += places
        self._numbers += [each.value for each in quantities]  # type: ignore[union-attr]
        texts["subject"] += subjects
        texts["code"] += codes
        texts["id"] += [each.id for each in observations]
        texts["updated"] += [None if each.meta is None else each.meta.last_updated for each in observations]
        texts["time"] += [each.effective_date_time for each in observations]
        texts["known"] += [each.issued for each in observations]
        texts["unit"] += [
            each.code if each.system == UCUM and each.code else unit_of(each)  # type: ignore[union-attr,arg-type]
            for each in quantities
        ]

    def frame(self) -> pl.DataFrame:
        """Return the events (columns of `ROWS`)."""
        columns = {name: pl.Series(name, values, dtype=pl.String) for name, values in self._texts.items()}
        columns["at"] = pl.Series("at", self._places, dtype=pl.UInt32)
        columns["number"] = pl.Series("number", self._numbers, dtype=pl.Float64)
        source = pl.concat_str(pl.lit(f"{self._reading.sources}Observation/"), pl.col("id"))
        nothing = pl.lit(None, dtype=pl.String)
        return pl.DataFrame(columns).select(
            [
                {"source": source, "text": nothing, "asset": nothing, "ends": pl.lit(False)}.get(
                    name, pl.col(name)
                ).alias(name)
                for name in ROWS
            ]
        )


def _looked_up(keys: list[Key], known: dict[Key, str | None], find: Callable[[Key], str | None]) -> list[str | None]:
    """Return what `known` says of each key, finding first what it has not met; None where there is no simple answer."""
    for key in set(keys).difference(known):
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            find(key)
    return list(map(known.get, keys))


def observation(resource: Observation, reading: Reading) -> list[Row]:
    """All events of an observation: its own value, and those of its components under their own codes."""
    refuse_status(resource, withdrawn=("cancelled", "entered-in-error"))
    if resource.focus:
        raise SkipError("Observation: about another than the patient (focus)")
    if any(part.modifier_extension for part in resource.component or ()):
        raise SkipError("Observation: a modifier extension that is not understood")
    coded = [(reading.observed_code(bytes(part.code)), part) for part in (resource, *(resource.component or ()))]
    if not any(code for code, _ in coded):
        raise SkipError("Observation: no code")
    values = [(code, value) for code, part in coded if code for value in _values(part)]
    if not values and coded[0][0] and resource.data_absent_reason is None:
        said = first(*map(words_of, resource.interpretation or ()))
        values = [(coded[0][0], Row("", None, text=said))] if said else []
    if not values:
        raise SkipError(_why_absent(resource))
    moments = (resource.effective_date_time, start_of(resource.effective_period), resource.effective_instant)
    scheduled = resource.effective_timing.event if resource.effective_timing else None
    time = when(resource, *moments, *(scheduled or ())[:1], resource.issued)
    known = resource.issued or closed_end(resource.effective_period)
    return [value._replace(code=code + value.code, time=time, known=known) for code, value in values]


def _values(part: Measured) -> Iterator[Row]:
    """Yield rows whose code is what is to be added to the observation's own, and whose time is still to be set."""
    limits = part.value_range
    if part.value_quantity is not None:
        yield from _quantity(part.value_quantity)
    elif limits is not None:
        for ending, limit in (("//LOW", limits.low), ("//HIGH", limits.high)):
            yield from _quantity(limit, ending) if limit is not None else ()
    elif part.value_ratio is not None:
        yield from _ratio(part.value_ratio)
    elif part.value_integer is not None:
        yield Row("", None, number=part.value_integer)
    elif part.value_attachment is not None and part.value_attachment.url:
        yield Row("", None, asset=part.value_attachment.url)
    else:
        text = _text(part)
        if text is not None:
            yield Row("", None, text=text)


def _quantity(quantity: Quantity, ending: str = "") -> Iterator[Row]:
    if quantity.value is not None:
        yield Row(ending, None, number=quantity.value, unit=unit_of(quantity), text=quantity.comparator)


def _ratio(ratio: Ratio) -> Iterator[Row]:
    """Yield a titre ("1:128") as text, with its quotient as number where both sides are given."""
    above, below = ratio.numerator, ratio.denominator
    if above is None or below is None or above.value is None or not below.value:
        return
    units = [unit_of(side) or "1" for side in (above, below)]
    unit = None if units == ["1", "1"] else "/".join(units)
    yield Row("", None, number=above.value / below.value, unit=unit, text=f"{above.value:g}:{below.value:g}")


def _text(part: Measured) -> str | None:
    truth = None if part.value_boolean is None else str(part.value_boolean).lower()
    period = part.value_period
    lasted = f"{period.start or ''}/{period.end or ''}" if period is not None else None
    said = first(words_of(part.value_codeable_concept), part.value_string, truth, lasted)
    return said or first(part.value_date_time, part.value_time)


def _why_absent(resource: Observation) -> str:
    parts = (resource, *(resource.component or ()))
    if any(bytes(part.value_sampled_data) for part in parts):
        return "Observation: sampled data (a waveform)"
    reasons = [plain_code(part.data_absent_reason) for part in parts if part.data_absent_reason is not None]
    if not reasons:
        return "value absent: not given"
    return f"value absent: {reasons[0] if reasons[0] in _ABSENT else 'other'}"
