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
from careloop.genome.files.variant_header import VariantHeader
from careloop.genome.files.variant_writing import write_variants
from careloop.genome.variant import Record
from careloop.genome.variants.normalise import NormaliseSummary, normalise
from careloop.genome.variants.split import Numbers

Progress = Callable[[str, int, int], None]
_REPORT_EVERY = 1_000


@dataclass
class AnnotateSummary:
    """What an annotation came to.

    `variants` alleles were annotated and `left` written as they are (not in bases, or on a contig that the reference
    does not have); `consequences` counts alleles by the most severe picked term. `rejected_lines` are lines of the
    variant file, `rejected_genes` lines and transcripts of the gene file, `normalised` what was shifted or rejected on
    the way. `findings` rows went to the table.
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
    options: AnnotateOptions = AnnotateOptions(),
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
    samples = _samples(source, options)
    with open_reference(reference) as opened:
        models = read_genes(genes, progress=progress)
        builds = {str(variants): source.header.build, str(reference): opened.build, str(genes): models.build}
        summary = AnnotateSummary(len(models.transcripts), require_same_build(builds))
        summary.rejected_genes = models.rejects
        require_reference_bases(source.records(), opened, where=str(variants))
        _require_shared_contig(opened, models)
        annotator = Annotator(opened, models, options)
        rows: list[FindingRow] = []
        header = source.header.with_lines(*header_lines(annotator.known.keys))
        records = _normalised(source, opened, summary)
        write_variants(out, header, _annotated(records, annotator, summary, _Collect(rows, samples, options), progress))
        summary.rejected_lines = source.rejects
        summary.rejected_known = annotator.known.rejects
    summary.findings = len(rows)
    if options.table is not None:
        write_rows(options.table, rows)
    return summary
