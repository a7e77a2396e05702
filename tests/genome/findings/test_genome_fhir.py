"""The bundle against fhir.resources, the guide's own profiles and careloop's reader, and what it must not carry."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import polars as pl
import pytest

from careloop import InputError
from careloop.genome.findings.events import finding_events
from careloop.genome.findings.fhir import PatientKey, codes, findings_bundle, write_bundle
from careloop.genome.findings.finding import GenomeFindings
from careloop.genome.pharmacogenes.genotype_events import genotypes_of
from careloop.genome.pharmacogenes.results import UnlistedVariant
from careloop.genome.variant import Variant
from careloop.ingest import ingest_paths
from careloop.record import Record

Json = dict[str, Any]
MADE = datetime(2026, 3, 1, 12, tzinfo=UTC)
PATIENT = PatientKey("p-7")
GUIDE: dict[str, Any] = json.loads(Path(__file__).with_name("guide_profiles.json").read_text(encoding="utf-8"))


@pytest.fixture
def whole(made: SimpleNamespace, cases: ModuleType) -> GenomeFindings:
    """Findings of every kind: two genes that are known, one of them ambiguous, one that is not, one refused."""
    genes = (
        *cases.POOR.genes,
        cases.result("TPMT", "*3A/*3C", "*3B/*3C"),
        cases.result("CYP2C9", "*1/*3", unlisted_variants=(UnlistedVariant(Variant("10", 7, "A", "G"), True),)),
        cases.result("DPYD", status="indeterminate", reasons=("c.1905+1G>A; *2A is absent",)),
    )
    deletion = replace(cases.FRAMESHIFT, variant=Variant("chrX", 99, "C", "<DEL>"), hgvs_c="", hgvs_p="", gene="")
    unsure = replace(cases.FRAMESHIFT, gene="GENE2", presence="indeterminate", reason="no call", copies=None)
    variants = (cases.FRAMESHIFT, deletion, unsure)
    found: GenomeFindings = made.findings(pgx=cases.of(*genes, refused=cases.POOR.refused), variants=variants)
    return found


@pytest.fixture
def bundle(whole: GenomeFindings) -> Json:
    return findings_bundle(whole, patient=PATIENT, made_at=MADE)


def resources(bundle: Json, profile: str) -> list[Json]:
    ending = f"/StructureDefinition/{profile}"
    everything = (entry["resource"] for entry in bundle["entry"])
    return [each for each in everything if any(p.endswith(ending) for p in each["meta"].get("profile", ()))]


def values(observation: Json, code: codes.Coded) -> list[Any]:
    """What the components with a LOINC code hold: text, or display of a concept."""
    found = [c for c in observation["component"] if c["code"].get("coding", [{}])[0].get("code") == code[0]]
    return [next(v for k, v in c.items() if k.startswith("value")) for c in found]


# --- the standards


def test_an_independent_model_reads_every_resource(bundle: Json) -> None:
    bundles = pytest.importorskip("fhir.resources.R4B.bundle", reason="fhir.resources is not installed")
    read = bundles.Bundle.model_validate_json(json.dumps(bundle))
    assert [e.resource.id for e in read.entry] == [e["resource"]["id"] for e in bundle["entry"]]


@pytest.mark.parametrize("profile", GUIDE)
def test_resources_keep_the_profiles_of_the_guide(bundle: Json, profile: str) -> None:
    found = resources(bundle, profile)
    rules = GUIDE[profile]
    assert found, f"no resource of {profile}"
    for resource in found:
        if rules["code"]:
            coding = resource["code"]["coding"][0]
            assert [coding["system"], coding["code"]] == rules["code"]
        for one in resource.get("component", ()):
            coding = one["code"]["coding"][0]
            (kind,) = [key.removeprefix("value") for key in one if key.startswith("value")]
            allowed = rules["components"][f"{coding['system']}#{coding['code']}"]
            assert kind.lower() in allowed.lower().split(" or ")
        has_value = any(key.startswith("value") for key in resource)
        assert not (has_value and "value[x]" in rules["forbidden"])
        assert not set(resource) & set(rules["forbidden"])
        assert all(resource.get(name) or (name == "value[x]" and has_value) for name in rules["required"])
        own = [e["url"] for e in resource.get("extension", ()) if e["url"].startswith(codes.PROFILE)]
        assert {url.rpartition("/")[2] for url in own} <= set(rules["extensions"])


def test_observations_have_both_categories(bundle: Json) -> None:
    for entry in bundle["entry"]:
        if entry["resource"]["resourceType"] == "Observation":
            assert [c["coding"][0]["code"] for c in entry["resource"]["category"]] == ["laboratory", "GE"]


def test_every_loinc_code_has_its_check_digit() -> None:
    """The last digit is Luhn's mod 10, letters counting as their ASCII code less 48: a slip in any one digit shows."""
    found = set(re.findall(r'"((?:LA)?\d{3,})-(\d)"', inspect.getsource(codes)))
    assert len(found) > 60
    for number, check in found:
        places = [(ord(c) - 48) * (2 if i % 2 == 0 else 1) for i, c in enumerate(reversed(number))]
        total = sum(sum(map(int, str(v))) if i % 2 == 0 else v for i, v in enumerate(places))
        assert -total % 10 == int(check), number


