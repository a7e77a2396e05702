"""Whether an image is what a classification model was made for: modality, part of the body, view, and its slices."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from careloop import InputError
from careloop.imaging.finding import Finding, RefusedSeriesError
from careloop.imaging.gate.expected import check_expected
from careloop.imaging.gate.headers import said as quoted
from careloop.imaging.read.files import Files, UnreadableError
from careloop.imaging.volume import Volume

if TYPE_CHECKING:
    from careloop.imaging.classify.model import ClassifierFile

HOUNSFIELD = "Hounsfield units"  # the gate's name for that check
# Words of ViewPosition (0018,5101), PS3.3 C.8.1.1.1 and C.8.7.2, that say the same.
ALIKE = {"LL": "LATERAL", "RL": "LATERAL", "LLD": "LATERAL", "RLD": "LATERAL", "LAT": "LATERAL", "L": "LATERAL"}


def check_image(volume: Volume, said: ClassifierFile) -> tuple[Finding, ...]:
    """What is noted of an image for this model.

    Raises:
        RefusedSeriesError: another modality, part of the body or view, or a CT without the Hounsfield units that the
            model's window needs; its findings say which.
    """
    return (*_modality_and_part(volume, said), *_view(volume, said), *_form(volume, said))


def _modality_and_part(volume: Volume, said: ClassifierFile) -> tuple[Finding, ...]:
    """By the gate's check, for the first of the model's modalities that it lets through."""
    grey = replace(volume, voxels=volume.voxels[..., 0]) if volume.voxels.ndim == 4 else volume
    refusals: list[RefusedSeriesError] = []
    for modality in said.modalities or ("",):
        try:
            return check_expected([grey], modalities=[modality], body_parts=said.body_parts, channels=["the model"])
        except RefusedSeriesError as error:
            refused = {finding.check for finding in error.findings if finding.verdict == "refused"}
            if refused == {HOUNSFIELD} and said.input.intensities.rule != "window":
                return tuple(finding for finding in error.findings if finding.verdict != "refused")
            refusals.append(error)
    raise refusals[0]


def _view(volume: Volume, said: ClassifierFile) -> tuple[Finding, ...]:
    if not said.views:
        return ()
    wanted, view = {_plain(view) for view in said.views}, view_of(volume)
    listed = " or ".join(said.views)
    if not view:
        return (Finding("wrong view", "noted", f"the file names no view; it is taken for the {listed} it should be"),)
    if _plain(view) not in wanted:
        message = f"the model was made for {listed} views and this is {quoted(view)}"
        raise RefusedSeriesError("the image", [Finding("wrong view", "refused", message)])
    return ()


def _plain(view: str) -> str:
    word = view.strip().upper()
    return ALIKE.get(word, word)


def view_of(volume: Volume) -> str:
    """The view position that the image's DICOM header names; empty where there is none."""
    if not volume.source.instances or not volume.source.files:
        return ""
    try:
        import pydicom
    except ImportError as error:
        raise InputError('Reading DICOM needs pydicom: pip install "careloop[imaging]"') from error
    try:
        with Files() as files, files.open(volume.source.files[0]) as (file, _):
            # The volume was read from it, so it is DICOM even where it lacks the preamble that says so.
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["ViewPosition"], force=True)
    except (UnreadableError, ValueError):
        return ""
    return str(header.get("ViewPosition") or "")


def _form(volume: Volume, said: ClassifierFile) -> tuple[Finding, ...]:
    """Colour that is turned into grey, and slices that are each classified by a model of pictures."""
    found = []
    if volume.voxels.ndim == 4 and said.input.channels == 1:
        found.append(Finding("colour", "handled", "the model takes grey values: colour was turned into grey"))
    slices = len(volume.voxels)
    if said.input.dimensions == 2 and slices > 1:
        message = f"the model takes pictures: each of the {slices} slices was classified on its own"
        found.append(Finding("several slices", "noted", message))
    return tuple(found)
