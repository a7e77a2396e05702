"""Weights that a user has, of other libraries or an earlier training, taken into a network as far as they fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from careloop import InputError
from careloop.imaging.classify.foreign_names import renamed
from careloop.imaging.classify.foreign_settings import library_of, read_config
from careloop.imaging.model_folder import WEIGHTS

if TYPE_CHECKING:
    import torch

    from careloop.imaging.classify.image_classifier import ImageClassifier

MEAN_IMAGE = "mean_image"  # of the images trained on: measured anew, not taken from a file
LEAST_SHARE = 0.9  # of the body's numbers; where less fits, the weights are of another network
CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "network_weights")
TORCH_FILES = (".pt", ".pth", ".bin", ".ckpt", ".tar")


@dataclass(frozen=True)
class Pretrained:
    """What was taken: `share` of the body's numbers, weights that were `changed` to fit and how, and the head.

    `missing` are the network's own names that were not in the file, and `unused` the file's that were not taken, each
    with the reason. The head is `kept` where it has as many outputs, which says nothing about whether they mean the
    same; else it is `new`.
    """

    source: str
    share: float
    head: Literal["kept", "new"]
    changed: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    unused: tuple[tuple[str, str], ...]

    def in_words(self) -> str:
        """One line for a log."""
        changes = "".join(f"; {name}: {how}" for name, how in self.changed)
        left = f"; {len(self.missing)} weights new" if self.missing else ""
        unused = f"; {len(self.unused)} of the file's not used" if self.unused else ""
        return f"{self.share:.1%} of the body from {self.source}, head {self.head}{changes}{left}{unused}"


def load_pretrained(network: ImageClassifier, path: Path, *, least_share: float = LEAST_SHARE) -> Pretrained:
    """Load the weights at `path` into `network` in place, and say what was taken and what was not.

    `path` is a timm or Hugging Face folder (config.json and model.safetensors), a folder of a model trained here, a
    .safetensors file, or a .pt or .pth file with a state dict. Names of torchvision, timm, torchxrayvision, MONAI and
    transformers are known. A first layer for three channels is summed into one for grey images, and one for grey
    images divided among three, so that equal channels give what they gave before. Position embeddings are
    interpolated to another size. Nothing but tensors is ever unpickled.

    Raises:
        InputError: nothing readable there, or less than `least_share` of the network's body fits; it is then as it was.
    """
    found = renamed(read_weights(path), network)
    own = {name: value for name, value in network.state_dict().items() if name != MEAN_IMAGE}
    found.pop(MEAN_IMAGE, None)
    taken: dict[str, torch.Tensor] = {}
    changed, unused = [], []
    for name, value in found.items():
        if name not in own:
            unused.append((name, "the network has no such layer"))
            continue
        fitted, how = fit(name, value, own[name], first=network.first_name)
        if fitted is None:
            unused.append((name, how))
            continue
        taken[name] = fitted
        changed += [(name, how)] if how else []
    head = f"{network.head_name}."
    whole = {name for name in own if name.startswith(head)} <= set(taken)
    if not whole:
        taken = {name: value for name, value in taken.items() if not name.startswith(head)}
    body = {name: v.numel() for name, v in own.items() if not name.startswith(head) and v.is_floating_point()}
    share = sum(size for name, size in body.items() if name in taken) / sum(body.values())
    if share < least_share:
        raise InputError(_too_little(path, share, [name for name in body if name not in taken], unused))
    network.load_state_dict(network.state_dict() | taken)
    missing = tuple(name for name in body if name not in taken)
    return Pretrained(str(path), share, "kept" if whole else "new", tuple(changed), missing, tuple(unused))


def fit(name: str, value: torch.Tensor, own: torch.Tensor, *, first: str) -> tuple[torch.Tensor | None, str]:
    """The value in the shape of the network's own and what was changed for it; or None and why it cannot be."""
    if value.shape == own.shape:
        return value, ""
    if name == f"{first}.weight" and value.shape[2:] == own.shape[2:] and len(value) == len(own):
        had, has = value.shape[1], own.shape[1]
        if (had, has) == (3, 1):
            return value.sum(1, keepdim=True), "three channels summed into one"
        if (had, has) == (1, 3):
            return value.expand_as(own) / 3, "one channel divided among three"
    if value.squeeze().shape == own.squeeze().shape:  # a 1x1 convolution as a linear layer
        return value.reshape(own.shape), ""
    if name.endswith("position_embeddings") and value.shape[2:] == own.shape[2:]:
        moved = _other_grid(value, own.shape[1])
        if moved is not None:
            return moved, f"{value.shape[1] - 1} positions interpolated to {own.shape[1] - 1}"
    return None, f"shape {tuple(value.shape)} in the file, {tuple(own.shape)} in the network"


