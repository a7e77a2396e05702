"""Gene function on proteins far from all that is known: careloop beside the naive predictor and DIAMOND alone.

    python benchmarks/gene_function.py [--seeds 0 1 2] [--splits far clustered] [--epochs 12] [--cafaeval] [--small]

Needs Debian's metastudent-data (760 MB; Swiss-Prot and its GO terms, January 2014) and diamond-aligner. For each seed
20,000 proteins are sampled. "far": of 4,000 of them those are queries whose best hit among the other 16,000 is under
30 % identical; "clustered": the queries are whole clusters of at least 30 % identity, a fifth of the proteins.
Everything is learned from the training proteins alone, the network anew for each split. What was chosen once (the
network's size and epochs, its weight of 4 beside neighbours) was chosen on samples drawn with seeds 10 and 11.

Fmax and Smin are CAFA's (`careloop.evaluate.ontology_terms`): for every method alike the best over thresholds on the
queries; terms are propagated over is_a and part_of, rows are queries with a term of the aspect, roots do not count
("with roots": they do, on the same rows). AUPR is the area over the recalls that a method reaches. Methods:
  naive                 how common each term is among the training proteins
  DIAMOND alone         share of bit scores of its hits (very sensitive, E-value at most 0.001) with the term
  naive + DIAMOND       the mean of both
  neighbours + prior    careloop without a network: hits to E-value 10 by their E-values, the prior among them
  network               careloop's network alone
  careloop              what `careloop genome function` says: neighbours, the network among them
Intervals (95 %) resample queries, also where several are of one cluster: those of "clustered" are then too narrow.
Time is user and system time of all processes; memory is the peak of this process, the data set among it.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from metastudent import (
    CANDIDATES,
    FAR_EVALUE,
    FILES,
    SAMPLED,
    Metastudent,
    Split,
    clustered_split,
    far_split,
    read_metastudent,
)
from numpy.typing import NDArray

from careloop.evaluate.ontology_terms import TermEvaluation, difference, evaluate_terms, fmax, information_accretion
from careloop.genome.function.learned.train import LearnSettings
from careloop.genome.function.library import FunctionLibrary, build_library, with_network
from careloop.genome.function.neighbours import search, transfer
from careloop.genome.function.predict import score_parts
from careloop.genome.function.proteins import Proteins
from careloop.genome.function.search.hits import Hits, SearchOptions
from careloop.genome.function.terms.annotations import Annotations
from careloop.genome.function.terms.consistent import consistent
from careloop.genome.function.terms.ontology import ASPECTS, Ontology
from careloop.genome.function.terms.prior import informative

METHODS = ("naive", "DIAMOND alone", "naive + DIAMOND", "neighbours + prior", "network", "careloop")
PEER = "naive + DIAMOND"
SPLITS: dict[str, Callable[..., Split]] = {"far": far_split, "clustered": clustered_split}

Scores = NDArray[np.float32]  # (queries, terms of the library)


@dataclass(frozen=True)
class Found:
    """Of one aspect and seed: each method's evaluation, and its Fmax with roots."""

    evaluations: Mapping[str, TermEvaluation]
    with_roots: Mapping[str, float]


