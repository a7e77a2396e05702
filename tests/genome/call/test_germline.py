"""A simulated sample called from its reads: what is found, every base accounted for, and runs that are killed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from careloop import InputError
from careloop.genome.call import germline
from careloop.genome.call.coverage import Coverage, CoverageRule, Findings, coverage_of
from careloop.genome.call.germline import CallSettings, call_variants, covered_regions, write_covered
from careloop.genome.call.ploidy import copies
from careloop.genome.files.reads import open_reads
from careloop.genome.files.reference import open_reference
from careloop.genome.files.regions import Region, read_bed
from careloop.genome.files.sites import Site, sites_at
from careloop.genome.files.variant_file import open_variants
from careloop.genome.simulate.sample import SimulatedSample
from careloop.genome.variants.compare import compare

LENGTH = 40_000


@pytest.fixture(scope="module")
def called(random_reference: Path, simulated: SimulatedSample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("called") / "calls.vcf.gz"
    call_variants(simulated.bam, random_reference, out)
    return out


def text(path: Path) -> list[str]:
    return [line for line in open_lines(path) if not line.startswith("##")]


def open_lines(path: Path) -> list[str]:
    import gzip

    return gzip.decompress(path.read_bytes()).decode().splitlines()


def test_the_planted_variants_are_found(called: Path, random_reference: Path, simulated: SimulatedSample) -> None:
    found = compare(simulated.truth, called, random_reference).counts
    assert found["snp"].f1 > 0.97
    assert found["indel"].f1 > 0.9


def test_every_base_is_in_a_block_or_a_variant_or_is_not_covered(
    called: Path, random_reference: Path, simulated: SimulatedSample, tmp_path: Path
) -> None:
    taken = np.zeros(LENGTH, dtype=int)
    blocks = np.zeros(LENGTH, dtype=bool)
    for record in open_variants(called).records():
        if record.alts == ("<*>",):
            taken[record.start : record.end] += 1
            blocks[record.start : record.end] = True
    assert taken.max() == 1
    with open_reference(random_reference) as reference, open_reads(simulated.bam, reference) as reads:
        bases = reference.fetch("c", 0, LENGTH)
        depth = coverage_of(reads, bases, contig="c", start=0, rule=CoverageRule())
    variants = np.zeros(LENGTH, dtype=bool)
    for record in open_variants(called).records():
        if record.alts != ("<*>",):
            variants[record.start : record.end] = True
    assert not (blocks & ~depth.covered).any()
    assert not (blocks & variants).any()
    assert ((blocks | variants) >= depth.covered).all()
    bed = tmp_path / "covered.bed"
    assert write_covered(called, bed) == covered_regions(called).bases == read_bed(bed).bases
    unsure = [
        record
        for record in open_variants(called).records()
        if record.alts == ("<*>",) and next(iter(record.samples.values())).fields["GQ"] < 20
    ]
    assert not any(read_bed(bed).overlaps(record.contig, record.start, record.end) for record in unsure)


def test_a_planted_variant_is_never_called_reference(called: Path, simulated: SimulatedSample) -> None:
    sites = [Site(one.contig, one.start, one.ref, one.alts) for one in simulated.records]
    states = [call.state for call in sites_at(open_variants(called), sites)]
    assert states.count("genotype") >= 0.9 * len(states)
    assert states.count("reference") <= 0.02 * len(states)


def test_depth_is_that_of_samtools(random_reference: Path, simulated: SimulatedSample, tmp_path: Path) -> None:
    pysam = pytest.importorskip("pysam")
    told = tmp_path / "depth.txt"
    pysam.samtools.depth("-a", "-Q", "20", "-G", "0x800", "-o", str(told), str(simulated.bam), catch_stdout=False)
    expected = np.loadtxt(told, dtype=str)[:, 2].astype(int)
    with open_reference(random_reference) as reference, open_reads(simulated.bam, reference) as reads:
        bases = reference.fetch("c", 0, LENGTH)
        found = coverage_of(reads, bases, contig="c", start=0, rule=CoverageRule(mapping_quality=20))
    np.testing.assert_array_equal(found.well_mapped, expected)
    assert sum(found.reasons().values()) + int(found.covered.sum()) == LENGTH


def test_a_killed_run_goes_on(
    random_reference: Path, simulated: SimulatedSample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(germline, "REGION_BASES", 10_000)
    whole = tmp_path / "whole.vcf.gz"
    call_variants(simulated.bam, random_reference, whole)
    out, done = tmp_path / "out.vcf.gz", []
    true = germline.call_region

    def stopped(task: germline.RegionTask) -> germline.CalledRegion:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(task.region.start)
        return true(task)

    monkeypatch.setattr(germline, "call_region", stopped)
    with pytest.raises(KeyboardInterrupt):
        call_variants(simulated.bam, random_reference, out)
    assert not out.exists()
    again: list[int] = []
    monkeypatch.setattr(germline, "call_region", lambda task: (again.append(task.region.start), true(task))[1])
    call_variants(simulated.bam, random_reference, out)
    assert sorted(done + again) == [0, 10_000, 20_000, 30_000]
    assert text(out) == text(whole)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_several_processes_give_the_same(
    random_reference: Path, simulated: SimulatedSample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(germline, "REGION_BASES", 20_000)
    one, two = tmp_path / "one.vcf.gz", tmp_path / "two.vcf.gz"
    for out, processes in ((one, 1), (two, 2)):
        call_variants(simulated.bam, random_reference, out, settings=CallSettings(processes=processes))
    assert text(one) == text(two)


def test_a_region_alone_has_the_records_of_the_whole(
    called: Path, random_reference: Path, simulated: SimulatedSample, tmp_path: Path
) -> None:
    out = tmp_path / "part.vcf.gz"
    summary = call_variants(simulated.bam, random_reference, out, regions=[Region("c", 5_000, 25_000)])
    inside = [r for r in open_variants(called).records() if 5_000 <= r.start < 25_000 and r.passed and r.variants]
    found = [r for r in open_variants(out).records() if r.passed and r.variants]
    assert [(r.start, r.alts) for r in found] == [(r.start, r.alts) for r in inside]
    assert sum(summary.bases.values()) == 20_000


def test_the_engine_alone_needs_no_network(random_reference: Path, simulated: SimulatedSample, tmp_path: Path) -> None:
    out = tmp_path / "engine.vcf"
    summary = call_variants(simulated.bam, random_reference, out, settings=CallSettings(scorer="engine"))
    assert compare(simulated.truth, out, random_reference).counts["snp"].f1 > 0.95
    assert summary.variants["SNV"] > 30


def test_a_deletion_over_the_border_of_two_regions_leaves_no_block_of_reference_inside_it(
    random_reference: Path, simulated: SimulatedSample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deletion = max((one for one in simulated.records if len(one.alts) == 1), key=lambda one: len(one.ref))
    assert len(deletion.ref) > 3
    monkeypatch.setattr(germline, "REGION_BASES", deletion.start + 2)
    out = tmp_path / "border.vcf.gz"
    call_variants(simulated.bam, random_reference, out, regions=[Region("c", 0, deletion.end + 500)])
    records = list(open_variants(out).records())
    called = next(one for one in records if one.start == deletion.start and one.variants)
    blocks = [one for one in records if one.alts == ("<*>",)]
    assert called.end == deletion.end
    assert not any(one.start < called.end and one.end > called.start for one in blocks)
    with open_reference(random_reference) as reference:
        assert all(one.ref == reference.fetch("c", one.start, one.start + 1) for one in blocks)


def test_a_rejected_candidate_takes_quality_from_the_reference_and_borders_cut_blocks() -> None:
    depth = np.full(30, 20, dtype=np.int32)
    coverage = Coverage(100, depth, depth, np.ones(30, dtype=bool), CoverageRule())
    found = list(coverage.blocks(Findings([(100, 105)], {110: 25.0}, (120,))))
    assert [(one.start, one.end) for one in found] == [(105, 110), (110, 111), (111, 120), (120, 130)]
    assert [one.quality for one in found] == [60, 25, 60, 60]


def test_an_unknown_region_is_refused(random_reference: Path, simulated: SimulatedSample, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such contig"):
        call_variants(simulated.bam, random_reference, tmp_path / "x.vcf", regions=[Region("chr9", 0, 10)])


@pytest.mark.parametrize(
    ("contig", "start", "sex", "expected"),
    [
        ("chr1", 5, "male", 2), ("chrX", 3_000_000, "male", 1), ("X", 3_000_000, "female", 2),
        ("chrX", 2_699_519, "male", 2), ("chrX", 2_699_520, "male", 1), ("Y", 20_000_000, "male", 1),
        ("Y", 20_000_000, "female", 0), ("MT", 100, "female", 1), ("chrM", 100, None, 1), ("chrX", 3_000_000, None, 2),
    ],
)  # fmt: skip
def test_copies_of_a_place_by_sex(contig: str, start: int, sex: str | None, expected: int) -> None:
    assert copies(contig, start, sex=sex, build="GRCh37") == expected  # type: ignore[arg-type]


def test_a_sex_on_an_unknown_assembly_is_refused() -> None:
    with pytest.raises(InputError, match="GRCh37, GRCh38"):
        copies("chrX", 3_000_000, sex="male", build=None)
