"""A volume restored slice by slice: noise, blur or low resolution, with the error to be expected, or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from careloop import InputError
from careloop.imaging.finding import Finding, RefusedSeriesError
from careloop.imaging.read.units import HOUNSFIELD
from careloop.imaging.restore.adapt import adapted
from careloop.imaging.restore.blur import FWHM, gaussian_psf
from careloop.imaging.restore.grain import Grain, check_grain, check_low_dose, grain_of, noise_found, structure_of
from careloop.imaging.restore.intensities import IntensityRange, intensity_range
from careloop.imaging.restore.local_level import local_levels
from careloop.imaging.restore.model import Degradation, RestorationModel, shipped
from careloop.imaging.restore.noise_level import noise_sigma
from careloop.imaging.restore.plug_and_play import deblurred, upsampled
from careloop.imaging.restore.run import PlaneRestorer, RestoredPlane
from careloop.imaging.restore.white_noise import Whitened, whitened
from careloop.imaging.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Progress = Callable[[str, int, int], None]

Task = Literal["auto", "denoise", "low-dose", "deblur", "upsample"]
Noise = Literal["auto", "gaussian", "rician", "poisson"]
SQUARE = 0.02  # part by which the sides of a pixel may differ
MOST_ADAPTED_TO, MOST_TRIED = 64, 5  # slices that a network learns from, and of them those whose noise it tries before


@dataclass(frozen=True)
class RestorationTask:
    """What is to be restored; `auto` is the noise of low-dose CT for CT, and white or Rician noise for all else.

    `level` is the noise's standard deviation in the image's unit, estimated where None; for `poisson` it is not used:
    the image's values are photon counts times `gain`. `blur_mm` is the full width at half maximum of the blur, `factor`
    the number of new pixels along each old one. `adapt` lets the network learn from the image before it denoises it.
    """

    task: Task = "auto"
    noise: Noise = "auto"
    level: float | None = None
    gain: float = 1.0
    blur_mm: float = 0.0
    factor: int = 1
    adapt: bool = False

    def __post_init__(self) -> None:
        if self.task == "deblur" and not self.blur_mm > 0:
            raise InputError("Deblurring needs the width of the blur in mm (--blur-mm), above 0")
        if self.task == "upsample" and self.factor < 2:
            raise InputError(f"Upsampling needs a factor (--factor) of at least 2, got {self.factor}")
        if self.level is not None and self.level <= 0:
            raise InputError(f"A noise level (--level) must be above 0, got {self.level:g}")


@dataclass(frozen=True)
class Restoration:
    """A restored volume in the units of the original, and where it came from.

    `expected_error` has the volume's shape and unit: the absolute error that the network expects at each voxel; None
    where it has none (deblurring, upsampling). `levels` are the noise levels of the slices in that unit.
    """

    volume: Volume
    expected_error: NDArray[np.float32] | None
    levels: tuple[float, ...]
    task: RestorationTask
    made_by: str
    findings: tuple[Finding, ...]

    @property
    def description(self) -> str:
        """What was done, for a DICOM header and a report."""
        done = {"denoise": "noise reduced", "low-dose": "low-dose CT noise reduced", "deblur": "sharpened",
                "upsample": f"resolution raised {self.task.factor} times"}  # fmt: skip
        return f"{done[self.task.task]} by {self.made_by}" + (", adapted to the image" if self.task.adapt else "")


def restore(
    volume: Volume,
    task: RestorationTask,
    *,
    model: RestorationModel | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
) -> Restoration:
    """Restore every slice of a volume, with the model that comes with careloop unless another is given.

    Raises:
        RefusedSeriesError: the image or its noise is unlike what the model was trained on.
        InputError: the model is for something else, or the image cannot be restored.
    """
    task = fitting(task, volume)
    model = model or shipped(degradation_of(task))
    if model.said.degradation != degradation_of(task):
        raise InputError(
            f"The model takes out {model.said.degradation}, and the task is {task.task}; give another model or none"
        )
    findings = _check_input(volume, model)
    plan = _Plan(volume, task, intensity_range(volume), PlaneRestorer(model, device, threads))
    if task.adapt:
        plan.adapt(progress)
    planes = []
    for number, plane in enumerate(volume.voxels, start=1):
        planes.append(plan.restored(plane))
        if progress is not None:
            progress("restoring slices", number, len(volume.voxels))
    if plan.untouched == len(volume.voxels):
        hidden = (
            "the noise of reconstructed CT needs --task low-dose"
            if volume.modality == "CT"
            else "an image that was smoothed or interpolated hides it"
        )
        found = f"no {task.noise} noise was found to take out: {hidden}; else state the level (--level)"
        findings.append(Finding("noise level", "refused", found))
    findings += check_grain(plan.grains) + check_low_dose(plan.structures)
    if any(finding.verdict == "refused" for finding in findings):
        raise RefusedSeriesError("The image", findings)
    return _result(plan, planes, model, findings)


def fitting(task: RestorationTask, volume: Volume) -> RestorationTask:
    """The task with what `auto` means for this image put in its place."""
    chosen = task if task.task != "auto" else replace(task, task="low-dose" if volume.modality == "CT" else "denoise")
    if chosen.adapt and chosen.task != "denoise":
        raise InputError(
            f"Only denoising can be adapted to an image, as it needs white noise, but the task is {chosen.task}; "
            "leave --adapt out, or say --task denoise"
        )
    if chosen.noise != "auto":
        return chosen
    return replace(chosen, noise="rician" if volume.modality == "MR" else "gaussian")


def degradation_of(task: RestorationTask) -> Degradation:
    """What the model of a task must take out."""
    return "low-dose CT" if task.task == "low-dose" else "gaussian noise"


def _check_input(volume: Volume, model: RestorationModel) -> list[Finding]:
    """Refusals and notes before anything is computed."""
    said, found = model.said, []
    if said.degradation == "low-dose CT" and volume.modality != "CT":
        kind = volume.modality or "unknown modality"
        found.append(Finding("modality", "refused", f"the model is for CT, got {kind}; say --modality CT if it is one"))
    elif said.degradation == "low-dose CT" and volume.unit != HOUNSFIELD:
        words = (
            "values are not in Hounsfield units: a localizer, a picture, or a file without rescale slope and intercept"
        )
        found.append(Finding("Hounsfield units", "refused", words))
    elif said.modalities and volume.modality and volume.modality not in said.modalities:
        known = ", ".join(said.modalities)
        found.append(Finding("modality", "refused", f"the model was trained on {known}, got {volume.modality}"))
    if len(np.unique(volume.voxels[len(volume.voxels) // 2])) < 16:
        found.append(Finding("grey values", "refused", "the image has fewer than 16 grey values: it is no scan"))
    if found:
        raise RefusedSeriesError("The image", found)
    return []


@dataclass
class _Plan:
    """How the slices of one volume are restored."""

    volume: Volume
    task: RestorationTask
    range: IntensityRange
    restorer: PlaneRestorer

    def __post_init__(self) -> None:
        self.levels: list[float] = []
        self.untouched = 0  # slices without noise to take out
        self.grains: list[Grain] = []  # what was taken out of slices with white noise
        self.structures: list[float] = []  # how what was taken out of low-dose CT follows outlines

    def restored(self, plane: NDArray[np.generic]) -> RestoredPlane:
        """A slice in the volume's unit."""
        values = np.asarray(plane, np.float64)
        if self.task.task == "low-dose":
            return self._low_dose(values)
        if self.task.task == "denoise":
            return self._denoised(plane)
        return self._sharper(values)

    def _low_dose(self, values: NDArray[np.float64]) -> RestoredPlane:
        scaled = self.range.scaled(values)
        found = self.restorer.averaged(scaled, local_levels(scaled, self.restorer.model.said.level_maps))
        self.levels.append(noise_found(scaled, found) * (self.range.high - self.range.low))
        structure = structure_of(scaled, found)
        self.structures += [structure] if structure is not None else []
        return RestoredPlane(self.range.unscaled(found.plane), self.range.width(found.expected_error))

    def adapt(self, progress: Progress | None) -> None:
        """Let the network learn from the slices that have noise to take out, at equal distances where they are many.

        Raises:
            RefusedSeriesError: the noise of some of them is unlike that of training; adapting takes too long to find
                out afterwards.
        """
        voxels = self.volume.voxels
        noisy = [
            white.noisy
            for white in map(self._whitened, voxels[_spread(len(voxels), MOST_ADAPTED_TO)])
            if white.noisy is not None
        ]
        tried = [noisy[k] for k in _spread(len(noisy), MOST_TRIED)]
        grains = [grain_of(one.plane, self.restorer(one.plane, one.level), one.level) for one in tried]
        refusals = check_grain([grain for grain in grains if grain is not None])
        if refusals:
            raise RefusedSeriesError("The image", refusals)
        if noisy:
            self.restorer = adapted(self.restorer, noisy, progress=progress)

    def _denoised(self, plane: NDArray[np.generic]) -> RestoredPlane:
        white = self._whitened(plane)
        self.levels.append(white.level)
        if white.noisy is None:
            self.untouched += 1
            return RestoredPlane(np.asarray(plane, np.float32), np.zeros(plane.shape, np.float32))
        noisy, level = white.noisy.plane, white.noisy.level
        found = self.restorer.averaged(noisy, level)
        grain = grain_of(noisy, found, level)
        self.grains += [grain] if grain is not None else []
        return white.in_unit(found)

    def _whitened(self, plane: NDArray[np.generic]) -> Whitened:
        """The slice with white noise, of a level that the model was trained on."""
        task, values = self.task, np.asarray(plane, np.float64)
        assert task.noise != "auto"
        white = whitened(values, task.noise, self.range, level=task.level, gain=task.gain)
        if white.noisy is not None:
            self._check_level(white.noisy.level)
        return white

    def _sharper(self, values: NDArray[np.float64]) -> RestoredPlane:
        scaled = self.range.scaled(values)
        level = self.task.level if self.task.level is not None else noise_sigma(values)
        self.levels.append(level)
        level /= self.range.high - self.range.low
        spacing = self.volume.spacing_mm[1:]
        if abs(spacing[0] / spacing[1] - 1) > SQUARE:
            raise InputError(
                "Deblurring and upsampling need square pixels, got "
                f"{spacing[0]:.4g} x {spacing[1]:.4g} mm; resample first"
            )
        factor = self.task.factor if self.task.task == "upsample" else 1
        blur_mm = self.task.blur_mm or spacing[0]  # without another word, a pixel's own width
        kernel = gaussian_psf(blur_mm / FWHM / (spacing[0] / factor))

        def denoise(plane: NDArray[np.floating[Any]], step_level: float) -> NDArray[np.float32]:
            return self.restorer(plane, step_level).plane

        if factor == 1:
            sharp = deblurred(scaled, kernel, level, denoise=denoise)
        else:
            sharp = upsampled(scaled, kernel, level, factor=factor, denoise=denoise)
        return RestoredPlane(self.range.unscaled(sharp), np.zeros((0, 0), np.float32))

    def _check_level(self, level: float) -> None:
        highest = self.restorer.model.said.levels[1]
        if level > highest * 1.05:
            raise RefusedSeriesError(
                "The image",
                [Finding("noise level", "refused", f"noise of {level:.2f} of the image's range is above the "
                         f"{highest:.2f} that the model was trained up to")],
            )  # fmt: skip


