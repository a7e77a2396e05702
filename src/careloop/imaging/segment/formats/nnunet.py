"""Model folders of nnU-Net v2: plans.json, dataset.json, a checkpoint a fold; read without running any code of theirs.

Source: nnU-Net 2.8 (Isensee et al., Apache-2.0), inference/predict_from_raw_data.py, utilities/plans_handling and
utilities/label_handling. What a folder asks for and is not known here is refused by name, never guessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from careloop import InputError
from careloop.imaging.segment.formats.digest import file_digest, short_version
from careloop.imaging.segment.formats.nnunet_checkpoint import Checkpoint, read_checkpoint, with_weights
from careloop.imaging.segment.model import (
    NetworkSource,
    Normalization,
    Preparation,
    Scheme,
    SegmentationModel,
    Tiling,
)
from careloop.imaging.volume import Segment

if TYPE_CHECKING:
    from torch import nn

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
SCHEMES: dict[str, Scheme] = {
    "CTNormalization": "ct",
    "ZScoreNormalization": "zscore",
    "NoNormalization": "none",
    "RescaleTo01Normalization": "own_range",
    "RGBTo01Normalization": "range",
}
# How the axes of arrays run that nnU-Net's readers give: as stored, or turned to RAS and read as (z, y, x).
READERS = {
    "SimpleITKIO": None,
    "NibabelIO": None,
    "NaturalImage2DIO": None,
    "Tiff3DIO": None,
    "SimpleITKIOWithReorient": "SAR",
    "NibabelIOWithReorient": "SAR",
}
# DICOM modalities of channels by the first word of their names; other names may be anything.
MODALITIES = {"ct": "CT", "cbct": "CT", "mr": "MR", "mri": "MR", "t1": "MR", "t2": "MR", "t1w": "MR", "t2w": "MR",
              "flair": "MR", "dwi": "MR", "adc": "MR", "pet": "PT", "pt": "PT"}  # fmt: skip


def is_nnunet(folder: Path) -> bool:
    """Whether a folder holds a trained model of nnU-Net v2, or several configurations of one data set."""
    return bool(_trained_folders(folder))


def read_nnunet(
    folder: Path, *, folds: Sequence[int | str] | None = None, configuration: str | None = None
) -> SegmentationModel:
    """The model of a `Trainer__Plans__configuration` folder, or of a data set's folder that holds such folders.

    `folds` are numbers or `all`, by default every numbered fold that is there (`all` where it alone is); their scores
    are averaged. `configuration` (`2d`, `3d_fullres`, `3d_lowres`) tells those of a data set apart.

    Raises:
        InputError: nothing or several models fit, a file is damaged or holds code, a model is the second stage of a
            cascade, or asks for something that is not known here.
    """
    folder = _chosen(folder, configuration)
    plans, dataset = _json(folder / "plans.json"), _json(folder / "dataset.json")
    checkpoints = [read_checkpoint(path) for path in _checkpoint_files(folder, folds)]
    first = checkpoints[0]
    name = first.configuration or folder.name.rpartition("__")[2]
    settings = _configuration(plans, name)
    if settings.get("previous_stage"):
        raise InputError(
            f"{folder}: {name} is the second stage of a cascade and needs labels of {settings['previous_stage']} as "
            "input, which is not supported; use 3d_fullres or 3d_lowres"
        )
    channels = tuple(map(str, (dataset.get("channel_names") or dataset["modality"]).values()))
    segments, region_labels = _labels(dataset, folder)
    outputs = len(region_labels) or len(segments) + 1
    architecture = _architecture(settings, first)
    digests = [file_digest(checkpoint.path) for checkpoint in checkpoints]
    return SegmentationModel(
        name=str(plans.get("dataset_name", folder.name)),
        version=short_version(*digests),
        kind="nnunet",
        channels=channels,
        segments=segments,
        outputs=outputs,
        preparation=_preparation(plans, dataset, settings, len(channels)),
        tiling=Tiling(patch=tuple(map(int, settings["patch_size"])), mirror_axes=first.mirror_axes),
        networks=tuple(
            NetworkSource(digest, build=partial(_build, c.path, architecture, len(channels), outputs))
            for digest, c in zip(digests, checkpoints, strict=True)
        ),
        modalities=_modalities(channels),
        decision="regions" if region_labels else "argmax",
        region_labels=region_labels,
        notes=_notes(dataset, plans, name, checkpoints),
    )


# The folder


def _trained_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    candidates = [folder, *sorted(path for path in folder.iterdir() if path.is_dir() and path.name.count("__") == 2)]
    return [path for path in candidates if (path / "plans.json").is_file() and any(path.glob("fold_*"))]


def _chosen(folder: Path, configuration: str | None) -> Path:
    found = _trained_folders(folder)
    if configuration is not None:
        found = [path for path in found if path.resolve().name.rpartition("__")[2] == configuration]
    if len(found) == 1:
        return found[0]
    if not found:
        wanted = f" of configuration {configuration}" if configuration else ""
        raise InputError(f"{folder} must hold a trained nnU-Net v2 model{wanted} (plans.json, fold_*); none was found")
    names = ", ".join(path.name for path in found)
    raise InputError(f"{folder} holds several models ({names}); give the folder of one of them")


def _checkpoint_files(folder: Path, folds: Sequence[int | str] | None) -> list[Path]:
    if folds is None:
        numbered = sorted(path for path in folder.glob("fold_*") if path.name != "fold_all")
        places = [path for path in numbered if _checkpoint(path)] or [folder / "fold_all"]
    else:
        places = [folder / f"fold_{fold}" for fold in folds]
    files = [_checkpoint(place) for place in places]
    if not files or None in files:
        missing = ", ".join(place.name for place, file in zip(places, files, strict=True) if file is None)
        raise InputError(f"{folder} must hold {CHECKPOINTS[0]} in each fold that is used; missing in: {missing}")
    return [file for file in files if file is not None]


def _checkpoint(fold: Path) -> Path | None:
    return next((fold / name for name in CHECKPOINTS if (fold / name).is_file()), None)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content


# plans.json and dataset.json


def _configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A configuration with what it inherits."""
    known = plans.get("configurations", {})
    chain: list[dict[str, Any]] = []
    while name:
        if name not in known or known[name] in chain:
            raise InputError(
                f"plans.json must hold the configuration {name!r} once; it has {', '.join(known) or 'none'}"
            )
        chain.append(known[name])
        name = known[name].get("inherits_from", "")
    settings: dict[str, Any] = {}
    for part in reversed(chain):
        settings |= part
    return settings


