"""Orders (OBR, RXO, RXE), drugs dispensed (RXD) and given (RXA), and vaccinations, by order numbers."""

from __future__ import annotations

from careloop.ingest.concepts import SkipError
from careloop.ingest.hl7v2.fields import RejectError, component, entity, given
from careloop.ingest.hl7v2.kinds import ORDERS
from careloop.ingest.hl7v2.observation import number_in
from careloop.ingest.hl7v2.passage import Fact, Passage

# The segments that say what each type of message is about; others of these only repeat the order they fulfil.
DETAILS = {
    **dict.fromkeys(ORDERS, ("OBR", "RXO")), "RDE": ("RXE",), "RDS": ("RXD",), "RAS": ("RXA",), "VXU": ("RXA",),
}  # fmt: skip
REPEATED = {"OBR", "RXO", "RXE", "RXD", "RXA"}
# Order control codes (table 0119): what was cancelled or is replaced, what was stopped, what holds.
_TAKEN_BACK = {"CA", "OC", "CR", "RP", "RU", "RQ"}
_STOPPED = {"DC", "OD", "DR"}
_HOLDS = {"", "NW", "XO", "XX", "XR", "RO", "SN", "NA", "CN", "RF", "RE", "CH", "OK", "OR", "RL"}
_UNKNOWN_AMOUNT = "999"  # RXA-6 of vaccinations
_NO_ORDER_NUMBER = {"", "9999"}  # what registries send in ORC-3 of vaccinations that they did not order
_NOT_GIVEN = {"RE": "RXA: refused", "NA": "RXA: not administered"}


def order_alone(fields: list[str], passage: Passage) -> None:
    """Take an ORC segment that no detail follows: it can take an order back, but not make one.

    Raises:
        SkipError: it does not.
    """
    if component(fields[1], 1).upper() not in _TAKEN_BACK:
        raise SkipError("ORC: says nothing of what is ordered")
    passage.withdraw(_order_source(passage, "", ""))


def ordered_test(fields: list[str], passage: Passage) -> None:
    """Take the OBR segment of an order message: an event `ORDER//<code>` when it was ordered.

    Raises:
        RejectError: no code, or a time that is none.
        SkipError: it asks or answers something about an order, but makes none.
    """
    code = passage.reading.code_as("ORDER", _code(fields, passage, 4))
    _order(passage, passage.numbered(_order_source(passage, fields[2], fields[3])), Fact(code))


def ordered_drug(fields: list[str], passage: Passage) -> None:
    """Take an RXO segment: a drug that was ordered, with its dose."""
    _order(passage, passage.numbered(_order_source(passage, "", "")), _drug(fields, passage, 1))


def encoded_drug(fields: list[str], passage: Passage) -> None:
    """Take an RXE segment: a drug order as the pharmacy understood it."""
    _order(passage, passage.numbered(_order_source(passage, "", fields[15])), _drug(fields, passage, 2))


def _drug(fields: list[str], passage: Passage, at: int) -> Fact:
    """Return drug and dose: code, least amount, most amount and unit stand one after the other from field `at` on."""
    amount = number_in(fields[at + 1])
    unit = passage.reading.unit(fields[at + 3]) if amount is not None else None
    return Fact(_code(fields, passage, at), number=amount, unit=unit, text="ordered")


def _order(passage: Passage, source: str, fact: Fact) -> None:
    passage.begin_order(f"{source}/observation")
    control = component(passage.order[1], 1).upper()
    if control in _TAKEN_BACK:
        passage.withdraw(source)
        return
    if control not in _HOLDS and control not in _STOPPED:
        raise SkipError("ORC: an order control code that makes no order")
    time = passage.certain(passage.order[9])
    if control in _STOPPED:
        passage.add(f"{source}/stop", Fact(f"STOPPED//{fact.code}", time, text=fact.text))
    else:
        passage.add(source, fact._replace(time=time))


def dispensed_drug(fields: list[str], passage: Passage) -> None:
    """Take an RXD segment: a drug that was handed over."""
    code = _code(fields, passage, 2)
    source = f"{_order_source(passage, '', fields[7])}/dispensed/{given(fields[1])}/{given(fields[3])}/{code}"
    if component(passage.order[1], 1).upper() in _TAKEN_BACK:
        passage.withdraw(source)
        return
    passage.add(source, Fact(code, passage.certain(fields[3]), text="dispensed"))


def given_drug(fields: list[str], passage: Passage) -> None:
    """Take an RXA segment: a drug or vaccine that was given, and the end of an infusion; known when it was entered.

    Raises:
        RejectError: no code, or a time that is none.
        SkipError: it was not given.
    """
    is_vaccination = passage.message.kind == "VXU"
    code = _code(fields, passage, 5)
    source = _vaccination(passage, code, fields[3]) if is_vaccination else _dose(passage, code, fields[3])
    passage.begin_order(f"{source}/observation")
    status = component(fields[20], 1).upper()
    if component(fields[21], 1).upper() == "D" or component(passage.order[1], 1).upper() in _TAKEN_BACK:
        passage.withdraw(source)
        return
    if status in _NOT_GIVEN or code == "CVX//998":
        passage.withdraw(source)
        raise SkipError(_NOT_GIVEN.get(status, "RXA: not administered"))
    amount = None if is_vaccination and fields[6].strip() == _UNKNOWN_AMOUNT else number_in(fields[6])
    unit = passage.reading.unit(fields[7]) if amount is not None else None
    how = None if is_vaccination else "administered"
    time, end = passage.certain(fields[3]), passage.span(fields[4])
    known = passage.span(fields[22], passage.message.sent)
    passage.add(source, Fact(code, time, known, amount, unit, how))
    if end is not None and end != time:
        passage.add(source, Fact(f"STOPPED//{code}", end, known, text=how, ends=True))


def _vaccination(passage: Passage, code: str, time: str) -> str:
    number = component(passage.order[3], 1)
    own = f"{passage.subject}/{given(time)}" if number in _NO_ORDER_NUMBER else entity(passage.order[3])
    return f"{passage.reading.sources}vaccination/{own}/{code}"


def _dose(passage: Passage, code: str, time: str) -> str:
    return passage.numbered(f"{_order_source(passage, '', '')}/given/{given(time)}/{code}")


def _order_source(passage: Passage, placer: str, filler: str) -> str:
    """Return the source of an order: by its placer's number, else its filler's, else by patient and time."""
    orc = passage.order
    own = entity(placer) or entity(orc[2])
    if not own:
        by_filler = entity(filler, passage.message.application) or entity(orc[3], passage.message.application)
        own = f"filler/{by_filler}" if by_filler else f"{passage.subject}/{given(orc[9]) or passage.message.sent}"
    return f"{passage.reading.sources}order/{own}"


def _code(fields: list[str], passage: Passage, at: int) -> str:
    code = passage.reading.meaning(fields[at]).code
    if code is None:
        raise RejectError(f"{fields[0]}-{at} (a code) is missing")
    return code
