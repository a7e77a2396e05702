"""Records of a variant file as findings of one sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from careloop.genome.annotate.acmg.assess import Assessment
from careloop.genome.annotate.acmg.criteria import Flag
from careloop.genome.annotate.annotator import AnnotatedVariant
from careloop.genome.annotate.effect import Effect
from careloop.genome.annotate.transcript import Transcript
from careloop.genome.files.variant_file import open_variants
from careloop.genome.findings.annotated import annotated_findings, with_effect
from careloop.genome.findings.called import called_variants
from careloop.genome.findings.finding import Evidence
from careloop.genome.variant import Record, SampleCall

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


TRANSCRIPT = Transcript("NM_000001.1", "1234", "GENE1", "1", 1, ((90, 200),), ((90, 200),))
OTHER = Transcript("NR_000002.1", "5678", "", "1", 1, ((90, 200),))
MISSENSE = Effect(TRANSCRIPT, "C", ("missense_variant",), "MODERATE", hgvs_c="c.10A>C", hgvs_p="p.(Asn4His)")
SILENT = Effect(OTHER, "C", ("non_coding_transcript_exon_variant",), "MODIFIER", hgvs_c="n.10A>C")
PVS1 = Flag("PVS1", "very strong", "loss", "genes")
PM2, PP3 = Flag("PM2", "supporting", "rare", "gnomAD"), Flag("PP3", "supporting", "score", "REVEL")


def annotated(
    *picked: Effect, flags: tuple[Flag, ...] = (), alleles: tuple[int | None, ...] = (0, 1)
) -> AnnotatedVariant:
    record = Record("1", 99, 100, "A", ("C",), samples={"S": SampleCall(alleles)})
    return AnnotatedVariant(record, picked, picked, "NC_1:g.100A>C", {}, Assessment(flags, {}, {}))


def test_an_effect_gives_gene_names_and_consequences() -> None:
    (finding,) = annotated_findings(annotated(MISSENSE, SILENT), "S")
    assert (finding.gene, finding.hgvs_c, finding.hgvs_p) == ("GENE1", "NM_000001.1:c.10A>C", "p.(Asn4His)")
    assert (finding.hgvs_g, finding.zygosity) == ("NC_1:g.100A>C", "heterozygous")
    assert finding.consequences == ("missense_variant",)
    between = with_effect(finding, Effect(None, "C", ("intergenic_variant",), "MODIFIER"))
    assert (between.gene, between.hgvs_c, between.hgvs_p) == ("", "", "")


def test_of_interest_are_genes_it_may_matter_in() -> None:
    def genes(*picked: Effect, **more: Any) -> list[tuple[str, str]]:
        return [(each.gene, each.significance) for each in annotated_findings(annotated(*picked, **more), "S")]

    assert genes(SILENT) == []
    assert genes(SILENT, flags=(PVS1, PM2)) == [("5678", "likely pathogenic")]
    assert genes(MISSENSE, SILENT, flags=(PVS1, PM2, PP3)) == [("GENE1", "pathogenic")]
    assert genes(MISSENSE) == [("GENE1", "")]  # no criterion, no suggestion
    assert genes(MISSENSE, alleles=(0, 0)) == []
    assert genes(MISSENSE, alleles=(None, None)) == [("GENE1", "")]


def test_evidence_comes_with_its_reasons_and_both_classes() -> None:
    (finding,) = annotated_findings(annotated(MISSENSE, flags=(PVS1,)), "S")
    assert finding.evidence == (Evidence("PVS1", "loss"),)
    assert finding.significance == "uncertain significance"  # one very strong alone, by the rules of 2015
    assert finding.notes == ("by points: likely pathogenic",)
