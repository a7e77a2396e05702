"""The command that restores images: less noise or blur, more resolution, an even field."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from careloop import InputError
from careloop.cli.command import FOLDER, json_option
from careloop.cli.image import NOT_CLINICAL, failed_to_send, finding_text, image
from careloop.cli.output import counter, show

TASKS = click.Choice(["auto", "denoise", "low-dose", "deblur", "upsample", "bias-field"])


@image.command()
@click.argument("path", type=FOLDER)
@click.option("--out", type=FOLDER, required=True, metavar="DIR", help="Folder for all results.")
@click.option(
    "--task", type=TASKS, default="auto", show_default=True, help="auto: low-dose for CT, denoise for all else."
)
@click.option(
    "--noise",
    type=click.Choice(["auto", "gaussian", "rician", "poisson"]),
    default="auto",
    show_default=True,
    help="For denoise: auto is rician for MR, else gaussian; poisson takes values as photon counts times --gain.",
)
@click.option("--level", type=float, help="The noise's standard deviation in the image's unit; default: estimated.")
@click.option("--gain", type=float, default=1.0, show_default=True, help="For poisson: value of one photon.")
@click.option("--blur-mm", type=float, default=0.0, help="For deblur: full width at half maximum of the blur.")
@click.option("--factor", type=int, default=2, show_default=True, help="For upsample: new pixels along each old one.")
@click.option(
    "--adapt",
    is_flag=True,
    help="For denoise: let the network learn from the image first; a little better on images unlike those of its "
    "training, a minute or more slower.",
)
@click.option("--model", type=FOLDER, help="Folder of a model; default: the one that comes with careloop.")
@click.option("--series", default="", metavar="NUMBER|UID", help="Which series, as `careloop image info` shows.")
@click.option("--stack", type=int, help="Which volume of a series that holds several, from 1.")
@click.option("--modality", default="", metavar="CT|MR|...", help="What made a NIfTI file or a picture.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--threads", type=int, help="CPU threads; default: all cores.")
@click.option("--send", metavar="URL", help="Send the derived series to this DICOMweb server (STOW-RS).")
@json_option
def restore(
    path: Path,
    out: Path,
    task: Any,
    model: Path | None,
    series: str,
    stack: int | None,
    modality: str,
    device: Any,
    threads: int | None,
    send: str | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Restore the images at PATH: take noise or blur out, raise resolution, or even out an MR bias field.

    DIR gets restored.nii.gz, the error to be expected at each voxel, report.html with before and after, and, for DICOM,
    a new derived series that says what was done. The originals are never changed. An image whose noise is unlike that
    of the model's training is refused.
    """
    from careloop.imaging.read.volumes import Choice
    from careloop.imaging.restore.apply import RestorationTask
    from careloop.study.restorations import RestoreTask, restore_images

    if task == "bias-field" and how["adapt"]:
        raise InputError("Correcting a bias field takes no network; leave --adapt out")
    asked = None if task == "bias-field" else RestorationTask(task, **how)
    with counter() as progress:
        run = RestoreTask(path, asked, model, Choice(series, stack, modality), device, threads)
        made = restore_images(run, out, progress=progress)
        stored = None if send is None else made.send(send, progress=progress)
    facts = made.facts
    shown = {
        "out": str(out),
        "task": facts["task"],
        "done": facts["done"],
        "made_by": facts["made_by"],
        "levels": facts["levels"],
        "findings": [asdict(finding) for finding in made.findings],
        "dicom": [str(file) for file in made.dicom],
        "sent": None if stored is None else {"stored": len(stored.stored), "failed": failed_to_send(stored)},
        "not_for_clinical_use": True,
    }
    lines = [facts["done"], "", *(finding_text(finding) for finding in made.findings), ""]
    lines += [f"Wrote {out / 'report.html'}" + (f" and {len(made.dicom)} DICOM files" if made.dicom else "")]
    show(shown, "\n".join([*lines, NOT_CLINICAL]), as_json=as_json)
    if stored is not None and stored.failed:
        raise click.exceptions.Exit(1)
