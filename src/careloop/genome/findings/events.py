"""Findings of a genome as ordinary events of a record, so that features, models and the safety check use them.

| code | value |
| --- | --- |
| `GENOME//VARIANT//GENE` | numeric_value copies of the allele, text_value HGVS names, zygosity and consequence |
| `GENOME//SIGNIFICANCE//GENE` | text_value the suggested class (`likely pathogenic`) and the flags that led to it |
| `PGX//GENE//DIPLOTYPE` | text_value `*1/*2`, `*1/*3A or *3B/*3C`, or `indeterminate: ` and why |
| `PGX//GENE//PHENOTYPE` | text_value CPIC's term, or `Indeterminate` |
| `PGX//GENE//ACTIVITY_SCORE` | numeric_value |

GENE is `-` where a variant lies in none. What could not be judged is an event too, which says so; its numeric_value is
empty, and no allele is filled in. A gene that was refused (CYP2D6, HLA) gives no event: it was not tested.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import polars as pl

from careloop import InputError
from careloop.genome.findings.finding import GenomeFindings, SampleOrigin, VariantFinding
from careloop.genome.pharmacogenes.genotype_events import (
    ACTIVITY_SCORE,
    DIPLOTYPE,
    PHENOTYPE,
    genotype_code,
)
from careloop.genome.pharmacogenes.phenotypes import INDETERMINATE
from careloop.genome.pharmacogenes.results import GeneResult
from careloop.record import EVENTS, Record, subject_ids

VARIANT, SIGNIFICANCE = "GENOME//VARIANT", "GENOME//SIGNIFICANCE"
NO_GENE = "-"
PHARMACOGENE = "PGX"  # in the sources of genes' events, where those of variants have `chr:pos:ref:alt`
COPIES = "{copies}"  # UCUM annotation
_ROW = {name: EVENTS[name] for name in ("code", "numeric_value", "unit", "text_value", "source")}
_Row = tuple[str, float | None, str | None, str | None, str]


def finding_events(findings: GenomeFindings, *, subject_id: int, known_from: datetime | None = None) -> pl.DataFrame:
    """Return findings as events (columns of `EVENTS`).

    `time` and `known_time` are the sample's (`SampleOrigin`): none for a germline genome without a date, which is a
    static fact. `known_from` (with a time zone) makes findings known only from then on, for a study that must not use
    an interpretation before somebody had it. `asset` is the file's URI; `source` is the sample's and
    `chr:pos:ref:alt` (position from 1) of a variant, or `PGX//GENE` of a gene.

    Raises:
        InputError: `known_from` has no time zone or is earlier than the sample's time; a somatic variant of a sample
            without a time; a variant that is there twice for one gene.
    """
    time, known = _times(findings, known_from)
    rows = pl.DataFrame(list(_rows(findings)), schema=_ROW, orient="row")
    twice = rows.filter(rows.select("code", "source").is_duplicated())["source"]
    if len(twice):
        raise InputError(f"{findings.origin.path}: a variant is found once for a gene, but {twice[0]} is there twice")
    return rows.select(
        subject_id=pl.lit(subject_id, dtype=pl.Int64),
        time=pl.lit(time).cast(EVENTS["time"]),
        known_time=pl.lit(known).cast(EVENTS["known_time"]),
        code="code",
        numeric_value="numeric_value",
        unit="unit",
        text_value="text_value",
        asset=pl.lit(findings.origin.asset),
        source="source",
    )


def record_findings(
    path: Path, findings: GenomeFindings, *, subject_id: int | None = None, known_from: datetime | None = None
) -> Record:
    """Write findings into the record in folder `path`, and what their codes mean; returns the record.

    They replace what earlier readings of the same sample in a file of the same name wrote, findings that are no longer
    there included. Genes that were not asked for stay, and so do variants where only genes were looked for. Writing
    what the record holds already changes nothing.

    Raises:
        InputError: as `finding_events`; there is no record.
    """
    record = Record.open(path)
    subject = subject_id
    if subject is None:
        subject = int(subject_ids(record, pl.Series([findings.origin.subject]))[0])
    events = finding_events(findings, subject_id=subject, known_from=known_from)
    held = _held(record, findings)
    if held.equals(events.sort(EVENTS.names())):
        return record
    new = code_table(events).join(record.code_metadata(), on="code", how="anti")
    if new.height:
        record.describe_codes(new)
    digest = hashlib.sha256(events.write_csv().encode()).hexdigest()
    key = f"careloop:genome:{findings.origin.source}:{record.version}:{digest}"
    if events.height:
        record = record.supersede(events, key=key)
    gone = sorted(set(held["source"]) - set(events["source"]))
    # In this order, so that a writer that dies in between leaves a finding too many, which the next run takes away.
    return record.rewrite(partial(_without, gone), key=f"{key}:gone") if gone else record


def code_table(events: pl.DataFrame) -> pl.DataFrame:
    """Return what the codes of findings' events mean, for `Record.describe_codes`: description and unit."""
    rows = [
        (code, _meaning(code), COPIES if code.startswith(VARIANT) else None) for code in sorted(set(events["code"]))
    ]
    return pl.DataFrame(rows, schema=dict.fromkeys(("code", "description", "unit"), pl.String()), orient="row")


