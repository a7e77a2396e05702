"""DICOM files found in a folder, a zip or alone, read header by header into batches of events."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import tzinfo
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import polars as pl

from careloop import InputError
from careloop.ingest.delivery import ARRIVING, BATCH_ROWS, CODES, Batch, Reject, Source
from careloop.ingest.dicom.header import KEYWORDS, Instance, read_instance, text
from careloop.ingest.dicom.report import described_concepts, is_report, report_events
from careloop.ingest.dicom.series import Gathered, Row, asset_of

if TYPE_CHECKING:
    from pydicom import Dataset

_DICOMDIR = "1.2.840.10008.1.3.10"  # Media Storage Directory: an index of files that are read themselves
_HEAD_BYTES = 132  # the preamble of 128 bytes and "DICM" (PS3.10 section 7.1)
Opener = Callable[[], IO[bytes]]


@dataclass(frozen=True)
class Setting:
    """How files are understood: the namespace of patients, and the zone of times written without one."""

    origin: str
    zone: tzinfo


def dicom_sources(path: Path, *, origin: str = "", time_zone: str = "UTC") -> list[Source]:
    """Return the DICOM files below `path` as one source, and each zip file as another.

    A tree is one source because the files of one series may lie in several folders: a series' event can only be made
    when all are read. The same series in two zip files counts as two deliveries of it: the later replaces the earlier.
    Only headers are read, never pixels. Series become `IMAGING//<modality>` (numeric_value = number of instances),
    studies `IMAGING_STUDY//<modality>` (number of series), reports `REPORT//<code>` with a row a measurement.

    Raises:
        InputError: no such path, no DICOM file below it, an unknown time zone, or pydicom is not installed.
    """
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise InputError("DICOM needs pydicom: pip install 'careloop[imaging]'") from None
    try:
        setting = Setting(origin, ZoneInfo(time_zone))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InputError(f"time_zone must be an IANA name such as Europe/Berlin, got {time_zone}") from None
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the path")
    files = _files_below(path)
    zips = [file for file in files if file.suffix.lower() == ".zip"]
    loose = [file for file in files if file.suffix.lower() != ".zip"]
    if not zips and not any(_is_dicom_file(file) for file in loose):
        raise InputError(f"{path}: no DICOM file here; name a folder, a file or a zip of DICOM files")
    sources = [_source(str(file), (file,), partial(_zipped, file), setting) for file in zips]
    if loose:
        root = path if path.is_dir() else path.parent
        sources.insert(0, _source(str(path), tuple(loose), partial(_loose, loose, root), setting))
    return sources


def _source(
    name: str, files: tuple[Path, ...], entries: Callable[[], Iterator[tuple[str, Opener]]], setting: Setting
) -> Source:
    return Source(name, files, partial(_read, entries, setting))


def _files_below(path: Path) -> list[Path]:
    """All files below a folder in sorted order (links to folders are not followed), or the file itself."""
    if not path.is_dir():
        return [path]
    found = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    return sorted(file for file in found if file.is_file())


def _loose(files: list[Path], root: Path) -> Iterator[tuple[str, Opener]]:
    for file in files:
        yield str(file.relative_to(root)), partial(_opened, file)


def _opened(file: Path) -> IO[bytes]:
    return file.open("rb")


def _zipped(file: Path) -> Iterator[tuple[str, Opener]]:
    with zipfile.ZipFile(file) as archive:
        for name in sorted(entry.filename for entry in archive.infolist() if not entry.is_dir()):
            yield name, partial(archive.open, name)


@dataclass
class _Tally:
    """What was read since the last batch."""

    rows_read: int = 0
    rows_kept: int = 0
    rows: list[Row] = field(default_factory=list)
    rejected: list[Reject] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def batch(self, codes: dict[str, str] | None = None) -> Batch:
        described = pl.DataFrame(list((codes or {}).items()), schema=CODES, orient="row")
        events = pl.DataFrame(self.rows, schema=ARRIVING)
        return Batch(events, self.rows_read, self.rows_kept, self.rejected, dict(self.skipped), codes=described)


def _read(entries: Callable[[], Iterator[tuple[str, Opener]]], setting: Setting) -> Iterator[Batch]:
    gathered, tally = Gathered(), _Tally()
    try:
        for name, opener in entries():
            _read_file(name, opener, setting, gathered, tally)
            if tally.rows_read >= BATCH_ROWS or len(tally.rows) >= BATCH_ROWS:
                yield tally.batch()
                tally = _Tally()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError):
        tally.rows_read += 1
        tally.rejected.append(Reject("the file as a whole", "not a readable zip file (cut off or malformed)"))
    prefix = f"{setting.origin}:" if setting.origin else ""
    namespace = f"{setting.origin}//" if setting.origin else ""
    for row in gathered.events(f"DICOM//{namespace}patient/"):
        tally.rows.append({**row, "subject": f"{prefix}{row['subject']}"})
        if len(tally.rows) >= BATCH_ROWS:
            yield tally.batch()
            tally = _Tally()
    yield tally.batch(gathered.codes)


def _read_file(name: str, opener: Opener, setting: Setting, gathered: Gathered, tally: _Tally) -> None:
    """Add one file to what is gathered, or to the rejects or skipped files."""
    tally.rows_read += 1
    try:
        with opener() as file:
            header = _header(file)
    except Exception:  # pydicom and zipfile have no common exception for a malformed file, nor has the disk
        tally.rejected.append(Reject(name, "not readable as DICOM (cut off, malformed or encrypted)"))
        return
    if isinstance(header, str):
        tally.skipped[header] += 1
        return
    with warnings.catch_warnings(action="ignore"):
        instance = read_instance(header, setting.zone)
        if isinstance(instance, str):
            tally.rejected.append(Reject(name, instance))
        elif reason := gathered.clash(instance):
            tally.rejected.append(Reject(name, reason))
        elif gathered.is_copy(instance):
            tally.skipped["a second copy of an instance"] += 1
        else:
            tally.rows_kept += 1
            gathered.add(header, instance, images=0 if is_report(instance) else 1)
            if is_report(instance):
                tally.rows += _report_rows(header, instance, setting)
                gathered.codes.update(described_concepts(header))


def _report_rows(header: Dataset, instance: Instance, setting: Setting) -> list[Row]:
    subject = f"{setting.origin}:{instance.subject}" if setting.origin else instance.subject
    place = {"subject": subject, "source": f"DICOM//instance/{instance.uid}"}
    return [{**place, **row} for row in report_events(header, instance, asset_of(instance))]


def _header(file: IO[bytes]) -> Dataset | str:
    """Return the header's elements in KEYWORDS, or why the file is none to read."""
    import pydicom

    head = file.read(_HEAD_BYTES)
    if not head:
        return "empty file"
    if not is_dicom(head):
        return "not a DICOM file"
    file.seek(0)
    with warnings.catch_warnings(action="ignore"):
        header = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(KEYWORDS))
        meta = header.file_meta.get("MediaStorageSOPClassUID") if hasattr(header, "file_meta") else None
        if _DICOMDIR in (str(meta), text(header, "SOPClassUID")):
            return "DICOMDIR: an index of other files"
    return header


def _is_dicom_file(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(_HEAD_BYTES))
    except OSError:
        return False


def is_dicom(head: bytes) -> bool:
    """True where a file's first 132 bytes have the prefix DICM, or begin like a data set without preamble.

    Such a data set begins in group 0002 or 0008, in either byte order, with an element of known VR or, where the VR
    is implicit, of a length below 64 kB.
    """
    if head[128:132] == b"DICM":
        return True
    if len(head) < 8 or head[:2] not in {b"\x08\x00", b"\x02\x00", b"\x00\x08", b"\x00\x02"}:
        return False
    little = head[1] == 0
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    length = int.from_bytes(head[4:8], "little" if little else "big")
    return explicit or length < 2**16