def test_references_lead_somewhere(bundle: Json) -> None:
    there = {entry["fullUrl"] for entry in bundle["entry"]}
    assert len(there) == len(bundle["entry"])
    used = set(re.findall(r'"(urn:uuid:[^"]+)"', json.dumps([entry["resource"] for entry in bundle["entry"]])))
    assert used <= there


def test_the_same_findings_give_the_same_bundle(whole: GenomeFindings, bundle: Json) -> None:
    assert findings_bundle(whole, patient=PATIENT, made_at=MADE) == bundle
    assert findings_bundle(whole, patient=PatientKey("p-8"), made_at=MADE)["id"] != bundle["id"]


# --- our own reader


@pytest.mark.parametrize("patient", [PATIENT, PatientKey("4711", "urn:oid:1.2.3")])
def test_our_reader_gets_the_same_genotypes(tmp_path: Path, whole: GenomeFindings, patient: PatientKey) -> None:
    write_bundle(findings_bundle(whole, patient=patient, made_at=MADE), tmp_path / "report.json")
    ingest_paths("fhir", [tmp_path / "report.json"], tmp_path / "again")
    events = Record.open(tmp_path / "again").events().collect()
    assert events["subject_id"].n_unique() == 1
    assert events.filter(pl.col("known_time") < MADE).is_empty()
    written = genotypes_of(finding_events(whole, subject_id=1))
    read = genotypes_of(events)
    assert read.keys() == written.keys() == {"CYP2C19", "TPMT", "CYP2C9", "DPYD"}
    assert {gene: result.phenotype for gene, result in read.items()} == {
        gene: result.phenotype for gene, result in written.items()
    }
    assert {gene: result.score for gene, result in read.items()} == {g: r.score for g, r in written.items()}
    assert read["DPYD"].phenotype == "Indeterminate"


# --- what it says


def test_a_variant_has_its_names_place_and_state(bundle: Json) -> None:
    found = next(v for v in resources(bundle, "variant") if values(v, codes.CODING_HGVS))
    assert found["valueCodeableConcept"]["coding"][0]["display"] == "Present"
    assert values(found, codes.CODING_HGVS)[0]["coding"][0]["code"] == "NM_000001.1:c.5del"
    assert (values(found, codes.REF_ALLELE), values(found, codes.ALT_ALLELE)) == (["CT"], ["C"])
    assert values(found, codes.START_END) == [{"low": {"value": 1000}, "high": {"value": 1001}}]
    assert values(found, codes.REFERENCE_SEQUENCE)[0]["coding"][0]["code"] == "NC_000001.11"
    assert values(found, codes.ALLELIC_STATE)[0]["coding"][0]["display"] == "Heterozygous"
    assert not values(found, codes.GENOMIC_HGVS)  # HGVS shifts indels to the right, which a VCF does not


def test_defining_sites_are_variants_of_their_gene(bundle: Json) -> None:
    snv = next(v for v in resources(bundle, "variant") if values(v, codes.GENOMIC_HGVS))
    assert values(snv, codes.GENOMIC_HGVS)[0]["coding"][0]["code"] == "NC_000010.11:g.94781859G>A"
    assert values(snv, codes.VARIATION_CODE)[0]["coding"][0]["code"] == "rs4244285"
    genotype = next(g for g in resources(bundle, "genotype") if "CYP2C19" in g["valueCodeableConcept"]["text"])
    assert genotype["derivedFrom"] == [{"reference": f"urn:uuid:{snv['id']}"}]


