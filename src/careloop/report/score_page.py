"""The page of polygenic scores: where a person lies, what of each score could be used, and the absolute risk.

One self-contained HTML file without scripts. What a score could not use is shown beside what it did, by reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

import careloop
from careloop.genome.risk.absolute_risk import RiskCurve
from careloop.genome.risk.scores.overlap import Overlap
from careloop.record.whole_file import write_whole
from careloop.report.image_montage import NOT_CLINICAL
from careloop.report.page_parts import Row, figure, template
from careloop.report.score_pictures import distribution_picture, risk_picture

LOW_OVERLAP = 0.75  # of variants: below this the PGS Catalog's calculator refuses a score


@dataclass(frozen=True)
class PersonsRisk:
    """Absolute risk of the person by age, and in words what it was computed from: name, value."""

    curve: RiskCurve
    inputs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ShownScore:
    """One score as the page shows it.

    `others` (people,) are the scores of those that the person is compared with, `compared` says in words who they are
    and `axis` what the numbers are. `value` and `percentile` (0 to 100) are the person's, None where there is no person
    or no score. `overlap` is None where a table of scores is shown that says nothing of it.
    """

    name: str
    others: NDArray[np.float64]
    compared: str
    axis: str
    value: float | None = None
    percentile: float | None = None
    overlap: Overlap | None = None
    notes: tuple[str, ...] = ()
    risk: PersonsRisk | None = None


def write_score_page(
    scores: Sequence[ShownScore], path: Path, *, person: str | None = None, source: str = "", simulated: bool = False
) -> None:
    """Write `score_page` as HTML, whole or not at all."""
    write_whole(path, score_page(scores, person=person, source=source, simulated=simulated))


def score_page(
    scores: Sequence[ShownScore], *, person: str | None = None, source: str = "", simulated: bool = False
) -> str:
    """The page as HTML text: `person` is the sample's name, `source` that of the genotypes' file."""
    return template("score_page.html.j2").render(
        not_clinical=NOT_CLINICAL,
        software=f"careloop {careloop.__version__}",
        simulated=simulated,
        person=person or "",
        source=source,
        scores=[_score(one) for one in scores],
    )


def _score(one: ShownScore) -> Row:
    others = one.others[np.isfinite(one.others)]
    return {
        "name": one.name,
        "compared": one.compared,
        "people": f"{len(others):,}",
        "value": "" if one.value is None else figure(one.value),
        "percentile": _percentile_words(one.percentile),
        "picture": Markup(distribution_picture(others, one.value, axis=one.axis)) if len(others) else "",
        "overlap": None if one.overlap is None else _overlap(one.overlap),
        "notes": one.notes,
        "risk": None if one.risk is None else _risk(one.risk),
    }


def _percentile_words(percentile: float | None) -> str:
    """How many of 100 people have a lower score, never quite none or all."""
    if percentile is None or not np.isfinite(percentile):
        return ""
    if percentile < 1:
        return "fewer than 1 of 100"
    return "more than 99 of 100" if percentile > 99 else f"about {percentile:.0f} of 100"


def _overlap(overlap: Overlap) -> Row:
    return {
        "used": f"{overlap.used:,}",
        "rows": f"{overlap.rows:,}",
        "share": f"{100 * overlap.variants:.1f}",
        "weights": f"{100 * overlap.weights:.1f}",
        "low": overlap.variants < LOW_OVERLAP,
        "kinds": [(kind, f"{count:,}") for kind, count in overlap.kinds.items()],
        "reasons": [(reason, f"{count:,}") for reason, count in overlap.reasons.items()],
    }


def _risk(shown: PersonsRisk) -> Row:
    curve = shown.curve
    marks = np.unique(np.linspace(0, len(curve.ages) - 1, 6).astype(int))[1:]
    rows = [
        (
            f"{curve.ages[at]:g}",
            _percent(curve.risk[0, at]),
            f"{_percent(curve.low[0, at])} to {_percent(curve.high[0, at])}",
            _percent(curve.average[at]),
        )
        for at in marks
    ]
    return {
        "picture": Markup(risk_picture(curve)),
        "from_age": f"{curve.ages[0]:g}",
        "to_age": f"{curve.ages[-1]:g}",
        "risk": _percent(curve.risk[0, -1]),
        "average": _percent(curve.average[-1]),
        "relative": f"{curve.relative[0]:.2f}",
        "rows": rows,
        "inputs": shown.inputs,
    }


def _percent(share: float) -> str:
    decimals = 1 if share >= 0.01 else 2 if share >= 0.001 else 3
    return f"{100 * share:.{decimals}f} %"
