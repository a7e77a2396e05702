"""MONAI bundles: their inference configuration read as data, never executed, into the description of a model.

A bundle's configuration is JSON or YAML in which `@name` refers to another entry and `$...` is Python (MONAI bundle
specification, docs.monai.io). careloop follows references and refuses where it would need the Python.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from careloop import InputError
from careloop.imaging.segment.formats.digest import file_digest, short_version
from careloop.imaging.segment.model import NetworkSource, Normalization, Preparation, SegmentationModel, Tiling
from careloop.imaging.volume import Segment

if TYPE_CHECKING:
    import torch

# Networks whose call takes images and returns scores alone, by their names in monai.networks.nets.
NETWORKS = ("AttentionUnet", "BasicUNet", "DynUNet", "SegResNet", "SwinUNETR", "UNETR", "UNet", "VNet")
WITHOUT_EFFECT = (
    "AddChannel",
    "AsChannelFirst",
    "CastToType",
    "EnsureChannelFirst",
    "EnsureType",
    "LoadImage",
    "ToDevice",
    "ToTensor",
)
MOST_REFERENCES = 50  # of references that lead to references; a circle has no end


def is_monai_bundle(folder: Path) -> bool:
    """True where the folder has a MONAI bundle's metadata."""
    return (folder / "configs" / "metadata.json").is_file()


def read_monai(folder: Path) -> SegmentationModel:
    """The model in a MONAI bundle: `configs/metadata.json`, `configs/inference.json` (or .yaml) and `models/`.

    Weights are `models/model.ts` (TorchScript) where MONAI is not installed, else `models/model.pt` (a plain state
    dict) in one of `NETWORKS`.

    Raises:
        InputError: a part is missing or of a kind that careloop does not know; the message names it.
    """
    metadata = _read(folder / "configs" / "metadata.json")
    config = Config(_read(_config_file(folder)), str(folder))
    data = metadata.get("network_data_format", {})
    outputs = data.get("outputs", {}).get("pred", {})
    inputs: dict[str, Any] = next(iter(data.get("inputs", {}).values()), {})
    names = {int(number): str(name) for number, name in outputs.get("channel_def", {}).items()}
    count = int(outputs.get("num_channels", len(names)))
    regions = _by_regions(config, count)
    labels = range(1, count + 1) if regions else range(1, count)
    channels = tuple(str(name) for _, name in sorted(inputs.get("channel_def", {"0": "image"}).items()))
    weights = _weights(folder)
    digest = file_digest(weights)
    segments = tuple(Segment(n, names.get(n - 1 if regions else n, f"label {n}")) for n in labels)
    return SegmentationModel(
        name=str(metadata.get("name") or folder.resolve().name),
        version=f"{metadata.get('version', '0')}-{short_version(digest)}",
        kind="monai",
        channels=channels,
        segments=segments,
        outputs=count,
        preparation=_preparation(config, len(channels)),
        tiling=_tiling(config),
        networks=(NetworkSource(digest, build=functools.partial(_build, weights, config.network())),),
        modalities=_modalities(inputs, len(channels)),
        decision="regions" if regions else "argmax",
        region_labels=tuple(labels) if regions else (),
        notes={key: str(metadata[key]) for key in ("description", "data_source", "intended_use") if key in metadata},
    )


