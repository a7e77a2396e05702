"""Proteins alike put together, so that a split never has one of them on each side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.function.search.hits import Hits


def identity_clusters(
    hits: Hits, proteins: int, *, least_identity: float = 0.3, largest_evalue: float = 1e-3
) -> NDArray[np.int64]:
    """(proteins,) the number of each protein's cluster, from 0, in order of first member.

    Two proteins are of one cluster if a chain of hits of at least this identity, and at most this E-value, leads from
    one to the other (single linkage): hits between clusters are then all below it. `hits` are of the proteins with
    themselves; a search that keeps too few hits of each may miss a link.

    Raises:
        InputError: places of proteins that are not there, or an identity outside 0 to 1.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    if not 0 < least_identity <= 1:
        raise InputError(f"clusters are by an identity above 0 and at most 1, got {least_identity:g}")
    if len(hits) and max(hits.query.max(), hits.target.max()) >= proteins:
        raise InputError(f"hits must be between the {proteins:,} proteins that are clustered; got others")
    alike = (hits.identity >= least_identity) & (hits.evalue <= largest_evalue)
    links = (np.ones(alike.sum(), dtype=bool), (hits.query[alike], hits.target[alike]))
    return connected_components(csr_matrix(links, shape=(proteins, proteins)), directed=False)[1].astype(np.int64)


def split_by_cluster(clusters: NDArray[np.int64], share: float, *, seed: int = 0) -> NDArray[np.bool_]:
    """(proteins,) True for about `share` of them, whole clusters drawn at random.

    A cluster that alone holds more than `share` stays False, and none is taken that would go beyond it.
    """
    sizes = np.bincount(clusters)
    wanted = share * len(clusters)
    taken = np.zeros(len(sizes), dtype=bool)
    count = 0
    for cluster in np.random.default_rng(seed).permutation(len(sizes)).tolist():
        if count + sizes[cluster] <= wanted:
            taken[cluster] = True
            count += int(sizes[cluster])
    return taken[clusters]
