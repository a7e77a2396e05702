"""The commands of medical images: what lies there, segmentation, training, sample data, and the way to a PACS."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from careloop.cli.command import FOLDER, MOMENT, cli, json_option, record_option
from careloop.cli.output import counter, show

if TYPE_CHECKING:
    from careloop.imaging.finding import Finding
    from careloop.imaging.pacs import Stored
    from careloop.imaging.read.volumes import FoundImage
    from careloop.imaging.segment.model import SegmentationModel
    from careloop.record import Record
    from careloop.study.images import ImageResult

NOT_CLINICAL = "Research software, not for clinical use."


@cli.group()
def image() -> None:
    """Medical images: DICOM series, NIfTI files and pictures; organs and lesions as labels, numbers and events."""


@image.command()
@click.argument("path", type=FOLDER)
@json_option
def info(path: Path, as_json: bool) -> None:
    """Show which images lie at PATH and whether they can be used, or what the model in folder PATH is.

    PATH is a folder, a file or a zip with DICOM, a NIfTI file, a picture, or a folder with a model. Of DICOM only
    headers are read.
    """
    from careloop.imaging.read.volumes import list_images
    from careloop.imaging.segment.formats.read import is_model, read_models

    if is_model(path):
        models = read_models(path)
        shown = {"models": [_model_facts(model) for model in models]}
        show(shown, "\n\n".join(_model_text(model) for model in models), as_json=as_json)
        return
    with counter() as progress:
        images = list_images(path, progress=progress)
    show({"images": [asdict(found) for found in images]}, "\n".join(map(_image_text, images)), as_json=as_json)


def _image_text(found: FoundImage) -> str:
    what = " ".join(part for part in (found.modality, found.body_part, found.description) if part) or "image"
    lines = [f"{found.number}. {what}: {found.files} {'file' if found.files == 1 else 'files'}, {found.kind}"]
    lines += [f"   series {found.series}"] if found.series else []
    for number, volume in enumerate(found.volumes, start=1):
        size = " x ".join(map(str, volume.shape))
        spacing = " x ".join(f"{mm:.4g}" for mm in volume.spacing_mm)
        apart = f" (--stack {number}: {volume.varies})" if len(found.volumes) > 1 else ""
        lines.append(f"   {size} voxels (slices, rows, columns) of {spacing} mm{apart}")
        lines += [finding_text(finding) for finding in volume.findings]
    lines += [finding_text(finding) for finding in found.refused]
    return "\n".join(lines)


def finding_text(finding: Finding) -> str:
    """A finding as one line."""
    return f"   {finding.verdict}: {finding.check}: {finding.message}"


def _model_facts(model: SegmentationModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "version": model.version,
        "format": model.kind,
        "channels": list(model.channels),
        "modalities": list(model.modalities),
        "body_parts": list(model.body_parts),
        "structures": {segment.number: segment.name for segment in model.segments},
        "spacing_mm": model.preparation.spacing_mm,
        "patch": model.tiling.patch,
        "networks": len(model.networks),
        "notes": model.notes,
    }


def _model_text(model: SegmentationModel) -> str:
    spacing = model.preparation.spacing_mm
    lines = [
        f"{model.name}, version {model.version} ({model.kind})",
        f"  input       {', '.join(model.channels)}"
        + (f" from {', '.join(model.modalities)}" if model.modalities else ""),
        f"  structures  {', '.join(segment.name for segment in model.segments)}",
        f"  resolution  {'as it is' if spacing is None else ' x '.join(f'{mm:.4g}' for mm in spacing) + ' mm'}",
        f"  patch       {' x '.join(map(str, model.tiling.patch))}, {len(model.networks)} "
        f"{'network' if len(model.networks) == 1 else 'networks'}",
    ]
    lines += [f"  body parts  {', '.join(model.body_parts)}"] if model.body_parts else []
    return "\n".join([*lines, *(f"  {name}: {text}" for name, text in model.notes.items())])


@image.command()
@click.argument("images", nargs=-1, required=True, metavar="PATH...")
@click.option("--model", type=FOLDER, required=True, help="Folder of the model; see `careloop image info MODEL`.")
@click.option(
    "--out",
    type=FOLDER,
    required=True,
    metavar="DIR",
    help="Folder for all results; a run that was stopped goes on there.",
)
@click.option(
    "--series", default="", metavar="NUMBER|UID", help="Which series at PATH, as `careloop image info` shows."
)
@click.option("--stack", type=int, help="Which volume of a series that holds several, from 1.")
@click.option("--modality", default="", metavar="CT|MR|PT|...", help="What made a NIfTI file or a picture.")
@click.option("--radiomics", is_flag=True, help="Also measure texture (IBSI).")
@click.option(
    "--mirroring",
    type=click.Choice(["as trained", "off"]),
    default="as trained",
    show_default=True,
    help="off: an eighth of the time (a quarter in 2D), a little less accurate.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--threads", type=int, help="CPU threads; default: all cores.")
@record_option(required=False)
@click.option("--subject", type=int, help="With --record: whose images; default: found by the images' PatientID.")
@click.option("--acquired", type=MOMENT, metavar="TIME", help="When a NIfTI file or picture was made, UTC.")
@click.option("--send", metavar="URL", help="Send the DICOM results to this DICOMweb server (STOW-RS).")
@json_option
def segment(
    images: tuple[str, ...],
    model: Path,
    out: Path,
    series: str,
    stack: int | None,
    modality: str,
    radiomics: bool,
    record_path: Path | None,
    subject: int | None,
    acquired: datetime | None,
    send: str | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Label the structures that a model knows in a patient's images, and measure them.

    PATH is a folder, a file or a zip with DICOM, a NIfTI file, a picture, or the DICOMweb address of a series
    (https://HOST/dicom-web/studies/UID/series/UID); one PATH for each of the model's channels, in their order.

    DIR gets labels.nii.gz, measurements.csv, report.html and, for DICOM, a segmentation object, a structured report and
    a picture. With --record the measurements become events such as IMAGE//heart//volume, which a study uses as it does
    any others.
    """
    from careloop.imaging.read.volumes import Choice
    from careloop.imaging.segment.run import RunSettings
    from careloop.study.images import ImageTask, segment_images

    if subject is not None and record_path is None:
        raise click.UsageError("--subject goes with --record")
    task = ImageTask(
        images=images,
        model=model,
        choice=Choice(series, stack, modality),
        settings=RunSettings(**how),
        radiomics="ibsi" if radiomics else "none",
        acquired=None if acquired is None else acquired.replace(tzinfo=UTC),
    )
    with counter() as progress:
        made = segment_images(task, out, progress=progress)
        record = None if record_path is None else made.record(record_path, subject_id=subject)
        stored = None if send is None else made.send(send, progress=progress)
    shown = {
        "out": str(out),
        "model": made.label_map.made_by,
        "findings": [asdict(finding) for finding in made.findings],
        "volumes_ml": made.volumes_ml,
        "stages": [asdict(stage) for stage in made.stages],
        "backend": made.backend,
        "record_version": None if record is None else record.version,
        "sent": None if stored is None else {"stored": len(stored.stored), "failed": failed_to_send(stored)},
        "not_for_clinical_use": True,
    }
    show(shown, _segmented_text(made, record, stored), as_json=as_json)
    if stored is not None and stored.failed:
        raise click.exceptions.Exit(1)


