"""Files of a named format into a record, which is made if there is none."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path

from careloop import InputError
from careloop.ingest.delivery import Source
from careloop.ingest.formats import FORMATS, check_format, sources_of
from careloop.ingest.loading import Progress, StageAll, load
from careloop.ingest.stage import stage_source
from careloop.ingest.summary import Counts, IngestSummary
from careloop.record import Record, read_events
from careloop.record.shards import HERE, each_shard, place_of
from careloop.record.staging import Staging

EVENTS_FORMAT = "events"


def ingest_paths(
    format_: str,
    paths: Sequence[Path],
    record_path: Path,
    *,
    settings: Mapping[str, str | Path] | None = None,
    on: str = HERE,
    progress: Progress | None = None,
) -> IngestSummary:
    """Add what is at the paths to the record as one delivery; the same again changes nothing.

    Args:
        format_: one of `FORMATS`, or "events": files with the record's own columns, each checked as a whole and added
            in a commit of its own.
        paths: files or folders.
        record_path: the record's folder.
        settings: what the format takes beside the paths (`Format.settings`).
        on: `here`, or `local` or `ray` as in `each_shard`, which read several sources (files, tables) at once.
        progress: called with what is done, how much, and of how much (0 where that is not known).

    Raises:
        InputError: an unknown format, setting or `on`, or what the format's reader refuses as a whole.
    """
    given = dict(settings or {})
    if format_ == EVENTS_FORMAT:
        return _append_files(paths, open_or_create(record_path))
    if format_ not in FORMATS:
        raise InputError(f"format must be one of {', '.join((*FORMATS, EVENTS_FORMAT))}, got {format_}")
    check_format(format_, given)
    sources = sources_of(format_, paths, given)
    described = {"format": format_, **{name: _described(value) for name, value in given.items()}}
    place_of(on)
    elsewhere = None if on == HERE else _stage_elsewhere(on, format_, paths, given)
    return load(open_or_create(record_path), sources, settings=described, progress=progress, stage_all=elsewhere)


def open_or_create(path: Path) -> Record:
    """The record in the folder, newly made where there is none."""
    return Record.open(path) if (path / "record.json").exists() else Record.create(path)


def _stage_elsewhere(on: str, format_: str, paths: Sequence[Path], settings: Mapping[str, str | Path]) -> StageAll:
    work = partial(_stage_one, format_, tuple(paths), tuple(sorted(settings.items())))

    def stage_all(record: Record, delivery: str, left: Sequence[int], tell: Progress) -> None:
        rows = 0
        for done, read in enumerate(each_shard(record, partial(work, delivery), on=on, shards=left), start=1):
            rows += read
            tell(f"sources read, {rows:,} rows", done, len(left))

    return stage_all


def _stage_one(
    format_: str,
    paths: tuple[Path, ...],
    settings: tuple[tuple[str, str | Path], ...],
    delivery: str,
    record: Record,
    number: int,
) -> int:
    """Stage one source in a worker, which finds the sources by itself; return the number of rows read."""
    rows: list[int] = []
    source = _sources_of(format_, paths, settings)[number]
    stage_source(record, Staging.of(record, delivery), number, source, told=rows.append)
    return sum(rows)


@lru_cache(maxsize=1)
def _sources_of(format_: str, paths: tuple[Path, ...], settings: tuple[tuple[str, str | Path], ...]) -> list[Source]:
    return sources_of(format_, paths, dict(settings))


def _described(value: str | Path) -> str:
    """A setting as it stands in a delivery's identity: a file by its content."""
    return hashlib.sha256(value.read_bytes()).hexdigest() if isinstance(value, Path) and value.is_file() else str(value)


def _append_files(paths: Sequence[Path], record: Record) -> IngestSummary:
    rows = added = 0
    for path in paths:
        events = read_events(path)
        before = record.version
        record = record.append(events, key=f"events:{hashlib.sha256(path.read_bytes()).hexdigest()}")
        rows += events.height
        added += events.height if record.version > before else 0
    if len(paths) > 1:
        record = record.compact()
    known = bool(rows) and not added
    return IngestSummary(Counts(rows, rows), added, 0, record.version, len(paths), delivered_before=known)
