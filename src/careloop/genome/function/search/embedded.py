"""The search of this room, for where DIAMOND is not installed: shared seeds, then Smith-Waterman alignment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from careloop.genome.function.search.hits import Hits, SearchOptions
from careloop.genome.function.search.seeds import SeedIndex
from careloop.genome.function.search.smith_waterman import (
    Alignments,
    align,
    best_scores,
    bit_scores,
    encoded,
    evalues,
    local_correction,
)

Progress = Callable[[str, int, int], None]

MOST_ALIGNED = 100  # library proteins of a query that are aligned, where fewer hits are asked for


def search_embedded(
    queries: Sequence[str], library: Sequence[str], *, options: SearchOptions, progress: Progress | None = None
) -> Hits:
    """Hits of each query: library proteins by shared spaced seeds and ungapped score, aligned with gaps.

    Scores are corrected for the query's composition, as DIAMOND's are; DIAMOND is many times faster (this takes about
    half a second of one core a query among 16,000 proteins). Of sequences over `smith_waterman.LONGEST` residues the
    first so many are aligned.
    """
    targets = [encoded(sequence) for sequence in library]
    index = SeedIndex(targets)
    parts = []
    for place, sequence in enumerate(queries):
        query = encoded(sequence)
        correction = local_correction(query)
        found = index.candidates(query, max(MOST_ALIGNED, options.most_hits))
        scores = best_scores(query, [targets[target] for target in found], correction)
        expected = evalues(scores, len(query), index.residues)
        best = np.lexsort((found, -scores))
        kept = best[expected[best] <= options.largest_evalue][: options.most_hits]
        aligned = align(query, [targets[target] for target in found[kept]], correction)
        parts.append(_hits(np.full(len(kept), place, dtype=np.int64), found[kept], aligned, expected[kept]))
        if progress:
            progress("searching alike proteins", place + 1, len(queries))
    none = np.zeros(0, dtype=np.int64)
    parts.append(_hits(none, none, align(none.astype(np.uint8), [], none.astype(np.int16)), none.astype(np.float64)))
    return _joined(parts)


def _hits(query: np.ndarray, target: np.ndarray, aligned: Alignments, expected: np.ndarray) -> Hits:
    return Hits(
        query=query,
        target=target,
        identity=aligned.identical / np.maximum(aligned.columns, 1),
        query_span=aligned.query_span,
        target_span=aligned.target_span,
        bit_score=bit_scores(aligned.score),
        evalue=expected,
        program="careloop's own search",
    )


def _joined(parts: Sequence[Hits]) -> Hits:
    names = ("query", "target", "identity", "query_span", "target_span", "bit_score", "evalue")
    joined = {name: np.concatenate([getattr(hits, name) for hits in parts]) for name in names}
    return Hits(**joined, program=parts[-1].program)
