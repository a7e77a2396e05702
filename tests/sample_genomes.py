"""A made-up patient's variant file, and findings of it: clear genes, genes that are not known or refused, variants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from careloop.genome.files.sites import Site, SiteCall, State
from careloop.genome.findings.finding import Evidence, VariantFinding
from careloop.genome.pharmacogenes.guidelines import read_guidelines
from careloop.genome.pharmacogenes.phenotypes import genotype
from careloop.genome.pharmacogenes.results import DefiningSite, Diplotype, GeneResult, PgxResult, RefusedGene
from careloop.genome.variant import Variant

COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT"
HG38 = "##contig=<ID=chr10,length=133797422>\n##contig=<ID=chr1,length=248956422>"
PLACES = {"*2": ("chr10", 94781858, "G", "A", "rs4244285"), "*3": ("chr10", 94780652, "G", "A", "rs4986893")}


def vcf(path: Path, *, lines: tuple[str, ...] = ("##source=caller 1.0",), samples: tuple[str, ...] = ("P7",)) -> Path:
    head = "\n".join(("##fileformat=VCFv4.3", *lines, HG38, "\t".join((COLUMNS, *samples))))
    row = "\t".join(("chr10\t94781859\trs4244285\tG\tA\t90\tPASS\t.\tGT:DP", *("1/1:30" for _ in samples)))
    path.write_text(f"{head}\n{row}\n")
    return path


def site(allele: str, state: State, *, alleles: tuple[str | None, ...] = (), reason: str = "") -> DefiningSite:
    contig, start, ref, alt, name = PLACES[allele]
    call = SiteCall(Site(contig, start, ref, (alt,), name), state, alleles, depth=30, reason=reason)
    return DefiningSite(name, call, call.known)


def result(gene: str, *diplotypes: str, **more: Any) -> GeneResult:
    """A gene with these diplotypes, and the phenotype that careloop's tables give them."""
    known = genotype(gene, " or ".join(diplotypes) or "indeterminate")
    read = tuple(Diplotype(*text.split("/")) for text in diplotypes)
    status = more.pop("status", "called" if len(read) == 1 else "ambiguous")
    recommendations = tuple(
        rule for drug in DRUGS.get(gene, ()) for rule, _ in read_guidelines().matching(drug, {gene: known})
    )
    return GeneResult(
        gene, status, read, known, (known.phenotype,), more.pop("sites", ()), recommendations, **more,
    )  # fmt: skip


def of(*genes: GeneResult, refused: tuple[RefusedGene, ...] = ()) -> PgxResult:
    return PgxResult("P7", "GRCh38", "a.vcf", genes, refused, versions={"CPIC": "database 1.30.0"})


DRUGS = {"CYP2C19": ("clopidogrel",), "CYP2C9": ("celecoxib",), "TPMT": ("azathioprine",)}
POOR_GENE = result(
    "CYP2C19", "*2/*2",
    sites=(site("*2", "genotype", alleles=("A", "A")), site("*3", "reference", alleles=("G", "G"))),
)  # fmt: skip
UNSEEN_GENE = result(
    "CYP2C19", status="indeterminate", reasons=("rs4244285 is absent from the file and nothing proves reference",),
    sites=(site("*2", "absent", reason="not in the file"), site("*3", "reference", alleles=("G", "G"))),
)  # fmt: skip
REFUSED = RefusedGene("CYP2D6", "structural alleles cannot be told from a plain variant file", "a CYP2D6 assay")
POOR, UNSEEN = of(POOR_GENE, refused=(REFUSED,)), of(UNSEEN_GENE)
FRAMESHIFT = VariantFinding(
    Variant("chr1", 999, "CT", "C"), "GENE1", "NM_000001.1:c.5del", "NP_000001.1:p.(Leu2ArgfsTer9)",
    consequences=("frameshift_variant",), copies=1, genotype="0/1", depth=31, allele_depth=14, quality=55.0,
    significance="likely pathogenic", evidence=(Evidence("PVS1", "frameshift in a gene where loss is harmful"),),
    known_as=("rs1",),
)  # fmt: skip
