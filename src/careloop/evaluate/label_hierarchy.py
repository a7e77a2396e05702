"""Labels that lie in one another, such as chapters and their diagnoses: do probabilities agree, and lifting them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from careloop import InputError

ROUNDING = 1e-9  # a child's probability may be this much above its parent's: they are computed in 32 or 64 bits


@dataclass(frozen=True)
class Violations:
    """How often a label's probability is below that of a label within it.

    `pairs` share of the pairs of a row and a label with a parent; `rows` share of the rows with at least one; `mean`
    and `largest` of the amounts, over the pairs that violate; all 0 where no label has a parent.
    """

    pairs: float
    rows: float
    mean: float
    largest: float


def violations(probabilities: np.ndarray, parents: np.ndarray) -> Violations:
    """Count where probabilities (n, k) fall short; `parents` (k,) is the place of each label's parent, -1 for none.

    It holds for labels of which a parent is true wherever its child is, for the same rows: not for new diagnoses only,
    whose rows at risk differ.

    Raises:
        InputError: shapes differ, a parent that is no label, or labels that lie in each other in a circle.
    """
    children = np.flatnonzero(_checked(probabilities, parents) >= 0)
    above = probabilities[:, children] - probabilities[:, parents[children]]
    wrong = above > ROUNDING
    if not wrong.any():
        return Violations(0.0, 0.0, 0.0, 0.0)
    amounts = above[wrong]
    return Violations(float(wrong.mean()), float(wrong.any(axis=1).mean()), float(amounts.mean()), float(amounts.max()))


def consistent(probabilities: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """Probabilities (n, k) with every label lifted to the largest of those within it; others stay as they are.

    Errors as `violations`.
    """
    levels = _depth(_checked(probabilities, parents))
    lifted = np.array(probabilities, dtype=np.float64)
    for depth in range(int(levels.max(initial=0)), 0, -1):
        for child in np.flatnonzero(levels == depth):
            parent = parents[child]
            np.maximum(lifted[:, parent], lifted[:, child], out=lifted[:, parent])
    return lifted


def _checked(probabilities: np.ndarray, parents: np.ndarray) -> np.ndarray:
    labels = len(parents)
    if probabilities.ndim != 2 or probabilities.shape[1] != labels:
        raise InputError(f"probabilities must have one column a parent entry, {labels}; got {probabilities.shape}")
    if not ((parents >= -1) & (parents < labels)).all():
        raise InputError(f"parents must be places of labels, 0 to {labels - 1}, or -1; got others")
    _depth(parents)
    return parents


def _depth(parents: np.ndarray) -> np.ndarray:
    """How many labels each lies in (k,)."""
    depth, at = np.zeros(len(parents), dtype=np.intp), parents.copy()
    for _ in range(len(parents) + 1):
        if (at < 0).all():
            return depth
        depth += at >= 0
        at = np.where(at >= 0, parents[at], -1)
    raise InputError("parents must not lead back to where they began; got labels in a circle")