def _architecture(settings: Mapping[str, Any], checkpoint: Checkpoint) -> dict[str, Any]:
    """The plans' architecture; nnUNetTrainerBN replaces its normalisation by batch normalisation."""
    if "architecture" not in settings:
        return dict(settings)
    architecture = dict(settings["architecture"])
    if any(key.endswith(".running_mean") for key in checkpoint.parameters):
        arguments = dict(architecture["arch_kwargs"])
        arguments["norm_op"] = (
            str(arguments["norm_op"]).replace("instancenorm", "batchnorm").replace("Instance", "Batch")
        )
        architecture["arch_kwargs"] = arguments
    return architecture


def _labels(dataset: Mapping[str, Any], folder: Path) -> tuple[tuple[Segment, ...], tuple[int, ...]]:
    """Structures, and the labels that regions write in their order (none where labels do not overlap)."""
    labels = {str(k): v for k, v in dataset["labels"].items() if k not in ("background", "ignore")}
    if any(isinstance(v, list) and len(v) > 1 for v in labels.values()):
        order = tuple(int(n) for n in dataset.get("regions_class_order") or ())
        if len(order) != len(labels):
            raise InputError(
                f"{folder}/dataset.json: regions_class_order must have {len(labels)} labels, got {len(order)}"
            )
        segments = {number: Segment(number, name) for name, number in zip(labels, order, strict=True)}
        return tuple(segments[number] for number in sorted(segments)), order
    numbered = sorted((int(v[0] if isinstance(v, list) else v), name) for name, v in labels.items())
    if [number for number, _ in numbered] != list(range(1, len(numbered) + 1)):
        raise InputError(f"{folder}/dataset.json: labels must be 0, 1, 2, ... without gaps")
    return tuple(Segment(number, name) for number, name in numbered), ()


