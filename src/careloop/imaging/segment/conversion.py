"""A network turned into an OpenVINO graph on disk, in a process of its own, so that torch's memory is given back."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from careloop import InputError
from careloop.imaging.segment.graph import improve
from careloop.imaging.segment.model import NetworkSource

if TYPE_CHECKING:
    import openvino
    import torch

VERSION = 1  # of what is written: a change here makes cached networks new
CANNOT_BE_SENT = 3  # exit status of the child where it cannot import what the source needs
CHILD = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
from careloop.imaging.segment.conversion import convert_for_parent
convert_for_parent()
"""


def silent_openvino() -> Any:
    """The openvino package without its usage statistics, which its converter would send over the network."""
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # as if it were not installed
    import openvino

    return openvino


class UnsupportedNetworkError(Exception):
    """OpenVINO cannot take the network; the message is its last line on that."""


@dataclass(frozen=True)
class Conversion:
    """What to convert: the source, the shape (n, channels, *patch) it will be run with, and where to write the IR."""

    source: NetworkSource
    shape: tuple[int, ...]
    path: Path


def convert(conversion: Conversion) -> None:
    """Write the network's IR with weights in single precision; raises UnsupportedNetworkError where it cannot be.

    A source whose `build` cannot be pickled (a closure, a lambda) is converted in this process.
    """
    try:
        sent = pickle.dumps(conversion)
    except (pickle.PicklingError, AttributeError, TypeError):
        return convert_here(conversion)
    command = [sys.executable, "-c", CHILD]
    child = subprocess.run(command, input=pickle.dumps(sys.path) + sent, capture_output=True)
    if child.returncode == CANNOT_BE_SENT:
        return convert_here(conversion)
    if child.returncode < 0:
        raise InputError(
            f"Converting the network must end by itself, got a kill by signal {-child.returncode}; if memory ran out, "
            "close other programs"
        )
    if child.returncode != 0:
        said = child.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {child.returncode}"]
        name, _, message = said[-1].partition(": ")
        if name.endswith(InputError.__name__):
            raise InputError(message)
        raise UnsupportedNetworkError(said[-1])
    return None


def convert_for_parent() -> None:
    """The child's part: a pickled Conversion from standard input, from the parent alone."""
    try:
        conversion = pickle.load(sys.stdin.buffer)
    except (ImportError, AttributeError):
        sys.exit(CANNOT_BE_SENT)
    try:
        convert_here(conversion)
    except UnsupportedNetworkError as error:
        sys.exit(str(error))


def convert_here(conversion: Conversion) -> None:
    """Convert in this process."""
    openvino = silent_openvino()
    source, shape = conversion.source, conversion.shape
    build = source.build
    try:
        model = openvino.Core().read_model(source.onnx) if build is None else from_torch(build(), shape)
        model.reshape(list(shape))
        improve(model)
        openvino.save_model(model, conversion.path, compress_to_fp16=False)
    except (RuntimeError, openvino.frontend.OpConversionFailure) as error:
        raise UnsupportedNetworkError(str(error).strip().splitlines()[-1]) from error


def from_torch(module: torch.nn.Module, shape: tuple[int, ...]) -> openvino.Model:
    """The module as an OpenVINO model: by torch.export, which needs no memory for activations, else by tracing it."""
    import torch

    openvino = silent_openvino()
    module.eval()
    example = torch.zeros(shape)
    with torch.no_grad():
        try:
            return openvino.convert_model(exported(module, example))
        except Exception:
            return openvino.convert_model(module, example_input=example)


def exported(module: torch.nn.Module, example: torch.Tensor) -> Any:
    """OpenVINO's decoder of the exported module, with instance normalisation as one operation.

    OpenVINO's own route takes that apart into means and variances, and a slower graph.
    """
    import torch
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder
    from openvino.frontend.pytorch.torchdynamo.export_decompositions import ops_to_not_decompose
    from torch.export.decomp_utils import CustomDecompTable

    table: Any = CustomDecompTable()
    for operation in (*ops_to_not_decompose(), torch.ops.aten.instance_norm.default):
        if operation in table:
            table.pop(operation)
    program = torch.export.export(module, (example,), strict=False)
    return TorchFXPythonDecoder(program.run_decompositions(table).module(), dynamic_shapes=False)
