"""The page of proteins' predicted function: terms with what each rests on, and where alike proteins lie along each.

One self-contained HTML file without scripts. What neighbours, the network and the prior say stands beside each score.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup, escape

import careloop
from careloop.genome.function.predict import FunctionPredictions
from careloop.genome.function.terms.annotations import reasons
from careloop.genome.function.terms.ontology import ASPECTS
from careloop.record.whole_file import write_whole
from careloop.report.image_montage import NOT_CLINICAL
from careloop.report.page_parts import Row, template

MOST_PROTEINS = 50  # on one page
MOST_NEIGHBOURS = 20  # of a protein in its table
MOST_DRAWN = 8  # in its picture
LONGEST_NAME = 24  # characters in the picture
ASPECT_WORDS = dict(zip(ASPECTS, ("Molecular function", "Biological process", "Cellular component"), strict=True))
WIDTH, LEFT, RIGHT, STEP, BAR = 760, 190, 20, 18, 9  # of the picture, in pixels
_NO_VALUE = "–"


def write_function_page(
    found: FunctionPredictions, path: Path, *, source: str = "", simulated: str | None = None
) -> None:
    """Write `function_page` as HTML in UTF-8 to `path`, whole or not at all."""
    write_whole(path, function_page(found, source=source, simulated=simulated))


def function_page(found: FunctionPredictions, *, source: str = "", simulated: str | None = None) -> str:
    """The page as HTML text. `source` is the file's name; `simulated` says what is simulated, None if nothing is."""
    names = list(found.lengths)[:MOST_PROTEINS]
    learned = "network" in found.predictions.columns and found.predictions["network"].is_not_null().any()
    return template("function_page.html.j2").render(
        not_clinical=NOT_CLINICAL,
        software=f"careloop {careloop.__version__}",
        simulated=simulated,
        source=source,
        program=found.program,
        learned="Network",
        learned_words="what a network learned from their sequences" if learned else "how common each term is",
        count=len(found.lengths),
        left_out=max(0, len(found.lengths) - MOST_PROTEINS),
        facts=list(found.made_of.items()),
        rejects=list(reasons(found.rejects).items()),
        proteins=[_protein(name, found) for name in names],
    )


def _protein(name: str, found: FunctionPredictions) -> Row:
    terms, neighbours, positions = (
        table.filter(pl.col("protein") == name) for table in (found.predictions, found.neighbours, found.positions)
    )
    where = {row["term"]: f"residues {row['start']}–{row['end']}" for row in positions.iter_rows(named=True)}
    aspects = []
    for aspect, words in ASPECT_WORDS.items():
        rows = terms.filter(pl.col("aspect") == aspect)
        if len(rows):
            specific, above = (
                [_term(row, where) for row in rows.filter(pl.col("specific") == which).iter_rows(named=True)]
                for which in (True, False)
            )
            aspects.append({"name": words, "specific": specific, "above": above})
    return {
        "name": name,
        "length": f"{found.lengths[name]:,}",
        "nearest": _nearest(neighbours),
        "aspects": aspects,
        "neighbours": [_neighbour(row) for row in neighbours.head(MOST_NEIGHBOURS).iter_rows(named=True)],
        "map": alignment_map(found.lengths[name], neighbours, positions) if len(neighbours) + len(positions) else "",
    }


def _term(row: dict[str, Any], where: dict[str, str]) -> Row:
    rests = [*row["transferred_from"], *([where[row["term"]]] if row["term"] in where else [])]
    return {
        "name": row["name"],
        "term": row["term"],
        "score": f"{row['score']:.2f}",
        "width": round(100 * row["score"]),
        "neighbours": _share(row["neighbours"]),
        "network": _share(row["network"]),
        "prior": _share(row["prior"]),
        "rests_on": ", ".join(rests) or _NO_VALUE,
    }


def _share(value: float | None) -> str:
    return _NO_VALUE if value is None else f"{value:.2f}"


def _nearest(neighbours: pl.DataFrame) -> str:
    if not len(neighbours):
        return "No alike protein is in the library: scores are what sequence alone tells."
    best = neighbours.row(0, named=True)
    share, covered = f"{100 * best['identity']:.0f} %", f"{100 * best['coverage']:.0f} %"
    return f"Nearest in the library: {best['neighbour']}, {share} identical over {covered} of this protein."


def _neighbour(row: dict[str, Any]) -> Row:
    return {
        "name": row["neighbour"],
        "identity": f"{100 * row['identity']:.0f} %",
        "coverage": f"{100 * row['coverage']:.0f} %",
        "neighbour_coverage": f"{100 * row['neighbour_coverage']:.0f} %",
        "residues": f"{row['start']}–{row['end']}",
        "evalue": f"{row['evalue']:.1g}",
        "bits": f"{row['bit_score']:.0f}",
    }


def alignment_map(length: int, neighbours: pl.DataFrame, positions: pl.DataFrame) -> Markup:
    """SVG of a protein of `length` residues: its best neighbours, darker the more identical, and positions."""
    drawn = neighbours.head(MOST_DRAWN)
    scale = (WIDTH - LEFT - RIGHT) / max(length, 1)
    rows = [_bar("this protein", 1, length, scale, 0, "#1f2a33")]
    for place, row in enumerate(drawn.iter_rows(named=True), start=1):
        label = f"{_short(row['neighbour'])} {100 * row['identity']:.0f} %"
        colour = f"hsl(205 55% {72 - 40 * row['identity']:.0f}%)"
        rows.append(_bar(label, row["start"], row["end"], scale, place, colour))
    for place, row in enumerate(positions.iter_rows(named=True), start=len(rows)):
        rows.append(_bar(f"network: {row['term']}", row["start"], row["end"], scale, place, "#b4530a"))
    height = STEP * len(rows) + 22
    axis = (
        f'<text x="{LEFT}" y="{height - 6}" font-size="11">1</text>'
        f'<text x="{WIDTH - RIGHT}" y="{height - 6}" font-size="11" text-anchor="end">{length}</text>'
    )
    said = f"Where {len(drawn)} neighbours align along {length} residues"
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{said}" '
        f'font-family="sans-serif">{"".join(rows)}{axis}</svg>'
    )


def _bar(label: str, start: int, end: int, scale: float, place: int, colour: str) -> str:
    x, width, y = LEFT + (start - 1) * scale, max(1.5, (end - start + 1) * scale), STEP * place + 6
    return (
        f'<text x="{LEFT - 8}" y="{y + BAR}" font-size="12" text-anchor="end">{escape(label)}</text>'
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2" fill="{colour}"/>'
    )


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
