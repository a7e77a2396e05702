"""Two sets of variants within one cluster: which match by genotype, which by allele only, which not at all."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Literal

from careloop.genome.variants.alleles import Fetch, left_align
from careloop.genome.variants.haplotypes.called import Called
from careloop.genome.variants.haplotypes.search import CALLS, TRUTH, Candidate, best_match

# `genotype`: the same two chromosomes; `phase`: the same but for which alleles are on one chromosome; `allele`: the
# same alleles in another genotype.
Match = Literal["genotype", "phase", "allele"]

_Sides = tuple[Sequence[Called], Sequence[Called]]
_Left = tuple[list[int], list[int]]


@dataclass
class ClusterMatch:
    """The matches of one cluster: for each side, by place in the cluster, the kind of match and its group.

    Variants of one group match those of the other side with the same group's number. `too_complex` says that the
    search was given up and only equal spellings were matched; `count` is the number of groups.
    """

    kinds: tuple[dict[int, Match], dict[int, Match]] = field(default_factory=lambda: ({}, {}))
    groups: tuple[dict[int, int], dict[int, int]] = field(default_factory=lambda: ({}, {}))
    too_complex: bool = False
    count: int = 0

    def add(self, kind: Match, truth: Sequence[int], calls: Sequence[int]) -> None:
        """Match variants of both sides with one another, as one group."""
        for side, places in ((TRUTH, truth), (CALLS, calls)):
            for place in places:
                self.kinds[side][place] = kind
                self.groups[side][place] = self.count
        self.count += 1

    def left(self, truth: Sequence[Called], calls: Sequence[Called]) -> _Left:
        """The places of those of each side that match nothing yet."""
        return (
            [place for place in range(len(truth)) if place not in self.kinds[TRUTH]],
            [place for place in range(len(calls)) if place not in self.kinds[CALLS]],
        )


def match_cluster(truth: Sequence[Called], calls: Sequence[Called], fetch: Fetch) -> ClusterMatch:
    """Match two sets of variants by the chromosomes that they spell, the largest matching part first.

    Then, among what is left: the same record (variants that overlap others of their own set, so that
    no chromosome can carry all), the same without regard to phase, the same alleles in another genotype.
    """
    found = ClusterMatch()
    if not truth or not calls:
        return found
    sides = (truth, calls)
    if _same_records(truth, calls):
        _match_pairs(found, "genotype", sides, attrgetter("genotype"))
        return found
    grouped = _phase_sets(truth) | _phase_sets(calls)
    _search(found, "genotype", sides, partial(_diploid, grouped=grouped), fetch)
    crowded = {id(one) for one in (*_overlapping(truth), *_overlapping(calls)) if one.phase not in grouped}
    _match_pairs(found, "genotype", sides, lambda one: one.genotype if id(one) in crowded else None)
    if grouped:
        _search(found, "phase", sides, partial(_diploid, grouped=set()), fetch)
    _search(found, "allele", sides, _haploid, fetch)
    if found.too_complex:
        _match_pairs(found, "genotype", sides, lambda one: tuple(_spellings(one, fetch)))
        _match_pairs(found, "allele", sides, lambda one: frozenset(_spellings(one, fetch)))
    return found


def _same_records(truth: Sequence[Called], calls: Sequence[Called]) -> bool:
    """Whether both sets are the same records, and no phase set could set them apart."""
    if len(truth) != len(calls):
        return False
    if len(truth) == 1:
        return truth[0].genotype == calls[0].genotype
    if Counter(one.genotype for one in truth) != Counter(one.genotype for one in calls):
        return False
    if not (_phase_sets(truth) and _phase_sets(calls)):
        return True
    return [(one.haplotypes, one.phase) for one in truth] == [(one.haplotypes, one.phase) for one in calls]


def _phase_sets(variants: Sequence[Called]) -> set[str | None]:
    """The phase sets that bind at least two heterozygotes."""
    count = Counter(one.phase for one in variants if one.phase is not None)
    return {name for name, many in count.items() if many > 1}


def _overlapping(variants: Sequence[Called]) -> Iterator[Called]:
    """Those that share reference bases, or the place of an insertion, with another of their own set."""
    before: Called | None = None
    for one in sorted(variants, key=attrgetter("span")):
        if before and (one.span[0] < before.span[1] or one.span == before.span):
            yield before
            yield one
        if before is None or one.span[1] > before.span[1]:
            before = one


def _spellings(one: Called, fetch: Fetch) -> Iterator[tuple[int, str, str]]:
    """The alleles of both chromosomes, in the genotype's order, each in the one spelling of its kind."""
    for allele in one.genotype:
        if allele:
            start, (ref, alt) = left_align(fetch, allele.start, (fetch(allele.start, allele.end), allele.bases))
            yield start, ref, alt


def _match_pairs(found: ClusterMatch, kind: Match, sides: _Sides, key: Callable[[Called], Hashable]) -> None:
    """Match what is left on each side in pairs of the same key, in order; None as key is matched with nothing."""
    left = found.left(*sides)
    waiting: dict[Hashable, list[int]] = defaultdict(list)
    for place in reversed(left[CALLS]):
        waiting[key(sides[CALLS][place])].append(place)
    for place in left[TRUTH]:
        wanted = key(sides[TRUTH][place])
        if wanted is not None and (others := waiting.get(wanted)):
            found.add(kind, [place], [others.pop()])


def _search(
    found: ClusterMatch, kind: Match, sides: _Sides, candidate: Callable[[Called], Candidate], fetch: Fetch
) -> None:
    """Match the largest part of what is left."""
    left = found.left(*sides)
    if not left[TRUTH] or not left[CALLS] or found.too_complex:
        return
    places = [(side, place) for side in (TRUTH, CALLS) for place in left[side]]
    groups = best_match([candidate(sides[side][place]) for side, place in places], fetch)
    if groups is None:
        found.too_complex = True
        return
    for group in groups:
        of_side = [[place for side, place in (places[i] for i in group) if side == wanted] for wanted in (TRUTH, CALLS)]
        found.add(kind, of_side[TRUTH], of_side[CALLS])


def _diploid(one: Called, *, grouped: set[str | None]) -> Candidate:
    """A variant on two chromosomes, in every order that its phase allows."""
    first, second = one.haplotypes
    options = ((first, second),) if first == second else ((first, second), (second, first))
    return Candidate(one.side, options, one.weight, f"{one.side} {one.phase}" if one.phase in grouped else None)


def _haploid(one: Called) -> Candidate:
    """A variant as any one of its alleles."""
    return Candidate(one.side, tuple((allele,) for allele in one.alleles), one.weight)
