"""Proteins alike in a library, and the terms that they hand on to a query."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from careloop.genome.function.proteins import Proteins
from careloop.genome.function.search.diamond import diamond_path, search_by_diamond
from careloop.genome.function.search.embedded import search_embedded
from careloop.genome.function.search.hits import Hits, SearchOptions
from careloop.genome.function.terms.ontology import ASPECTS, Ontology
from careloop.genome.function.terms.prior import informative

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Progress = Callable[[str, int, int], None]

LARGEST_EVALUE = 10.0  # the weight of an alignment falls to nearly nothing there
LEAST_WEIGHT = 0.1
SMALLEST_EVALUE = 1e-40  # alignments beyond are sure enough: one long protein shall not outvote all others
AS_USUAL = SearchOptions()
PRIOR_WEIGHT = 2.0  # what the prior counts beside neighbours: as much as one alignment of E-value 0.13


def search(
    queries: Proteins, library: Proteins, *, options: SearchOptions = AS_USUAL, progress: Progress | None = None
) -> Hits:
    """Find library proteins alike to each query, by DIAMOND where it is installed, else by this room's own search.

    Raises:
        InputError: DIAMOND is asked for and not installed, or it failed.
    """
    if options.program == "diamond" or (options.program is None and diamond_path()):
        return search_by_diamond(queries.sequences, library.sequences, options=options)
    return search_embedded(queries.sequences, library.sequences, options=options, progress=progress)


def weights(hits: Hits) -> NDArray[np.float64]:
    """(m,) what each alignment counts: by how many powers of ten its E-value lies below `LARGEST_EVALUE`."""
    return np.maximum(np.log10(LARGEST_EVALUE / np.maximum(hits.evalue, SMALLEST_EVALUE)), 0) + LEAST_WEIGHT


@dataclass(frozen=True, eq=False)
class Transfer:
    """What neighbours say of queries (n): `found` (n, t) summed weight of those with the term, and `strength`.

    `strength` (n, 3): summed weight of the neighbours that are informative of each aspect; 0 where there is none.
    """

    found: csr_matrix
    strength: NDArray[np.float32]

    def scores(
        self,
        places: NDArray[np.int64],
        ontology: Ontology,
        prior: NDArray[np.floating],
        *,
        weight: float = PRIOR_WEIGHT,
    ) -> NDArray[np.float32]:
        """(n, places) of terms in the ontology: the weighted share of neighbours with the term, the prior among them.

        `prior`, one for all (places,) or of each query (n, places), counts as `weight` neighbours do, so that a query
        without any is given the prior. A `weight` of 0 leaves the prior out: such queries are given 0.
        """
        total = self.strength[:, ontology.aspects[places]] + np.float32(weight)
        summed = self.found[:, places].toarray() + np.float32(weight) * np.asarray(prior, dtype=np.float32)
        return np.minimum(np.divide(summed, total, out=np.zeros_like(summed), where=total > 0), 1)

    def rows(self, which: slice) -> Transfer:
        """Of some queries."""
        return Transfer(self.found[which], self.strength[which])


def transfer(hits: Hits, truth: csr_matrix, ontology: Ontology, *, queries: int) -> Transfer:
    """Hand on terms of the library, `truth` (library, t) bool, to `queries` by `weights`."""
    from scipy.sparse import csr_matrix

    shape = (queries, truth.shape[0])
    alike = csr_matrix((weights(hits).astype(np.float32), (hits.query, hits.target)), shape=shape)
    told = np.column_stack([informative(truth, ontology, aspect) for aspect in range(len(ASPECTS))])
    # A protein that only has the root of an aspect tells nothing about it, and hands nothing on there.
    return Transfer((alike @ truth.astype(np.float32)).tocsr(), np.asarray(alike @ told.astype(np.float32)))
