"""Plans of one patient for the tests of what shows and exports them: usual, abstaining, crowded and hostile."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from careloop.evaluate import Estimate
from careloop.plan.document.lifestyle import LifestyleOption
from careloop.plan.document.patient_plan import PatientOption, PatientPlan, PatientPrediction, PlanGoal, Reason
from careloop.plan.safety import Finding

AS_OF = datetime(2024, 3, 1, 8, 30, tzinfo=UTC)
HOSTILE = "</td><script>alert('$x$')</script>&{0}"


def prediction(**changes: Any) -> PatientPrediction:
    usual = PatientPrediction(
        id="careloop:prediction:lightgbm:3f9a1c20b7de:42:2024-03-01T08:30:00.000000Z",
        subject_id=42,
        patient_key="42",
        as_of=AS_OF,
        model="lightgbm",
        model_version="3f9a1c20b7de",
        data_version=17,
        target="CD4 count halved, AIDS or death",
        horizon_days=730.0,
        risk=Estimate(0.241, 0.187, 0.309),
    )
    return replace(usual, **changes)


def option(name: str, status: Any, rank: int | None, risk: float | None, *reasons: Reason, effect: float | None = None):
    expected = None if risk is None else Estimate(risk, max(0.0, risk - 0.055), min(1.0, risk + 0.06))
    found = None if effect is None else Estimate(effect, effect - 0.03, effect + 0.03)
    return PatientOption(name, status, rank, expected, found, reasons)


def finding(severity: Any = "caution", option: str = "didanosine", number: int = 1, **changes: Any) -> Finding:
    usual = Finding(
        option=option,
        drug="didanosine",
        kind="condition",
        severity=severity,
        rule=f"condition-{number}",
        text="Didanosine can cause pancreatitis, and this patient has had pancreatitis.",
        remedy="Choose another option, or measure amylase and lipase every month.",
        facts=("acute pancreatitis recorded 2022-06-11",),
        citation="US FDA label of didanosine, section 5.1",
        rules_version="2026.1",
    )
    return replace(usual, **changes)


def lifestyle(factor: str = "weight", status: Any = "lower", **changes: Any) -> LifestyleOption:
    usual = LifestyleOption(
        factor=factor,
        words={"en": "body mass index", "zh": "体重指数（BMI）"},
        action={"en": "reach a healthy weight", "zh": "控制体重至健康范围"},
        status=status,
        code="LOINC//39156-5",
        unit="kg/m2",
        before=31.4,
        target=24.9,
        risk=Estimate(0.241, 0.187, 0.309),
        changed=Estimate(0.212, 0.16, 0.27),
        basis="model",
        source="Centers for Disease Control and Prevention. Adult BMI Categories.",
    )
    return replace(usual, **changes)


SMOKING = {
    "words": {"en": "smoking", "zh": "吸烟"},
    "action": {"en": "stop smoking", "zh": "戒烟"},
    "code": "NAFLD//smoker",
    "unit": "",
    "before": 1.0,
    "target": 0.0,
    "changed": Estimate(0.19, 0.15, 0.25),
    "source": "US Department of Health and Human Services. Smoking Cessation: A Report of the Surgeon General. 2020.",
}
PRESSURE = {
    "words": {"en": "systolic blood pressure", "zh": "收缩压"},
    "action": {"en": "bring blood pressure under control", "zh": "控制血压"},
    "code": "LOINC//8480-6",
    "unit": "mm[Hg]",
    "before": 162.0,
    "target": 139.0,
    "changed": Estimate(0.225, 0.17, 0.29),
    "source": "World Health Organization. Guideline for the pharmacological treatment of hypertension in adults. 2021.",
}


def usual() -> PatientPlan:
    """Four options, one advised, one with a caution; two lifestyle options."""
    best = "zidovudine+didanosine"
    return PatientPlan(
        study="actg175",
        made_at=datetime(2024, 3, 1, 9, 0, tzinfo=UTC),
        prediction=prediction(),
        goal=PlanGoal("outcome", "event", "lower"),
        reference="zidovudine",
        options=(
            option(best, "recommended", 1, 0.152, Reason("best_single", (best,)), effect=-0.092),
            option("zidovudine+zalcitabine", "offered", 3, 0.168, Reason("tied", (best,)), effect=-0.081),
            option("zidovudine", "offered", 4, 0.241, Reason("worse", (best,))),
            option(
                "didanosine",
                "demoted",
                2,
                0.16,
                Reason("caution", ("didanosine",)),
                Reason("tied", (best,)),
                effect=-0.08,
            ),
        ),
        is_checked=True,
        findings=(finding(), finding("info", best, 2, facts=())),
        lifestyle=(
            lifestyle("smoking", **SMOKING),
            lifestyle("systolic_blood_pressure", **PRESSURE),
            lifestyle("alcohol", "unknown", words={"en": "alcohol", "zh": "饮酒"}, changed=None, before=None),
        ),
        recommended=best,
        reasons=(Reason("best_single", (best,)),),
    )


def abstaining() -> PatientPlan:
    """The model has not seen such a patient, the best option is withheld, and a fact must be asked for."""
    plan = usual()
    best = plan.options[0].name
    missing = finding(
        "ask",
        "zidovudine+zalcitabine",
        2,
        drug="zalcitabine",
        kind="laboratory",
        text="Zalcitabine's dose depends on renal function, and no creatinine of the last 180 days is known.",
        remedy="Measure creatinine.",
        facts=(),
    )
    blocked = finding(
        "block", best, 1, kind="allergy", text="The patient is allergic to didanosine.", remedy="Do not give it."
    )
    reason = "CD4 cell count, last value is 4 /uL; training patients had 23 to 1,119"
    return replace(
        plan,
        prediction=prediction(abstain_reason=reason),
        options=(
            replace(plan.options[2], status="offered"),
            replace(plan.options[1], status="ask", reasons=(Reason("missing_fact", ("zalcitabine",)),)),
            replace(plan.options[0], status="withheld", reasons=(Reason("blocked", ("didanosine",)),)),
        ),
        findings=(blocked, missing),
        recommended=None,
        reasons=(Reason("outside_population", (), reason), Reason("advice_withheld", (best,))),
    )


def crowded() -> PatientPlan:
    """Six options and ten findings: more than a page."""
    plan = usual()
    extra = tuple(
        option(f"option {letter}", "offered", 5, 0.2, Reason("lower_ranked"), effect=-0.02) for letter in "EF"
    )
    severities = ("block", "ask", "ask", "caution", "caution", "caution", "caution", "info", "info", "info")
    found = tuple(finding(severity, "didanosine", number) for number, severity in enumerate(severities))
    return replace(plan, options=(*plan.options, *extra), findings=found)


def hostile() -> PatientPlan:
    """Every text from the data tries to break out of where it stands."""
    plan = usual()
    names = {o.name: f"{o.name}{HOSTILE}" for o in plan.options}
    options = tuple(
        replace(o, name=names[o.name], reasons=tuple(replace(r, names=(HOSTILE,), text=HOSTILE) for r in o.reasons))
        for o in plan.options
    )
    texts = dict.fromkeys(("drug", "kind", "rule", "text", "remedy", "citation", "rules_version"), HOSTILE)
    found = tuple(replace(f, **texts, option=names[f.option], facts=(HOSTILE,)) for f in plan.findings)
    words = {"en": HOSTILE, "zh": HOSTILE}
    return replace(
        plan,
        study=HOSTILE,
        reference=names["zidovudine"],
        prediction=prediction(target=HOSTILE, model=HOSTILE, model_version=HOSTILE),
        options=options,
        findings=found,
        lifestyle=tuple(replace(o, words=words, action=words, unit=HOSTILE, source=HOSTILE) for o in plan.lifestyle),
        recommended=names[plan.recommended or ""],
        reasons=(Reason("best_single", (HOSTILE,), HOSTILE),),
        software=HOSTILE,
    )
