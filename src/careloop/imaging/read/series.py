"""DICOM series below a path: found by their headers alone, and read into volumes whose geometry was checked."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from careloop import InputError
from careloop.imaging.finding import SIMULATED, Finding, RefusedSeriesError
from careloop.imaging.gate import check_pixels, check_slices
from careloop.imaging.read.described import SeriesText
from careloop.imaging.read.files import Files, UnreadableError, file_names, short_name
from careloop.imaging.read.headers import FileHeader, Kind, SeriesKey, UnreadableSliceError, read_header
from careloop.imaging.read.pixels import Progress, read_voxels
from careloop.imaging.read.units import padding_findings, physical_scale
from careloop.imaging.slices import SliceHeader, Stack
from careloop.imaging.volume import Source, Volume

Unreadable = tuple[str, str]  # a file's name, and why it cannot be used
_NAMED = 3  # files named in a message that may concern many


@dataclass(frozen=True)
class FoundSeries:
    """One series as its headers describe it; pixels are not read yet.

    `series` and `study` are UIDs, `description` is free text without the patient's name and identifier. `slices` are
    empty for all but images, `files` are the names of all readable files. `unreadable` are files of this series that
    cannot be used, `beside` those in the same folders that do not say to which series they belong.
    """

    series: str
    study: str
    modality: str
    kind: Kind
    body_part: str
    description: str
    files: tuple[str, ...]
    slices: tuple[SliceHeader, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    beside: tuple[Unreadable, ...] = ()
    headers: Mapping[str, FileHeader] = field(default_factory=dict, repr=False)

    @property
    def where(self) -> str:
        """What the series is called in messages: its folder (or file) and modality, never whose it is."""
        first = self.files[0] if self.files else self.unreadable[0][0]
        place = first if len(self.files) + len(self.unreadable) == 1 else _folder(first)
        return f"{place} ({self.modality or self.kind})"


@dataclass(frozen=True)
class Survey:
    """All that is below a path: its series, DICOM files that belong to none, and what was passed over, with counts."""

    series: tuple[FoundSeries, ...]
    unreadable: tuple[Unreadable, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)


def find_series(path: Path, *, progress: Progress | None = None) -> tuple[FoundSeries, ...]:
    """Return the series in a folder, a file or a zip, from headers alone; those with most slices come first.

    Raises:
        InputError: no such path, no DICOM file that can be read, or pydicom is not installed.
    """
    found = survey(path, progress=progress)
    if found.series:
        return found.series
    passed = ", ".join(f"{count} {what}" for what, count in found.skipped.items()) or "no files"
    if found.unreadable:
        passed += f"; {_listed(found.unreadable)}"
    raise InputError(f"{path}: no DICOM series here ({passed}); name a folder, a file or a zip of DICOM files")


def survey(path: Path, *, progress: Progress | None = None) -> Survey:
    """Return what is below a path, series or not; raises InputError where it does not exist or pydicom is missing."""
    try:
        import pydicom  # noqa: F401
    except ImportError:
        raise InputError('DICOM needs pydicom: pip install "careloop[imaging]"') from None
    headers: list[FileHeader] = []
    broken: dict[SeriesKey, list[Unreadable]] = {}
    texts: dict[SeriesKey, SeriesText] = {}
    unreadable: list[Unreadable] = []
    skipped: Counter[str] = Counter()
    names = list(file_names(path))
    with Files() as files, warnings.catch_warnings(action="ignore"):
        for done, name in enumerate(names, start=1):
            try:
                header = read_header(name, files, texts)
            except UnreadableSliceError as error:
                broken.setdefault(error.key, []).append((name, str(error)))
            except UnreadableError as error:
                unreadable.append((name, str(error)))
            else:
                if header is None:
                    skipped["files that are not DICOM images or objects"] += 1
                else:
                    headers.append(header)
            if progress:
                progress("headers read", done, len(names))
    return Survey(_gathered(headers, broken, unreadable), tuple(unreadable), dict(skipped))


def _gathered(
    headers: Sequence[FileHeader],
    broken: Mapping[SeriesKey, list[Unreadable]],
    unreadable: Sequence[Unreadable],
) -> tuple[FoundSeries, ...]:
    """Files by patient, study, series and kind; a file that names no series is one of its own."""
    groups: dict[tuple[object, ...], list[FileHeader]] = {}
    for header in headers:
        own = "" if header.key[2] else header.file
        groups.setdefault((*header.key, header.kind, own), []).append(header)
    taken: set[SeriesKey] = set()
    found = []
    for group in groups.values():
        key = group[0].key
        is_image = group[0].kind == "image" and bool(key[2])
        found.append(_series(group, broken.get(key, []) if is_image else [], unreadable))
        taken |= {key} if is_image else set()
    for key, files in broken.items():
        if key not in taken:
            found.append(FoundSeries(key[2], key[1], "", "image", "", "", (), unreadable=tuple(files)))
    return tuple(sorted(found, key=lambda s: (-len(s.slices), s.files or s.unreadable[0])))


def _series(group: Sequence[FileHeader], broken: Sequence[Unreadable], unreadable: Sequence[Unreadable]) -> FoundSeries:
    first = group[0]
    _, study, series = first.key
    folders = {_folder(header.file) for header in group}
    return FoundSeries(
        series=series,
        study=study,
        modality=first.modality,
        kind=first.kind,
        body_part=first.text.body_part,
        description=first.text.description,
        files=tuple(header.file for header in group),
        slices=tuple(s for header in group for s in header.slices),
        unreadable=tuple(broken),
        beside=tuple(entry for entry in unreadable if _folder(entry[0]) in folders),
        headers={header.file: header for header in group},
    )


def _folder(name: str) -> str:
    archive, mark, member = name.partition("!")
    return f"{archive}!{PurePosixPath(member).parent}" if mark else str(Path(name).parent)


def stacks_of(found: FoundSeries) -> tuple[Stack, ...]:
    """Return the volumes that a series of images holds, in the gate's order, each with its checked geometry.

    Raises:
        RefusedSeriesError: the gate refuses the series, or files of it cannot be used.
        InputError: the series holds no images.
    """
    if found.kind != "image":
        raise InputError(f"{found.where} holds no images, got {found.kind}; read it by what reads that kind")
    if found.unreadable:
        message = f"{len(found.unreadable)} of its files cannot be used: {_listed(found.unreadable)}"
        raise RefusedSeriesError(found.where, [Finding("unreadable slices", "refused", message)])
    return check_slices(found.slices, where=found.where, modality=found.modality)


def read_series(found: FoundSeries, *, stack: int | None = None, progress: Progress | None = None) -> Volume:
    """Return a series of images as a volume in physical units; its findings say what was noted and put right.

    Values: CT in Hounsfield units, PET in SUV by body weight (else Bq/mL), RT dose in Gy; whole numbers stay whole. A
    value that pads the outside of the field of view is kept, as SimpleITK and dcm2niix keep it. `stack` says which
    volume of a series that holds several, from 1 (`stacks_of`); `progress` is called with what is done, how much of it,
    and of how much.

    Raises:
        RefusedSeriesError: geometry, headers or pixels by which no volume can be trusted.
        InputError: the series holds several volumes and none was chosen, or no images; it is above the limit of size.
    """
    stacks = stacks_of(found)
    chosen = _chosen(stacks, stack, found.where)
    headers = [found.headers[s.file] for s in chosen.slices]
    scales, unit, findings = physical_scale(chosen.slices, headers, modality=found.modality)
    layouts = {header.file: header.layout for header in headers if header.layout is not None}
    voxels, of_pixels = read_voxels(
        chosen.slices, layouts, scales, where=found.where, inverted=not unit, progress=progress
    )
    findings += [*padding_findings(chosen.slices, headers), *of_pixels]
    findings += check_pixels(voxels, chosen.slices, where=found.where, modality=found.modality)
    if not chosen.placed and len(chosen.slices) > 1:
        message = f"{len(chosen.slices)} frames without a place each (a film or several pictures), in their order"
        findings.append(Finding("cine", "noted", message))
    if any("SIMULATED" in header.image_type for header in chosen.slices):
        findings.append(SIMULATED)
    if found.beside:
        message = f"{len(found.beside)} files beside it cannot be read, and may belong to it: {_listed(found.beside)}"
        findings.append(Finding("unreadable files", "noted", message))
    return Volume(
        voxels=voxels,
        affine=chosen.affine,
        modality=found.modality,
        unit=unit,
        body_part=found.body_part,
        placed=chosen.placed,
        source=_source(chosen, headers),
        findings=tuple(dict.fromkeys([*chosen.findings, *findings])),
    )


def _chosen(stacks: Sequence[Stack], number: int | None, where: str) -> Stack:
    if number is None and len(stacks) == 1:
        return stacks[0]
    if number is not None and 1 <= number <= len(stacks):
        return stacks[number - 1]
    listed = "; ".join(f"{n}: {_varies(stack)}" for n, stack in enumerate(stacks, start=1))
    got = "none" if number is None else str(number)
    raise InputError(
        f"{where} holds {len(stacks)} volumes, so a stack from 1 to {len(stacks)} is needed, got {got} ({listed})"
    )


def _varies(stack: Stack) -> str:
    values = ", ".join(f"{name} {value}" for name, value in stack.varies.items())
    return f"{values or 'the only one'}, {len(stack.slices)} slices"


def _source(stack: Stack, headers: Sequence[FileHeader]) -> Source:
    first = headers[0]
    _, study, series = first.key
    names = [s.file for s in stack.slices]
    acquired = [header.acquired for header in headers if header.acquired]
    return Source(
        files=tuple(names) if len(set(names)) > 1 else (names[0],),
        study=study,
        series=series,
        frame_of_reference=first.frame_of_reference,
        instances=tuple(s.instance for s in stack.slices),
        frames=tuple(s.frame + 1 for s in stack.slices),
        patient_id=first.text.patient,
        acquired=min(acquired, default=None),
    )


def _listed(files: Sequence[Unreadable]) -> str:
    named = "; ".join(f"{short_name(name)}: {why}" for name, why in files[:_NAMED])
    return named + (f"; and {len(files) - _NAMED} more" if len(files) > _NAMED else "")
