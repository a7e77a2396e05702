"""Clusters against brute force: stretches joined as long as any two are near."""

from __future__ import annotations

import random
from dataclasses import dataclass

from careloop.genome.variants.alleles import MAX_SHIFT
from careloop.genome.variants.haplotypes.clusters import NEAR, clusters


@dataclass(frozen=True)
class Stretch:
    written: int
    first: int
    last: int


def joined_by_brute_force(stretches: list[Stretch]) -> set[frozenset[Stretch]]:
    found = [[one] for one in stretches]
    while True:
        for a in found:
            for b in found:
                apart = max(min(x.first for x in a), min(x.first for x in b)) - min(
                    max(x.last for x in a), max(x.last for x in b)
                )
                if a is not b and apart < NEAR:
                    found = [c for c in found if c is not a and c is not b] + [a + b]
                    break
            else:
                continue
            break
        else:
            return {frozenset(one) for one in found}


def test_clusters_are_those_of_brute_force() -> None:
    rng = random.Random(0)
    for _ in range(50):
        stretches = set()
        for written in sorted(rng.sample(range(2_000, 12_000), 30)):
            reach = rng.choice([1, 1, 1, 60, 700])
            stretches.add(Stretch(written, written - rng.randint(1, reach), written + rng.randint(1, reach)))
        ordered = sorted(stretches, key=lambda one: one.written)
        assert {frozenset(one) for one in clusters(ordered)} == joined_by_brute_force(ordered)


def test_clusters_are_handed_on_before_the_end() -> None:
    """Memory stays bounded: what no later item can reach is not held."""
    drawn = []

    def items():
        for written in range(0, 100 * MAX_SHIFT, MAX_SHIFT):
            drawn.append(written)
            yield Stretch(written, written, written + 1)

    next(clusters(items()))
    assert len(drawn) < 6
