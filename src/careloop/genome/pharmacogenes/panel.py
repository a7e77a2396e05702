"""From a variant file to diplotypes, phenotypes and CPIC's recommendations, every absent position accounted for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from careloop.genome.files.reference import open_reference
from careloop.genome.files.regions import Regions, read_bed
from careloop.genome.files.sites import SiteCall, sites_at
from careloop.genome.files.variant_file import VariantFile, open_variants
from careloop.genome.pharmacogenes.assembly import assembly_of, require_bases, require_reference
from careloop.genome.pharmacogenes.definitions import BUILDS, GeneDefinition, read_definitions
from careloop.genome.pharmacogenes.gene_result import gene_result
from careloop.genome.pharmacogenes.guidelines import Recommendation, read_guidelines
from careloop.genome.pharmacogenes.limits import REFUSED, refused_gene
from careloop.genome.pharmacogenes.phenotypes import Genotype
from careloop.genome.pharmacogenes.results import GeneResult, PgxResult
from careloop.genome.pharmacogenes.unlisted_variants import unlisted_variants
from careloop.genome.variant import Record

Progress = Callable[[str, int, int], None]
VERSIONS = {
    "phenotypes": "CPIC's tables in pypgx 0.27.0",
    "recommendations": "CPIC's guidelines in pypgx 0.27.0 and as published; each names its year and PMID",
}
_RESEARCH = "Research software, not for clinical use: what would change a treatment must be confirmed by a laboratory."
_NO_COVERAGE = (
    "No covered regions were given: a position that the file does not mention counts as not known, not as reference, "
    "unless the file itself has blocks of covered reference."
)


def pharmacogenes(
    variants: Path,
    *,
    sample: str | None = None,
    genes: Sequence[str] = (),
    covered: Path | None = None,
    reference: Path | None = None,
    progress: Progress | None = None,
) -> PgxResult:
    """Read the genes that decide on drugs from a VCF, gVCF or BCF file on GRCh37 or GRCh38.

    `sample` may be left out where the file has one. `genes` names some of CYP2C19, CYP2C9, TPMT, NUDT15, DPYD, VKORC1,
    CYP3A5, SLCO1B1 and UGT1A1; all of them by default. Other genes are refused, with the test that would be needed.
    `covered` is a BED file of what was sequenced and looked at: only there is a position that the file does not mention
    reference. `reference` is a FASTA whose bases at the defining positions are checked against the tables.

    Raises:
        InputError: a file that cannot be read; no such sample; another assembly than GRCh37 or GRCh38, or none that
            can be told; REF bases or variants that belong to another assembly than the file says.
    """
    asked, refused = _asked(genes)
    regions = None if covered is None else read_bed(covered)
    file = open_variants(variants)
    build, records = _checked(file, asked, reference)
    sites = [site for gene in asked for site in gene.sites(build)]
    calls = iter(sites_at(file, sites, sample, covered=regions)) if asked else iter(())
    by_gene = {gene.gene: [next(calls) for _ in gene.positions] for gene in asked}
    require_bases([call for found in by_gene.values() for call in found], build, where=str(file.path))
    name = sample or (file.header.samples[0] if file.header.samples else "")
    results = []
    for done, gene in enumerate(asked, start=1):
        unlisted = unlisted_variants(gene, build, records, name)
        results.append(gene_result(gene, build, by_gene[gene.gene], unlisted))
        if progress is not None:
            progress("pharmacogenes", done, len(asked))
    return PgxResult(
        sample=name,
        build=build,
        file=str(variants),
        genes=_with_recommendations(results),
        refused=tuple(map(refused_gene, refused)),
        caveats=tuple(_caveats(file, by_gene, regions)),
        versions={**VERSIONS, "allele definitions": ", ".join(sorted({gene.version for gene in asked}))},
    )


def _asked(genes: Sequence[str]) -> tuple[list[GeneDefinition], list[str]]:
    """The genes to read, and those to refuse: by default all that are known."""
    known = read_definitions()
    names = list(dict.fromkeys(gene.strip().upper() for gene in genes)) or [*known, *REFUSED]
    return [known[name] for name in names if name in known], [name for name in names if name not in known]


def _checked(file: VariantFile, asked: Sequence[GeneDefinition], reference: Path | None) -> tuple[str, list[Record]]:
    """The assembly, and the file's records with alternative alleles in all the genes.

    All genes of the tables tell the assembly, also where few are asked for: one gene has few variants.
    """
    genes = list(read_definitions().values())
    regions = list(Regions(gene.regions[build] for gene in genes for build in BUILDS))
    records = [record for record in file.records_in(regions) if record.variants]
    if reference is None:
        return assembly_of(file, None, genes, records), records
    with open_reference(reference) as opened:
        build = assembly_of(file, opened, genes, records)
        require_reference((site for gene in asked for site in gene.sites(build)), opened)
    return build, records


def _with_recommendations(results: Sequence[GeneResult]) -> tuple[GeneResult, ...]:
    """The results with what CPIC recommends for each gene whose phenotype is settled, alone or with another gene."""
    genotypes = {result.gene: result.genotype for result in results}
    found = list(_recommendations(genotypes))
    return tuple(
        replace(result, recommendations=tuple(rule for rule in found if result.settled and result.gene in rule.genes))
        for result in results
    )


def _recommendations(genotypes: Mapping[str, Genotype]) -> Iterator[Recommendation]:
    guidelines = read_guidelines()
    for drug in guidelines.rules_by_drug:
        for rule, _ in guidelines.matching(drug, genotypes):
            yield rule


def _caveats(file: VariantFile, by_gene: Mapping[str, Sequence[SiteCall]], covered: Regions | None) -> Iterator[str]:
    yield _RESEARCH
    if covered is None and any(call.state == "absent" for calls in by_gene.values() for call in calls):
        yield _NO_COVERAGE
    if file.rejects.total:
        yield f"{file.rejects.total} lines of the file could not be read: no position is taken as reference by silence."