def _spread(count: int, most: int) -> NDArray[np.intp]:
    """At most so many of the indices below `count`, at equal distances."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.intp)


def _result(plan: _Plan, planes: list[RestoredPlane], model: RestorationModel, findings: list[Finding]) -> Restoration:
    voxels = np.stack([restored.plane for restored in planes])
    has_error = plan.task.task in ("denoise", "low-dose")
    affine = plan.volume.affine
    if plan.task.task == "upsample":
        finer = np.diag([1.0, 1 / plan.task.factor, 1 / plan.task.factor, 1.0])
        affine = affine @ finer
    changed = "every pixel" if not plan.untouched else "every pixel of the slices that have noise"
    notes = [Finding("restored", "noted", f"a network changed {changed}; compare with the original before any use")]
    if plan.untouched:
        words = f"{plan.untouched} of {len(voxels)} slices have no noise to take out and are as they were"
        notes.append(Finding("noise level", "noted", words))
    return Restoration(
        volume=replace(plan.volume, voxels=voxels, affine=affine),
        expected_error=np.stack([restored.expected_error for restored in planes]) if has_error else None,
        levels=tuple(plan.levels),
        task=replace(plan.task, adapt=plan.restorer.network is not None),
        made_by=model.made_by,
        findings=(*plan.volume.findings, *findings, *notes),
    )
