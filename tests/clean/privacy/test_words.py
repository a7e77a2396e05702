"""Words are common when enough patients have them, counted as a plain loop counts; every other word is tagged."""

from __future__ import annotations

from collections import defaultdict

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.clean.privacy import words
from careloop.clean.privacy.identifiers import plain
from careloop.clean.privacy.words import WordTally, find_rare_words, words_of

TEXTS = st.lists(st.tuples(st.integers(0, 9), st.text("abC é'-1 ", max_size=12)), max_size=30)


@settings(max_examples=80, deadline=None)
@given(rows=TEXTS, smallest=st.integers(1, 4), at_once=st.integers(1, 5))
def test_patients_are_counted_once_a_word(rows: list[tuple[int, str]], smallest: int, at_once: int) -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(words, "_SUBJECTS_AT_ONCE", at_once)
    tally = WordTally(smallest)
    for shard in range(3):
        part = [row for row in rows if row[0] % 3 == shard]
        schema = {"subject_id": pl.Int64(), "text_value": pl.String()}
        tally.add(pl.DataFrame(part, schema=schema, orient="row"))
    patch.undo()
    patients: dict[str, set[int]] = defaultdict(set)
    for subject, text in rows:
        for word in words_of(text):
            patients[word].add(subject)
    assert tally.common_words() == {word for word, group in patients.items() if len(group) >= smallest}


def test_what_a_word_is() -> None:
    text = "BP 132/84, x-ray of O’Brien's T2 lesion; ID W426-77; 血压 μg_a"
    assert list(words_of(text)) == ["bp", "x-ray", "of", "o’brien's", "t2", "lesion", "id", "w426-77", "μg", "a"]
    assert list(words_of("12 3.5 -- 7")) == []


def test_rare_words_are_parts_of_the_text() -> None:
    text = "Seen by Xylander, seen BY xylander"
    found = list(find_rare_words(text, frozenset(["seen", "by"])))
    assert [(text[part.start : part.end], part.tag) for part in found] == [("Xylander", "WORD"), ("xylander", "WORD")]


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=60))
def test_no_letter_is_left_where_nothing_is_common(text: str) -> None:
    even = plain(text)
    left = list(even)
    for part in find_rare_words(even, frozenset()):
        left[part.start : part.end] = " " * (part.end - part.start)
    assert not any("a" <= sign.lower() <= "z" for sign in left)
