"""Probabilities of labels that lie in one another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from careloop import InputError
from careloop.evaluate.label_hierarchy import Violations, consistent, violations

PARENTS = np.array([-1, 0, 1, 0, -1])


def test_violations_written_out() -> None:
    p = np.array([[0.5, 0.6, 0.2, 0.1, 0.3], [0.5, 0.4, 0.3, 0.5, 0.9], [0.1, 0.3, 0.4, 0.4, 0.0]])
    # of 9 pairs: 0.6 above 0.5; 0.3 above 0.1; 0.4 above 0.3; 0.4 above 0.1
    found = violations(p, PARENTS)
    assert (found.pairs, found.rows) == pytest.approx((4 / 9, 2 / 3))
    assert (found.mean, found.largest) == pytest.approx(((0.1 + 0.2 + 0.1 + 0.3) / 4, 0.3))
    assert consistent(p, PARENTS).tolist() == [
        [0.6, 0.6, 0.2, 0.1, 0.3],
        [0.5, 0.4, 0.3, 0.5, 0.9],
        [0.4, 0.4, 0.4, 0.4, 0.0],
    ]
    assert violations(p, np.full(5, -1)) == Violations(0.0, 0.0, 0.0, 0.0)


@st.composite
def trees(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    labels = draw(st.integers(1, 8))
    order = draw(st.permutations(range(labels)))
    parents = np.full(labels, -1)
    for place in range(1, labels):  # a parent comes earlier in the order, whatever the numbers
        above = draw(st.integers(-1, place - 1))
        parents[order[place]] = order[above] if above >= 0 else -1
    return draw(arrays(np.float64, (3, labels), elements=st.floats(0, 1))), parents


@given(trees())
def test_lifting_leaves_no_violation_lowers_nothing_and_lifts_no_further(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    p, parents = drawn
    lifted = consistent(p, parents)
    assert violations(lifted, parents) == Violations(0.0, 0.0, 0.0, 0.0)
    assert (lifted >= p).all()
    assert (consistent(lifted, parents) == lifted).all()
    for label in range(len(parents)):
        within = {label}
        for _ in parents:
            within |= {child for child, parent in enumerate(parents) if parent in within}
        assert (lifted[:, label] == p[:, sorted(within)].max(axis=1)).all()


def test_parents_that_cannot_be_are_refused() -> None:
    p = np.full((2, 3), 0.5)
    with pytest.raises(InputError, match="in a circle"):
        consistent(p, np.array([1, 2, 0]))
    with pytest.raises(InputError, match="must be places of labels"):
        violations(p, np.array([3, -1, -1]))
    with pytest.raises(InputError, match="one column a parent entry"):
        violations(p, np.array([-1]))
