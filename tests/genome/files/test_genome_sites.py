"""Every state that a site can have, on plain VCF, gVCF of both styles, covered regions, deletions and odd genotypes."""

from __future__ import annotations

from pathlib import Path

import pytest

from careloop import InputError
from careloop.genome.files.regions import Region, Regions
from careloop.genome.files.sites import Minimum, Site, SiteCall, sites_at
from careloop.genome.files.variant_file import open_variants

HEADER = """##fileformat=VCFv4.3
##contig=<ID=chr10,length=133797422>
##INFO=<ID=END,Number=1,Type=Integer,Description="End of block">
##INFO=<ID=MinDP,Number=1,Type=Integer,Description="Least depth">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="Quality">
##FORMAT=<ID=DP,Number=1,Type=Integer,Description="Depth">
##FORMAT=<ID=MIN_DP,Number=1,Type=Integer,Description="Least depth">
##FORMAT=<ID=PL,Number=G,Type=Integer,Description="Likelihoods">
##FORMAT=<ID=PS,Number=1,Type=Integer,Description="Phase set">
##FORMAT=<ID=FT,Number=1,Type=String,Description="Filter">
"""
SNV = Site("chr10", 999, "G", ("A",))  # position 1000
DELETION = Site("chr10", 999, "GAT", ("G",))
INSERTION = Site("chr10", 999, "G", ("GTT",))


def at(tmp_path: Path, site: Site, *lines: str, covered: Regions | None = None, **options: Minimum) -> SiteCall:
    """The call of one site in a file of these records (contig left out, fields separated by blanks)."""
    path = tmp_path / "sample.vcf"
    columns = "#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT S1"
    body = [columns, *(f"chr10 {line}" for line in lines)]
    path.write_text(HEADER + "\n".join(line.replace(" ", "\t") for line in body) + "\n")
    return sites_at(open_variants(path), [site], covered=covered, **options)[0]


def test_a_genotype_is_given_as_bases_with_its_phase(tmp_path: Path) -> None:
    found = at(tmp_path, SNV, "1000 rs1 G A 50 PASS . GT:GQ:DP:PS 0|1:60:30:77")
    assert (found.state, found.alleles, found.phased, found.phase_set) == ("genotype", ("G", "A"), True, 77)
    assert (found.depth, found.quality, found.known) == (30, 60, True)
    assert at(tmp_path, SNV, "1000 . G A 50 PASS . GT 1/1").alleles == ("A", "A")
    assert at(tmp_path, SNV, "1000 . G A 50 PASS . GT 1").alleles == ("A",)


def test_multi_allelic_records_and_alleles_nobody_asked_for(tmp_path: Path) -> None:
    assert at(tmp_path, SNV, "1000 . G T,A 50 PASS . GT 1/2").alleles == ("T", "A")
    assert at(tmp_path, SNV, "1000 . GA AA,G 50 PASS . GT 0/1").alleles == ("G", "A")
    assert at(tmp_path, SNV, "999 . CG TA 50 PASS . GT 0/1").alleles == ("G", "A"), "an MNP that holds the site"
    assert at(tmp_path, SNV, "999 . CGT C 50 PASS . GT 0/1").state == "spanned"


def test_split_multi_allelics_are_put_together_again(tmp_path: Path) -> None:
    for first, second in [("1/0", "0/1"), ("0/1", "0/1"), ("1/.", "./1"), ("1|0", "0|1")]:
        lines = f"1000 . G T 50 PASS . GT {first}", f"1000 . G A 50 PASS . GT {second}"
        found = at(tmp_path, SNV, *lines)
        assert (found.state, sorted(map(str, found.alleles))) == ("genotype", ["A", "T"]), (first, second)
    assert at(tmp_path, SNV, "1000 . G T 50 PASS . GT 1/1", "1000 . G A 50 PASS . GT 0/1").state == "no-call"
    assert at(tmp_path, SNV, "1000 . G T 50 PASS . GT 1|0", "1000 . G A 50 PASS . GT 1|0").state == "no-call"


