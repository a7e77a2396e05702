"""Time, processor time and peak memory of a command from its start to its end; imported by other benchmarks."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Run:
    """One command: seconds by the clock and of the processors, peak memory in MB."""

    seconds: float
    processor_seconds: float
    megabytes: float

    def __str__(self) -> str:
        return f"{self.seconds:7.2f} s {self.processor_seconds:7.2f} s {self.megabytes:6.0f} MB"


def launched(command: list[str]) -> Run:
    """Run a command; SystemExit with what it said where it fails."""
    # A small process in between: a child's peak memory is at least that of the process that started it.
    done = subprocess.run([sys.executable, "-S", __file__, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
    return Run(*map(float, done.stdout.split()))


if __name__ == "__main__":
    begin = time.perf_counter()
    process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    print(time.perf_counter() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
    sys.exit(1 if status else 0)
