"""Blocks hold each chosen variant once, in order, and stop cleanly; genotypes in memory answer as a file does."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.genome.genotypes.blocks import blocks
from careloop.genome.genotypes.in_memory import InMemoryGenotypes
from careloop.genome.genotypes.nearest_call import nearest_call
from careloop.genome.genotypes.open_genotypes import open_genotypes
from careloop.genome.genotypes.source import MISSING
from careloop.genome.simulate.cohort import SimulatedCohort


@settings(max_examples=30, deadline=None)
@given(rows=st.sets(st.integers(0, 399), max_size=60).map(sorted), size=st.integers(1, 70), threads=st.integers(1, 3))
def test_each_variant_once_and_in_order(
    cohort_bed: Path, cohort: SimulatedCohort, rows: list[int], size: int, threads: int
) -> None:
    found = list(blocks(open_genotypes(cohort_bed), variants=np.array(rows, np.int64), size=size, threads=threads))
    assert all(0 < block.rows.size <= size for block in found)
    assert np.concatenate([np.empty(0), *[block.rows for block in found]]).tolist() == rows
    for block in found:
        np.testing.assert_array_equal(block.values, cohort.genotypes[block.rows])


def test_dosages_of_some_people(cohort_bed: Path, cohort: SimulatedCohort) -> None:
    samples = np.array([5, 3, 200])
    found = np.concatenate([b.values for b in blocks(open_genotypes(cohort_bed), samples=samples, kind="dosages")])
    expected = np.where(cohort.genotypes == MISSING, np.nan, cohort.genotypes)[:, samples]
    np.testing.assert_array_equal(found, expected.astype(np.float32))


class Slow(InMemoryGenotypes):
    """Counts how many reads were begun."""

    begun = 0

    def genotypes(self, variants: object, samples: object = None) -> np.ndarray:
        type(self).begun += 1
        if type(self).begun == 6:
            raise InputError("file ends early")
        return super().genotypes(variants, samples)  # type: ignore[arg-type]


@pytest.fixture
def slow(cohort: SimulatedCohort) -> Slow:
    Slow.begun = 0
    return Slow(cohort.samples, cohort.variants, cohort.genotypes)


def test_no_more_is_read_ahead_than_threads(slow: Slow) -> None:
    reading = blocks(slow, size=10, threads=2)
    next(reading)
    assert Slow.begun <= 3
    reading.close()
    assert Slow.begun <= 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("genotypes")]


def test_an_error_while_reading_reaches_the_one_who_asks(slow: Slow) -> None:
    with pytest.raises(InputError, match="ends early"):
        list(blocks(slow, size=10))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("genotypes")]


def test_what_cannot_be_read_is_refused_at_once(cohort_bed: Path) -> None:
    source = open_genotypes(cohort_bed)
    for asked in ({"size": 0}, {"threads": 0}, {"variants": np.array([400])}):
        with pytest.raises(InputError):
            blocks(source, **asked)  # type: ignore[arg-type]


def test_in_memory_as_in_a_file(cohort_bed: Path, cohort: SimulatedCohort) -> None:
    in_memory = InMemoryGenotypes(cohort.samples, cohort.variants, cohort.genotypes)
    rows, samples = np.array([2, 9, 300]), np.array([7, 0])
    for name in ("genotypes", "dosages"):
        expected = getattr(open_genotypes(cohort_bed), name)(rows, samples)
        np.testing.assert_array_equal(getattr(in_memory, name)(rows, samples), expected)
    with pytest.raises(InputError, match="genotypes are"):
        InMemoryGenotypes(cohort.samples, cohort.variants, cohort.genotypes[:, 1:])


def test_nearest_calls_are_within_a_tenth() -> None:
    dosages = np.array([0, 0.1, 0.11, 0.89, 0.9, 1.1, 1.5, 1.9, 2, np.nan], np.float32)
    assert nearest_call(dosages).tolist() == [0, 0, MISSING, MISSING, 1, 1, MISSING, 2, 2, MISSING]
