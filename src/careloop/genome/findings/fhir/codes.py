"""Codes of HL7's Genomics Reporting Implementation Guide STU3 (3.0.0, R4), and what careloop's words are in them.

Profiles and the codes of their elements: https://hl7.org/fhir/uv/genomics-reporting/STU3/ (CC0). Answers are those of
the LOINC lists that the profiles bind to: LL1971-2 (assessment), LL381-5 (allelic state), LL1040-6 (assembly), LL2938-0
(chromosome), LL378-1 (source class), LL5323-2 (coordinates), LL4034-6 (significance), LL541-4 (overall result).
"""

from __future__ import annotations

from careloop.genome.files.contigs import CHROMOSOMES, build_of_accession, canonical_contig

Coded = tuple[str, str]  # code and display

GUIDE = "http://hl7.org/fhir/uv/genomics-reporting"
PROFILE = f"{GUIDE}/StructureDefinition"
LOINC, UCUM, HGVS = "http://loinc.org", "http://unitsofmeasure.org", "http://varnomen.hgvs.org"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
HGNC, SEQUENCE_ONTOLOGY = "http://www.genenames.org", "http://www.sequenceontology.org"
REFSEQ, DBSNP = "http://www.ncbi.nlm.nih.gov/refseq", "http://www.ncbi.nlm.nih.gov/projects/SNP"
CLINVAR = "http://www.ncbi.nlm.nih.gov/clinvar"
TO_BE_DETERMINED = f"{GUIDE}/CodeSystem/tbd-codes-cs"
METHOD, STUDY_TYPE = (f"{GUIDE}/CodeSystem/genomic-study-{kind}-cs" for kind in ("method-type", "type"))
ANNOTATION = f"{GUIDE}/CodeSystem/coded-annotation-types-cs"
RELATED_ARTIFACT = "http://hl7.org/fhir/StructureDefinition/workflow-relatedArtifact"
LABORATORY = ("http://terminology.hl7.org/CodeSystem/observation-category", "laboratory")
GENETICS = ("http://terminology.hl7.org/CodeSystem/v2-0074", "GE")

# Observation.code and DiagnosticReport.code
VARIANT: Coded = ("69548-6", "Genetic variant assessment")
GENOTYPE: Coded = ("84413-4", "Genotype display name")
REPORT: Coded = ("51969-4", "Genetic analysis report")
# Components
GENE_STUDIED: Coded = ("48018-6", "Gene studied [ID]")
CODING_HGVS: Coded = ("48004-6", "DNA change (c.HGVS)")
PROTEIN_HGVS: Coded = ("48005-3", "Amino acid change (pHGVS)")
GENOMIC_HGVS: Coded = ("81290-9", "Genomic DNA change (gHGVS)")
REFERENCE_SEQUENCE: Coded = ("48013-7", "Genomic reference sequence [ID]")
TRANSCRIPT: Coded = ("51958-7", "Transcript reference sequence [ID]")
ASSEMBLY: Coded = ("62374-4", "Human reference sequence assembly version")
CHROMOSOME: Coded = ("48000-4", "Chromosome")
REF_ALLELE: Coded = ("69547-8", "Genomic ref allele [ID]")
ALT_ALLELE: Coded = ("69551-0", "Genomic alt allele [ID]")
COORDINATES: Coded = ("92822-6", "Genomic coord system")
START_END: Coded = ("81254-5", "Variant exact start-end")
ALLELIC_STATE: Coded = ("53034-5", "Allelic state")
SOURCE_CLASS: Coded = ("48002-0", "Genomic source class")
READ_DEPTH: Coded = ("82121-5", "Allelic read depth")
VARIATION_CODE: Coded = ("81252-9", "Discrete genetic variant")
SIGNIFICANCE: Coded = ("53037-8", "Genetic variation clinical significance [Imp]")
MEDICATION: Coded = ("51963-7", "Medication assessed [ID]")
EVIDENCE_LEVEL: Coded = ("93044-6", "Level of evidence")