def _other_grid(embeddings: torch.Tensor, length: int) -> torch.Tensor | None:
    """Embeddings (1, 1 + n, d) of a square grid of patches on another square grid; None where one is no square."""
    import torch

    old, new = round((embeddings.shape[1] - 1) ** 0.5), round((length - 1) ** 0.5)
    if old**2 != embeddings.shape[1] - 1 or new**2 != length - 1:
        return None
    grid = embeddings[:, 1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, (new, new), mode="bicubic", align_corners=False)
    return torch.cat([embeddings[:, :1], grid.flatten(2).transpose(1, 2)], 1)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Names and tensors of the file or folder at `path`; InputError where it cannot be read without running code."""
    if path.is_dir():
        if library_of(path) == "transformers":
            return _of_transformers(path)
        parts = [file for file in (path / "model.safetensors", path / WEIGHTS) if file.is_file()][:1]
        parts = parts or sorted(path.glob("model-*-of-*.safetensors"))
        if not parts:
            raise InputError(f"{path} has no model.safetensors; save the weights as safetensors, or name a .pt file")
        return {name: value for part in parts for name, value in _safetensors(part).items()}
    if path.suffix.lower() == ".safetensors":
        return _safetensors(path)
    if path.suffix.lower() in TORCH_FILES:
        return _state_dict(path)
    raise InputError(f"{path} must be a model folder, a .safetensors or a .pt file with a state dict")


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except Exception as error:  # safetensors has one error of its own beside those of the system
        raise InputError(f"{path} cannot be read as safetensors ({type(error).__name__}); copy it again") from error


def _state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Of a file that torch.save wrote, with `weights_only`: a pickled module is refused."""
    import pickle

    import torch

    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} holds pickled code (a whole module, as torchxrayvision's files do), which is never run here; if "
            "you trust it, load it with that library and torch.save(model.state_dict(), ...), and name that file"
        ) from error
    except Exception as error:  # torch raises a dozen kinds for damaged files
        raise InputError(f"{path} cannot be read as a torch file ({type(error).__name__}); copy it again") from error
    for name in CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    tensors = {str(k): v for k, v in content.items() if torch.is_tensor(v)} if isinstance(content, dict) else {}
    if not tensors:
        raise InputError(f"{path} holds no state dict; save the model's state_dict()")
    return tensors


def _of_transformers(folder: Path) -> dict[str, torch.Tensor]:
    """By the library itself, which knows the names of its earlier versions; from safetensors and without code."""
    from careloop.imaging.classify.transformers_network import LOCAL, config_of

    stated = read_config(folder)
    config = config_of(stated, int(stated.get("num_channels", 3)), labels=stated.get("id2label"))
    from transformers import AutoModel, AutoModelForImageClassification

    with_head = any(str(name).endswith("ForImageClassification") for name in stated.get("architectures") or [])
    reader: Any = AutoModelForImageClassification if with_head else AutoModel
    try:
        model = reader.from_pretrained(folder, config=config, use_safetensors=True, **LOCAL)
    except Exception as error:  # whatever the library's checks raise
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{folder} cannot be read by transformers: {reason}; it needs model.safetensors") from error
    return dict(model.float().state_dict())


def _too_little(path: Path, share: float, missing: list[str], unused: list[tuple[str, str]]) -> str:
    examples = f"the network's {missing[0]} is not there"
    why = f"{unused[0][0]} of the file: {unused[0][1]}" if unused else "the file has nothing else"
    return (
        f"{path} fits {share:.0%} of the network's body, less than is needed ({examples}; {why}); choose the network "
        "that these weights are of"
    )
