"""Subject ids from a hospital's own identifiers: a keyed hash whose key and table stay in the record's `private/`."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from deltalake import DeltaTable

from careloop import InputError
from careloop.record.delta import Action, Commit, commit, create_table, read_rows, write_file
from careloop.record.merges import MERGES, survivors_of

if TYPE_CHECKING:
    from careloop.record.store import Record

SUBJECTS = pl.Schema({"subject_id": pl.Int64(), "source_id": pl.String()})
KEY_BYTES = 32
HASH_BITS = 63  # a non-negative int64; among ten million subjects two collide with a chance of 5 in a million


def create_private(folder: Path) -> None:
    """Make the folder (mode 0700) with a new secret key (mode 0600) and an empty subjects table."""
    folder.mkdir(mode=0o700, exist_ok=True)
    create_table(folder / "subjects", SUBJECTS)
    create_table(folder / "merges", MERGES)
    key = folder / "key"
    if not key.exists():
        # Written whole under another name first: a key that is there is a complete key.
        draft = folder / f"key.{os.getpid()}"
        draft.touch(mode=0o600)
        draft.write_bytes(secrets.token_bytes(KEY_BYTES))
        draft.rename(key)


def subject_ids(record: Record, source_ids: pl.Series) -> pl.Series:
    """Return the subject_id of each source identifier (text or integer), the same one every time in this record.

    The id is the first 63 bits of BLAKE2b (RFC 7693) keyed with the record's secret, so nobody without `private/` can
    get from one to the other. New identifiers are added to the subjects table in one commit before returning.

    Raises:
        InputError: an identifier is null, empty or of another type; the record was shared without `private/`; two
            identifiers collide.
    """
    hashed = hashed_ids(record, source_ids)
    register(record, hashed)
    return hashed["subject_id"].replace(survivors_of(record))


def hashed_ids(record: Record, source_ids: pl.Series) -> pl.DataFrame:
    """Return subject_id and source_id of each row of `source_ids`, before any merge; nothing is stored.

    Raises InputError as `subject_ids` does, but for collisions.
    """
    key = _secret(record.path / "private")
    if not (source_ids.dtype.is_integer() or source_ids.dtype in {pl.String, pl.Categorical, pl.Enum}):
        raise InputError(f"subject identifiers must be text or integers, got {source_ids.dtype}; convert the column")
    source = source_ids.cast(pl.String).alias("source_id")
    empty = source.fill_null("") == ""
    if empty.any():
        raise InputError(f"subject identifiers, row {empty.arg_true()[0] + 1}: must not be empty; fill or drop the row")
    hashed = _hashed(source.unique().sort(), key, bits=HASH_BITS)
    return source.to_frame().join(hashed, on="source_id", how="left", maintain_order="left").select(SUBJECTS.names())


def _secret(folder: Path) -> bytes:
    try:
        key = (folder / "key").read_bytes()
    except FileNotFoundError:
        raise InputError(
            f"{folder}: no key, this record was shared without private/; add subjects in the record it came from"
        ) from None
    if len(key) != KEY_BYTES:
        raise InputError(f"{folder}/key: cut off; restore it from a backup (ids cannot be made again without it)")
    return key


def _hashed(source_ids: pl.Series, key: bytes, *, bits: int) -> pl.DataFrame:
    ids = [
        int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=key).digest(), "big") >> (64 - bits)
        for text in source_ids
    ]
    return pl.DataFrame({"subject_id": ids, "source_id": source_ids}, schema=SUBJECTS)


def register(record: Record, hashed: pl.DataFrame) -> None:
    """Add the pairs (as `hashed_ids` gives them) that the subjects table lacks, in one commit.

    Raises InputError where two identifiers have one hash.
    """
    folder = record.path / "private" / "subjects"
    hashed = hashed.unique(maintain_order=True)
    table = DeltaTable(folder)
    if not _missing(folder, table, hashed).height:
        return

    def change(table: DeltaTable) -> list[Action]:
        missing = _missing(folder, table, hashed)
        return [write_file(folder, missing)] if missing.height else []

    number = secrets.randbits(62)
    commit(folder, change, what=Commit(f"subjects:{number}", number, "facts", locks=("subjects",)))


def _missing(folder: Path, table: DeltaTable, hashed: pl.DataFrame) -> pl.DataFrame:
    """Return the pairs of `hashed` not yet in the table; raise InputError where one id would stand for two people."""
    known = read_rows(folder, SUBJECTS, table)
    missing = hashed.join(known, on="source_id", how="anti")
    ids = pl.concat([known["subject_id"], missing["subject_id"]])
    if missing["subject_id"].is_in(ids.filter(ids.is_duplicated()).implode()).any():
        raise InputError("two subject identifiers have the same hash; make a new record, its key will part them")
    return missing
