"""The page of predicted function: what it shows of each protein, and that nothing from a file can run in it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from careloop.genome.function.predict import NEIGHBOURS, POSITIONS, PREDICTIONS, FunctionPredictions
from careloop.genome.function.proteins import Reject
from careloop.report.function_page import MOST_PROTEINS, function_page, write_function_page

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def found() -> FunctionPredictions:
    def term(term: str, name: str, score: float, specific: bool) -> tuple[object, ...]:
        return (
            "P1",
            "molecular_function",
            term,
            name,
            score,
            0.9,
            0.4,
            0.1,
            specific,
            ["N1", "N2"] if specific else [],
        )

    rows = [term("GO:1", "binding", 0.95, False), term("GO:2", "heme binding", 0.9, True)]
    return FunctionPredictions(
        predictions=pl.DataFrame(rows, schema=PREDICTIONS, orient="row"),
        neighbours=pl.DataFrame(
            [("P1", "N1", 0.42, 0.9, 0.8, 11, 110, 1e-20, 98.6, 21.1)], schema=NEIGHBOURS, orient="row"
        ),
        positions=pl.DataFrame([("P1", "GO:2", 41, 60, 2.5, 0.2)], schema=POSITIONS, orient="row"),
        lengths={"P1": 120, "P2": 80},
        program="DIAMOND",
        made_of={"Annotated proteins": "16,000"},
        rejects=(Reject("x", 9, "no residues"),),
    )


def test_terms_neighbours_and_positions_stand_beside_each_score(found: FunctionPredictions) -> None:
    page = function_page(found, source="mine.fasta")
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    for words in (
        "heme binding GO:2 0.90 0.90 0.40 0.10 N1, N2, residues 41–60",
        "1 broader term ",
        "Nearest in the library: N1, 42 % identical over 90 % of this protein",
        "No alike protein is in the library",
        "No term reaches the least score",
        "Not used: 1 (no residues)",
        "mine.fasta",
        "found by DIAMOND",
        "16,000",
    ):
        assert words in text, words
    assert "not for clinical use" in text.lower()
    assert "Simulated" not in text


def test_the_picture_places_alignment_and_positions_along_the_protein(found: FunctionPredictions) -> None:
    page = function_page(found)
    bars = [(float(x), float(w)) for x, w in re.findall(r'<rect x="([\d.]+)" y="\d+" width="([\d.]+)"', page)]
    assert len(bars) == 3
    (left, whole), aligned, positions = bars
    assert aligned == pytest.approx((left + whole * 10 / 120, whole * 100 / 120), abs=0.1)
    assert positions == pytest.approx((left + whole * 40 / 120, whole * 20 / 120), abs=0.1)


def test_names_from_files_cannot_run(found: FunctionPredictions) -> None:
    evil = replace(
        found,
        predictions=found.predictions.with_columns(pl.lit(EVIL).alias("name")),
        neighbours=found.neighbours.with_columns(pl.lit(EVIL).alias("neighbour")),
        made_of={EVIL: EVIL},
    )
    page = function_page(evil, source=EVIL, simulated=EVIL)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "Simulated data" in page


def test_many_proteins_are_left_to_the_table(found: FunctionPredictions, tmp_path: Path) -> None:
    many = replace(found, lengths={f"P{k}": 50 for k in range(1, MOST_PROTEINS + 4)})
    write_function_page(many, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"first {MOST_PROTEINS} proteins; 3 more" in page
    assert page.count("<h2>") == MOST_PROTEINS + 1
