"""The search for the largest match against brute force: every subset of both sets with every phasing."""

from __future__ import annotations

import random
from itertools import product

import pytest

from careloop.genome.variants.haplotypes import search
from careloop.genome.variants.haplotypes.called import Allele
from careloop.genome.variants.haplotypes.search import CALLS, TRUTH, Candidate, best_match

REFERENCE = "GATTTTACACACAGCCATGGTTAC"


def chromosome(alleles: list[Allele]) -> str | None:
    out, at, inserted = "", 0, None
    for start, end, bases in sorted(alleles, key=lambda one: (one.start, one.end)):
        if start < at or (start == end == inserted):
            return None
        inserted = start if start == end else inserted
        out, at = out + REFERENCE[at:start] + bases, end
    return out + REFERENCE[at:]


def largest_by_brute_force(candidates: list[Candidate]) -> int | None:
    """The most candidates, some of both sides, that can be taken so that both sides spell the same chromosomes.

    None where some of one side cancel each other: the search has them match nothing.
    """
    most: list[dict[tuple[str, ...], int]] = [{}, {}]
    for side in (TRUTH, CALLS):
        mine = [one for one in candidates if one.side == side]
        for ways in product(*[(None, *range(len(one.options))) for one in mine]):
            taken = [(one, way) for one, way in zip(mine, ways, strict=True) if way is not None]
            bound: dict[str, int] = {}
            if any(one.group and bound.setdefault(one.group, way) != way for one, way in taken):
                continue
            ploidy = len(candidates[0].options[0])
            spelled = [
                chromosome([a for one, way in taken if (a := one.options[way][strand])]) for strand in range(ploidy)
            ]
            if taken and None not in spelled:
                key = tuple(spelled)
                most[side][key] = max(most[side].get(key, 0), len(taken))
    unchanged = (REFERENCE,) * len(candidates[0].options[0])
    if unchanged in most[0] or unchanged in most[1]:
        return None
    both = [count + most[1][pair] for pair, count in most[0].items() if pair in most[1]]
    return max(both, default=0)


def random_candidates(rng: random.Random, ploidy: int) -> list[Candidate]:
    candidates = []
    for side, count in ((TRUTH, rng.randint(1, 4)), (CALLS, rng.randint(1, 4))):
        for _ in range(count):
            first, second = (random_allele(rng) for _ in range(2))
            kind = rng.choice(["het", "het", "hom", "two"]) if ploidy == 2 else "hom"
            pair = {"het": (first, None), "hom": (first,) * ploidy, "two": (first, second)}[kind]
            options = (pair,) if kind == "hom" else (pair, pair[::-1])
            group = f"{side}" if len(options) == 2 and rng.random() < 0.4 else None
            candidates.append(Candidate(side, options, rng.randrange(100), group))
    return candidates


def random_allele(rng: random.Random) -> Allele:
    """Changes so few that many meet: in the run of T, in the repeat of AC, and single bases."""
    return rng.choice(
        [
            Allele(2, 3, ""), Allele(5, 6, ""), Allele(2, 2, "T"), Allele(6, 6, "T"), Allele(4, 5, "C"),
            Allele(7, 9, ""), Allele(8, 10, ""), Allele(11, 13, ""), Allele(7, 7, "CA"), Allele(13, 13, "CA"),
            Allele(12, 13, "G"), Allele(10, 13, "CCG"), Allele(9, 12, "ACA"), Allele(2, 6, "TTT"), Allele(2, 7, "TTTA"),
            Allele(6, 7, "C"), Allele(6, 7, "TC"),
        ]
    )  # fmt: skip


@pytest.mark.parametrize("ploidy", [1, 2])
def test_the_match_found_is_the_largest(ploidy: int) -> None:
    rng = random.Random(ploidy)
    found_some = 0
    for _ in range(800):
        candidates = random_candidates(rng, ploidy)
        expected = largest_by_brute_force(candidates)
        if expected is None:
            continue
        groups = best_match(candidates, lambda start, end: REFERENCE[start:end])
        assert groups is not None
        found = sum(map(len, groups))
        found_some += found > 2
        assert found == expected, candidates
        assert all({candidates[i].side for i in group} == {TRUTH, CALLS} for group in groups)
    assert found_some > 15


def homozygous(side: int, *alleles: Allele) -> list[Candidate]:
    return [Candidate(side, ((allele, allele),), 1) for allele in alleles]


def test_a_late_large_match_is_preferred_to_an_early_small_one() -> None:
    """The truth's two records overlap: the first matches two calls at once, the second three later ones."""
    truth = homozygous(TRUTH, Allele(2, 6, "TT"), Allele(5, 12, "TAGATAT"))
    early, late = [Allele(2, 3, ""), Allele(4, 5, "")], [Allele(7, 8, "G"), Allele(9, 10, "T"), Allele(11, 12, "T")]
    groups = best_match([*truth, *homozygous(CALLS, *early, *late)], lambda start, end: REFERENCE[start:end])
    assert groups == [[1, 4, 5, 6]]


def test_variants_that_cancel_each_other_match_nothing() -> None:
    candidates = homozygous(TRUTH, Allele(2, 2, "T"), Allele(5, 6, "")) + homozygous(CALLS, Allele(12, 13, "G"))
    assert best_match(candidates, lambda start, end: REFERENCE[start:end]) == []


def test_a_search_that_grows_too_large_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST_STATES", 2)
    first = Candidate(TRUTH, ((Allele(2, 3, ""), None), (None, Allele(2, 3, ""))), 1)
    second = Candidate(CALLS, ((Allele(5, 6, ""), None), (None, Allele(5, 6, ""))), 1)
    assert best_match([first, second], lambda start, end: REFERENCE[start:end]) is None