def main() -> None:
    """Print the table of every split and seed, and their means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--splits", nargs="+", choices=list(SPLITS), default=list(SPLITS))
    parser.add_argument("--epochs", type=int, default=LearnSettings().epochs)
    parser.add_argument("--cafaeval", action="store_true", help="Have cafaeval compute careloop's Fmax too.")
    parser.add_argument("--small", action="store_true", help="4,000 proteins, one seed, 2 epochs: other figures.")
    asked = parser.parse_args()
    if asked.small:
        asked.seeds, asked.epochs = asked.seeds[:1], 2
    data = read_metastudent()
    for name in asked.splits:
        found = []
        for seed in asked.seeds:
            print(f"\n== {name}, seed {seed}", flush=True)
            sampled = 4_000 if asked.small else SAMPLED
            limits = {"candidates": sampled * CANDIDATES // SAMPLED} if name == "far" else {}
            split = SPLITS[name](data, seed, sampled=sampled, **limits)
            found.append(run(data, split, LearnSettings(epochs=asked.epochs), cafaeval=asked.cafaeval))
        print(f"\n== {name}, mean of {len(found)} seeds (Fmax; in brackets each seed's)")
        print_means(found)


def run(data: Metastudent, split: Split, settings: LearnSettings, *, cafaeval: bool) -> list[Found]:
    """Learn from the training proteins, score the queries and print what was found, aspect by aspect."""
    started = seconds()
    annotations = Annotations(split.train.ids, split.train_truth)
    library = with_network(build_library(split.train, annotations, data.ontology), settings=settings)
    trained = seconds()
    scores = scores_of(split.queries, library)
    predicted = seconds()
    print(
        f"{len(split.train):,} training proteins, {len(split.queries):,} queries; training {trained - started:.0f} s,"
        f" all methods' scores {predicted - trained:.0f} s, peak memory {peak_gb():.1f} GB"
    )
    found = []
    for aspect, short in enumerate(FILES):
        one, used = aspect_found(data, split, library, scores, aspect)
        print_aspect(short, one)
        if cafaeval:
            print(f"  cafaeval's Fmax of careloop: {cafaeval_fmax(data.ontology, *used):.4f}", flush=True)
        found.append(one)
    return found


def scores_of(queries: Proteins, library: FunctionLibrary) -> dict[str, Scores]:
    """Each method's scores, consistent with the ontology."""
    hits = search(queries, library.proteins)
    every = np.arange(len(library.ontology))
    handed = transfer(hits, library.truth, library.ontology, queries=len(queries))
    parts = list(score_parts(queries, library, hits))
    naive = np.tile(library.prior, (len(queries), 1))
    alone = diamond_alone(queries, library)
    return {
        "naive": naive,
        "DIAMOND alone": alone,
        "naive + DIAMOND": np.float32(0.5) * (naive + alone),
        "neighbours + prior": handed.scores(every, library.ontology, library.prior),
        "network": consistent(np.concatenate([part.expected for part in parts]), library.ontology),
        "careloop": np.concatenate([part.blended for part in parts]),
    }


def diamond_alone(queries: Proteins, library: FunctionLibrary) -> Scores:
    """Of each aspect the share of bit scores with the term.

    This is DiamondScore of Kulmanov and Hoehndorf, Bioinformatics 2020;36:422.
    """
    from scipy.sparse import csr_matrix

    hits: Hits = search(queries, library.proteins, options=SearchOptions(largest_evalue=FAR_EVALUE))
    shape = (len(queries), len(library.proteins))
    alike = csr_matrix((hits.bit_score.astype(np.float32), (hits.query, hits.target)), shape=shape)
    summed = (alike @ library.truth.astype(np.float32)).toarray()
    for aspect in range(len(FILES)):
        told = alike @ informative(library.truth, library.ontology, aspect).astype(np.float32)
        summed[:, library.ontology.of_aspect(aspect)] /= np.maximum(told, 1e-6)[:, None]
    return np.minimum(summed, 1)


def aspect_found(
    data: Metastudent, split: Split, library: FunctionLibrary, scores: Mapping[str, Scores], aspect: int
) -> tuple[Found, tuple[Scores, NDArray[np.bool_], NDArray[np.int64]]]:
    """Evaluations of one aspect; and careloop's scores, the truth and the terms' places in the whole ontology.

    Terms that no training protein has count as not predicted; those that no query has either change no figure.
    """
    of = data.ontology.of_aspect(aspect)
    mine = {data.ontology.places[library.ontology.terms[place]]: place for place in library.ontology.of_aspect(aspect)}
    asked = split.query_truth[:, of].getnnz(axis=0) > 0
    columns = of[asked | np.isin(of, list(mine))]
    root = data.ontology.is_root[columns]
    truth = split.query_truth[:, columns].toarray().astype(bool)
    rows = truth[:, ~root].any(axis=1)
    known = np.array([mine.get(place, -1) for place in columns.tolist()])
    values = {
        name: np.where(known >= 0, full[rows][:, known], np.float32(0)).astype(np.float32)
        for name, full in scores.items()
    }
    information = information_of(library, aspect, known)
    truth = truth[rows]
    evaluations = {
        name: evaluate_terms(value[:, ~root], truth[:, ~root], information=information[~root])
        for name, value in values.items()
    }
    rooted = {name: fmax(value, truth)[0] for name, value in values.items()}
    return Found(evaluations, rooted), (values["careloop"], truth, columns)


