"""Searches find planted relatives, say which program searched, and hand terms on by weight."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from careloop import InputError
from careloop.genome.function.clusters import identity_clusters, split_by_cluster
from careloop.genome.function.library import FunctionLibrary
from careloop.genome.function.neighbours import PRIOR_WEIGHT, search, transfer, weights
from careloop.genome.function.proteins import AMINO_ACIDS, Proteins
from careloop.genome.function.search.diamond import diamond_path
from careloop.genome.function.search.hits import Hits, SearchOptions
from careloop.genome.function.search.smith_waterman import LONGEST
from careloop.genome.function.terms.ontology import Ontology
from careloop.genome.function.terms.prior import informative, prior

PROGRAMS = [
    "embedded",
    pytest.param("diamond", marks=pytest.mark.skipif(diamond_path() is None, reason="DIAMOND is not installed")),
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_family_is_found_and_no_other(program: str, families: tuple[Proteins, Proteins]) -> None:
    library, queries = families
    options = SearchOptions(largest_evalue=1e-3, program=program)  # type: ignore[arg-type]
    hits = search(queries, library, options=options)
    assert hits.program == {"diamond": "DIAMOND", "embedded": "careloop's own search"}[program]
    found = {(queries.ids[q], library.ids[t]) for q, t in zip(hits.query, hits.target, strict=True)}
    wanted = {(f"Q{k}", name) for k in range(3) for name in library.ids if name.startswith(f"F{k}_")}
    assert found <= wanted
    assert len(found) >= 0.9 * len(wanted)
    assert (np.diff(hits.query) >= 0).all()
    assert all((np.diff(hits.of_query(place).bit_score) <= 0).all() for place in range(3))
    # Two members keep 65 % of their ancestor's residues each, so about 43 % are the same in both.
    assert np.abs(hits.identity - 0.43).max() < 0.15
    assert (hits.query_span[:, 0] < hits.query_span[:, 1]).all()
    assert len(search(queries, library, options=SearchOptions(1e-3, 2, options.program)).of_query(0)) == 2


@pytest.mark.parametrize("program", PROGRAMS)
def test_peptides_that_might_be_dna_stop_no_other_search(program: str, families: tuple[Proteins, Proteins]) -> None:
    library, queries = families
    peptide = "ACGTNACGTNAC"
    options = SearchOptions(largest_evalue=1e-6, program=program)  # type: ignore[arg-type]
    alone = search(queries, library, options=options)
    more = Proteins(("dna", *queries.ids), (peptide, *queries.sequences))
    mixed = search(more, Proteins((*library.ids, "dna"), (*library.sequences, peptide)), options=options)
    others = mixed.chosen(mixed.query > 0)
    np.testing.assert_array_equal(others.query - 1, alone.query)
    np.testing.assert_array_equal(others.target, alone.target)
    if program == "diamond":
        assert len(search(more.take([0]), library, options=options)) == 0


@pytest.mark.skipif(diamond_path() is None, reason="DIAMOND is not installed")
def test_both_programs_score_alike(families: tuple[Proteins, Proteins]) -> None:
    library, queries = families
    pairs = []
    for program in ("diamond", "embedded"):
        hits = search(queries, library, options=SearchOptions(largest_evalue=1e-6, program=program))  # type: ignore[arg-type]
        places = zip(hits.query.tolist(), hits.target.tolist(), strict=True)
        pairs.append(dict(zip(places, hits.bit_score.tolist(), strict=True)))
    both = sorted(set(pairs[0]) & set(pairs[1]))
    assert len(both) > 15
    assert np.corrcoef([[found[pair] for pair in both] for found in pairs])[0, 1] > 0.98


def test_own_search_takes_any_length_and_any_letter(families: tuple[Proteins, Proteins]) -> None:
    generator = np.random.default_rng(1)
    long = "".join(generator.choice(list(AMINO_ACIDS), LONGEST + 500))
    library = Proteins(("long", "short", "odd"), (long, "MK", "XXXXBZJUO" * 5))
    queries = Proteins(("a", "b", "c", "d"), (long[100:400], "M", "XXXX", long))
    hits = search(queries, library, options=SearchOptions(program="embedded"))
    assert hits.chosen(hits.query == 0).target.tolist() == [0]
    assert hits.of_query(0).query_span.tolist() == [[0, 300]]
    assert hits.of_query(0).target_span.tolist() == [[100, 400]]
    assert hits.of_query(0).identity.tolist() == [1.0]
    assert not len(hits.of_query(1))
    assert not len(hits.of_query(2))
    nothing = search(Proteins((), ()), library, options=SearchOptions(program="embedded"))
    assert len(nothing) == 0


def test_diamond_is_asked_for_only_where_it_is(
    monkeypatch: pytest.MonkeyPatch, families: tuple[Proteins, Proteins]
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    library, queries = families
    with pytest.raises(InputError, match="diamond-aligner"):
        search(queries, library, options=SearchOptions(program="diamond"))
    assert search(queries.take([0]), library).program == "careloop's own search"
    with pytest.raises(InputError, match="diamond or embedded"):
        SearchOptions(program="blast")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="E-value above 0"):
        SearchOptions(largest_evalue=0)


def made_hits(rows: list[tuple[int, int, float, float]]) -> Hits:
    query, target, identity, evalue = (np.array(column) for column in zip(*rows, strict=True))
    span = np.tile([0, 10], (len(rows), 1))
    return Hits(query, target, identity, span, span, -np.log2(evalue), evalue, "made")


def test_terms_are_handed_on_by_weight_with_the_prior_among_the_neighbours(ontology: Ontology) -> None:
    heme, catalytic, root, transport = (ontology.places[f"GO:00000{k}"] for k in ("03", "04", "01", "11"))
    direct = np.zeros((3, len(ontology)), dtype=bool)
    direct[0, heme] = direct[1, catalytic] = direct[2, transport] = direct[2, root] = True
    truth = ontology.propagated(csr_matrix(direct))
    hits = made_hits([(0, 0, 0.5, 1e-3), (0, 1, 0.4, 1e-1), (0, 2, 0.4, 1e-2)])
    assert weights(hits) == pytest.approx([4.1, 2.1, 3.1])
    found = transfer(hits, truth, ontology, queries=2)
    # The third says nothing of molecular function: it has its root only.
    assert found.strength == pytest.approx(np.array([[6.2, 3.1, 0], [0, 0, 0]]))
    every, common = np.arange(len(ontology)), prior(truth, ontology)
    assert common[[heme, catalytic, transport]] == pytest.approx([0.5, 0.5, 1])
    alone = found.scores(every, ontology, common, weight=0)
    assert alone[0, [heme, catalytic, transport]] == pytest.approx([4.1 / 6.2, 2.1 / 6.2, 1])
    assert not alone[1].any()
    blended = found.scores(every, ontology, common)
    assert blended[0, heme] == pytest.approx((4.1 + PRIOR_WEIGHT * 0.5) / (6.2 + PRIOR_WEIGHT))
    assert blended[1] == pytest.approx(common)
    own = found.scores(np.array([heme]), ontology, np.array([[0.1], [0.9]]), weight=3)
    assert own.ravel() == pytest.approx([(4.1 + 0.3) / 9.2, 0.9])


def test_prior_is_the_share_among_those_annotated_in_the_aspect(library: FunctionLibrary) -> None:
    ontology = library.ontology
    assert library.prior[ontology.places["GO:0000004"]] == pytest.approx(1 / 3)
    # Of the two families with a process, one has each.
    assert library.prior[ontology.places["GO:0000012"]] == pytest.approx(1 / 2)
    assert library.prior[ontology.is_root] == pytest.approx(1)
    assert informative(library.truth, ontology, 1).sum() == 16
    assert not informative(library.truth, ontology, 2).any()


def test_clusters_are_chains_of_alike_proteins() -> None:
    hits = made_hits([(0, 1, 0.5, 1e-9), (1, 2, 0.31, 1e-4), (2, 3, 0.29, 1e-9), (3, 4, 0.9, 1e-2), (5, 5, 1.0, 1e-99)])
    assert identity_clusters(hits, 6).tolist() == [0, 0, 0, 1, 2, 3]
    assert identity_clusters(hits, 6, least_identity=0.25, largest_evalue=1).tolist() == [0, 0, 0, 0, 0, 1]
    with pytest.raises(InputError, match="between the 3 proteins"):
        identity_clusters(hits, 3)
    with pytest.raises(InputError, match="identity above 0"):
        identity_clusters(hits, 6, least_identity=30)


def test_a_split_keeps_clusters_whole(families: tuple[Proteins, Proteins]) -> None:
    clusters = np.repeat(np.arange(40), [30, *([3] * 39)])
    held = split_by_cluster(clusters, 0.2, seed=4)
    assert {len(set(held[clusters == cluster])) for cluster in range(40)} == {1}
    assert not held[clusters == 0].any()  # more than a fifth by itself
    assert 0.17 < held.mean() <= 0.2
    assert (split_by_cluster(clusters, 0.2, seed=4) == held).all()
    assert (split_by_cluster(clusters, 0.2) != held).any()
    own = identity_clusters(search(families[0], families[0], options=SearchOptions(program="embedded")), 24)
    assert own.tolist() == np.repeat([0, 1, 2], 8).tolist()
