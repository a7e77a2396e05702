"""Trios: the posterior beside an enumeration by hand, and simulated families with planted new mutations."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from careloop import InputError
from careloop.genome.call.trio import TrioSummary, call_trio, joint_posterior, transmission
from careloop.genome.files.align import align_reads
from careloop.genome.files.reference import open_reference
from careloop.genome.files.regions import Region
from careloop.genome.files.variant_file import open_variants
from careloop.genome.simulate.reads import ReadModel, simulate_reads, write_fastq
from careloop.genome.simulate.variants import SAMPLE, Planting, haplotypes_of, plant_variants
from careloop.genome.variant import Record, SampleCall

LENGTH = 40_000
Family = tuple[tuple[Path, Path, Path], set[int]]


def test_transmission_is_mendels_rules_gamete_by_gamete() -> None:
    rate = 0.03
    for mother, father in itertools.product(range(3), repeat=2):
        expected = np.zeros(3)
        for first, second in itertools.product(range(2), repeat=2):
            chance = 1.0
            for copies, allele in ((mother, first), (father, second)):
                drawn = copies / 2
                changed = drawn * (1 - rate) + (1 - drawn) * rate
                chance *= changed if allele else 1 - changed
            expected[first + second] += chance
        np.testing.assert_allclose(transmission(rate)[mother, father], expected)


def test_the_posterior_is_that_of_all_27_cases() -> None:
    draw = np.random.default_rng(3)
    likelihoods, prior, rate = draw.uniform(size=(3, 3)), np.array([0.9, 0.07, 0.03]), 1e-3
    table = transmission(rate)
    by_hand = {
        (m, f, c): prior[m] * prior[f] * table[m, f, c] * likelihoods[0, c] * likelihoods[1, m] * likelihoods[2, f]
        for m, f, c in itertools.product(range(3), repeat=3)
    }
    whole = sum(by_hand.values())
    found = joint_posterior(likelihoods, np.log(prior), rate)
    for place, value in by_hand.items():
        assert found[place] == pytest.approx(value / whole)


@pytest.fixture(scope="module")
def family(
    random_reference: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tuple[Path, Path, Path], set[int]]:
    """Child, mother and father read 30 deep; the child has six SNVs that no parent has."""
    pytest.importorskip("mappy")
    folder = tmp_path_factory.mktemp("family")
    with open_reference(random_reference) as reference:
        sequence = reference.fetch("c", 0, LENGTH)
    planting = Planting(snvs=50, indels=8)
    parents = _apart([plant_variants(sequence, "c", start=0, plan=planting, seed=seed) for seed in (21, 22)])
    draw = np.random.default_rng(9)
    taken = {record.start for records in parents for record in records}
    new = [int(place) for place in draw.choice(np.arange(2_000, LENGTH - 2_000), 40, replace=False)]
    new = [place for place in new if all(abs(place - other) > 60 for other in taken)][:6]
    inherited = _inherited(parents)
    planted = [
        Record("c", place, place + 1, sequence[place], ("ACGT"["ACGT".index(sequence[place]) - 1],),
               samples={SAMPLE: SampleCall((0, 1), phased=True)})
        for place in new
    ]  # fmt: skip
    people = {
        "child": sorted([*inherited, *planted], key=lambda one: one.start),
        "mother": parents[0],
        "father": parents[1],
    }
    paths = []
    for number, (name, records) in enumerate(people.items()):
        fastq = folder / f"{name}_1.fq", folder / f"{name}_2.fq"
        pairs = simulate_reads(haplotypes_of(sequence, records, start=0), ReadModel(depth=30), seed=40 + number)
        write_fastq(pairs, *fastq)
        paths.append(folder / f"{name}.bam")
        align_reads(fastq, random_reference, out=paths[-1], sample=name)
    return (paths[0], paths[1], paths[2]), set(new)


def _apart(parents: list[list[Record]]) -> list[list[Record]]:
    """The parents' variants with one alternative, without those near to another of either."""
    kept: list[list[Record]] = [[], []]
    taken: list[int] = []
    for side, records in enumerate(parents):
        for record in records:
            if len(record.alts) == 1 and all(abs(place - record.start) >= 60 for place in taken):
                taken.append(record.start)
                kept[side].append(record)
    return kept


def _inherited(parents: list[list[Record]]) -> list[Record]:
    """The first chromosome of each parent."""
    found = []
    for side, records in enumerate(parents):
        for record in records:
            call = record.samples[SAMPLE]
            if call.alleles[0]:
                alleles = (1, 0) if side == 0 else (0, 1)
                found.append(replace(record, samples={SAMPLE: replace(call, alleles=alleles, phased=True)}))
    return found


def test_new_mutations_are_found_and_few_others_are_named(
    family: Family, random_reference: Path, tmp_path: Path
) -> None:
    paths, new = family
    out = tmp_path / "trio.vcf.gz"
    summary = call_trio(paths, random_reference, out)
    assert summary.samples == ("child", "mother", "father")
    records = [record for record in open_variants(out).records() if record.passed]
    named = {record.start for record in records if "DENOVO" in record.info}
    assert len(named & new) >= 5
    assert len(named - new) <= 1
    contradicting = [r for r in records if "DENOVO" not in r.info and not _mendelian(r)]
    assert not contradicting
    assert summary.variants == len(records)


def _mendelian(record: Record) -> bool:
    child, mother, father = (
        sum(a or 0 for a in record.samples[name].alleles) for name in ("child", "mother", "father")
    )
    return bool(transmission(0.0)[mother, father, child] > 0)


