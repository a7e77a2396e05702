"""The commands of medical images: what lies there, segmentation, training, sample data, and the way to a PACS."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from careloop.cli.command import FOLDER, cli, json_option
from careloop.cli.output import counter, show

if TYPE_CHECKING:
    from careloop.imaging.finding import Finding
    from careloop.imaging.read.volumes import FoundImage
    from careloop.imaging.segment.model import SegmentationModel

NOT_CLINICAL = "Research software, not for clinical use."
SIZES = click.Choice(["small", "medium", "large"])


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
        lines += [_finding_text(finding) for finding in volume.findings]
    lines += [_finding_text(finding) for finding in found.refused]
    return "\n".join(lines)


def _finding_text(finding: Finding) -> str:
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
@click.argument("dataset", type=FOLDER)
@click.option(
    "--out", type=FOLDER, required=True, help="Folder of the model; a training that was killed goes on there."
)
@click.option("--size", type=SIZES, help="Of patches and network; default: small on a CPU, large on a GPU.")
@click.option("--minutes", type=float, help="Time for all of it; default: 20 on a CPU, 120 on a GPU.")
@click.option("--epochs", type=int, help="Epochs, instead of as many as fit into the minutes.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything random.")
@click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda|mps", help="Where the network learns."
)
@json_option
def train(dataset: Path, out: Path, as_json: bool, **settings: Any) -> None:
    """Train a segmentation network on DATASET, a folder of images and labels.

    DATASET is laid out as nnU-Net v2 has it: imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz, dataset.json. Spacing,
    patch and network follow from the data. Cases that cannot be used are left out and named.
    """
    from careloop.imaging.learn import TrainingSettings, train_segmentation
    from careloop.imaging.learn.course import table

    given = TrainingSettings(**{name: value for name, value in settings.items() if value is not None})
    with counter() as progress:
        made = train_segmentation(dataset, out, settings=given, progress=progress)
    dice = made.model.validation.get("dice", {})
    lines = [f"{name:<20} {value}" for name, value in table(made.course)]
    lines += ["", "Dice in validation cases:", *(f"  {name:<18} {_dice_text(figure)}" for name, figure in dice.items())]
    lines += ["", f"Wrote {out} ({made.seconds:.0f} s). Use it: careloop image segment PATH --model {out} --out DIR"]
    shown = {
        "model": str(out),
        "seconds": made.seconds,
        "rejected": [asdict(case) for case in made.course.rejected],
        "validation_dice": dice,
        "not_for_clinical_use": True,
    }
    show(shown, "\n".join([*lines, NOT_CLINICAL]), as_json=as_json)


def _dice_text(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return f"none ({figure['reason']})"
    if figure["low"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"
