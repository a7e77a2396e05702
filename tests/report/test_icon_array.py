"""Icon arrays show 100 people whatever the risks, count them rightly, and say in words what they show."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careloop import InputError
from careloop.report.icon_array import PAINT, ArrayWords, icon_array

HOSTILE = "</svg><script>alert(1)</script>\"'&"
WORDS = ArrayWords(
    "Death within 1 year",
    "Without: 24.",
    "With: 15.",
    {"event": "have it", "avoided": "spared", "caused": "harmed", "free": "do not"},
)
SVG = "{http://www.w3.org/2000/svg}"


def people(picture: str) -> list[dict[str, int]]:
    """How many people of each state each of the two panels has."""
    figure = ElementTree.fromstring(picture)
    panels: list[dict[str, int]] = [{}, {}]
    for path in figure.findall(f"{SVG}svg[@role='img']/{SVG}path"):
        starts = [float(x) for x in re.findall(r"M(\d+) [\d.]+m", path.attrib["d"])]
        panel = int(starts[0] >= 140 + 30)
        assert all((x >= 170) == bool(panel) for x in starts)
        panels[panel][path.attrib["class"]] = len(starts)
    return panels


def test_fewer_events_are_shown_as_avoided() -> None:
    assert people(icon_array(0.241, 0.152, WORDS)) == [
        {"event": 24, "free": 76},
        {"event": 15, "avoided": 9, "free": 76},
    ]


def test_more_events_are_shown_as_caused() -> None:
    assert people(icon_array(0.1, 0.25, WORDS)) == [{"event": 10, "free": 90}, {"event": 10, "caused": 15, "free": 75}]


@given(st.floats(0, 1), st.floats(0, 1))
def test_there_are_always_100_people_and_as_many_events_as_the_risks_say(before: float, after: float) -> None:
    first, second = people(icon_array(before, after, WORDS))
    assert sum(first.values()) == sum(second.values()) == 100
    assert first.get("event", 0) == round(100 * before)
    assert second.get("event", 0) + second.get("caused", 0) == round(100 * after)
    assert second.get("event", 0) + second.get("avoided", 0) == round(100 * before) or "caused" in second


def test_what_is_shown_stands_in_words_too() -> None:
    figure = ElementTree.fromstring(icon_array(0.241, 0.152, WORDS))
    picture = figure.find(f"{SVG}svg")
    assert picture is not None
    assert picture.attrib["role"] == "img"
    assert picture.attrib["aria-label"] == "Death within 1 year: Without: 24. With: 15."
    assert picture.findtext(f"{SVG}title") == "Death within 1 year"
    legend = figure.find("figcaption")
    assert legend is not None
    assert "".join(legend.itertext()) == "have itspareddo not"  # nobody is harmed, so that state is not explained


def test_states_are_told_apart_without_colour() -> None:
    """By luminance of fill and outline, and width of outline: no two states are alike on a black-and-white print."""

    def luminance(colour: str) -> float:
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    looks = [(luminance(fill), luminance(outline), width) for fill, outline, width in PAINT.values()]
    for i, one in enumerate(looks):
        for other in looks[:i]:
            assert abs(one[0] - other[0]) > 0.1 or abs(one[1] - other[1]) > 0.2


def test_hostile_words_stay_words() -> None:
    states = dict.fromkeys(PAINT, HOSTILE)
    picture = icon_array(0.3, 0.2, ArrayWords(HOSTILE, HOSTILE, HOSTILE, states))
    assert "<script" not in picture
    figure = ElementTree.fromstring(picture)
    assert figure.findtext(f"{SVG}svg/{SVG}title") == HOSTILE


@pytest.mark.parametrize("risk", [-0.01, 1.01, float("nan")])
def test_what_is_no_risk_is_refused(risk: float) -> None:
    with pytest.raises(InputError, match="within 0 to 1"):
        icon_array(risk, 0.1, WORDS)
