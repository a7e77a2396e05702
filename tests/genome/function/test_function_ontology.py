"""The ontology as OBO files write it, against cafaeval's reading and propagation, and its closure by brute force."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from careloop import InputError
from careloop.genome.function.terms.consistent import consistent, is_consistent
from careloop.genome.function.terms.ontology import ASPECTS, Ontology, Term, made_ontology, read_ontology

CIRCLE = "".join(f"[Term]\nid: {a}\nnamespace: cellular_component\nis_a: {b}\n" for a, b in ("AB", "BA"))


def named(ontology: Ontology, places: np.ndarray) -> set[str]:
    return {ontology.terms[place] for place in places}


def above(ontology: Ontology, term: str) -> set[str]:
    return named(ontology, ontology.closure[ontology.places[term]].indices)


def test_terms_stand_below_their_parents_of_the_same_aspect(ontology: Ontology) -> None:
    assert ontology.version == "simulated/1"
    assert (ontology.edges[:, 1] < ontology.edges[:, 0]).all()
    # part_of leads up within an aspect; regulates does not, nor does part_of into another aspect.
    assert above(ontology, "GO:0000013") == {"GO:0000013", "GO:0000011", "GO:0000010"}
    assert above(ontology, "GO:0000012") == {"GO:0000012", "GO:0000011", "GO:0000010"}
    assert above(ontology, "GO:0000003") == {"GO:0000003", "GO:0000002", "GO:0000001"}
    assert named(ontology, np.flatnonzero(ontology.is_root)) == {"GO:0000001", "GO:0000010", "GO:0000020"}
    assert ontology.names[ontology.places["GO:0000003"]] == "heme binding"
    assert named(ontology, ontology.of_aspect(0)) == {f"GO:000000{k}" for k in (1, 2, 3, 4)}


def test_merged_and_replaced_ids_lead_to_the_term_that_took_their_place(ontology: Ontology) -> None:
    assert ontology.places["GO:0000033"] == ontology.places["GO:0000003"]
    assert ontology.places["GO:0000090"] == ontology.places["GO:0000011"]
    assert "GO:0000091" not in ontology.places
    assert "GO:0000091" in ontology.obsolete
    assert "GO:0000090" not in ontology.terms


def test_some_of_the_terms_keep_their_edges_and_their_parents(ontology: Ontology) -> None:
    kept = np.sort([ontology.places[term] for term in ("GO:0000010", "GO:0000011", "GO:0000013")])
    part = ontology.restricted(kept)
    assert named(part, part.closure[part.places["GO:0000013"]].indices) == set(part.terms)
    with pytest.raises(InputError, match="without one of its parents"):
        ontology.restricted(np.array([ontology.places["GO:0000013"]]))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("format-version: 1.2\n", "none"),
        ("[Term]\nid: GO:1\nnamespace: elsewhere\n", "namespace"),
        (CIRCLE, "circle"),
    ],
)
def test_what_is_no_ontology_is_refused(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "x.obo").write_text(text)
    with pytest.raises(InputError, match=match):
        read_ontology(tmp_path / "x.obo")
    with pytest.raises(InputError, match="cannot be read"):
        read_ontology(tmp_path / "absent.obo")


def random_ontology(seed: int, terms: int = 30) -> Ontology:
    generator = np.random.default_rng(seed)
    made = {}
    for place in generator.permutation(terms).tolist():
        count = min(place, int(generator.integers(0, 3)))
        parents = [f"T{p}" for p in generator.choice(place, count, replace=False)] if place else []
        made[f"T{place}"] = Term(name=f"t{place}", aspect=ASPECTS[place % 3], parents=parents)
    return made_ontology(made)


@settings(max_examples=30, derandomize=True, deadline=None)
@given(st.integers(0, 10_000))
def test_closure_is_what_steps_from_child_to_parent_reach(seed: int) -> None:
    ontology = random_ontology(seed)
    step = np.eye(len(ontology), dtype=bool)
    for child, parent in ontology.edges:
        step[child, parent] = True
    reached = np.linalg.matrix_power(step.astype(np.int64), 8) > 0
    reached = (reached.astype(np.int64) @ reached.astype(np.int64) @ reached @ reached) > 0
    assert (ontology.closure.toarray() == reached).all()
    direct = np.random.default_rng(seed).random((5, len(ontology))) < 0.1
    assert (ontology.propagated(csr_matrix(direct)).toarray() == (direct @ reached)).all()


@settings(max_examples=30, derandomize=True, deadline=None)
@given(st.integers(0, 10_000))
def test_scores_are_lifted_to_the_highest_below_and_no_further(seed: int) -> None:
    ontology = random_ontology(seed)
    scores = np.random.default_rng(seed).random((4, len(ontology))).astype(np.float32)
    given_scores = scores.copy()
    lifted = consistent(scores, ontology)
    below = ontology.closure.toarray()  # (term, all above it)
    wanted = np.array([[row[below[:, term]].max() for term in range(len(ontology))] for row in scores])
    assert (lifted == wanted).all()
    assert (scores == given_scores).all()
    assert is_consistent(lifted, ontology)
    assert (consistent(lifted, ontology) == lifted).all()
    assert is_consistent(scores, ontology) == bool((lifted == scores).all())


def test_propagation_is_cafaevals(tmp_path: Path) -> None:
    parser = pytest.importorskip("cafaeval.parser")
    ontology = random_ontology(12, terms=40)
    parents: dict[int, list[int]] = {}
    for child, parent in ontology.edges.tolist():
        parents.setdefault(child, []).append(parent)
    stanzas = [
        f"[Term]\nid: {term}\nname: {term}\nnamespace: {ASPECTS[ontology.aspects[place]]}\n"
        + "".join(f"is_a: {ontology.terms[parent]} ! x\n" for parent in parents.get(place, []))
        for place, term in enumerate(ontology.terms)
    ]
    (tmp_path / "go.obo").write_text("format-version: 1.2\n\n" + "\n".join(stanzas))
    direct = np.random.default_rng(1).random((20, len(ontology))) < 0.06
    pairs = [f"p{i}\t{ontology.terms[j]}" for i, j in zip(*np.nonzero(direct), strict=True)]
    (tmp_path / "truth.tsv").write_text("\n".join(pairs))
    graphs = parser.obo_parser(str(tmp_path / "go.obo"))
    theirs = {
        (protein, term)
        for aspect, truth in parser.gt_parser(str(tmp_path / "truth.tsv"), graphs).items()
        for protein, row in truth.ids.items()
        for term, said in graphs[aspect].terms_dict.items()
        if truth.matrix[row, said["index"]]
    }
    found = ontology.propagated(csr_matrix(direct)).tocoo()
    assert {(f"p{i}", ontology.terms[j]) for i, j in zip(found.row, found.col, strict=True)} == theirs
    read = read_ontology(tmp_path / "go.obo")
    assert {(read.terms[c], read.terms[p]) for c, p in read.edges} == {
        (ontology.terms[c], ontology.terms[p]) for c, p in ontology.edges
    }
