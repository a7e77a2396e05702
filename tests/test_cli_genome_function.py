"""The commands of gene function as a user types them, on a small simulated library."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

import careloop.cli.genome_function  # noqa: F401  (registers the commands)
from careloop.cli import cli

Run = Callable[..., Result]
OBO = """format-version: 1.2
data-version: simulated

[Term]
id: GO:0003674
name: molecular_function
namespace: molecular_function

[Term]
id: GO:0005488
name: binding
namespace: molecular_function
is_a: GO:0003674

[Term]
id: GO:0003824
name: catalytic activity
namespace: molecular_function
is_a: GO:0003674
"""


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """proteins.fasta of two simulated families, terms.tsv, go.obo and query.fasta, one of each family."""
    generator = np.random.default_rng(0)
    ancestors = ["".join(generator.choice(list("ACDEFGHIKLMNPQRSTVWY"), 120)) for _ in range(2)]

    def member(family: int) -> str:
        letters = np.array(list(ancestors[family]))
        changed = generator.random(120) < 0.3
        letters[changed] = generator.choice(list("ACDEFGHIKLMNPQRSTVWY"), changed.sum())
        return "".join(letters)

    names = [(f"F{family}_{k}", family) for family in range(2) for k in range(5)]
    (tmp_path / "proteins.fasta").write_text("".join(f">{name}\n{member(family)}\n" for name, family in names))
    terms = ("GO:0005488", "GO:0003824")
    (tmp_path / "terms.tsv").write_text(
        "".join(f"{name}\t{terms[family]}\n" for name, family in names) + "F0_0\tGO:1\n"
    )
    (tmp_path / "go.obo").write_text(OBO)
    (tmp_path / "query.fasta").write_text(f">Q0\n{member(0)}\n>Q1\n{member(1)}\n>empty\n")
    return tmp_path


@pytest.fixture
def run(world: Path) -> Run:
    def typed(*words: Any) -> Result:
        return CliRunner().invoke(cli, ["genome", *map(str, words)], catch_exceptions=False)

    return typed


def make_library(run: Run, world: Path) -> Result:
    files = ["--sequences", world / "proteins.fasta", "--annotations", world / "terms.tsv"]
    return run("function-library", *files, "--ontology", world / "go.obo", "--no-network", "--out", world / "library")


def test_a_library_is_made_and_proteins_are_predicted_from_it(run: Run, world: Path) -> None:
    made = make_library(run, world)
    assert made.exit_code == 0, made.output
    assert "1 lines or records not used: the ontology does not have the term" in made.output
    options = [
        "--program",
        "embedded",
        "--out",
        world / "out",
        "--page",
        world / "page.html",
        "--simulated",
        "families",
    ]
    done = run("function", world / "query.fasta", "--library", world / "library", *options, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    best = {row["protein"]: row["name"] for row in reversed(told["predictions"])}
    assert best == {"Q0": "binding", "Q1": "catalytic activity"}
    assert told["program"] == "careloop's own search"
    assert told["rejects"][0]["name"] == "empty"
    table = pl.read_csv(world / "out" / "predictions.tsv", separator="\t", has_header=False)
    assert table.height == len(told["predictions"])
    assert "Simulated data" in (world / "page.html").read_text(encoding="utf-8")


def test_results_are_printed_with_their_neighbours(run: Run, world: Path) -> None:
    make_library(run, world)
    done = run("function", world / "query.fasta", "--library", world / "library", "--program", "embedded")
    assert "binding (molecular function)  by F0_" in done.output
    assert "not used: line 5, empty: no residues" in done.output
    assert "not for clinical use" in done.output.lower()


def test_a_folder_that_is_no_library_is_one_line(run: Run, world: Path) -> None:
    from careloop import InputError

    with pytest.raises(InputError, match="is no library"):
        run("function", world / "query.fasta", "--library", world)


def test_evidence_codes_go_by_name_or_as_experimental(run: Run, world: Path) -> None:
    line = "UniProtKB\t{}\tX\t\t{}\tPMID:1\t{}\t\tF\t\t\tprotein\ttaxon:9606\t20200101\tX\t\t"
    known = dict(row.split("\t")[:2] for row in (world / "terms.tsv").read_text().splitlines())
    codes = ["IDA", "IEA", "IMP"]
    rows = [line.format(name, term, codes[at % 3]) for at, (name, term) in enumerate(known.items())]
    (world / "terms.gaf").write_text("\n".join(["!gaf-version: 2.2", *rows]) + "\n")
    files = [
        "--sequences",
        world / "proteins.fasta",
        "--annotations",
        world / "terms.gaf",
        "--ontology",
        world / "go.obo",
    ]
    counts = []
    for evidence in (["--evidence", "experimental"], ["--evidence", "IDA,IMP"], []):
        done = run("function-library", *files, "--no-network", "--out", world / "by_code", *evidence, "--json")
        counts.append(json.loads(done.stdout)["made_of"]["Annotated proteins"])
    assert counts[0] == counts[1]
    assert int(counts[0]) < int(counts[2])
