"""Time and peak memory of stages."""

from __future__ import annotations

import contextlib
import time

import numpy as np
import pytest

from careloop.imaging.segment.stages import STATM, Stages, resident_bytes


def test_a_stage_has_its_time_and_its_own_peak() -> None:
    if not STATM.exists():
        pytest.skip("memory is sampled from /proc")
    stages = Stages()
    before = resident_bytes()
    with stages.stage("large"):
        held = np.ones(200_000_000, np.uint8)
        time.sleep(0.05)
        del held
    with stages.stage("small"):
        time.sleep(0.02)
    large, small = stages.results
    assert (large.name, small.name) == ("large", "small")
    assert large.seconds >= 0.05
    assert large.peak_bytes - before > 180e6
    assert small.peak_bytes - before < 100e6


def test_a_stage_entered_again_adds_up_and_counts_where_it_fails() -> None:
    stages = Stages()
    for _ in range(2):
        with contextlib.suppress(KeyError), stages.stage("read"):
            time.sleep(0.01)
            raise KeyError
    (stage,) = stages.results
    assert stage.seconds >= 0.02
    assert stage.peak_bytes > 0
