"""Icon arrays: of 100 people like this one, how many have the event without and with an option, as SVG.

Ten by ten people, those with the event first so that they can be counted (Fagerlin, Zikmund-Fisher and Ubel, JNCI
2011;103:1436: absolute numbers out of the same denominator, pictures of people, the change beside the baseline). States
differ in colour (Okabe and Ito's palette), in brightness and in outline, so that they are told apart in any colour
vision and on a black-and-white print.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape

from careloop import InputError

PEOPLE, COLUMNS = 100, 10
CELL, ROW, GAP = 14, 12.4, 30  # units of the drawing: one person's width and height, and the space between panels
State = Literal["event", "avoided", "caused", "free"]
# Fill and outline of each state; `avoided` is hollow with a heavy outline, `caused` dark with one.
PAINT: dict[State, tuple[str, str, float]] = {
    "event": ("#D55E00", "#D55E00", 0.6),
    "avoided": ("#ffffff", "#0072B2", 1.8),
    "caused": ("#000000", "#000000", 1.2),
    "free": ("#d5dae1", "#aab2bd", 0.5),
}
# A head and shoulders in a 14 by 12.4 cell, from its upper left corner: two relative subpaths.
PERSON = "m7 1.6a2.4 2.4 0 1 1-.01 0zm-4.4 10.8v-2.6a3.2 3.2 0 0 1 3.2-3.2h2.4a3.2 3.2 0 0 1 3.2 3.2v2.6z"


@dataclass(frozen=True)
class ArrayWords:
    """Texts of a picture: its title, a caption for each panel, and what each state is called."""

    title: str
    without: str
    with_option: str
    states: dict[State, str]


def icon_array(without: float, with_option: float, words: ArrayWords) -> Markup:
    """Two panels of 100 people for the risks (0 to 1) without and with an option, as an SVG with a text alternative.

    Counts are the risks rounded to whole people. People who have the event without the option only are `avoided` in the
    second panel; those who have it with the option only are `caused`. InputError: a risk not within 0 to 1.
    """
    before, after = _people(without), _people(with_option)
    first: dict[State, int] = {"event": before, "free": PEOPLE - before}
    panels = (first, _second(before, after))
    width, height = 2 * COLUMNS * CELL + GAP, PEOPLE // COLUMNS * ROW
    told = f"{words.without} {words.with_option}"
    drawn = Markup("").join(_panel(counts, x=number * (COLUMNS * CELL + GAP)) for number, counts in enumerate(panels))
    shown = [state for state in PAINT if any(counts.get(state) for counts in panels)]
    return Markup(
        '<figure class="icons"><svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {} {:g}" '
        'aria-label="{}: {}"><title>{}</title><desc>{}</desc>{}</svg>{}{}</figure>'
    ).format(width, height, words.title, told, words.title, told, drawn, _captions(words), _legend(shown, words))


def _people(risk: float) -> int:
    if not 0 <= risk <= 1:
        raise InputError(f"icon array: a risk must lie within 0 to 1, got {risk:g}")
    return round(PEOPLE * risk)


def _second(before: int, after: int) -> dict[State, int]:
    """How many people of each state the panel with the option has, in the order in which they stand."""
    both = min(before, after)
    changed: dict[State, int] = {"avoided": before - after} if after < before else {"caused": after - before}
    return {"event": both, **changed, "free": PEOPLE - max(before, after)}


def _panel(counts: dict[State, int], *, x: int) -> Markup:
    """One path for each state, so that 100 people are few bytes."""
    places = iter(range(PEOPLE))
    return Markup("").join(
        _people_of(state, [next(places) for _ in range(count)], x) for state, count in counts.items() if count
    )


def _people_of(state: State, places: Sequence[int], x: int) -> Markup:
    fill, outline, line = PAINT[state]
    path = "".join(f"M{x + place % COLUMNS * CELL} {place // COLUMNS * ROW:g}{PERSON}" for place in places)
    return Markup('<path class="{}" fill="{}" stroke="{}" stroke-width="{}" d="{}"/>').format(
        state, fill, outline, line, Markup(path)
    )


def _captions(words: ArrayWords) -> Markup:
    return Markup('<div class="panels"><span>{}</span><span>{}</span></div>').format(words.without, words.with_option)


def _legend(states: Sequence[State], words: ArrayWords) -> Markup:
    """What the states mean, each beside a person drawn in it."""
    entry = Markup(
        '<span><svg xmlns="http://www.w3.org/2000/svg" aria-hidden="true" viewBox="0 0 14 14">{}</svg>{}</span>'
    )
    entries = Markup("").join(entry.format(_people_of(state, [0], 0), escape(words.states[state])) for state in states)
    return Markup('<figcaption class="legend">{}</figcaption>').format(entries)
