"""Findings of a genome as a FHIR R4 Bundle by HL7's Genomics Reporting Implementation Guide STU3 (3.0.0).

A DiagnosticReport (genomic-report) with the Observations of variants, molecular consequences, genotypes, therapeutic
and diagnostic implications. STU3 has no profile region-studied any more: what was studied, called and not called
stands in a genomic-study-analysis (its extension genomic-study-analysis-regions), and the overall interpretation in
the report's conclusion and conclusionCode. Exports carry findings only: no reads, no genome, no file and no sample
name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import careloop
from careloop import InputError
from careloop.genome.findings.events import gene_text
from careloop.genome.findings.fhir import codes
from careloop.genome.findings.fhir.elements import (
    NOT_CLINICAL,
    TAG,
    Json,
    PatientKey,
    ReportSetting,
    category,
    coded,
    disclaimer,
    instant,
    loinc,
)
from careloop.genome.findings.fhir.observations import (
    gene_concept,
    gene_observations,
    implication,
    recommendations,
    variant_observations,
)
from careloop.genome.findings.finding import PATHOGENIC, GenomeFindings
from careloop.genome.pharmacogenes.results import PgxResult
from careloop.record.whole_file import write_whole

MOST_VARIANTS = 1000  # of interest, in one report; more is a genome, and genomes are not exported
STUDY, ANALYSIS = "study", "analysis"


def findings_bundle(findings: GenomeFindings, *, patient: PatientKey, made_at: datetime) -> Json:
    """The findings as a FHIR R4 Bundle of type collection, as plain JSON values.

    `made_at` (with a time zone) is when the report was made. The same findings for the same patient and time give the
    same bundle.

    Raises:
        InputError: a patient's id that cannot be a FHIR id, `made_at` without a time zone, or more than 1,000 variants.
    """
    if made_at.tzinfo is None:
        raise InputError("findings as FHIR: made_at needs a time zone; add one")
    variants = findings.variants or ()
    if len(variants) > MOST_VARIANTS:
        raise InputError(
            f"findings as FHIR: a report carries findings, not genomes; got {len(variants):,} variants, at most "
            f"{MOST_VARIANTS:,}; choose those of interest first"
        )
    setting = ReportSetting(findings, patient, made_at)
    observations = list(_observations(setting))
    resources = [_report(setting, observations), *observations, *_study(setting), _device(setting)]
    return {
        "resourceType": "Bundle",
        "id": setting.id("Bundle"),
        "meta": {"tag": [TAG]},
        "identifier": {"system": "urn:careloop:genome", "value": setting.id("Bundle")},
        "type": "collection",
        "timestamp": instant(made_at),
        "entry": [{"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource} for resource in resources],
    }


def write_bundle(bundle: Json, path: Path) -> None:
    """Write the bundle as JSON in UTF-8, whole or not at all."""
    write_whole(path, json.dumps(bundle, ensure_ascii=False, indent=1) + "\n")


def _observations(setting: ReportSetting) -> Iterator[Json]:
    for variant in setting.findings.variants or ():
        yield from variant_observations(setting, variant)
    genes = setting.findings.pgx.genes if setting.findings.pgx else ()
    for gene in genes:
        yield from gene_observations(setting, gene)
    for rule in recommendations(genes):
        yield implication(setting, rule)


def _report(setting: ReportSetting, observations: list[Json]) -> Json:
    findings, time = setting.findings, setting.findings.origin.time
    results = [{"reference": f"urn:uuid:{each['id']}", "type": "Observation"} for each in observations]
    study = {"url": f"{codes.PROFILE}/genomic-study-reference", "valueReference": setting.to("Procedure", STUDY)}
    note = {"url": f"{codes.PROFILE}/genomic-report-note", "valueAnnotation": disclaimer()}
    overall = _overall(findings)
    return setting.resource(
        "DiagnosticReport",
        "genomic-report",
        {
            "extension": [study, note],
            "status": "preliminary",
            "category": [category(*codes.GENETICS)],
            "code": loinc(codes.REPORT),
            "subject": setting.patient.reference(),
            **({"effectiveDateTime": instant(time)} if time else {}),
            "issued": instant(setting.made_at),
            **({"result": results} if results else {}),
            "conclusion": _conclusion(findings),
            **({"conclusionCode": [loinc(codes.OVERALL[overall])]} if overall else {}),
        },
    )


def _overall(findings: GenomeFindings) -> str:
    """The guide's coarse interpretation, of variants of interest; never `negative`, as a file proves no absence."""
    if findings.variants is None:
        return ""
    return "positive" if any(v.significance in PATHOGENIC for v in findings.variants) else "inconclusive"


def _conclusion(findings: GenomeFindings) -> str:
    parts = []
    if findings.variants is not None:
        harmful = sum(variant.significance in PATHOGENIC for variant in findings.variants)
        parts.append(
            f"{len(findings.variants)} variants of interest, {harmful} of them suggested to be (likely) pathogenic."
        )
    if findings.pgx is not None:
        for gene in findings.pgx.genes:
            phenotype = gene.phenotype if gene.settled else "phenotype not known"
            parts.append(f"{gene.gene} {gene_text(gene)}: {phenotype}.")
        parts += [f"{gene.gene} was not read: {gene.reason}." for gene in findings.pgx.refused]
    return " ".join([*parts, NOT_CLINICAL])


