"""HL7 v2 files as sources of events: one or many messages a file, plain or gzipped, in batches or as they were sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from careloop import InputError
from careloop.ingest.delivery import ARRIVING, Batch, Reject, Source
from careloop.ingest.hl7v2.batches import batch_of
from careloop.ingest.hl7v2.framing import raw_messages
from careloop.ingest.hl7v2.passage import Reading
from careloop.ingest.hl7v2.times import Clock
from careloop.ingest.unpacking import DamagedError, opener

_NAMED = re.compile(r".*\.hl7(\.gz)?", re.IGNORECASE)
_MAYBE = re.compile(r".*\.(txt|msg|dat)(\.gz)?", re.IGNORECASE)
_BEGINNING = re.compile(rb"[\x0b\s]*(?:\xef\xbb\xbf)?(?:MSH|FHS|BHS)[^\w\s]")
_LOOKED_AT_BYTES = 1000


def hl7v2_sources(
    path: Path, *, time_zone: str = "UTC", origin: str = "", authority: str | None = None
) -> list[Source]:
    """Return a source for each file of HL7 v2.1 to v2.8 messages at `path`, a file or a folder that is searched.

    Read are `.hl7`, and `.txt`, `.msg` and `.dat` that begin as HL7 v2 does, each plain or as `.gz`; messages of types
    ADT, BAR, ORU, OUL, ORM, OML, OMG, OMI, OMP, RDE, RDS, RAS and VXU; bare, in batches or in MLLP frames. Subjects are
    the numbers of PID-3: those of the assigning authority `authority`, where it is given (others keep theirs as
    namespace), else the first of type MR, PI or PT, else the first; with `origin:` before them, where it is given.

    Times without a zone are local to `time_zone`, unless MSH-7 has a zone. `known_time` is OBR-22, OBX-19, RXA-22 and
    the like, else MSH-7; a date counts as known at its end. A message's MSH-7 is the version of what it says.

    Raises:
        InputError: no such file or folder, no HL7 v2 file in it, another kind of file, or no such time zone.
    """
    clock = Clock(time_zone)
    found = list(_found(path))
    if not found:
        raise InputError(f"{path}: no HL7 v2 file (.hl7, .txt, .msg, .dat, plain or .gz) in this folder")
    return [Source(name, (file,), partial(_batches, file, Reading(origin, authority, clock))) for name, file in found]


def _found(path: Path) -> Iterator[tuple[str, Path]]:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        for file in files:
            if _NAMED.fullmatch(file.name) or (_MAYBE.fullmatch(file.name) and _may_be_hl7(file)):
                yield file.relative_to(path).as_posix(), file
    elif not path.is_file():
        raise InputError(f"{path}: no such file or folder; check the path")
    elif not (_NAMED.fullmatch(path.name) or _may_be_hl7(path)):
        raise InputError(f"{path}: not an HL7 v2 file; it must begin with an MSH, FHS or BHS segment")
    else:
        yield path.name, path


def _may_be_hl7(path: Path) -> bool:
    """True for content that begins as HL7 v2 does, or that cannot be looked at, which reading will say."""
    try:
        return _BEGINNING.match(next(opener(path)(), b"")[:_LOOKED_AT_BYTES]) is not None
    except DamagedError:
        return True


def _batches(file: Path, settings: Reading) -> Iterator[Batch]:
    """Yield what the file gives; one that ends early ends with a reject."""
    reading = Reading(settings.origin, settings.authority, settings.clock)
    number = 1
    try:
        for raws in raw_messages(opener(file)()):
            yield batch_of(raws, number, reading)
            number += len(raws)
    except DamagedError as damage:
        reject = Reject(f"after message {number - 1}", damage.reason, damage.rest.decode(errors="replace"))
        yield Batch(ARRIVING.to_frame(), rows_read=1, rows_kept=0, rejected=[reject])
