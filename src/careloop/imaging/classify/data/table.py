"""A table of images and labels (CSV or parquet): columns checked, rows that cannot be used set aside with the reason.

`image` is the path of a NIfTI file, a picture, a DICOM file, folder or zip, relative to the table. Labels are one
column `label` with a name each, or one column of 0 and 1 a label, in which a blank (or CheXpert's -1) says that nobody
knows. `subject_id` (or `patient`) is whose image it is. Optional are `split` (train, tuning, held_out, or the usual
other words for them), `view`, `modality` of files that do not say it, and columns that divide the rows for evaluation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from careloop import InputError
from careloop.imaging.classify.data.dataset import HELD_OUT, MISSING, TRAIN, TUNING, VIEW, ImageDataset, RejectedRow
from careloop.imaging.classify.model import Labels
from careloop.imaging.read.volumes import Choice, read_volume

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from careloop.imaging.volume import Volume

SUFFIXES = (".csv", ".parquet")
IMAGE, LABEL, SPLIT, MODALITY = "image", "label", "split", "modality"
SUBJECT = ("subject_id", "patient")
SPLIT_WORDS = {
    TRAIN: TRAIN, "training": TRAIN,
    TUNING: TUNING, "val": TUNING, "valid": TUNING, "validation": TUNING, "tune": TUNING,
    HELD_OUT: HELD_OUT, "test": HELD_OUT, "testing": HELD_OUT, "held-out": HELD_OUT,
}  # fmt: skip
VALUES = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "false": 0.0, "true": 1.0}
UNKNOWN = ("", "-1", "-1.0", "nan")
MOST_WRONG = 0.1  # a column in which more of the filled cells are neither 0 nor 1 is no label
BY_FILE = "Split by file: nothing says which images are of one patient, so figures may be too good."


@dataclass(frozen=True)
class Columns:
    """What of a table is used, where its names do not say it.

    `labels` are columns of 0 and 1, empty for all that are nothing else; `groups` divide the rows for evaluation.
    `split_by` says what is never in two splits: a subject, or a file where nobody knows whose the images are.
    """

    labels: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    split_by: Literal["subject", "file"] = "subject"


@dataclass(frozen=True)
class TableImages:
    """Image files, and the modality that the table says each has."""

    paths: tuple[Path, ...]
    modality: tuple[str, ...]

    def volumes(self, places: Sequence[int]) -> Iterator[tuple[int, Volume | str]]:
        """See `Images`; whatever goes wrong with one file is told and the others are read."""
        for place in places:
            yield place, self._read(place)

    def _read(self, place: int) -> Volume | str:
        path = self.paths[place]
        try:
            return read_volume(path, choice=Choice(modality=self.modality[place]))
        except InputError as error:
            return str(error).replace(str(path), "the image")
        except Exception as error:  # a codec's failure over one file is no reason to lose the others
            return f"the image cannot be read ({type(error).__name__})"


def open_table(path: Path, columns: Columns | None = None) -> ImageDataset:
    """The data set that a table lists; no image is read yet.

    Raises:
        InputError: the table cannot be read, lacks a column, says of nobody whose the images are, or has a label column
            with other values.
    """
    columns, cells = columns or Columns(), _cells(path)
    has_subject = [name for name in SUBJECT if name in cells]
    if IMAGE not in cells:
        raise InputError(f"{path} must have a column '{IMAGE}' with the path of each image, got {', '.join(cells)}")
    if not has_subject and columns.split_by == "subject":
        raise InputError(
            f"{path} has no column {' or '.join(SUBJECT)}, so that one patient's images could be in training and in "
            "evaluation; add it, or split by file and accept figures that may be too good"
        )
    by_file = columns.split_by == "file"
    reasons = [""] * len(cells[IMAGE])
    labels, target = _target(path, cells, columns, reasons)
    subject = np.array(cells[IMAGE] if by_file else cells[has_subject[0]], dtype=str)
    split = _split(cells, reasons)
    files = tuple(path.parent / name for name in cells[IMAGE])
    for place, file in enumerate(files):
        if not cells[IMAGE][place] or not file.exists():
            reasons[place] = reasons[place] or "there is no file at its path"
        elif not subject[place]:
            reasons[place] = reasons[place] or f"it has no {has_subject[0]}"
    rows = np.arange(1, len(files) + 1)
    modality = tuple(cells.get(MODALITY, [""] * len(files)))
    whole = ImageDataset(
        path=path,
        name=path.stem,
        labels=labels,
        images=TableImages(files, modality),
        rows=rows,
        places=rows - 1,
        subject_id=subject,
        target=target,
        split=split,
        digest=_digest(cells, files),
        groups=_groups(path, cells, columns),
        one_image_each=by_file,
        notes=(BY_FILE,) if by_file else (),
    )
    return whole.without([RejectedRow(int(row), reason) for row, reason in zip(rows, reasons, strict=True) if reason])


def _cells(path: Path) -> dict[str, list[str]]:
    """Every column as text without blanks around it; empty for missing."""
    import polars as pl

    try:
        if path.suffix.lower() == ".parquet":
            frame = pl.read_parquet(path)
        else:
            frame = pl.read_csv(path, infer_schema=False, encoding="utf8")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"{path} cannot be read as a table: {str(error).splitlines()[0]}") from error
    if not len(frame):
        raise InputError(f"{path} has no rows")
    return {name.strip().lstrip("\ufeff"): _text(frame[name]) for name in frame.columns}


def _text(column: pl.Series) -> list[str]:
    import polars as pl

    if column.dtype.is_nested() or column.dtype == pl.Binary:
        return [""] * len(column)
    return column.cast(pl.String).fill_null("").str.strip_chars().to_list()


def _target(
    path: Path, cells: Mapping[str, list[str]], columns: Columns, reasons: list[str]
) -> tuple[Labels, NDArray[np.float32]]:
    """The labels and each row's target; a row's reason is set where it has none."""
    if LABEL in cells and not columns.labels:
        return _single(cells[LABEL], reasons)
    known = {IMAGE, LABEL, SPLIT, MODALITY, VIEW, *SUBJECT, *columns.groups}
    names = columns.labels or tuple(name for name in cells if name not in known)
    missing = [name for name in names if name not in cells]
    if missing or not names:
        needed = f"the label columns {', '.join(missing)}" if missing else f"a column '{LABEL}' or columns of 0 and 1"
        raise InputError(f"{path} must have {needed}, got {', '.join(cells)}")
    target = np.full((len(reasons), len(names)), np.nan, dtype=np.float32)
    for at, name in enumerate(names):
        filled = [(row, cell) for row, cell in enumerate(cells[name]) if cell.lower() not in UNKNOWN]
        wrong = [row for row, cell in filled if cell.lower() not in VALUES]
        if not filled or len(wrong) > MOST_WRONG * len(filled):
            raise InputError(
                f"{path}: column '{name}' must hold 0, 1 or a blank (unknown) to be a label, but {len(wrong)} of "
                f"{len(filled)} filled cells do not; name the label columns, or take this one out of the table"
            )
        for row, cell in filled:
            target[row, at] = VALUES.get(cell.lower(), np.nan)
        for row in wrong:
            reasons[row] = reasons[row] or f"column '{name}' holds neither 0 nor 1 nor a blank"
    for row in np.flatnonzero(np.isnan(target).all(axis=1)).tolist():
        reasons[row] = reasons[row] or "none of its labels is known"
    return Labels(names, "multi"), target


def _single(cells: list[str], reasons: list[str]) -> tuple[Labels, NDArray[np.float32]]:
    """Names in order, by number where all are whole numbers."""
    found = set(cells) - {""}
    names = tuple(sorted(found, key=int) if all(name.isdecimal() for name in found) else sorted(found))
    place = {name: at for at, name in enumerate(names)}
    target = np.zeros((len(cells), len(names)), dtype=np.float32)
    for row, name in enumerate(cells):
        if name:
            target[row, place[name]] = 1.0
        else:
            reasons[row] = reasons[row] or "it has no label"
    return Labels(names, "single"), target


def _split(cells: Mapping[str, list[str]], reasons: list[str]) -> NDArray[np.str_]:
    """Each row's split, empty where the table has no such column."""
    split = np.full(len(reasons), "", dtype="<U8")
    for row, cell in enumerate(cells.get(SPLIT, [])):
        split[row] = SPLIT_WORDS.get(cell.lower(), "")
        if not split[row]:
            reasons[row] = reasons[row] or f"its split is none of {TRAIN}, {TUNING}, {HELD_OUT}"
    return split


def _groups(path: Path, cells: Mapping[str, list[str]], columns: Columns) -> dict[str, NDArray[np.str_]]:
    names = [*([VIEW] if VIEW in cells else []), *(name for name in columns.groups if name != VIEW)]
    missing = [name for name in names if name not in cells]
    if missing:
        raise InputError(f"{path} has no column {', '.join(missing)} to divide the rows by, got {', '.join(cells)}")
    return {name: np.array([cell or MISSING for cell in cells[name]], dtype=str) for name in names}


def _digest(cells: Mapping[str, list[str]], files: Sequence[Path]) -> str:
    """SHA-256 over every cell, and the size and time of every file."""
    known = hashlib.sha256(repr(sorted(cells.items())).encode())
    for file in files:
        facts = file.stat() if file.exists() else None
        known.update(f"{facts.st_size} {facts.st_mtime_ns}\n".encode() if facts else b"missing\n")
    return known.hexdigest()
