"""A patient's images restored: from files to a new volume, a derived DICOM series, and a page, each a stage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from careloop import InputError, __version__
from careloop.imaging.finding import SIMULATED, Finding
from careloop.imaging.pacs import Stored, store_files
from careloop.imaging.read.nifti import read_nifti
from careloop.imaging.read.volumes import Choice, read_volume
from careloop.imaging.restore.apply import RestorationTask, degradation_of, fitting, restore
from careloop.imaging.restore.bias_field import correct_bias_field
from careloop.imaging.restore.model import RestorationModel, read_restoration, shipped
from careloop.imaging.volume import Volume
from careloop.imaging.write.derived_series import (
    Derivation,
    DerivationFacts,
    check_derivable,
    write_derived_series,
)
from careloop.imaging.write.nifti import write_nifti
from careloop.report.restoration_page import RestorationFacts, write_restoration_page
from careloop.study.folder import RunFolder

if TYPE_CHECKING:
    Progress = Callable[[str, int, int], None]

RESTORED, ERROR, FACTS, DICOM, PAGE = (
    "restored.nii.gz",
    "expected_error.nii.gz",
    "restoration.json",
    "dicom",
    "report.html",
)
DERIVATIONS: dict[str, Derivation] = {
    "denoise": "noise reduction",
    "low-dose": "noise reduction",
    "deblur": "deblurring",
    "upsample": "resolution",
    "bias-field": "bias field correction",
}
TAKEN_OUT: dict[str, Literal["noise", "blur", "shading"]] = {
    "deblur": "blur",
    "upsample": "blur",
    "bias-field": "shading",
}
NO_SERIES = "derived series"  # the check that says why there is none
N4 = "N4 bias field correction (SimpleITK)"


@dataclass(frozen=True)
class RestoreTask:
    """What is to be restored, and how; `how` is None for the correction of an MR bias field.

    `model` is the folder of a model, None for the one that comes with careloop.
    """

    image: Path
    how: RestorationTask | None
    model: Path | None = None
    choice: Choice = field(default_factory=Choice)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class RestorationResult:
    """What a finished folder holds."""

    folder: Path
    volume: Volume
    facts: dict[str, Any]
    dicom: tuple[Path, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All that the checks found."""
        return tuple(Finding(**finding) for finding in self.facts["findings"])

    def send(self, url: str, *, progress: Progress | None = None) -> Stored:
        """Send the derived series to the PACS at `url` (STOW-RS)."""
        if not self.dicom:
            raise InputError(
                f"{self.folder} has no DICOM series to send: only CT, MR, PET and X-ray images that came as DICOM "
                "give one"
            )
        return store_files(url, self.dicom, progress=progress)


def restore_images(
    task: RestoreTask,
    out: Path,
    *,
    notify: Callable[[str, str], None] | None = None,
    progress: Progress | None = None,
) -> RestorationResult:
    """Restore an image and write all that comes of it to the folder `out`.

    restored.nii.gz, expected_error.nii.gz (where the network says it), restoration.json, dicom/ (a derived series,
    where the image is DICOM of a kind that gives one), report.html. A stage whose inputs have not changed is not run
    again. The original is not changed.

    Raises:
        RefusedSeriesError: the image must not be used, or is unlike what the model was trained on.
        InputError: the image or the model cannot be read, or they do not fit together.
    """
    folder = RunFolder.begin(out, notify=notify)
    volume = read_volume(task.image, choice=task.choice, progress=progress)
    if task.how is not None:
        task = replace(task, how=fitting(task.how, volume))
    model = _model(task)
    key = [_digest(volume), repr(task.how), model.made_by if model else N4]
    folder.stage(
        "restore",
        partial(_restore, task=task, volume=volume, model=model, progress=progress),
        writes=[RESTORED, FACTS, *([ERROR] if says_error(task.how) else [])],
        settings=key,
    )
    facts = json.loads((out / FACTS).read_text(encoding="utf-8"))
    result = RestorationResult(out, _restored(out, facts, volume), facts, ())
    if volume.source.instances and NO_SERIES not in {finding.check for finding in result.findings}:
        folder.stage(
            "dicom",
            partial(_write_dicom, result=result, original=volume),
            writes=[DICOM],
            settings=key,
            reads=[RESTORED, FACTS],
        )
        result = replace(result, dicom=tuple(sorted((out / DICOM).glob("*.dcm"))))
    folder.stage(
        "report",
        partial(_write_page, result=result, original=volume),
        writes=[PAGE],
        settings=key,
        reads=[RESTORED, FACTS],
    )
    return result


