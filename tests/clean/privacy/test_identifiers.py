"""Each kind of identifier in its forms, what only looks like one, and that any text is looked through quickly."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.clean.privacy.identifiers import MONTHS, find_identifiers, looks_identifying, plain


def found(text: str, tag: str) -> list[str]:
    """Parts under a tag, those inside others left out."""
    parts = sorted({(part.start, part.end) for part in find_identifiers(plain(text)) if part.tag == tag})
    whole = [a for a in parts if not any(b != a and b[0] <= a[0] and a[1] <= b[1] for b in parts)]
    return [plain(text)[start:end] for start, end in whole]


@pytest.mark.parametrize(
    ("tag", "text", "expected"),
    [
        ("DATE", "seen 2020-01-31 again", ["2020-01-31"]),
        ("DATE", "from 1/5/2019 to 31.12.19", ["1/5/2019", "31.12.19"]),
        ("DATE", "on March 3rd, 2020", ["March 3rd, 2020"]),
        ("DATE", "am 3. März 2020", ["3. März 2020"]),
        ("DATE", "于2020年3月1日入院", ["2020年3月1日"]),
        ("DATE", "二〇二〇年三月一日", ["二〇二〇年三月一日"]),
        ("EMAIL", "to a.b+c@example.co.uk.", ["a.b+c@example.co.uk"]),
        ("EMAIL", "anna(at)example.org", ["anna(at)example.org"]),
        ("URL", "see https://example.org/a?b=1, then", ["https://example.org/a?b=1"]),
        ("PHONE", "call 555-123-4567", ["555-123-4567"]),
        ("PHONE", "Tel.: 0761 / 123 45 67", ["0761 / 123 45 67"]),
        ("ID", "MRN: AB-12345", ["AB-12345"]),
        ("ID", "Fallnummer 00123", ["00123"]),
        ("ID", "SSN 123-45-6789", ["123-45-6789"]),
        ("ID", "host 192.168.1.20", ["192.168.1.20"]),
        ("NAME", "Dr. med. Anna Xylander writes", ["Anna Xylander"]),
        ("NAME", "Patient: von Quastenburg, Wilhelmine", ["von Quastenburg, Wilhelmine"]),
        ("NAME", "王小明先生", ["王小明"]),
        ("PLACE", "lives at 12 Old Mill Road", ["12 Old Mill Road"]),
        ("PLACE", "wohnhaft Lindenstraße 14", ["Lindenstraße 14"]),
        ("AGE", "a 93-year-old, his son is 61 years", ["93"]),
        ("AGE", "患者91岁", ["91"]),
    ],
)  # fmt: skip
def test_kinds_in_their_forms(tag: str, text: str, expected: list[str]) -> None:
    assert found(text, tag) == expected


def test_signs_that_take_no_room_and_wide_forms_hide_nothing() -> None:
    assert plain("M\u00adR\u200bN \uff11\uff12\u2011\uff13") == "MRN 12-3"
    assert found("\uff12\uff10\uff12\uff10-01-31", "DATE") == ["2020-01-31"]
    assert plain("Quasten-\nburg") == "Quastenburg"
    assert found("geb. O3.O2.196l", "DATE") == ["O3.O2.196l"]


def test_places_in_the_text_are_those_of_the_plain_text() -> None:
    for part in find_identifiers("MRN 445566 on 2020-01-31, Mr. Xylander, aged 95 years"):
        assert 0 <= part.start < part.end <= 53


def test_numbers_can_be_left_out() -> None:
    texts = pl.Series("t", ["call 555-123-4567", "LOINC 12345678", "Dr. Xylander", None, "home"])
    assert looks_identifying(texts).to_list() == [True, True, True, False, False]
    assert looks_identifying(texts, numbers=False).to_list() == [False, False, True, False, False]
    assert looks_identifying(texts).name == "t"


def test_months_are_twelve() -> None:
    assert set(MONTHS.values()) == set(range(1, 13))
    assert MONTHS["may"] == MONTHS["mai"] == 5


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=120) | st.text("aA1 .-/:,@\nDrMé年", max_size=120))
def test_any_text(text: str) -> None:
    even = plain(text)
    assert plain(even) == even or "\n" in text  # a hyphen that closes a line may leave another
    for part in find_identifiers(even):
        assert 0 <= part.start <= part.end <= len(even)
        assert part.tag in {"NAME", "DATE", "ID", "PHONE", "EMAIL", "URL", "PLACE", "AGE"}


@pytest.mark.parametrize("piece", ["1", "1 ", "A", "A ", "a b ", "1.", "-", "Mr. ", "年", "(1)", "a\n", "a@", "Aa-"])
def test_long_texts_take_time_in_proportion(piece: str) -> None:
    """No pattern backtracks without end: this would not come back in hours."""
    for _ in find_identifiers(piece * (4_000 // len(piece))):
        pass
