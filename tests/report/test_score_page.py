"""The page of polygenic scores."""

from __future__ import annotations

import numpy as np
import pytest

from careloop.genome.risk.absolute_risk import RiskCurve
from careloop.genome.risk.scores.overlap import Overlap
from careloop.report.score_page import PersonsRisk, ShownScore, score_page

OTHERS = np.random.default_rng(0).normal(size=400)


def overlap(used: int) -> Overlap:
    return Overlap(
        100, used, {"effect allele is alt": used}, {"id": used}, {"not among the <genotypes>": 100 - used}, 0.5
    )


def curve() -> RiskCurve:
    ages = np.array([50.0, 60, 70])
    risk = np.array([[0, 0.05, 0.1234]])
    return RiskCurve(ages, risk, risk * 0.9, risk * 1.1, risk[0] / 2, np.array([1.75]))


def test_a_persons_place_risk_and_overlap_are_shown() -> None:
    risk = PersonsRisk(curve(), (("Rates", "made up"),))
    one = ShownScore("PGS1", OTHERS, "the others", "SD", 1.0, 84.2, overlap(90), ("a note",), risk)
    page = score_page([one], person="P<1>", source="people.bed")
    assert "About 84 of 100 people have a lower score" in page
    assert "12.3 %" in page
    assert "1.75 times the average" in page
    assert "90 of 100 variants" in page
    assert "not among the &lt;genotypes&gt;" in page
    assert "P&lt;1&gt;" in page
    assert "a note" in page
    assert page.count("<svg") == 2
    assert "<script" not in page
    assert "Simulated" not in page
    assert "could be used. Its published" not in page


@pytest.mark.parametrize(
    ("percentile", "words"), [(0.2, "Fewer than 1 of 100"), (99.7, "More than 99 of 100"), (50.0, "About 50 of 100")]
)
def test_percentiles_are_said_as_people(percentile: float, words: str) -> None:
    assert words in score_page([ShownScore("S", OTHERS, "others", "SD", 0.0, percentile)], person="P")


def test_little_overlap_simulation_and_a_person_without_a_score_are_said() -> None:
    page = score_page([ShownScore("S", OTHERS, "others", "SD", overlap=overlap(60))], person="P", simulated=True)
    assert "Only 60.0 %" in page
    assert "Simulated data" in page
    assert "no score of P" in page
