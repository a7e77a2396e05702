"""Keyed replacements are hashlib's own BLAKE2b, apart by purpose and key; the key is made once and kept private."""

from __future__ import annotations

import hashlib
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from careloop.clean.privacy.pseudonyms import Pseudonyms, read_key

KEY = bytes(range(32))


def test_ids_shifts_and_tokens_are_those_of_hashlib() -> None:
    ids = pl.Series("subject_id", [17, 9_007_199_254_740_993])
    made = Pseudonyms(KEY)

    def digest(value: object, purpose: bytes) -> bytes:
        return hashlib.blake2b(str(value).encode(), digest_size=16, key=KEY, person=purpose).digest()

    first = [int.from_bytes(digest(value, b"subject")[:8], "big") >> 1 for value in ids]
    assert made.subject_ids(ids).to_list() == first
    weeks = [1 + int.from_bytes(digest(value, b"shift")[:8], "big") % 52 for value in ids]
    assert made.shift_days(ids).to_list() == [-7 * week for week in weeks]
    assert made.tokens(pl.Series(["a", None])).to_list() == [digest("a", b"token")[:12].hex(), None]
    assert made.subject_ids(ids).name == "subject_id"
    assert made.subject_ids(ids).dtype == pl.Int64


@given(number=st.integers(-(2**63), 2**63 - 1), most=st.integers(7, 3650), step=st.sampled_from([1, 7]))
def test_shifts_go_back_by_whole_steps(number: int, most: int, step: int) -> None:
    days = Pseudonyms(KEY, most, step).shift_days(pl.Series([number]))[0]
    assert -most <= days <= -step
    assert days % step == 0


def test_purposes_and_keys_are_apart() -> None:
    ids = pl.Series(range(1000))
    one, two = Pseudonyms(KEY), Pseudonyms(KEY[::-1])
    assert not one.subject_ids(ids).is_in(two.subject_ids(ids).implode()).any()
    assert one.subject_ids(ids).n_unique() == 1000
    assert one.run_name("x") != one.tokens(pl.Series(["x"]))[0]
    agreeing = (one.shift_days(ids) == two.shift_days(ids)).mean()
    assert agreeing == pytest.approx(1 / 52, abs=0.02)


def test_a_folder_that_is_missing_is_one_line(tmp_path: Path) -> None:
    from careloop import InputError

    with pytest.raises(InputError, match="folder does not exist"):
        read_key(tmp_path / "nowhere" / "key")
