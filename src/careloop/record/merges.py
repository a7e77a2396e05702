"""Which subjects turned out to be one person: pairs of ids, kept with the private tables of a record."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import polars as pl
from deltalake import DeltaTable

from careloop.record.delta import Action, Commit, commit, read_rows, write_file

if TYPE_CHECKING:
    from careloop.record.store import Record

MERGES = pl.Schema({"retired": pl.Int64(), "surviving": pl.Int64()})


def survivors_of(record: Record, *, more: pl.DataFrame | None = None) -> dict[int, int]:
    """Return the id that each retired subject_id stands for, from all merges known so far and `more` (MERGES).

    Merged ids form a group, whose surviving id is the smallest that was never retired (the smallest of all where each
    was): the same whatever order the merges came in.
    """
    pairs = read_rows(record.path / "private" / "merges", MERGES)
    pairs = pairs if more is None else pl.concat([pairs, more])
    if not pairs.height:
        return {}
    ids = pl.concat([pairs["retired"], pairs["surviving"]]).unique().sort()
    place = {subject: number for number, subject in enumerate(ids)}
    edges = [[place[subject] for subject in pairs[name]] for name in MERGES]
    return _survivors(ids.to_list(), edges[0], edges[1], set(pairs["retired"]))


def _survivors(ids: list[int], first: list[int], second: list[int], retired: set[int]) -> dict[int, int]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array(([1] * len(first), (first, second)), shape=(len(ids), len(ids)))
    groups: dict[int, list[int]] = {}
    for subject, group in zip(ids, connected_components(links, directed=False)[1], strict=True):
        groups.setdefault(int(group), []).append(subject)
    survivors: dict[int, int] = {}
    for group in groups.values():
        survivor = min(set(group) - retired or group)
        survivors |= {subject: survivor for subject in group if subject != survivor}
    return survivors


def register_merges(record: Record, pairs: pl.DataFrame) -> None:
    """Remember that subjects (columns of MERGES) are one person; what is known already changes nothing."""
    folder = record.path / "private" / "merges"
    if not pairs.height:
        return

    def change(table: DeltaTable) -> list[Action]:
        new = pairs.unique().join(read_rows(folder, MERGES, table), on=list(MERGES), how="anti").sort(list(MERGES))
        return [write_file(folder, new)] if new.height else []

    number = secrets.randbits(62)
    commit(folder, change, what=Commit(f"merges:{number}", number, "facts", locks=("merges",)))
