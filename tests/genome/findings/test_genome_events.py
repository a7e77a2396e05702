"""Findings of a genome as events: times, sources, replacement, and what the safety check makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careloop import InputError
from careloop.genome.findings.events import finding_events, gene_text, record_findings
from careloop.genome.findings.finding import LONGEST_ALLELE, GenomeFindings, SampleOrigin
from careloop.genome.findings.origin import sample_origin
from careloop.genome.pharmacogenes.genotype_events import genotypes_of, patient_genotypes
from careloop.genome.pharmacogenes.phenotypes import INDETERMINATE, Genotype, genotype, table
from careloop.genome.pharmacogenes.results import Diplotype, GeneResult, PgxResult, RefusedGene
from careloop.genome.variant import Variant
from careloop.plan.safety import Finding, OptionDrug, SafetySection, safety_findings
from careloop.record import EVENTS, Record, conform, history

DAY = datetime(2024, 2, 29, tzinfo=UTC)
NOW = datetime(2026, 6, 1, tzinfo=UTC)
ORIGIN = SampleOrigin(Path("/data/a.vcf"), "a.vcf", "P7", "P7")
GENES = sorted({row["gene"] for row in table("alleles")})


def at(moment: datetime, subject: int) -> pl.DataFrame:
    schema = {"subject_id": pl.Int64(), "prediction_time": EVENTS["time"]}
    return pl.DataFrame({"subject_id": [subject], "prediction_time": [moment]}, schema=schema)


def subject_in(record: Record) -> int:
    return int(record.events().select("subject_id").first().collect().item())


def of_clopidogrel(record: Record, moment: datetime = NOW) -> list[Finding]:
    section = SafetySection(options={"it": (OptionDrug(ingredient="clopidogrel"),)})
    found = safety_findings(record.events(), at(moment, subject_in(record)), section)
    return [f for f in next(iter(found.values()))["it"] if f.kind == "pharmacogenomics"]


def own(record: Record) -> pl.DataFrame:
    return record.events(codes=["GENOME//VARIANT//*", "GENOME//SIGNIFICANCE//*", "PGX//*"]).collect().sort("code")


# --- what the events say


def test_genes_and_variants_become_rows(made: SimpleNamespace, cases: ModuleType) -> None:
    found = made.findings(pgx=cases.POOR, variants=(cases.FRAMESHIFT,))
    events = finding_events(found, subject_id=7)
    assert conform(events).equals(events)
    rows = {row["code"]: row for row in events.iter_rows(named=True)}
    named = "NM_000001.1:c.5del (NP_000001.1:p.(Leu2ArgfsTer9))"
    assert {code: row["text_value"] for code, row in rows.items()} == {
        "GENOME//VARIANT//GENE1": f"{named}, heterozygous, frameshift_variant",
        "GENOME//SIGNIFICANCE//GENE1": "likely pathogenic (suggested: PVS1)",
        "PGX//CYP2C19//DIPLOTYPE": "*2/*2",
        "PGX//CYP2C19//PHENOTYPE": "Poor Metabolizer",
    }
    assert rows["GENOME//VARIANT//GENE1"]["numeric_value"] == 1
    assert rows["GENOME//VARIANT//GENE1"]["source"] == "VCF//a.vcf//P7//chr1:1000:CT:C"
    assert rows["PGX//CYP2C19//DIPLOTYPE"]["source"] == "VCF//a.vcf//P7//PGX//CYP2C19"
    assert set(events["asset"]) == {made.path.absolute().as_uri()}


def test_the_score_is_a_number_beside_its_diplotype(cases: ModuleType) -> None:
    events = finding_events(GenomeFindings(ORIGIN, pgx=cases.of(cases.result("CYP2C9", "*1/*3"))), subject_id=1)
    score = events.filter(pl.col("code") == "PGX//CYP2C9//ACTIVITY_SCORE")
    assert score["numeric_value"].to_list() == [1.0]
    read = genotypes_of(events)["CYP2C9"]
    assert (read.phenotype, read.score) == ("Intermediate Metabolizer", 1.0)


def test_a_variant_that_could_not_be_judged_says_so_and_has_no_number(cases: ModuleType) -> None:
    unsure = replace(
        cases.FRAMESHIFT, presence="indeterminate", reason="no call, depth 2", copies=None, significance=""
    )
    row = finding_events(GenomeFindings(ORIGIN, variants=(unsure,)), subject_id=1).row(0, named=True)
    assert row["text_value"].startswith("indeterminate: NM_000001.1:c.5del")
    assert row["text_value"].endswith("no call, depth 2")
    assert row["numeric_value"] is None


def test_long_alleles_keep_sources_apart_and_short(cases: ModuleType) -> None:
    long = [replace(cases.FRAMESHIFT, variant=Variant("1", 9, "A", "A" + base * 5000)) for base in "CG"]
    sources = finding_events(GenomeFindings(ORIGIN, variants=tuple(long)), subject_id=1)["source"].unique()
    assert len(sources) == 2
    assert all(len(source) < 2 * LONGEST_ALLELE for source in sources)


def test_a_variant_that_is_there_twice_is_refused(cases: ModuleType) -> None:
    with pytest.raises(InputError, match="there twice"):
        finding_events(GenomeFindings(ORIGIN, variants=(cases.FRAMESHIFT, cases.FRAMESHIFT)), subject_id=1)


# --- indeterminate stays indeterminate, whatever the reason says


@given(
    gene=st.sampled_from(GENES),
    reason=st.one_of(
        st.text(max_size=60),
        st.lists(
            st.sampled_from(
                ["*1/*1", "*2/*2", " or ", "; ", "Normal Metabolizer", "AS 2", "negative", "CYP2C19", "AA"]
            ),
            max_size=6,
        ).map("".join),
    ),
)
@settings(max_examples=300, deadline=None, derandomize=True)
def test_no_reason_makes_an_indeterminate_gene_a_result(gene: str, reason: str) -> None:
    unknown = Genotype(gene, INDETERMINATE, "")
    result = GeneResult(gene, "indeterminate", (Diplotype("*1", "*1"),), unknown, (), (), reasons=(reason,))
    events = finding_events(GenomeFindings(ORIGIN, pgx=PgxResult("P7", "GRCh38", "a.vcf", (result,))), subject_id=1)
    assert events.height == 2
    assert genotypes_of(events)[gene].phenotype.endswith("Indeterminate")


def test_several_diplotypes_count_only_if_they_agree(cases: ModuleType) -> None:
    differing = cases.result("CYP2C19", "*1/*2", "*2/*2")
    alike = cases.result("TPMT", "*3A/*3C", "*3B/*3C")
    events = finding_events(GenomeFindings(ORIGIN, pgx=cases.of(differing, alike)), subject_id=1)
    texts = dict(events.select("code", "text_value").iter_rows())
    assert texts["PGX//CYP2C19//DIPLOTYPE"] == "*1/*2 or *2/*2"
    assert texts["PGX//CYP2C19//PHENOTYPE"] == "Indeterminate"
    read = genotypes_of(events)
    assert read["CYP2C19"].phenotype == "Indeterminate"
    assert read["TPMT"].phenotype == texts["PGX//TPMT//PHENOTYPE"] == "Poor Metabolizer"


def test_without_a_reason_the_unknown_sites_are_named(cases: ModuleType) -> None:
    result = cases.result("CYP2C19", status="indeterminate", sites=(cases.site("*2", "no-call"),))
    assert gene_text(result) == "indeterminate: rs4244285 no-call"


# --- the safety check


def test_safety_sees_a_poor_metabolizer_of_a_file(made: SimpleNamespace, cases: ModuleType) -> None:
    before = of_clopidogrel(Record.open(made.record))
    assert [f.rule for f in before] == ["pgx-clopidogrel-cyp2c19-missing"]
    record = record_findings(made.record, made.findings(pgx=cases.POOR))
    found = of_clopidogrel(record)
    assert found
    assert {f.severity for f in found} <= {"block", "caution"}
    assert all("poor metabolizer" in f.text for f in found)
    assert not any(f.rule.endswith("missing") for f in found)


def test_an_indeterminate_gene_is_not_known_and_never_normal(made: SimpleNamespace, cases: ModuleType) -> None:
    record = record_findings(made.record, made.findings(pgx=cases.UNSEEN))
    (found,) = of_clopidogrel(record)
    assert found.rule == "pgx-clopidogrel-cyp2c19-missing"
    assert "gives no phenotype" in found.text
    assert "normal" not in found.text.lower()
    assert "rs4244285 is absent" in found.facts[0]


def test_an_indeterminate_gene_does_not_shake_a_laboratory_result(made: SimpleNamespace, cases: ModuleType) -> None:
    record = record_findings(made.record, made.findings(pgx=cases.UNSEEN))
    firm = {
        "subject_id": [subject_in(record)],
        "time": [None],
        "code": ["PGX//CYP2C19//DIPLOTYPE"],
        "text_value": ["*1/*1"],
    }
    record = record.append(conform(pl.DataFrame(firm)), key="laboratory")
    assert not any(f.rule.endswith("missing") for f in of_clopidogrel(record))


# --- times: nothing is visible before it was known


def test_without_a_date_a_germline_finding_is_static(made: SimpleNamespace, cases: ModuleType) -> None:
    events = finding_events(made.findings(pgx=cases.POOR), subject_id=1)
    assert events["time"].null_count() == events["known_time"].null_count() == 2


def test_times_are_those_of_ingest(tmp_path: Path, cases: ModuleType, samples_file: Callable[[str], Path]) -> None:
    path = cases.vcf(tmp_path / "a.vcf", lines=("##fileDate=20240229",))
    dated = sample_origin(path)
    assert (dated.time, dated.known_time) == (DAY, DAY + timedelta(days=1, seconds=-1))
    given_time = sample_origin(path, samples=samples_file("P7,patient 7,2023-05-01T09:00:00Z"), origin="lab")
    assert given_time.time == given_time.known_time == datetime(2023, 5, 1, 9, tzinfo=UTC)
    assert given_time.subject == "lab:patient 7"


def test_the_subject_is_the_one_that_ingest_gave_the_file(made: SimpleNamespace, cases: ModuleType) -> None:
    record = record_findings(made.record, made.findings(pgx=cases.POOR, variants=(cases.FRAMESHIFT,)))
    rows = record.events().collect()
    assert rows["subject_id"].n_unique() == 1
    assert rows["asset"].n_unique() == 1
    assert rows.filter(pl.col("code") == "GENOME//VCF").height == 1


@given(hours=st.integers(-60, 60), known_hours=st.none() | st.integers(0, 40))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_nothing_is_visible_before_it_was_known(hours: int, known_hours: int | None) -> None:
    time = datetime(2024, 1, 10, tzinfo=UTC)
    origin = replace(ORIGIN, time=time, known_time=time + timedelta(days=1, seconds=-1))
    known_from = None if known_hours is None else time + timedelta(hours=known_hours)
    gene = GeneResult("CYP2C19", "called", (Diplotype("*2", "*2"),), genotype("CYP2C19", "*2/*2"), (), ())
    found = GenomeFindings(origin, pgx=PgxResult("P7", "GRCh38", "a.vcf", (gene,)))
    events = finding_events(found, subject_id=1, known_from=known_from)
    moment = time + timedelta(hours=hours)
    known = known_from or origin.known_time
    assert known is not None
    seen = history(events.lazy(), at(moment, 1)).collect()
    assert seen.height == (2 if moment >= known else 0)
    assert bool(patient_genotypes(events.lazy(), at(moment, 1))) == (moment >= known)


def test_known_from_needs_a_zone_and_comes_after_the_sample(cases: ModuleType) -> None:
    found = GenomeFindings(replace(ORIGIN, time=NOW, known_time=NOW), pgx=cases.POOR)
    for wrong in (datetime(2027, 1, 1), NOW - timedelta(days=1)):
        with pytest.raises(InputError, match="known_from"):
            finding_events(found, subject_id=1, known_from=wrong)
    static = GenomeFindings(ORIGIN, pgx=cases.POOR)
    assert set(finding_events(static, subject_id=1, known_from=NOW)["time"]) == {NOW}


def test_a_somatic_variant_needs_a_time(cases: ModuleType) -> None:
    somatic = replace(cases.FRAMESHIFT, source_class="somatic")
    with pytest.raises(InputError, match="no fact for life"):
        finding_events(GenomeFindings(ORIGIN, variants=(somatic,)), subject_id=1)
    dated = GenomeFindings(replace(ORIGIN, time=NOW, known_time=NOW), variants=(somatic,))
    assert "somatic" in finding_events(dated, subject_id=1)["text_value"][0]


# --- whose


@pytest.mark.parametrize(
    ("lines", "sample", "rule"),
    [
        ("P8,x,", "P7", "not in the samples file"),
        (None, "tumor", "is a role"),
        (None, "nobody", "no sample of that name"),
    ],
)
def test_a_sample_of_nobody_is_refused(
    tmp_path: Path, cases: ModuleType, samples_file: Callable[[str], Path], lines: str, sample: str, rule: str
) -> None:
    path = cases.vcf(tmp_path / "a.vcf", samples=("P7", "tumor"))
    with pytest.raises(InputError, match=rule):
        sample_origin(path, sample, samples=samples_file(lines) if lines else None)
    with pytest.raises(InputError, match="name the sample"):
        sample_origin(path)


def test_sources_name_the_file_as_ingest_does(tmp_path: Path, cases: ModuleType) -> None:
    (tmp_path / "ward").mkdir()
    path = cases.vcf(tmp_path / "ward" / "a.vcf")
    assert sample_origin(path, root=tmp_path).source == "VCF//ward/a.vcf//P7"
    assert sample_origin(path).source == "VCF//a.vcf//P7"


# --- again, and newer


def test_the_same_again_changes_nothing(made: SimpleNamespace, cases: ModuleType) -> None:
    found = made.findings(pgx=cases.POOR, variants=(cases.FRAMESHIFT,))
    once = record_findings(made.record, found)
    again = record_findings(made.record, found)
    assert again.version == once.version
    assert again.events().collect().height == 1 + 4


def test_a_newer_call_replaces_the_older_and_what_it_no_longer_finds(made: SimpleNamespace, cases: ModuleType) -> None:
    second = replace(cases.FRAMESHIFT, variant=Variant("chr1", 5000, "A", "G"))
    record_findings(made.record, made.findings(pgx=cases.POOR, variants=(cases.FRAMESHIFT, second)))
    newer = replace(second, copies=2, genotype="1/1")
    record = record_findings(made.record, made.findings(pgx=cases.UNSEEN, variants=(newer,)))
    rows = own(record)
    variants = rows.filter(pl.col("code").str.starts_with("GENOME//VARIANT"))
    assert variants["source"].to_list() == ["VCF//a.vcf//P7//chr1:5001:A:G"]
    assert variants["numeric_value"].to_list() == [2.0]
    assert rows.filter(pl.col("code") == "PGX//CYP2C19//DIPLOTYPE")["text_value"][0].startswith("indeterminate")
    assert record.events().collect().height == 1 + 4
    older = record_findings(made.record, made.findings(pgx=cases.POOR, variants=(cases.FRAMESHIFT, second)))
    assert own(older).filter(pl.col("code") == "PGX//CYP2C19//DIPLOTYPE")["text_value"].to_list() == ["*2/*2"]


def test_genes_leave_variants_alone_and_the_other_way_round(made: SimpleNamespace, cases: ModuleType) -> None:
    record_findings(made.record, made.findings(variants=(cases.FRAMESHIFT,)))
    record = record_findings(made.record, made.findings(pgx=cases.POOR))
    assert own(record).height == 4
    none_left = record_findings(made.record, made.findings(variants=()))
    assert own(none_left)["code"].to_list() == ["PGX//CYP2C19//DIPLOTYPE", "PGX//CYP2C19//PHENOTYPE"]


def test_genes_that_were_not_asked_for_stay(made: SimpleNamespace, cases: ModuleType) -> None:
    record_findings(made.record, made.findings(pgx=cases.POOR))
    record = record_findings(made.record, made.findings(pgx=cases.of(cases.result("TPMT", "*1/*1"))))
    assert genotypes_of(own(record)).keys() == {"CYP2C19", "TPMT"}


def test_another_sample_of_the_file_keeps_its_findings(tmp_path: Path, cases: ModuleType) -> None:
    path = cases.vcf(tmp_path / "a.vcf", samples=("P7", "P77"))
    Record.create(tmp_path / "record")
    for sample in ("P77", "P7"):
        record_findings(tmp_path / "record", GenomeFindings(sample_origin(path, sample), pgx=cases.POOR))
    refused = cases.of(refused=(RefusedGene("CYP2C19", "why", "test"),))
    record = record_findings(tmp_path / "record", GenomeFindings(sample_origin(path, "P7"), pgx=refused))
    assert own(record)["source"].unique().to_list() == ["VCF//a.vcf//P77//PGX//CYP2C19"]


def test_a_corrected_samples_file_moves_the_findings(
    made: SimpleNamespace, cases: ModuleType, samples_file: Callable[[str], Path]
) -> None:
    first = record_findings(made.record, made.findings(pgx=cases.POOR))
    before = set(own(first)["subject_id"])
    moved = GenomeFindings(sample_origin(made.path, samples=samples_file("P7,another,")), pgx=cases.POOR)
    after = set(own(record_findings(made.record, moved))["subject_id"])
    assert len(after) == 1
    assert after.isdisjoint(before)


def test_codes_are_described(made: SimpleNamespace, cases: ModuleType) -> None:
    record = record_findings(made.record, made.findings(pgx=cases.POOR, variants=(cases.FRAMESHIFT,)))
    described = dict(record.code_metadata().select("code", "description").iter_rows())
    assert described["PGX//CYP2C19//DIPLOTYPE"] == "CYP2C19: diplotype from a variant file"
    assert described["GENOME//VARIANT//GENE1"] == "GENE1: copies of a variant"


@pytest.mark.parametrize("name", GENES)
def test_every_gene_of_the_tables_has_a_wording_for_indeterminate(name: str) -> None:
    assert genotype(name, "Indeterminate").phenotype.endswith("Indeterminate")