def _study(setting: ReportSetting) -> Iterator[Json]:
    """The genomic study, and its one analysis with what was studied, called and not called."""
    time = setting.findings.origin.time
    shared: Json = {
        "status": "completed",
        "category": category(*codes.LABORATORY),
        "subject": setting.patient.reference(),
        **({"performedDateTime": instant(time)} if time else {}),
    }
    analysis = {
        "url": f"{codes.PROFILE}/genomic-study-analysis-ext",
        "valueReference": setting.to("Procedure", ANALYSIS),
    }
    kind = coded(codes.STUDY_TYPE, ("func-var", "Functional variation detection"))
    study = {"extension": [analysis], **shared, "code": kind, "note": [disclaimer()]}
    yield setting.resource("Procedure", "genomic-study", study, name=STUDY)
    found = {"extension": list(_analysis(setting)), **shared, "note": [disclaimer()]}
    yield setting.resource("Procedure", "genomic-study-analysis", found, name=ANALYSIS)


def _analysis(setting: ReportSetting) -> Iterator[Json]:
    findings = setting.findings
    if findings.pgx is not None:
        yield _extension("method-type", coded(codes.METHOD, ("targeted-variant-analysis", "Targeted variant analysis")))
    for change in codes.CHANGES:
        yield _extension("change-type", coded(codes.SEQUENCE_ONTOLOGY, change))
    if findings.origin.build in codes.ASSEMBLIES:
        yield _extension("genome-build", loinc(codes.ASSEMBLIES[findings.origin.build]))
    sources = {variant.source_class for variant in findings.variants or ()} or {"germline"}
    if len(sources) == 1:
        yield _extension("genomic-source-class", loinc(codes.SOURCES[sources.pop()]))
    yield from _metrics(findings)
    regions = [{"url": "description", "valueString": _regions_text(findings)}, *_regions(findings.pgx)]
    yield {"url": f"{codes.PROFILE}/genomic-study-analysis-regions", "extension": regions}
    device = {"url": "device", "valueReference": setting.to("Device")}
    yield {"url": f"{codes.PROFILE}/genomic-study-analysis-device", "extension": [device]}


def _extension(name: str, concept: Json) -> Json:
    return {"url": f"{codes.PROFILE}/genomic-study-analysis-{name}", "valueCodeableConcept": concept}


def _metrics(findings: GenomeFindings) -> Iterator[Json]:
    coverage = findings.coverage
    parts: list[Json] = []
    if coverage.mean_depth is not None:
        depth = {"value": round(coverage.mean_depth, 1), "unit": "reads", "system": codes.UCUM, "code": "{reads}"}
        parts.append({"url": "read-depth", "valueQuantity": depth})
    if coverage.covered_share is not None:
        share = {"value": round(100 * coverage.covered_share, 2), "unit": "%", "system": codes.UCUM, "code": "%"}
        parts.append({"url": "sequencing-coverage", "valueQuantity": share})
    if parts:
        yield {"url": f"{codes.PROFILE}/genomic-study-analysis-metrics", "extension": parts}


def _regions(pgx: PgxResult | None) -> Iterator[Json]:
    """The genes that were studied, and which of them could be called."""
    if pgx is None:
        return
    for gene in pgx.genes:
        yield {"url": "studied", "valueCodeableConcept": gene_concept(gene.gene)}
    for gene in pgx.genes:
        yield {"url": "uncalled" if gene.unknown_sites else "called", "valueCodeableConcept": gene_concept(gene.gene)}


def _regions_text(findings: GenomeFindings) -> str:
    """What was looked at, and of each gene how many of its defining positions are known, and which are not."""
    coverage, pgx = findings.coverage, findings.pgx
    parts = [f"Studied: {coverage.described}."] if coverage.described else []
    if coverage.not_covered:
        parts.append(f"Not covered: {', '.join(coverage.not_covered)}.")
    for gene in pgx.genes if pgx else ():
        known = len(gene.sites) - len(gene.unknown_sites)
        unknown = ", ".join(f"{site.name} ({site.call.state})" for site in gene.unknown_sites)
        not_known = f"; not known: {unknown}" if unknown else ""
        parts.append(f"{gene.gene}: {known} of {len(gene.sites)} defining positions known{not_known}.")
    for refused in pgx.refused if pgx else ():
        parts.append(f"{refused.gene}: not studied, {refused.reason}; {refused.test} can.")
    return " ".join(parts) or "What was covered is not known."


def _device(setting: ReportSetting) -> Json:
    """The software, and the versions of the tables that it read."""
    findings = setting.findings
    versions = {**(findings.pgx.versions if findings.pgx else {}), **findings.tables}
    tables = [{"type": {"text": name}, "value": version} for name, version in versions.items()]
    callers = [{"type": {"text": "caller"}, "value": caller} for caller in findings.origin.callers]
    return setting.resource(
        "Device",
        "",
        {
            "deviceName": [{"name": "careloop", "type": "model-name"}],
            "type": {"text": "interpretation of genomes (software)"},
            "version": [{"value": careloop.__version__}, *tables, *callers],
            "note": [{"text": NOT_CLINICAL}],
        },
    )
