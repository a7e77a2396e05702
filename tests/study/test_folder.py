"""A run folder runs a stage once, again when its inputs change, and survives being killed half-way."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from careloop import InputError
from careloop.study.folder import RunFolder


def counting_stage(folder: RunFolder, calls: list[str], *, settings: object = 1, reads: tuple[str, ...] = ()) -> None:
    def work(target: Path) -> None:
        calls.append("ran")
        (target / "table.txt").write_text(f"run {len(calls)}")

    folder.stage("one", work, writes=["table.txt"], settings=settings, reads=reads)


def test_finished_stage_is_not_run_again(tmp_path: Path) -> None:
    calls: list[str] = []
    states: list[tuple[str, str]] = []
    for _ in range(2):
        counting_stage(RunFolder.begin(tmp_path / "run", notify=lambda *heard: states.append(heard)), calls)
    assert calls == ["ran"]
    assert states == [("one", "running"), ("one", "done"), ("one", "unchanged")]


def test_changed_settings_inputs_or_outputs_run_the_stage_again(tmp_path: Path) -> None:
    calls: list[str] = []
    folder = RunFolder.begin(tmp_path / "run")
    (folder.path / "input.txt").write_text("a")
    counting_stage(folder, calls, reads=("input.txt",))
    counting_stage(folder, calls, reads=("input.txt",), settings=2)
    (folder.path / "input.txt").write_text("b")
    counting_stage(folder, calls, reads=("input.txt",), settings=2)
    (folder.path / "table.txt").write_text("touched by hand")
    counting_stage(folder, calls, reads=("input.txt",), settings=2)
    counting_stage(folder, calls, reads=("input.txt",), settings=2)
    assert len(calls) == 4
    assert (folder.path / "table.txt").read_text() == "run 4"


def test_kill_inside_a_stage_leaves_the_last_finished_files(tmp_path: Path) -> None:
    run = tmp_path / "run"
    counting_stage(RunFolder.begin(run), [])
    killed = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from careloop.study.folder import RunFolder

        def work(target):
            (target / "table.txt").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)

        RunFolder.begin(Path({str(run)!r})).stage("one", work, writes=["table.txt"], settings=2)
    """)
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == -9
    assert (run / "table.txt").read_text() == "run 1"
    calls: list[str] = []
    counting_stage(RunFolder.begin(run), calls, settings=2)
    assert calls == ["ran"]
    assert not (run / ".unfinished").exists()


def test_a_failed_stage_is_tried_again(tmp_path: Path) -> None:
    folder = RunFolder.begin(tmp_path / "run")

    def fail(target: Path) -> None:
        (target / "table.txt").write_text("half")
        raise InputError("no outcome")

    with pytest.raises(InputError, match="no outcome"):
        folder.stage("one", fail, writes=["table.txt"], settings=1)
    assert not (folder.path / "table.txt").exists()
    calls: list[str] = []
    counting_stage(folder, calls)
    assert calls == ["ran"]


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        RunFolder.begin(tmp_path)
    with pytest.raises(InputError, match="is a file"):
        RunFolder.begin(tmp_path / "thesis.txt")
