"""Genotypes from alleles' probabilities: qualities, likelihoods, and two alleles of one place."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.genome.call.candidates import Candidate, engine_probabilities
from careloop.genome.call.genotypes import CALL_THRESHOLD, HIGHEST_QUALITY, POSSIBLE, joined


def candidate(start: int, ref: str, alt: str, pl: tuple[float, float, float] = (60.0, 0.0, 60.0)) -> Candidate:
    return Candidate("c", start, ref, alt, pl, 10, (2, 3), (1, 4), 60.0, 0.0)


def test_one_allele_keeps_its_probabilities() -> None:
    (call,) = joined([candidate(5, "A", "G")], np.array([[0.01, 0.95, 0.04]]))
    assert (call.start, call.ref, call.alts, call.alleles) == (5, "A", ("G",), (0, 1))
    assert call.quality == pytest.approx(20)
    assert call.genotype_quality == round(-10 * np.log10(0.05))
    assert call.allele_depths == (5, 5)
    assert call.passed


@settings(max_examples=50, derandomize=True)
@given(st.tuples(*[st.integers(0, 90)] * 3))
def test_likelihoods_of_the_engine_come_back(pl: tuple[int, int, int]) -> None:
    """PL are what is left of the probabilities without the prior: the engine's own, as far as they were stated."""
    least = min(pl)
    one = candidate(5, "A", "G", (float(pl[0] - least), float(pl[1] - least), float(pl[2] - least)))
    calls = joined([one], engine_probabilities([one]))
    for call in calls:
        assert call.pl == pytest.approx(one.pl, abs=1)


def test_what_is_possible_is_kept_and_what_is_not_is_left_out() -> None:
    below, between = POSSIBLE / 2, (POSSIBLE + CALL_THRESHOLD) / 2
    rows = np.array([[1 - below, below, 0], [1 - between, between, 0], [0.0, 0.0, 1.0]])
    calls = joined([candidate(5, "A", "G"), candidate(9, "A", "G"), candidate(12, "C", "G")], rows)
    assert [(call.start, call.passed) for call in calls] == [(9, False), (12, True)]
    assert calls[1].alleles == (1, 1)
    assert calls[1].quality == HIGHEST_QUALITY


def test_two_alleles_of_one_place_are_joined() -> None:
    alleles = [candidate(5, "CA", "C"), candidate(5, "C", "CAA")]
    (call,) = joined(alleles, np.array([[0.001, 0.979, 0.02], [0.001, 0.979, 0.02]]))
    assert (call.ref, call.alts, call.alleles) == ("CA", ("C", "CAAA"), (1, 2))
    assert len(call.pl) == 6
    assert call.pl[4] == 0  # 1/2 is the fifth genotype of VCF's order
    assert call.allele_depths == (5, 5, 5)


def test_an_unlikely_second_allele_is_not_written() -> None:
    alleles = [candidate(5, "A", "G"), candidate(5, "A", "T")]
    (call,) = joined(alleles, np.array([[0.001, 0.998, 0.001], [0.95, 0.05, 0.0]]))
    assert (call.alts, call.alleles) == (("G",), (0, 1))


def test_an_snv_and_an_indel_of_one_place_are_two_calls() -> None:
    alleles = [candidate(5, "A", "G"), candidate(5, "A", "AT")]
    calls = joined(alleles, np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    assert [(call.alts, call.alleles) for call in calls] == [(("G",), (0, 1)), (("AT",), (1, 1))]


@settings(max_examples=50, derandomize=True)
@given(st.lists(st.tuples(st.floats(0.001, 1), st.floats(0.001, 1), st.floats(0.001, 1)), min_size=1, max_size=4))
def test_every_call_is_whole(rows: list[tuple[float, float, float]]) -> None:
    table = np.array(rows) / np.array(rows).sum(axis=1, keepdims=True)
    alleles = [candidate(5, "C", "C" + "A" * (n + 1)) for n in range(len(rows))]
    for call in joined(alleles, table):
        count = len(call.alts)
        assert len(call.pl) == (count + 1) * (count + 2) // 2
        assert min(call.pl) == 0
        assert set(call.alleles) - {0} == set(range(1, count + 1))
        assert 0 <= call.quality <= HIGHEST_QUALITY
        assert list(call.alleles) == sorted(call.alleles)
        assert len(set(itertools.chain([call.ref], call.alts))) == count + 1
