"""The commands that call variants from reads and read pharmacogenes from variants."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from careloop.cli.command import FOLDER, json_option, record_option
from careloop.cli.genome import NOT_CLINICAL, genome, reference_option
from careloop.cli.output import counter, show

if TYPE_CHECKING:
    from careloop.genome.call.germline import CallSummary
    from careloop.genome.pharmacogenes.results import GeneResult

FASTQ = (".fastq", ".fq", ".fastq.gz", ".fq.gz")
THREADS_OF_ALIGNER = 2


@genome.command()
@click.argument("reads", nargs=-1, required=True, type=FOLDER, metavar="READS...")
@reference_option(required=True)
@click.option("--out", required=True, type=FOLDER, help="The file to write: .vcf, .vcf.gz (with index) or .bcf.")
@click.option(
    "--region", "regions", multiple=True, metavar="CONTIG:FIRST-LAST", help="Call there only; may be repeated."
)
@click.option("--covered", type=FOLDER, metavar="BED", help="Write the bases that were judged, to this file.")
@click.option("--sex", type=click.Choice(["female", "male"]), help="Decides on the copies of X and Y.")
@click.option("--sample", help="Name of the sample, where the reads do not say it; needed for FASTQ.")
@click.option(
    "--scorer",
    type=click.Choice(["network", "engine"]),
    default="network",
    show_default=True,
    help="What judges candidates: the network that comes with careloop, or bcftools' likelihoods alone.",
)
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="Regions called at once.")
@json_option
def call(
    reads: tuple[Path, ...],
    reference: Path,
    out: Path,
    regions: tuple[str, ...],
    covered: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Call germline variants of one sample from READS: one BAM or CRAM, or FASTQ (one file, or two of pairs).

    The file has variants, possible ones (LowQual), and blocks of covered reference as in gVCF: what is in none of them
    could not be judged, and the summary says why. A run that was killed goes on when it is started again.
    """
    from careloop.genome.call.germline import CallSettings, call_variants, write_covered
    from careloop.genome.files.regions import parse_region

    settings = CallSettings(**given)
    with counter() as progress, tempfile.TemporaryDirectory(prefix="careloop-align-") as folder:
        aligned = _aligned(reads, reference, Path(folder), settings.sample, progress)
        asked = [parse_region(text) for text in regions]
        done = call_variants(aligned, reference, out, regions=asked, settings=settings, progress=progress)
    if covered is not None:
        write_covered(out, covered)
    shown = asdict(done) | {"ts_tv": done.transitions_to_transversions, "not_for_clinical_use": True}
    show(shown, f"{_called_text(done)}\nWrote {out}\n{NOT_CLINICAL}", as_json=as_json)


def _aligned(reads: tuple[Path, ...], reference: Path, folder: Path, sample: str | None, progress: Any) -> Path:
    """The BAM or CRAM file given, or one made of FASTQ files."""
    fastq = [path for path in reads if path.name.lower().endswith(FASTQ)]
    if not fastq and len(reads) == 1:
        return reads[0]
    if len(fastq) != len(reads) or len(reads) > 2:
        raise click.UsageError("READS is one BAM or CRAM file, or one or two FASTQ files")
    if not sample:
        raise click.UsageError("FASTQ does not name its sample: give --sample")
    from careloop.genome.files.align import align_reads

    made = folder / "aligned.bam"
    align_reads(fastq, reference, out=made, sample=sample, threads=THREADS_OF_ALIGNER, progress=progress)
    return made


def _called_text(done: CallSummary) -> str:
    lines = [f"sample {done.sample}"]
    lines += [f"  {name:<22} {count:>14,}" for name, count in done.variants.items()]
    ratio = done.transitions_to_transversions
    lines += [f"  transitions / transversions {ratio:>9.2f}"] if ratio is not None else []
    lines += ["bases", *(f"  {name:<22} {count:>14,}" for name, count in done.bases.items())]
    return "\n".join(lines)


@genome.command()
@click.argument("variants", type=FOLDER)
@click.option("--out", required=True, type=FOLDER, metavar="DIR", help="Folder for the page, tables and FHIR.")
@click.option("--gene", "genes", multiple=True, metavar="GENE", help="Only this gene; may be repeated.")
@click.option("--covered", type=FOLDER, metavar="BED", help="What was looked at (see `genome call`).")
@reference_option(required=False)
@click.option("--sample", help="Needed where the file has several samples.")
@click.option("--samples", type=FOLDER, metavar="CSV", help="Whose each sample is: columns sample, subject (and time).")
@click.option("--patient", metavar="ID", help="The patient's FHIR id, for findings.fhir.json.")
@record_option(required=False)
@click.option("--subject", type=int, help="With --record: whose genome; default: by the sample.")
@json_option
def pgx(
    variants: Path,
    out: Path,
    patient: str | None,
    record_path: Path | None,
    subject: int | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Read the genes that decide on drugs from VARIANTS (VCF, gVCF or BCF): star alleles, phenotypes, CPIC's advice.

    A position that the file does not mention is not known, never normal, unless the file has blocks of covered
    reference or --covered says that it was looked at. CYP2D6, CYP2B6 and HLA cannot be read from a plain VCF. With
    --record, results become events, which the safety check of treatment plans uses.
    """
    from datetime import UTC, datetime

    from careloop.study.genomes import GenomeTask, read_pharmacogenes

    if subject is not None and record_path is None:
        raise click.UsageError("--subject goes with --record")
    task = GenomeTask(variants, **given)
    with counter() as progress:
        made = read_pharmacogenes(task, out, made_at=datetime.now(UTC), patient=patient, progress=progress)
        record = None if record_path is None else made.record(record_path, subject_id=subject)
    shown = {
        "out": str(out),
        "build": made.genes.build,
        "genes": [_gene_facts(gene) for gene in made.genes.genes],
        "refused": [asdict(gene) for gene in made.genes.refused],
        "versions": made.genes.versions,
        "record_version": None if record is None else record.version,
        "not_for_clinical_use": True,
    }
    lines = [_gene_text(gene) for gene in made.genes.genes]
    lines += [f"{'not read':<9} {', '.join(gene.gene for gene in made.genes.refused)} (see the page)"]
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
