"""From a variant file to the safety check and to FHIR and back: what the file says, and what it does not say."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from careloop.genome.findings.events import record_findings
from careloop.genome.findings.fhir import PatientKey, findings_bundle
from careloop.genome.findings.finding import GenomeFindings
from careloop.genome.findings.origin import sample_origin
from careloop.genome.pharmacogenes.genotype_events import genotypes_of
from careloop.genome.pharmacogenes.panel import pharmacogenes
from careloop.ingest import ingest_paths
from careloop.plan.safety import Finding, OptionDrug, SafetySection, safety_findings
from careloop.record import EVENTS, Record

NOW = datetime(2026, 6, 1, tzinfo=UTC)
HEAD = """##fileformat=VCFv4.3
##contig=<ID=chr10,length=133797422>
#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tP7
"""
# What tells CYP2C19 *2 from the others on GRCh38, whose reference sequence is *38.
DEFINING = (("94775367", "A", "G"), ("94781859", "G", "A"), ("94842866", "A", "G"))


def written(folder: Path, *, without: int | None = None) -> tuple[Path, Path]:
    """A file of somebody who is *2/*2, and the BED of what was covered; `without` one position, covered by neither."""
    lines = [
        f"chr10\t{position}\t.\t{ref}\t{alt}\t90\tPASS\t.\tGT:DP:GQ\t1/1:30:90"
        for at, (position, ref, alt) in enumerate(DEFINING)
        if at != without
    ]
    (folder / "a.vcf").write_text(HEAD + "\n".join(lines) + "\n")
    gap = 0 if without is None else int(DEFINING[without][0])
    parts = [(94_755_000, 94_860_000)] if not gap else [(94_755_000, gap - 1), (gap, 94_860_000)]
    (folder / "covered.bed").write_text("".join(f"chr10\t{start}\t{end}\n" for start, end in parts))
    return folder / "a.vcf", folder / "covered.bed"


def findings_of(folder: Path, *, without: int | None = None) -> GenomeFindings:
    path, covered = written(folder, without=without)
    return GenomeFindings(sample_origin(path), pgx=pharmacogenes(path, genes=["CYP2C19"], covered=covered))


def of_clopidogrel(record: Record) -> list[Finding]:
    subject = record.events().select("subject_id").first().collect().item()
    schema = {"subject_id": pl.Int64(), "prediction_time": EVENTS["time"]}
    keys = pl.DataFrame({"subject_id": [subject], "prediction_time": [NOW]}, schema=schema)
    section = SafetySection(options={"it": (OptionDrug(ingredient="clopidogrel"),)})
    found = next(iter(safety_findings(record.events(), keys, section).values()))["it"]
    return [finding for finding in found if finding.kind == "pharmacogenomics"]


def test_a_file_of_two_poor_alleles_stops_clopidogrel(tmp_path: Path) -> None:
    Record.create(tmp_path / "record")
    findings = findings_of(tmp_path)
    assert findings.pgx is not None
    assert findings.pgx.genes[0].diplotype_text == "*2/*2"
    (found,) = of_clopidogrel(record_findings(tmp_path / "record", findings))
    assert found.severity == "block"
    assert found.facts == ("CYP2C19 Poor Metabolizer",)
    (said,) = [rule for rule in findings.pgx.genes[0].recommendations if rule.drug == "clopidogrel"]
    assert (found.remedy, found.citation) == (said.text, said.citation)


@pytest.mark.parametrize("without", range(len(DEFINING)))
def test_without_one_position_it_is_not_known_and_never_normal(tmp_path: Path, without: int) -> None:
    Record.create(tmp_path / "record")
    record = record_findings(tmp_path / "record", findings_of(tmp_path, without=without))
    (found,) = of_clopidogrel(record)
    assert found.rule == "pgx-clopidogrel-cyp2c19-missing"
    assert "gives no phenotype" in found.text
    texts = record.events(codes=["PGX//*"]).collect()["text_value"].to_list()
    assert all(text.lower().startswith("indeterminate") for text in texts)
    assert not any("*1" in text or "normal" in text.lower() for text in texts)


@pytest.mark.parametrize("without", [None, 1])
def test_fhir_carries_the_same_results(tmp_path: Path, without: int | None) -> None:
    findings = findings_of(tmp_path, without=without)
    Record.create(tmp_path / "record")
    native = genotypes_of(record_findings(tmp_path / "record", findings).events(codes=["PGX//*"]).collect())
    bundle = findings_bundle(findings, patient=PatientKey("P7"), made_at=NOW)
    (tmp_path / "report.json").write_text(json.dumps(bundle))
    ingest_paths("fhir", [tmp_path / "report.json"], tmp_path / "again")
    again = genotypes_of(Record.open(tmp_path / "again").events().collect())
    assert {gene: result.phenotype for gene, result in again.items()} == {
        gene: result.phenotype for gene, result in native.items()
    }
    assert set(again) == {"CYP2C19"}
    assert again["CYP2C19"].phenotype == ("Poor Metabolizer" if without is None else "Indeterminate")
