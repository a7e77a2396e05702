"""The commands that train image models, report on them, and classify or detect with them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from careloop.cli.command import FOLDER, MOMENT, json_option, record_option
from careloop.cli.image import NOT_CLINICAL, image
from careloop.cli.output import counter, show

if TYPE_CHECKING:
    from careloop.imaging.classify.apply import Classified
    from careloop.imaging.detect.boxes import Detection

SIZES = click.Choice(["small", "medium", "large"])
KINDS = click.Choice(["segment", "classify", "detect", "restore"])
Progress = Any


@image.command()
@click.argument("dataset", type=FOLDER)
@click.option(
    "--out", type=FOLDER, required=True, help="Folder of the model; a training that was killed goes on there."
)
@click.option("--task", type=KINDS, help="Default: what the data are for.")
@click.option("--minutes", type=float, help="Time for training; default: 20 on a CPU.")
@click.option("--epochs", type=int, help="Epochs, instead of as many as fit into the minutes.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything random.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--size", type=SIZES, help="segment: of patches and network; default: small on a CPU, large on a GPU.")
@click.option("--architecture", help="classify: resnet-small (default), resnet18, densenet121, convnext, vit, ...")
@click.option("--pretrained", type=FOLDER, help="classify: file or folder of weights to start from.")
@click.option("--split-by", type=click.Choice(["subject", "file"]), help="classify: what is never in two splits.")
@click.option(
    "--mean-image", is_flag=True, help="classify: take the mean training image off each, where all show the same."
)
@click.option("--modality", default="", help="What made images whose files do not say it, such as CT.")
@click.option(
    "--degradation", type=click.Choice(["gaussian noise", "low-dose CT"]), help="restore: what is to be taken out."
)
@click.option("--no-clean-targets", is_flag=True, help="restore: the images are noisy, and there are no clean ones.")
@json_option
def train(dataset: Path, out: Path, task: str | None, as_json: bool, **given: Any) -> None:
    r"""Train an image model on DATASET.

    \b
    segment   a folder as nnU-Net v2 has it: imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz, dataset.json
    classify  a table (CSV: image, subject_id, label or a 0/1 column a label; optional split, view) or a MedMNIST .npz
    detect    a table of images and boxes
    restore   a folder of images (NIfTI, DICOM, pictures) to learn to take noise out of

    Images that cannot be used are left out and named.
    """
    from careloop.study.image_training import kind_of

    kind = task or kind_of(dataset)
    run = {"segment": _train_segmentation, "classify": _train_classifier, "detect": _train_detector,
           "restore": _train_restoration}[kind]  # fmt: skip
    with counter() as progress:
        shown, text = run(dataset, out, {k: v for k, v in given.items() if v not in (None, "", False)}, progress)
    show(
        {"task": kind, "model": str(out)} | shown | {"not_for_clinical_use": True},
        f"{text}\n{NOT_CLINICAL}",
        as_json=as_json,
    )


def _train_segmentation(
    dataset: Path, out: Path, given: dict[str, Any], progress: Progress
) -> tuple[dict[str, Any], str]:
    from careloop.imaging.learn import TrainingSettings, train_segmentation
    from careloop.imaging.learn.course import table

    made = train_segmentation(dataset, out, settings=TrainingSettings(**given), progress=progress)
    dice = made.model.validation.get("dice", {})
    lines = [f"{name:<20} {value}" for name, value in table(made.course)]
    lines += [
        "",
        "Dice in validation cases:",
        *(f"  {name:<18} {_estimate_text(figure)}" for name, figure in dice.items()),
    ]
    lines += ["", f"Wrote {out} ({made.seconds:.0f} s). Use it: careloop image segment PATH --model {out} --out DIR"]
    rejected = [asdict(case) for case in made.course.rejected]
    return {"seconds": made.seconds, "rejected": rejected, "validation_dice": dice}, "\n".join(lines)


def _train_classifier(
    dataset: Path, out: Path, given: dict[str, Any], progress: Progress
) -> tuple[dict[str, Any], str]:
    from careloop.imaging.classify.settings import ClassifierSettings
    from careloop.study.image_training import train_image_classifier

    made = train_image_classifier(dataset, out, settings=ClassifierSettings(**given), progress=progress)
    labels = made.model.evaluation.get("labels") or {}
    lines = [f"{'label':<24} {'AUROC on held-out images':<30} calibration slope"]
    for name, figures in labels.items():
        network = figures.get("network")
        lines.append(
            f"{name:<24} {figures['reason']}" if network is None
            else f"{name:<24} {_estimate_text(network['auroc']):<30} {_estimate_text(network['slope'])}"
        )  # fmt: skip
    lines += ["", f"{made.rejected} rows left out, see {out / 'rejected.csv'}"] if made.rejected else []
    use = f"careloop image classify PATH --model {out} --out DIR"
    lines += ["", f"Wrote {out} and report.html ({made.seconds:.0f} s). Use it: {use}"]
    return {"seconds": made.seconds, "rejected": made.rejected, "evaluation": made.model.evaluation}, "\n".join(lines)


def _train_detector(dataset: Path, out: Path, given: dict[str, Any], progress: Progress) -> tuple[dict[str, Any], str]:
    from careloop.imaging.detect import DetectionSettings, train_detector
    from careloop.imaging.detect.dataset import open_table
    from careloop.study.image_training import write_report

    opened = open_table(dataset, modality=given.pop("modality", ""), seed=given.get("seed", 0))
    made = train_detector(opened, out, settings=DetectionSettings(**given), progress=progress)
    evaluation = made.detector.said.evaluation
    if evaluation:
        write_report(out)
    text = f"Wrote {out} ({made.seconds:.0f} s). Use it: careloop image detect PATH --model {out} --out DIR"
    return {"seconds": made.seconds, "evaluation": evaluation}, text


def _train_restoration(
    dataset: Path, out: Path, given: dict[str, Any], progress: Progress
) -> tuple[dict[str, Any], str]:
    from careloop.imaging.restore.material import read_material
    from careloop.imaging.restore.train import RestorationSettings, train_restoration

    material = read_material(dataset, modality=given.pop("modality", ""), progress=progress)
    settings = RestorationSettings(targets="none" if given.pop("no_clean_targets", False) else "clean", **given)
    made = train_restoration(material, out, name=f"{dataset.name} restoration", settings=settings, progress=progress)
    left = [f"left out: {one.image}: {one.reason}" for one in material.left]
    lines = [*left, f"Wrote {out}: {made.made_by}. Use it: careloop image restore PATH --model {out} --out DIR"]
    return {"version": made.said.version, "left_out": [asdict(one) for one in material.left],
            "validation": made.said.validation}, "\n".join(lines)  # fmt: skip


def _estimate_text(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return f"none ({figure['reason']})"
    if figure["low"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


@image.command()
@click.argument("model", type=FOLDER)
@json_option
def report(model: Path, as_json: bool) -> None:
    """Write report.html of a trained classifier or detector: how good it is on held-out images."""
    from careloop.study.image_training import write_report

    page = write_report(model)
    show({"report": str(page), "not_for_clinical_use": True}, f"Wrote {page}\n{NOT_CLINICAL}", as_json=as_json)


@image.command()
@click.argument("images", nargs=-1, required=True, type=FOLDER, metavar="PATH...")
@click.option("--model", type=FOLDER, required=True, help="Folder of the model.")
@click.option("--out", type=FOLDER, required=True, metavar="DIR", help="Folder for results.csv, .json and report.html.")
@click.option("--series", default="", metavar="NUMBER|UID", help="Which series, as `careloop image info` shows.")
@click.option("--modality", default="", metavar="CT|DX|...", help="What made a NIfTI file or a picture.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--threads", type=int, help="CPU threads; default: all cores.")
@record_option(required=False)
@click.option("--subject", type=int, help="With --record: whose images; default: found by the images' PatientID.")
@click.option("--acquired", type=MOMENT, metavar="TIME", help="When a NIfTI file or picture was made, UTC.")
@json_option
def classify(
    images: tuple[Path, ...],
    model: Path,
    out: Path,
    series: str,
    modality: str,
    device: str,
    threads: int | None,
    record_path: Path | None,
    subject: int | None,
    acquired: datetime | None,
    as_json: bool,
) -> None:
    """Classify images: calibrated probabilities, what cannot be ruled out, and refusal of what is unlike the training.

    With --record, findings and embeddings become events such as IMAGE//FINDING//<model>//<label>, which a study uses as
    it does any others, and the page shows which images of other patients in the record look alike to the model.
    """
    from careloop.imaging.classify.apply import ApplySettings
    from careloop.imaging.read.volumes import Choice
    from careloop.study.image_classes import ClassifyTask, classify_images, facts_of
    from careloop.study.similar_images import Past

    if subject is not None and record_path is None:
        raise click.UsageError("--subject goes with --record")
    task = ClassifyTask(images, model, Choice(series, None, modality), ApplySettings(device, threads), _utc(acquired))
    with counter() as progress:
        past = None if record_path is None else Past(record_path, subject)
        made = classify_images(task, out, past=past, progress=progress)
        record = None if record_path is None else made.record(record_path, subject_id=subject)
    shown = {
        "out": str(out),
        "results": [facts_of(one) for one in made.found],
        "record_version": None if record is None else record.version,
        "not_for_clinical_use": True,
    }
    lines = [_classified_text(one) for one in made.found] + ["", f"Wrote {out / 'report.html'}"]
    lines += [] if record is None else [f"{record.path} is at version {record.version}."]
    show(shown, "\n".join([*lines, NOT_CLINICAL]), as_json=as_json)


def _classified_text(one: Classified) -> str:
    where = f"image {one.image + 1}" + ("" if one.slice is None else f", slice {one.slice + 1}")
    if one.refused:
        return f"{where}: REFUSED: {one.reason}"
    shares = ", ".join(f"{name} {p:.1%}" for name, p in zip(one.labels, one.probability, strict=True))
    open_text = f"; cannot be ruled out: {', '.join(one.label_set) or 'none'}" if one.level else ""
    return f"{where}: {shares}{open_text}"


@image.command()
@click.argument("path", type=FOLDER)
@click.option("--model", type=FOLDER, required=True, help="Folder of the detector.")
@click.option("--out", type=FOLDER, required=True, metavar="DIR", help="Folder for detections.csv and report.html.")
@click.option("--lowest", type=float, help="Least probability that is shown; default: the model's own threshold.")
@click.option("--series", default="", metavar="NUMBER|UID", help="Which series, as `careloop image info` shows.")
@click.option("--modality", default="", metavar="CT|DX|...", help="What made a NIfTI file or a picture.")
@record_option(required=False)
@click.option("--subject", type=int, help="With --record: whose image.")
@click.option("--acquired", type=MOMENT, metavar="TIME", help="When a NIfTI file or picture was made, UTC.")
@json_option
def detect(
    path: Path,
    model: Path,
    out: Path,
    lowest: float | None,
    series: str,
    modality: str,
    record_path: Path | None,
    subject: int | None,
    acquired: datetime | None,
    as_json: bool,
) -> None:
    """Find lesions in an image: boxes, diameters and calibrated probabilities."""
    from careloop.imaging.read.volumes import Choice
    from careloop.study.image_detections import detect_image

    if (subject is None) != (record_path is None):
        raise click.UsageError("--record and --subject go together")
    with counter() as progress:
        made = detect_image(
            path, model, out, choice=Choice(series, None, modality), lowest=lowest, acquired=_utc(acquired),
            progress=progress,
        )  # fmt: skip
        record = None if record_path is None or subject is None else made.record(record_path, subject_id=subject)
    shown = {
        "out": str(out),
        "detections": [asdict(one) for one in made.found],
        "record_version": None if record is None else record.version,
        "not_for_clinical_use": True,
    }
    lines = [_detection_text(one) for one in made.found] or ["nothing found"]
    show(shown, "\n".join([*lines, "", f"Wrote {made.table} and {made.page.name}", NOT_CLINICAL]), as_json=as_json)


def _detection_text(one: Detection) -> str:
    x, y, z = one.centre_mm
    return f"{one.label}: {one.probability:.0%}, {one.diameter_mm:.1f} mm, at {x:.1f}, {y:.1f}, {z:.1f} mm (LPS)"


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)
