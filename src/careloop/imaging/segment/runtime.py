"""One network ready to run on patches: OpenVINO on the CPU, torch where that cannot take it or where there is a GPU."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from careloop import InputError
from careloop.imaging.segment.conversion import VERSION, Conversion, UnsupportedNetworkError, convert, silent_openvino
from careloop.imaging.segment.model import NetworkSource
from careloop.imaging.segment.network_cache import cached, forget

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

DEVICES = ("auto", "cpu", "cuda")
CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


class Network(Protocol):
    """A network that runs on at most `batch` patches at once; `note` says where it runs, and why if not as usual.

    `weight_bytes` and `activation_bytes` are what it takes beside its inputs and outputs, the latter while it runs and
    until `release`, None where that is not known.
    """

    @property
    def batch(self) -> int: ...  # noqa: D102

    @property
    def note(self) -> str: ...  # noqa: D102

    @property
    def weight_bytes(self) -> int: ...  # noqa: D102

    @property
    def activation_bytes(self) -> int | None: ...  # noqa: D102

    def __call__(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores (n, outputs, *patch) of tiles (n, channels, *patch); valid until the next call."""

    def release(self) -> None:
        """Give back the memory of activations until the next call."""


def open_network(
    source: NetworkSource,
    *,
    patch: tuple[int, ...],
    channels: int,
    outputs: int,
    device: str = "auto",
    threads: int | None = None,
    batch: int = 1,
) -> Network:
    """The network of `source`, ready to run on `batch` patches at a time with `threads` threads (default: all cores).

    On the CPU it is converted for OpenVINO once (in another process) and cached, and runs in single precision; torch
    is imported only where OpenVINO is missing or cannot take the network. `auto` takes a CUDA GPU where there is one.
    Raises InputError for an unknown device and for a network whose outputs are not as stated.
    """
    if device not in DEVICES:
        raise InputError(f"The device must be one of {', '.join(DEVICES)}, got '{device}'")
    shape = (batch, channels, *patch)
    threads = threads or usable_cores()
    if device == "cuda" or (device == "auto" and gpu_is_there()):
        return on_gpu(source, batch=batch)
    try:
        network: Network = open_converted(source, shape, threads=threads)
    except (ImportError, UnsupportedNetworkError) as error:
        if source.build is None:
            raise InputError(f"OpenVINO must be able to take the ONNX network, but: {error}") from error
        return TorchNetwork(source.build().eval(), batch, f"torch on the CPU, as OpenVINO cannot: {error}", threads)
    return checked(network, outputs=outputs)


def open_converted(source: NetworkSource, shape: tuple[int, ...], *, threads: int) -> OpenVinoNetwork:
    """The cached conversion compiled; one that cannot be read is made anew once."""
    openvino = silent_openvino()
    key = cache_key(source, shape, openvino.__version__)
    for attempt in (1, 2):
        path = cached(key, lambda path: convert(Conversion(source, shape, path)))
        try:
            return OpenVinoNetwork.compiled(path, threads)
        except RuntimeError:
            forget(path)
            if attempt == 2:
                raise
    raise AssertionError("unreachable")


def cache_key(source: NetworkSource, shape: tuple[int, ...], version: str) -> str:
    """Digest of what a converted network depends on: weights, shape, the converters' versions."""
    return hashlib.sha256(repr((source.digest, shape, version, VERSION)).encode()).hexdigest()