def says_error(how: RestorationTask | None) -> bool:
    """Whether the error to be expected comes with the result."""
    return how is not None and how.task in ("denoise", "low-dose")


def _model(task: RestoreTask) -> RestorationModel | None:
    if task.how is None:
        if task.model is not None:
            raise InputError("Correcting a bias field takes no model; leave --model out")
        return None
    return shipped(degradation_of(task.how)) if task.model is None else read_restoration(task.model)


def _digest(volume: Volume) -> str:
    digest = hashlib.blake2b(np.ascontiguousarray(volume.voxels).data, digest_size=16)
    digest.update(repr((volume.affine.tolist(), volume.unit, volume.modality, volume.source.instances)).encode())
    return digest.hexdigest()


def _restore(
    target: Path, *, task: RestoreTask, volume: Volume, model: RestorationModel | None, progress: Progress | None
) -> None:
    if task.how is None:
        corrected = correct_bias_field(volume)
        restored, error = corrected.volume, None
        said: dict[str, Any] = {"done": "slow change of brightness divided out", "made_by": N4, "levels": []}
    else:
        made = restore(volume, task.how, model=model, device=task.device, threads=task.threads, progress=progress)
        restored, error = replace(made.volume, findings=made.findings), made.expected_error
        said = {"done": made.description, "made_by": made.made_by, "levels": list(made.levels)}
    unfit = _no_series(restored)
    if unfit is not None:
        restored = replace(restored, findings=(*restored.findings, unfit))
    write_nifti(restored, target / RESTORED)
    if error is not None:
        write_nifti(replace(restored, voxels=error), target / ERROR)
    facts = said | {
        "task": "bias-field" if task.how is None else task.how.task,
        "findings": [asdict(finding) for finding in restored.findings],
        "affine": restored.affine.tolist(),
        "careloop": __version__,
        "not_for_clinical_use": True,
    }
    (target / FACTS).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _no_series(restored: Volume) -> Finding | None:
    """Why DICOM images give no derived series, None where they do or where the image is none."""
    if not restored.source.instances:
        return None
    try:
        check_derivable(restored, restored.source.files)
    except InputError as error:
        return Finding(NO_SERIES, "noted", f"none is written, the result is in {RESTORED}. {error}")
    return None


def _restored(out: Path, facts: dict[str, Any], volume: Volume) -> Volume:
    """The restored volume as it was written, with what the original says of itself."""
    voxels = read_nifti(out / RESTORED).voxels
    found = tuple(Finding(**finding) for finding in facts["findings"])
    return replace(volume, voxels=voxels, affine=np.array(facts["affine"]), findings=found)


def _write_dicom(target: Path, *, result: RestorationResult, original: Volume) -> None:
    (target / DICOM).mkdir()
    facts = result.facts
    what = DerivationFacts(facts["done"], facts["made_by"], derivation=DERIVATIONS[facts["task"]])
    write_derived_series(result.volume, original.source.files, target / DICOM, what=what)


def _write_page(target: Path, *, result: RestorationResult, original: Volume) -> None:
    error = result.folder / ERROR
    facts = RestorationFacts(
        original=original,
        restored=result.volume,
        done=result.facts["done"],
        made_by=result.facts["made_by"],
        expected_error=read_nifti(error).voxels.astype(np.float32) if error.exists() else None,
        levels=tuple(result.facts["levels"]),
        findings=result.findings,
        simulated=SIMULATED in original.findings,
        taken_out=TAKEN_OUT.get(result.facts["task"], "noise"),
    )
    write_restoration_page(facts, target / PAGE)