def variant_text(variant: VariantFinding) -> str:
    """A variant in one line: names, zygosity, consequence and origin; of one that could not be judged, why."""
    name = variant.hgvs_c or variant.hgvs_g or variant.place
    named = f"{name} ({variant.hgvs_p})" if variant.hgvs_p else name
    if variant.presence == "indeterminate":
        return " ".join(f"indeterminate: {named}: {variant.reason or 'no reason was given'}".split())
    somatic = "somatic" if variant.source_class == "somatic" else ""
    parts = (named, variant.zygosity, ", ".join(variant.consequences), somatic, *variant.notes)
    return ", ".join(part for part in parts if part)


def gene_text(gene: GeneResult) -> str:
    """A gene's diplotypes in one line, ` or ` between those that fit; `indeterminate: ` and why where none is named."""
    if gene.diplotype_text:
        return gene.diplotype_text
    unknown = ", ".join(f"{site.name} {site.call.state}" for site in gene.unknown_sites)
    return " ".join(f"indeterminate: {'; '.join(gene.reasons) or unknown or gene.status}".split())


def _meaning(code: str) -> str:
    *kinds, last = code.split("//")
    if kinds[0] == PHARMACOGENE:
        return f"{kinds[1]}: {last.lower().replace('_', ' ')} from a variant file"
    if last == NO_GENE:
        return f"{kinds[1].lower()} of a variant outside of genes"
    return f"{last}: {'copies of a variant' if kinds[1] == 'VARIANT' else 'suggested significance of a variant'}"


def _times(findings: GenomeFindings, known_from: datetime | None) -> tuple[datetime | None, datetime | None]:
    origin = findings.origin
    somatic = any(variant.source_class == "somatic" for variant in findings.variants or ())
    if somatic and origin.time is None:
        raise InputError(
            f"{origin.path}: somatic variants are no fact for life, they need the sample's time; give it in the "
            "samples file"
        )
    if known_from is None:
        return origin.time, origin.known_time
    if known_from.tzinfo is None or (origin.time is not None and known_from < origin.time):
        raise InputError("known_from must have a time zone and not be earlier than the sample's time; correct it")
    return origin.time or known_from, known_from


def _rows(findings: GenomeFindings) -> Iterator[_Row]:
    for variant in findings.variants or ():
        yield from _variant_rows(variant, findings.origin)
    for gene in findings.pgx.genes if findings.pgx else ():
        yield from _gene_rows(gene, findings.origin)


def _variant_rows(variant: VariantFinding, origin: SampleOrigin) -> Iterator[_Row]:
    gene, source = variant.gene or NO_GENE, f"{origin.source}//{variant.place}"
    copies = None if variant.copies is None or variant.presence == "indeterminate" else float(variant.copies)
    yield f"{VARIANT}//{gene}", copies, None if copies is None else COPIES, variant_text(variant), source
    if variant.significance:
        flags = ", ".join(evidence.flag for evidence in variant.evidence)
        said = f"{variant.significance} (suggested: {flags})" if flags else f"{variant.significance} (suggested)"
        yield f"{SIGNIFICANCE}//{gene}", None, None, said, source


def _gene_rows(gene: GeneResult, origin: SampleOrigin) -> Iterator[_Row]:
    source = f"{origin.source}//{PHARMACOGENE}//{gene.gene}"
    yield genotype_code(gene.gene, DIPLOTYPE), None, None, gene_text(gene), source
    yield genotype_code(gene.gene, PHENOTYPE), None, None, gene.phenotype if gene.settled else INDETERMINATE, source
    if gene.settled and gene.activity_score is not None:
        yield genotype_code(gene.gene, ACTIVITY_SCORE), gene.activity_score, None, None, source


def _held(record: Record, findings: GenomeFindings) -> pl.DataFrame:
    """The events that an earlier reading of the sample wrote, of what was looked for now, sorted by all columns."""
    begin, source = f"{findings.origin.source}//", pl.col("source")
    asked = [gene.gene for gene in findings.pgx.genes] if findings.pgx else []
    asked += [gene.gene for gene in findings.pgx.refused] if findings.pgx else []
    looked_for = source.is_in([f"{begin}{PHARMACOGENE}//{gene}" for gene in asked])
    if findings.variants is not None:
        looked_for |= source.str.starts_with(begin) & ~source.str.starts_with(f"{begin}{PHARMACOGENE}//")
    ours = record.events(codes=[f"{VARIANT}//*", f"{SIGNIFICANCE}//*", f"{PHARMACOGENE}//*"])
    return ours.filter(looked_for).sort(EVENTS.names()).collect()


def _without(gone: Sequence[str], shard: int, rows: pl.DataFrame) -> pl.DataFrame | None:
    """The rows of a shard but those of some sources; None where it has none of these."""
    stale = rows["source"].is_in(gone).fill_null(value=False)
    return rows.filter(~stale) if stale.any() else None