class OpenVinoNetwork:
    """A network compiled by OpenVINO for this CPU, in single precision: labels must equal the original's."""

    def __init__(self, compiled: Any, weight_bytes: int) -> None:
        self._compiled, self._request = compiled, compiled.create_infer_request()
        self._shape = tuple(compiled.input(0).shape)
        self.outputs = compiled.output(0).shape[1]
        self.batch, self.note = self._shape[0], "OpenVINO on the CPU, single precision"
        self.weight_bytes, self.activation_bytes = weight_bytes, activation_bytes(compiled)

    @classmethod
    def compiled(cls, path: Path, threads: int) -> OpenVinoNetwork:
        """Compiled from an IR; raises RuntimeError where it cannot be read."""
        openvino = silent_openvino()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
        }
        return cls(openvino.Core().compile_model(path, "CPU", settings), path.with_suffix(".bin").stat().st_size)

    def __call__(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """See Network."""
        count = len(tiles)
        if count < self.batch:
            tiles = np.concatenate([tiles, np.zeros((self.batch - count, *tiles.shape[1:]), np.float32)])
        self._request.infer({0: np.ascontiguousarray(tiles, np.float32)}, share_inputs=True)
        return self._request.get_output_tensor(0).data[:count]

    def release(self) -> None:
        """See Network."""
        self._compiled.release_memory()


class TorchNetwork:
    """A torch module as it is, on the CPU or a GPU, in single precision."""

    activation_bytes = None

    def __init__(self, module: torch.nn.Module, batch: int, note: str, threads: int = 1) -> None:
        self._module, self.batch, self.note, self._threads = module, batch, note, threads
        parameters = list(module.parameters())
        self._device = parameters[0].device if parameters else "cpu"
        self.weight_bytes = sum(p.numel() * p.element_size() for p in parameters)

    def __call__(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """See Network."""
        import torch

        from careloop.models.network_loop import cpu_threads

        with torch.inference_mode(), cpu_threads(self._threads):
            return self._module(torch.from_numpy(tiles).to(self._device)).float().cpu().numpy()

    def release(self) -> None:
        """Torch gives back what it no longer needs by itself."""


def on_gpu(source: NetworkSource, *, batch: int) -> TorchNetwork:
    """The network compiled by torch for a CUDA GPU, without autocast: single precision, as on the CPU."""
    import torch

    if source.build is None:
        raise InputError("An ONNX network runs on the CPU only; set the device to cpu")
    if not torch.cuda.is_available():
        raise InputError("The device cuda must be one that torch sees, got none; set the device to cpu")
    module: Any = torch.compile(source.build().eval().to("cuda"))
    return TorchNetwork(module, batch, "torch.compile on a CUDA GPU, single precision")


def gpu_is_there() -> bool:
    """Whether torch sees a CUDA GPU; torch is only asked where the system has a driver, as importing it is slow."""
    if not any(Path(place).exists() for place in ("/dev/nvidiactl", "/dev/dxg")):
        return False
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def checked(network: Network, *, outputs: int) -> Network:
    """The network, if it has as many outputs as the model says."""
    got = getattr(network, "outputs", outputs)
    if got != outputs:
        raise InputError(f"A network must have the model's {outputs} outputs, got {got}; its description is another's")
    return network


def activation_bytes(compiled: Any) -> int:
    """The most bytes of intermediate results that are needed at one time, from the compiled graph and its order."""
    nodes = sorted(
        compiled.get_runtime_model().get_ordered_ops(), key=lambda n: int(n.get_rt_info()["execOrder"].astype(str))
    )
    last = {}
    for at, node in enumerate(nodes):
        for value in node.input_values():
            last[value.get_node().get_friendly_name()] = at
    live: dict[str, int] = {}
    most = 0
    for at, node in enumerate(nodes):
        live[node.get_friendly_name()] = sum(
            o.get_element_type().size * int(np.prod(o.get_shape())) for o in node.outputs()
        )
        most = max(most, sum(live.values()))
        live = {name: size for name, size in live.items() if last.get(name, -1) > at}
    return most


def usable_cores() -> int:
    """Physical cores that this process may use: two threads of one core count once, a container's quota is kept."""
    siblings = set()
    for cpu in os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ():
        place = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings.add(place.read_text().strip() if place.exists() else str(cpu))
    cores = len(siblings) or max(1, (os.cpu_count() or 2) // 2)
    try:
        quota, period = CGROUP_QUOTA.read_text().split()
        return cores if quota == "max" else max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):
        return cores
