"""Keyed replacements of what names a patient: subject ids, days to shift by, tokens; the key is a file of its own."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from careloop import InputError
from careloop.record import Record

KEY_BYTES = 32
DAYS_OF_WEEK = 7


@dataclass(frozen=True)
class Pseudonyms:
    """Replacements that depend on the key and the private value only, so that a later export gives the same ones.

    Each is a BLAKE2b hash (RFC 7693) keyed with `key`, with a personalisation of its own for each purpose. Without the
    key nobody can go either way; with it and the record, `identities` links both.
    """

    key: bytes
    largest_shift_days: int = 364
    step_days: int = DAYS_OF_WEEK

    def subject_ids(self, ids: pl.Series) -> pl.Series:
        """New subject_id of each subject_id: 63 bits of the hash."""
        return self._each(ids, lambda digest: int.from_bytes(digest[:8], "big") >> 1, "subject", pl.Int64())

    def shift_days(self, ids: pl.Series) -> pl.Series:
        """Days, always back and never none, by which all times of each subject_id move: a multiple of `step_days`."""
        steps = self.largest_shift_days // self.step_days

        def days(digest: bytes) -> int:
            return -self.step_days * (1 + int.from_bytes(digest[:8], "big") % steps)

        return self._each(ids, days, "shift", pl.Int64())

    def tokens(self, texts: pl.Series) -> pl.Series:
        """A token of 24 hexadecimal digits for each text; null stays null."""
        return self._each(texts, lambda digest: digest[:12].hex(), "token", pl.String())

    def run_name(self, description: str) -> str:
        """A name for a run that says nothing about the record or the settings without the key."""
        return str(self._each(pl.Series([description]), lambda digest: digest[:12].hex(), "run", pl.String())[0])

    def _each(
        self, values: pl.Series, made: Callable[[bytes], int | str], purpose: str, dtype: pl.DataType
    ) -> pl.Series:
        start = hashlib.blake2b(digest_size=16, key=self.key, person=purpose.encode())

        def replaced(value: int | str | None) -> int | str | None:
            if value is None:
                return None
            digest = start.copy()
            digest.update(str(value).encode())
            return made(digest.digest())

        return pl.Series(values.name, [replaced(value) for value in values], dtype=dtype)


def read_key(path: Path) -> bytes:
    """Return the secret key in the file, which is made (32 random bytes, mode 0600) where there is none.

    Raises:
        InputError: the file is no complete key, or its folder does not exist.
    """
    if not path.parent.is_dir():
        raise InputError(f"{path}: its folder does not exist; make it, or name another place for the key")
    if not path.exists():
        # Written whole under another name first: a key that is there is a complete key.
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_bytes(secrets.token_bytes(KEY_BYTES))
        try:
            os.link(draft, path)  # unlike a rename, never takes the place of a key that another process just made
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise InputError(f"{path}: must hold a key of {KEY_BYTES} bytes, got {len(key)}; name a new file to make one")
    return key


def identities(record: Record, pseudonyms: Pseudonyms) -> pl.DataFrame:
    """Who is who, for the holder of key and record: subject_id, shared_id, shift_days, sorted by subject_id.

    A shared time less `shift_days` is the true one. The hospital's own identifiers are in the record's
    `private/subjects`.
    """
    ids = record.events().select(pl.col("subject_id").unique().sort()).collect()["subject_id"]
    return pl.DataFrame(
        {"subject_id": ids, "shared_id": pseudonyms.subject_ids(ids), "shift_days": pseudonyms.shift_days(ids)}
    )
