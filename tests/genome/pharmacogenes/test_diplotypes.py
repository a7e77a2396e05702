"""Diplotypes against a brute force over the tables: every pair of alleles, both builds, phased, unphased, in part."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations_with_replacement, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop.genome.files.sites import SiteCall
from careloop.genome.pharmacogenes.definitions import BUILDS, read_definitions
from careloop.genome.pharmacogenes.diplotypes import TooManyArrangementsError, consistent_diplotypes
from careloop.genome.pharmacogenes.observations import observe

# Of the two genes with most pairs every fifth is tried here; benchmarks/pgx_calls.py has them all, as files.
EVERY = {"CYP2C9": 5, "DPYD": 5}
STAR_GENES = ("CYP2C19", "CYP2C9", "TPMT", "NUDT15", "VKORC1", "CYP3A5", "SLCO1B1", "UGT1A1")


def site_calls(gene, build, strands, joint="|", phase_sets=None):
    """The SiteCalls of two strands of bases; `phase_sets` {place: set or None} where phases differ by site."""
    calls = []
    for place, (site, bases) in enumerate(zip(gene.sites(build), zip(*strands, strict=True), strict=True)):
        phased = joint == "|" if phase_sets is None else phase_sets[place] is not None
        state = "reference" if set(bases) == {site.ref} else "genotype"
        told = bases if phased else tuple(sorted(bases, key=lambda base: (base != site.ref, base)))
        calls.append(SiteCall(site, state, told, phased, phase_sets[place] if phase_sets else None))
    return calls


def found(gene, calls):
    return {
        frozenset((d.first, d.second)) if d.first != d.second else frozenset([d.first])
        for d in consistent_diplotypes(gene, observe(gene, calls))
    }


def pair_of(one, other):
    return frozenset((one, other))


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("name", STAR_GENES)
def test_every_pair_of_alleles_phased_and_unphased(tables, name: str, build: str) -> None:
    """Phased: the pair, alone. Unphased: exactly the pairs with the same genotype at every site."""
    gene, table = read_definitions()[name], tables[name]
    alike = defaultdict(set)
    for one, other in combinations_with_replacement(table.haplotypes, 2):
        for strands in product(table.haplotypes[one], table.haplotypes[other]):
            alike[tuple(map(frozenset, zip(*strands, strict=True)))].add(pair_of(one, other))
    for one, other in list(combinations_with_replacement(table.haplotypes, 2))[:: EVERY.get(name, 1)]:
        strands = (table.haplotypes[one][-1], table.haplotypes[other][0])
        assert found(gene, site_calls(gene, build, strands)) == {pair_of(one, other)}
        expected = alike[tuple(map(frozenset, zip(*strands, strict=True)))]
        assert pair_of(one, other) in expected
        assert found(gene, site_calls(gene, build, strands, "/")) == expected


@pytest.mark.parametrize("build", BUILDS)
def test_every_pair_of_dpyd_variants(tables, build: str) -> None:
    """Unphased, two variants lie on two strands or on one."""
    gene, table = read_definitions()["DPYD"], tables["DPYD"]
    for one, other in list(combinations_with_replacement(table.haplotypes, 2))[:: EVERY["DPYD"]]:
        strands = (table.haplotypes[one][0], table.haplotypes[other][0])
        assert found(gene, site_calls(gene, build, strands)) == {pair_of(one, other)}
        expected = {pair_of(one, other)}
        if one != other and table.reference not in (one, other):
            expected.add(pair_of(f"{one} + {other}", table.reference))
        assert found(gene, site_calls(gene, build, strands, "/")) == expected


def brute_force(table, seen):
    """All pairs that agree with [(bases of the two strands or None, phase or None)], by trying every order."""
    phases = sorted({phase for _, phase in seen if phase is not None})
    pairs = set()
    for one, other in combinations_with_replacement(table.haplotypes, 2):
        for strands in product(table.haplotypes[one], table.haplotypes[other]):
            for flips in product((False, True), repeat=len(phases)):
                flipped = dict(zip(phases, flips, strict=True))
                if all(agrees(strands, place, bases, flipped.get(phase)) for place, (bases, phase) in enumerate(seen)):
                    pairs.add(pair_of(one, other))
    return pairs


def agrees(strands, place, bases, flipped):
    held = [strand[place] for strand in strands]
    orders = [held, held[::-1]] if flipped is None else [held[::-1] if flipped else held]
    return any(all(b is None or b == h for b, h in zip(bases, order, strict=True)) for order in orders)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(data=st.data())
def test_phase_sets_and_unknown_sites_against_every_order(tables, data) -> None:
    name = data.draw(st.sampled_from(["CYP2C19", "NUDT15", "CYP3A5", "SLCO1B1", "UGT1A1"]))
    build = data.draw(st.sampled_from(BUILDS))
    gene, table = read_definitions()[name], tables[name]
    names = [data.draw(st.sampled_from(sorted(table.haplotypes))) for _ in range(2)]
    strands = [data.draw(st.sampled_from(table.haplotypes[each])) for each in names]
    sets = {place: data.draw(st.sampled_from([None, 1, 2])) for place in range(len(table.sites))}
    crossed = data.draw(st.booleans())  # the strands of phase set 2 are written in the other order
    calls, seen = [], []
    for place, call in enumerate(site_calls(gene, build, strands, phase_sets=sets)):
        alleles = call.alleles[::-1] if crossed and sets[place] == 2 else call.alleles
        what = data.draw(st.sampled_from(["known", "known", "known", "absent", "in part"]))
        if what == "absent":
            calls.append(SiteCall(call.site, "absent"))
            seen.append(((None, None), None))
        elif what == "in part":
            calls.append(
                SiteCall(call.site, "no-call", (None, alleles[1]), call.phased, sets[place], reason="called in part")
            )
            seen.append(((None, alleles[1]), sets[place]))
        else:
            calls.append(SiteCall(call.site, call.state, alleles, call.phased, sets[place]))
            seen.append((alleles, sets[place]))
    result = found(gene, calls)
    assert pair_of(*names) in result
    assert result == brute_force(table, seen)


def test_a_combination_that_no_allele_has_is_not_called_by_its_parts(tables) -> None:
    gene, table = read_definitions()["CYP2C19"], tables["CYP2C19"]
    both = [c if c != r else b for r, b, c in zip(*(table.haplotypes[n][0] for n in ("*1", "*2", "*3")), strict=True)]
    strands = (tuple(both), table.haplotypes["*1"][0])
    assert found(gene, site_calls(gene, "GRCh38", strands)) == set()
    assert found(gene, site_calls(gene, "GRCh38", strands, "/")) == {pair_of("*2", "*3")}


def test_dpyd_with_a_part_of_hapb3_is_no_variant_of_the_table(tables) -> None:
    gene, table = read_definitions()["DPYD"], tables["DPYD"]
    reference, hap = table.haplotypes["Reference"][0], next(h[0] for n, h in table.haplotypes.items() if "HapB3" in n)
    first = next(place for place, (a, b) in enumerate(zip(reference, hap, strict=True)) if a != b)
    part = tuple(base if place != first else reference[place] for place, base in enumerate(hap))
    assert found(gene, site_calls(gene, "GRCh38", (part, reference))) == set()


def test_too_many_unphased_variants_of_dpyd_are_not_listed(tables) -> None:
    gene, table = read_definitions()["DPYD"], tables["DPYD"]
    strands = (table.haplotypes["Reference"][0], tuple(site["bases"].split("|")[-1] for site in table.sites))
    with pytest.raises(TooManyArrangementsError):
        consistent_diplotypes(gene, observe(gene, site_calls(gene, "GRCh38", strands, "/")))
