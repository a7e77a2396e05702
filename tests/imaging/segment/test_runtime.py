"""Networks run by OpenVINO against torch in double precision, the cache, and what falls back."""

from __future__ import annotations

import copy
import functools
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from careloop import InputError
from careloop.imaging.segment.model import NetworkSource
from careloop.imaging.segment.network_cache import IR, cached, drop_longest_unused
from careloop.imaging.segment.runtime import OpenVinoNetwork, TorchNetwork, cache_key, open_network, usable_cores

torch = pytest.importorskip("torch")
pytest.importorskip("openvino")
nn = torch.nn


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CARELOOP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "networks"


class SmallUNet(nn.Module):
    """Two levels with instance normalisation and one skip, joined as nnU-Net's (upsampled first)."""

    def __init__(self, dims: int = 3, channels: int = 1, outputs: int = 3, features: int = 8) -> None:
        super().__init__()
        conv, norm, up = (getattr(nn, f"{name}{dims}d") for name in ("Conv", "InstanceNorm", "ConvTranspose"))

        def block(before: int, after: int, stride: int = 1) -> nn.Sequential:
            return nn.Sequential(
                conv(before, after, 3, stride, 1), norm(after, affine=True), nn.LeakyReLU(0.01, inplace=True)
            )

        self.top, self.low = block(channels, features), block(features, 2 * features, 2)
        self.up, self.join = up(2 * features, features, 2, 2), block(2 * features, features)
        self.head = conv(features, outputs, 1)
        for name, values in self.named_parameters():
            if values.ndim == 1:
                nn.init.normal_(values, float(name.endswith("weight")), 0.3)

    def forward(self, x: Any) -> Any:
        skip = self.top(x)
        return self.head(self.join(torch.cat((self.up(self.low(skip)), skip), 1)))


def source(module: nn.Module, digest: str = "of the test") -> NetworkSource:
    return NetworkSource(digest, build=functools.partial(copy.deepcopy, module.eval()))


def exact(module: nn.Module, tiles: np.ndarray) -> np.ndarray:
    """The module's scores in double precision."""
    with torch.no_grad():
        return copy.deepcopy(module).eval().double()(torch.from_numpy(tiles).double()).numpy()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(("dims", "patch"), [(3, (16, 24, 32)), (2, (40, 24))])
def test_scores_are_torchs(dims: int, patch: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    module = SmallUNet(dims, 2)
    network = open_network(source(module), patch=patch, channels=2, outputs=3, batch=2, threads=1)
    assert isinstance(network, OpenVinoNetwork)
    for count in (1, 2):
        tiles = noise(count, 2, *patch)
        assert np.allclose(network(tiles), exact(module, tiles), atol=2e-5)
    network.release()
    assert np.allclose(network(tiles), exact(module, tiles), atol=2e-5)


def test_instance_normalisation_of_many_voxels_stays_exact() -> None:
    """OpenVINO's own sums a large patch voxel by voxel: its error at this size is above 1e-4."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv3d(1, 16, 1), nn.InstanceNorm3d(16, affine=True))
    tiles = noise(1, 1, 64, 96, 96) + 2
    network = open_network(source(module), patch=tiles.shape[2:], channels=1, outputs=16)
    assert np.abs(network(tiles) - exact(module, tiles)).max() < 2e-5


def test_skips_are_not_joined_in_a_buffer_of_their_own(cache: Path) -> None:
    open_network(source(SmallUNet()), patch=(16, 16, 16), channels=1, outputs=3)
    (graph,) = cache.glob(f"*/{IR}")
    assert 'type="Convolution"' in graph.read_text()
    assert 'type="Concat"' not in graph.read_text()


def test_a_cached_network_needs_neither_torch_nor_its_weights() -> None:
    def fails() -> nn.Module:
        raise AssertionError("built again")

    module = SmallUNet()
    first = open_network(source(module), patch=(8, 8, 8), channels=1, outputs=3)
    tiles = noise(1, 1, 8, 8, 8)
    again = open_network(NetworkSource("of the test", build=fails), patch=(8, 8, 8), channels=1, outputs=3)
    assert np.array_equal(first(tiles), again(tiles))
    child = (
        "import sys; from careloop.imaging.segment.model import NetworkSource\n"
        "from careloop.imaging.segment.runtime import open_network\n"
        "network = open_network(NetworkSource('of the test', build=lambda: 1 / 0), patch=(8, 8, 8), channels=1, "
        "outputs=3, device='cpu')\n"
        "import numpy; network(numpy.zeros((1, 1, 8, 8, 8), 'f4'));\n"
        "sys.exit('torch' in sys.modules or sys.modules.get('openvino_telemetry') is not None)"
    )
    assert subprocess.run([sys.executable, "-c", child], env=dict(os.environ)).returncode == 0


def test_conversion_leaves_torch_to_a_child(tmp_path: Path) -> None:
    """A process that has never imported torch opens a network that is not cached yet, and still has not."""
    build = functools.partial(copy.deepcopy, nn.Conv3d(1, 3, 3, padding=1).eval())
    (tmp_path / "build.pickle").write_bytes(pickle.dumps(build))
    built = f'__import__("pickle").load(open({str(tmp_path / "build.pickle")!r}, "rb"))'  # evaluated by the child
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from careloop.imaging.segment import conversion, runtime\n"
        "from careloop.imaging.segment.model import NetworkSource\n"
        "class Sent:\n"
        f"    def __reduce__(self): return (eval, ({built!r},))\n"
        "network = runtime.open_network(NetworkSource('d', build=Sent()), patch=(8, 8, 8), channels=1, outputs=3,\n"
        "                               device='cpu')\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, str(program)], env=dict(os.environ)).returncode == 0


def test_another_shape_version_or_weights_is_another_network() -> None:
    keys = [
        cache_key(NetworkSource(digest), shape, version)
        for digest, shape, version in (
            ("a", (1, 1, 8), "1"),
            ("a", (1, 1, 9), "1"),
            ("b", (1, 1, 8), "1"),
            ("a", (1, 1, 8), "2"),
        )
    ]
    assert len(set(keys)) == 4


def test_a_damaged_network_is_made_again(cache: Path) -> None:
    convolution = NetworkSource("d", build=lambda: nn.Conv2d(1, 3, 1))
    open_network(convolution, patch=(8, 8), channels=1, outputs=3)
    (graph,) = cache.glob(f"*/{IR}")
    graph.write_text("<net")
    network = open_network(convolution, patch=(8, 8), channels=1, outputs=3)
    assert network(noise(1, 1, 8, 8)).shape == (1, 3, 8, 8)


def test_what_openvino_cannot_take_runs_in_torch() -> None:
    class Special(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.special.bessel_j0(x)

    tiles = noise(1, 1, 8, 8)
    network = open_network(source(Special()), patch=(8, 8), channels=1, outputs=1)
    assert isinstance(network, TorchNetwork)
    assert "OpenVINO cannot" in network.note
    assert np.allclose(network(tiles), torch.special.bessel_j0(torch.from_numpy(tiles)))


def field(number: int, value: bytes | int | str) -> bytes:
    """A protocol-buffers field: a number as varint (below 128), anything else with its length (below 16384)."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    value = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2, len(value) & 127 | 128, len(value) >> 7]) + value


def onnx_of(kernel: np.ndarray, shape: tuple[int, ...]) -> bytes:
    """The ONNX file of one convolution without padding (its IR, written by hand: ModelProto, GraphProto, NodeProto)."""

    def tensor_type(sizes: tuple[int, ...]) -> bytes:
        dims = b"".join(field(1, field(1, size)) for size in sizes)
        return field(2, field(1, field(1, 1) + field(2, dims)))

    weights = (
        b"".join(field(1, size) for size in kernel.shape) + field(2, 1) + field(8, "w") + field(9, kernel.tobytes())
    )
    after = (shape[0], kernel.shape[0], *(s - k + 1 for s, k in zip(shape[2:], kernel.shape[2:], strict=True)))
    graph = (
        field(1, field(1, "x") + field(1, "w") + field(2, "y") + field(4, "Conv")) + field(2, "g") + field(5, weights)
    )
    graph += field(11, field(1, "x") + tensor_type(shape)) + field(12, field(1, "y") + tensor_type(after))
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))


