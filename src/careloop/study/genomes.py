"""One sample's variants to findings: pharmacogenes, variants of interest, a page, FHIR, tables, and events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import polars as pl

from careloop.genome.findings.events import record_findings
from careloop.genome.findings.fhir import PatientKey, findings_bundle, write_bundle
from careloop.genome.findings.finding import GenomeFindings
from careloop.genome.findings.origin import sample_origin
from careloop.genome.pharmacogenes.panel import pharmacogenes
from careloop.genome.pharmacogenes.results import PgxResult
from careloop.imaging.model_folder import write_whole
from careloop.record import Record
from careloop.report.genome_page import write_genome_page

Progress = Callable[[str, int, int], None]
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
class GenomeResult:
    """The folder that was written, and the findings."""

    folder: Path
    findings: GenomeFindings
    genes: PgxResult = field(repr=False)

    def record(self, path: Path, *, subject_id: int | None = None) -> Record:
        """Write the findings into the record in folder `path` as events; the same findings twice change nothing."""
        return record_findings(path, self.findings, subject_id=subject_id)


def read_pharmacogenes(
    task: GenomeTask, out: Path, *, made_at: datetime, patient: str | None = None, progress: Progress | None = None
) -> GenomeResult:
    """Write what a sample's genes say about drugs to the folder `out`: a page, tables, and FHIR.

    `patient` is the FHIR id for findings.fhir.json, by default the subject's identifier.

    Raises:
        InputError: as `pharmacogenes` and `sample_origin`.
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
    return write_findings(GenomeFindings(origin, pgx=found), out, made_at=made_at, patient=patient)


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
    return {GENES: _table(genes), ADVICE: _table(rules), SITES: _table(sites)}


def _table(rows: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    return pl.DataFrame(rows, infer_schema_length=None)
