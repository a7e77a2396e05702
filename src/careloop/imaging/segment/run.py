"""A model run over a patient's images: check, prepare, slide the networks, decide; time and memory of each stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from careloop import InputError
from careloop.imaging.finding import Finding
from careloop.imaging.gate.expected import check_expected
from careloop.imaging.segment.decide import Decision
from careloop.imaging.segment.memory import check_memory, needed_bytes
from careloop.imaging.segment.model import SegmentationModel
from careloop.imaging.segment.partial import Partial, state_key
from careloop.imaging.segment.prepare import Prepared, prepare
from careloop.imaging.segment.runtime import Network, open_network
from careloop.imaging.segment.slabs import Slab, scores_by_slab
from careloop.imaging.segment.stages import Stage, Stages
from careloop.imaging.upright import tilted, upright
from careloop.imaging.volume import LabelMap, Volume

if TYPE_CHECKING:
    Progress = Callable[[str, int, int], None]

SLICES_AT_ONCE = 4  # a 2D network's patches in one call, whose fixed costs are large beside a small patch


@dataclass(frozen=True)
class RunSettings:
    """How a model is run; what is not set is as it was trained.

    `threads` None is all cores. `mirroring` off takes a quarter (2D) or an eighth (3D) of the time at some loss of
    accuracy; so does one `network` of an ensemble (a number from 0). In `resume_in`, a folder, a run that is stopped
    leaves what it has finished, and the same run goes on from there.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = None
    mirroring: Literal["as trained", "off"] = "as trained"
    network: int | None = None
    resume_in: Path | None = None


@dataclass(frozen=True)
class Segmentation:
    """Labels on the first volume's grid; `backend` is what ran the networks, `findings` what was noted or handled."""

    label_map: LabelMap
    stages: tuple[Stage, ...]
    backend: str
    findings: tuple[Finding, ...]


def segment(
    volumes: Sequence[Volume],
    model: SegmentationModel,
    *,
    settings: RunSettings | None = None,
    progress: Progress | None = None,
) -> Segmentation:
    """Label the structures that a model knows in the images of one patient, one volume a channel, all on one grid.

    `progress` is told `tiles`, how many are done, and how many there are.

    Raises:
        RefusedSeriesError: an image of another modality or body part than the model takes.
        InputError: another number of images, images on different grids, too little memory, or an unknown device.
    """
    settings = settings or RunSettings()
    model = _as_set(model, settings)
    findings = check_expected(
        volumes, modalities=model.modalities, body_parts=model.body_parts, channels=model.channels
    )
    stages = Stages()
    with stages.stage("prepare"):
        straight = [upright(volume) for volume in volumes]
        prepared = prepare(straight, model.preparation)
    with stages.stage("open networks"):
        networks = _open(model, settings)
    check_memory(_needed_bytes(prepared, networks, model))
    partial = _partial(prepared, model, settings)
    decision = Decision(prepared.placing, model, partial)
    tell = None if progress is None else lambda done, total: progress("tiles", done, total)
    scores = scores_by_slab(
        networks, prepared.image, tiling=model.tiling, outputs=model.outputs, progress=tell, partial=partial
    )
    for slab in _timed(scores, stages):
        with stages.stage("labels"):
            decision.take(slab)
    if partial is not None:
        partial.remove()
    label_map = LabelMap(
        decision.labels(), straight[0].affine, model.segments, f"{model.name} {model.version}", volumes[0].source
    )
    handled = [f for old, new in zip(volumes, straight, strict=True) for f in new.findings if f not in old.findings]
    findings = tuple(dict.fromkeys((*findings, *handled)))
    return Segmentation(tilted(label_map, volumes[0]), stages.results, networks[0].note, findings)


def _as_set(model: SegmentationModel, settings: RunSettings) -> SegmentationModel:
    """The model with the flips and networks that the settings leave it."""
    if settings.mirroring == "off":
        model = replace(model, tiling=replace(model.tiling, mirror_axes=()))
    if settings.network is not None:
        if not 0 <= settings.network < len(model.networks):
            raise InputError(f"network must be from 0 to {len(model.networks) - 1}, got {settings.network}")
        model = replace(model, networks=(model.networks[settings.network],))
    return model


def _open(model: SegmentationModel, settings: RunSettings) -> list[Network]:
    return [
        open_network(
            source,
            patch=model.tiling.patch,
            channels=len(model.preparation.normalizations),
            outputs=model.outputs,
            device=settings.device,
            threads=settings.threads,
            batch=SLICES_AT_ONCE if len(model.tiling.patch) == 2 else 1,
        )
        for source in model.networks
    ]


def _needed_bytes(prepared: Prepared, networks: Sequence[Network], model: SegmentationModel) -> int:
    """What sliding takes, and the labels on the volume's grid, twice while they are turned back."""
    sliding = needed_bytes(prepared.image.shape, networks, tiling=model.tiling, outputs=model.outputs)
    z, y, x = prepared.placing.shape
    return sliding + 2 * z * y * x


def _partial(prepared: Prepared, model: SegmentationModel, settings: RunSettings) -> Partial | None:
    if settings.resume_in is None:
        return None
    key = state_key(prepared.image, model, prepared.placing, settings.device)
    return Partial(settings.resume_in, key=key)


def _timed(slabs: Iterator[Slab], stages: Stages) -> Iterator[Slab]:
    """The same slabs; the time that each takes to come is the networks'."""
    while True:
        with stages.stage("networks"):
            slab = next(slabs, None)
        if slab is None:
            return
        yield slab