def test_one_sample_twice_is_refused(family: Family, random_reference: Path, tmp_path: Path) -> None:
    paths, _ = family
    with pytest.raises(InputError, match="three samples"):
        call_trio((paths[0], paths[1], paths[1]), random_reference, tmp_path / "x.vcf", regions=[Region("c", 0, 100)])


Fragments = list[tuple[int, int, bool, int]]  # start, length, whether it shows the variant, mapping quality
PLACE, READ = 600, 100


def _fragments(number: int, *, length: int = 300, quality: int = 60, shown: int = 0) -> Fragments:
    """Fragments whose first read lies over PLACE; every `shown`-th has the variant."""
    return [(PLACE - 95 + at * 90 // number, length, bool(shown and at % shown == 0), quality) for at in range(number)]


def _bam(path: Path, contig: str, sequence: str, fragments: Fragments) -> Path:
    """Reads without errors at their true places."""
    pysam = pytest.importorskip("pysam")
    reads = []
    for number, (start, length, shown, quality) in enumerate(fragments):
        bases = list(sequence)
        if shown:
            bases[PLACE] = "ACGT"["ACGT".index(sequence[PLACE]) - 1]
        places = start, start + length - READ
        for flag, at, other in ((0x63, places[0], places[1]), (0x93, places[1], places[0])):
            read = pysam.AlignedSegment()
            read.query_name, read.flag, read.mapping_quality = f"q{number}", flag, quality
            read.query_sequence = "".join(bases[at : at + READ])
            read.query_qualities = pysam.qualitystring_to_array("D" * READ)
            read.reference_id = read.next_reference_id = 0
            read.reference_start, read.next_reference_start, read.cigarstring = at, other, f"{READ}M"
            read.template_length = length if at <= other and flag == 0x63 else -length
            reads.append(read)
    head = {"HD": {"VN": "1.6", "SO": "coordinate"}, "SQ": [{"SN": contig, "LN": len(sequence)}]}
    head["RG"] = [{"ID": "1", "SM": path.stem}]  # type: ignore[dict-item]
    with pysam.AlignmentFile(str(path), "wb", header=head) as file:
        for read in sorted(reads, key=lambda one: one.reference_start):
            file.write(read)
    pysam.index(str(path))
    return path


def _trio(folder: Path, mother: Fragments, *, contig: str = "c") -> tuple[TrioSummary, list[Record]]:
    """A heterozygous child and a father without the variant, both 30 deep, beside a mother."""
    pysam = pytest.importorskip("pysam")
    sequence = "".join(np.random.default_rng(5).choice(list("ACGT"), size=1_200))
    fasta = folder / "small.fa"
    fasta.write_text(f">{contig}\n{sequence}\n")
    pysam.faidx(str(fasta))
    people = {"child": _fragments(30, shown=2), "mother": mother, "father": _fragments(30)}
    paths = [_bam(folder / f"{name}.bam", contig, sequence, its) for name, its in people.items()]
    out = folder / "trio.vcf"
    summary = call_trio((paths[0], paths[1], paths[2]), fasta, out, scorer="engine")
    return summary, list(open_variants(out).records())


def test_a_parent_whose_reads_may_lie_elsewhere_rules_nothing_out(tmp_path: Path) -> None:
    """Thirty reads of mapping quality 0 say no more than none."""
    _, (doubtful,) = _trio(tmp_path, _fragments(30, quality=0))
    assert "DENOVO" not in doubtful.info
    assert doubtful.samples["mother"].fields["PL"] == (0, 0, 0)
    _, (sure,) = _trio(tmp_path, _fragments(30))
    assert "DENOVO" in sure.info


def test_overlapping_mates_are_one_observation(tmp_path: Path) -> None:
    _, (apart,) = _trio(tmp_path, _fragments(8))
    _, (overlapping,) = _trio(tmp_path, _fragments(8, length=READ))
    assert overlapping.samples["mother"].fields["PL"] == apart.samples["mother"].fields["PL"]
    assert overlapping.info["DN"] == pytest.approx(apart.info["DN"])


def test_an_alleles_rate_is_a_third_of_its_bases(tmp_path: Path) -> None:
    """DN in closed form, with the mother's fragments counted by hand."""
    _, (record,) = _trio(tmp_path, _fragments(10))
    odds = {name: [10 ** (-pl / 10) for pl in record.samples[name].fields["PL"]] for name in record.samples}
    prior, rate = (1 - 1e-3 / 3, 1e-3 / 3 * 2 / 3, 1e-3 / 3 / 3), 1.2e-8 / 3
    table = transmission(rate)
    joint = {
        (m, f, c): prior[m] * prior[f] * table[m, f, c] * odds["child"][c] * odds["mother"][m] * odds["father"][f]
        for m, f, c in itertools.product(range(3), repeat=3)
    }
    expected = (joint[0, 0, 1] + joint[0, 0, 2]) / sum(joint.values())
    assert 0.01 < expected < 0.99
    assert record.info["DN"] == pytest.approx(expected, abs=0.06)  # PL are rounded


def test_x_alone_is_refused_in_an_unknown_assembly_too(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="autosomes are called, got only chrX"):
        _trio(tmp_path, _fragments(30), contig="chrX")
    assert not (tmp_path / "trio.vcf").exists()


def test_a_new_mutations_reads_stand_beside_each_person_and_it_is_no_mendelian_error(tmp_path: Path) -> None:
    summary, (record,) = _trio(tmp_path, _fragments(30))
    assert (summary.de_novo, summary.mendelian_errors_alone) == (1, 0)
    assert record.samples["mother"].fields["AD"] == (30, 0)
    assert record.samples["child"].fields["AD"] == (15, 15)
    assert record.samples["child"].fields["DP"] == 30
