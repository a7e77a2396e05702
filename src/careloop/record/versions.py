"""Versions of a source row: which of those stored, delivered and withdrawn is the newest."""

from __future__ import annotations

import math
from collections.abc import Sequence

import polars as pl

from careloop.record.schema import EVENTS, TIME


class Kind:
    """What a version of a source row is: in the record, in the delivery, or the news that the row is gone.

    Within a delivery `sequence` counts from 0; what was there before comes before that.
    """

    STORED, STAGED, WITHDRAWN = "stored", "staged", "withdrawn"
    STORED_SEQUENCE, REMEMBERED = -1, -2


VERSIONS = pl.Schema(
    {
        "source": pl.String(),
        "source_time": TIME,
        "sequence": pl.Int64(),
        "kind": pl.Enum([Kind.STORED, Kind.STAGED, Kind.WITHDRAWN]),
    }
)
SETTLED = pl.Schema({**VERSIONS, "shard": pl.Int32()})
# Sources are compared this many at a time where all of a delivery must be seen at once: some hundred MB.
SOURCES_AT_ONCE = 5_000_000


def newest_versions(versions: pl.DataFrame) -> pl.DataFrame:
    """Return the newest version of each source, from the columns of VERSIONS (others are kept).

    In order of `sequence` a version replaces the one before unless both have a `source_time` and its own is earlier.
    """
    if versions["source"].n_unique() == versions.height:
        return versions
    # Nothing holds against a version of unknown time but what comes after it.
    unknown = pl.col("sequence").filter(pl.col("source_time").is_null()).max().over("source")
    rest = versions.filter(unknown.is_null() | (pl.col("sequence") >= unknown))
    return rest.sort("source_time", "sequence", nulls_last=False).group_by("source").last().select(versions.columns)


def unchanged_sources(old: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """Return the sources (column `source`) whose events are the same in both, in any order."""
    same = [_contents(rows) for rows in (old, new)]
    return same[0].join(same[1], on=same[0].columns, how="semi").select("source")


def _contents(rows: pl.DataFrame) -> pl.DataFrame:
    """Number of events of each source, and the sum of their hashes (in halves, so that it cannot overflow)."""
    hashes = rows.select([*EVENTS, "source_time"]).hash_rows()
    halves = pl.DataFrame({"source": rows["source"], "low": hashes & 0xFFFFFFFF, "high": hashes // (1 << 32)})
    return halves.group_by("source").agg(pl.len().alias("count"), pl.col("low", "high").sum())


def settle_across_shards(
    staged: Sequence[pl.LazyFrame], stored: Sequence[pl.LazyFrame], withdrawn: pl.DataFrame
) -> pl.DataFrame:
    """Return the newest version (columns of SETTLED) of each source that has versions in several shards.

    There are few: a source row that was moved from one patient to another. `shard` is null where it is withdrawn.

    Args:
        staged: source, source_time, sequence and source_hash of what is delivered, one frame a shard.
        stored: source and source_time of what is in the record, one frame a shard.
        withdrawn: withdrawn versions (columns of VERSIONS).
    """
    stored = [rows.with_columns(source_hash=pl.col("source").hash()) for rows in stored]
    hashes = _in_several_shards(staged, stored)
    if not len(hashes):
        return SETTLED.to_frame()

    def versions(rows: pl.LazyFrame, kind: str, shard: int) -> pl.DataFrame:
        found = rows.filter(pl.col("source_hash").is_in(hashes.implode()))
        found = found.with_columns(kind=pl.lit(kind), shard=pl.lit(shard, dtype=pl.Int32))
        return found.select(SETTLED.names()).unique().collect().cast(SETTLED)

    before = [rows.with_columns(sequence=pl.lit(Kind.STORED_SEQUENCE)) for rows in stored]
    several = pl.concat(
        [
            *(versions(rows, Kind.STAGED, shard) for shard, rows in enumerate(staged)),
            *(versions(rows, Kind.STORED, shard) for shard, rows in enumerate(before)),
        ]
    )
    gone = withdrawn.join(several, on="source", how="semi").with_columns(shard=pl.lit(None, dtype=pl.Int32))
    return newest_versions(pl.concat([several, gone.select(SETTLED.names())]))


def _in_several_shards(staged: Sequence[pl.LazyFrame], stored: Sequence[pl.LazyFrame]) -> pl.Series:
    """Return hashes of sources that have versions in more than one shard; a part of all hashes at a time."""
    rows = sum(frame.select(pl.len()).collect().item() for frame in staged)
    parts = max(1, math.ceil(rows / SOURCES_AT_ONCE))
    found = [pl.Series("source_hash", [], dtype=pl.UInt64)]
    for part in range(parts):
        # Shard by shard, so that of the sources themselves few are in memory.
        new = [_hashes(frame, part, parts).collect() for frame in staged]
        every = pl.concat(new).lazy()
        known = [_hashes(frame, part, parts).join(every, on="source_hash", how="semi").collect() for frame in stored]
        in_shard = [pl.concat(pair)["source_hash"].unique() for pair in zip(new, known, strict=True)]
        hashes = pl.concat(in_shard)
        if hashes.n_unique() < len(hashes):
            found.append(hashes.filter(hashes.is_duplicated()).unique())
    return pl.concat(found)


def _hashes(rows: pl.LazyFrame, part: int, parts: int) -> pl.LazyFrame:
    hashes = rows.select("source_hash")
    return hashes if parts == 1 else hashes.filter(pl.col("source_hash") % parts == part)