# Answers, by careloop's words
ASSESSMENT: dict[str, Coded] = {
    "present": ("LA9633-4", "Present"),
    "absent": ("LA9634-2", "Absent"),
    "no-call": ("LA18198-4", "No call"),
    "indeterminate": ("LA11884-6", "Indeterminate"),
}
ZYGOSITY: dict[str, Coded] = {
    "heterozygous": ("LA6706-1", "Heterozygous"),
    "homozygous": ("LA6705-3", "Homozygous"),
    "hemizygous": ("LA6707-9", "Hemizygous"),
}
ASSEMBLIES: dict[str, Coded] = {"GRCh37": ("LA14029-5", "GRCh37"), "GRCh38": ("LA26806-2", "GRCh38")}
SOURCES: dict[str, Coded] = {"germline": ("LA6683-2", "Germline"), "somatic": ("LA6684-0", "Somatic")}
ONE_BASED: Coded = ("LA30102-0", "1-based character counting")
SIGNIFICANCES: dict[str, Coded] = {
    "pathogenic": ("LA6668-3", "Pathogenic"),
    "likely pathogenic": ("LA26332-9", "Likely pathogenic"),
    "uncertain significance": ("LA26333-7", "Uncertain significance"),
    "likely benign": ("LA26334-5", "Likely benign"),
    "benign": ("LA6675-8", "Benign"),
}
OVERALL: dict[str, Coded] = {"positive": ("LA6576-8", "Positive"), "inconclusive": ("LA9663-1", "Inconclusive")}
PHENOTYPES: dict[str, Coded] = {
    "Ultrarapid Metabolizer": ("LA10315-2", "Ultrarapid metabolizer"),
    "Rapid Metabolizer": ("LA25390-8", "Rapid metabolizer"),
    "Normal Metabolizer": ("LA25391-6", "Normal metabolizer"),
    "Intermediate Metabolizer": ("LA10317-8", "Intermediate metabolizer"),
    "Poor Metabolizer": ("LA9657-3", "Poor metabolizer"),
    "Increased Function": ("LA25392-4", "Increased function"),
    "Normal Function": ("LA25393-2", "Normal function"),
    "Decreased Function": ("LA25395-7", "Decreased function"),
    "Poor Function": ("LA25394-0", "Poor function"),
}
# LL2938-0, in the order of CHROMOSOMES; LOINC's last digit is a check digit.
_CHROMOSOME_CODES = (
    "LA21254-0", "LA21255-7", "LA21256-5", "LA21257-3", "LA21258-1", "LA21259-9", "LA21260-7", "LA21261-5",
    "LA21262-3", "LA21263-1", "LA21264-9", "LA21265-6", "LA21266-4", "LA21267-2", "LA21268-0", "LA21269-8",
    "LA21270-6", "LA21271-4", "LA21272-2", "LA21273-0", "LA21274-8", "LA21275-5", "LA21276-3", "LA21277-1",
)  # fmt: skip
# HGNC ids of the genes that careloop reads or refuses; other genes are given by their symbol alone.
HGNC_IDS = {
    "CYP2B6": 2615, "CYP2C19": 2621, "CYP2C9": 2623, "CYP2D6": 2625, "CYP3A5": 2638, "DPYD": 3012, "HLA-A": 4931,
    "HLA-B": 4932, "NUDT15": 23063, "SLCO1B1": 10959, "TPMT": 12014, "UGT1A1": 12530, "VKORC1": 23663,
}  # fmt: skip
# Sequence Ontology, terms of consequences (https://www.ensembl.org/info/genome/variation/prediction).
SO_IDS = {
    "transcript_ablation": 1893, "splice_acceptor_variant": 1574, "splice_donor_variant": 1575, "stop_gained": 1587,
    "frameshift_variant": 1589, "stop_lost": 1578, "start_lost": 2012, "inframe_insertion": 1821,
    "inframe_deletion": 1822, "missense_variant": 1583, "protein_altering_variant": 1818,
    "splice_donor_5th_base_variant": 1787, "splice_region_variant": 1630, "splice_donor_region_variant": 2170,
    "splice_polypyrimidine_tract_variant": 2169, "incomplete_terminal_codon_variant": 1626,
    "start_retained_variant": 2019, "stop_retained_variant": 1567, "synonymous_variant": 1819,
    "coding_sequence_variant": 1580, "5_prime_UTR_variant": 1623, "3_prime_UTR_variant": 1624,
    "non_coding_transcript_exon_variant": 1792, "intron_variant": 1627, "NMD_transcript_variant": 1621,
    "non_coding_transcript_variant": 1619, "upstream_gene_variant": 1631, "downstream_gene_variant": 1632,
    "intergenic_variant": 1628,
}  # fmt: skip
CHANGES: tuple[Coded, ...] = (("SO:0001483", "SNV"), ("SO:0002007", "MNV"), ("SO:1000032", "delins"))
_HIGHEST_VERSION = 20  # of a chromosome's accession


def chromosome_answer(contig: str) -> Coded | None:
    """The LOINC answer of a chromosome, None for another contig."""
    name = canonical_contig(contig)
    if name not in CHROMOSOMES:
        return None
    return _CHROMOSOME_CODES[CHROMOSOMES.index(name)], f"Chromosome {name}"


def reference_accession(contig: str, build: str) -> str | None:
    """RefSeq's accession with version of a chromosome on GRCh37 or GRCh38, None for other contigs and assemblies."""
    name = canonical_contig(contig)
    if name not in CHROMOSOMES or build not in ASSEMBLIES:
        return None
    number = CHROMOSOMES.index(name) + 1
    versions = (f"NC_{number:06d}.{version}" for version in range(1, _HIGHEST_VERSION))
    return next((accession for accession in versions if build_of_accession(accession) == build), None)
