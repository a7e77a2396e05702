"""The commands of gene function: a library of annotated proteins, and the terms of proteins from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from careloop.cli.command import FOLDER, json_option
from careloop.cli.genome import NOT_CLINICAL, genome
from careloop.cli.output import counter, show

if TYPE_CHECKING:
    from collections.abc import Mapping

    from careloop.genome.function.library import FunctionLibrary
    from careloop.genome.function.predict import FunctionPredictions

SHOWN_TERMS = 5  # specific terms of a protein that are printed
EVIDENCE_HELP = "Evidence codes of a GAF that count, such as EXP,IDA,IMP, or experimental; default: all."
EMBEDDINGS_HELP = "Folder of a protein language model (ESM or ProtT5), read beside the sequence."


@genome.command("function-library")
@click.option("--sequences", required=True, type=FOLDER, metavar="FASTA", help="Proteins, also .gz.")
@click.option("--annotations", required=True, type=FOLDER, help="Their terms: GAF 2, or lines of protein and GO term.")
@click.option("--ontology", required=True, type=FOLDER, metavar="OBO", help="The Gene Ontology, such as go-basic.obo.")
@click.option("--evidence", metavar="CODES", help=EVIDENCE_HELP)
@click.option(
    "--network/--no-network", "learns", default=True, show_default=True, help="Train a network (minutes to hours)."
)
@click.option("--embeddings", type=FOLDER, metavar="DIR", help=EMBEDDINGS_HELP)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", required=True, type=FOLDER, metavar="DIR", help="Folder of the library.")
@json_option
def function_library(
    sequences: Path,
    annotations: Path,
    ontology: Path,
    evidence: str | None,
    learns: bool,
    embeddings: Path | None,
    seed: int,
    out: Path,
    as_json: bool,
) -> None:
    """Make a library of annotated proteins, from which `careloop genome function` predicts.

    Training that was killed goes on when the same command is given again.
    """
    from careloop.genome.function.library import build_library, with_network, write_library
    from careloop.genome.function.proteins import read_proteins
    from careloop.genome.function.terms.annotations import EXPERIMENTAL, read_annotations, reasons
    from careloop.genome.function.terms.ontology import read_ontology

    terms = read_ontology(ontology)
    proteins = read_proteins(sequences)
    codes = EXPERIMENTAL if evidence == "experimental" else evidence and evidence.split(",")
    annotated = read_annotations(annotations, terms, evidence=codes or None)
    library = build_library(proteins, annotated, terms)
    if learns:
        from careloop.genome.function.learned.train import LearnSettings

        with counter() as progress:
            settings = LearnSettings(seed=seed, embeddings=embeddings)
            library = with_network(library, settings=settings, folder=out, progress=progress)
    write_library(library, out)
    rejects = reasons([*proteins.rejects, *annotated.rejects])
    shown = {"out": str(out), "made_of": dict(library.made_of), "denied": len(annotated.denied), "rejects": rejects}
    show(shown, _library_text(library, rejects, len(annotated.denied), out), as_json=as_json)


def _library_text(library: FunctionLibrary, rejects: Mapping[str, int], denied: int, out: Path) -> str:
    lines = [f"{what:<40} {value:>20}" for what, value in library.made_of.items()]
    lines += [f"{count:,} lines or records not used: {reason}" for reason, count in rejects.items()]
    lines += [f"{denied:,} annotations with NOT, which are no annotations"] * bool(denied)
    return "\n".join([*lines, f"Wrote {out}"])


@genome.command()
@click.argument("proteins", type=FOLDER)
@click.option("--library", "library_path", required=True, type=FOLDER, metavar="DIR", help="By function-library.")
@click.option("--least-score", type=click.FloatRange(0, 1), default=0.1, show_default=True, help="Shown from there on.")
@click.option("--explain", type=click.IntRange(0), default=0, help="Find positions behind so many terms of a protein.")
@click.option("--program", type=click.Choice(["diamond", "embedded"]), help="Default: DIAMOND where it is installed.")
@click.option("--embeddings", type=FOLDER, metavar="DIR", help="Where the library's protein language model lies now.")
@click.option("--out", type=FOLDER, metavar="DIR", help="Folder for predictions, neighbours and positions as tables.")
@click.option("--page", type=FOLDER, metavar="HTML", help="Write a page with the evidence.")
@click.option("--simulated", metavar="WORDS", help="What of it is simulated, for the page.")
@json_option
def function(
    proteins: Path,
    library_path: Path,
    least_score: float,
    explain: int,
    program: Any,
    embeddings: Path | None,
    out: Path | None,
    page: Path | None,
    simulated: str | None,
    as_json: bool,
) -> None:
    """Predict Gene Ontology terms of PROTEINS (FASTA): by alike proteins, a network, and how common terms are."""
    from careloop.genome.function.library import read_library
    from careloop.genome.function.predict import PredictOptions, predict_function, write_tables
    from careloop.genome.function.proteins import read_proteins
    from careloop.genome.function.search.hits import SearchOptions

    options = PredictOptions(least_score, explain, SearchOptions(program=program))
    library = read_library(library_path, embeddings=embeddings)
    with counter() as progress:
        found = predict_function(read_proteins(proteins), library, options=options, progress=progress)
    if out:
        write_tables(found, out)
    if page:
        from careloop.report.function_page import write_function_page

        write_function_page(found, page, source=proteins.name, simulated=simulated)
    show(_function_json(found), _function_text(found), as_json=as_json)


def _function_json(found: FunctionPredictions) -> dict[str, Any]:
    return {
        "program": found.program,
        "library": dict(found.made_of),
        "predictions": found.predictions.to_dicts(),
        "positions": found.positions.to_dicts(),
        "rejects": [{"name": each.name, "line": each.line, "reason": each.reason} for each in found.rejects],
        "note": NOT_CLINICAL,
    }


def _function_text(found: FunctionPredictions) -> str:
    lines = []
    for name in found.lengths:
        lines.append(name)
        of = found.predictions.filter(protein=name, specific=True).sort("score", descending=True)
        for row in of.head(SHOWN_TERMS).iter_rows(named=True):
            by = f"  by {', '.join(row['transferred_from'])}" if row["transferred_from"] else ""
            lines.append(f"  {row['score']:.2f}  {row['term']}  {row['name']} ({row['aspect'].replace('_', ' ')}){by}")
    lines += [f"not used: line {each.line}, {each.name}: {each.reason}" for each in found.rejects[:10]]
    return "\n".join([*lines, f"Neighbours by {found.program}. {NOT_CLINICAL}"])
