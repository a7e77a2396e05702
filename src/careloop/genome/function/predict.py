"""Terms of proteins from their sequences: alike proteins, the network and the prior, with what each of them says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from careloop import InputError
from careloop.genome.function.library import FunctionLibrary
from careloop.genome.function.neighbours import AS_USUAL, PRIOR_WEIGHT, Transfer, search, transfer, weights
from careloop.genome.function.proteins import Proteins, Reject
from careloop.genome.function.search.hits import Hits, SearchOptions
from careloop.genome.function.terms.consistent import consistent
from careloop.genome.function.terms.ontology import ASPECTS
from careloop.record.whole_file import whole_file

Progress = Callable[[str, int, int], None]

NETWORK_WEIGHT = 4.0  # what the network counts beside neighbours: chosen on samples that no figure is shown of
BATCH = 256  # proteins whose scores of all terms are held at a time
MOST_SHOWN = 3  # neighbours named for a term

# One row a protein and term. `neighbours`: the share of the neighbours' weight with the term, null without neighbours
# that are annotated in the aspect; `network`: null where it does not know the term; `specific`: no term below it is
# shown for the protein; `transferred_from`: the neighbours with the term that count most.
PREDICTIONS = pl.Schema(
    {
        "protein": pl.String(),
        "aspect": pl.String(),
        "term": pl.String(),
        "name": pl.String(),
        "score": pl.Float32(),
        "neighbours": pl.Float32(),
        "network": pl.Float32(),
        "prior": pl.Float32(),
        "specific": pl.Boolean(),
        "transferred_from": pl.List(pl.String()),
    }
)
# One row an alignment; coverage is the share of the protein, and of the neighbour, that it spans; positions from 1.
NEIGHBOURS = pl.Schema(
    {
        "protein": pl.String(),
        "neighbour": pl.String(),
        "identity": pl.Float64(),
        "coverage": pl.Float64(),
        "neighbour_coverage": pl.Float64(),
        "start": pl.Int64(),
        "end": pl.Int64(),
        "evalue": pl.Float64(),
        "bit_score": pl.Float64(),
        "weight": pl.Float64(),
    }
)
# One row a protein and term: residues (from 1) whose replacement lowers the network's log odds most.
POSITIONS = pl.Schema(
    {
        "protein": pl.String(),
        "term": pl.String(),
        "start": pl.Int64(),
        "end": pl.Int64(),
        "drop": pl.Float64(),
        "standard_error": pl.Float64(),
    }
)


@dataclass(frozen=True)
class PredictOptions:
    """`least_score` shown; `explained`: so many terms of each protein, the best, for which positions are sought."""

    least_score: float = 0.1
    explained: int = 0
    search: SearchOptions = AS_USUAL

    def __post_init__(self) -> None:
        if not 0 <= self.least_score <= 1 or self.explained < 0:
            raise InputError("a least score lies between 0 and 1, and no fewer than 0 terms are explained")


@dataclass(frozen=True, eq=False)
class FunctionPredictions:
    """Tables `PREDICTIONS`, `NEIGHBOURS` and `POSITIONS` (tidy, by protein in the file's order, best first).

    `lengths` residues of each protein; `program` what searched; `rejects` records of the file that were not used.
    """

    predictions: pl.DataFrame
    neighbours: pl.DataFrame
    positions: pl.DataFrame
    lengths: Mapping[str, int]
    program: str
    made_of: Mapping[str, str] = field(default_factory=dict)
    rejects: tuple[Reject, ...] = ()


def write_tables(found: FunctionPredictions, folder: Path) -> None:
    """Write predictions.parquet, neighbours.parquet and positions.parquet, and predictions.tsv as CAFA takes them."""
    for name in ("predictions", "neighbours", "positions"):
        with whole_file(folder / f"{name}.parquet") as draft:
            getattr(found, name).write_parquet(draft)
    with whole_file(folder / "predictions.tsv") as draft:
        rows = found.predictions.select("protein", "term", pl.col("score").cast(pl.Float64).round(3))
        rows.write_csv(draft, separator="\t", include_header=False)


@dataclass(frozen=True, eq=False)
class ScoreParts:
    """Of some proteins (n) and all terms of the library (t): the scores, and what they are made of.

    `expected` (n, t) is the network's probability, the prior where there is none; `handed` (n, t) the neighbours'
    share, 0 where they say nothing; `blended` (n, t) both, consistent with the ontology.
    """

    rows: slice
    blended: NDArray[np.float32]
    expected: NDArray[np.float32]
    handed: NDArray[np.float32]
    strength: NDArray[np.float32]


def predict_function(
    proteins: Proteins,
    library: FunctionLibrary,
    *,
    options: PredictOptions = PredictOptions(),
    progress: Progress | None = None,
) -> FunctionPredictions:
    """Predict the terms of proteins, with the evidence of each.

    A score is the share of weight with the term among neighbours, each weighing by its E-value, and the network (or,
    without one, the prior), lifted to the highest score of a term below. It orders terms; it is no calibrated chance.

    Raises:
        InputError: DIAMOND is asked for and not installed.
    """
    hits = search(proteins, library.proteins, options=options.search, progress=progress)
    shown = [
        _shown(parts, proteins, library, hits, options) for parts in score_parts(proteins, library, hits, progress)
    ]
    table = pl.concat(shown) if shown else PREDICTIONS.to_frame()
    return FunctionPredictions(
        predictions=table,
        neighbours=_neighbours(hits, proteins, library),
        positions=_positions(table, proteins, library, options.explained, progress),
        lengths=dict(zip(proteins.ids, map(len, proteins.sequences), strict=True)),
        program=hits.program,
        made_of=library.made_of,
        rejects=proteins.rejects,
    )


def score_parts(
    proteins: Proteins, library: FunctionLibrary, hits: Hits, progress: Progress | None = None
) -> Iterator[ScoreParts]:
    """Scores of all terms of the library, `BATCH` proteins at a time; `hits` of the proteins in the library."""
    handed = transfer(hits, library.truth, library.ontology, queries=len(proteins))
    for start in range(0, len(proteins), BATCH):
        rows = slice(start, min(start + BATCH, len(proteins)))
        yield _parts(rows, handed.rows(rows), _expected(proteins.sequences[rows], library), library)
        if progress:
            progress("predicting function", rows.stop, len(proteins))


def _parts(rows: slice, handed: Transfer, expected: NDArray[np.float32], library: FunctionLibrary) -> ScoreParts:
    every = np.arange(len(library.ontology))
    weight = PRIOR_WEIGHT if library.network is None else NETWORK_WEIGHT
    blended = handed.scores(every, library.ontology, expected, weight=weight)
    return ScoreParts(
        rows=rows,
        blended=consistent(blended, library.ontology).astype(np.float32),
        expected=expected,
        handed=handed.scores(every, library.ontology, library.prior, weight=0),
        strength=handed.strength,
    )


def _expected(sequences: tuple[str, ...], library: FunctionLibrary) -> NDArray[np.float32]:
    """(n, t) the network's probabilities, of terms that it does not know the prior."""
    found = np.tile(library.prior, (len(sequences), 1))
    if library.network is not None and len(sequences):
        places = [library.ontology.places[term] for term in library.network.terms]
        found[:, places] = library.network.predict(sequences)
    return found


def _shown(
    parts: ScoreParts, proteins: Proteins, library: FunctionLibrary, hits: Hits, options: PredictOptions
) -> pl.DataFrame:
    """`PREDICTIONS` of the terms that reach the least score, roots left out."""
    ontology = library.ontology
    reached = ((parts.blended >= options.least_score) & (parts.blended > 0)) & ~ontology.is_root
    row, term = np.nonzero(reached)
    aspect = ontology.aspects[term]
    order = np.lexsort((term, -parts.blended[row, term], aspect, row))
    row, term, aspect = row[order], term[order], aspect[order]
    known = np.zeros(len(ontology), dtype=bool)
    known[[ontology.places[each] for each in library.network.terms] if library.network else []] = True
    has_below = np.zeros_like(reached)
    for child, parent in ontology.edges.tolist():
        has_below[:, parent] |= reached[:, child]
    told = parts.strength[row, aspect] > 0
    return pl.DataFrame(
        {
            "protein": [proteins.ids[place] for place in row + parts.rows.start],
            "aspect": [ASPECTS[place] for place in aspect],
            "term": [ontology.terms[place] for place in term],
            "name": [ontology.names[place] for place in term],
            "score": parts.blended[row, term],
            "neighbours": _where(told, parts.handed[row, term]),
            "network": _where(known[term], parts.expected[row, term]),
            "prior": library.prior[term],
            "specific": ~has_below[row, term],
            "transferred_from": _named(row + parts.rows.start, term, hits, library),
        },
        schema=PREDICTIONS,
    )


def _where(known: NDArray[np.bool_], values: NDArray[np.float32]) -> list[float | None]:
    return [value if there else None for there, value in zip(known.tolist(), values.tolist(), strict=True)]


def _named(row: NDArray[np.int64], term: NDArray[np.int64], hits: Hits, library: FunctionLibrary) -> list[list[str]]:
    """Of each protein and term the neighbours with the term, the best alignments first."""
    ids = library.proteins.ids
    having: dict[int, list[tuple[str, set[int]]]] = {}
    for place in np.unique(row).tolist():
        targets = hits.target[np.searchsorted(hits.query, place) : np.searchsorted(hits.query, place, side="right")]
        truth = library.truth[targets]
        terms = [set(truth.indices[a:b].tolist()) for a, b in zip(truth.indptr, truth.indptr[1:], strict=False)]
        having[place] = list(zip([ids[target] for target in targets], terms, strict=True))
    return [
        [name for name, terms in having[place] if each in terms][:MOST_SHOWN]
        for place, each in zip(row.tolist(), term.tolist(), strict=True)
    ]


def _neighbours(hits: Hits, proteins: Proteins, library: FunctionLibrary) -> pl.DataFrame:
    mine = np.array([len(each) for each in proteins.sequences], dtype=np.int64)[hits.query]
    theirs = np.array([len(each) for each in library.proteins.sequences], dtype=np.int64)[hits.target]
    return pl.DataFrame(
        {
            "protein": [proteins.ids[place] for place in hits.query],
            "neighbour": [library.proteins.ids[place] for place in hits.target],
            "identity": hits.identity,
            "coverage": (hits.query_span[:, 1] - hits.query_span[:, 0]) / mine,
            "neighbour_coverage": (hits.target_span[:, 1] - hits.target_span[:, 0]) / theirs,
            "start": hits.query_span[:, 0] + 1,
            "end": hits.query_span[:, 1],
            "evalue": hits.evalue,
            "bit_score": hits.bit_score,
            "weight": weights(hits),
        },
        schema=NEIGHBOURS,
    )


def _positions(
    table: pl.DataFrame, proteins: Proteins, library: FunctionLibrary, explained: int, progress: Progress | None
) -> pl.DataFrame:
    """`POSITIONS` of each protein's best specific terms that the network knows."""
    if not explained or library.network is None:
        return POSITIONS.to_frame()
    from careloop.genome.function.learned.positions import stretches

    rows: list[tuple[str, str, int, int, float, float]] = []
    asked = table.filter("specific", pl.col("network").is_not_null()).sort(
        "score", descending=True, maintain_order=True
    )
    chosen = {
        name: tuple(some["term"]) for (name,), some in asked.group_by("protein").head(explained).group_by("protein")
    }
    for done, name in enumerate(proteins.ids, start=1):
        if name in chosen:
            for each in stretches(library.network, proteins.sequences[done - 1], chosen[name]):
                rows.append((name, each.term, each.start + 1, each.end, each.drop, each.standard_error))
        if progress:
            progress("positions that count", done, len(proteins))
    return pl.DataFrame(rows, schema=POSITIONS, orient="row")
