"""Libraries and predictions on simulated families: the planted terms come first, each with what it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from careloop import InputError
from careloop.genome.function.library import FunctionLibrary, build_library, read_library, write_library
from careloop.genome.function.neighbours import search
from careloop.genome.function.predict import (
    NETWORK_WEIGHT,
    FunctionPredictions,
    PredictOptions,
    predict_function,
    score_parts,
    write_tables,
)
from careloop.genome.function.proteins import Proteins, Reject
from careloop.genome.function.search.hits import SearchOptions
from careloop.genome.function.terms.annotations import Annotations
from careloop.genome.function.terms.consistent import is_consistent
from careloop.genome.function.terms.ontology import Ontology

OWN = SearchOptions(program="embedded")


@dataclass(frozen=True)
class CountsTryptophan:
    """Stands for a network: the chance of heme binding is by the share of W in the sequence."""

    terms: tuple[str, ...] = ("GO:0000003",)

    def predict(self, sequences: Sequence[str], *, progress: object = None) -> np.ndarray:
        share = np.array([[sequence.count("W") / len(sequence)] for sequence in sequences])
        return np.clip(0.05 + 4 * share, 0, 0.99).astype(np.float32)


@pytest.fixture(scope="module")
def found(families: tuple[Proteins, Proteins], library: FunctionLibrary) -> FunctionPredictions:
    return predict_function(families[1], library, options=PredictOptions(0.05, search=OWN))


def test_planted_terms_come_first_and_name_their_family(found: FunctionPredictions) -> None:
    best = found.predictions.filter("specific").group_by("protein", "aspect", maintain_order=True).first()
    planted = {
        ("Q0", "molecular_function"): "GO:0000003",
        ("Q0", "biological_process"): "GO:0000012",
        ("Q1", "molecular_function"): "GO:0000004",
        ("Q2", "biological_process"): "GO:0000013",
        ("Q2", "molecular_function"): "GO:0000002",
    }
    told = {(row["protein"], row["aspect"]): row for row in best.iter_rows(named=True)}
    for place, term in planted.items():
        row = told[place]
        if term == "GO:0000002":  # heme binding, below it, is as common as a third of all: the term itself is first
            row = found.predictions.row(by_predicate=(pl.col("protein") == "Q2") & (pl.col("term") == term), named=True)
        assert row["term"] == term
        assert row["score"] > 0.8
        assert row["neighbours"] == pytest.approx(1)
        assert len(row["transferred_from"]) == 3
        assert all(name.startswith(f"F{place[0][1]}_") for name in row["transferred_from"])
        assert row["network"] is None


def test_a_protein_without_neighbours_is_given_the_prior(
    families: tuple[Proteins, Proteins], library: FunctionLibrary
) -> None:
    # A search to E-value 10 finds by chance what tells little: here the chance finds are left out.
    sure = SearchOptions(1e-3, program="embedded")
    found = predict_function(families[1], library, options=PredictOptions(0.05, search=sure))
    alone = found.predictions.filter(protein="Q_alone")
    assert len(alone) >= 6
    assert alone["neighbours"].null_count() == len(alone)
    assert alone["score"].to_list() == pytest.approx(alone["prior"].to_list())
    assert not found.neighbours.filter(protein="Q_alone").height
    assert not alone["transferred_from"].list.len().sum()


def test_scores_agree_with_the_ontology_and_roots_are_not_shown(
    families: tuple[Proteins, Proteins], library: FunctionLibrary, found: FunctionPredictions
) -> None:
    hits = search(families[1], library.proteins, options=OWN)
    (parts,) = score_parts(families[1], library, hits)
    assert is_consistent(parts.blended, library.ontology)
    assert not {"GO:0000001", "GO:0000010", "GO:0000020"} & set(found.predictions["term"])
    for row in found.predictions.filter(~pl.col("specific")).iter_rows(named=True):
        place = library.ontology.places[row["term"]]
        shown = set(found.predictions.filter(protein=row["protein"])["term"])
        below = {library.ontology.terms[c] for c, p in library.ontology.edges if p == place}
        assert below & shown


def test_evidence_of_neighbours_is_that_of_the_alignments(
    families: tuple[Proteins, Proteins], found: FunctionPredictions
) -> None:
    table = found.neighbours.filter(protein="Q1")
    assert table["bit_score"].is_sorted(descending=True)
    assert table["evalue"].is_sorted()
    length = found.lengths["Q1"]
    assert table["coverage"].to_list() == pytest.approx(((table["end"] - table["start"] + 1) / length).to_list())
    assert (table["start"] >= 1).all()
    assert (table["end"] <= length).all()


def test_a_network_stands_in_for_the_prior_and_counts_less_beside_neighbours(
    families: tuple[Proteins, Proteins], library: FunctionLibrary
) -> None:
    learned = replace(library, network=CountsTryptophan())  # type: ignore[arg-type]
    rich = Proteins(("rich", "Q0"), ("W" * 20 + families[1].sequences[3], families[1].sequences[0]))
    hits = search(rich, library.proteins, options=SearchOptions(1e-3, program="embedded"))
    (parts,) = score_parts(rich, learned, hits)
    heme, catalytic = (library.ontology.places[f"GO:000000{k}"] for k in (3, 4))
    chance = CountsTryptophan().predict(rich.sequences)[:, 0]
    assert parts.expected[:, heme] == pytest.approx(chance)
    assert parts.expected[:, catalytic] == pytest.approx(library.prior[catalytic])
    strength = parts.strength[1, 0]
    assert parts.blended[0, heme] == pytest.approx(chance[0])
    assert parts.blended[1, heme] == pytest.approx(
        (strength + NETWORK_WEIGHT * chance[1]) / (strength + NETWORK_WEIGHT)
    )
    # The term above was rarer by the prior than the network's for the term below, and is lifted.
    assert parts.blended[0, library.ontology.places["GO:0000002"]] >= parts.blended[0, heme]


def test_positions_are_those_whose_change_lowers_the_networks_score(
    families: tuple[Proteins, Proteins], library: FunctionLibrary
) -> None:
    learned = replace(library, network=CountsTryptophan())  # type: ignore[arg-type]
    body = families[1].sequences[3].replace("W", "A")
    planted = Proteins(("planted",), (body[:100] + "W" * 20 + body[100:],))
    told = predict_function(planted, learned, options=PredictOptions(0.05, explained=2, search=OWN)).positions
    assert told["term"].to_list() == ["GO:0000003"]
    assert told["start"][0] == 101
    assert told["end"][0] == 120
    assert told["drop"][0] > 3 * told["standard_error"][0]


def test_a_library_is_read_back_as_it_was_written(
    tmp_path: Path, families: tuple[Proteins, Proteins], library: FunctionLibrary, found: FunctionPredictions
) -> None:
    write_library(library, tmp_path / "library")
    write_library(library, tmp_path / "library")  # one that is there is replaced
    assert [path.name for path in tmp_path.iterdir()] == ["library"]
    again = read_library(tmp_path / "library")
    assert again.proteins.ids == library.proteins.ids
    assert again.made_of == library.made_of
    assert (again.truth != library.truth).nnz == 0
    assert (again.ontology.edges == library.ontology.edges).all()
    told = predict_function(families[1], again, options=PredictOptions(0.05, search=OWN))
    assert told.predictions.equals(found.predictions)


@pytest.mark.parametrize("name", ["proteins.fasta", "terms.parquet", "edges.parquet", "annotations.parquet"])
def test_a_damaged_library_is_refused(tmp_path: Path, library: FunctionLibrary, name: str) -> None:
    write_library(library, tmp_path / "library")
    (tmp_path / "library" / name).write_bytes((tmp_path / "library" / name).read_bytes()[:-1])
    with pytest.raises(InputError, match=f"{name} is damaged"):
        read_library(tmp_path / "library")
    (tmp_path / "library" / name).unlink()
    with pytest.raises(InputError, match=f"{name} is missing"):
        read_library(tmp_path / "library")


def test_other_folders_are_neither_read_nor_written_over(tmp_path: Path, library: FunctionLibrary) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match=r"it has no library\.json"):
        read_library(tmp_path)
    with pytest.raises(InputError, match="holds other files"):
        write_library(library, tmp_path)
    (tmp_path / "library.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        read_library(tmp_path)
    (tmp_path / "library.json").write_text('{"format": "x", "format_version": 9, "digests": {}, "made_of": {}}')
    with pytest.raises(InputError, match="another version"):
        read_library(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_sequences_and_terms_must_name_proteins_alike(annotations: Annotations, ontology: Ontology) -> None:
    both = Proteins(("F0_0", "unknown"), ("MKVLL", "MKVLA"))
    made = build_library(both, annotations, ontology)
    assert made.proteins.ids == ("F0_0",)
    assert made.made_of["Sequences without annotation"] == "1"
    assert set(made.ontology.terms) == {f"GO:00000{k}" for k in ("01", "02", "03", "10", "11", "12")}
    with pytest.raises(InputError, match="none of them does, such as unknown and F0_0"):
        build_library(both.take([1]), annotations, ontology)


def test_no_protein_at_all_gives_empty_tables_that_can_be_written(tmp_path: Path, library: FunctionLibrary) -> None:
    none = Proteins((), (), (Reject("x", 1, "no residues"),))
    told = predict_function(none, library, options=PredictOptions(search=OWN))
    assert not len(told.predictions)
    assert told.rejects
    write_tables(told, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "neighbours.parquet", "positions.parquet", "predictions.parquet", "predictions.tsv"
    ]  # fmt: skip
    with pytest.raises(InputError, match="between 0 and 1"):
        PredictOptions(least_score=2)
