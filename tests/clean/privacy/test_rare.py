"""Patients are counted over all shards, and a rare code stops at the nearest parent of enough patients."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.clean.privacy.rare import TEXT_KEY, Tally, parent_of

TREE = ("ICD10CM//K74.60", "ICD10CM//K74.69", "ICD10CM//K74.6", "ICD10CM//K74", "ICD10CM//K75.9", "X", "Y//1")


def table(rows: list[tuple[int, str]], text: str | None = None, unit: str | None = None) -> pl.DataFrame:
    columns = pl.DataFrame(rows, schema={"subject_id": pl.Int64(), "code": pl.String()}, orient="row")
    return columns.with_columns(text_value=pl.lit(text, pl.String), unit=pl.lit(unit, pl.String))


@pytest.mark.parametrize(
    ("code", "parent"),
    [
        ("ICD10CM//K74.60", "ICD10CM//K74.6"),
        ("ICD10CM//K74.6", "ICD10CM//K74"),
        ("ICD10CM//K74", None),
        ("ICD9CM//250.00", "ICD9CM//250.0"),
        ("ICD9CM//25000", "ICD9CM//2500"),
        ("RESOLVED//ICD10CM//E11.9", "RESOLVED//ICD10CM//E11"),
        ("ATC//A10BA02", "ATC//A10BA"),
        ("ATC//A10BA", "ATC//A10B"),
        ("ATC//A10B", "ATC//A10"),
        ("ATC//A10", "ATC//A"),
        ("ATC//A", None),
        ("LOINC//2160-0", None),
    ],
)
def test_parents_that_codes_show_themselves(code: str, parent: str | None) -> None:
    assert parent_of(code, {}) == parent
    assert parent_of(code, {code: "OTHER"}) == "OTHER"


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 30), st.sampled_from(TREE)), max_size=80),
    smallest=st.integers(2, 6),
    shards=st.integers(1, 4),
)
def test_shared_codes_have_enough_patients_and_no_rarer_choice_was_open(
    rows: list[tuple[int, str]], smallest: int, shards: int
) -> None:
    tally = Tally(smallest)
    for shard in range(shards):
        tally.add(table([row for row in rows if row[0] % shards == shard]))
    shared = dict(tally.renamed_codes({}).iter_rows())
    assert set(shared) == {code for _, code in rows}
    patients: dict[str, set[int]] = {}
    for subject, code in rows:
        if shared[code] is not None:
            patients.setdefault(shared[code], set()).add(subject)
    assert all(len(group) >= smallest for group in patients.values())
    own = {code: len({subject for subject, other in rows if other == code}) for code in shared}
    for code, target in shared.items():
        assert target == code or own[code] < smallest
        while target is not None and code != target:
            code = parent_of(code, {})  # reached by parents only
            assert code is not None


def test_texts_count_with_their_code_and_units_alone() -> None:
    tally = Tally(3)
    tally.add(pl.concat([table([(n, "A") for n in range(3)], "home", "mg"), table([(9, "A")], "hotel", "g")]))
    tally.add(table([(n, "B") for n in (20, 21)], "home", "mg"))
    keys = table([(1, "A")], "home").select(TEXT_KEY).to_series()
    assert tally.common_texts().to_list() == keys.to_list()
    assert tally.common_units().to_list() == ["mg"]


def test_a_circle_of_parents_ends() -> None:
    tally = Tally(3)
    tally.add(table([(1, "A"), (2, "B")]))
    assert tally.renamed_codes({"A": "B", "B": "A"})["shared_code"].to_list() == [None, None]
