"""The chart of a history: lanes, marks, labels and ticks, as they stand in the SVG."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from careloop.report.charts import GREY, style
from careloop.report.timeline_chart import LARGEST, LOWERS, MOST_LANES, RAISES, SMALLEST, timeline

SVG = "{http://www.w3.org/2000/svg}"


def event(name: str, share: float, days: float | None = 10.0, value: str = "") -> dict[str, Any]:
    return {"name": name, "text": f"{name} {value}".strip(), "days_before": days, "share": share}


def drawn(events: list[dict[str, Any]]) -> tuple[str, list[str]]:
    """The SVG, and its texts in order."""
    with style():
        svg = timeline(events, unit="share in the risk")
    return svg, [node.text or "" for node in ET.fromstring(svg).iter(f"{SVG}text")]


def test_a_lane_for_each_code_with_its_sum_and_its_leading_value() -> None:
    events = [event("ALT", 0.1, 400.0, "90 U/L"), event("ALT", 0.2, 20.0, "210 U/L"), event("platelets", -0.05, 5.0)]
    _, texts = drawn([*events, event("sex: male", 0.01, None)])
    assert {"ALT", "platelets", "sex: male", "+0.30", "-0.05", "+0.01", "210 U/L", "start", "now"} <= set(texts)
    assert "90 U/L" not in texts
    assert texts.index("ALT") < texts.index("platelets") < texts.index("sex: male")


def test_codes_beyond_the_lanes_and_without_a_share_are_drawn_together() -> None:
    events = [event(f"code {i}", 0.1 - 0.001 * i) for i in range(MOST_LANES + 3)]
    _, texts = drawn(events)
    assert "3 other codes" in texts
    assert f"code {MOST_LANES - 1}" in texts
    _, texts = drawn([event("ALT", 0.1), event("a", 0.001), event("b", -0.002)])
    assert {"ALT", "2 other codes", "+0.10", "+0.00"} <= set(texts)
    assert "-0.00" not in texts
    _, texts = drawn([event("ALT", 0.004), event("a", 0.001), event("b", -0.002)])
    assert {"ALT", "a", "b", "+0.004", "-0.002"} <= set(texts)


def test_a_marks_place_area_and_colour_are_its_events_date_share_and_sign() -> None:
    svg, _ = drawn([event("ALT", share, days) for days, share in ((4.0, 0.2), (9.0, 0.1), (25.0, -0.2), (100.0, 0.0))])
    group = next(g for g in ET.fromstring(svg).iter(f"{SVG}g") if g.get("id") == "PathCollection_1")
    marks = [(path.get("style", ""), re.findall(r"[-\d.]+ [-\d.]+", path.get("d", ""))) for path in group]
    across = [[float(pair.split()[0]) for pair in pairs] for _, pairs in marks]
    place = np.array([(min(x) + max(x)) / 2 for x in across])
    area = np.array([(max(x) - min(x)) ** 2 for x in across])
    assert (place[0] - place) / (place[0] - place[3]) == pytest.approx((np.array([2, 3, 5, 10]) - 2) / 8, abs=1e-3)
    assert area / area[0] == pytest.approx([1, 0.5 + SMALLEST / LARGEST / 2, 1, SMALLEST / LARGEST], abs=1e-3)
    assert [style[6:13].upper() for style, _ in marks] == [RAISES, RAISES, LOWERS, GREY.upper()]


@pytest.mark.parametrize("days", [0.0, 0.2, 3.0, 30.0, 400.0, 9000.0, 30000.0])
def test_histories_of_any_length_have_a_time_axis(days: float) -> None:
    _, texts = drawn([event("ALT", 0.1, days)])
    assert "now" in texts
    assert any(re.fullmatch(r"\d+ (day|week|month|year)s?", text) for text in texts)


def test_long_names_are_shortened_and_special_letters_kept() -> None:
    name = "hepatic fibrosis & sclerosis <5 %, with $1 words that go on for longer than a line"
    _, texts = drawn([event(name, 0.1)])
    assert any(text.startswith("hepatic fibrosis & sclerosis <5 %") and text.endswith("…") for text in texts)
    assert any(text.startswith("x" * 30) and text.endswith("…") for text in drawn([event("x" * 80, 0.1)])[1])


def test_nothing_to_draw() -> None:
    assert timeline([], unit="share") == ""
    assert "+0.000" in drawn([event("ALT", 0.0)])[1]
