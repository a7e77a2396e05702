"""The page of a genome: recommendations word for word, what is not known beside what is, positions, and no patient."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from html_page import Page, loaded_from_outside

from careloop import InputError
from careloop.genome.findings.finding import Coverage, GenomeFindings, SampleOrigin
from careloop.genome.pharmacogenes.phenotypes import table
from careloop.genome.pharmacogenes.results import GeneResult, UnlistedVariant
from careloop.genome.variant import Variant
from careloop.report.genome_page import advice_of, genome_page, write_genome_page

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><script>alert(1)</script></svg>'
ORIGIN = SampleOrigin(Path("/secret/ward 7/a.vcf"), "a.vcf", "P7", "4711", build="GRCh38", callers=("caller 1.0",))


def _module(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sample = _module(Path(__file__).parents[1] / "sample_genomes.py")


def page(*genes: GeneResult, pictures: dict[str, str] | None = None, **more: Any) -> str:
    pgx = sample.of(*genes, refused=(sample.REFUSED,)) if genes else None
    return genome_page(GenomeFindings(ORIGIN, pgx=pgx, **more), pictures=pictures)


def text(*genes: GeneResult, **more: Any) -> str:
    return Page(page(*genes, **more)).text


def part(html: str, heading: str) -> str:
    """The words of the section with this heading."""
    found = next(each for each in re.findall(r"<section>.*?</section>", html, re.S) if f"<h2>{heading}</h2>" in each)
    return Page(found).text


# --- whole in itself, and whose


def test_it_loads_nothing_runs_nothing_and_names_no_patient(tmp_path: Path) -> None:
    findings = GenomeFindings(ORIGIN, pgx=sample.POOR, variants=(sample.FRAMESHIFT,))
    write_genome_page(findings, tmp_path / "page.html", pictures={"chr1:1000:CT:C": SVG})
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    outside = loaded_from_outside(html)
    assert [each for each in outside if not each.startswith("data:image/svg+xml;base64,")] == []
    assert "script" not in Page(html).tags
    assert "default-src 'none'" in html
    for secret in ("4711", "secret", "ward 7"):
        assert secret not in html
    assert "Genome of sample P7" in html
    assert Page(html).text.count("Research software. Not for clinical use.") == 2


def test_names_from_files_are_escaped() -> None:
    hostile = "<img src=x onerror=alert(1)>"
    gene = sample.result("CYP2C19", status="indeterminate", reasons=(hostile,), sites=(sample.site("*2", "absent"),))
    html = page(
        replace(gene, caveats=(hostile,)),
        variants=(replace(sample.FRAMESHIFT, gene=hostile, hgvs_p=hostile, notes=(hostile,)),),
        coverage=Coverage(hostile, not_covered=(hostile,)),
    )
    assert hostile not in html
    assert Page(html).tags.count("img") == 0


def test_simulated_data_is_called_so() -> None:
    assert "Simulated data" in text(simulated=True)
    assert "Simulated data" not in text()


# --- drugs


def test_recommendations_are_word_for_word_with_source_and_strength() -> None:
    said = part(page(*sample.POOR.genes), "Drugs")
    rule = sample.POOR.genes[0].recommendations[0]
    assert rule.text in said
    assert rule.text in {row["recommendation"] for row in table("published") + table("recommendations")}
    assert f"{rule.citation}; strength: {rule.strength.lower()}; table: {rule.source}" in said
    assert "clopidogrel for CYP2C19 poor metabolizer advises against" in said


def test_the_summary_names_each_drug_once_by_its_gene() -> None:
    short = part(page(*sample.POOR.genes, sample.result("TPMT", "*3A/*3A")), "In short")
    assert "CPIC advises against clopidogrel (CYP2C19)." in short
    assert short.count("azathioprine") == 1


def test_drugs_with_the_same_words_stand_together() -> None:
    rule = sample.POOR.genes[0].recommendations[0]
    alike = tuple(replace(rule, drug=drug) for drug in ("b", "a", "a"))
    other = replace(rule, drug="c", severity="info", text="As always.")
    gene = replace(sample.POOR.genes[0], recommendations=(other, *alike))
    assert [each.drugs for each in advice_of((gene, gene))] == [("a", "b"), ("c",)]


def test_usual_starts_are_folded_and_not_in_the_summary() -> None:
    html = page(sample.result("CYP2C19", "*1/*1"))
    assert "clopidogrel" not in part(html, "In short")
    assert "gives a reason to start a drug otherwise than usual" in part(html, "In short")
    assert "1 more for which CPIC gives no reason" in part(html, "Drugs")


# --- what is not known


def test_not_known_is_never_shown_as_normal() -> None:
    html = page(*sample.UNSEEN.genes)
    short = part(html, "In short")
    assert "Not known: CYP2C19. Not known is not normal: before a drug that depends on it, test." in short
    assert "rs4244285 is absent from the file" in short
    assert "clopidogrel" in short  # what the gene is asked for
    assert "*1" not in Page(html).text
    genes = part(html, "Pharmacogenes")
    assert "CYP2C19 not known not known" in genes
    assert "1 of 2" in genes


def test_diplotypes_that_disagree_are_not_known_and_all_shown() -> None:
    genes = part(page(sample.result("CYP2C19", "*1/*2", "*2/*2")), "Pharmacogenes")
    assert "*1/*2 or *2/*2 all of these fit" in genes
    assert "not known" in genes


def test_many_diplotypes_are_folded_but_whole() -> None:
    names = [f"*3A/*{n}" for n in (2, 3, 4, 5, 6, 7)]
    genes = part(page(sample.result("TPMT", *names)), "Pharmacogenes")
    assert f"{' or '.join(names[:4])} and 2 more that fit {', '.join(names[4:])}" in genes


def test_a_refused_gene_says_what_could_tell() -> None:
    html = page(*sample.POOR.genes)
    assert "Not read: CYP2D6." in part(html, "In short")
    assert "CYP2D6 not read structural alleles" in part(html, "Pharmacogenes")
    assert "What can tell: a CYP2D6 assay" in part(html, "Pharmacogenes")


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("absent", "not in the file"), ("no-call", "no call"), ("mismatch", "other reference base"),
        ("spanned", "inside a deletion"),
    ],
)  # fmt: skip
def test_each_position_says_what_was_seen(state: Any, words: str) -> None:
    sites = (sample.site("*3", "reference", alleles=("G", "G")), sample.site("*2", state, reason="the reason"))
    genes = part(page(sample.result("CYP2C19", status="indeterminate", sites=sites)), "Pharmacogenes")
    assert f"rs4244285 chr10:94,781,859 G > A {words} 30 the reason" in genes
    assert "rs4986893 chr10:94,780,653 G > A reference 30" in genes
    assert genes.index("rs4244285 chr10") < genes.index("rs4986893 chr10")  # what is not known comes first


def test_seen_bases_and_phase() -> None:
    phased = sample.site("*2", "genotype", alleles=("A", "G"))
    phased = replace(phased, call=replace(phased.call, phased=True))
    genes = part(page(sample.result("CYP2C19", "*1/*2", sites=(phased,))), "Pharmacogenes")
    assert "G > A A|G 30" in genes


def test_variants_that_the_table_leaves_out_are_told() -> None:
    long = UnlistedVariant(Variant("chr10", 99, "A", "A" + "T" * 300), in_exon=True, filtered=True)
    genes = part(page(replace(sample.POOR.genes[0], unlisted_variants=(long,))), "Pharmacogenes")
    assert "chr10:100 A > ATTTTTTTTTTT… (301 bases), in or beside an exon (filtered in the file)" in genes


# --- variants of interest


def test_a_variant_has_its_words_evidence_and_reads() -> None:
    html = page(variants=(sample.FRAMESHIFT,), pictures={"chr1:1000:CT:C": SVG})
    said = part(html, "Variants of interest")
    assert "GENE1: NP_000001.1:p.(Leu2ArgfsTer9) heterozygous; frameshift variant." in said
    assert "Suggested: likely pathogenic" in said
    assert "a person must review it" in said
    assert "PVS1 frameshift in a gene where loss is harmful" in said
    assert "14 of 31 reads have it, quality 55" in said
    picture = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    assert picture is not None
    assert base64.b64decode(picture[1]).decode() == SVG
    assert "1 variant of interest , suggested to be pathogenic" in part(html, "In short")


def test_a_variant_that_could_not_be_judged_is_not_known() -> None:
    unsure = replace(
        sample.FRAMESHIFT, presence="indeterminate", reason="no call: 2 reads", copies=None, significance=""
    )
    said = part(page(variants=(unsure,)), "Variants of interest")
    assert "not known no call: 2 reads" in said
    assert "zygous" not in said


def test_none_found_is_no_proof_of_absence() -> None:
    said = part(page(variants=()), "Variants of interest")
    assert "Where the file does not cover the genome, nothing is known." in said


def test_a_position_has_its_reads_too() -> None:
    html = page(*sample.POOR.genes, pictures={"chr10:94781859:G:A": SVG})
    assert html.count("data:image/svg+xml") == 1


@pytest.mark.parametrize("picture", ["<img src=x>", "", "not a picture"])
def test_only_svg_is_taken(picture: str) -> None:
    with pytest.raises(InputError, match="SVG"):
        page(pictures={"x": picture})


# --- what was looked at


def test_build_caller_coverage_and_tables_are_told() -> None:
    coverage = Coverage("9 genes", 31.2, 0.982, tuple(f"exon {n}" for n in range(1, 15)))
    said = part(page(*sample.POOR.genes, coverage=coverage, tables={"ClinVar": "2026-03"}), "What was looked at")
    for words in (
        "Assembly GRCh38", "Called by caller 1.0", "no date: a fact for life", "Looked at 9 genes", "31 reads",
        "98.2 % of what", "CPIC database 1.30.0", "ClinVar 2026-03", "exon 12; and 2 more",
    ):  # fmt: skip
        assert words in said


def test_what_was_not_looked_for_has_no_section() -> None:
    headings = ("Drugs", "Pharmacogenes", "Variants of interest")
    assert [f"<h2>{each}</h2>" in page() for each in headings] == [False, False, False]
    assert [f"<h2>{each}</h2>" in page(variants=()) for each in headings] == [False, False, True]
    assert [f"<h2>{each}</h2>" in page(*sample.POOR.genes) for each in headings] == [True, True, False]
