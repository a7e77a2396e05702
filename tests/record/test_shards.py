"""Shards give the same results, in order, wherever they are computed; errors and dead workers say what to do."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

from careloop import InputError
from careloop.record import Record
from careloop.record.shards import each_shard, place_of

HERE = Path(__file__).parent
PLACES = ["here", "here:1", "local:2"]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The functions of shard_work.py, found by worker processes as well: they get this process's sys.path."""
    monkeypatch.syspath_prepend(HERE)
    return importlib.import_module("shard_work")


@pytest.fixture
def filled(record: Record, events: pl.DataFrame) -> Record:
    return record.append(events, key="all")


@pytest.mark.parametrize("on", PLACES)
def test_the_results_are_those_of_a_plain_loop(work: ModuleType, filled: Record, on: str) -> None:
    expected = [filled.events(shard).collect() for shard in range(4)]
    assert sum(frame.height for frame in expected) == 18
    found = list(each_shard(filled, work.rows_of, on=on))
    assert all(a.equals(b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("on", PLACES)
def test_only_the_shards_asked_for_are_read_and_progress_hears_of_each(
    work: ModuleType, filled: Record, on: str
) -> None:
    seen: list[tuple[int, int]] = []
    handed = partial(work.whose_and_where, also="x")
    found = list(each_shard(filled, handed, on=on, shards=[3, 1], progress=lambda *step: seen.append(step)))
    assert [(shard, also) for shard, also, *_ in found] == [(3, "x"), (1, "x")]
    assert seen == [(4, 4), (2, 4)]
    assert list(each_shard(filled, handed, on=on, shards=[])) == []


def test_local_workers_are_other_processes_that_share_the_cores(
    work: ModuleType, filled: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POLARS_MAX_THREADS", raising=False)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = list(each_shard(filled, partial(work.whose_and_where, also=""), on="local:2"))
    assert os.getpid() not in {process for _, _, process, _ in found}
    assert {threads for *_, threads in found} == {max(1, cores // 2)}
    assert "POLARS_MAX_THREADS" not in os.environ


@pytest.mark.parametrize("on", PLACES)
def test_an_error_comes_back_as_it_was_raised(work: ModuleType, filled: Record, on: str) -> None:
    results = each_shard(filled, partial(work.refuse, bad=2), on=on)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(InputError, match=r"^shard 2: a rule is broken; remove the row$"):
        next(results)


@pytest.mark.parametrize("on", PLACES)
def test_results_are_computed_no_more_than_one_ahead_of_the_workers(
    work: ModuleType, filled: Record, tmp_path: Path, on: str
) -> None:
    results = each_shard(filled, partial(work.leave_mark, folder=tmp_path), on=on)
    assert next(results) == 0
    time.sleep(0.5)
    assert len(list(tmp_path.glob("mark*"))) <= place_of(on)[1] + 1
    results.close()
    assert not (tmp_path / "mark 3").exists()


def test_a_worker_that_dies_names_the_shard_and_the_remedy(work: ModuleType, filled: Record) -> None:
    with pytest.raises(InputError, match=r"^a worker died at shard 2, .*memory.*local:1.*more shards"):
        list(each_shard(filled, partial(work.die, bad=2), on="local:1"))
    # Either worker may be the quicker one: the shard that the other one was at is named too.
    with pytest.raises(InputError, match=r"at shard (0 or )?1( or [23])?, "):
        list(each_shard(filled, partial(work.die, bad=1), on="local:2"))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads the process table of Linux")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_process_that_started_them(
    work: ModuleType, filled: Record, tmp_path: Path, end: signal.Signals
) -> None:
    """After Ctrl-C, and after a kill that the process could not answer."""
    marks = tmp_path / "marks"
    marks.mkdir()
    program = f"import shard_work; shard_work.sleep_in_two_workers({str(filled.path)!r}, {str(marks)!r})"
    process = subprocess.Popen([sys.executable, "-c", program], cwd=HERE, stderr=subprocess.PIPE, text=True)
    _until(lambda: len(list(marks.iterdir())) == 2)
    process.send_signal(end)
    _, complaint = process.communicate(timeout=30)
    workers = [int(mark.name.split()[1]) for mark in marks.iterdir()]
    _until(lambda: not any(_lives(worker) for worker in workers))
    assert complaint.count("Traceback") == (1 if end == signal.SIGINT else 0)  # the script's own


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _until(done: object, *, seconds: float = 60) -> None:
    assert callable(done)
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("on", ["", "cluster", "local:0", "local:", "local:x", "LOCAL", "local:2\n"])
def test_a_place_that_is_none_is_refused(work: ModuleType, filled: Record, on: str) -> None:
    with pytest.raises(InputError, match="on: work is done here, local, ray"):
        next(each_shard(filled, work.rows_of, on=on))


def test_ray_gives_the_same_and_its_errors(work: ModuleType, filled: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
    ray.shutdown()  # one of an earlier test would not find shard_work
    expected = [filled.events(shard).collect() for shard in range(4)]
    found = list(each_shard(filled, work.rows_of, on="ray:2"))
    assert all(a.equals(b) for a, b in zip(found, expected, strict=True))
    processes = {process for *_, process, _ in each_shard(filled, partial(work.whose_and_where, also=""), on="ray:2")}
    assert os.getpid() not in processes
    with pytest.raises(InputError, match=r"^shard 2: a rule is broken; remove the row$"):
        list(each_shard(filled, partial(work.refuse, bad=2), on="ray:2"))
    with pytest.raises(InputError, match="a worker died at shard 1"):
        list(each_shard(filled, partial(work.die, bad=1), on="ray:2"))


def test_ray_that_is_not_installed_says_how_to_get_it(
    work: ModuleType, filled: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install .careloop\[ray\]"):
        next(each_shard(filled, work.rows_of, on="ray"))