def test_an_onnx_file_runs(tmp_path: Path) -> None:
    kernel = noise(3, 1, 1, 1, 1)
    (tmp_path / "net.onnx").write_bytes(onnx_of(kernel, (1, 1, 8, 8, 8)))
    onnx = NetworkSource("onnx", onnx=tmp_path / "net.onnx")
    tiles = noise(2, 1, 8, 8, 8)
    network = open_network(onnx, patch=(8, 8, 8), channels=1, outputs=3, batch=2)
    assert np.allclose(network(tiles), tiles * kernel.reshape(1, 3, 1, 1, 1), rtol=1e-6)


def test_wrong_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one of auto, cpu, cuda"):
        open_network(source(SmallUNet()), patch=(8, 8, 8), channels=1, outputs=3, device="tpu")
    with pytest.raises(InputError, match="model's 5 outputs, got 3"):
        open_network(NetworkSource("d", build=lambda: nn.Conv2d(1, 3, 1)), patch=(8, 8), channels=1, outputs=5)
    (tmp_path / "no.onnx").write_bytes(b"no")
    with pytest.raises(InputError, match="ONNX"):
        open_network(NetworkSource("no", onnx=tmp_path / "no.onnx"), patch=(8, 8, 8), channels=1, outputs=3)


def test_two_threads_that_miss_a_network_make_it_once(cache: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    made: list[int] = []

    def make(path: Path) -> None:
        made.append(1)
        time.sleep(0.1)
        path.write_text("graph")

    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda _: cached("key", make), range(2)))
    assert paths == [cache / "key" / IR] * 2
    assert made == [1]


def test_the_longest_unused_networks_go_first(cache: Path) -> None:
    for age, name in ((3, "old"), (2, "middle"), (1, "new")):
        path = cached(name, lambda path: path.write_bytes(bytes(1000)))
        os.utime(path.parent, (time.time() - age,) * 2)
    drop_longest_unused(cache, keep="old", most_bytes=2000)
    assert {path.parent.name for path in cache.glob(f"*/{IR}")} == {"old", "new"}


def test_a_cache_that_cannot_be_written_to_is_done_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CARELOOP_CACHE", str(tmp_path / "file"))
    assert cached("key", lambda path: path.write_text("graph") and None).read_text() == "graph"


def test_cores_are_at_least_one_and_at_most_all() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
