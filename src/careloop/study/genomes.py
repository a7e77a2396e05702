"""One sample's variants to findings: pharmacogenes, variants of interest, a page, FHIR, tables, and events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import polars as pl

from careloop import InputError
from careloop.genome.annotate.acmg.settings import AcmgSettings
from careloop.genome.annotate.annotator import AnnotateOptions, Annotator
from careloop.genome.annotate.known.request import KnownFile
from careloop.genome.annotate.transcripts import read_genes
from careloop.genome.call.read_pile import read_pile
from careloop.genome.files.builds import require_reference_bases
from careloop.genome.files.reads import open_reads
from careloop.genome.files.reference import Reference, open_reference
from careloop.genome.files.variant_file import open_variants
from careloop.genome.findings.annotated import annotated_findings
from careloop.genome.findings.events import record_findings
from careloop.genome.findings.fhir import PatientKey, findings_bundle, write_bundle
from careloop.genome.findings.finding import GenomeFindings, VariantFinding
from careloop.genome.findings.origin import sample_origin
from careloop.genome.pharmacogenes.panel import pharmacogenes
from careloop.genome.pharmacogenes.results import PgxResult
from careloop.genome.variants.normalise import normalise
from careloop.genome.variants.split import Numbers
from careloop.record import Record
from careloop.record.whole_file import write_whole
from careloop.report.genome_page import write_genome_page
from careloop.report.reads_picture import reads_picture

Progress = Callable[[str, int, int], None]
ADVICE_COLUMNS = ("drug", "genes", "results", "recommendation", "strength", "severity", "citation", "table")
REPORTED_EVERY = 1000  # records
MOST_PICTURES = 50
PAGE, FHIR, GENES, ADVICE, SITES = (
    "report.html", "findings.fhir.json", "pharmacogenes.csv", "recommendations.csv", "sites.csv",
)  # fmt: skip


@dataclass(frozen=True)
class GenomeTask:
    """A VCF, gVCF or BCF file and what is asked of it.

    `covered` is a BED file of what was sequenced and looked at, `reference` a FASTA whose bases are checked, `samples`
    the CSV that says whose each sample is (columns sample, subject, and optionally time).
    """

    variants: Path
    sample: str | None = None
    genes: tuple[str, ...] = ()
    covered: Path | None = None
    reference: Path | None = None
    samples: Path | None = None


@dataclass(frozen=True)
class Interest:
    """Where variants of interest are looked for: a gene file (GFF3 or GTF), the user's known files, and the reads.

    `acmg` says what data cannot, such as the genes whose loss is harmful. Without `reads` (BAM or CRAM) the page has no
    pictures of them.
    """

    genes: Path
    known: tuple[KnownFile, ...] = ()
    acmg: AcmgSettings = field(default_factory=AcmgSettings)
    reads: Path | None = None


@dataclass(frozen=True)
class GenomeResult:
    """The folder that was written, and the findings."""

    folder: Path
    findings: GenomeFindings
    genes: PgxResult = field(repr=False)

    def record(self, path: Path, *, subject_id: int | None = None) -> Record:
        """Write the findings into the record in folder `path` as events; the same findings twice change nothing."""
        return record_findings(path, self.findings, subject_id=subject_id)


def read_genome(
    task: GenomeTask,
    out: Path,
    *,
    made_at: datetime,
    interest: Interest | None = None,
    patient: str | None = None,
    progress: Progress | None = None,
) -> GenomeResult:
    """Write what a sample's genome says to the folder `out`: a page, tables, and FHIR.

    Pharmacogenes always; with `interest` also variants that may change a protein or are suggested to be pathogenic.
    `patient` is the FHIR id for findings.fhir.json, by default the subject's identifier.

    Raises:
        InputError: as `pharmacogenes`, `sample_origin` and `annotate`; `interest` without a reference.
    """
    origin = sample_origin(task.variants, task.sample, samples=task.samples)
    found = pharmacogenes(
        task.variants,
        sample=origin.sample,
        genes=task.genes,
        covered=task.covered,
        reference=task.reference,
        progress=progress,
    )
    findings = GenomeFindings(origin, pgx=found)
    if interest is None:
        return write_findings(findings, out, made_at=made_at, patient=patient)
    if task.reference is None:
        raise InputError("variants of interest need the reference; give the FASTA that the file was made with")
    with open_reference(task.reference) as reference:
        variants = tuple(_of_interest(task.variants, origin.sample, reference, interest, progress))
        pictures = {} if interest.reads is None else _pictures(variants, interest.reads, reference)
    findings = replace(findings, variants=variants)
    return write_findings(findings, out, made_at=made_at, patient=patient, pictures=pictures)


def _of_interest(
    path: Path, sample: str, reference: Reference, interest: Interest, progress: Progress | None
) -> Iterator[VariantFinding]:
    """The findings of a sample's variants, normalised first."""
    file = open_variants(path)
    require_reference_bases(file.records(), reference, where=str(path))
    options = AnnotateOptions(interest.known, interest.acmg)
    annotator = Annotator(reference, read_genes(interest.genes, progress=progress), options)
    for done, record in enumerate(normalise(file.records(), reference, numbers=Numbers.of(file.header))):
        if progress is not None and done % REPORTED_EVERY == 0:
            progress(f"variants of interest, {record.contig}", done, 0)
        annotated = annotator.annotated(record) if record.variants else None
        if annotated is not None:
            yield from annotated_findings(annotated, sample)


