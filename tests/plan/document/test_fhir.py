"""The bundle against HL7's schema of R4, an independent model of R4B, careloop's own reader, and what it must say."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

from careloop import InputError
from careloop.ingest.fhir import fhir_sources
from careloop.plan.document.fhir import plan_bundle
from careloop.plan.document.patient_plan import PatientPlan


def _module(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


plans = _module(Path(__file__).parents[2] / "sample_plans.py")
CASES = {"usual": plans.usual, "abstaining": plans.abstaining, "crowded": plans.crowded, "hostile": plans.hostile}
Make = Callable[[], PatientPlan]
every_plan = pytest.mark.parametrize("make", CASES.values(), ids=CASES)


@pytest.fixture(scope="module")
def r4_schema() -> Any:
    packed = Path(__file__).with_name("fhir_r4_schema.json.xz").read_bytes()
    schema = json.loads(lzma.decompress(packed))
    # Each kind is checked by its own definition, so that errors say what is wrong.
    return {
        kind: jsonschema.Draft7Validator(schema | {"$ref": f"#/definitions/{kind}"}) for kind in schema["definitions"]
    }


def resources(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == kind]


@every_plan
def test_every_resource_keeps_the_schema_of_r4(make: Make, r4_schema: Any) -> None:
    bundle = plan_bundle(make())
    around = {name: value for name, value in bundle.items() if name != "entry"}
    for resource in (around, *(entry["resource"] for entry in bundle["entry"])):
        errors = [e.message for e in r4_schema[resource["resourceType"]].iter_errors(resource)]
        assert not errors, (resource["resourceType"], errors[:3])


def test_the_schema_can_fail(r4_schema: Any) -> None:
    issue = resources(plan_bundle(plans.usual()), "DetectedIssue")[0]
    assert list(r4_schema["DetectedIssue"].iter_errors(issue | {"severity": "grave"}))
    assert list(r4_schema["DetectedIssue"].iter_errors(issue | {"invented": 1}))


@every_plan
def test_an_independent_model_reads_the_bundle(make: Make) -> None:
    bundles = pytest.importorskip("fhir.resources.R4B.bundle", reason="fhir.resources is not installed")
    bundle = plan_bundle(make())
    read = bundles.Bundle.model_validate_json(json.dumps(bundle))
    assert [e.resource.id for e in read.entry] == [e["resource"]["id"] for e in bundle["entry"]]


@every_plan
def test_our_own_reader_rejects_nothing(make: Make, tmp_path: Path) -> None:
    bundle = plan_bundle(make())
    (tmp_path / "plan.json").write_text(json.dumps(bundle), encoding="utf-8")
    batches = [batch for source in fhir_sources(tmp_path / "plan.json") for batch in source.read()]
    assert sum(batch.rows_read for batch in batches) == len(bundle["entry"])
    assert not [reject for batch in batches for reject in batch.rejected]
    assert sum(sum(batch.skipped.values()) for batch in batches) == len(bundle["entry"])  # a plan is no fact


@every_plan
def test_references_within_the_bundle_lead_somewhere(make: Make) -> None:
    bundle = plan_bundle(make())
    there = {entry["fullUrl"] for entry in bundle["entry"]}
    assert len(there) == len(bundle["entry"])

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["reference"]] if "type" in value and "reference" in value else []
            return own + [found for inner in value.values() for found in references(inner)]
        return [found for inner in value for found in references(inner)] if isinstance(value, list) else []

    found = references(bundle)
    assert found
    assert all(reference in there or reference == "Patient/42" for reference in found)


def test_same_plan_gives_the_same_bundle_and_another_other_ids() -> None:
    plan = plans.usual()
    assert plan_bundle(plan) == plan_bundle(plans.usual())
    for other in (
        replace(plan, study="other"),
        replace(plan, made_at=plan.made_at + timedelta(days=1)),
        replace(plan, prediction=replace(plan.prediction, id="other")),
    ):
        assert not {e["fullUrl"] for e in plan_bundle(plan)["entry"]} & {
            e["fullUrl"] for e in plan_bundle(other)["entry"]
        }


def test_the_prediction_is_in_per_cent_with_interval_horizon_and_model() -> None:
    bundle = plan_bundle(plans.usual())
    risk, under_options = resources(bundle, "RiskAssessment")
    entry = risk["prediction"][0]
    assert entry["probabilityDecimal"] == 24.1
    limits = entry["_probabilityDecimal"]["extension"][0]["valueRange"]
    assert (limits["low"]["value"], limits["high"]["value"]) == (18.7, 30.9)
    assert entry["whenPeriod"] == {"start": "2024-03-01T08:30:00Z", "end": "2026-03-01T08:30:00Z"}
    assert "3f9a1c20b7de" in risk["method"]["text"]
    assert "record version 17" in risk["basis"][0]["display"]
    assert len(under_options["prediction"]) == 4
    assert all(0 <= p["probabilityDecimal"] <= 100 for p in under_options["prediction"])


def test_options_become_activities_by_their_status() -> None:
    care = resources(plan_bundle(plans.abstaining()), "CarePlan")[0]
    assert (care["status"], care["intent"]) == ("draft", "proposal")
    assert care["description"].startswith("No option is recommended: the model has not seen patients like this one")
    details = {a["detail"]["code"]["text"]: a["detail"] for a in care["activity"]}
    withheld = details["zidovudine+didanosine"]
    assert (withheld["status"], withheld["doNotPerform"]) == ("cancelled", True)
    assert "forbids" in withheld["statusReason"]["text"]
    assert details["zidovudine+zalcitabine"]["status"] == "on-hold"
    assert details["zidovudine"]["doNotPerform"] is False


def test_an_abstaining_model_gives_no_probability() -> None:
    risk = resources(plan_bundle(plans.abstaining()), "RiskAssessment")[0]
    assert "probabilityDecimal" not in risk["prediction"][0]
    assert "abstains" in risk["prediction"][0]["rationale"]


def test_findings_become_issues_with_severity_mitigation_and_evidence() -> None:
    issues = resources(plan_bundle(plans.crowded()), "DetectedIssue")
    severities = [issue["severity"] for issue in issues]
    assert severities == ["high", "moderate", "moderate", *["moderate"] * 4, *["low"] * 3]
    first = issues[0]
    assert first["code"]["coding"][0]["code"] == "COND"
    assert first["mitigation"][0]["action"]["text"].startswith("Choose another option")
    assert "US FDA label" in first["evidence"][0]["code"][0]["text"]
    assert first["patient"]["reference"] == "Patient/42"


def test_lifestyle_becomes_goals_with_a_coded_target_and_the_caveat() -> None:
    bundle = plan_bundle(plans.usual())
    goals = {goal["description"]["text"]: goal for goal in resources(bundle, "Goal")}
    assert set(goals) == {"stop smoking", "bring blood pressure under control"}  # what is not known is no goal
    target = goals["bring blood pressure under control"]["target"][0]
    assert target["measure"]["coding"][0] == {"system": "http://loinc.org", "code": "8480-6"}
    assert target["detailQuantity"]["code"] == "mm[Hg]"
    told = [a["detail"]["description"] for a in resources(bundle, "CarePlan")[0]["activity"] if "goal" in a["detail"]]
    assert len(told) == 2
    assert all("not what changing it would do" in text for text in told)


@every_plan
def test_all_say_that_a_machine_made_them_and_that_they_are_not_for_clinical_use(make: Make) -> None:
    bundle = plan_bundle(make())
    for resource in [bundle, *(entry["resource"] for entry in bundle["entry"])]:
        assert resource["meta"]["security"][0]["code"] == "AIAST"
        assert resource["meta"]["tag"][0]["code"] == "not-for-clinical-use"
    provenance = resources(bundle, "Provenance")[0]
    assert len(provenance["target"]) == len(bundle["entry"]) - 1


def test_a_key_that_is_no_fhir_id_is_refused_without_naming_it() -> None:
    plan = plans.usual()
    wrong = replace(plan, prediction=replace(plan.prediction, patient_key="Zhang San/42"))
    with pytest.raises(InputError, match="patient key must be") as error:
        plan_bundle(wrong)
    assert "Zhang" not in str(error.value)
