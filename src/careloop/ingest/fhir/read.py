"""FHIR files as sources of events: bundles, single resources and Bulk Data, plain, gzipped or zipped."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from careloop import InputError
from careloop.ingest.delivery import ARRIVING, Batch, Reject, Source
from careloop.ingest.fhir.batches import batch_of, resources_in
from careloop.ingest.fhir.neighbours import Neighbours
from careloop.ingest.fhir.pieces import Run, runs
from careloop.ingest.fhir.reading import Reading
from careloop.ingest.unpacking import DamagedError, opener

_NAMES = re.compile(r".*\.(json|ndjson|jsonl)(\.gz)?|.*\.zip", re.IGNORECASE)
_LINES = re.compile(r".*\.(ndjson|jsonl)(\.gz)?", re.IGNORECASE)
# Medication files of a Bulk Data export, whose resources those of other files refer to.
_DRUGS = re.compile(r".*medication(?!request|administration|dispense|statement|knowledge).*", re.IGNORECASE)
Opened = tuple[str, Path, str | None]  # name, file, member of a zip file


def fhir_sources(path: Path, *, origin: str = "fhir", patient_identifier: str | None = None) -> list[Source]:
    """Return a source for each FHIR file (R4 or R5) at `path`, a file or a folder that is searched.

    Read are `.json` (a bundle of any type, one resource, or several), `.ndjson` and `.jsonl` (Bulk Data), each plain or
    as `.gz`, and such files within `.zip`; UTF-8, UTF-16 with byte order mark, or Windows-1252. Subjects are
    `origin:<Patient id>`. With `patient_identifier` (a system, as in Patient.identifier.system), each patient is also
    merged with the plain number of that system, by which other formats of the same hospital know them.

    `known_time` is `issued`, `recordedDate`, `recorded` or `dateAsserted`, else the end of what `time` stands for (a
    date: its last second; a period: its end). A resource without any time of its own counts from `meta.lastUpdated`.

    Raises:
        InputError: no such file or folder, no FHIR file in it, or another kind of file.
    """
    found = list(_found(path))
    if not found:
        raise InputError(
            f"{path}: no FHIR file (.json, .ndjson, .jsonl, plain or .gz, or .zip of these) in this folder"
        )
    drugs = [opened for opened in found if _LINES.fullmatch(opened[0]) and _DRUGS.fullmatch(Path(opened[0]).name)]

    def source(opened: Opened) -> Source:
        name = opened[0]
        around = [opened, *(drug for drug in drugs if drug != opened and _LINES.fullmatch(name))]
        files = tuple(dict.fromkeys(other[1] for other in around))

        def read() -> Iterator[Batch]:
            neighbours = Neighbours(lambda: _neighbours(around))
            return _batches(opened, Reading(origin, patient_identifier, neighbours))

        return Source(name, files, read)

    return [source(opened) for opened in found]


def _found(path: Path) -> Iterator[Opened]:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        named = [(str(file.relative_to(path)), file) for file in files if _NAMES.fullmatch(file.name)]
    elif path.is_file():
        if not _NAMES.fullmatch(path.name):
            raise InputError(
                f"{path}: not a FHIR file; give .json, .ndjson or .jsonl, plain or .gz, or a .zip of these"
            )
        named = [(path.name, path)]
    else:
        raise InputError(f"{path}: no such file or folder; check the path")
    for name, file in named:
        yield from _members(name, file) if file.suffix.lower() == ".zip" else [(name, file, None)]


def _members(name: str, file: Path) -> Iterator[Opened]:
    try:
        with zipfile.ZipFile(file) as archive:
            members = sorted(member for member in archive.namelist() if _NAMES.fullmatch(member))
    except (OSError, zipfile.BadZipFile):
        members = ["?"]  # cannot be opened, which reading will say
    yield from ((f"{name}/{member}", file, member) for member in members)


def _batches(opened: Opened, reading: Reading) -> Iterator[Batch]:
    """Yield what the file gives; one that ends early ends with a reject."""
    last = "line 0"
    try:
        for run in _runs(opened):
            last = f"{run.kind} {run.numbers[-1]}"
            yield batch_of(run, reading)
    except DamagedError as damage:
        reject = Reject(f"after {last}", damage.reason, damage.rest.decode(errors="replace"))
        yield Batch(ARRIVING.to_frame(), rows_read=1, rows_kept=0, rejected=[reject])


def _runs(opened: Opened) -> Iterator[Run]:
    name, file, member = opened
    return runs(opener(file, member)(), lines=_LINES.fullmatch(name) is not None)


def _neighbours(around: list[Opened]) -> Iterator[tuple[str | None, bytes]]:
    """Yield fullUrl and JSON of all resources in the files, as far as these can be read."""
    for opened in around:
        try:
            for run in _runs(opened):
                yield from resources_in(run.raws) if run.kind == "entry" else ((None, raw) for raw in run.raws)
        except DamagedError:
            continue
