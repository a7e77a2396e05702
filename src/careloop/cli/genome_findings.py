"""The commands from variants to findings: what each does, what genes say about drugs, a page, FHIR, and events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from careloop.cli.command import FOLDER, json_option, record_option
from careloop.cli.genome import NOT_CLINICAL, genome, reference_option
from careloop.cli.output import counter, show

if TYPE_CHECKING:
    from careloop.genome.annotate.acmg.settings import AcmgSettings
    from careloop.genome.annotate.annotate import AnnotateSummary
    from careloop.genome.pharmacogenes.results import GeneResult
    from careloop.study.genomes import GenomeTask, Interest

KNOWN_HELP = "A file to look variants up in: clinvar=..., gnomad=..., or any VCF, BED or CSV; may be repeated."
LOF_HELP = "Genes (one a line) whose loss is known to cause disease; without it PVS1 is not judged."
ACMG_HELP = "Settings of the ACMG/AMP criteria: expected_above (for BS1), score, repeats, rare_below ..."


def findings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of commands that write a sample's findings."""
    for option in (
        click.option("--out", required=True, type=FOLDER, metavar="DIR", help="Folder for the page, tables and FHIR."),
        click.option("--covered", type=FOLDER, metavar="BED", help="What was looked at (see `genome call`)."),
        click.option("--sample", help="Needed where the file has several samples."),
        click.option("--samples", type=FOLDER, metavar="CSV", help="Whose each is: columns sample, subject, time."),
        click.option("--patient", metavar="ID", help="The patient's FHIR id, for findings.fhir.json."),
        record_option(required=False),
        click.option("--subject", type=int, help="With --record: whose genome; default: by the sample."),
        json_option,
    ):
        command = option(command)
    return command


@genome.command()
@click.argument("variants", type=FOLDER)
@reference_option(required=True)
@click.option("--genes", required=True, type=FOLDER, metavar="GFF", help="Genes of the same assembly: GFF3 or GTF.")
@click.option("--known", multiple=True, metavar="NAME=PATH[:KEYS]", help=KNOWN_HELP)
@click.option("--lof-genes", type=FOLDER, metavar="FILE", help=LOF_HELP)
@click.option("--acmg", type=FOLDER, metavar="YAML", help=ACMG_HELP)
@click.option("--splice-model", type=FOLDER, metavar="ONNX", help="A model of splice sites.")
@click.option("--table", type=FOLDER, metavar="FILE", help="Variants of interest as .csv or .parquet.")
@click.option("--sample", help="Whose genotype the table has; default: all samples.")
@click.option("--out", required=True, type=FOLDER, help="The file to write: .vcf, .vcf.gz (with index) or .bcf.")
@json_option
def annotate(
    variants: Path,
    reference: Path,
    genes: Path,
    known: tuple[str, ...],
    lof_genes: Path | None,
    acmg: Path | None,
    out: Path,
    as_json: bool,
    **given: Any,
) -> None:
    """Say what each of VARIANTS does: consequence, HGVS names, what is known of it, and evidence by ACMG/AMP.

    CSQ has every transcript in VEP's layout. Suggested classes are suggestions and need a geneticist.
    """
    from careloop.genome.annotate.annotate import annotate as annotated
    from careloop.genome.annotate.annotator import AnnotateOptions

    options = AnnotateOptions(known=_known(known), acmg=_acmg(acmg, lof_genes), **given)
    with counter() as progress:
        done = annotated(variants, out, reference=reference, genes=genes, options=options, progress=progress)
    shown = {
        "out": str(out),
        "build": done.build,
        "transcripts": done.transcripts,
        "variants": done.variants,
        "left": done.left,
        "findings": done.findings,
        "consequences": dict(done.consequences),
        "normalised": dict(done.normalised.counts),
        "rejected_lines": done.rejected_lines.total,
        "rejected_gene_lines": done.rejected_genes.total,
        "not_for_clinical_use": True,
    }
    show(shown, f"{_annotated_text(done)}\nWrote {out}\n{NOT_CLINICAL}", as_json=as_json)


def _known(given: tuple[str, ...]) -> tuple[Any, ...]:
    from careloop.genome.annotate.known.request import parse_known

    return tuple(parse_known(text) for text in given)


def _acmg(settings: Path | None, lof_genes: Path | None) -> AcmgSettings:
    from careloop.genome.annotate.acmg.settings import read_settings

    return read_settings(settings, lof_genes)


def _annotated_text(done: AnnotateSummary) -> str:
    lines = [f"{done.variants:,} alleles, {done.transcripts:,} transcripts, {done.build}"]
    lines += [f"  {term:<36} {count:>10,}" for term, count in done.consequences.most_common()]
    counted = {
        "written as they are": done.left,
        "lines that could not be read": done.rejected_lines.total,
        "lines of genes that could not be used": done.rejected_genes.total,
        "rejected: see --json": done.normalised.counts["rejected"],
    }
    return "\n".join(lines + [f"  {what:<36} {count:>10,}" for what, count in counted.items() if count])


