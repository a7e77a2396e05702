"""Waveform files found in a folder, their headers read into batches of events."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import tzinfo
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from careloop import InputError
from careloop.ingest.delivery import ARRIVING, BATCH_ROWS, CODES, Batch, Reject, Source
from careloop.ingest.links import Links, read_links
from careloop.ingest.waveforms.edf_header import read_edf
from careloop.ingest.waveforms.recording import DESCRIPTIONS, Recording
from careloop.ingest.waveforms.wfdb_header import WfdbHeader, parse_wfdb_header, read_wfdb

_WFDB = ".hea"
_EDF = (".edf", ".bdf", ".rec")
MAX_HEADER_BYTES = 16 * 2**20  # a year of one-minute segments has some 10 MB of lines
_NO_DATE = "no start date in the header: give it in column time of the samples file"


@dataclass(frozen=True)
class Setting:
    """How files are understood: root folder, namespace of patients, zone of times, and whose each recording is."""

    root: Path
    origin: str
    zone: tzinfo
    links: Links


def waveform_sources(
    path: Path, *, origin: str = "", time_zone: str = "UTC", samples: Path | None = None
) -> list[Source]:
    """Return the recordings below `path` (WFDB .hea; EDF, EDF+ and BDF) as one source; samples are never read.

    A recording gives `WAVEFORM//ECG` for all its ECG leads together and `WAVEFORM//<kind>` for each other kind of
    signal: numeric_value is the duration in seconds, known_time the end. WFDB comments give age, sex and `Dx` codes.
    The patient is, in this order: what `samples` (a CSV with columns sample, subject and, optionally, time) says of
    the record's name; the patient code of an EDF header; the record's name.

    Raises:
        InputError: no such path, no waveform header below it, an unknown time zone, or an unreadable samples file.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the path")
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(f"time_zone must be an IANA name such as Europe/Berlin, got {time_zone}") from None
    files = [path] if path.is_file() else _files_below(path)
    if not files or not (files[0].suffix.lower() == _WFDB or files[0].suffix.lower() in _EDF):
        raise InputError(f"{path}: no waveform header here (.hea, {', '.join(_EDF)}); name a file or folder with some")
    setting = Setting(path if path.is_dir() else path.parent, origin, zone, read_links(samples, zone=zone))
    inputs = (*files, samples) if samples else tuple(files)
    return [Source(str(path), inputs, partial(_read, files, setting))]


def _files_below(folder: Path) -> list[Path]:
    found = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    chosen = [file for file in found if file.suffix.lower() in (_WFDB, *_EDF) and file.is_file()]
    return sorted(chosen, key=lambda file: (file.parent, file.name))


def _read(files: list[Path], setting: Setting) -> Iterator[Batch]:
    rows: list[dict[str, Any]] = []
    rejected: list[Reject] = []
    skipped: Counter[str] = Counter()
    read = kept = 0
    for folder, group in groupby(files, key=lambda file: file.parent):
        members = list(group)
        of_others = _parts_of_records(folder, [file for file in members if file.suffix.lower() == _WFDB])
        for file in members:
            read += 1
            if file.suffix.lower() == _WFDB and file.stem in of_others:
                skipped["part of a multi-segment record"] += 1
                continue
            events = _events(file, setting)
            if events == []:
                skipped["only annotations, no signal"] += 1
            elif isinstance(events, str):
                rejected.append(Reject(str(file.relative_to(setting.root)), events))
            else:
                kept += 1
                rows += events
            if read >= BATCH_ROWS:
                yield _batch(rows, rejected, skipped, read=read, kept=kept)
                rows, rejected, skipped, read, kept = [], [], Counter(), 0, 0
    yield _batch(rows, rejected, skipped, read=read, kept=kept)


def _batch(rows: list[dict[str, Any]], rejected: list[Reject], skipped: Counter[str], *, read: int, kept: int) -> Batch:
    codes = pl.DataFrame(list(DESCRIPTIONS.items()), schema=CODES, orient="row")
    return Batch(pl.DataFrame(rows, schema=ARRIVING), read, kept, rejected, dict(skipped), codes=codes)


def _parts_of_records(folder: Path, headers: list[Path]) -> set[str]:
    """Names of the headers in a folder that are parts of another record in it, which is read as a whole."""
    names = {file.stem for file in headers}
    parts: set[str] = set()
    for file in headers:
        header = _wfdb_header(file)
        if isinstance(header, WfdbHeader):
            parts |= {name for name in header.segments if name in names and name != file.stem}
    return parts


def _events(file: Path, setting: Setting) -> list[dict[str, Any]] | str:
    """Return the rows of one recording (none where it has no signal), or the reason why it cannot be kept."""
    recording = _wfdb(file, setting.zone) if file.suffix.lower() == _WFDB else _edf(file, setting.zone)
    if isinstance(recording, str):
        return recording
    if not recording.signals:
        return []
    links = setting.links
    subject = links.subject_of(file.stem) if links.path else recording.patient or recording.name
    if not subject:
        return "recording is not in the samples file"
    start = links.times.get(file.stem, recording.start)
    if start is None:
        return _NO_DATE
    name = file.relative_to(setting.root).as_posix()
    place = {
        "subject": f"{setting.origin}:{subject}" if setting.origin else subject,
        "source": f"WAVEFORM//{name}",
    }
    asset = file.absolute().as_uri()
    try:
        rows = list(recording.rows(start))
    except OverflowError:
        return "the recording ends outside the calendar"
    return [{**place, **row, "asset": asset if row.get("asset") else None} for row in rows]


def _wfdb(file: Path, zone: tzinfo) -> Recording | str:
    header = _wfdb_header(file)
    if isinstance(header, str):
        return header
    return read_wfdb(header, _first_part(file, header), zone)


def _first_part(file: Path, header: WfdbHeader) -> WfdbHeader | None:
    """The header of the first part of a multi-segment record that lists signals; parts lie beside it."""
    for name in header.segments:
        part = file.with_name(f"{Path(name).name}{_WFDB}")
        if part != file and part.is_file():
            read = _wfdb_header(part)
            if isinstance(read, WfdbHeader) and read.lines and not read.segments:
                return read
    return None


def _wfdb_header(file: Path) -> WfdbHeader | str:
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_HEADER_BYTES + 1)
    except OSError:
        return "file is not readable"
    if len(content) > MAX_HEADER_BYTES:
        return "header is longer than 16 MiB"
    try:
        return parse_wfdb_header(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return parse_wfdb_header(content.decode("cp1252", errors="replace"))


def _edf(file: Path, zone: tzinfo) -> Recording | str:
    try:
        with file.open("rb") as opened:
            return read_edf(opened, file.stem, file.stat().st_size, zone)
    except OSError:
        return "file is not readable"