def test_a_record_twice_is_one_record_and_contradictions_are_no_call(tmp_path: Path) -> None:
    line = "1000 . G A 50 PASS . GT 0/1"
    assert at(tmp_path, SNV, line, line).alleles == ("G", "A")
    assert at(tmp_path, SNV, line, "1000 . G A 50 PASS . GT 1/0").state == "genotype"
    assert at(tmp_path, SNV, line, "1000 . G A 50 PASS . GT 1/1").state == "no-call"
    assert at(tmp_path, SNV, line.replace("/", "|"), "1000 . G A 50 PASS . GT 1|0").state == "no-call"


@pytest.mark.parametrize(
    "line",
    [
        "1000 . G A 50 PASS . GT:GQ:DP 0/0:50:30",
        "1000 . G . 50 PASS . GT:DP 0/0:30",
        "1000 . G T 50 PASS . GT 0/0",
        "990 . C <NON_REF> . . END=1010 GT:DP:GQ:MIN_DP:PL 0/0:30:60:25:0,60,900",
        "990 . C <*> . . END=1010;MinDP=25 GT:PL:DP 0/0:0,60,255:30",
        "990 . C . 50 . END=1010;MinDP=25 GT:DP 0/0:30",
        "990 . C <NON_REF> . . END=1010 GT:DP:GQ 0:30:60",
    ],
)
def test_reference_is_proved_by_records_and_blocks(tmp_path: Path, line: str) -> None:
    found = at(tmp_path, SNV, line)
    assert (found.state, set(found.alleles)) == ("reference", {"G"}), found


@pytest.mark.parametrize(
    "line",
    [
        "1000 . G A 50 PASS . GT ./.",
        "1000 . G A 50 PASS . GT ./1",
        "1000 . G A 50 PASS . GT .",
        "1000 . G A 50 PASS . GT:GQ 0/1:5",
        "1000 . G A 50 PASS . GT:GQ 0/0:5",
        "1000 . G A 50 PASS . GT:PL 0/1:9,0,90",
        "1000 . G A 50 q10 . GT:GQ 0/1:60",
        "1000 . G A 50 PASS . GT:FT 0/1:LowGQ",
        "1000 . G A 50 PASS . GT:DP 0/0:3",
        "990 . C <NON_REF> . . END=1010 GT:DP:GQ:MIN_DP 0/0:30:60:4",
        "990 . C <NON_REF> . . END=1010 GT:DP:GQ:MIN_DP 0/0:30:0:25",
        "990 . C . 50 . END=1010;MinDP=2 GT:DP 0/0:30",
        "990 . C <*> . . END=1010 GT 0/0",
        "990 . C <*> . LowQ END=1010 GT:DP 0/0:30",
        "1000 . G <NON_REF> . . . GT:DP:GQ 0/1:30:60",
        "1000 . G A,<NON_REF> . . . GT:DP:GQ 0/2:30:60",
        "1000 . G A 50 PASS . DP 30",
    ],
)
def test_what_is_not_sure_is_no_call_even_where_covered(tmp_path: Path, line: str) -> None:
    covered = Regions([Region("10", 0, 5000)])
    assert at(tmp_path, SNV, line, covered=covered).state == "no-call"


def test_blocks_of_freebayes_have_no_genotype_but_a_quality(tmp_path: Path) -> None:
    found = at(tmp_path, SNV, "990 . C <*> 0 . END=1010 GQ:DP:MIN_DP 6153:30:20")
    assert (found.state, found.alleles, found.depth) == ("reference", (), 20)
    assert at(tmp_path, SNV, "990 . C <*> 0 . END=1010 GQ:DP:MIN_DP 6153:30:2").state == "no-call"
    assert at(tmp_path, SNV, "1000 . G <*> 0 . . PL:DP 90,0,90:30").state == "no-call", "likelihoods before calling"


