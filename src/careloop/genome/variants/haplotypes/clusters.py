"""Variants of two sets in clusters: stretches beyond which nothing of either set could interact."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from careloop.genome.variants.alleles import MAX_SHIFT

NEAR = 50  # bases of reference between two variants that let them be taken for independent


class Reaching(Protocol):
    """Something between `first` and `last`, 0-based half-open."""

    first: int
    last: int


T = TypeVar("T", bound=Reaching)


@dataclass
class _Cluster(Generic[T]):
    first: int
    last: int
    members: list[T]

    def joined(self, later: _Cluster[T]) -> _Cluster[T]:
        """This cluster with the members of a later one; this one's list is used on."""
        self.members.extend(later.members)
        return _Cluster(min(self.first, later.first), max(self.last, later.last), self.members)


def clusters(items: Iterable[T]) -> Iterator[list[T]]:
    """Items of one contig, sorted by where they are written, in clusters of those nearer than `NEAR`.

    An item may reach far to the left of where it is written (an indel in a repeat), and so join clusters that were
    already apart; a cluster is handed on once no later item can reach it.
    """
    waiting: deque[_Cluster[T]] = deque()
    for item in items:
        new = _Cluster(item.first, item.last, [item])
        while waiting and waiting[-1].last + NEAR > new.first:
            new = waiting.pop().joined(new)
        waiting.append(new)
        while waiting[0].last + NEAR + 2 * MAX_SHIFT < item.first:
            yield waiting.popleft().members
    yield from (cluster.members for cluster in waiting)
