"""A killed run goes on where it last saved, and ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from careloop import InputError
from careloop.imaging.segment.model import NetworkSource, Preparation, SegmentationModel, Tiling
from careloop.imaging.segment.partial import Partial, state_key
from careloop.imaging.segment.slabs import scores_by_slab

# Labels of a random image by a slow network; it prints each tile, and resumes what it finds in the folder.
PROGRAM = """
import sys, time, pathlib, numpy as np
from careloop.imaging.segment.model import Tiling
from careloop.imaging.segment import partial as saving
from careloop.imaging.segment.slabs import scores_by_slab

saving.TIME_SHARE = 0  # save after each tile, however long that takes

class Slow:
    note, weight_bytes, activation_bytes, batch = "", 0, 0, 1
    def __init__(self, seed): self.factors = np.random.default_rng(seed).normal(size=3).astype("f4")
    def __call__(self, tiles):
        time.sleep(float(sys.argv[2]))
        ramp = np.arange(8, dtype="f4")
        return np.stack([f * tiles[:, 0] + f * ramp for f in self.factors], 1)
    def release(self): pass

image = np.random.default_rng(5).normal(size=(1, 40, 12, 12)).astype("f4")
partial = saving.Partial(pathlib.Path(sys.argv[1]), key="k", every_s=0)
labels = partial.array("labels", image.shape[1:], np.uint8)
tell = lambda done, of: print(done, of, flush=True)
slabs = scores_by_slab([Slow(0), Slow(1)], image, tiling=Tiling((8, 8, 8)), outputs=3, progress=tell, partial=partial)
for slab in slabs:
    labels[slab.start:slab.stop] = slab.scores.argmax(0)
np.save(pathlib.Path(sys.argv[1]) / "labels.npy", labels)
partial.remove()
"""


def command(folder: Path, *, slow_s: float) -> list[str]:
    folder.mkdir(exist_ok=True)
    return [sys.executable, "-c", PROGRAM, str(folder), str(slow_s)]


@pytest.mark.parametrize("signal_sent", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_ends_as_an_undisturbed_one(tmp_path: Path, signal_sent: signal.Signals) -> None:
    subprocess.run(command(tmp_path / "undisturbed", slow_s=0), check=True, capture_output=True)
    folder = tmp_path / "killed"
    for tiles in (16, 33):
        child = subprocess.Popen(
            command(folder, slow_s=0.02), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert child.stdout is not None
        for line in child.stdout:
            if int(line.split()[0]) == tiles:
                time.sleep(0.005)
                child.send_signal(signal_sent)
        assert child.wait() != 0
    last = subprocess.run(command(folder, slow_s=0), check=True, capture_output=True, text=True).stdout.split("\n")
    assert int(last[0].split()[0]) > 20  # it did not start anew
    assert last[-2].split() == ["72", "72"]
    undisturbed = np.load(tmp_path / "undisturbed" / "labels.npy")
    assert len(np.unique(undisturbed)) == 3
    assert np.array_equal(np.load(folder / "labels.npy"), undisturbed)
    assert [path.name for path in folder.iterdir()] == ["labels.npy"]


class Interrupted:
    note, weight_bytes, activation_bytes, batch = "", 0, 0, 1

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self, tiles: np.ndarray) -> np.ndarray:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return np.stack([tiles[:, 0], -tiles[:, 0]], 1)

    def release(self) -> None: ...


def test_an_interrupt_leaves_all_tiles_that_were_done(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(1, 8, 8, 20)).astype(np.float32)
    done: list[int] = []
    for network in (Interrupted(4), Interrupted(0)):
        partial = Partial(tmp_path, key="k")
        slabs = scores_by_slab(
            [network],
            image,
            tiling=Tiling((8, 8, 8), weighting="constant"),
            outputs=2,
            progress=lambda n, of: done.append(n),
            partial=partial,
        )
        if network.left:
            with pytest.raises(KeyboardInterrupt):
                list(slabs)
    (slab,) = slabs
    assert done == [1, 2, 3, 4]
    assert np.array_equal(slab.scores.argmax(0) == 0, image[0] >= 0)


def test_saves_take_a_bounded_part_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(os, "fsync", lambda _: now.__setitem__(0, now[0] + 4))  # a slow disk: 4 s for each save
    partial = Partial(tmp_path, key="k", every_s=30)
    saves = []
    while now[0] < 1000:
        now[0] += 1
        partial.save_when_due(lambda: saves.append(now[0]) or {"x": np.zeros(3)})
    assert saves[0] == 30
    assert min(np.diff(saves)) >= 80


def test_a_disk_that_is_full_does_not_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    Partial(tmp_path, key="k").save({"x": np.zeros(3)})
    assert list(tmp_path.iterdir()) == []


def test_damaged_or_other_states_are_not_taken(tmp_path: Path) -> None:
    partial = Partial(tmp_path, key="k")
    partial.array("labels", (4,), np.uint8)[:] = 7
    partial.save({"x": np.arange(3)})
    found = Partial(tmp_path, key="k")
    assert found.array("labels", (4,), np.uint8).tolist() == [7] * 4
    state = found.state()
    assert state is not None
    assert state["x"].tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="delete that file"):
        Partial(tmp_path, key="k").array("labels", (5,), np.uint8)
    assert Partial(tmp_path, key="other").state() is None
    partial.path.write_bytes(partial.path.read_bytes()[:-5])
    assert Partial(tmp_path, key="k").state() is None


def test_the_key_changes_with_image_weights_and_settings() -> None:
    def model(digest: str, step: float = 0.5) -> SegmentationModel:
        tiling, networks = Tiling((8, 8, 8), step), (NetworkSource(digest),)
        return SegmentationModel("m", "1", "nnunet", ("CT",), (), 3, Preparation((), None), tiling, networks)

    image = np.zeros((1, 4, 4, 4), np.float32)
    other = image.copy()
    other[0, 1, 2, 3] = 1e-6
    keys = [
        state_key(image, model("a")),
        state_key(other, model("a")),
        state_key(image, model("b")),
        state_key(image, model("a", 0.25)),
        state_key(image, model("a"), "no mirroring"),
    ]
    assert len(set(keys)) == 5
    assert state_key(image.copy(), model("a")) == keys[0]
