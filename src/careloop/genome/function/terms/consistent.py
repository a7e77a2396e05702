"""Scores that never contradict the ontology: a term is at least as likely as each term below it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from careloop.genome.function.terms.ontology import Ontology


def consistent(scores: NDArray[np.floating], ontology: Ontology) -> NDArray[np.floating]:
    """Scores (n, t) with each term lifted to the highest score below it, as CAFA propagates predictions.

    The lowest scores that are consistent and nowhere below those given; consistent ones stay as they are.
    """
    lifted = np.array(scores.T, order="C")  # a row a term, which is lifted at once
    for child, parent in _children_first(ontology):
        np.maximum(lifted[parent], lifted[child], out=lifted[parent])
    return np.ascontiguousarray(lifted.T)


def is_consistent(scores: NDArray[np.floating], ontology: Ontology) -> bool:
    """Whether no term of scores (n, t) is above one of its parents."""
    child, parent = ontology.edges.T
    return bool((scores[:, child] <= scores[:, parent]).all())


def _children_first(ontology: Ontology) -> list[tuple[int, int]]:
    """Edges so that all those into a term come before those out of it: parents have lower places."""
    order = np.argsort(-ontology.edges[:, 0], kind="stable")
    return [(child, parent) for child, parent in ontology.edges[order].tolist()]
