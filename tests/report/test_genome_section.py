"""The report's part on what a genome adds, from a small fusion.json."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from jinja2 import Environment, PackageLoader, StrictUndefined

from careloop.evaluate import Outcomes, Predictions, Threshold, evaluate_all, reclassify, to_json
from careloop.report import charts
from careloop.report.genome_section import genome_section
from careloop.report.report import signed, with_interval


@pytest.fixture(scope="module")
def fusion() -> dict[str, Any]:
    """Two models on 400 simulated rows, the second of which knows more with the genome."""
    random = np.random.default_rng(4)
    clinic, genome = random.normal(size=(2, 400))
    label = random.random(400) < 1 / (1 + np.exp(1.5 - clinic - genome))
    outcomes = Outcomes(np.arange(400), np.ones(400), label.astype(int), 1.0)
    threshold = Threshold(0.2, "from the study file")
    risk = {
        "both": 1 / (1 + np.exp(1.5 - clinic - genome)),
        "clinical": 1 / (1 + np.exp(1.3 - 0.9 * clinic)),
        "genome": 1 / (1 + np.exp(1.3 - 0.9 * genome)),
    }
    evaluation = evaluate_all({k: Predictions(v, threshold) for k, v in risk.items()}, outcomes, resamples=100)
    moved = reclassify(risk["clinical"], risk["both"], outcomes, limits=(0.1, 0.2), resamples=100)
    entry = {"evaluation": evaluation.to_json(), "reclassification": to_json(moved), "words": ["It adds & <more>."]}
    return {
        "columns": {"clinical": ["age_years"], "genome": ["static|GENOME//SCORE//A", "static|GENOME//PC//1"]},
        "rows": {"held_out": 400, "with_genome": 390},
        "threshold": {"value": 0.2, "rule": "from the study file"},
        "lead": "logistic_regression",
        "models": {"logistic_regression": entry, "lightgbm": entry},
        "notes": ["10 of 400 held-out rows have no genome."],
    }


def rendered(fusion: dict[str, Any] | None) -> str:
    environment = Environment(
        loader=PackageLoader("careloop.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters.update(figure=with_interval, signed=signed)
    with charts.style():
        section = genome_section(fusion)
    return environment.get_template("genome_section.html.j2").render(genome=section)


def test_a_run_without_a_genome_shows_nothing() -> None:
    assert rendered(None).strip() == ""


def test_the_page_has_all_figures_and_pictures(fusion: dict[str, Any]) -> None:
    page = rendered(fusion)
    assert page.count("<svg") == 4
    for words in ("clinic alone", "genome alone", "clinic and genome", "390 of 400", "below 10 %", "10 to 20 %"):
        assert words in page
    assert "It adds &amp; &lt;more&gt;." in page
    entry = fusion["models"]["logistic_regression"]
    auroc = entry["evaluation"]["models"]["both"]["figures"]["auroc"]
    assert f"{auroc['value']:.3f}<small>{auroc['low']:.3f} to {auroc['high']:.3f}" in page
    assert f"{entry['reclassification']['figures']['nri_events']['value']:+.3f}" in page
    assert "continuous NRI and the IDI can be above 0 for a marker that adds nothing" in page


def test_tables_hold_every_patient_once(fusion: dict[str, Any]) -> None:
    with charts.style():
        section = genome_section(fusion)
    assert section is not None
    assert sum(sum(cells) for table in section["tables"] for _, cells in table["rows"]) == pytest.approx(400)
    assert section["tables"][0]["names"] == ["below 10 %", "10 to 20 %", "20 % or more"]
    assert section["differences"][0]["pair"] == "clinic and genome - clinic alone"


def test_pictures_are_the_same_each_time(fusion: dict[str, Any]) -> None:
    assert rendered(fusion) == rendered(fusion)


def test_without_a_model_only_the_note_is_shown(fusion: dict[str, Any]) -> None:
    page = rendered({**fusion, "lead": None, "models": {}, "notes": ["Nothing clinical to compare with."]})
    assert "Nothing clinical" in page
    assert "<svg" not in page
