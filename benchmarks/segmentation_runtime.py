"""One volume through an nnU-Net-like 3D U-Net on the CPU: torch, torch.compile, ONNX Runtime, careloop.

    python benchmarks/segmentation_runtime.py [--shape 128 256 256] [--patch 128] [--classes 3] [--small]
    python benchmarks/segmentation_runtime.py --onnx PEER/bin/python    (an environment with torch, onnx, onnxruntime)

The network has random weights and nnU-Net's usual sizes (six levels, 32 to 320 features, 31 million weights); the image
is simulated noise. All run the same sliding window (careloop's: half a patch, Gaussian, no mirroring), each in a
process of its own, one after the other; peak is that process' largest resident memory, with the child that converts
counted apart. `labels` is the part of voxels labelled as by torch. careloop (OpenVINO) runs with an empty cache, then
with the network in it.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

FEATURES = (32, 64, 128, 256, 320, 320)


def u_net(classes: int) -> Any:
    """The network, always with the same weights."""
    import torch
    from torch import nn

    def block(before: int, after: int, stride: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for channels, step in ((before, stride), (after, 1)):
            norm = nn.InstanceNorm3d(after, affine=True)
            nn.init.normal_(norm.weight, 1, 0.3)
            nn.init.normal_(norm.bias, 0, 0.3)
            layers += [nn.Conv3d(channels, after, 3, step, 1), norm, nn.LeakyReLU(0.01, inplace=True)]
        return nn.Sequential(*layers)

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            down, up = (
                list(zip((1, *FEATURES), FEATURES, strict=False)),
                list(zip(FEATURES[::-1], FEATURES[-2::-1], strict=False)),
            )
            self.down = nn.ModuleList(block(a, b, 1 if a == 1 else 2) for a, b in down)
            self.up = nn.ModuleList(nn.ConvTranspose3d(a, b, 2, 2) for a, b in up)
            self.joined = nn.ModuleList(block(2 * b, b, 1) for _, b in up)
            self.head = nn.Conv3d(FEATURES[0], classes, 1)

        def forward(self, x: Any) -> Any:
            skips = []
            for down in self.down:
                x = down(x)
                skips.append(x)
            for up, joined, skip in zip(self.up, self.joined, skips[-2::-1], strict=True):
                x = joined(torch.cat((up(x), skip), 1))
            return self.head(x)

    torch.manual_seed(0)
    return UNet().eval()


class OnnxRuntime:
    """ONNX Runtime with its defaults behind careloop's interface of a network."""

    batch, note, weight_bytes, activation_bytes = 1, "", 0, None

    def __init__(self, path: Path) -> None:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        """Scores of the tiles."""
        return self._session.run(None, {self._name: tiles})[0]

    def release(self) -> None:
        """Nothing to give back."""


def opened(backend: str, patch: tuple[int, ...], classes: int, folder: Path) -> Any:
    """The network as one of the backends runs it."""
    from careloop.imaging.segment.model import NetworkSource
    from careloop.imaging.segment.runtime import TorchNetwork, open_network, usable_cores

    if backend.startswith("careloop"):
        build = importlib.import_module(Path(__file__).stem).u_net  # under a name that the converting child can import
        source = NetworkSource(f"benchmark {classes}", build=functools.partial(build, classes))
        return open_network(source, patch=patch, channels=1, outputs=classes, device="cpu")
    if backend == "ONNX Runtime":
        path = folder / "network.onnx"
        if not path.exists():
            import torch

            torch.onnx.export(u_net(classes), (torch.zeros(1, 1, *patch),), path, dynamo=False)
        return OnnxRuntime(path)
    module = u_net(classes)
    if backend == "torch.compile":
        import torch

        module = torch.compile(module)
    return TorchNetwork(module, 1, backend, usable_cores())


def run(arguments: argparse.Namespace) -> None:
    """One backend, in this process; prints a JSON line."""
    from careloop.imaging.segment.model import Tiling
    from careloop.imaging.segment.slabs import scores_by_slab

    folder, patch = Path(arguments.folder), (arguments.patch,) * 3
    image = np.random.default_rng(0).normal(size=(1, *arguments.shape)).astype(np.float32)
    labels = np.zeros(arguments.shape, np.uint8)
    started = time.perf_counter()
    network = opened(arguments.backend, patch, arguments.classes, folder)
    opening = time.perf_counter() - started
    marks: list[float] = []
    tell = lambda done, of: marks.append(time.perf_counter())  # noqa: E731
    for slab in scores_by_slab([network], image, tiling=Tiling(patch), outputs=arguments.classes, progress=tell):
        labels[slab.start : slab.stop] = slab.scores.argmax(0)
    total = time.perf_counter() - started
    peak, child = (resource.getrusage(who).ru_maxrss / 1e6 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    np.save(folder / f"{arguments.backend}.npy", labels)
    tiles = np.diff(marks)
    each = float(np.median(tiles)) if len(tiles) else total - opening
    print(json.dumps({"open": opening, "tile": each, "total": total, "peak": peak, "child": child}))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=3, default=[128, 256, 256])
    parser.add_argument("--patch", type=int, default=128)
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--without", nargs="*", default=[], help="rows of the table to leave out, other than torch")
    parser.add_argument("--onnx", help="python of an environment with torch, onnx and onnxruntime")
    parser.add_argument(
        "--small", action="store_true", help="a 64 x 96 x 96 image and patches of 64: seconds, no measurement"
    )
    parser.add_argument("--backend", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.backend:
        return run(arguments)
    if arguments.small:
        arguments.shape, arguments.patch = [64, 96, 96], 64
    backends = ["torch", "torch.compile", *(["ONNX Runtime"] if arguments.onnx else [])]
    backends += ["careloop, first", "careloop, cached"]
    backends = [name for name in backends if name == "torch" or name not in arguments.without]
    print(f"{'':18} {'open s':>8} {'a tile s':>9} {'total s':>8} {'peak GB':>8} {'child GB':>9} {'labels':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for backend in backends:
            python = arguments.onnx if backend == "ONNX Runtime" else sys.executable
            measure(backend, python, arguments, Path(folder))
    return None


def measure(backend: str, python: str, arguments: argparse.Namespace, folder: Path) -> None:
    """Run one backend in a process of its own and print its row."""
    command = [python, __file__, "--backend", backend, "--folder", str(folder), "--shape", *map(str, arguments.shape)]
    command += ["--patch", str(arguments.patch), "--classes", str(arguments.classes)]
    source = str(Path(__file__).parents[1] / "src")
    environment = {**os.environ, "CARELOOP_CACHE": str(folder / "cache"), "PYTHONPATH": source}
    said = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    row = json.loads(said.splitlines()[-1])
    same = (np.load(folder / f"{backend}.npy") == np.load(folder / "torch.npy")).mean()
    times = f"{row['open']:8.1f} {row['tile']:9.2f} {row['total']:8.1f}"
    print(f"{backend:18} {times} {row['peak']:8.2f} {row['child']:9.2f} {same:9.3%}", flush=True)


if __name__ == "__main__":
    main()