@pytest.mark.parametrize(
    ("state", "display"),
    [("no-call", "No call"), ("absent", ""), ("mismatch", "Indeterminate"), ("spanned", "Indeterminate")],
)
def test_a_site_that_is_not_known_is_never_absent(
    made: SimpleNamespace, cases: ModuleType, state: str, display: str
) -> None:
    gene = cases.result("CYP2C19", status="indeterminate", sites=(cases.site("*2", state, reason="why"),))
    bundle = findings_bundle(made.findings(pgx=cases.of(gene)), patient=PATIENT, made_at=MADE)
    sites = resources(bundle, "variant")
    assert [site["valueCodeableConcept"]["coding"][0]["display"] for site in sites] == ([display] if display else [])
    assert all(site["note"][0]["text"] == "why" for site in sites)
    assert not resources(bundle, "therapeutic-implication")
    (analysis,) = resources(bundle, "genomic-study-analysis")
    regions = next(e for e in analysis["extension"] if e["url"].endswith("regions"))["extension"]
    assert [r["url"] for r in regions] == ["description", "studied", "uncalled"]
    assert f"0 of 1 defining positions known; not known: rs4244285 ({state})" in regions[0]["valueString"]


def test_a_recommendation_is_word_for_word_with_its_source(bundle: Json, cases: ModuleType) -> None:
    rule = cases.POOR.genes[0].recommendations[0]
    found = next(
        i for i in resources(bundle, "therapeutic-implication")
        if values(i, codes.MEDICATION)[0]["coding"][0]["display"] == "clopidogrel"
    )  # fmt: skip
    assert rule.text in values(found, ("conclusion-string", ""))
    assert values(found, codes.MEDICATION)[0]["coding"][0] == {
        "system": codes.RXNORM, "code": "32968", "display": "clopidogrel",
    }  # fmt: skip
    assert values(found, ("therapeutic-implication", ""))[0]["coding"][0]["code"] == "LA9657-3"
    assert found["extension"][0]["valueRelatedArtifact"]["citation"] == rule.citation


def test_the_report_never_says_negative(made: SimpleNamespace, cases: ModuleType, bundle: Json) -> None:
    def overall(**found: Any) -> list[str]:
        report = findings_bundle(made.findings(**found), patient=PATIENT, made_at=MADE)["entry"][0]["resource"]
        return [each["coding"][0]["display"] for each in report.get("conclusionCode", ())]

    assert overall(variants=(cases.FRAMESHIFT,)) == ["Positive"]
    assert overall(variants=()) == ["Inconclusive"]
    assert overall(pgx=cases.POOR) == []
    conclusion = bundle["entry"][0]["resource"]["conclusion"]
    assert "CYP2C19 *2/*2: Poor Metabolizer." in conclusion
    assert "CYP2D6 was not read: structural alleles" in conclusion
    assert conclusion.endswith("Not for clinical use.")


def test_every_resource_says_that_it_is_not_for_clinical_use(bundle: Json, whole: GenomeFindings) -> None:
    tags = [[t["code"] for t in entry["resource"]["meta"]["tag"]] for entry in bundle["entry"]]
    assert all(each == ["not-for-clinical-use"] for each in tags)
    simulated = findings_bundle(replace(whole, simulated=True), patient=PATIENT, made_at=MADE)
    assert all(entry["resource"]["meta"]["tag"][1]["code"] == "simulated" for entry in simulated["entry"])


# --- what it must not carry


def test_no_file_sample_or_genome_leaves(whole: GenomeFindings, cases: ModuleType) -> None:
    origin = replace(
        whole.origin, path=Path("/secret/Meier.vcf"), name="Meier.vcf", sample="MEIER-ANNA", subject="4711"
    )
    text = json.dumps(findings_bundle(replace(whole, origin=origin), patient=PATIENT, made_at=MADE))
    assert not re.search("secret|meier|4711|file:", text, re.IGNORECASE)
    many = tuple(replace(cases.FRAMESHIFT, variant=Variant("1", i, "A", "G")) for i in range(1001))
    with pytest.raises(InputError, match="not genomes"):
        findings_bundle(replace(whole, variants=many), patient=PATIENT, made_at=MADE)


@pytest.mark.parametrize("key", ["Meier, Anna", "", "x" * 65])
def test_a_key_that_is_no_fhir_id_is_refused(whole: GenomeFindings, key: str) -> None:
    with pytest.raises(InputError, match="FHIR id"):
        findings_bundle(whole, patient=PatientKey(key), made_at=MADE)


def test_made_at_needs_a_time_zone(whole: GenomeFindings) -> None:
    with pytest.raises(InputError, match="time zone"):
        findings_bundle(whole, patient=PATIENT, made_at=datetime(2026, 3, 1))
