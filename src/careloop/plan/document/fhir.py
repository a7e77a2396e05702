"""One patient's plan as a FHIR R4 Bundle: RiskAssessment, CarePlan with Goals, DetectedIssues, Device, Provenance.

Pure functions from a `PatientPlan`. Identifiers are name-based UUIDs (RFC 9562, version 5) of the prediction's id, so
that the same plan gives the same bundle. Every resource carries the security label AIAST (artificial intelligence
asserted, HL7 v3-ObservationValue, as the AI Transparency on FHIR guide recommends) and a tag: not for clinical use.

Probabilities are per cent, as R4 has it (RiskAssessment.prediction.probability: "decimals are expressed as
percentages"); R4 has no place for an interval beside a value, so that stands in an extension, and in words.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from careloop import InputError
from careloop.evaluate import Estimate
from careloop.plan.document.lifestyle import CAVEAT, LifestyleOption
from careloop.plan.document.patient_plan import PatientOption, PatientPlan, Reason
from careloop.plan.safety.finding import Finding

Json = dict[str, Any]
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:careloop:plan")
NOT_CLINICAL = "Research software. Not for clinical use."
NOT_CHECKED = "Safety rules were not asked."
UCUM = "http://unitsofmeasure.org"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
INTERVAL, OPTION, RANK = (f"urn:careloop:fhir:{name}" for name in ("interval-95", "option", "rank"))
META = {
    "security": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
            "code": "AIAST",
            "display": "Artificial Intelligence asserted",
        }
    ],
    "tag": [{"system": "urn:careloop:fhir:tag", "code": "not-for-clinical-use", "display": NOT_CLINICAL}],
}
# A fact that is not known is as serious as what it might hide; what is only to be known is low.
SEVERITY = {"block": "high", "ask": "moderate", "caution": "moderate", "info": "low"}
# Kinds of findings by HL7's codes of detected issues; others have words only.
ISSUES = {
    "allergy": ("ALGY", "Allergy Alert"),
    "interaction": ("DRG", "Drug Interaction Alert"),
    "duplicate": ("DUPTHPY", "Duplicate Therapy Alert"),
    "condition": ("COND", "Condition Alert"),
    "laboratory": ("LAB", "Lab Alert"),
    "pregnancy": ("PREG", "Pregnancy Alert"),
    "age": ("AGE", "Age Alert"),
    "dose": ("DOSE", "Dosage problem alert"),
    "pharmacogenomics": ("GEN", "Genetic Alert"),
}
# CarePlan.activity.detail.status and doNotPerform of each status of an option.
ACTIVITY = {
    "recommended": ("not-started", False),
    "offered": ("not-started", False),
    "demoted": ("not-started", False),
    "ask": ("on-hold", False),
    "withheld": ("cancelled", True),
    "not_ranked": ("unknown", False),
}
REASONS = {
    "best_single": "best option on average",
    "individual": "expected to do better than {0} for this patient",
    "tied": "cannot be told from {0}",
    "tied_best": "the best options cannot be told apart: {0}",
    "worse": "did worse than {0}",
    "lower_ranked": "ranked below the others",
    "few_comparable": "too few comparable patients were given {0}",
    "no_overlap": "its effect cannot be estimated",
    "too_few_options": "fewer than two options have enough comparable patients",
    "caution": "a safety caution about {0}",
    "not_listed": "the drugs of {0} are not listed in the study, so no safety rule was asked",
    "missing_fact": "a fact that a safety rule on {0} needs is not known",
    "blocked": "a safety rule on {0} forbids it",
    "advice_withheld": "the best option, {0}, is held back by a safety rule; none of the others is shown to be best",
    "advice_demoted": "the best option, {0}, carries a caution that the others do not; a clinician must weigh it",
    "outside_population": "the model has not seen patients like this one",
    "no_plan": "the study compares no treatments",
}
# Resources that have a place for notes; in the others the tag, or a text, says it.
NOTED = {"Device", "RiskAssessment", "CarePlan", "Goal"}
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")  # FHIR R4 section 2.24.0.1, type id


def plan_bundle(plan: PatientPlan) -> Json:
    """The plan as a FHIR R4 Bundle of type collection, as plain JSON values.

    InputError: the patient key cannot be a FHIR id (letters, digits, `-` and `.`, at most 64), so that no reference to
    the patient could be made.
    """
    if not _ID.fullmatch(plan.prediction.patient_key):
        raise InputError(
            "plan as FHIR: the patient key must be letters, digits, '-' and '.', at most 64, as FHIR ids are; "
            "give the hospital's FHIR id of the patient"
        )
    resources = [
        _device(plan),
        _risk_assessment(plan),
        *_option_risks(plan),
        *(_goal(plan, option) for option in _offered(plan)),
        _care_plan(plan),
        *(_detected_issue(plan, finding, number) for number, finding in enumerate(plan.findings)),
    ]
    resources.append(_provenance(plan, resources))
    return {
        "resourceType": "Bundle",
        "id": _id(plan, "Bundle"),
        "meta": META,
        "identifier": {"system": "urn:careloop:plan", "value": f"{plan.study}:{plan.prediction.id}"},
        "type": "collection",
        "timestamp": _instant(plan.made_at),
        "entry": [{"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource} for resource in resources],
    }


def _id(plan: PatientPlan, kind: str, name: str = "") -> str:
    made = _instant(plan.made_at)
    return str(uuid.uuid5(NAMESPACE, "\x1f".join((plan.study, plan.prediction.id, made, kind, name))))


def _resource(plan: PatientPlan, kind: str, content: Json, *, name: str = "") -> Json:
    """The resource; its note that it is not for clinical use comes last."""
    noted = {"note": [*content.get("note", ()), {"text": NOT_CLINICAL}]} if kind in NOTED else {}
    return {"resourceType": kind, "id": _id(plan, kind, name), "meta": META, **content, **noted}


def _to(plan: PatientPlan, kind: str, name: str = "") -> Json:
    """A reference to another resource of the bundle."""
    return {"reference": f"urn:uuid:{_id(plan, kind, name)}", "type": kind}


def _patient(plan: PatientPlan) -> Json:
    return {"reference": f"Patient/{plan.prediction.patient_key}", "type": "Patient"}


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _device(plan: PatientPlan) -> Json:
    """The model, as the thing that said all this."""
    prediction = plan.prediction
    return _resource(
        plan,
        "Device",
        {
            "identifier": [{"system": "urn:careloop:model", "value": f"{prediction.model}@{prediction.model_version}"}],
            "deviceName": [{"name": prediction.model, "type": "model-name"}],
            "type": {"text": "clinical prediction model (software)"},
            "version": [{"value": prediction.model_version}, {"type": {"text": "software"}, "value": plan.software}],
        },
    )


def _risk_assessment(plan: PatientPlan) -> Json:
    """The prediction; where the model abstains there is no probability, and the rationale says why."""
    prediction = plan.prediction
    entry: Json = {"outcome": {"text": prediction.target}, "whenPeriod": _horizon(plan)}
    if prediction.abstain_reason is not None:
        entry["rationale"] = f"The model abstains: {prediction.abstain_reason}."
    else:
        entry |= _probability(prediction.risk)
    return _risk(plan, "prediction", entry, basis_text="the care that the training patients had")


def _option_risks(plan: PatientPlan) -> Iterator[Json]:
    """One assessment with the expected risk under each option, where the goal is an event."""
    if plan.goal is None or plan.goal.kind != "event":
        return
    entries = [
        {
            "extension": [{"url": OPTION, "valueString": option.name}],
            "outcome": {"text": f"{plan.prediction.target}, if given {option.name}"},
            "whenPeriod": _horizon(plan),
            **_probability(option.expected),
        }
        for option in plan.options
        if option.expected is not None and option.expected.value is not None
    ]
    if entries:
        yield _risk(plan, "options", *entries, basis_text="each option, given to this patient")


def _risk(plan: PatientPlan, name: str, *entries: Json, basis_text: str) -> Json:
    prediction = plan.prediction
    basis = f"record version {prediction.data_version}" + (
        f", rows {prediction.data_hash}" if prediction.data_hash else ""
    )
    return _resource(
        plan,
        "RiskAssessment",
        {
            "identifier": [{"system": "urn:careloop:prediction", "value": f"{prediction.id}:{name}"}],
            "status": "final",
            "method": {"text": f"{prediction.model}, version {prediction.model_version}"},
            "code": {"text": f"risk of {prediction.target} under {basis_text}"},
            "subject": _patient(plan),
            "occurrenceDateTime": _instant(prediction.as_of),
            "performer": _to(plan, "Device"),
            "basis": [{"display": basis}],
            "prediction": list(entries),
        },
        name=name,
    )


def _horizon(plan: PatientPlan) -> Json:
    start = plan.prediction.as_of
    return {"start": _instant(start), "end": _instant(start + timedelta(days=plan.prediction.horizon_days))}


def _probability(risk: Estimate | None) -> Json:
    """A probability in per cent with its interval."""
    if risk is None or risk.value is None:
        return {"rationale": "not estimable" + (f": {risk.reason}" if risk and risk.reason else "")}
    found: Json = {"probabilityDecimal": _decimal(100 * risk.value)}
    if risk.low is not None and risk.high is not None:
        low, high = _decimal(100 * risk.low), _decimal(100 * risk.high)
        value = {"low": _quantity(low, "%"), "high": _quantity(high, "%")}
        found["_probabilityDecimal"] = {"extension": [{"url": INTERVAL, "valueRange": value}]}
        found["rationale"] = f"95 % interval {low:g} % to {high:g} %"
    return found


def _decimal(value: float) -> float:
    return round(value, 4)


def _quantity(value: float, unit: str) -> Json:
    return {"value": value, **({"unit": unit, "system": UCUM, "code": unit} if unit else {})}


def _care_plan(plan: PatientPlan) -> Json:
    reasons = "; ".join(reason_in_words(reason) for reason in plan.reasons)
    checked = "" if plan.is_checked or not plan.options else f" {NOT_CHECKED}"
    advice = f"Proposed for discussion: {plan.recommended}" if plan.recommended else "No option is recommended"
    risks = [_to(plan, "RiskAssessment", "prediction")]
    risks += [_to(plan, "RiskAssessment", "options") for _ in _option_risks(plan)]
    activities = [_activity(option) for option in plan.options]
    activities += [_lifestyle(plan, option) for option in _offered(plan)]
    return _resource(
        plan,
        "CarePlan",
        {
            "status": "draft",
            "intent": "proposal",
            "title": f"Treatment plan from study {plan.study}",
            "description": f"{advice}: {reasons}.{checked}",
            "subject": _patient(plan),
            "period": _horizon(plan),
            "created": _instant(plan.made_at),
            "author": _to(plan, "Device"),
            "supportingInfo": risks,
            **_some("goal", [_to(plan, "Goal", option.factor) for option in _offered(plan)]),
            **_some("activity", activities),
        },
    )


def _some(name: str, values: list[Json]) -> Mapping[str, list[Json]]:
    """The element, left out where it would be empty (FHIR has no empty lists)."""
    return {name: values} if values else {}


def _activity(option: PatientOption) -> Json:
    status, forbidden = ACTIVITY[option.status]
    reasons = "; ".join(reason_in_words(reason) for reason in option.reasons)
    detail: Json = {
        "extension": [{"url": "urn:careloop:fhir:status", "valueCode": option.status.replace("_", "-")}],
        "code": {"text": option.name},
        "status": status,
        "doNotPerform": forbidden,
        **({"statusReason": {"text": reasons}} if reasons else {}),
        "description": f"{option.name}: {option.status.replace('_', ' ')}",
    }
    if option.rank is not None:
        detail["extension"].append({"url": RANK, "valuePositiveInt": option.rank})
    return {"detail": detail}


def _lifestyle(plan: PatientPlan, option: LifestyleOption) -> Json:
    """A lifestyle option with the risk that the model gives, and what that does not say."""
    before, after = option.risk.value, option.changed.value if option.changed else None
    figures = (
        f" Risk {before:.1%} now, {after:.1%} with the target." if before is not None and after is not None else ""
    )
    meaning = CAVEAT if option.basis == "model" else f"By the effect estimate of {option.source}."
    return {
        "detail": {
            "code": {"text": option.action["en"]},
            "goal": [_to(plan, "Goal", option.factor)],
            "status": "not-started",
            "doNotPerform": False,
            "description": f"{option.action['en'].capitalize()}.{figures} {meaning}",
        }
    }


def _offered(plan: PatientPlan) -> list[LifestyleOption]:
    return [option for option in plan.lifestyle if option.is_offered]


def _goal(plan: PatientPlan, option: LifestyleOption) -> Json:
    """The target value as a Goal; its measure is coded where the code is LOINC."""
    vocabulary, _, code = option.code.rpartition("//")
    coding = [{"system": "http://loinc.org", "code": code}] if vocabulary == "LOINC" else []
    target = {"measure": {**_some("coding", coding), "text": option.words["en"]}}
    return _resource(
        plan,
        "Goal",
        {
            "lifecycleStatus": "proposed",
            "description": {"text": option.action["en"]},
            "subject": _patient(plan),
            "target": [target | {"detailQuantity": _quantity(option.target, option.unit)}],
            "note": [{"text": f"Target: {option.source}"}],
        },
        name=option.factor,
    )


def _detected_issue(plan: PatientPlan, finding: Finding, number: int) -> Json:
    code, display = ISSUES.get(finding.kind, ("", ""))
    coding = [{"system": ACT_CODE, "code": code, "display": display}] if code else []
    facts = [{"text": fact} for fact in finding.facts]
    evidence = {"code": [{"text": f"rule {finding.rule}, version {finding.rules_version}: {finding.citation}"}, *facts]}
    return _resource(
        plan,
        "DetectedIssue",
        {
            "status": "preliminary",
            "code": {**_some("coding", coding), "text": finding.kind},
            "severity": SEVERITY[finding.severity],
            "patient": _patient(plan),
            "identifiedDateTime": _instant(plan.made_at),
            "author": _to(plan, "Device"),
            "implicated": [{**_to(plan, "CarePlan"), "display": f"{finding.option}: {finding.drug}"}],
            "evidence": [evidence],
            "detail": f"{finding.text} ({finding.severity})",
            **({"reference": finding.citation} if re.fullmatch(r"https?://\S+", finding.citation) else {}),
            **_some("mitigation", [{"action": {"text": finding.remedy}}] if finding.remedy else []),
        },
        name=f"{number}:{finding.option}:{finding.rule}",
    )


def _provenance(plan: PatientPlan, resources: list[Json]) -> Json:
    """Who made the resources, when, and from which version of the record."""
    kinds = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
    author = {"coding": [{"system": kinds, "code": "assembler", "display": "Assembler"}]}
    source = {"identifier": {"system": "urn:careloop:record-version", "value": str(plan.prediction.data_version)}}
    return _resource(
        plan,
        "Provenance",
        {
            "target": [{"reference": f"urn:uuid:{resource['id']}"} for resource in resources],
            "recorded": _instant(plan.made_at),
            "activity": {"text": f"prediction and plan by {plan.software}; {NOT_CLINICAL}"},
            "agent": [{"type": author, "who": _to(plan, "Device")}],
            "entity": [{"role": "source", "what": source}],
        },
    )


def reason_in_words(reason: Reason) -> str:
    """A reason as a phrase, with what was found where it says more."""
    words = REASONS[reason.kind].format(", ".join(reason.names) or "others")
    return f"{words} ({reason.text})" if reason.text else words
