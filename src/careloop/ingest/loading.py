"""A delivery into a record: its sources staged one by one, resumed where it stopped, then committed at once."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import polars as pl
from filelock import FileLock, Timeout

from careloop import InputError, __version__
from careloop.ingest.delivery import Source
from careloop.ingest.stage import COUNTS, DESCRIBED, REJECTS, stage_source
from careloop.ingest.summary import Counts, IngestSummary
from careloop.record import Record
from careloop.record.arrival import deliver, is_delivered
from careloop.record.staging import Staging
from careloop.record.store import CODES

HASHED_AT_ONCE = 2  # files whose content is hashed at a time: a disk gives no more
# Reading slows with the number of files, and each delivery adds one a shard.
MOST_FILES_A_SHARD = 8
ABANDONED_AFTER_SECONDS = 14 * 86_400
Progress = Callable[[str, int, int], None]
StageAll = Callable[[Record, str, Sequence[int], Progress], None]


def load(
    record: Record,
    sources: Sequence[Source],
    *,
    settings: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    stage_all: StageAll | None = None,
) -> IngestSummary:
    """Add a delivery to a record in one commit; the same delivery again changes nothing.

    A delivery is its sources, the content of their files, `settings` and the versions of careloop and polars. It is
    read source by source into the record's `private/` folder; a killed run is taken up by the same call, after the last
    complete source; what nobody takes up within two weeks is removed. Rejected rows are then in `private/rejects/`, the
    summary in `private/deliveries/`.

    Args:
        record: where to; also its newest version is looked at for what is replaced.
        sources: as the reader of a format gives them.
        settings: what else decides how the sources are read, such as a time zone.
        progress: called with what is done, how much, and of how much (0 where that is not known).
        stage_all: stages sources elsewhere, such as in worker processes; called with the record, the delivery, the
            numbers of the sources that are left, and `progress`.

    Raises:
        InputError: what a reader refuses as a whole, or another process is at the same delivery.
    """
    tell = progress or (lambda what, done, total: None)
    delivery = _identity(sources, settings or {}, tell)
    private = record.path / "private"
    if not private.is_dir():
        raise InputError(f"{record.path}: was shared without private/; ingest into the record it came from")
    summary_file = private / "deliveries" / f"{delivery}.json"
    with _alone(private, delivery):
        if is_delivered(record, delivery):
            return _delivered_before(record, delivery, summary_file)
        staging = Staging.of(record, delivery)
        _stage(record, staging, sources, tell, stage_all)
        arrived = deliver(record, staging, delivery, progress=progress)
        _describe(record, staging)
        rejects = _collect_rejects(staging, private / "rejects" / f"{delivery}.ndjson")
        summary = IngestSummary(
            _counts(staging),
            events_added=arrived.added,
            events_removed=arrived.removed,
            record_version=_tidied(arrived.record).version,
            sources=len(sources),
            rejects_file=rejects,
        )
        summary.write(summary_file)
        staging.remove()
    _forget_abandoned(private)
    return summary


def _identity(sources: Sequence[Source], settings: Mapping[str, str], tell: Progress) -> str:
    """Return the name of a delivery: a hash of what it holds and how it is read."""
    files = list(dict.fromkeys(file for source in sources for file in source.files))
    digests: dict[str, str] = {}
    with ThreadPoolExecutor(HASHED_AT_ONCE) as pool:
        for file, digest in zip(files, pool.map(_digest, files), strict=True):
            digests[str(file)] = digest
            tell("looking at files", len(digests), len(files))
    content = [[source.name, [digests[str(file)] for file in source.files]] for source in sources]
    # Staged rows carry hashes of polars, which hold within one release of it.
    described = json.dumps([__version__, pl.__version__, dict(sorted(settings.items())), content])
    return hashlib.blake2b(described.encode(), digest_size=12).hexdigest()


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); check the path") from None


@contextmanager
def _alone(private: Path, delivery: str) -> Iterator[None]:
    """Hold a delivery: two processes would write each other's staged files."""
    (private / "staging").mkdir(exist_ok=True)
    lock = FileLock(private / "staging" / f"{delivery}.lock", timeout=0)
    try:
        with lock:
            yield
            # Whoever opened it before this finds the delivery committed.
            Path(lock.lock_file).unlink(missing_ok=True)
    except Timeout:
        raise InputError("another process is ingesting the same delivery; wait until it is done") from None


def _forget_abandoned(private: Path) -> None:
    """Remove what is staged of deliveries that were begun and never taken up again: copies of patients' data."""
    for folder in (private / "staging").iterdir():
        if folder.is_dir() and time.time() - folder.stat().st_mtime > ABANDONED_AFTER_SECONDS:
            with suppress(InputError), _alone(private, folder.name):
                shutil.rmtree(folder)


def _delivered_before(record: Record, delivery: str, summary_file: Path) -> IngestSummary:
    """The summary of a delivery that is committed; tidy up where its process died right after the commit."""
    staging = Staging.of(record, delivery)
    version = Record.open(record.path).version
    if summary_file.exists():
        summary = IngestSummary.read(summary_file).again(version)
    else:
        _describe(record, staging)
        rejects = _collect_rejects(staging, record.path / "private" / "rejects" / f"{delivery}.ndjson")
        summary = IngestSummary(_counts(staging), 0, 0, version, len(staging.sources), rejects, delivered_before=True)
        summary.write(summary_file)
    staging.remove()
    return summary


def _stage(
    record: Record, staging: Staging, sources: Sequence[Source], tell: Progress, stage_all: StageAll | None
) -> None:
    left = [number for number in range(len(sources)) if not staging.is_staged(number)]
    if stage_all is not None and len(left) > 1:
        stage_all(record, staging.folder.name, left, tell)
        return
    rows = 0

    def told(more: int) -> None:
        nonlocal rows
        rows += more
        tell(f"reading {sources[number].name}", rows, 0)

    for number in left:
        stage_source(record, staging, number, sources[number], told=told)


def _counts(staging: Staging) -> Counts:
    return Counts.total(Counts.read(file) for file in staging.files(COUNTS))


def _collect_rejects(staging: Staging, file: Path) -> str | None:
    """Write the rejects of all sources into one file; None where there are none."""
    parts = [part for part in staging.files(REJECTS) if part.stat().st_size]
    if not parts:
        return None
    file.parent.mkdir(mode=0o700, exist_ok=True)
    draft = file.with_suffix(".new")
    with draft.open("wb") as out:
        for part in parts:
            with part.open("rb") as lines:
                shutil.copyfileobj(lines, out)
    draft.rename(file)
    return str(file)


def _describe(record: Record, staging: Staging) -> None:
    """Add what codes mean to the codes table, where it does not say so yet."""
    found = pl.concat([CODES.to_frame(), *(pl.read_parquet(file, glob=False) for file in staging.files(DESCRIBED))])
    found = found.unique("code", keep="first", maintain_order=True)
    known = record.code_metadata().join(found, on="code", how="semi").sort("code")
    described = found.update(known, on="code").sort("code")
    if not described.equals(known):
        record.describe_codes(described)


def _tidied(record: Record) -> Record:
    return record.compact() if record.most_files_in_a_shard > MOST_FILES_A_SHARD else record