def information_of(library: FunctionLibrary, aspect: int, known: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bits of each term among the training proteins that are annotated in the aspect; 0 of terms that none has."""
    places = library.ontology.of_aspect(aspect)
    within = library.ontology.restricted(places)
    rows = informative(library.truth, library.ontology, aspect)
    bits = np.zeros(len(library.ontology))
    bits[places] = information_accretion(library.truth[rows][:, places].toarray().astype(bool), within.edges)
    return np.where(known >= 0, bits[known], 0.0)


def print_aspect(short: str, found: Found) -> None:
    """One seed's table of one aspect."""
    peer = found.evaluations[PEER]
    print(f"{short}: {peer.rows:,} queries")
    print(f"  {'':<20} {'Fmax':>20} {'with roots':>11} {'Smin':>7} {'AUPR':>6} {'coverage':>9}")
    for name in METHODS:
        each = found.evaluations[name]
        value, at = each.figures["fmax"], each.at["fmax"]
        coverage = each.curve.coverage[np.argmin(np.abs(each.curve.thresholds - at))]
        print(
            f"  {name:<20} {value.value:.3f} ({value.low:.3f}-{value.high:.3f}) {found.with_roots[name]:>10.3f}"
            f" {each.figures['smin'].value:>8.2f} {each.figures['aupr'].value:>6.3f} {coverage:>9.2f}"
        )
    gain = difference(found.evaluations["careloop"], peer)
    print(f"  careloop less {PEER}: Fmax {gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})", flush=True)


def print_means(found: list[list[Found]]) -> None:
    """The mean over seeds of each aspect and method."""
    print(f"{'':<20} " + " ".join(f"{short:^28}" for short in FILES))
    for name in METHODS:
        cells = []
        for aspect in range(len(FILES)):
            values = np.array([seed[aspect].evaluations[name].figures["fmax"].value for seed in found])
            cells.append(f"{values.mean():.3f} ({', '.join(f'{value:.3f}' for value in values)})")
        print(f"{name:<20} " + " ".join(f"{cell:^28}" for cell in cells))
    print("with roots, mean")
    for name in METHODS:
        rooted = np.array([[seed[aspect].with_roots[name] for aspect in range(len(FILES))] for seed in found])
        print(f"{name:<20} " + " ".join(f"{value:^28.3f}" for value in rooted.mean(axis=0)), flush=True)


def cafaeval_fmax(ontology: Ontology, scores: Scores, truth: NDArray[np.bool_], columns: NDArray[np.int64]) -> float:
    """Fmax by cafaeval, roots left out, of scores that reach its lowest threshold."""
    from cafaeval.evaluation import cafa_eval

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "predictions").mkdir()
        (folder / "go.obo").write_text("".join(obo(ontology, columns)))
        terms = [ontology.terms[place] for place in columns.tolist()]
        shown = zip(*(each.tolist() for each in np.nonzero(scores >= 0.01)), strict=True)
        lines = (f"p{row}\t{terms[at]}\t{scores[row, at]:.6f}\n" for row, at in shown)
        (folder / "predictions" / "careloop.tsv").write_text("".join(lines))
        having = zip(*(each.tolist() for each in np.nonzero(truth)), strict=True)
        (folder / "truth.tsv").write_text("".join(f"p{row}\t{terms[at]}\n" for row, at in having))
        _, best = cafa_eval(
            str(folder / "go.obo"), str(folder / "predictions"), str(folder / "truth.tsv"), n_cpu=1, no_orphans=True
        )
    return float(best["f"]["f"].iloc[0])


def obo(ontology: Ontology, columns: NDArray[np.int64]) -> Iterator[str]:
    """Some terms, and the edges among them, as an OBO file."""
    within = ontology.restricted(columns)
    above: dict[int, list[int]] = {}
    for child, parent in within.edges.tolist():
        above.setdefault(child, []).append(parent)
    yield "format-version: 1.2\n\n"
    for place, term in enumerate(within.terms):
        parents = "".join(f"is_a: {within.terms[parent]}\n" for parent in above.get(place, []))
        name, space = within.names[place], ASPECTS[within.aspects[place]]
        yield f"[Term]\nid: {term}\nname: {name}\nnamespace: {space}\n{parents}\n"


def seconds() -> float:
    """User and system time of this process and those it started."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def peak_gb() -> float:
    """Peak resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
