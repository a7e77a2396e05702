"""Any bytes and any mutation of FHIR's examples give events or counted reasons, never an exception."""

from __future__ import annotations

import json
import lzma
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from careloop.ingest.fhir.decoding import KINDS

Read = Callable[..., Any]
FIXED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NAMES = ["a.json", "a.ndjson", "a.json.gz", "a.ndjson.gz", "a.zip"]
FRAGMENTS = [
    b'{"resourceType":"Observation",', b'"entry":[', b'{"resource":', b"}", b"]", b"{", b"[", b'"', b"\\", b",", b"\n",
    b"\x1f\x8b", b"PK\x03\x04", b"\xff\xfe", b"\xef\xbb\xbf", b"\0", b"\xe9", b'"valueQuantity":{"value":', b"1e999",
    b'{"resourceType":"Bundle","type":"batch","entry":[', b'"id":"\\ud800"', b"null", b"NaN",
]  # fmt: skip
WRONG_TYPE = re.compile(r"[A-Za-z._]+: must be [a-z |]+, got [a-z]+")  # names of FHIR's elements, never values
JUNK = [
    None, True, -1, 1e300, 10**40, "", " ", "\0", "9999-12-31", "0001-01-01T00:00:00Z", "2020-02-30", "urn:uuid:", "#",
    "/", "Patient/", "Patient/\ud800", [], [[]], {}, [{}], [None], {"reference": 1}, {"coding": {}},
    {"coding": [{"code": " "}]}, {"reference": "#"}, {"value": 1e39}, {"start": ""}, "x" * 5000,
    {"numerator": {"value": 0}, "denominator": {"value": 0}},
]  # fmt: skip

BYTES = st.binary(max_size=400) | st.lists(st.sampled_from(FRAGMENTS), max_size=30).map(b"".join)


@FIXED
@given(
    st.binary(max_size=400) | st.lists(st.sampled_from(FRAGMENTS), max_size=30).map(b"".join), st.sampled_from(NAMES)
)
def test_any_bytes(read: Read, content: bytes, name: str) -> None:
    read(content, name=name)


def examples() -> list[Any]:
    """Resources of the kinds that are read, small enough to mutate many times."""
    text = lzma.decompress((Path(__file__).parent / "r4_examples.ndjson.xz").read_bytes())
    everything = [json.loads(line) for line in text.splitlines() if len(line) < 20_000]
    return [each for each in everything if each["resourceType"] in KINDS]


def mutated(element: Any, draw: random.Random) -> Any:
    """The element with some of what is in it dropped, replaced or moved."""
    if draw.random() < 0.03:
        return draw.choice(JUNK)
    if isinstance(element, dict):
        kept = {name: mutated(value, draw) for name, value in element.items() if draw.random() > 0.03}
        if len(kept) > 1 and draw.random() < 0.05:
            one, other = draw.sample(sorted(kept), 2)
            kept[one], kept[other] = kept[other], kept[one]
        return kept
    return [mutated(part, draw) for part in element] if isinstance(element, list) else element


@pytest.mark.parametrize("seed", range(4))
def test_mutated_examples(read: Read, seed: int) -> None:
    draw = random.Random(seed)
    mutants = [mutated(each, draw) for each in examples() for _ in range(4)]
    lines = [json.dumps(each).encode() for each in mutants]
    for line in range(0, len(lines), 50):
        cut = draw.randrange(len(lines[line]))
        lines[line] = lines[line][:cut] + draw.randbytes(draw.randrange(3)) + lines[line][cut + draw.randrange(3) :]
    result = read(*lines, name="a.ndjson")
    assert result.rows_read >= len(lines)
    assert result.rows_kept > 300
    assert len(result.rejected) > 300
    others = {reason for reason in result.reasons if not WRONG_TYPE.fullmatch(reason)}
    assert all(re.fullmatch(r"[\w :.,]+", reason) for reason in others)
    assert len(others) < 60  # three for each kind of resource, and a few of what is no resource
    as_bundle = {"resourceType": "Bundle", "entry": [{"resource": each} for each in mutants]}
    read(json.dumps(as_bundle).encode(), name="b.json")
