"""Keys that name more than one row are found, in memory or on disk, and their rows told apart by content."""

from __future__ import annotations

import polars as pl
import pytest

from careloop.ingest.delivery import WITHDRAWN
from careloop.ingest.tables import keys
from careloop.ingest.tables.keys import ambiguous_keys, is_among, key_hash, repeated_keys, row_sources


@pytest.mark.parametrize("bytes_at_once", [keys.BYTES_AT_ONCE, 800])
def test_repeated_keys_are_found_on_disk_too(monkeypatch: pytest.MonkeyPatch, bytes_at_once: int) -> None:
    monkeypatch.setattr(keys, "BYTES_AT_ONCE", bytes_at_once)
    every = pl.Series([*range(1000), 5, None, 999, 5, None])
    found = repeated_keys(every[start : start + 37] for start in range(0, every.len(), 37))
    assert sorted(found) == sorted(key_hash(pl.Series([5, 999])))


def test_keys_on_disk_are_compared_as_those_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    starts = range(0, 120, 30)
    parts = [
        (
            pl.Series([f"{i * 7919 % 100}" for i in range(start, start + 30)]),
            pl.Series([f"{i // 100}{i % 100 == 5}" for i in range(start, start + 30)]),
        )
        for start in starts
    ]
    wanted = ambiguous_keys(iter(parts))
    assert wanted.len() == 20
    monkeypatch.setattr(keys, "BYTES_AT_ONCE", 400)
    assert sorted(ambiguous_keys(iter(parts))) == sorted(wanted)


def test_no_rows_have_no_repeated_keys() -> None:
    assert repeated_keys(iter([])).to_list() == ambiguous_keys(iter([])).to_list() == []


def test_rows_of_one_key_are_named_by_their_content() -> None:
    rows = pl.DataFrame({"b": ["x", "y", "y", "z"], "a": [1, 2, 2, None]})
    plain = pl.Series(["T/1", "T/2", "T/2", None])
    repeated = is_among(plain, repeated_keys(iter([plain])))
    names, withdrawn = row_sources(plain, rows, is_repeated=repeated, keyless="T")
    assert names[0] == "T/1"
    assert names[1] == names[2]  # the same row twice
    assert [name.rpartition("/")[0] for name in names] == ["T", "T/2", "T/2", "T"]
    assert all(len(name.rpartition("/")[2]) == 16 for name in names[1:])
    assert withdrawn["source"].to_list() == ["T/2"]
    assert withdrawn.schema == WITHDRAWN
    again, _ = row_sources(plain, rows.select("a", "b"), is_repeated=repeated, keyless="T")
    assert again.to_list() == names.to_list()  # whatever the order of the columns