@dataclass(frozen=True)
class Config:
    """A bundle's inference configuration; `folder` names it in errors."""

    entries: Mapping[str, Any]
    folder: str

    def value(self, entry: Any, what: str) -> Any:
        """An entry with its references followed, all the way down; InputError where it needs Python."""
        for _ in range(MOST_REFERENCES):
            if not isinstance(entry, str) or not entry.startswith("@"):
                break
            entry = self._find(entry[1:])
        if isinstance(entry, str) and entry.startswith(("$", "@")):
            raise InputError(f"{self.folder}: {what} must be plain data, got '{entry[:60]}'; write the value there")
        if isinstance(entry, Mapping):
            return {key: self.value(part, f"{what}.{key}") for key, part in entry.items()}
        if isinstance(entry, list):
            return [self.value(part, what) for part in entry]
        return entry

    def transforms(self, key: str) -> list[tuple[str, dict[str, Any]]]:
        """Names (without module and dictionary suffix) and arguments of the transforms under `key`."""
        composed = self._find(key)
        while isinstance(composed, str) and composed.startswith("@"):
            composed = self._find(composed[1:])
        listed = composed.get("transforms", []) if isinstance(composed, Mapping) else []
        listed = self._find(listed[1:]) if isinstance(listed, str) and listed.startswith("@") else listed
        found = []
        for entry in listed:
            transform = self._find(entry[1:]) if isinstance(entry, str) and entry.startswith("@") else entry
            if not isinstance(transform, Mapping):
                raise InputError(f"{self.folder}: each entry of {key} must be a transform, got '{str(entry)[:60]}'")
            target = str(transform.get("_target_", "")).rpartition(".")[2]
            found.append((_plain_name(target), {k: v for k, v in transform.items() if not k.startswith("_")}))
        return found

    def network(self) -> dict[str, Any] | None:
        """The network's `_target_` and arguments as plain data; None where the bundle names none."""
        for key in ("network_def", "net", "network"):
            if isinstance(self.entries.get(key), Mapping):
                return dict(self.value(self.entries[key], key))
        return None

    def _find(self, name: str) -> Any:
        found: Any = self.entries
        for part in name.replace("::", "#").split("#"):
            try:
                found = found[int(part)] if isinstance(found, list) else found[part]
            except (KeyError, IndexError, ValueError, TypeError) as error:
                raise InputError(f"{self.folder}: the inference configuration has no entry '{name}'") from error
        return found


def _plain_name(target: str) -> str:
    """`Spacingd`, `SpacingD` and `SpacingDict` are `Spacing`."""
    for suffix in ("Dict", "D", "d"):
        if target.endswith(suffix) and target not in NETWORKS:
            return target.removesuffix(suffix)
    return target


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read as a part of a MONAI bundle: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a mapping, got {type(content).__name__}")
    return content


def _config_file(folder: Path) -> Path:
    for name in ("inference.json", "inference.yaml", "inference.yml"):
        if (folder / "configs" / name).is_file():
            return folder / "configs" / name
    raise InputError(f"{folder / 'configs'} must hold inference.json or inference.yaml; the bundle is not complete")


def _weights(folder: Path) -> Path:
    for name in ("model.pt", "model.ts"):
        path = folder / "models" / name
        if path.is_file() and (name == "model.ts" or not (folder / "models" / "model.ts").is_file() or _has_monai()):
            return path
    raise InputError(f"{folder / 'models'} must hold model.pt or model.ts; download the bundle with its large files")


def _has_monai() -> bool:
    import importlib.util

    return importlib.util.find_spec("monai") is not None


def _build(weights: Path, network: dict[str, Any] | None) -> torch.nn.Module:
    import torch

    if weights.suffix == ".ts":
        return torch.jit.load(str(weights), map_location="cpu").eval()
    module = _network(weights, network)
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{weights} must hold weights only; it cannot be read without running code in it") from error
    for key in ("model", "state_dict", "network"):
        state = state[key] if isinstance(state.get(key), Mapping) else state
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise InputError(f"{weights} does not fit the network that the bundle describes: {reason}") from error
    return module.eval()


def _network(weights: Path, network: dict[str, Any] | None) -> torch.nn.Module:
    name = "" if network is None else str(network.get("_target_", "")).rpartition(".")[2]
    if network is None or name not in NETWORKS:
        raise InputError(
            f"{weights.parent.parent}: networks must be one of {', '.join(NETWORKS)}, got '{name}'; "
            "export the bundle to TorchScript (python -m monai.bundle ckpt_export) as models/model.ts"
        )
    try:
        from monai.networks import nets
    except ImportError as error:
        raise InputError(
            f'{weights.parent.parent} needs MONAI: pip install "careloop[monai]", or models/model.ts'
        ) from error
    return getattr(nets, name)(**{key: value for key, value in network.items() if not key.startswith("_")})


