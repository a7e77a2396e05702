"""Files of a named format into a record, which is made if there is none."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from careloop import InputError
from careloop.record import Record, import_meds, read_events


def ingest_paths(format_: Literal["meds", "events"] | str, paths: Sequence[Path], record_path: Path) -> Record:
    """Add each path to the record, one commit a file; the same file again changes nothing.

    Raises InputError for an unknown format, or what the format's reader refuses.
    """
    readers = {"meds": import_meds, "events": _append_file}
    if format_ not in readers:
        raise InputError(f"format must be one of {', '.join(readers)}, got {format_}")
    record = open_or_create(record_path)
    for path in paths:
        record = readers[format_](path, record)
    # Reading slows with the number of files, and each commit adds one a shard.
    return record.compact() if len(paths) > 1 else record


def open_or_create(path: Path) -> Record:
    """The record in the folder, newly made where there is none."""
    return Record.open(path) if (path / "record.json").exists() else Record.create(path)


def _append_file(path: Path, record: Record) -> Record:
    events = read_events(path)
    return record.append(events, key=f"events:{hashlib.sha256(path.read_bytes()).hexdigest()}")
