"""Sites looked up in simulated diploid genomes answer as the two chromosomes themselves do, by index and without."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from careloop.genome.files.regions import Region, Regions
from careloop.genome.files.sites import Site, sites_at
from careloop.genome.files.variant_file import open_variants
from careloop.genome.files.variant_header import new_header
from careloop.genome.files.variant_writing import write_variants
from careloop.genome.variant import Record, SampleCall

pytest.importorskip("pysam")
LENGTH = 3000
FORMATS = (
    '##INFO=<ID=END,Number=1,Type=Integer,Description="End of block">',
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
    '##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="Quality">',
    '##FORMAT=<ID=DP,Number=1,Type=Integer,Description="Depth">',
)


@dataclass
class Genome:
    """A simulated person: records in order, and for each chromosome what stands in place of each reference base."""

    sequence: str
    records: list[Record]
    chromosomes: tuple[list[str], list[str]]


def person(seed: int) -> Genome:
    """SNVs, insertions, deletions, also multi-allelic, at random; indels start with a base unlike its neighbours."""
    draw = random.Random(seed)
    sequence = "".join(draw.choices("ACGT", k=LENGTH))
    chromosomes = list(sequence), list(sequence)
    records: list[Record] = []
    at = 5
    while at < LENGTH - 30:
        ref = sequence[at : at + draw.choice([1, 1, 1, 2, 5])]
        choices = [draw.choice([base for base in "ACGT" if base != ref[0]]) + ref[1:], ref[0] + "N" * 3 + ref[1:]]
        choices += [ref[0]] if len(ref) > 1 else []
        alts = tuple(draw.sample(choices, draw.choice([1, 1, 2])))
        alleles = draw.choice(range(len(alts) + 1)), draw.choice(range(len(alts) + 1))
        if any(alleles):
            call = SampleCall(alleles, True, {"GQ": 50, "DP": 30})
            records.append(Record("chr20", at, at + len(ref), ref, alts, samples={"S": call}))
            for chromosome, allele in zip(chromosomes, alleles, strict=True):
                changed = alts[allele - 1] if allele else ref
                if changed == ref[0]:  # a deletion
                    chromosome[at + 1 : at + len(ref)] = ["*"] * (len(ref) - 1)
                elif changed[1:4] == "NNN":
                    chromosome[at] = ref[0] + "NNN"
                else:
                    chromosome[at] = changed[0]
        at += len(ref) + draw.randint(1, 40)
    return Genome(sequence, records, chromosomes)


def blocks_between(genome: Genome) -> list[Record]:
    """The records with blocks of covered reference in between, as in a gVCF."""
    filled: list[Record] = []
    done = 0
    for record in [*genome.records, Record("chr20", LENGTH, LENGTH, "N", ())]:
        if done < record.start:
            call = SampleCall((0, 0), False, {"GQ": 40, "DP": 20})
            base, info = genome.sequence[done], {"END": record.start}
            filled.append(Record("chr20", done, record.start, base, ("<NON_REF>",), info=info, samples={"S": call}))
        done = record.end
        filled += [record] if record.samples else []
    return filled


def written(path: Path, records: list[Record]) -> Path:
    write_variants(path, new_header({"chr20": LENGTH}, ["S"], lines=FORMATS), records)
    return path


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["all.vcf", "all.vcf.gz", "all.bcf"])
def test_each_record_looked_up_gives_its_own_genotype(tmp_path: Path, seed: int, name: str) -> None:
    genome = person(seed)
    file = open_variants(written(tmp_path / name, genome.records))
    sites = [Site("20", record.start, record.ref, record.alts) for record in genome.records]
    for record, found in zip(genome.records, sites_at(file, sites), strict=True):
        call = record.samples["S"]
        spelled = [(record.ref, *record.alts)[index or 0] for index in call.alleles]
        assert (found.state, list(found.alleles), found.phased) == ("genotype", spelled, True)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["all.vcf", "all.vcf.gz"])
def test_every_single_base_is_answered_as_the_chromosomes_have_it(tmp_path: Path, seed: int, name: str) -> None:
    genome = person(seed)
    plain = open_variants(written(tmp_path / name, genome.records))
    blocks = open_variants(written(tmp_path / f"blocks.{name}", blocks_between(genome)))
    covered = Regions([Region("20", 0, LENGTH // 2)])
    sites = [Site("20", at, base, tuple(set("ACGT") - {base})) for at, base in enumerate(genome.sequence)]
    random.Random(seed).shuffle(sites)
    answers = zip(
        sites, sites_at(plain, sites), sites_at(plain, sites, covered=covered), sites_at(blocks, sites), strict=True
    )
    for site, in_plain, in_covered, in_blocks in answers:
        bases = tuple(chromosome[site.start][0] for chromosome in genome.chromosomes)  # an insertion is not the base's
        inside = any(r.start <= site.start < r.end for r in genome.records)
        if set(bases) == {site.ref}:
            assert in_plain.state in (("absent", "reference") if inside else ("absent",))
            assert in_covered.state == ("reference" if site.start < LENGTH // 2 else in_plain.state)
            assert in_blocks.state == (in_plain.state if inside else "reference")
        else:
            expected = "spanned" if "*" in bases else "genotype"
            for found in (in_plain, in_covered, in_blocks):
                assert (found.state, found.alleles) == (expected, bases), site


def test_thousands_of_sites_are_read_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genome = person(1)
    file = open_variants(written(tmp_path / "all.vcf.gz", genome.records))
    sites = [Site("20", record.start, record.ref, record.alts) for record in genome.records]
    by_index = sites_at(file, sites)
    monkeypatch.setattr("careloop.genome.files.sites._MOST_LOOKUPS", 0)
    assert sites_at(file, sites) == by_index
    monkeypatch.setattr("careloop.genome.files.sites._JOINED_BASES", 1)
    monkeypatch.setattr("careloop.genome.files.sites._MOST_LOOKUPS", 10_000)
    assert sites_at(file, sites) == by_index