def _preparation(config: Config, channels: int) -> Preparation:
    made: dict[str, Any] = {}
    scaled: list[Normalization] = []
    for name, arguments in config.transforms("preprocessing"):
        if name in WITHOUT_EFFECT:
            continue
        if name not in READERS:
            raise InputError(
                f"{config.folder}: preprocessing by {name} is not known, so the model is not run without it"
            )
        if name == "Spacing" and scaled:
            made["normalize_first"] = True
        part = READERS[name](config.value(arguments, name))
        if isinstance(part, Normalization):
            scaled.append(part)
        else:
            made |= part
    if len(scaled) > 1:
        raise InputError(f"{config.folder}: intensities are scaled {len(scaled)} times; careloop scales once")
    turned = "orientation" in made
    return Preparation(
        normalizations=tuple(scaled or [Normalization("none")]) * channels,
        spacing_mm=made.get("spacing_mm"),
        axes=(0, 1, 2) if turned else (2, 1, 0),  # MONAI's arrays run (column, row, slice)
        orientation=made.get("orientation"),
        crop=made.get("crop", "none"),
        normalize_first=made.get("normalize_first", "spacing_mm" not in made),
        image_order=made.get("image_order", 1),
        score_order=1,
        separate_axis_order=None,
        grid="points",
    )


def _scale_range(a: dict[str, Any]) -> Normalization:
    if not a.get("clip", False):
        raise InputError("ScaleIntensityRange without clip is not known; set clip to true, or train with it")
    return Normalization(
        "range",
        low=float(a["a_min"]),
        high=float(a["a_max"]),
        scaled_low=float(a.get("b_min", 0.0) or 0.0),
        scaled_high=float(a.get("b_max", 1.0) or 1.0),
    )


def _normalize(a: dict[str, Any]) -> Normalization:
    if a.get("subtrahend") is not None and a.get("divisor") is not None:
        return Normalization("fixed", mean=float(a["subtrahend"]), sd=float(a["divisor"]))
    return Normalization("zscore_foreground" if a.get("nonzero") else "zscore")


def _spacing(a: dict[str, Any]) -> dict[str, Any]:
    mode = a.get("mode", "bilinear")
    mode = mode[0] if isinstance(mode, list) else mode
    if mode not in ("bilinear", "nearest"):
        raise InputError(f"Spacing by '{mode}' is not known; choose bilinear or nearest")
    pixdim = a["pixdim"] if isinstance(a["pixdim"], list) else [a["pixdim"]] * 3
    return {"spacing_mm": tuple(float(v) for v in pixdim), "image_order": 1 if mode == "bilinear" else 0}


READERS: dict[str, Callable[[dict[str, Any]], Normalization | dict[str, Any]]] = {
    "CropForeground": lambda a: {"crop": "nonzero"},
    "NormalizeIntensity": _normalize,
    "Orientation": lambda a: {"orientation": str(a["axcodes"])},
    "ScaleIntensity": lambda a: Normalization("own_range"),
    "ScaleIntensityRange": _scale_range,
    "Spacing": _spacing,
}


def _tiling(config: Config) -> Tiling:
    inferer = config.entries.get("inferer", {})
    target = str(inferer.get("_target_", "")).rpartition(".")[2]
    if target != "SlidingWindowInferer":
        raise InputError(f"{config.folder}: the inferer must be SlidingWindowInferer, got '{target}'")
    wanted = {key: inferer[key] for key in ("roi_size", "overlap", "mode") if key in inferer}
    found = config.value(wanted, "inferer")
    overlap = found.get("overlap", 0.25)
    return Tiling(
        patch=tuple(int(n) for n in found["roi_size"]),
        step=1.0 - float(overlap[0] if isinstance(overlap, list) else overlap),
        weighting="gaussian" if found.get("mode", "constant") == "gaussian" else "constant",
    )


def _by_regions(config: Config, outputs: int) -> bool:
    """True where the bundle's own decision is by a sigmoid for each output, False where it is arg-max."""
    for name, arguments in config.transforms("postprocessing"):
        if name == "Activations" and arguments.get("sigmoid"):
            return True
        if name == "AsDiscrete" and arguments.get("argmax"):
            return False
    return outputs == 1


def _modalities(inputs: Mapping[str, Any], channels: int) -> tuple[str, ...]:
    said = str(inputs.get("modality", "")).upper()
    known = {"CT": "CT", "MR": "MR", "MRI": "MR", "PET": "PT", "PT": "PT", "US": "US"}
    return (known[said],) * channels if said in known else ()
