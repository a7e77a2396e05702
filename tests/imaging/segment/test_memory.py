"""The estimate against measured peaks, and what is free as the system tells it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from careloop import InputError
from careloop.imaging.segment import memory
from careloop.imaging.segment.memory import available_bytes, check_memory

GB = 10**9
# Peak resident memory over what was held before the run, and the estimate of it, in bytes.
PROGRAM = """
import copy, functools, pickle, sys, numpy as np, torch
from careloop.imaging.segment.memory import needed_bytes
from careloop.imaging.segment.model import NetworkSource, Tiling
from careloop.imaging.segment.runtime import open_network
from careloop.imaging.segment.slabs import scores_by_slab
from careloop.imaging.segment.stages import Stages, resident_bytes
outputs, size, mirrored = (int(a) for a in sys.argv[1:])
n = torch.nn
module = n.Sequential(n.Conv3d(1, 16, 3, 1, 1), n.InstanceNorm3d(16), n.LeakyReLU(), n.Conv3d(16, outputs, 1))
source = NetworkSource("d", build=functools.partial(copy.deepcopy, module.eval()))
network = open_network(source, patch=(64, 64, 64), channels=1, outputs=outputs)
image = np.random.default_rng(0).normal(size=(1, 96, size, size)).astype("f4")
tiling = Tiling((64, 64, 64), 1.0, mirror_axes=(2,) if mirrored else ())
stages, before = Stages(), resident_bytes()
with stages.stage("run"):
    for slab in scores_by_slab([network], image, tiling=tiling, outputs=outputs):
        pass
print(stages.results[0].peak_bytes - before, needed_bytes(image.shape, [network], tiling=tiling, outputs=outputs))
"""


@pytest.mark.parametrize(("outputs", "size", "mirrored"), [(3, 64, 0), (40, 128, 1)])
def test_the_estimate_is_near_the_measured_peak(tmp_path: Path, outputs: int, size: int, mirrored: int) -> None:
    pytest.importorskip("openvino")
    if not Path("/proc/self/statm").exists():
        pytest.skip("peak memory is sampled from /proc")
    command = [sys.executable, "-c", PROGRAM, str(outputs), str(size), str(mirrored)]
    environment = {**os.environ, "CARELOOP_CACHE": str(tmp_path)}
    said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    measured, estimate = (int(word) for word in said.split())
    assert measured * 0.95 < estimate < measured * 1.4 + 60e6


def test_too_little_memory_is_refused_before_the_start() -> None:
    check_memory(3 * GB, available=4 * GB)
    with pytest.raises(InputError, match=r"about 5\.0 GB of free memory, got 4\.0 GB; close other programs"):
        check_memory(5 * GB, available=4 * GB)
    check_memory(1000)


def test_a_container_has_what_its_limit_leaves(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/outer/inner\n")
    inner = tmp_path / "root" / "outer" / "inner"
    inner.mkdir(parents=True)
    for folder, limit, usage in ((inner.parent, "1000", "300"), (inner, "max", "200")):
        (folder / "memory.max").write_text(limit)
        (folder / "memory.current").write_text(usage)
        (folder / "memory.stat").write_text("anon 1\ninactive_file 50\n")
    assert memory._left_by_control_groups(tmp_path / "root", own) == [750]
    own.write_text("4:memory:/\n3:cpu:/\n")
    old = tmp_path / "root" / "memory"
    old.mkdir()
    (old / "memory.limit_in_bytes").write_text("500")
    (old / "memory.usage_in_bytes").write_text("600")
    (old / "memory.stat").write_text("cache 0\n")
    assert memory._left_by_control_groups(tmp_path / "root", own) == [0]


def test_what_is_free_is_less_than_the_machine_has() -> None:
    available = available_bytes()
    assert available is not None
    assert 0 < available <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
