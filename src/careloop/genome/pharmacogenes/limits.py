"""What a plain variant file cannot show: genes that are refused with the test that can, and each gene's limits."""

from __future__ import annotations

from careloop.genome.pharmacogenes.definitions import GeneDefinition
from careloop.genome.pharmacogenes.results import RefusedGene

_NO_DEFINITIONS = "careloop has no table of its alleles' positions that was checked on both assemblies"
_HLA = RefusedGene(
    "HLA",
    "HLA alleles differ at hundreds of positions where short reads of one gene map to another, so that a variant file "
    "of single positions does not name them",
    "HLA typing to two fields (sequencing-based typing, or a test of the single allele)",
)
REFUSED = {
    refused.gene: refused
    for refused in (
        RefusedGene(
            "CYP2D6",
            "deletions, duplications and hybrids with CYP2D7 decide its function, and a plain variant file shows none "
            "of them; variants called in the reads of CYP2D7 also mislead",
            "a CYP2D6 assay with copy number and hybrid detection (long-range PCR, long reads, or a caller that works "
            "on the reads)",
        ),
        RefusedGene(
            "CYP2B6",
            "hybrids with CYP2B7 (*29, *30) and reads that map to CYP2B7 make alleles that a plain variant file does "
            "not show",
            "a CYP2B6 assay that includes hybrids with CYP2B7",
        ),
        RefusedGene("HLA-A", _HLA.reason, _HLA.test),
        RefusedGene("HLA-B", _HLA.reason, _HLA.test),
        RefusedGene(
            "G6PD",
            "it lies on the X chromosome, so that one or two copies and skewed inactivation decide its activity; "
            + _NO_DEFINITIONS,
            "a quantitative test of G6PD enzyme activity, or a G6PD genotyping panel",
        ),
    )
}
_STRUCTURAL = "{alleles} (large deletions or duplications) are not looked for: a plain variant file does not show them."
_REFERENCE = (
    "At {site} {build} has {ref}, the base of {owner} and not of {reference}: a file that lists only differences from "
    "it says nothing of this position, unless coverage is given."
)
_OWN = {
    "UGT1A1": (
        "The TA repeat of the promoter (*28, *36, *37) is often miscalled from short reads and can be written in many "
        "ways; a result that matters should be confirmed by fragment analysis or Sanger sequencing.",
        "rs887829 (*80) mostly goes with *28 or *37, but is no proof of them: *28 is named only where the repeat "
        "itself was called.",
    ),
    "DPYD": (
        "Variants of DPYD whose phase is not known count as lying on two strands: the two lowest activities are "
        "added, as CPIC's guideline does (Amstutz et al. 2018).",
        "HapB3 is named only where both c.1129-5923C>G, which is in an intron that exome sequencing leaves out, and "
        "c.1236G>A are present.",
    ),
    "TPMT": (
        "Unphased, *1/*3A and *3B/*3C look alike. *1/*3A is by far the commoner, but only phased data or a measured "
        "enzyme activity tells them apart.",
    ),
    "VKORC1": ("Only rs9923231 (-1639G>A) is read; rare variants of warfarin resistance in the exons are not.",),
    "CYP2C9": (
        "For warfarin in people of African ancestry CPIC also asks for rs12777823 beside CYP2C9, which is not read.",
    ),
    "SLCO1B1": (
        "SLCO1B1*5 and *15 are told apart only by phased data; both have no function, so that the phenotype does not "
        "depend on it.",
    ),
}


def refused_gene(gene: str) -> RefusedGene:
    """Why a gene is not read from a variant file, and the test that would be needed; any HLA gene counts as HLA."""
    if gene in REFUSED:
        return REFUSED[gene]
    if gene.startswith("HLA"):
        return RefusedGene(gene, _HLA.reason, _HLA.test)
    return RefusedGene(gene, _NO_DEFINITIONS, f"a laboratory's own result for {gene}, recorded as a diplotype")


def gene_limits(gene: GeneDefinition, build: str) -> tuple[str, ...]:
    """What a clinician has to know of a gene's result, whatever it is."""
    limits = list(_OWN.get(gene.gene, ()))
    for position in gene.positions:
        if position.refs[build] != position.base:
            own = {position.name: frozenset({position.refs[build]})}
            owner = next(allele.name for allele in gene.alleles if allele.bases == own)
            limits.append(
                _REFERENCE.format(
                    site=position.name,
                    build=build,
                    ref=position.refs[build],
                    owner=owner,
                    reference=gene.reference_allele.name,
                )
            )
    if gene.structural:
        limits.append(_STRUCTURAL.format(alleles=", ".join(gene.structural)))
    return tuple(limits)
