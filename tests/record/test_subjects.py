"""Subject ids are keyed, repeatable within a record, different between records, and never stand for two people."""

from __future__ import annotations

import hashlib
import shutil
import stat
from pathlib import Path

import polars as pl
import pytest

from careloop import InputError
from careloop.record import Record, subject_ids
from careloop.record.subjects import _hashed, register


def test_ids_are_keyed_blake2b_in_the_order_asked(record: Record) -> None:
    key = (record.path / "private" / "key").read_bytes()

    def expected(text: str) -> int:
        return int.from_bytes(hashlib.blake2b(text.encode(), key=key, digest_size=8).digest(), "big") // 2

    ids = subject_ids(record, pl.Series("mrn", ["p2", "p1", "p2", "患者"]))
    assert ids.to_list() == [expected(text) for text in ("p2", "p1", "p2", "患者")]
    assert ids.name == "subject_id"
    assert ids.dtype == pl.Int64
    assert subject_ids(record, pl.Series([7, 8])).to_list() == [expected("7"), expected("8")]


def test_known_identifiers_add_no_version(record: Record) -> None:
    subject_ids(record, pl.Series(["a", "b"]))
    log = record.path / "private" / "subjects" / "_delta_log"
    before = len(list(log.iterdir()))
    subject_ids(record, pl.Series(["b", "a"]))
    assert len(list(log.iterdir())) == before


def test_another_record_gives_other_ids(record: Record, tmp_path: Path) -> None:
    other = Record.create(tmp_path / "other")
    assert subject_ids(record, pl.Series(["a"]))[0] != subject_ids(other, pl.Series(["a"]))[0]


def test_secret_is_readable_by_its_owner_only(record: Record) -> None:
    private = record.path / "private"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert stat.S_IMODE((private / "key").stat().st_mode) == 0o600


def test_two_people_with_one_hash_are_found_in_one_batch_and_across_batches(tmp_path: Path, record: Record) -> None:
    key = bytes(32)
    people = pl.Series([f"person {number}" for number in range(17)])
    # 17 people in 4 bits: two must share an id.
    with pytest.raises(InputError, match="two subject identifiers have the same hash"):
        register(record, _hashed(people, key, bits=4))
    hashed = _hashed(people, key, bits=4)
    first = hashed.unique("subject_id", keep="first", maintain_order=True)
    register(record, first)
    register(record, first)
    with pytest.raises(InputError, match="two subject identifiers have the same hash"):
        register(record, hashed.join(first, on="source_id", how="anti")[:1])


def test_empty_identifiers_are_refused(record: Record) -> None:
    with pytest.raises(InputError, match="row 2: must not be empty"):
        subject_ids(record, pl.Series(["a", None]))
    with pytest.raises(InputError, match="must be text or integers, got Float64"):
        subject_ids(record, pl.Series([1.0]))


def test_record_shared_without_private_still_opens(record: Record, events: pl.DataFrame) -> None:
    record = record.append(events, key="first")
    shutil.rmtree(record.path / "private")
    assert Record.open(record.path).timeline(5).height == 3
    with pytest.raises(InputError, match="shared without private/"):
        subject_ids(record, pl.Series(["a"]))
