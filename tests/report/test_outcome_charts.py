"""Charts of predictions and outcomes as these arrive."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from careloop.report import charts
from careloop.report.outcome_charts import evidence_paths, observed_expected_by_month


def _month(month: str, value: float | None, *, known: bool = True) -> dict[str, object]:
    ratio = {"value": value, "low": value and 0.8 * value, "high": value and 1.2 * value, "reason": None}
    return {"month": month, "known": known, "limits": [0.7, 1.3] if known else None, "observed_expected": ratio}


@pytest.fixture
def stream() -> dict[str, object]:
    path = {
        "kind": "level", "feature": None, "line": 1.6, "rows": 3, "points": [1, 2, 3], "highest": 2.0, "alarm": True,
        "alarm_row": 2, "times": ["2023-01-01T00:00:00", "2023-01-02T00:00:00", "2023-01-03T00:00:00"],
        "log10": [0.0, 1.7, 2.0],
    }  # fmt: skip
    quiet = {**path, "kind": "input", "feature": "<lab>", "alarm": False, "alarm_row": None, "highest": 0.1}
    return {"evidence": [{**quiet, "log10": [0.0, -9.0, 0.1]}, path]}


def test_months_are_labelled_and_unknown_ones_shaded() -> None:
    with charts.style():
        svg = observed_expected_by_month(
            [_month("2023-01", 1.1), _month("2023-02", 1.9), _month("2023-03", None, known=False)], "cox"
        )
    ET.fromstring(svg)
    for text in ("2023-01", "2023-03", "outcomes not yet known", "by time of prediction, cox"):
        assert text in svg
    assert charts.COLOURS[1].lower() in svg.lower()  # a month outside its limits


def test_evidence_is_drawn_from_its_alarm_line_and_names_are_escaped(stream: dict[str, object]) -> None:
    with charts.style():
        svg = evidence_paths(stream, "cox")
        again = evidence_paths(stream, "cox")
    ET.fromstring(svg)
    assert svg == again
    assert "input &lt;lab&gt;" in svg
    assert "more or fewer outcomes than predicted" in svg


def test_nothing_to_draw_is_an_empty_text() -> None:
    assert observed_expected_by_month([], "cox") == ""
    assert evidence_paths({"evidence": []}, "cox") == ""
