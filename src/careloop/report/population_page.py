"""The page of a genotype file's people: where they lie among groups, who is related, and what does not fit.

One self-contained HTML file without scripts. Ids of samples are shown, since the page is of them; share it as the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from markupsafe import Markup
from numpy.typing import NDArray

import careloop
from careloop import InputError
from careloop.genome.population.identity.check import SampleCheck
from careloop.genome.population.identity.swaps import SampleMatches
from careloop.record.whole_file import write_whole
from careloop.report.image_montage import NOT_CLINICAL
from careloop.report.page_parts import Row, template
from careloop.report.population_pictures import Cloud, components_picture

MOST_ROWS = 100  # of a table; the rest is in the files beside
LEAST_SHOWN = 0.001  # probability of a group, below which it is "under 0.1 %"
_COMPONENTS = pl.selectors.matches(r"^PC\d+$")
VERDICTS = {
    "swapped": "is another sample's person",
    "other person": "is not the person of that name",
    "renamed": "is there under another name",
    "new": "is not in the other file",
    "not clear": "cannot be told",
    "same": "is the same person",
}


@dataclass(frozen=True)
class ShownComponents:
    """Principal components as the page shows them.

    `reference`: sample_id, group, PC1 ... of a panel, None without one. `people`: sample_id, PC1 ... of the file, with
    nearest, like_none, p_value, probability_GROUP and mixture_GROUP where there is a panel. `share` of the variance.
    """

    people: pl.DataFrame
    reference: pl.DataFrame | None = None
    share: Sequence[float] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShownPeople:
    """What there is to show; what is None was not looked at. `person` is the sample whose place is marked."""

    source: str
    components: ShownComponents | None = None
    check: SampleCheck | None = None
    matches: tuple[tuple[str, SampleMatches], ...] = field(default_factory=tuple)  # beside what, and what was found
    person: str | None = None
    simulated: bool = False


def write_population_page(shown: ShownPeople, path: Path) -> None:
    """Write `population_page` as HTML, whole or not at all."""
    write_whole(path, population_page(shown))


def population_page(shown: ShownPeople) -> str:
    """The page as HTML text.

    Raises:
        InputError: the person is not among those of the file.
    """
    return template("population_page.html.j2").render(
        not_clinical=NOT_CLINICAL,
        software=f"careloop {careloop.__version__}",
        source=shown.source,
        person=shown.person,
        simulated=shown.simulated,
        components=None if shown.components is None else _components(shown.components, shown.person),
        check=None if shown.check is None else _check(shown.check),
        matches=[_matches(other, found) for other, found in shown.matches],
        most_rows=MOST_ROWS,
    )


def _components(shown: ShownComponents, person: str | None) -> Row:
    points = _points(shown.people)
    marked = None if person is None else points[_place_of(shown.people, person)]
    clouds = _clouds(shown.reference)
    pairs = [(x, x + 1) for x in (0, 2) if x + 1 < points.shape[1]]
    pictures = [
        Markup(components_picture(clouds, points, axes_shown=pair, person=marked, share=shown.share)) for pair in pairs
    ]
    groups = [name for name in shown.people.columns if name.startswith("probability_")]
    return {
        "pictures": pictures,
        "notes": shown.notes,
        "people": shown.people.height,
        "has_groups": bool(groups),
        "person": None if person is None or not groups else _person(shown.people, person),
        "counts": _counts(shown.people) if groups else [],
    }


def _clouds(reference: pl.DataFrame | None) -> list[Cloud]:
    if reference is None:
        return []
    names = sorted(reference["group"].unique().to_list())
    return [Cloud(name, _points(reference.filter(pl.col("group") == name))) for name in names]


def _points(table: pl.DataFrame) -> NDArray[np.float64]:
    return table.select(_COMPONENTS.cast(pl.Float64).fill_null(np.nan)).to_numpy()


def _place_of(people: pl.DataFrame, person: str) -> int:
    places = np.flatnonzero((people["sample_id"] == person).to_numpy())
    if not places.size:
        raise InputError("the person whose place is asked for is not among the file's samples; check the id")
    return int(places[0])


def _person(people: pl.DataFrame, person: str) -> Row:
    """One person's groups, the likeliest first, with their shares of a mixture where there are any."""
    row = people.row(_place_of(people, person), named=True)
    names = [name.removeprefix("probability_") for name in row if name.startswith("probability_")]
    groups = [
        {
            "name": name,
            "probability": _percent(row[f"probability_{name}"]),
            "mixture": _percent(row.get(f"mixture_{name}")),
            "order": -(row[f"probability_{name}"] or 0),
        }
        for name in names
    ]
    return {
        "nearest": row["nearest"],
        "like_none": row["like_none"],
        "known": row[f"probability_{names[0]}"] is not None,
        "p_value": _percent(row["p_value"]),
        "variants": f"{row['variants']:,}",
        "groups": sorted(groups, key=lambda group: group["order"]),
        "has_mixture": any(name.startswith("mixture_") for name in row),
    }


def _percent(value: float | None) -> str:
    if value is None:
        return "–"
    return f"under {100 * LEAST_SHOWN:g} %" if value < LEAST_SHOWN else f"{100 * value:.1f} %"


def _counts(people: pl.DataFrame) -> list[tuple[str, int]]:
    """How many people are like each group, and like none."""
    like = people.filter(~pl.col("like_none"))["nearest"].value_counts(sort=True)
    counts = [(name, count) for name, count in like.iter_rows()]
    none = int(people["like_none"].sum())
    return [*counts, ("like none of the groups", none)] if none else counts


def _check(check: SampleCheck) -> Row:
    pairs = pl.DataFrame() if check.relatives is None else check.relatives.pairs
    return {
        "people": check.people.height,
        "notes": check.notes,
        "problems": check.problems.select("sample_id", "problems").head(MOST_ROWS).rows(),
        "problem_count": check.problems.height,
        "looked": check.relatives is not None,
        "variants": 0 if check.relatives is None else f"{check.relatives.variants:,}",
        "pairs": [_pair(row) for row in pairs.head(MOST_ROWS).iter_rows(named=True)],
        "pair_count": pairs.height,
        "parents": check.parents.head(MOST_ROWS).rows(),
        "sexes": check.people["verdict"].value_counts(sort=True).rows(),
    }


def _pair(row: Row) -> Row:
    return {
        "one": row["sample_id_1"],
        "other": row["sample_id_2"],
        "relation": row["relation"],
        "same": row["relation"].startswith("same"),
        "kinship": f"{row['kinship']:.3f}",
        "ibs0": f"{100 * row['ibs0']:.2f} %",
        "variants": f"{row['variants']:,}",
    }


def _matches(other: str, found: SampleMatches) -> Row:
    table = found.table
    odd = table.filter(~pl.col("verdict").is_in(["same", "new"]))
    shown = odd.select("sample_id", "verdict", "best_match", "similarity", "concordance", "variants").head(MOST_ROWS)
    rows = [
        {
            "sample": sample,
            "words": VERDICTS[verdict],
            "match": match or "nobody",
            "similarity": "–" if similarity is None else f"{similarity:.2f}",
            "concordance": "–" if concordance is None else f"{100 * concordance:.1f} %",
            "variants": f"{variants:,}",
        }
        for sample, verdict, match, similarity, concordance, variants in shown.rows()
    ]
    counts = [(VERDICTS[verdict], count) for verdict, count in table["verdict"].value_counts(sort=True).iter_rows()]
    return {"other": other, "people": table.height, "rows": rows, "odd": odd.height, "counts": counts}
