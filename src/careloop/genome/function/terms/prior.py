"""How common each term is among annotated proteins: what is expected before anything is known of a sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from careloop.genome.function.terms.ontology import Ontology

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def informative(truth: csr_matrix, ontology: Ontology, aspect: int) -> NDArray[np.bool_]:
    """(n,) which proteins have a term of the aspect other than its root: the others tell nothing about it."""
    places = ontology.of_aspect(aspect)
    return truth[:, places[~ontology.is_root[places]]].getnnz(axis=1) > 0


def prior(truth: csr_matrix, ontology: Ontology) -> NDArray[np.float32]:
    """(t,) of every term its share among the proteins (n, t) that are informative of its aspect; 0 where none is.

    This is CAFA's naive predictor (Radivojac et al., Nat Methods 2013;10:221).
    """
    counts = np.asarray(truth.sum(axis=0), dtype=np.float64).ravel()
    shares = np.zeros(len(ontology), dtype=np.float32)
    for aspect in np.unique(ontology.aspects):
        places, rows = ontology.of_aspect(aspect), informative(truth, ontology, aspect)
        if rows.any():
            shares[places] = np.minimum(counts[places] / rows.sum(), 1)
    return shares
