"""Which keys of a file name more than one row, so that such rows are told apart by their content."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl

ROWS_AT_ONCE = 10_000_000  # 16 bytes each; more lie on disk and are compared part by part
HASHED = pl.Schema({"key": pl.UInt64(), "content": pl.UInt64()})


def hashed(keys: pl.Series, content: pl.Series) -> pl.DataFrame:
    """Hashes of key and content, equal for equal texts within one run; rows without a key are left out.

    Two keys that share a hash only get longer source names.
    """
    frame = pl.DataFrame({"key": hashed_keys(keys), "content": content.hash()}, schema=HASHED)
    return frame.filter(keys.is_not_null())


def hashed_keys(keys: pl.Series) -> pl.Series:
    """The hash of each key, null where there is none."""
    hashes = keys.hash()
    return hashes.set(keys.is_null(), None)


def repeated_keys(parts: Iterator[pl.DataFrame]) -> pl.Series:
    """The keys (hashes) that have more than one content; the same row twice is one row."""
    with tempfile.TemporaryDirectory() as folder:
        waiting, height, files, total = [HASHED.to_frame()], 0, 0, 0
        for part in parts:
            waiting.append(part)
            height, total = height + part.height, total + part.height
            if height >= ROWS_AT_ONCE:
                pl.concat(waiting).write_parquet(Path(folder, f"{files}.parquet"))
                waiting, height, files = waiting[:1], 0, files + 1
        if not files:
            return _of_several(pl.concat(waiting))
        pl.concat(waiting).write_parquet(Path(folder, f"{files}.parquet"))
        scan = pl.scan_parquet([Path(folder, f"{number}.parquet") for number in range(files + 1)], glob=False)
        share = 1 + total // ROWS_AT_ONCE
        return pl.concat([_of_several(scan.filter(pl.col("key") % share == i).collect()) for i in range(share)])


def _of_several(rows: pl.DataFrame) -> pl.Series:
    keys = rows.unique()["key"]
    return keys.filter(keys.is_duplicated()).unique().sort()
