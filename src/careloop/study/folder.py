"""A run folder: the files of one study run, written stage by stage so that a finished stage is not run again.

A stage names the files it writes. They are written in a folder beside the finished ones, moved into place when all are
complete, and noted in `.stages/<stage>.json` with the fingerprint of everything the stage depends on. A process killed
at any moment therefore leaves either the old files or the new ones, and the next run goes on from there.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from careloop import InputError, __version__
from careloop.record.whole_file import write_whole

_STAGES = ".stages"
_UNFINISHED = ".unfinished"


@dataclass(frozen=True)
class RunFolder:
    """The folder at `path`; `notify(stage, state)` hears "running", "done" or "unchanged" of each stage."""

    path: Path
    notify: Callable[[str, str], None] = lambda stage, state: None

    @classmethod
    def begin(cls, path: Path, *, notify: Callable[[str, str], None] | None = None) -> RunFolder:
        """Create the folder, or take up one that an earlier run left; refuses a folder that holds something else."""
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file; give a folder for the run")
        if path.is_dir() and any(path.iterdir()) and not (path / _STAGES).is_dir():
            raise InputError(f"{path} holds other files; give a new or an earlier run's folder")
        (path / _STAGES).mkdir(parents=True, exist_ok=True)
        return cls(path, notify) if notify else cls(path)

    @classmethod
    def reopen(cls, path: Path) -> RunFolder:
        """Open the folder of an earlier run; InputError where there is none."""
        if not (path / _STAGES).is_dir():
            raise InputError(f"{path} is no run folder; give the folder that careloop run wrote")
        return cls(path)

    def stage(
        self,
        name: str,
        work: Callable[[Path], None],
        *,
        writes: Sequence[str],
        settings: Any = None,
        reads: Sequence[str] = (),
    ) -> None:
        """Run `work(folder)` unless its `settings` and the files it `reads` are what they were when it last finished.

        `work` writes the files and folders named in `writes` into the folder it is given and reads from `self.path`.
        """
        fingerprint = self.fingerprint(settings, reads)
        note = self.path / _STAGES / f"{name}.json"
        if self._is_finished(note, fingerprint):
            self.notify(name, "unchanged")
            return
        self.notify(name, "running")
        unfinished = self.path / _UNFINISHED
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        work(unfinished)
        note.unlink(missing_ok=True)
        for written in writes:
            _move(unfinished / written, self.path / written)
        shutil.rmtree(unfinished)
        digests = {written: folder_digest(self.path / written) for written in writes}
        write_whole(note, json.dumps({"fingerprint": fingerprint, "files": digests}))
        self.notify(name, "done")

    def fingerprint(self, settings: Any, reads: Sequence[str]) -> str:
        """A hash of careloop's version, plain `settings`, and the content of files in the folder."""
        files = {name: folder_digest(self.path / name) for name in reads}
        text = json.dumps([__version__, settings, files], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def _is_finished(self, note: Path, fingerprint: str) -> bool:
        try:
            noted = json.loads(note.read_text())
            return noted["fingerprint"] == fingerprint and all(
                folder_digest(self.path / name) == digest for name, digest in noted["files"].items()
            )
        except (OSError, ValueError, KeyError):
            return False


def folder_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's relative names and contents."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        digest.update(str(file.relative_to(path)).encode())
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _move(source: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