def _segmented_text(made: ImageResult, record: Record | None, stored: Stored | None) -> str:
    lines = [f"{made.label_map.made_by}", ""]
    lines += [f"  {name:<32} {volume:10.1f} mL" for name, volume in made.volumes_ml.items()]
    lines += ["", *(finding_text(finding) for finding in made.findings)] if made.findings else []
    took = ", ".join(f"{stage.name} {stage.seconds:.1f} s" for stage in made.stages)
    most = max((stage.peak_bytes for stage in made.stages), default=0)
    lines += ["", f"{took}; at most {most / 1e9:.1f} GB; {made.backend}", f"Wrote {made.folder / 'report.html'}"]
    if record is not None:
        lines.append(f"{record.path} is at version {record.version}.")
    if stored is not None:
        lines.append(f"Sent {len(stored.stored)} DICOM objects.")
        lines += [f"NOT stored: {name}: {reason}" for name, reason in failed_to_send(stored).items()]
    return "\n".join([*lines, NOT_CLINICAL])


def failed_to_send(stored: Stored) -> dict[str, str]:
    """Files that a PACS did not take, and why."""
    return {failure.path.name: failure.reason for failure in stored.failed}


@image.command()
@click.option(
    "--out", type=FOLDER, required=True, help="Folder of the data set; what is there already is not made again."
)
@click.option("--cases", type=int, default=20, show_default=True, help="Chests to train on.")
@click.option(
    "--test-cases", type=int, default=5, show_default=True, help="Chests kept apart, of shapes not trained on."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything random.")
@json_option
def phantom(out: Path, cases: int, test_cases: int, seed: int, as_json: bool) -> None:
    """Make SIMULATED chest CT images with known heart, lungs, spine and nodules, to try `careloop image train` with."""
    from careloop.imaging.phantom import write_dataset

    with counter() as progress:
        write_dataset(out, cases=cases, test_cases=test_cases, seed=seed, progress=progress)
    text = f"Wrote {out}: SIMULATED chests, {cases} to train on. Next: careloop image train {out} --out MODEL"
    show({"dataset": str(out), "cases": cases, "simulated": True}, text, as_json=as_json)


@image.command()
@click.argument("url")
@click.option("--study", required=True, metavar="UID", help="StudyInstanceUID; without --series its series are listed.")
@click.option("--series", metavar="UID", help="SeriesInstanceUID.")
@click.option("--out", type=FOLDER, help="Folder for the series' files; what is there already is not fetched again.")
@json_option
def fetch(url: str, study: str, series: str | None, out: Path | None, as_json: bool) -> None:
    """Fetch a series from the DICOMweb server at URL, or list the series of a study.

    Credentials come from ~/.netrc or, as a bearer token, from the environment variable CARELOOP_DICOMWEB_TOKEN.
    """
    from careloop.imaging.pacs import fetch_series, find_series

    if series is None:
        found = find_series(url, study)
        lines = [f"{s.series}  {s.modality:<4} {s.instances or '?':>6} instances  {s.description}" for s in found]
        show({"series": [asdict(s) for s in found]}, "\n".join(lines) or "no series", as_json=as_json)
        return
    if out is None:
        raise click.UsageError("Missing option '--out'.")
    with counter() as progress:
        files = fetch_series(url, study, series, out, progress=progress)
    show({"out": str(out), "files": len(files)}, f"{len(files)} files in {out}", as_json=as_json)
