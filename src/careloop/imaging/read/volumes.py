"""An image of any format as a volume, and what lies at a path before anything is read from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from careloop import InputError
from careloop.imaging.finding import Finding, RefusedSeriesError
from careloop.imaging.read.nifti import SUFFIXES as NIFTI
from careloop.imaging.read.nifti import read_nifti
from careloop.imaging.read.picture import SUFFIXES as PICTURES
from careloop.imaging.read.picture import read_picture
from careloop.imaging.read.pixels import Progress
from careloop.imaging.read.series import FoundSeries, find_series, read_series, stacks_of
from careloop.imaging.volume import Volume, spacing_mm

LISTED = 20  # series named in a message


@dataclass(frozen=True)
class Choice:
    """Which image of those at a path: `series` by UID or by its number in `list_images`, `stack` in it, from 1.

    `modality` is what made a NIfTI file or a picture, which do not say it; of DICOM it chooses the series.
    """

    series: str = ""
    stack: int | None = None
    modality: str = ""


@dataclass(frozen=True)
class FoundVolume:
    """One volume of a series: how many slices, rows and columns, its spacing, how it differs from others beside it."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    varies: str
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class FoundImage:
    """One series (or file) at a path; `refused` says why it cannot be used, else `volumes` are what it holds."""

    number: int
    series: str
    kind: str
    modality: str
    body_part: str
    description: str
    files: int
    volumes: tuple[FoundVolume, ...] = ()
    refused: tuple[Finding, ...] = ()


def read_volume(path: Path, *, choice: Choice | None = None, progress: Progress | None = None) -> Volume:
    """The image at `path`: a DICOM series (folder, file or zip), a NIfTI file, or a PNG or JPEG picture.

    Raises:
        InputError: nothing readable there, or several images and no choice between them.
        RefusedSeriesError: the image must not be used; its findings say why.
    """
    choice = choice or Choice()
    if _ends(path, NIFTI):
        return read_nifti(path, modality=choice.modality)
    if _ends(path, PICTURES):
        return read_picture(path, modality=choice.modality)
    found = find_series(path, progress=progress)
    return read_series(_chosen(found, choice, path), stack=choice.stack, progress=progress)


def list_images(path: Path, *, progress: Progress | None = None) -> tuple[FoundImage, ...]:
    """What lies at `path`, from headers alone where it is DICOM; files and pictures of other formats are read.

    Raises InputError as `read_volume`, but refuses nothing: what cannot be used says so.
    """
    if _ends(path, NIFTI + PICTURES):
        return (_single(path),)
    found = find_series(path, progress=progress)
    return tuple(_described(number, series) for number, series in enumerate(found, start=1))


def _ends(path: Path, suffixes: tuple[str, ...]) -> bool:
    return path.name.lower().endswith(suffixes) and not path.is_dir()


def _chosen(found: Sequence[FoundSeries], choice: Choice, path: Path) -> FoundSeries:
    images = [(number, series) for number, series in enumerate(found, start=1) if series.kind == "image"]
    fitting = [
        series
        for number, series in images
        if choice.series in ("", series.series, str(number))
        and (choice.series or choice.modality in ("", series.modality))
    ]
    if len(fitting) == 1:
        return fitting[0]
    if not images:
        kinds = ", ".join(sorted({series.kind for series in found}))
        raise InputError(f"{path} holds no images, only: {kinds}; name a folder, a file or a zip with images")
    listed = "; ".join(f"{number}: {_words(series)}" for number, series in images[:LISTED])
    more = f"; and {len(images) - LISTED} more" if len(images) > LISTED else ""
    wanted = choice.series or choice.modality
    asked = f", and '{wanted}' names {len(fitting)} of them" if wanted else ""
    raise InputError(
        f"{path} holds {len(images)} series of images{asked}; choose one with --series, by number or UID "
        f"({listed}{more})"
    )


def _words(series: FoundSeries) -> str:
    said = [series.modality, series.description or series.body_part, f"{len(series.slices)} slices"]
    return " ".join(part for part in said if part)


def _described(number: int, series: FoundSeries) -> FoundImage:
    volumes: tuple[FoundVolume, ...] = ()
    refused: tuple[Finding, ...] = ()
    if series.kind == "image":
        try:
            volumes = tuple(
                FoundVolume(
                    (len(stack.slices), stack.slices[0].rows, stack.slices[0].columns),
                    spacing_mm(stack.affine),
                    ", ".join(f"{name} {value}" for name, value in stack.varies.items()),
                    stack.findings,
                )
                for stack in stacks_of(series)
            )
        except RefusedSeriesError as error:
            refused = error.findings
    return FoundImage(
        number=number,
        series=series.series,
        kind=series.kind,
        modality=series.modality,
        body_part=series.body_part,
        description=series.description,
        files=len(series.files) + len(series.unreadable),
        volumes=volumes,
        refused=refused,
    )


def _single(path: Path) -> FoundImage:
    try:
        volume = read_volume(path)
    except RefusedSeriesError as error:
        return FoundImage(1, "", "image", "", "", "", 1, refused=error.findings)
    z, y, x = volume.voxels.shape[:3]
    held = FoundVolume((z, y, x), volume.spacing_mm, "", volume.findings)
    return FoundImage(1, "", "image", volume.modality, "", "", 1, volumes=(held,))
