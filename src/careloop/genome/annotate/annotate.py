"""Annotate a variant file: consequences, HGVS names, known variants and evidence, streamed from VCF to VCF."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from careloop import InputError
from careloop.genome.annotate.annotator import AnnotatedVariant, AnnotateOptions, Annotator
from careloop.genome.annotate.csq import header_lines, info_of
from careloop.genome.annotate.findings_table import FindingRow, require_table_name, rows_of, write_rows
from careloop.genome.annotate.transcripts import Genes, read_genes
from careloop.genome.files.builds import require_reference_bases, require_same_build
from careloop.genome.files.reference import Reference, open_reference
from careloop.genome.files.variant_file import Rejects, VariantFile, open_variants
from careloop.genome.files.variant_writing import write_variants
from careloop.genome.variant import Record
from careloop.genome.variants.normalise import NormaliseSummary, normalise
from careloop.genome.variants.split import Numbers

Progress = Callable[[str, int, int], None]
_REPORT_EVERY = 1_000
_PLAIN = AnnotateOptions()


@dataclass
class AnnotateSummary:
    """What an annotation came to.

    `variants` alleles were annotated and `left` written as they are (not in bases, or on hg19's mitochondrion);
    `consequences` counts alleles by the most severe picked term. `rejected_lines` are lines of the variant file that
    could not be read, `normalised` what was shifted, and what was rejected on the way (REF that is not the reference's,
    a contig that it does not have). `rejected_genes` are lines and transcripts of the gene file. `findings` rows went
    to the table.
    """

    transcripts: int
    build: str
    variants: int = 0
    left: int = 0
    findings: int = 0
    consequences: Counter[str] = field(default_factory=Counter)
    rejected_lines: Rejects = field(default_factory=Rejects)
    rejected_genes: Rejects = field(default_factory=Rejects)
    rejected_known: dict[str, Rejects] = field(default_factory=dict)
    normalised: NormaliseSummary = field(default_factory=NormaliseSummary)


def annotate(
    variants: Path,
    out: Path,
    *,
    reference: Path,
    genes: Path,
    options: AnnotateOptions = _PLAIN,
    progress: Progress | None = None,
) -> AnnotateSummary:
    """Write the variants with their annotation to `out` (VCF or BCF by its name), whole or not at all.

    Alleles are written one a record, trimmed and left-aligned, as they are looked up in known files. INFO gets CSQ (all
    transcripts, VEP's layout), HGVSg, `<name>_<key>` of known files, ACMG and ACMG_suggestion. `genes` is GFF3 or GTF.

    Raises:
        InputError: a file that cannot be read, a sample that the file does not have, or files on different assemblies.
    """
    if options.table is not None:
        require_table_name(options.table)
    source = open_variants(variants)
    samples = _samples(source, options.sample)
    with open_reference(reference) as opened:
        models = read_genes(genes, progress=progress)
        builds = {str(variants): source.header.build, str(reference): opened.build, str(genes): models.build}
        summary = AnnotateSummary(len(models.transcripts), require_same_build(builds))
        summary.rejected_genes = models.rejects
        require_reference_bases(source.records(), opened, where=str(variants))
        _require_shared_contig(opened, models)
        annotator = Annotator(opened, models, options)
        numbers = Numbers.of(source.header)
        records = normalise(source.records(), opened, numbers=numbers, summary=summary.normalised)
        run = _Run(annotator, samples, options, summary)
        header = source.header.with_lines(*header_lines(annotator.known.keys))
        write_variants(out, header, run.annotated(_reported(records, opened, progress)))
        summary.rejected_lines = source.rejects
        summary.rejected_known = annotator.known.rejects
    if options.table is not None:
        write_rows(options.table, run.rows)
    return summary


def _samples(source: VariantFile, sample: str | None) -> tuple[str, ...]:
    """The samples whose genotypes are shown."""
    if sample is not None and sample not in source.header.samples:
        told = ", ".join(source.header.samples[:5]) or "none"
        raise InputError(f"{source.path}: no sample {sample!r} in this file (it has {told})")
    return source.header.samples if sample is None else (sample,)


def _require_shared_contig(reference: Reference, genes: Genes) -> None:
    if not any(reference.name_of(transcript.contig) for transcript in genes.transcripts):
        names = sorted({transcript.contig for transcript in genes.transcripts})[:3]
        raise InputError(
            f"{genes.path}: genes must be on the reference's contigs; {', '.join(names)} are not in {reference.path}; "
            "use the genes of the reference's assembly"
        )


def _reported(records: Iterator[Record], reference: Reference, progress: Progress | None) -> Iterator[Record]:
    for count, record in enumerate(records):
        if progress is not None and count % _REPORT_EVERY == 0:
            length = reference.contigs[reference.name_of(record.contig) or record.contig]
            progress(f"annotating {record.contig}", record.start, length)
        yield record


@dataclass
class _Run:
    """One pass over a file; `rows` fill with the findings."""

    annotator: Annotator
    samples: tuple[str, ...]
    options: AnnotateOptions
    summary: AnnotateSummary
    rows: list[FindingRow] = field(default_factory=list)

    def annotated(self, records: Iterator[Record]) -> Iterator[Record]:
        """Yield the records with their annotation."""
        for record in records:
            found = self.annotator.annotated(record)
            if found is None:
                self.summary.left += 1
                yield record
                continue
            self._count(found)
            yield replace(record, info={**record.info, **info_of(found)})

    def _count(self, found: AnnotatedVariant) -> None:
        self.summary.variants += 1
        self.summary.consequences[found.first.terms[0]] += 1
        if self.options.table is not None:
            self.rows += rows_of(found, self.samples, self.options.impacts)
            self.summary.findings = len(self.rows)