def _preparation(
    plans: Mapping[str, Any], dataset: Mapping[str, Any], settings: Mapping[str, Any], channels: int
) -> Preparation:
    _known("preprocessor_name", settings.get("preprocessor_name", "DefaultPreprocessor"), ("DefaultPreprocessor",))
    _known("label_manager", plans.get("label_manager", "LabelManager"), ("LabelManager",))
    reader = plans.get("image_reader_writer") or dataset.get("overwrite_image_reader_writer", "SimpleITKIO")
    _known("image_reader_writer", reader, READERS)
    images, scores = (_resampling(settings, part) for part in ("data", "probabilities"))
    if images[1:] != scores[1:]:
        raise InputError("plans.json: images and probabilities must be resampled by one rule across slices")
    z, y, x = plans.get("transpose_forward", (0, 1, 2))
    return Preparation(
        normalizations=_normalizations(plans, settings, channels),
        spacing_mm=tuple(map(float, settings["spacing"])) if images[0] is not None else None,
        axes=(int(z), int(y), int(x)),
        orientation=READERS[reader],
        crop="nonzero",
        image_order=3 if images[0] is None else images[0],
        score_order=1 if scores[0] is None else scores[0],
        separate_axis_order=images[1],
        anisotropy=images[2],
    )


def _resampling(settings: Mapping[str, Any], part: str) -> tuple[int | None, int | None, float]:
    """Spline order (None: no resampling), order across a coarse axis (None: as the others), and its threshold."""
    name = str(settings.get(f"resampling_fn_{part}", ""))
    if name == "no_resampling_hack":
        return None, None, 3.0
    _known(f"resampling_fn_{part}", name, ("resample_data_or_seg_to_shape", "no_resampling_hack"))
    given = settings.get(f"resampling_fn_{part}_kwargs", {})
    force = given.get("force_separate_z", False)
    if force is True or given.get("is_seg", False):
        raise InputError(f"plans.json: resampling_fn_{part}_kwargs asks for force_separate_z or is_seg, not known here")
    across = int(given.get("order_z", 0)) if force is None else None
    return int(given.get("order", 3)), across, float(given.get("separate_z_anisotropy_threshold", 3.0))


def _normalizations(plans: Mapping[str, Any], settings: Mapping[str, Any], channels: int) -> tuple[Normalization, ...]:
    properties = plans.get("foreground_intensity_properties_per_channel")
    properties = properties or plans.get("foreground_intensity_properties_by_modality") or {}
    names, masks = settings["normalization_schemes"], settings["use_mask_for_norm"]
    if len(names) != channels:
        raise InputError(
            f"plans.json: normalization_schemes must have one entry a channel ({channels}), got {len(names)}"
        )
    found = []
    for i, (name, masked) in enumerate(zip(names, masks, strict=True)):
        _known("normalization_schemes", name, SCHEMES)
        scheme: Scheme = "zscore_foreground" if masked and name == "ZScoreNormalization" else SCHEMES[name]
        if scheme == "ct":
            own = properties[str(i)]
            low, high = own["percentile_00_5"], own["percentile_99_5"]
            found.append(Normalization("ct", low=low, high=high, mean=own["mean"], sd=own["std"]))
        else:
            found.append(Normalization(scheme, high=255.0) if scheme == "range" else Normalization(scheme))
    return tuple(found)


def _known(key: str, value: Any, known: Sequence[str] | Mapping[str, Any]) -> None:
    if value not in known:
        raise InputError(f"plans.json: {key} must be one of {', '.join(known)}; {value!r} is not known here")


def _modalities(channels: Sequence[str]) -> tuple[str, ...]:
    """DICOM's modality of every channel, or none where one may be anything."""
    found = [MODALITIES.get(name.casefold().replace("-", " ").replace("_", " ").split(" ")[0], "") for name in channels]
    return tuple(found) if all(found) else ()


def _notes(
    dataset: Mapping[str, Any], plans: Mapping[str, Any], configuration: str, checkpoints: Sequence[Checkpoint]
) -> dict[str, str]:
    notes = {
        "configuration": configuration,
        "plans": str(plans.get("plans_name", "")),
        "trainer": checkpoints[0].trainer,
        "checkpoints": ", ".join(f"{c.path.parent.name}/{c.path.name}" for c in checkpoints),
        "training cases": str(dataset.get("numTraining", "")),
    }
    for key in ("description", "reference", "licence", "license", "release"):
        notes[key] = str(dataset.get(key, ""))
    return {key: value for key, value in notes.items() if value}


# Networks


def _build(path: Path, architecture: Mapping[str, Any], channels: int, outputs: int) -> nn.Module:
    """The network with the weights of a checkpoint, in evaluation mode."""
    import torch

    from careloop.imaging.unet import build_unet

    with torch.device("meta"):
        network = build_unet(architecture, channels=channels, outputs=outputs)
    return with_weights(network, path)
