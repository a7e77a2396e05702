"""All diplotypes of a gene that agree with what is known of its two strands.

Nothing is preferred and nothing is filled in: where variants are not phased, or positions not known, every pair of
alleles that could give the data is returned. An allele fits a strand only if the strand has its bases at every position
of the gene that is known, also where these are the reference allele's: a combination of variants that the tables do not
list is no allele, and is not called by the part that they do list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations_with_replacement, product

from careloop.genome.pharmacogenes.definitions import GeneDefinition
from careloop.genome.pharmacogenes.observations import Observation
from careloop.genome.pharmacogenes.phenotypes import STRAND_JOIN
from careloop.genome.pharmacogenes.results import Diplotype

MOST_ARRANGEMENTS = 4096  # of independent variants on two strands; twelve unphased ones have 2,048


class TooManyArrangementsError(Exception):
    """More arrangements of independent variants than can be listed."""


def consistent_diplotypes(gene: GeneDefinition, observations: Sequence[Observation]) -> tuple[Diplotype, ...]:
    """Return every diplotype that agrees with the observations, one for each position of the gene, in a fixed order.

    Within a phase the strands keep their order; between phases, and where there is none, any order is possible.

    Raises:
        TooManyArrangementsError: a gene of independent variants with more than 4,096 arrangements.
    """
    if gene.kind == "variants":
        return _of_variants(gene, observations)
    return _of_haplotypes(gene, observations)


def _of_haplotypes(gene: GeneDefinition, observations: Sequence[Observation]) -> tuple[Diplotype, ...]:
    """Pairs of alleles, by bit masks: bit i is set where an allele fits a strand at observation i."""
    first, second = _fitting(gene, observations, 0), _fitting(gene, observations, 1)
    unphased, phases = _phase_masks(observations)
    possible = [i for i in range(len(gene.alleles)) if first[i] | second[i] == (1 << len(observations)) - 1]
    found = []
    for a, b in combinations_with_replacement(possible, 2):
        straight, crossed = first[a] & second[b], first[b] & second[a]
        if unphased & ~(straight | crossed):
            continue
        if all(straight & phase == phase or crossed & phase == phase for phase in phases):
            found.append(Diplotype(gene.alleles[a].name, gene.alleles[b].name))
    return tuple(found)


def _fitting(gene: GeneDefinition, observations: Sequence[Observation], strand: int) -> list[int]:
    """The mask of each allele: that of the reference allele, changed where the allele has other bases."""
    places = {seen.position.name: i for i, seen in enumerate(observations)}
    reference = sum(1 << i for i, seen in enumerate(observations) if seen.bases[strand] in (None, seen.position.base))
    masks = []
    for allele in gene.alleles:
        mask = reference
        for site, bases in allele.bases.items():
            seen = observations[places[site]].bases[strand]
            fits = seen is None or seen in bases
            mask = mask | 1 << places[site] if fits else mask & ~(1 << places[site])
        masks.append(mask)
    return masks


def _phase_masks(observations: Sequence[Observation]) -> tuple[int, list[int]]:
    """The observations without phase, and those of each phase."""
    unphased, phases = 0, dict[str, int]()
    for i, seen in enumerate(observations):
        if seen.phase is None:
            unphased |= 1 << i
        else:
            phases[seen.phase] = phases.get(seen.phase, 0) | 1 << i
    return unphased, list(phases.values())


def _of_variants(gene: GeneDefinition, observations: Sequence[Observation]) -> tuple[Diplotype, ...]:
    """Pairs of strands, each with all the variants it carries."""
    found = set()
    for strands in _arrangements(observations):
        named = [_variants_on(gene, strand) for strand in strands]
        if None not in named:
            found.add(Diplotype(*sorted(STRAND_JOIN.join(names or ()) for names in named)))
    return tuple(sorted(found))


def _arrangements(observations: Sequence[Observation]) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """Every pair of strands (bases in order of the observations) that agrees with the observations."""
    groups: dict[str, list[int]] = {}
    for i, seen in enumerate(observations):
        groups.setdefault(f"site {i}" if seen.phase is None else f"phase {seen.phase}", []).append(i)
    choices = []
    number = 1
    for places in groups.values():
        options = list(dict.fromkeys(_options([observations[i] for i in places])))
        number *= len(options)
        if number > MOST_ARRANGEMENTS:
            raise TooManyArrangementsError
        choices.append(options)
    order = [i for places in groups.values() for i in places]
    for chosen in product(*choices):
        pairs = dict(zip(order, (pair for group in chosen for pair in group), strict=True))
        yield [pairs[i][0] for i in range(len(order))], [pairs[i][1] for i in range(len(order))]


def _options(group: Sequence[Observation]) -> Iterator[tuple[tuple[str, str], ...]]:
    """The bases of the two strands at observations of one phase: in either order, what is not known filled each way."""
    filled: list[list[tuple[str, str]]] = []
    number = 1
    for seen in group:
        first, second = (sorted(seen.position.bases) if base is None else [base] for base in seen.bases)
        filled.append(list(product(first, second)))
        number *= len(filled[-1])
        if number > MOST_ARRANGEMENTS:
            raise TooManyArrangementsError
    for pairs in product(*filled):
        yield pairs
        yield tuple((second, first) for first, second in pairs)


def _variants_on(gene: GeneDefinition, bases: Iterable[str]) -> tuple[str, ...] | None:
    """The variants that a strand carries, the reference allele if none; None if a base belongs to no variant."""
    changed = {p.name: base for p, base in zip(gene.positions, bases, strict=True) if base != p.base}
    carried = [a for a in gene.alleles[1:] if all(changed.get(site) in own for site, own in a.bases.items())]
    if {site for allele in carried for site in allele.bases} != set(changed):
        return None
    return tuple(allele.name for allele in carried) or (gene.reference_allele.name,)
