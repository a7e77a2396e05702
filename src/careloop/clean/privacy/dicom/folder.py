"""A folder of DICOM files to a folder without identities: one file at a time, whole or not at all, and resumable."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from careloop import InputError
from careloop.clean.privacy.dicom.dataset import Subject, add_method, deidentify_dataset, subject_of
from careloop.clean.privacy.dicom.pixels import RefusedError, blank, may_show_text, refusal
from careloop.clean.privacy.dicom.profile import DicomOptions, basic_profile

if TYPE_CHECKING:
    from pydicom import Dataset

_MARK = "deidentified.json"
_UNFINISHED = ".part"
_SHORTEST_KEY = 16  # bytes; a shorter key can be found by trying


@dataclass(frozen=True)
class DeidentifiedDicom:
    """What a run did: files read, written, there before (an earlier run, or a copy), and refused with the reason.

    `actions` counts what was done to attributes in the files written; `refused` are (path below the folder, reason).
    """

    files_read: int
    files_written: int
    files_there: int
    refused: Sequence[tuple[str, str]]
    actions: Mapping[str, int]

    @property
    def reasons(self) -> dict[str, int]:
        """How many files were refused for each reason."""
        return dict(Counter(reason for _, reason in self.refused))

    def to_json(self) -> dict[str, Any]:
        """Plain values; refused files by reason only, as their names may hold a patient's."""
        return {**vars(self), "refused": self.reasons, "actions": dict(self.actions)}


def deidentify_dicom(
    folder: Path,
    out: Path,
    *,
    key: bytes,
    options: DicomOptions | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> DeidentifiedDicom:
    """Write every DICOM file below `folder` without its identities to `out/<study>/<series>/<instance>.dcm`.

    The names are the new UIDs, since original names often hold a patient's. The same key gives the same new
    identifiers in every run, so that a later delivery fits an earlier one; whoever has the key can link them back.
    A file whose output exists is not written again. Each file is held in memory once, pixels included.

    Raises:
        InputError: no such folder, `out` inside it, or holding files of anything but an earlier run with the same key
            and options; a key below 16 bytes; pydicom or dicom-anonymizer is not installed.
    """
    options = options or DicomOptions()
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; check the path")
    if len(key) < _SHORTEST_KEY:
        raise InputError(
            f"key must have at least {_SHORTEST_KEY} bytes, got {len(key)}: make one with secrets.token_bytes(32)"
        )
    _require_pydicom()
    basic_profile()
    _prepare(folder, out, key, options)
    files = _files_below(folder)
    written = there = 0
    actions: Counter[str] = Counter()
    refused: list[tuple[str, str]] = []
    for number, file in enumerate(files):
        if progress:
            progress("de-identifying", number, len(files))
        result = _deidentify_file(file, out, key, options)
        if isinstance(result, str):
            refused.append((str(file.relative_to(folder)), result))
        elif result is None:
            there += 1
        else:
            written += 1
            actions += result.done
    return DeidentifiedDicom(len(files), written, there, tuple(refused), dict(sorted(actions.items())))


def _require_pydicom() -> None:
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise InputError("DICOM needs pydicom: pip install 'careloop[imaging]'") from None


def _prepare(folder: Path, out: Path, key: bytes, options: DicomOptions) -> None:
    """Check that `out` is new, empty or an earlier run's, and leave the mark that says so next time."""
    if out.resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{out}: the output must not lie inside the folder that is read; choose another")
    run = {"key": hmac.new(key, b"careloop", hashlib.sha256).hexdigest()[:16], "options": options.described()}
    mark = out / _MARK
    if mark.is_file():
        if json.loads(mark.read_text()) != run:
            raise InputError(f"{out}: written by a run with another key or other options; choose an empty folder")
    elif out.exists() and (not out.is_dir() or any(file.suffix != _UNFINISHED for file in out.iterdir())):
        raise InputError(f"{out}: must be an empty folder, or that of an earlier run; choose another")
    out.mkdir(parents=True, exist_ok=True)
    for unfinished in out.rglob(f"*{_UNFINISHED}"):
        unfinished.unlink()
    if not mark.is_file():
        unfinished = mark.with_suffix(_UNFINISHED)
        unfinished.write_text(json.dumps(run))
        unfinished.replace(mark)


def _files_below(folder: Path) -> list[Path]:
    found = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    return sorted(file for file in found if file.is_file())


def _deidentify_file(file: Path, out: Path, key: bytes, options: DicomOptions) -> Subject | str | None:
    """Return whose file was written, None where it was there, or the reason why it is refused."""
    with warnings.catch_warnings(action="ignore"):
        try:
            dataset = _read(file)
            reason, risk = _unfit(dataset), may_show_text(dataset, options)
        except Exception:  # pydicom has no common exception for malformed files, nor for values looked at
            return "not readable as DICOM"
        if reason:
            return reason
        if risk and options.pixel_text == "refuse":
            return risk
        try:
            subject = subject_of(dataset, key, options)
            if risk and options.pixel_text == "blank":
                blank(dataset, options)
            deidentify_dataset(dataset, subject)
            if risk and options.pixel_text == "blank":
                add_method(dataset, "113101")
            return subject if _write(dataset, out) else None
        except RefusedError as refused:
            return str(refused)


def _read(file: Path) -> Dataset:
    import pydicom

    return pydicom.dcmread(file, force=True)


def _unfit(dataset: Dataset) -> str | None:
    if not dataset.get("SOPInstanceUID") and not dataset.get("SOPClassUID") and not dataset.file_meta:
        return "not DICOM"
    if reason := refusal(dataset):
        return reason
    missing = [name for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID") if not dataset.get(name)]
    return f"no {missing[0]}" if missing else None


def _write(dataset: Dataset, out: Path) -> bool:
    """Write with a new file meta and an empty preamble, under a name that is given only when the file is whole.

    Returns False where the file is there.
    """
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    implicit, little = dataset.original_encoding
    syntax = getattr(dataset, "file_meta", FileMetaDataset()).get("TransferSyntaxUID")
    plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax or plain
    dataset.preamble = b"\0" * 128
    target = out / dataset.StudyInstanceUID / dataset.SeriesInstanceUID / f"{dataset.SOPInstanceUID}.dcm"
    if target.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(_UNFINISHED)
    try:
        dataset.save_as(unfinished, enforce_file_format=True)
    except Exception as error:  # pydicom writes a value as its type asks, and one that breaks it may raise anything,
        if isinstance(error, OSError) and error.errno is not None:  # an OSError without a number among them
            raise
        unfinished.unlink(missing_ok=True)
        raise RefusedError("a value cannot be written: the file breaks the standard") from None
    unfinished.replace(target)
    return True