def _pictures(variants: Sequence[VariantFinding], reads: Path, reference: Reference) -> dict[str, str]:
    """The reads behind the first variants, by variant."""
    drawn = {}
    with open_reads(reads, reference) as opened:
        for finding in variants[:MOST_PICTURES]:
            said = ", ".join(filter(None, (finding.genotype, finding.reason)))
            pile = read_pile(opened, reference.fetch, finding.variant)
            drawn[str(finding.variant)] = reads_picture(pile, said=said)
    return drawn


def write_findings(
    findings: GenomeFindings,
    out: Path,
    *,
    made_at: datetime,
    patient: str | None = None,
    pictures: Mapping[str, str] | None = None,
) -> GenomeResult:
    """Write the page, the tables and the FHIR bundle of a sample's findings."""
    assert findings.pgx is not None
    out.mkdir(parents=True, exist_ok=True)
    for name, table in tables_of(findings.pgx).items():
        write_whole(out / name, table.write_csv())
    key = PatientKey(patient) if patient else PatientKey(findings.origin.subject, system="urn:careloop:subject")
    write_bundle(findings_bundle(findings, patient=key, made_at=made_at), out / FHIR)
    write_genome_page(findings, out / PAGE, pictures=pictures)
    return GenomeResult(out, findings, findings.pgx)


def tables_of(found: PgxResult) -> dict[str, pl.DataFrame]:
    """Genes, recommendations and defining sites as tables, by the name of their file."""
    genes = [
        {
            "gene": gene.gene,
            "status": gene.status,
            "diplotypes": " or ".join(map(str, gene.diplotypes)) if gene.diplotype_text else "",
            "phenotype": gene.phenotype,
            "activity_score": gene.activity_score,
            "unknown_sites": "; ".join(site.name for site in gene.unknown_sites),
            "reasons": " ".join(gene.reasons),
        }
        for gene in found.genes
    ]
    genes += [
        {"gene": gene.gene, "status": "refused", "reasons": f"{gene.reason} {gene.test}"} for gene in found.refused
    ]
    advice = dict.fromkeys(rule for gene in found.genes for rule in gene.recommendations)
    rules = [
        {
            "drug": rule.drug,
            "genes": "; ".join(rule.genes),
            "results": "; ".join(rule.results),
            "recommendation": rule.text,
            "strength": rule.strength,
            "severity": rule.severity,
            "citation": rule.citation,
            "table": rule.source,
        }
        for rule in advice
    ]
    sites = [
        {
            "gene": gene.gene,
            "site": site.name,
            "position": f"{site.call.site.contig}:{site.call.site.start + 1}",
            "reference": site.call.site.ref,
            "state": site.call.state,
            "alleles": "/".join(allele or "." for allele in site.call.alleles),
            "reason": site.reason or site.call.reason,
        }
        for gene in found.genes
        for site in gene.sites
    ]
    return {GENES: _table(genes), ADVICE: _table(rules, ADVICE_COLUMNS), SITES: _table(sites)}


def _table(rows: Sequence[Mapping[str, object]], columns: Sequence[str] = ()) -> pl.DataFrame:
    """The rows as a table, which has its `columns` even without any row."""
    return pl.DataFrame(rows, infer_schema_length=None) if rows else pl.DataFrame(schema=columns)
