"""Runs of raw messages to batches: segment by segment, each giving events or counted with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import polars as pl

from careloop.ingest.concepts import SkipError
from careloop.ingest.delivery import CODES, Batch, Reject
from careloop.ingest.hl7v2.clinical import adverse_reaction, allergy, diagnosis, procedure
from careloop.ingest.hl7v2.fields import RejectError, plain
from careloop.ingest.hl7v2.kinds import FRAMES, READ, message_skipped, segment_skipped
from careloop.ingest.hl7v2.message import SEGMENT, Message, decoded, parse
from careloop.ingest.hl7v2.observation import join_texts, observation, report
from careloop.ingest.hl7v2.orders import (
    DETAILS,
    REPEATED,
    dispensed_drug,
    encoded_drug,
    given_drug,
    order_alone,
    ordered_drug,
    ordered_test,
)
from careloop.ingest.hl7v2.passage import WIDTH, Passage, Reading, Work
from careloop.ingest.hl7v2.people import add_people, merge, patient, person_of, visit
from careloop.ingest.hl7v2.table import arriving, withdrawals

Handler = Callable[[list[str], Passage], None]
_ROWS: dict[str, Handler] = {
    "AL1": allergy, "DG1": diagnosis, "IAM": adverse_reaction, "MRG": merge, "OBX": observation, "PR1": procedure,
    "PV1": visit,
}  # fmt: skip
_DETAILS: dict[str, Handler] = {
    "OBR": ordered_test, "RXA": given_drug, "RXD": dispensed_drug, "RXE": encoded_drug, "RXO": ordered_drug,
}  # fmt: skip
_PV1_WIDTH = 46
_LINKS = {"A24", "A37"}  # the records stay apart, and what is linked may be unlinked again


def batch_of(raws: Sequence[bytes], first: int, reading: Reading) -> Batch:
    """Return what some messages give, of which the first has the number `first`.

    A row is a segment that is not only a frame of others (header, event, order of a result, note of a result); a
    message that is refused or skipped as a whole is one row.
    """
    work = Work()
    for number, raw in enumerate(raws, first):
        _read_message(raw, number, reading, work)
    add_people(work)
    codes = pl.DataFrame({"code": list(reading.codes), "description": list(reading.codes.values())}, schema=CODES)
    reading.codes.clear()
    return Batch(
        arriving(work.rows),
        rows_read=work.read,
        rows_kept=work.read - len(work.rejected) - work.skipped.total(),
        rejected=work.rejected,
        skipped=dict(sorted(work.skipped.items())),
        withdrawn=withdrawals(work.withdrawn),
        merges=work.merges,
        codes=codes,
    )


def _read_message(raw: bytes, number: int, reading: Reading, work: Work) -> None:
    try:
        message = parse(raw, number)
        if message.kind not in READ:
            raise SkipError(message_skipped(message.kind))
        if message.kind == "ADT" and message.trigger in _LINKS:
            raise SkipError("ADT: a link between patients, whose records stay apart")
        sent = reading.clock.span(message.sent) if message.sent else None
        passage = Passage(message, reading, work, sent[0] if sent else None)
        if not any(person_of(line, passage).subject for line in message.segments if line.startswith("PID")):
            raise RejectError("no patient number (PID-3)")
    except RejectError as error:
        work.rejected.append(Reject(f"message {number}", str(error), decoded(raw)))
        work.read += 1
    except SkipError as error:
        work.skipped[str(error)] += 1
        work.read += 1
    else:
        _read_segments(message, passage)


def _read_segments(message: Message, passage: Passage) -> None:
    work, before = passage.work, ""
    ordinals: Counter[str] = Counter()
    for index, segment in enumerate(message.segments):
        name = segment[:3]
        ordinals[name] += 1
        if name == "NTE" and before == "OBX":
            continue
        before = name
        fields = segment.split("|")
        width = _PV1_WIDTH if name == "PV1" else WIDTH
        if len(fields) < width:
            fields += [""] * (width - len(fields))
        passage.name = name
        handler = _handler(name, index, fields, passage)
        if handler is None:
            continue
        passage.at = work.read
        work.read += 1
        try:
            if name == "PID":
                patient(segment, passage)
            elif not passage.subject:
                raise RejectError(f"{name}: no patient number (PID-3) before it")
            else:
                handler(fields, passage)
        except SkipError as error:
            work.skipped[str(error)] += 1
        except RejectError as error:
            work.rejected.append(Reject(_place(message, index, ordinals[name]), str(error), segment))
    join_texts(passage)


def _handler(name: str, index: int, fields: list[str], passage: Passage) -> Handler | None:
    """Return what reads a segment as a row; None for a frame, which is taken note of here."""
    kind, segments = passage.message.kind, passage.message.segments
    if name == "OBX":
        follows = segments[index + 1][:3] if index + 1 < len(segments) else ""
        passage.notes = "\n".join(_notes(segments, index)) if follows == "NTE" else ""
        return observation
    if name == "ORC":
        passage.order = fields
        passage.begin_order("")
        return order_alone if kind in DETAILS and not _has_detail(kind, segments, index) else None
    if name == "OBR" and kind not in DETAILS:
        report(fields, passage)
        return None
    if name in REPEATED and kind in DETAILS:
        return _DETAILS[name] if name in DETAILS[kind] else None
    if name in FRAMES:
        return None
    return _ROWS.get(name, _not_read)


def _notes(segments: Sequence[str], index: int) -> Iterator[str]:
    """Yield the texts of the NTE segments right after a segment."""
    for place in range(index + 1, len(segments)):
        segment = segments[place]
        if not segment.startswith("NTE"):
            return
        fields = segment.split("|")
        text = plain(fields[3].replace("~", "\n")).strip() if len(fields) > 3 else ""
        if text and text != '""':
            yield text


def _has_detail(kind: str, segments: Sequence[str], index: int) -> bool:
    """True where what is ordered follows before the next order."""
    for place in range(index + 1, len(segments)):
        segment = segments[place]
        if segment.startswith(("ORC", "PID")):
            return False
        if segment[:3] in DETAILS[kind]:
            return True
    return False


def _not_read(fields: list[str], passage: Passage) -> None:
    if not SEGMENT.match(f"{fields[0]}|"):
        raise RejectError("line that is no segment")
    raise SkipError(segment_skipped(fields[0]))


def _place(message: Message, index: int, ordinal: int) -> str:
    segment = message.segments[index]
    here = f"{segment[:3]} {ordinal}" if SEGMENT.match(segment) else f"line {index + 2}"
    return f"message {message.number}, {here}"
