"""Keys of rows: which of them name more than one row, and names that tell such rows apart by their content."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from hashlib import blake2b
from pathlib import Path

import polars as pl

from careloop.ingest.delivery import WITHDRAWN

BYTES_AT_ONCE = 160_000_000  # of hashes; more lie on disk and are compared part by part
SEPARATOR = "\x1f"  # between the cells of a row whose content is compared
KEYS = pl.Schema({"key": pl.UInt64()})
KEYS_AND_CONTENT = pl.Schema({"key": pl.UInt64(), "content": pl.UInt64()})


def key_hash(keys: pl.Series) -> pl.Series:
    """The hash of each key, equal for equal keys within one run; null where there is none.

    Two different keys that share one only get longer source names.
    """
    return keys.hash().alias("key").set(keys.is_null(), None)


def repeated_keys(parts: Iterator[pl.Series]) -> pl.Series:
    """The keys (as `key_hash`) that occur more than once."""
    frames = (key_hash(keys.drop_nulls()).to_frame() for keys in parts)
    return _compared(frames, KEYS, lambda rows: _twice(rows["key"]))


def ambiguous_keys(parts: Iterator[tuple[pl.Series, pl.Series]]) -> pl.Series:
    """The keys (as `key_hash`) that have more than one content; the same row twice is one row.

    `parts` are the key and the content of each row, as text.
    """
    frames = (
        pl.DataFrame({"key": key_hash(keys), "content": content.hash()}, schema=KEYS_AND_CONTENT).drop_nulls("key")
        for keys, content in parts
    )
    return _compared(frames, KEYS_AND_CONTENT, lambda rows: _twice(rows.unique()["key"]))


def _compared(parts: Iterator[pl.DataFrame], schema: pl.Schema, find: Callable[[pl.DataFrame], pl.Series]) -> pl.Series:
    """What `find` finds in all parts together: rows with the same key are looked at together."""
    rows_at_once = BYTES_AT_ONCE // (8 * len(schema))
    with tempfile.TemporaryDirectory() as folder:
        waiting, height, files, total = [schema.to_frame()], 0, 0, 0
        for part in parts:
            waiting.append(part)
            height, total = height + part.height, total + part.height
            if height >= rows_at_once:
                pl.concat(waiting).write_parquet(Path(folder, f"{files}.parquet"))
                waiting, height, files = waiting[:1], 0, files + 1
        if not files:
            return find(pl.concat(waiting))
        pl.concat(waiting).write_parquet(Path(folder, f"{files}.parquet"))
        scan = pl.scan_parquet([Path(folder, f"{number}.parquet") for number in range(files + 1)], glob=False)
        share = 1 + total // rows_at_once
        return pl.concat([find(scan.filter(pl.col("key") % share == i).collect()) for i in range(share)])


def _twice(keys: pl.Series) -> pl.Series:
    return keys.filter(keys.is_duplicated()).unique().sort()


def is_among(keys: pl.Series, hashes: pl.Series) -> pl.Series:
    """True in rows whose key has one of the hashes; False where there is no key."""
    return key_hash(keys).is_in(hashes.implode()).fill_null(False)


def row_sources(
    plain: pl.Series, rows: pl.DataFrame, *, is_repeated: pl.Series, keyless: str
) -> tuple[pl.Series, pl.DataFrame]:
    """Each row's source; and plain names of repeated keys, which a row may have had in an earlier delivery.

    `plain` is the name of each row by its key, null without one; `keyless` then stands for it. The content of a row is
    part of its name where its key is missing or repeated. The second frame has the columns of WITHDRAWN.
    """
    is_shared = is_repeated | plain.is_null()
    if not is_shared.any():
        return plain, WITHDRAWN.to_frame()
    withdrawn = plain.filter(is_shared).drop_nulls().unique().sort().to_frame("source")
    names = told_apart(plain, is_shared, digests=_row_digests(rows.filter(is_shared)), keyless=keyless)
    return names, withdrawn.with_columns(source_time=pl.lit(None, WITHDRAWN["source_time"]))


def told_apart(plain: pl.Series, is_shared: pl.Series, *, digests: pl.Series, keyless: str) -> pl.Series:
    """The names with a digest added where they are shared: `digests` has one for each of these rows."""
    at = is_shared.arg_true()
    longer = pl.DataFrame({"row": at, "longer": plain.gather(at).fill_null(keyless) + "/" + digests})
    names = pl.DataFrame({"plain": plain}).with_row_index("row")
    named = names.join(longer, on="row", how="left", maintain_order="left")
    return named.select(pl.coalesce("longer", "plain").alias("source")).to_series()


def digests_of(texts: pl.Series, *, digest_bytes: int) -> pl.Series:
    """A short hash of each text: with 12 bytes, two of a thousand million share one with a probability of 1e-11."""
    found = [blake2b(text.encode(), digest_size=digest_bytes).hexdigest() for text in texts]
    return pl.Series(found, dtype=pl.String)


def _row_digests(rows: pl.DataFrame) -> pl.Series:
    """A short hash of each row's cells."""
    columns = sorted(rows.get_columns(), key=lambda column: column.name)
    cells = [column.alias("cell").cast(pl.String).fill_null("") for column in columns]
    return digests_of(pl.select(pl.concat_str(cells, separator=SEPARATOR)).to_series(), digest_bytes=8)
