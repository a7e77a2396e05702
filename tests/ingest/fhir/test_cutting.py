"""Objects cut out of a stream: whatever the text and wherever it is chunked, the pieces are the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.ingest.fhir.cutting import Cutter

SCALARS = st.none() | st.booleans() | st.integers() | st.text('ab"\\{}[],:\n entryé', max_size=12)
KEYS = st.text('ab"\\{[', max_size=4) | st.sampled_from(["entry", "resource", "resourceType"])
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4))
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=4)


def cut(text: bytes, size: int) -> list[tuple[str, bytes]]:
    cutter = Cutter()
    pieces = [piece for at in range(0, len(text), size) for piece in cutter.feed(text[at : at + size])]
    return [tuple(piece) for piece in (*pieces, *cutter.finish())]


@settings(max_examples=60, deadline=None)
@given(st.lists(OBJECTS, min_size=1, max_size=4), st.integers(1, 40), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_entries_come_out_whole(entries: list[dict[str, Any]], size: int, indent: Any, last: bool) -> None:
    around = {"resourceType": "Bundle", "link": [{"a": [{}]}]}
    bundle = around | {"entry": entries} if last else {"entry": entries} | around
    pieces = cut(json.dumps(bundle, indent=indent).encode(), size)
    assert [(kind, json.loads(raw)) for kind, raw in pieces] == [("entry", entry) for entry in entries]


@settings(max_examples=60, deadline=None)
@given(st.lists(OBJECTS.filter(lambda each: "entry" not in each), max_size=4), st.integers(1, 40), st.booleans())
def test_documents_one_after_another_or_in_an_array(documents: list[dict[str, Any]], size: int, array: bool) -> None:
    text = json.dumps(documents) if array else "\n".join(map(json.dumps, documents))
    assert [(kind, json.loads(raw)) for kind, raw in cut(text.encode(), size)] == [("document", d) for d in documents]


@settings(max_examples=200, deadline=None)
@given(st.text('{}[]",:\\\n entry').map(str.encode) | st.binary(max_size=200), st.integers(1, 50))
def test_any_text_gives_the_same_pieces_however_it_is_chunked(text: bytes, size: int) -> None:
    assert squeezed(cut(text, size)) == squeezed(cut(text, len(text) or 1))


def squeezed(cuts: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Without blanks, of which text that is no JSON loses some at the ends of chunks."""
    return [(kind, raw.translate(None, b" \t\r\n\v\f")) for kind, raw in cuts]


@pytest.mark.parametrize("kind", ["List", "Composition"])
def test_only_bundles_are_opened(kind: str) -> None:
    text = json.dumps({"resourceType": kind, "entry": [{"item": {"display": "x"}}]}).encode()
    assert cut(text, 7) == [("document", text)]