def test_half_a_call_shows_the_half_that_is_known(tmp_path: Path) -> None:
    assert at(tmp_path, SNV, "1000 . G A 50 PASS . GT ./1").alleles == (None, "A")


def test_minimum_is_the_callers_to_state(tmp_path: Path) -> None:
    line = "990 . C <NON_REF> . . END=1010 GT:GQ:MIN_DP 0/0:15:6"
    assert at(tmp_path, SNV, line).state == "no-call"
    assert at(tmp_path, SNV, line, minimum=Minimum(quality=10, depth=5)).state == "reference"


def test_absence_proves_nothing_unless_the_site_was_covered(tmp_path: Path) -> None:
    elsewhere = "2000 . G A 50 PASS . GT 0/1"
    assert at(tmp_path, SNV, elsewhere).state == "absent"
    assert at(tmp_path, SNV, elsewhere, covered=Regions([Region("chr10", 999, 1000)])).state == "reference"
    assert at(tmp_path, SNV, elsewhere, covered=Regions([Region("chr10", 1000, 1100)])).state == "absent"
    part = Regions([Region("chr10", 999, 1001)])
    assert at(tmp_path, DELETION, elsewhere, covered=part).state == "absent", "covered in part"


def test_a_line_that_could_not_be_read_may_be_the_sites_so_coverage_proves_nothing(tmp_path: Path) -> None:
    found = at(tmp_path, SNV, "1000 . G A,? 50 PASS . GT 0/1", covered=Regions([Region("chr10", 0, 5000)]))
    assert found.state == "absent"
    assert "could not be read" in found.reason


@pytest.mark.parametrize(
    "line",
    [
        "1000 . G GT 50 PASS . GT 0/1",  # an insertion behind the base
        "1000 . GA G 50 PASS . GT 0/0",  # the base before a deletion
        "999 . CGT C 50 PASS . GT 0/0",  # a deletion that the sample does not have
        "990 . C <DEL> . PASS END=1010 GT 0/0",
        "990 . C <DUP> . PASS END=1010 GT 0/1",
    ],
)
def test_a_record_beside_the_matter_proves_nothing(tmp_path: Path, line: str) -> None:
    assert at(tmp_path, SNV, line).state == "absent"


@pytest.mark.parametrize(
    ("lines", "alleles"),
    [
        (["995 . CTTTTGA C 50 PASS . GT 0/1"], ("G", "*")),
        (["995 . CTTTTGA C 50 PASS . GT 1/1"], ("*", "*")),
        (["900 . C <DEL> 50 PASS END=1200 GT 0/1"], ("G", "*")),
        (["1000 . G *,A 50 PASS . GT 1/2"], ("*", "A")),
        (["995 . CTTTTGA C 50 PASS . GT 0/1", "1000 . G *,A 50 PASS . GT 1/2"], ("A", "*")),
        (["995 . CTTTTGA C 50 PASS . GT 0|1", "1000 . G *,A 50 PASS . GT 2|1"], ("A", "*")),
        (["995 . CTTTTGA C 50 PASS . GT 0/1", "990 . C <*> . . END=1010 GT:DP 0/0:30"], ("G", "*")),
        (["995 . CTTTTGA C 50 PASS . GT 0/1", "998 . TTG T 50 PASS . GT 0/1"], ("*", "*")),
        (["999 . CG C 50 PASS . GT 0/1"], ("G", "*")),
    ],
)
def test_deletions_over_the_site_span_it(tmp_path: Path, lines: list[str], alleles: tuple[str, ...]) -> None:
    found = at(tmp_path, SNV, *lines)
    assert (found.state, found.alleles) == ("spanned", alleles)


def test_a_filtered_deletion_over_the_site_leaves_it_unsure(tmp_path: Path) -> None:
    line = "995 . CTTTTGA C 50 LowQual . GT 0/1"
    assert at(tmp_path, SNV, line, covered=Regions([Region("chr10", 0, 5000)])).state == "no-call"


