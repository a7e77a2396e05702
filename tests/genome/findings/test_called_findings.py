"""Records of a variant file as findings of one sample."""

from __future__ import annotations

from pathlib import Path

import pytest

from careloop.genome.annotate.effect import Effect
from careloop.genome.annotate.transcript import Transcript
from careloop.genome.files.variant_file import open_variants
from careloop.genome.findings.annotated import with_effect
from careloop.genome.findings.called import called_variants
from careloop.genome.findings.finding import VariantFinding
from careloop.genome.variant import Variant

HEAD = """##fileformat=VCFv4.3
##FILTER=<ID=LowQual,Description="x">
##FORMAT=<ID=GT,Number=1,Type=String,Description="x">
##FORMAT=<ID=AD,Number=R,Type=Integer,Description="x">
##FORMAT=<ID=DP,Number=1,Type=Integer,Description="x">
##contig=<ID=1,length=249250621>
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS\tT
"""


def found(
    folder: Path, alts: str, genotype: str, *, filters: str = "PASS", sample: str = "S"
) -> list[tuple[object, ...]]:
    path = folder / "a.vcf"
    path.write_text(
        f"{HEAD}1\t100\trs7;rs8\tA\t{alts}\t50\t{filters}\t.\tGT:AD:DP\t{genotype}:10,9,8:27\t0/0:20,0,0:20\n"
    )
    (record,) = open_variants(path).records()
    return [
        (each.variant.alt, each.zygosity, each.presence, each.allele_depth) for each in called_variants(record, sample)
    ]


@pytest.mark.parametrize(
    ("alts", "genotype", "expected"),
    [
        ("C", "0/1", [("C", "heterozygous", "present", 9)]),
        ("C", "1|1", [("C", "homozygous", "present", 9)]),
        ("C", "1", [("C", "hemizygous", "present", 9)]),
        ("C", "0/0", []),
        ("C", "./.", [("C", "", "indeterminate", 9)]),
        ("C", "./1", [("C", "", "indeterminate", 9)]),
        ("C,G", "1/2", [("C", "heterozygous", "present", 9), ("G", "heterozygous", "present", 8)]),
        ("C,G", "0/2", [("G", "heterozygous", "present", 8)]),
        ("C,<NON_REF>", "0/1", [("C", "heterozygous", "present", 9)]),
    ],
)
def test_each_allele_that_the_sample_has(
    tmp_path: Path, alts: str, genotype: str, expected: list[tuple[object, ...]]
) -> None:
    assert found(tmp_path, alts, genotype) == expected


def test_another_sample_has_none(tmp_path: Path) -> None:
    assert found(tmp_path, "C", "0/1", sample="T") == []


def test_what_the_file_filters_is_neither_present_nor_absent(tmp_path: Path) -> None:
    assert found(tmp_path, "C", "0/1", filters="LowQual") == [("C", "heterozygous", "indeterminate", 9)]
    (record,) = open_variants(tmp_path / "a.vcf").records()
    (each,) = called_variants(record, "S")
    assert each.reason == "filtered by the caller: LowQual"
    assert (each.filters, each.known_as, each.genotype, each.depth) == (("LowQual",), ("rs7", "rs8"), "0/1", 27)


def test_an_effect_gives_gene_names_and_consequences() -> None:
    transcript = Transcript("NM_000001.1", "1234", "GENE1", "1", 1, ((90, 200),), ((90, 200),))
    effect = Effect(transcript, "C", ("missense_variant",), "MODERATE", hgvs_c="c.10A>C", hgvs_p="p.(Asn4His)")
    finding = with_effect(VariantFinding(Variant("1", 99, "A", "C")), effect)
    assert (finding.gene, finding.hgvs_c, finding.hgvs_p) == ("GENE1", "NM_000001.1:c.10A>C", "p.(Asn4His)")
    assert finding.consequences == ("missense_variant",)
    between = with_effect(finding, Effect(None, "C", ("intergenic_variant",), "MODIFIER"))
    assert (between.gene, between.hgvs_c, between.hgvs_p) == ("", "", "")
