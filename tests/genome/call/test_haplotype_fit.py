"""The log-likelihood ratio of reads: closed forms, and an alignment that tries every place of a gap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.genome.call.candidates import Candidate
from careloop.genome.call.haplotype_fit import GAP_COST, MISMATCH_COST, ReadTable, Stretch, fit

REFERENCE = "".join(np.random.default_rng(8).choice(list("ACGT"), size=400))
START = 5000  # of the reference bases


def candidate(start: int, ref: str, alt: str) -> Candidate:
    return Candidate("c", start, ref, alt, (30.0, 0.0, 30.0), 8, (2, 2), (2, 2), 60.0, 0.0)


def ratio_of(bases: str, first: int, last: int, one: Candidate, *, quality: int = 30) -> tuple[float, float]:
    """Ratio and cost of a read whose base i lies at `first + i` by its start and `last + i` by its end."""
    codes = np.frombuffer(bases.encode(), dtype=np.uint8).reshape(1, -1)
    qualities = np.full_like(codes, quality)
    table = ReadTable(
        codes, qualities, *(np.array([value]) for value in (len(bases), first, last, first, last + len(bases)))
    )
    stretch = Stretch(np.frombuffer(REFERENCE.encode(), dtype=np.uint8), START)
    found = fit(table, [one], stretch, rows=np.array([0]), of=np.array([0]))
    return float(found.ratio[0]), float(found.cost[0])


def test_an_snv_speaks_by_the_quality_of_its_base() -> None:
    ref = REFERENCE[200]
    alt = "A" if ref != "A" else "C"
    one = candidate(START + 200, ref, alt)
    reference = REFERENCE[150:250]
    carrier = reference[:50] + alt + reference[51:]
    expected = np.log((1 - 1e-3) / (1e-3 / 3))
    assert ratio_of(carrier, START + 150, START + 150, one)[0] == pytest.approx(expected, rel=1e-4)
    assert ratio_of(reference, START + 150, START + 150, one)[0] == pytest.approx(-expected, rel=1e-4)
    third = next(base for base in "ACGT" if base not in (ref, alt))
    neither = reference[:50] + third + reference[51:]
    assert ratio_of(neither, START + 150, START + 150, one) == pytest.approx((0, expected), rel=1e-4)


@pytest.mark.parametrize(("ref_length", "added"), [(1, "TTACG"), (4, "")])
def test_an_indel_is_seen_from_either_end_of_the_read(ref_length: int, added: str) -> None:
    at = 200
    one = candidate(START + at, REFERENCE[at : at + ref_length], REFERENCE[at] + added)
    change = one.length_change
    haplotype = REFERENCE[:at] + one.alt + REFERENCE[at + ref_length :]
    carrier = haplotype[150:250]
    assert ratio_of(carrier, START + 150, START + 150 - change, one) == pytest.approx((GAP_COST, 0), abs=1e-3)
    # Near its end the aligner leaves the indel out: by the start of the read it is still told.
    late = haplotype[110:212]
    assert ratio_of(late, START + 110, START + 110, one)[0] > 5
    reference = REFERENCE[150:250]
    assert ratio_of(reference, START + 150, START + 150, one) == pytest.approx((-GAP_COST, 0), abs=1e-3)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.integers(0, 10_000))
def test_the_cost_is_that_of_the_best_place_of_one_gap(seed: int) -> None:
    """Reads of the reference with any indel and errors: `fit` against all places of the gap, tried one by one."""
    draw = np.random.default_rng(seed)
    at, size = int(draw.integers(170, 230)), int(draw.integers(1, 6))
    insertion = draw.random() < 0.5
    changed = REFERENCE[:at] + ("".join(draw.choice(list("ACGT"), size=size)) if insertion else "")
    changed += REFERENCE[at + (0 if insertion else size) :]
    codes = np.frombuffer(changed[150:250].encode(), dtype=np.uint8).copy()
    for place in draw.integers(0, 100, 3):
        codes[place] = ord("ACGT"[int(draw.integers(4))])
    bases = codes.tobytes().decode()
    first, last = START + 150, START + 150 + (-size if insertion else size)
    # A candidate far from the read leaves both haplotypes the same: the cost is that of the reference.
    far = candidate(START + 390, REFERENCE[390], "A" if REFERENCE[390] != "A" else "C")
    ratio, cost = ratio_of(bases, first, last, far)
    penalty = float(MISMATCH_COST[30])

    def mismatches(anchor: int, low: int, high: int) -> float:
        return penalty * sum(bases[i] != REFERENCE[anchor - START + i] for i in range(low, high))

    skipped = size if insertion else 0
    tried = [mismatches(first, 0, k) + mismatches(last, k + skipped, 100) + GAP_COST for k in range(1, 101)]
    assert cost == pytest.approx(min(mismatches(first, 0, 100), mismatches(last, 0, 100), *tried), abs=1e-3)
    assert ratio == pytest.approx(0, abs=1e-5)
