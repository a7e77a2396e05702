"""Checkpoints of nnU-Net v2: what they say, read without torch, and their weights, by torch's weights-only reading."""

from __future__ import annotations

import collections
import contextlib
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from careloop import InputError

if TYPE_CHECKING:
    from torch import nn

HARMLESS = ("torch", "numpy", "_codecs", "builtins", "__builtin__")  # packages whose objects are left out, not refused
DAMAGED = (OSError, KeyError, AttributeError, TypeError, ValueError, IndexError, EOFError, RuntimeError)


@dataclass(frozen=True)
class Checkpoint:
    """What one fold's checkpoint says of itself; `parameters` are the names of its weights."""

    path: Path
    parameters: frozenset[str]
    trainer: str
    configuration: str
    mirror_axes: tuple[int, ...]


def read_checkpoint(path: Path) -> Checkpoint:
    """What a checkpoint says, in milliseconds: its weights are not read, torch is not loaded, and no code is run.

    Raises:
        InputError: it is damaged, older than torch 1.6's format, or holds objects other than numbers and weights.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
            with archive.open(names[0]) as file:
                content = _Description(file).load()
        said = content.get("init_args")
        return Checkpoint(
            path=path,
            parameters=frozenset(map(_plain, content["network_weights"])),
            trainer=str(content.get("trainer_name") or ""),
            configuration=str(said.get("configuration") or "") if isinstance(said, dict) else "",
            mirror_axes=tuple(int(axis) for axis in content.get("inference_allowed_mirroring_axes") or ()),
        )
    except InputError as error:
        raise InputError(f"{path} {error}") from None
    except (zipfile.BadZipFile, pickle.UnpicklingError, *DAMAGED) as error:
        raise InputError(f"{path} is no checkpoint of nnU-Net v2, or damaged ({type(error).__name__})") from error


class _LeftOut:
    """Stands for an object that is not needed; takes whatever it is made from."""

    def __init__(self, *_: object, **__: object) -> None: ...
    def __setstate__(self, _: object) -> None: ...


class _Description(pickle.Unpickler):
    """Dicts, lists, strings and numbers; tensors and numpy's objects are left out, and nothing is ever imported."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module.partition(".")[0] in HARMLESS:
            return _LeftOut
        raise InputError(f"holds more than weights and numbers and is not opened: {module}.{name}")

    def persistent_load(self, _: object) -> Any:
        return None


def with_weights(network: nn.Module, checkpoint: Path) -> nn.Module:
    """The network (built on torch's `meta` device) with a checkpoint's weights, mapped from disk; evaluation mode.

    Raises:
        InputError: the file holds code, is damaged, or has not exactly the parameters of the network.
    """
    import torch

    try:
        with _numpy_allowed():
            content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        weights = {_plain(key): value for key, value in content["network_weights"].items()}
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = found[1] if found else "unknown content"
        raise InputError(f"{checkpoint} holds more than weights and numbers and is not opened: {what}") from error
    except DAMAGED as error:
        raise InputError(f"{checkpoint} is no checkpoint of nnU-Net v2, or damaged ({type(error).__name__})") from error
    expected = network.state_dict()
    differing = {key for key in expected.keys() | weights.keys() if _shape(expected, key) != _shape(weights, key)}
    if differing:
        raise InputError(
            f"{checkpoint} belongs to another network than plans.json describes: {len(differing)} of {len(expected)} "
            f"parameters differ, the first is {min(differing)}; its trainer may have changed the network"
        )
    network.load_state_dict(weights, assign=True)
    return network.eval()


@contextlib.contextmanager
def _numpy_allowed() -> Iterator[None]:
    """Let torch read numpy's numbers and arrays, which nnU-Net's training logs hold; they carry no code."""
    import numpy as np
    import torch

    kinds = [type(np.dtype(t)) for t in (np.float16, np.float32, np.float64, np.int32, np.int64, np.bool_)]
    makers: dict[str, Any] = {"scalar": np.float32(0).__reduce__()[0], "_reconstruct": np.zeros(1).__reduce__()[0]}
    names = [
        (f, f"{module}.multiarray.{name}") for name, f in makers.items() for module in ("numpy.core", "numpy._core")
    ]
    with torch.serialization.safe_globals([np.dtype, np.ndarray, *kinds, *names]):
        yield


def _plain(key: str) -> str:
    """A parameter's name without what torch.compile and distributed training put in front of it."""
    return key.removeprefix("module.").removeprefix("_orig_mod.")


def _shape(weights: Mapping[str, Any], key: str) -> tuple[int, ...] | None:
    return tuple(weights[key].shape) if key in weights else None