def test_other_bases_than_expected_are_a_mismatch(tmp_path: Path) -> None:
    assert at(tmp_path, SNV, "1000 . C A 50 PASS . GT 0/1").state == "mismatch"
    assert at(tmp_path, DELETION, "1000 . GAC G 50 PASS . GT 0/1").state == "mismatch"
    assert at(tmp_path, DELETION, "1001 . T C 50 PASS . GT 0/0").state == "mismatch", "inside the site"
    assert at(tmp_path, SNV, "1000 . C <NON_REF> . . END=1010 GT:GQ 0/0:60").state == "mismatch"
    assert at(tmp_path, SNV, "999 . C <NON_REF> . . END=1010 GT:GQ 0/0:60").state == "reference", "base not given"
    assert at(tmp_path, SNV, "1000 . N A 50 PASS . GT 0/1").state == "genotype"
    assert at(tmp_path, SNV, "1000 . g a 50 PASS . GT 0/1").alleles == ("G", "A"), "either case"


def test_deletions_and_insertions_as_sites(tmp_path: Path) -> None:
    assert at(tmp_path, DELETION, "1000 . GAT G 50 PASS . GT 0/1").alleles == ("GAT", "G")
    assert at(tmp_path, DELETION, "1000 . GATC GC,G 50 PASS . GT 1/2").alleles == ("G", "*")
    assert at(tmp_path, DELETION, "1000 . GAT G 50 PASS . GT 0/0").state == "reference"
    assert at(tmp_path, DELETION, "1001 . A C 50 PASS . GT 0/0").state == "absent", "a base of it is not all of it"
    assert at(tmp_path, INSERTION, "1000 . G GTT 50 PASS . GT 1/1").alleles == ("GTT", "GTT")
    assert at(tmp_path, INSERTION, "1000 . G GTT,GT 50 PASS . GT 1/2").alleles == ("GTT", "GT")
    assert at(tmp_path, INSERTION, "1000 . G A 50 PASS . GT 0/0").state == "absent", "an SNV's record is not about it"
    assert at(tmp_path, INSERTION, "995 . CTTTTGA C 50 PASS . GT 0/1").alleles == ("G", "*")


def test_blocks_must_hold_all_of_a_longer_site(tmp_path: Path) -> None:
    first, second = "990 . C <*> . . END=1001 GT:GQ 0/0:60", "1002 . T <*> . . END=1020 GT:GQ 0/0:40"
    assert at(tmp_path, DELETION, first).state == "absent"
    found = at(tmp_path, DELETION, first, second)
    assert (found.state, found.quality) == ("reference", 40)


def test_gvcf_reference_and_filtered_indel_at_one_place(tmp_path: Path) -> None:
    block = "990 . C . 50 . END=1010;MinDP=25 GT:DP 0/0:30"
    assert at(tmp_path, DELETION, block, "1000 . GAT G 50 LowQual . GT 0/1").state == "no-call"
    assert at(tmp_path, DELETION, block, "1000 . GAT G 50 PASS . GT 0/1").state == "genotype"


def test_sites_are_answered_in_the_order_asked_under_any_name_of_the_contig(tmp_path: Path) -> None:
    path = tmp_path / "sample.vcf"
    columns = "#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT S1 S2"
    lines = [columns, "chr10 1000 . G A . . . GT 0/1 1/1", "chr10 1500 . T C . . . GT 0/0 0|1"]
    path.write_text(HEADER + "\n".join(line.replace(" ", "\t") for line in lines) + "\n")
    file = open_variants(path)
    sites = [Site("10", 1499, "T", ("C",)), Site("NC_000010.11", 999, "G", ("A",)), Site("7", 5, "A")]
    assert [call.state for call in sites_at(file, sites, "S1")] == ["reference", "genotype", "absent"]
    assert [call.alleles for call in sites_at(file, sites, "S2")] == [("T", "C"), ("A", "A"), ()]
    with pytest.raises(InputError, match="name the sample"):
        sites_at(file, sites)
    with pytest.raises(InputError, match="no sample 'S3'"):
        sites_at(file, sites, "S3")
