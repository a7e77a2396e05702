"""How long each stage of a segmentation took, and how much memory the process held at most while it ran."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

SAMPLE_EVERY_S = 0.01
STATM = Path("/proc/self/statm")


@dataclass(frozen=True)
class Stage:
    """A stage's wall time, and the process' largest resident memory during it (sampled: brief peaks may be missed)."""

    name: str
    seconds: float
    peak_bytes: int


class Stages:
    """Collects stages: `with stages.stage("read"): ...`; one that is entered again adds to its first entry."""

    def __init__(self) -> None:
        self._stages: dict[str, Stage] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block, and watch the memory while it runs; it counts also where the block raises."""
        watch = _Watch()
        started = time.perf_counter()
        try:
            yield
        finally:
            now = Stage(name, time.perf_counter() - started, watch.stop())
            before = self._stages.get(name, Stage(name, 0.0, 0))
            self._stages[name] = replace(
                now, seconds=before.seconds + now.seconds, peak_bytes=max(before.peak_bytes, now.peak_bytes)
            )

    @property
    def results(self) -> tuple[Stage, ...]:
        """The stages in the order in which they were first entered."""
        return tuple(self._stages.values())


def resident_bytes() -> int:
    """Resident memory of this process now; its largest so far where the system tells only that."""
    try:
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return _largest_so_far()


def _largest_so_far() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if os.uname().sysname == "Darwin" else largest * 1024  # bytes on macOS, kilobytes elsewhere


class _Watch:
    """A thread that looks at the resident memory now and then."""

    def __init__(self) -> None:
        self._peak, self._over = resident_bytes(), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(SAMPLE_EVERY_S):
            self._peak = max(self._peak, resident_bytes())

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return max(self._peak, resident_bytes())