@genome.command()
@click.argument("variants", type=FOLDER)
@click.option("--gene", "genes", multiple=True, metavar="GENE", help="Only this gene; may be repeated.")
@reference_option(required=False)
@findings_options
def pgx(variants: Path, genes: tuple[str, ...], reference: Path | None, **given: Any) -> None:
    """Read the genes that decide on drugs from VARIANTS (VCF, gVCF or BCF): star alleles, phenotypes, CPIC's advice.

    A position that the file does not mention is not known, never normal, unless the file has blocks of covered
    reference or --covered says that it was looked at. CYP2D6, CYP2B6 and HLA cannot be read from a plain VCF. With
    --record, results become events, which the safety check of treatment plans uses.
    """
    from careloop.study.genomes import GenomeTask

    names = ("sample", "covered", "samples")
    task = GenomeTask(variants, genes=genes, reference=reference, **{name: given.pop(name) for name in names})
    _write(task, None, **given)


@genome.command()
@click.argument("variants", type=FOLDER)
@reference_option(required=True)
@click.option("--genes", required=True, type=FOLDER, metavar="GFF", help="Genes of the same assembly: GFF3 or GTF.")
@click.option("--known", multiple=True, metavar="NAME=PATH[:KEYS]", help=KNOWN_HELP)
@click.option("--lof-genes", type=FOLDER, metavar="FILE", help=LOF_HELP)
@click.option("--acmg", type=FOLDER, metavar="YAML", help=ACMG_HELP)
@click.option("--reads", type=FOLDER, metavar="BAM", help="The reads, for pictures of those behind each call.")
@findings_options
def report(
    variants: Path,
    reference: Path,
    genes: Path,
    known: tuple[str, ...],
    lof_genes: Path | None,
    acmg: Path | None,
    reads: Path | None,
    **given: Any,
) -> None:
    """Write all that VARIANTS say of a sample: genes that decide on drugs, and variants that may matter, with reads.

    Of interest are variants that may change a protein, and those that the evidence suggests to be pathogenic.
    """
    from careloop.study.genomes import GenomeTask, Interest

    names = ("sample", "covered", "samples")
    task = GenomeTask(variants, reference=reference, **{name: given.pop(name) for name in names})
    _write(task, Interest(genes, _known(known), _acmg(acmg, lof_genes), reads), **given)


def _write(
    task: GenomeTask,
    interest: Interest | None,
    *,
    out: Path,
    patient: str | None,
    record_path: Path | None,
    subject: int | None,
    as_json: bool,
) -> None:
    """Write a sample's findings, into the record too where one is given, and say what they are."""
    from careloop.study.genomes import read_genome

    if subject is not None and record_path is None:
        raise click.UsageError("--subject goes with --record")
    with counter() as progress:
        made = read_genome(task, out, made_at=datetime.now(UTC), interest=interest, patient=patient, progress=progress)
        record = None if record_path is None else made.record(record_path, subject_id=subject)
    variants = made.findings.variants
    shown = {
        "out": str(out),
        "build": made.genes.build,
        "genes": [_gene_facts(gene) for gene in made.genes.genes],
        "refused": [asdict(gene) for gene in made.genes.refused],
        "variants": None if variants is None else [asdict(variant) for variant in variants],
        "versions": made.genes.versions,
        "record_version": None if record is None else record.version,
        "not_for_clinical_use": True,
    }
    lines = [_gene_text(gene) for gene in made.genes.genes]
    if made.genes.refused:
        lines.append(f"{'not read':<9} {', '.join(gene.gene for gene in made.genes.refused)} (the page says why)")
    lines += [] if variants is None else [f"{len(variants):,} variants of interest"]
    lines += ["", f"Wrote {out / 'report.html'}"]
    lines += [] if record is None else [f"{record.path} is at version {record.version}."]
    show(shown, "\n".join([*lines, NOT_CLINICAL]), as_json=as_json)


def _gene_facts(gene: GeneResult) -> dict[str, Any]:
    return {
        "gene": gene.gene,
        "status": gene.status,
        "diplotypes": [str(one) for one in gene.diplotypes] if gene.diplotype_text else [],
        "phenotype": gene.phenotype,
        "activity_score": gene.activity_score,
        "unknown_sites": [site.name for site in gene.unknown_sites],
        "recommendations": [asdict(rule) for rule in gene.recommendations],
        "reasons": list(gene.reasons),
    }


def _gene_text(gene: GeneResult) -> str:
    found = gene.diplotype_text or f"not known: {len(gene.unknown_sites)} of {len(gene.sites)} positions are not known"
    if gene.status == "unlisted":
        found = "no pair of known alleles fits"
    return f"{gene.gene:<9} {found:<40} {gene.phenotype if gene.settled else ''}".rstrip()
